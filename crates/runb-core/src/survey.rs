//! What the runtime saw of the bundle and the host's files before it planned. A plan is right without most of it; what it
//! decides is whether a missing mount destination becomes a file or a directory.

mod closed;
mod covers;
mod destination;
mod foreign;
mod inside;
mod resctrl;
mod stdio;

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Process, Spec};

use crate::host::lsm::Lsm;
use crate::ask;
use crate::host::Host;
use crate::host::mounts::MountCalls;
use crate::input;
use crate::options::{Options, RootEntry};
use crate::sys::probe::procfs_of_another;
use crate::sys::{Resolve, mount_flags, openat2, rlimit};

pub(crate) use closed::closed;
pub(crate) use covers::Covers;
use destination::Cover;
pub use destination::Destination;
pub(crate) use destination::{clean, rest};
pub(crate) use inside::{enter_destinations, inside};
pub use resctrl::Resctrl;
pub(crate) use resctrl::{LONGEST as RESCTRL_LONGEST, group as resctrl_group};
pub use stdio::Stdio;

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

/// What is at the path of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Found {
    /// Nobody could look.
    #[default]
    Unknown,
    /// Nothing.
    Absent,
    /// Something.
    Node {
        /// `S_IF*`.
        kind: u32,
        /// The device's number.
        number: u64,
    },
}

/// Who can look into the root filesystem, or at a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// The runtime.
    #[default]
    Runtime,
    /// Only the root of the container's user namespace, perhaps: on NFS with root squashing, and FUSE, the host's is denied.
    Container,
}

impl Reader {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Reader::Container,
            _ => Reader::Runtime,
        }
    }
}

/// The devices that every container has (config-linux.md "Default Devices"): name, major, minor.
pub const DEFAULT_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What the runtime saw.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Who opens the root filesystem.
    pub reader: Reader,
    /// What each mount's source is, where it is bound.
    pub sources: Vec<Kind>,
    /// Who can look at each mount's source, where it is bound.
    pub source_readers: Vec<Reader>,
    /// Where each bind mount's source is in the container, without links, if it lies in the root filesystem.
    pub inside: Vec<Option<PathBuf>>,
    /// For each mount, whether the source of a new filesystem is a block device of the host's.
    pub disks: Vec<bool>,
    /// What the host's mounts are mounted with.
    pub mount_flags: MountFlags,
    /// What is at each mount's destination when its turn comes.
    pub destinations: Vec<Destination>,
    /// The same of process.cwd, when all is mounted.
    pub cwd: Destination,
    /// What each of linux.maskedPaths is, as far as it could be seen; for what is mounted at /proc and /sys, what it is on the
    /// host.
    pub masked: Vec<Kind>,
    /// What the root filesystem has at the paths of devices, where it is looked for.
    pub nodes: Vec<(PathBuf, Found)>,
    /// Whether the kernel has /proc/kcore.
    pub kcore: bool,
    /// Where the host has procfs and sysfs, innermost first; looked for only where the root is entered without a pivot.
    pub kernel_filesystems: Vec<PathBuf>,
    /// The home directory of process.user by the container's /etc/passwd.
    pub home: Option<String>,
    /// How many descriptors a process may have, soft and hard, if that was asked for.
    pub descriptors: Option<(u64, u64)>,
    /// The runtime's own limits, soft and hard, for each of process.rlimits; asked for only where the container has a user
    /// namespace.
    pub rlimits: Vec<(u64, u64)>,
    /// The security modules that the configuration has labels for.
    pub lsm: Lsm,
    /// Whether a procfs can be made for another pid namespace than one's own (Linux 6.17); asked for only where one is joined.
    pub procfs_of_another: bool,
    /// `CLONE_NEW*` of the namespaces of the container, which filesystems are of, over which init will have no rights.
    pub foreign: u64,
    /// Where newuidmap(1) and newgidmap(1) are; looked for only by a user.
    pub map_programs: [Option<PathBuf>; 2],
    /// The resctrl filesystem, if linux.intelRdt wants one and it is mounted.
    pub resctrl: Option<Resctrl>,
    /// The descriptors 0, 1 and 2, which the process takes over.
    pub stdio: Stdio,
}

/// What mounts of the host are mounted with, as the `ST_*` flags of statfs(2); asked for only where the kernel has no
/// mount_setattr(2), and for a user namespace, where they are locked.
#[derive(Clone, Debug, Default)]
pub struct MountFlags {
    /// The one that the root filesystem lies on.
    pub root: u64,
    /// That of each bind mount's source.
    pub sources: Vec<u64>,
}

