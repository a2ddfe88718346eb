//! What the runtime saw of the bundle and the host's files before it planned. A plan is right without most of it; what it
//! decides is whether a missing mount destination becomes a file or a directory.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Process, Spec};

use crate::host::lsm::Lsm;
use crate::options::RootEntry;
use crate::sys::{Resolve, openat2, rlimit};

/// What a path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// It is not there, or nobody looked.
    #[default]
    Unknown,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

impl Kind {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Kind::Directory,
            Ok(_) => Kind::File,
            Err(_) => Kind::Unknown,
        }
    }
}

/// What the runtime saw.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// What each mount's source is, where it is bound.
    pub sources: Vec<Kind>,
    /// How many of the leading components of each mount's destination are directories of the root filesystem already.
    pub destinations: Vec<usize>,
    /// The same of process.cwd.
    pub cwd: usize,
    /// What each of linux.maskedPaths is on the host, for those below /proc and /sys: a guess at what it is in the
    /// container, that saves a call where it is right.
    pub masked: Vec<Kind>,
    /// Where the host has procfs and sysfs, innermost first; looked for only where the root is entered without a pivot.
    pub kernel_filesystems: Vec<PathBuf>,
    /// The home directory of process.user by the container's /etc/passwd.
    pub home: Option<String>,
    /// The runtime's own limits, soft and hard, for each of process.rlimits; asked for only where the container has a user
    /// namespace.
    pub rlimits: Vec<(u64, u64)>,
    /// The security modules that the configuration has labels for.
    pub lsm: Lsm,
}

/// Whether `mount` is a bind mount.
pub fn is_bind(mount: &Mount) -> bool {
    let bound = |option: &String| option == "bind" || option == "rbind";
    mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(bound)
}

impl Survey {
    /// Looks at the files that `spec` names; `bundle` is what relative sources are relative to.
    pub fn of(spec: &Spec, bundle: &Path, rootfs: &Path, entry: RootEntry) -> Self {
        let source = |mount: &Mount| match mount.source() {
            Some(source) if is_bind(mount) => Kind::of(&bundle.join(source)),
            _ => Kind::Unknown,
        };
        let masked = spec.linux().iter().filter_map(|linux| linux.masked_paths().as_ref()).flatten();
        let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let there = |(i, mount): (usize, &Mount)| {
            // What lies below an earlier mount is not the root filesystem's.
            let inside = |earlier: &Mount| mount.destination().starts_with(earlier.destination());
            let root = root.as_ref().filter(|_| !mounts[..i].iter().any(inside));
            root.map_or(0, |root| leading_directories(root.as_fd(), mount.destination()))
        };
        let cwd = spec.process().as_ref().map(|process| process.cwd().as_path());
        Survey {
            cwd: root.as_ref().zip(cwd).map_or(0, |(root, cwd)| leading_directories(root.as_fd(), cwd)),
            destinations: mounts.iter().enumerate().map(there).collect(),
            sources: mounts.iter().map(source).collect(),
            masked: masked
                .map(Path::new)
                .map(|path| if hosts(path) { Kind::of(path) } else { Kind::Unknown })
                .collect(),
            kernel_filesystems: match entry {
                RootEntry::Pivot => Vec::new(),
                RootEntry::NoPivot => kernel_filesystems(),
            },
            home: home(spec, bundle, rootfs),
            rlimits: rlimits(spec),
            lsm: Lsm::of(spec),
        }
    }
}

impl Survey {
    /// What an exec of `process` beside the container's init `pid` wants to know. `namespaces` are the container's own, by
    /// `CLONE_NEW*` flags.
    pub(crate) fn of_exec(process: &Process, pid: i32, namespaces: u64) -> Self {
        let named = process.env().iter().flatten().any(|entry| entry.starts_with("HOME="));
        let root = || PathBuf::from(format!("/proc/{pid}/root"));
        let label = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
        let labels = label(process.apparmor_profile()) || label(process.selinux_label());
        Survey {
            home: if named { None } else { home_of(process.user().uid(), &root()) },
            rlimits: match namespaces & libc::CLONE_NEWUSER as u64 {
                0 => Vec::new(),
                _ => rlimits_of(process),
            },
            lsm: if labels { Lsm::probe() } else { Lsm::default() },
            ..Survey::default()
        }
    }
}

