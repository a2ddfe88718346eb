//! What a test must not leave: processes, cgroups, systemd's units, mounts, state, descriptors of the test, files in a rootfs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, wait as wait_any};

use crate::host::Test;
use crate::modes::TAG;
use crate::site::Site;
use crate::{systemd, wait};

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
        let mut left = processes_but(test.site(), 0);
        left.extend(units(test.site(), test.tag()).into_iter().map(|unit| format!("unit {unit}")));
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

/// The processes of this pid namespace, of a site without one those that descend from this process, besides the test itself and
/// `known`; those that are ending are waited for. Reaps what has ended.
pub fn processes_but(site: Site, known: i32) -> Vec<String> {
    let deadline = Instant::now() + wait::slowly(DYING);
    // Anew after each end: one that ended may have made another one, and the first process of a pid namespace ends when all
    // others in it were reaped, some of them by this test.
    loop {
        let alive = alive_but(site, known);
        while let Ok(Some(_)) = wait_any(WaitOptions::NOHANG) {}
        if alive.is_empty() || !wait::any_readable(alive.iter().map(|(pidfd, _)| pidfd.as_fd()), deadline) {
            return alive.into_iter().map(|(_, name)| name).collect();
        }
    }
}

/// A pidfd and the command line of each process that has not ended.
fn alive_but(site: Site, known: i32) -> Vec<(OwnedFd, String)> {
    let mut alive = Vec::new();
    let own = std::process::id() as i32;
    for pid in all_processes() {
        if pid == own || pid == known || site == Site::Systemd && !descends_from(pid, own) {
            continue;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        if let Ok(pidfd) = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty())
            && !wait::readable(pidfd.as_fd(), Instant::now())
        {
            alive.push((pidfd, format!("process {pid}: {name}")));
        }
    }
    alive
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn descends_from(pid: i32, ancestor: i32) -> bool {
    let parent = |pid: i32| -> Option<i32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    std::iter::successors(parent(pid), |&pid| parent(pid)).any(|pid| pid == ancestor)
}

/// The units of systemd with `tag` in their names.
fn units(site: Site, tag: &str) -> Vec<String> {
    match site {
        Site::Systemd => systemd::units(&format!("*{tag}*")),
        Site::Private(_) | Site::Inside(_) | Site::User(_) => Vec::new(),
    }
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
pub(crate) fn on_the_host(site: Site, tag: &str) -> Vec<String> {
    let mut left = Vec::new();
    if site == Site::Systemd {
        let variable = format!("{TAG}={tag}");
        for pid in all_processes() {
            let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split('\0').any(|one| one == variable) {
                left.push(format!("process {pid}"));
                let _ = kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL);
            }
        }
        for unit in units(site, tag) {
            left.push(format!("unit {unit}"));
            systemd::end(&unit);
        }
    }
    for path in cgroups(tag) {
        left.push(format!("cgroup {}", path.display()));
        let _ = fs::remove_dir(&path);
    }
    left.extend(mounts().into_iter().filter(|line| line.contains(tag)).map(|line| format!("mount {line}")));
    left
}