impl MountFlags {
    fn of(spec: &Spec, bundle: &Path, rootfs: &Path) -> Self {
        let flags = |path: &Path| {
            let path = CString::new(path.as_os_str().as_bytes()).ok();
            path.and_then(|path| mount_flags(&path).ok()).unwrap_or_default()
        };
        let source = |mount: &Mount| match mount.source() {
            Some(source) if is_bind(mount) => flags(&bundle.join(source)),
            _ => 0,
        };
        MountFlags { root: flags(rootfs), sources: spec.mounts().iter().flatten().map(source).collect() }
    }
}

/// Whether `mount` is a bind mount.
pub fn is_bind(mount: &Mount) -> bool {
    let bound = |option: &String| option == "bind" || option == "rbind";
    mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(bound)
}

/// Whether `mount` is a filesystem on a block device of the host's.
fn is_of_a_disk(mount: &Mount) -> bool {
    let source = mount.source().as_ref().filter(|source| source.is_absolute() && !is_bind(mount));
    source.is_some_and(|source| fs::metadata(source).is_ok_and(|meta| meta.file_type().is_block_device()))
}

impl Survey {
    /// What is at the path of a device.
    pub fn found(&self, path: &Path) -> Found {
        self.nodes.iter().find(|(other, _)| other.as_os_str() == path.as_os_str()).map(|(_, found)| *found).unwrap_or_default()
    }

    /// Looks at the files that `spec` names; `bundle` is what relative sources are relative to.
    pub fn of(spec: &Spec, bundle: &Path, rootfs: &Path, options: &Options, host: &Host) -> Self {
        let masked = spec.linux().iter().filter_map(|linux| linux.masked_paths().as_ref()).flatten();
        let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok();
        let mut covers = Covers::default();
        let (mut sources, mut places, mut destinations) = (Vec::new(), Vec::new(), Vec::new());
        let mut source_readers = Vec::new();
        for mount in spec.mounts().iter().flatten() {
            let look = |root: &OwnedFd| {
                destination::look(root.as_fd(), mount.destination(), &covers, destination::Wanted::of(mount))
            };
            let seen = root.as_ref().map(look).unwrap_or_else(|| Destination::unseen(mount.destination()));
            let source = mount.source().as_ref().filter(|_| is_bind(mount)).map(|source| bundle.join(source));
            let place = source.as_ref().and_then(|source| inside(rootfs, source));
            let place = place.map(|place| destination::place(root.as_ref(), &place, &covers));
            sources.push(match (&place, &source) {
                (Some(place), _) => destination::kind(root.as_ref(), place, &covers),
                (None, Some(source)) => Kind::of(source),
                (None, None) => Kind::Unknown,
            });
            source_readers.push(source.as_deref().map(Reader::of).unwrap_or_default());
            let inside = place.as_deref().map(|place| (place, covers.len()));
            Cover::of(mount, bundle, &seen, inside).push_to(&mut covers);
            places.push(place);
            destinations.push(seen);
        }
        let cwd = spec.process().as_ref().map(|process| process.cwd().as_path());
        let look =
            |(root, cwd): (&OwnedFd, &Path)| destination::look(root.as_fd(), cwd, &covers, destination::Wanted::Place);
        let reader = if host.standing.may_mount() { Reader::of(rootfs) } else { Reader::Container };
        Survey {
            reader,
            stdio: spec.process().as_ref().map(Stdio::of).unwrap_or_default(),
            cwd: root.as_ref().zip(cwd).map(look).unwrap_or_default(),
            destinations,
            mount_flags: match host.mounts {
                _ if has_user_namespace(spec) => MountFlags::of(spec, bundle, rootfs),
                MountCalls::Classic => MountFlags::of(spec, bundle, rootfs),
                _ => MountFlags::default(),
            },
            nodes: root.as_ref().map(|root| nodes(spec, root, &covers)).unwrap_or_default(),
            kcore: Path::new("/proc/kcore").exists(),
            sources,
            source_readers,
            inside: places,
            disks: spec.mounts().iter().flatten().map(is_of_a_disk).collect(),
            masked: masked.map(|path| destination::kind(root.as_ref(), Path::new(path), &covers)).collect(),
            kernel_filesystems: match options.root_entry {
                RootEntry::Pivot => Vec::new(),
                RootEntry::NoPivot => kernel_filesystems(),
            },
            home: home(spec, bundle, rootfs),
            descriptors: rlimit(0, libc::RLIMIT_NOFILE).ok(),
            rlimits: rlimits(spec),
            lsm: Lsm::of(spec),
            map_programs: match host.standing.may_mount() {
                true => [None, None],
                false => ["newuidmap", "newgidmap"].map(|name| ask::find(name, &options.search)),
            },
            foreign: foreign::foreign(spec, &host.standing),
            procfs_of_another: joins_pid(spec) && procfs_of_another().is_ok(),
            resctrl: None,
        }
    }
}