fn rlimits(spec: &Spec) -> Vec<(u64, u64)> {
    let mut namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    if !namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        return Vec::new();
    }
    spec.process().as_ref().map(rlimits_of).unwrap_or_default()
}

fn rlimits_of(process: &Process) -> Vec<(u64, u64)> {
    let limits = process.rlimits().iter().flatten();
    limits.map(|limit| rlimit(0, limit.typ() as u32).unwrap_or((0, 0))).collect()
}

fn kernel_filesystems() -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    let of = |line: &str| {
        let (mount, rest) = line.split_once(" - ")?;
        let point = mount.split(' ').nth(4)?;
        ["proc ", "sysfs "].iter().any(|kind| rest.starts_with(kind)).then(|| PathBuf::from(point))
    };
    let mut paths: Vec<PathBuf> = text.lines().filter_map(of).collect();
    paths.reverse();
    paths
}

/// How many leading components of `path` are directories below `root`.
fn leading_directories(root: BorrowedFd<'_>, path: &Path) -> usize {
    let names: Vec<_> = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let is_there = |count: &usize| {
        let path: PathBuf = names[..*count].iter().collect();
        CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| openat2(root, &path, flags, Resolve::InRoot).is_ok())
    };
    (1..=names.len()).rev().find(is_there).unwrap_or(0)
}

/// /proc and /sys are the kernel's: what is there for the host is there for the container.
fn hosts(path: &Path) -> bool {
    path.starts_with("/proc") || path.starts_with("/sys")
}

/// A passwd longer than this is not read: its size is the image's choice.
const MAX_PASSWD: u64 = 1 << 20;

/// The home directory of process.user, if process.env names none: from the container's /etc/passwd, which may be anything.
/// It is that of the root filesystem, or what is bound over it.
fn home(spec: &Spec, bundle: &Path, rootfs: &Path) -> Option<String> {
    let process = spec.process().as_ref()?;
    let named = |entry: &String| entry.starts_with("HOME=");
    if process.env().iter().flatten().any(named) {
        return None;
    }
    let covers = |mount: &&Mount| is_bind(mount) && mount.destination() == Path::new("/etc/passwd");
    let uid = process.user().uid();
    match spec.mounts().iter().flatten().rfind(covers).and_then(|mount| mount.source().as_ref()) {
        Some(source) => {
            let source = bundle.join(source);
            home_in(uid, source.parent()?, source.file_name()?.as_bytes(), Resolve::Anywhere)
        }
        None => home_of(uid, rootfs),
    }
}

/// The home directory of `uid` by `ROOT/etc/passwd`, resolved below `root`.
pub(crate) fn home_of(uid: u32, root: &Path) -> Option<String> {
    home_in(uid, root, b"etc/passwd", Resolve::InRoot)
}

fn home_in(uid: u32, directory: &Path, name: &[u8], resolve: Resolve) -> Option<String> {
    let directory = open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let name = CString::new(name).ok()?;
    // Neither a FIFO nor a terminal may hold the runtime up.
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let probe = openat2(directory.as_fd(), &name, libc::O_PATH, resolve).ok()?;
    let proven = fs::File::from(probe).metadata().ok()?;
    if !proven.is_file() || proven.len() > MAX_PASSWD {
        return None;
    }
    let file = openat2(directory.as_fd(), &name, flags, resolve).ok()?;
    let file = fs::File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_PASSWD), &mut text).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2)?.parse() == Ok(uid)).then(|| fields.nth(2).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_found_by_the_number_of_the_user_and_never_by_a_name() {
        let dir = std::env::temp_dir().join(format!("runb-passwd-{}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).expect("a directory");
        fs::write(dir.join("etc/passwd"), "1000:x:0:0::/wrong:/bin/sh\nme:x:1000:5::/home/me:/bin/sh\n")
            .expect("a file");
        assert_eq!(home_of(1000, &dir).as_deref(), Some("/home/me"));
        assert_eq!(home_of(7, &dir), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
