//! Where this process stands: in whose user namespace, and with which rights there. What a launch may do follows from this one
//! value, and not from what its configuration lists. Source: user_namespaces(7), capabilities(7).

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::libc;

use crate::sys;

/// Where the runtime stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// On the machine, with rights over it.
    Machine,
    /// In a user namespace that somebody has made, with rights over its mount namespace: the root of a rootless engine, or of a
    /// container.
    Inside(Bounds),
    /// Without any right to mount: a user. Rights come only with a user namespace of the container's own.
    User(Bounds),
}

/// What somebody who is not root of the machine finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `CLONE_NEW*` of the namespaces that this process is in and has no rights over.
    pub foreign: u64,
    /// What this process has for an OOM score: a lower one takes CAP_SYS_RESOURCE on the machine.
    pub oom_score: i32,
}

/// The namespaces that a filesystem may be of, and that of the mounts.
const ASKED: [(i32, &str); 4] = [
    (libc::CLONE_NEWNS, "/proc/self/ns/mnt"),
    (libc::CLONE_NEWNET, "/proc/self/ns/net"),
    (libc::CLONE_NEWIPC, "/proc/self/ns/ipc"),
    (libc::CLONE_NEWPID, "/proc/self/ns/pid"),
];

const CAP_SYS_ADMIN: u64 = 1 << 21;

impl Standing {
    /// Looks at the own user namespace; at more only where it is not the machine's root that stands here. `capabilities` are
    /// those that it has.
    pub(super) fn probe(capabilities: u64) -> Self {
        let (made, admin) = (in_user_namespace(), capabilities & CAP_SYS_ADMIN != 0);
        if admin && !made {
            return Standing::Machine;
        }
        let is_foreign = |path: &str| !admin || sys::owner_of_namespace(Path::new(path)).is_err();
        let foreign = ASKED.iter().filter(|(_, path)| is_foreign(path)).fold(0, |all, (kind, _)| all | *kind as u64);
        let score = fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
        let bounds = Bounds { foreign, oom_score: score.unwrap_or(0) };
        match foreign & libc::CLONE_NEWNS as u64 {
            0 => Standing::Inside(bounds),
            _ => Standing::User(bounds),
        }
    }

    /// Whether it may mount, and open what is to be mounted, before it enters any namespace.
    pub(crate) fn may_mount(&self) -> bool {
        !matches!(self, Standing::User(_))
    }

    /// Whether devices are its to make, and to allow: they are those of the machine.
    pub(crate) fn has_devices(&self) -> bool {
        matches!(self, Standing::Machine)
    }

    /// Whether what the runtime finds mounted may have flags that are locked.
    pub(crate) fn has_locks(&self) -> bool {
        !matches!(self, Standing::Machine)
    }

    /// `CLONE_NEW*` of the namespaces that it is in and has no rights over.
    pub(crate) fn foreign(&self) -> u64 {
        self.bounds().map_or(0, |bounds| bounds.foreign)
    }

    /// The lowest OOM score that it may give, if there is one.
    pub(crate) fn lowest_oom_score(&self) -> Option<i32> {
        self.bounds().map(|bounds| bounds.oom_score)
    }

    fn bounds(&self) -> Option<&Bounds> {
        match self {
            Standing::Machine => None,
            Standing::Inside(bounds) | Standing::User(bounds) => Some(bounds),
        }
    }
}

/// Whether this process is in another user namespace than the first, which has a number of its own (`PROC_USER_INIT_INO` in include/linux/proc_ns.h).
pub(crate) fn in_user_namespace() -> bool {
    const FIRST: u32 = 0xefff_fffd;
    // A kernel without user namespaces has no such file. Its text is its number: a stat would have the kernel open it (7 µs and 16).
    fs::read_link("/proc/self/ns/user").is_ok_and(|own| own.as_os_str() != format!("user:[{FIRST}]").as_str())
}

/// Whether who has all rights in the user namespace at `user` has them over the namespace at `path`: it, or one below it, has
/// made that. Nobody here sees an owner that is neither the own user namespace nor one below it.
pub fn has_rights_over(user: &Path, path: &Path) -> bool {
    let number = |file: &File| file.metadata().map(|meta| meta.ino()).ok();
    let Some(wanted) = File::open(user).ok().as_ref().and_then(number) else { return false };
    let mut next = sys::owner_of_namespace(path).ok();
    while let Some(owner) = next {
        let owner = File::from(owner);
        if number(&owner) == Some(wanted) {
            return true;
        }
        next = sys::parent_of_namespace(&owner).ok();
    }
    false
}

/// How many user namespaces there may be; 0 is none.
pub const MOST_USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";

/// What forbids user namespaces to who has not CAP_SYS_ADMIN.
pub fn denied_user_namespaces() -> Option<String> {
    const SYSCTLS: [(&str, &str); 2] = [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ];
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let (path, value) = SYSCTLS.into_iter().find(|(path, value)| is(path, value))?;
    Some(format!("{path} is {value}: for callers without CAP_SYS_ADMIN it does not"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_cap_sys_admin_nothing_is_mounted_and_no_namespace_is_ones_own() {
        let standing = Standing::probe(!CAP_SYS_ADMIN);
        assert!(matches!(standing, Standing::User(_)));
        assert!(!standing.may_mount() && !standing.has_devices());
        let all = ASKED.iter().fold(0, |all, (kind, _)| all | *kind as u64);
        assert_eq!(standing.foreign(), all);
    }

    #[test]
    fn a_user_namespace_has_rights_over_what_was_made_in_it() {
        assert!(has_rights_over(Path::new("/proc/self/ns/user"), Path::new("/proc/self/ns/uts")));
        assert!(!has_rights_over(Path::new("/proc/self/ns/user"), Path::new("/nowhere")));
    }
}
