//! What this machine is: probed once and passed by value.

pub mod cgroups;
pub mod lsm;
pub mod mounts;
pub mod standing;

use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::sys::utsname::uname;
use nix::unistd::{getegid, geteuid};

use crate::error::{Error, Result};
use crate::sys;
use cgroups::CgroupMounts;
use mounts::MountCalls;
use standing::Standing;

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
    /// Where the runtime stands: what it may do follows from that.
    pub standing: Standing,
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
    /// The capabilities, or what tells of the cgroups, cannot be read.
    pub fn probe() -> Result<Self> {
        let ignored = [libc::SIGHUP, libc::SIGINT].into_iter().filter(|signal| sys::is_ignored(*signal)).collect();
        let host = Host::probe_processes()?;
        let (cgroups, mounts) = (CgroupMounts::probe()?, MountCalls::probe());
        Ok(Host { cgroups, mounts, ignored, ..host })
    }

    /// Asks for what a process in a container that exists depends on, so neither for the cgroups nor for mounts.
    ///
    /// # Errors
    /// The capabilities cannot be read.
    pub fn probe_processes() -> Result<Self> {
        let capabilities = own_capabilities()?;
        let names = uname().map_err(|errno| Error::host("uname", errno))?;
        Ok(Host {
            kernel: version(&names.release().to_string_lossy()),
            mounts: MountCalls::Classic,
            cgroups: CgroupMounts::None,
            manager_cgroup: "/".into(),
            ids: (geteuid().as_raw(), getegid().as_raw()),
            standing: Standing::probe(capabilities),
            capabilities,
            last_capability: last_capability()?,
            ignored: Vec::new(),
        })
    }

    /// Whether mknod(2) makes devices here: else those of the host are bound.
    pub(crate) fn makes_devices(&self) -> bool {
        const CAP_MKNOD: u64 = 1 << 27;
        self.standing.has_devices() && self.capabilities & CAP_MKNOD != 0
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
            standing: Standing::Machine,
            capabilities: !0,
            last_capability: 40,
            ignored: Vec::new(),
        }
    }
}

/// The highest capability that the kernel knows, which has had this one since Linux 5.9 and none after it so far: three calls,
/// where a file (/proc/sys/kernel/cap_last_cap) takes five that open it.
fn last_capability() -> Result<u8> {
    const CAP_CHECKPOINT_RESTORE: u8 = 40;
    let from = match sys::knows_capability(CAP_CHECKPOINT_RESTORE) {
        true => CAP_CHECKPOINT_RESTORE,
        false => 0,
    };
    (from..64).take_while(|number| sys::knows_capability(*number)).last().ok_or_else(|| Error::host("prctl(PR_CAPBSET_READ, 0)", Errno::last()))
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
