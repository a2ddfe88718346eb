//! The flags of calls, each kind a type of its own: the constants by the kernel's names, and the names for who reads a plan.

use std::ops::BitOr;

use nix::libc;

use super::values::Arg;

/// The constants of a kind with their names.
pub(super) type Names = &'static [(u64, &'static str)];

macro_rules! names {
    ($($name:ident),* $(,)?) => { &[$((libc::$name as u64, stringify!($name))),*] };
}

/// A type of flags, and its constants.
macro_rules! flags {
    ($(#[$doc:meta])* $Flags:ident: $($NAME:ident),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct $Flags(u64);

        $(pub(crate) const $NAME: $Flags = $Flags(libc::$NAME as u64);)+

        impl $Flags {
            #[allow(dead_code, reason = "those of openat2(2) lie in a struct, which nobody shows")]
            pub(super) const NAMES: Names = names!($($NAME),+);
        }

        impl BitOr for $Flags {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                $Flags(self.0 | other.0)
            }
        }

        impl From<$Flags> for u64 {
            fn from(flags: $Flags) -> Self {
                flags.0
            }
        }

        impl From<$Flags> for Arg {
            fn from(flags: $Flags) -> Self {
                Arg::Number(flags.0)
            }
        }
    };
}

flags! {
    /// How a file is opened: open(2).
    OpenFlags:
    O_WRONLY,
    O_RDWR,
    O_NOCTTY,
    O_NONBLOCK,
    O_DIRECTORY,
    O_NOFOLLOW,
    O_CLOEXEC,
    O_PATH,
}

/// To be read.
pub(crate) const O_RDONLY: OpenFlags = OpenFlags(libc::O_RDONLY as u64);

flags! {
    /// How a path is resolved: openat2(2).
    Resolve: RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT,
}

flags! {
    /// Which mounts open_tree(2) and mount_setattr(2) are about.
    TreeFlags: OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, AT_EMPTY_PATH, AT_RECURSIVE,
}

flags! {
    /// Of move_mount(2): F_ is where the mount comes from, T_ is where it goes to.
    MoveFlags: MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS, MOVE_MOUNT_T_EMPTY_PATH,
}

pub(super) const MS: Names = names!(
    MS_RDONLY,
    MS_NOSUID,
    MS_NODEV,
    MS_NOEXEC,
    MS_SYNCHRONOUS,
    MS_REMOUNT,
    MS_MANDLOCK,
    MS_DIRSYNC,
    MS_NOATIME,
    MS_NODIRATIME,
    MS_BIND,
    MS_MOVE,
    MS_REC,
    MS_SILENT,
    MS_UNBINDABLE,
    MS_PRIVATE,
    MS_SLAVE,
    MS_SHARED,
    MS_RELATIME,
    MS_STRICTATIME,
    MS_LAZYTIME,
    MS_I_VERSION,
);
pub(super) const NS: Names = names!(
    CLONE_NEWNS,
    CLONE_NEWCGROUP,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWUSER,
    CLONE_NEWPID,
    CLONE_NEWNET,
    CLONE_NEWTIME
);
pub(super) const CLONE: Names = names!(CLONE_PARENT, CLONE_NEWPID);
pub(super) const MOUNT_ATTR: Names = names!(
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_STRICTATIME,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOSYMFOLLOW,
);
pub(super) const PRCTL: Names = names!(
    PR_SET_DUMPABLE,
    PR_SET_KEEPCAPS,
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_NAME,
    PR_CAP_AMBIENT,
    PR_SET_PDEATHSIG,
    PR_SET_SECUREBITS,
);
pub(super) const UMOUNT: Names = names!(MNT_DETACH, UMOUNT_NOFOLLOW);
pub(super) const RLIMIT: Names = names!(
    RLIMIT_AS,
    RLIMIT_CORE,
    RLIMIT_CPU,
    RLIMIT_DATA,
    RLIMIT_FSIZE,
    RLIMIT_LOCKS,
    RLIMIT_MEMLOCK,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
    RLIMIT_RSS,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME,
    RLIMIT_SIGPENDING,
    RLIMIT_STACK,
);
pub(super) const IOCTL: Names = names!(SIOCSIFFLAGS, TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ, TIOCSCTTY);
pub(super) const AT: Names =
    names!(AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT, AT_STATX_DONT_SYNC, AT_EACCESS);
pub(super) const FUTEX: Names =
    &[((libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG) as u64, "FUTEX_CMP_REQUEUE_PRIVATE")];

/// The commands of fsconfig(2), which libc lacks (include/uapi/linux/mount.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fsconfig {
    SetFlag = 0,
    SetString = 1,
    SetFd = 5,
    CmdCreate = 6,
    CmdReconfigure = 7,
}

impl Fsconfig {
    pub(super) const NAMES: Names = &[
        (Fsconfig::SetFlag as u64, "FSCONFIG_SET_FLAG"),
        (Fsconfig::SetString as u64, "FSCONFIG_SET_STRING"),
        (Fsconfig::SetFd as u64, "FSCONFIG_SET_FD"),
        (Fsconfig::CmdCreate as u64, "FSCONFIG_CMD_CREATE"),
        (Fsconfig::CmdReconfigure as u64, "FSCONFIG_CMD_RECONFIGURE"),
    ];
}
