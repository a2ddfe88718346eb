//! Where a test runs: how the cgroups are laid out there, and what of the machine is in sight.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, statfs};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount};

use crate::runtime::Kind;

const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// How the controllers are laid out below `/sys/fs/cgroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One hierarchy per controller.
    V1,
    /// As [`Mode::V1`], with a cgroup2 hierarchy at `/sys/fs/cgroup/unified` beside them.
    Hybrid,
    /// The unified hierarchy alone.
    V2,
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// Pid and mount namespaces of its own, with the cgroups laid out as told. The runtime makes the cgroups itself.
    Private(Mode),
    /// The machine as systemd has laid it out, whose processes and services are in sight: systemd takes no process of another
    /// pid namespace. The runtime has systemd make the cgroups.
    Systemd,
    /// As [`Site::Private`], in a user namespace that the machine's root has made (a container, or a rootless engine): the test is
    /// its root, and has no right to cgroups.
    Inside(Mode),
    /// As [`Site::Private`], where the runtime is called by a user whom the test makes: see [`crate::user`].
    User(Mode),
}

const SITES: [Site; 10] = [
    Site::Private(Mode::V1),
    Site::Private(Mode::Hybrid),
    Site::Private(Mode::V2),
    Site::Systemd,
    Site::Inside(Mode::V1),
    Site::Inside(Mode::Hybrid),
    Site::Inside(Mode::V2),
    Site::User(Mode::V1),
    Site::User(Mode::Hybrid),
    Site::User(Mode::V2),
];

impl Mode {
    /// The one of the machine as it is.
    fn of_the_machine() -> Mode {
        const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
        if statfs(CGROUP_ROOT).expect("statfs of the cgroup root").f_type == CGROUP2_SUPER_MAGIC {
            Mode::V2
        } else if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
            Mode::Hybrid
        } else {
            Mode::V1
        }
    }

    /// Why this machine cannot offer the mode to the runtime of this `kind`, if so.
    fn unavailable(self, kind: Kind) -> Option<String> {
        match (self, Mode::of_the_machine()) {
            (Mode::V1 | Mode::Hybrid, Mode::V2) => Some("the machine has cgroup v2 alone".into()),
            (Mode::Hybrid, Mode::V1) => Some("the machine has no unified hierarchy beside those of v1".into()),
            (Mode::Hybrid, _) if kind == Kind::Crun => Some("crun refuses the hybrid mode".into()),
            (Mode::V2, _) if kind == Kind::Crun && !can_raise_limits() => {
                Some("crun raises RLIMIT_MEMLOCK for its device program, and CAP_SYS_RESOURCE is missing".into())
            }
            _ => None,
        }
    }

    /// Lays `/sys/fs/cgroup` out in the private mount namespace of this process.
    fn enter(self) {
        match self {
            Mode::Hybrid => {}
            Mode::V1 => {
                // A tmpfs of its own: a runtime that takes `unified` for a hierarchy makes its directories there.
                let mut hierarchies = Vec::new();
                for entry in fs::read_dir(CGROUP_ROOT).expect("the cgroup root").filter_map(Result::ok) {
                    if entry.file_name() == "unified" || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        continue;
                    }
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    let tree = open_tree(CWD, entry.path(), flags).expect("open_tree of a hierarchy");
                    hierarchies.push((tree, entry.path()));
                }
                unmount(CGROUP_ROOT, UnmountFlags::DETACH).expect("umount the cgroup root");
                mount("tmpfs", CGROUP_ROOT, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
                for (tree, path) in hierarchies {
                    fs::create_dir(&path).expect("make a mount point");
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                    move_mount(tree, "", CWD, &path, flags).expect("move_mount of a hierarchy");
                }
            }
            Mode::V2 => {
                unmount(CGROUP_ROOT, UnmountFlags::DETACH).expect("umount the cgroup root");
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                mount("none", CGROUP_ROOT, "cgroup2", flags, None).expect("mount cgroup2");
            }
        }
    }
}

impl Site {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Site::Private(Mode::V1) => "v1",
            Site::Private(Mode::Hybrid) => "hybrid",
            Site::Private(Mode::V2) => "v2",
            Site::Systemd => "systemd",
            Site::Inside(Mode::V1) => "v1-inside",
            Site::Inside(Mode::Hybrid) => "hybrid-inside",
            Site::Inside(Mode::V2) => "v2-inside",
            Site::User(Mode::V1) => "v1-user",
            Site::User(Mode::Hybrid) => "hybrid-user",
            Site::User(Mode::V2) => "v2-user",
        }
    }

    pub(crate) fn from_name(name: &str) -> Site {
        *SITES.iter().find(|site| site.name() == name).expect("a site's name")
    }

    /// Whether tests are wanted here: `RUNB_TESTS_SITES` may name some of the sites, separated by commas.
    pub(crate) fn is_wanted(self) -> bool {
        std::env::var("RUNB_TESTS_SITES").map_or(true, |names| names.split(',').any(|name| name == self.name()))
    }

    /// Why this machine cannot offer the site to the runtime of this `kind`, if so.
    pub(crate) fn unavailable(self, kind: Kind) -> Option<String> {
        match self {
            Site::Private(mode) | Site::Inside(mode) | Site::User(mode) => mode.unavailable(kind),
            // As sd_booted(3) asks.
            Site::Systemd if Path::new("/run/systemd/system").is_dir() => None,
            Site::Systemd => Some("systemd does not run here".into()),
        }
    }

    /// What unshare(1) is told for it.
    pub(crate) fn namespaces(self) -> &'static [&'static str] {
        match self {
            Site::Private(_) | Site::User(_) => {
                &["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
            }
            // The hierarchy of version 2 is mounted by who has rights over the cgroup namespace.
            Site::Inside(_) => {
                &["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--cgroup"]
            }
            Site::Systemd => &["--mount", "--propagation", "private", "--fork", "--kill-child"],
        }
    }

    /// The directories that are the test's own, besides the one that is made for it.
    pub(crate) fn own_directories(self) -> &'static [&'static str] {
        match self {
            Site::Private(_) | Site::Inside(_) | Site::User(_) => &["/run", "/var/log"],
            Site::Systemd => &["/var/log"],
        }
    }

    /// Prepares this process, in namespaces of its own, for a test; how the cgroups are laid out.
    pub(crate) fn enter(self) -> Mode {
        match self {
            Site::Private(mode) | Site::User(mode) => {
                mode.enter();
                mode
            }
            // What others have mounted cannot be taken away in a user namespace, only covered.
            Site::Inside(mode) => {
                if mode == Mode::V2 {
                    // The same filesystem is not mounted twice on one directory.
                    mount("tmpfs", CGROUP_ROOT, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
                    mount("none", CGROUP_ROOT, "cgroup2", MountFlags::empty(), None).expect("mount cgroup2");
                }
                mode
            }
            Site::Systemd => {
                // Orphans become the test's children, as they do where it is the first process.
                let own = rustix::process::getpid();
                rustix::process::set_child_subreaper(Some(own)).expect("become a subreaper");
                Mode::of_the_machine()
            }
        }
    }
}

/// Whether this process may raise its own hard limits.
pub fn can_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(line.trim(), 16).expect("a mask") >> CAP_SYS_RESOURCE & 1 == 1
}
