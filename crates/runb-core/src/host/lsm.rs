//! Which of the two security modules that a configuration can name are enabled on this host. Asked only where it names one.

use std::fs;

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use oci_spec::runtime::Spec;

/// What the host can do with labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor is enabled (/sys/module/apparmor/parameters/enabled).
    pub apparmor: bool,
    /// SELinux is enabled (selinuxfs is there).
    pub selinux: bool,
    /// /proc is procfs, so that a label that is written there reaches the kernel.
    pub procfs: bool,
}

impl Lsm {
    /// Asks the host, if `spec` names a label; else nothing is enabled as far as this launch is concerned.
    pub fn of(spec: &Spec) -> Self {
        let process = spec.process().as_ref();
        let linux = spec.linux().as_ref();
        let labels = [
            process.and_then(|process| process.apparmor_profile().as_ref()),
            process.and_then(|process| process.selinux_label().as_ref()),
            linux.and_then(|linux| linux.mount_label().as_ref()),
        ];
        if labels.into_iter().flatten().all(String::is_empty) {
            return Lsm::default();
        }
        Lsm::probe()
    }

    /// Asks the host.
    pub fn probe() -> Self {
        Lsm {
            apparmor: fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y")),
            selinux: fs::exists("/sys/fs/selinux/enforce").unwrap_or(false),
            procfs: statfs("/proc").is_ok_and(|fs| fs.filesystem_type() == PROC_SUPER_MAGIC),
        }
    }
}
