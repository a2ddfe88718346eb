//! What a test must not leave: processes, cgroups, mounts, state, descriptors of the test, files in a rootfs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait as wait_any};

use crate::host::Test;
use crate::wait;

/// How long a process that was killed may take to be gone.
pub const DYING: Duration = Duration::from_secs(2);

/// What was there when a test began.
pub struct Snapshot {
    mounts: BTreeSet<String>,
    descriptors: BTreeSet<String>,
}

impl Snapshot {
    /// Takes it.
    pub fn take(_: &Test) -> Snapshot {
        Snapshot { mounts: mounts(), descriptors: descriptors() }
    }

    /// What is there now that was not, or the other way round, one line each.
    pub fn leftovers(&self, test: &Test) -> Vec<String> {
        let mut left = processes_but(0);
        left.extend(cgroups(test.tag()).into_iter().map(|path| format!("cgroup {}", path.display())));
        let mounts = mounts();
        left.extend(mounts.symmetric_difference(&self.mounts).map(|line| format!("mount {line}")));
        let descriptors = descriptors();
        left.extend(descriptors.symmetric_difference(&self.descriptors).map(|line| format!("descriptor {line}")));
        left.extend(states(test));
        left.extend(test.trees.borrow().iter().flat_map(Tree::changes));
        left
    }
}

/// The processes of this pid namespace besides its first one, which is the test itself, and `known`; those that are ending
/// are waited for. Reaps what has ended.
pub fn processes_but(known: i32) -> Vec<String> {
    let deadline = Instant::now() + DYING;
    // Anew after each end: one that ended may have made another one, and the first process of a pid namespace ends when all
    // others in it were reaped, some of them by this test.
    loop {
        let alive = alive_but(known);
        while let Ok(Some(_)) = wait_any(WaitOptions::NOHANG) {}
        if alive.is_empty() || !wait::any_readable(alive.iter().map(|(pidfd, _)| pidfd.as_fd()), deadline) {
            return alive.into_iter().map(|(_, name)| name).collect();
        }
    }
}

/// A pidfd and the command line of each process that has not ended.
fn alive_but(known: i32) -> Vec<(OwnedFd, String)> {
    let mut alive = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if pid == std::process::id() as i32 || pid == known {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
        if let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty())
            && !wait::readable(pidfd.as_fd(), Instant::now())
        {
            alive.push((pidfd, format!("process {pid}: {name}")));
        }
    }
    alive
}

/// The cgroups of every hierarchy in sight whose path has `tag` in it, the innermost first.
fn cgroups(tag: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, tag: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&entry.path(), tag, found);
                if entry.path().to_string_lossy().contains(tag) {
                    found.push(entry.path());
                }
            }
        }
    }
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let root = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    let hierarchies: Vec<PathBuf> = match rustix::fs::statfs(root).expect("statfs").f_type {
        TMPFS_MAGIC => fs::read_dir(root).expect("list").filter_map(Result::ok).map(|entry| entry.path()).collect(),
        _ => vec![root.to_owned()],
    };
    for hierarchy in hierarchies {
        // A mere directory there is no hierarchy.
        if rustix::fs::statfs(&hierarchy).is_ok_and(|data| data.f_type != TMPFS_MAGIC) {
            walk(&hierarchy, tag, &mut found);
        }
    }
    found
}

/// The mounts of this namespace, without their ids.
fn mounts() -> BTreeSet<String> {
    let lines = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    lines.lines().map(|line| line.splitn(3, ' ').last().expect("fields").to_owned()).collect()
}

fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").filter_map(Result::ok);
    let links = entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?.display().to_string();
        // The directory's own descriptor is gone by now.
        (!target.ends_with("/fd")).then(|| format!("{} -> {target}", entry.file_name().display()))
    });
    links.collect()
}

/// State that is left in `--root` and in /run.
fn states(test: &Test) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir(test.root()).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            left.push(format!("state {}", entry.path().display()));
        }
    }
    for entry in fs::read_dir("/run").expect("/run").filter_map(Result::ok) {
        for inner in fs::read_dir(entry.path()).into_iter().flatten().filter_map(Result::ok) {
            if inner.file_name().to_string_lossy().contains(test.tag()) {
                left.push(format!("state {}", inner.path().display()));
            }
        }
    }
    left
}

/// A rootfs as a test made it.
pub(crate) struct Tree {
    root: PathBuf,
    files: BTreeMap<PathBuf, String>,
}

impl Tree {
    pub(crate) fn of(root: &Path) -> Tree {
        let mut files = BTreeMap::new();
        Tree::walk(root, &mut files);
        Tree { root: root.to_owned(), files }
    }

    /// Whether it is the one at `root`.
    pub(crate) fn is_at(&self, root: &Path) -> bool {
        self.root == root
    }

    fn walk(dir: &Path, files: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            let Ok(data) = entry.path().symlink_metadata() else { continue };
            let size = if data.is_dir() { 0 } else { data.size() };
            files.insert(entry.path(), format!("mode {:o}, {}:{}, {size} bytes", data.mode(), data.uid(), data.gid()));
            if data.is_dir() {
                Tree::walk(&entry.path(), files);
            }
        }
    }

    fn changes(&self) -> Vec<String> {
        let now = Tree::of(&self.root).files;
        let paths: BTreeSet<_> = now.keys().chain(self.files.keys()).collect();
        let changed = paths.into_iter().filter(|path| now.get(*path) != self.files.get(*path));
        changed.map(|path| format!("file {path:?}: {:?}, was {:?}", now.get(path), self.files.get(path))).collect()
    }
}

/// What the host's own view still has of the test with this tag once its namespaces are gone; it is taken away.
pub(crate) fn on_the_host(tag: &str) -> Vec<String> {
    let mut left = Vec::new();
    for path in cgroups(tag) {
        left.push(format!("cgroup {}", path.display()));
        let _ = fs::remove_dir(&path);
    }
    left.extend(mounts().into_iter().filter(|line| line.contains(tag)).map(|line| format!("mount {line}")));
    left
}