fn joins_pid(spec: &Spec) -> bool {
    let mut namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_some())
}

/// What is at the paths of devices.
fn nodes(spec: &Spec, root: &OwnedFd, covers: &Covers<Cover>) -> Vec<(PathBuf, Found)> {
    let own = spec.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten();
    let own = own.map(|device| clean(device.path()));
    let default = DEFAULT_DEVICES.map(|(name, ..)| Path::new("/dev").join(name));
    let found = |path: PathBuf| {
        let found = destination::found(root.as_fd(), &path, covers);
        (path, found)
    };
    own.chain(default).map(found).collect()
}

impl Survey {
    /// As [`Survey::of_exec`], for a hook: its standard descriptors are nobody's to be given away.
    pub(crate) fn of_hook(process: &Process, pid: i32, namespaces: u64) -> Self {
        Survey { stdio: Stdio::default(), ..Self::of_exec(process, pid, namespaces) }
    }

    /// What an exec of `process` beside the container's init `pid` wants to know. `namespaces` are the container's own, by
    /// `CLONE_NEW*` flags.
    pub(crate) fn of_exec(process: &Process, pid: i32, namespaces: u64) -> Self {
        let root = || PathBuf::from(format!("/proc/{pid}/root"));
        let label = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
        let labels = label(process.apparmor_profile()) || label(process.selinux_label());
        Survey {
            home: if home_is_given(process) { None } else { home_of(process.user().uid(), &root()) },
            rlimits: match namespaces & libc::CLONE_NEWUSER as u64 {
                0 => Vec::new(),
                _ => rlimits_of(process),
            },
            lsm: if labels { Lsm::probe() } else { Lsm::default() },
            stdio: Stdio::of(process),
            ..Survey::default()
        }
    }
}

fn has_user_namespace(spec: &Spec) -> bool {
    let mut namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::User)
}

fn rlimits(spec: &Spec) -> Vec<(u64, u64)> {
    if !has_user_namespace(spec) {
        return Vec::new();
    }
    spec.process().as_ref().map(rlimits_of).unwrap_or_default()
}

fn rlimits_of(process: &Process) -> Vec<(u64, u64)> {
    let limits = process.rlimits().iter().flatten();
    limits.map(|limit| rlimit(0, limit.typ() as u32).unwrap_or((0, 0))).collect()
}

fn kernel_filesystems() -> Vec<PathBuf> {
    let Ok(mounts) = procfs::process::Process::myself().and_then(|this| this.mountinfo()) else { return Vec::new() };
    let kernels = mounts.into_iter().filter(|mount| ["proc", "sysfs"].contains(&mount.fs_type.as_str()));
    let mut paths: Vec<PathBuf> = kernels.map(|mount| mount.mount_point).collect();
    paths.reverse();
    paths
}

/// A passwd longer than this is not read: its size is the image's choice.
const MAX_PASSWD: u64 = 1 << 20;

/// How the variable begins.
pub(crate) const HOME: &str = "HOME=";

/// Whether process.env names a home directory. The last of two entries counts, and an empty one is none.
pub(crate) fn home_is_given(process: &Process) -> bool {
    let given = process.env().iter().flatten().rev().find_map(|entry| entry.strip_prefix(HOME));
    given.is_some_and(|home| !home.is_empty())
}

/// The home directory of process.user, if process.env names none: from the container's /etc/passwd, which may be anything.
/// It is that of the root filesystem, or what is bound over it.
fn home(spec: &Spec, bundle: &Path, rootfs: &Path) -> Option<String> {
    let process = spec.process().as_ref()?;
    if home_is_given(process) {
        return None;
    }
    let covers = |mount: &&Mount| is_bind(mount) && mount.destination() == Path::new("/etc/passwd");
    let uid = process.user().uid();
    match spec.mounts().iter().flatten().rfind(covers).and_then(|mount| mount.source().as_ref()) {
        Some(source) => {
            let source = bundle.join(source);
            if let Some(place) = inside(rootfs, &source) {
                let place = place.strip_prefix("/").unwrap_or(&place);
                return home_in(uid, rootfs, place.as_os_str().as_bytes(), Resolve::InRoot);
            }
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
    // Opened by the path alone it does nothing, whatever it is: a device of the image's choice must not be opened for reading.
    let found = openat2(directory.as_fd(), &name, libc::O_PATH, resolve).ok()?;
    if fstat(&found).ok()?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return None;
    }
    // The very file that was looked at.
    let text = input::read(&PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd())), MAX_PASSWD).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
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
        fs::remove_file(dir.join("etc/passwd")).expect("removed");
        nix::unistd::mkfifo(&dir.join("etc/passwd"), Mode::S_IRWXU).expect("a fifo");
        assert_eq!(home_of(1000, &dir), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
