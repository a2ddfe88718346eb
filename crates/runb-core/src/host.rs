//! What this machine is: probed once and passed by value.

pub mod cgroups;
pub mod lsm;
pub mod mounts;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::libc;
use nix::sys::utsname::uname;
use nix::unistd::{getegid, geteuid};

use crate::error::{Error, Result};
use crate::sys;
use cgroups::CgroupMounts;
use mounts::MountCalls;

/// What a plan depends on beside the configuration.
#[derive(Clone, Debug)]
pub struct Host {
    /// The kernel's version, major and minor.
    pub kernel: (u32, u32),
    /// What it can do to mounts.
    pub mounts: MountCalls,
    /// The cgroup hierarchies.
    pub cgroups: CgroupMounts,
    /// Where the cgroups of the systemd lie that is asked for units, from the top of each hierarchy: `/`, unless it is a user's.
    pub manager_cgroup: PathBuf,
    /// The runtime's user and group.
    pub ids: (u32, u32),
    /// Whether the runtime is in a user namespace that somebody has made; asked for only for a launch.
    pub in_user_namespace: bool,
    /// The capabilities that the runtime may hand on, as bits.
    pub capabilities: u64,
    /// The highest capability that the kernel knows.
    pub last_capability: u8,
    /// Which of SIGHUP and SIGINT the caller has this process ignore; asked for only for a launch.
    pub ignored: Vec<i32>,
}

impl Host {
    /// Asks the kernel.
    ///
    /// # Errors
    /// /proc/sys/kernel/cap_last_cap or what tells of the cgroups cannot be read.
    pub fn probe() -> Result<Self> {
        let ignored = [libc::SIGHUP, libc::SIGINT].into_iter().filter(|signal| sys::is_ignored(*signal)).collect();
        let (cgroups, mounts, in_user_namespace) = (CgroupMounts::probe()?, MountCalls::probe(), in_user_namespace());
        Ok(Host { cgroups, mounts, ignored, in_user_namespace, ..Host::probe_processes()? })
    }

    /// Asks for what a process in a container that exists depends on, so neither for the cgroups nor for mounts.
    ///
    /// # Errors
    /// /proc/sys/kernel/cap_last_cap cannot be read.
    pub fn probe_processes() -> Result<Self> {
        const CAP: &str = "/proc/sys/kernel/cap_last_cap";
        let last = fs::read_to_string(CAP).map_err(|e| Error::io(format!("read {CAP}"), &e))?;
        let last_capability = last.trim().parse().map_err(|e| Error::internal(format!("{CAP}: {last:?}: {e}")))?;
        let names = uname().map_err(|errno| Error::host("uname", errno))?;
        Ok(Host {
            kernel: version(&names.release().to_string_lossy()),
            mounts: MountCalls::Classic,
            cgroups: CgroupMounts::None,
            manager_cgroup: "/".into(),
            ids: (geteuid().as_raw(), getegid().as_raw()),
            in_user_namespace: false,
            capabilities: own_capabilities()?,
            last_capability,
            ignored: Vec::new(),
        })
    }

    /// A machine with Linux 6.12, root and no cgroups, for plans that are only looked at.
    #[cfg(any(test, feature = "internals"))]
    pub fn plain() -> Self {
        Host {
            kernel: (6, 12),
            mounts: MountCalls::NoSymFollow,
            cgroups: CgroupMounts::None,
            manager_cgroup: "/".into(),
            ids: (0, 0),
            in_user_namespace: false,
            capabilities: !0,
            last_capability: 40,
            ignored: Vec::new(),
        }
    }
}

/// Whether this process is in another user namespace than the first, which has a number of its own (`PROC_USER_INIT_INO` in include/linux/proc_ns.h).
pub(crate) fn in_user_namespace() -> bool {
    const FIRST: u64 = 0xefff_fffd;
    // A kernel without user namespaces has no such file.
    fs::metadata("/proc/self/ns/user").is_ok_and(|own| own.ino() != FIRST)
}

fn own_capabilities() -> Result<u64> {
    let set = caps::read(None, caps::CapSet::Permitted).map_err(|e| Error::internal(format!("capget: {e}")))?;
    Ok(set.iter().fold(0, |all, capability| all | 1 << capability.index()))
}

/// `6.12.3-cloud` is (6, 12).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
