//! Which of the two security modules that a configuration can name are enabled on this host. Asked only where it names one.

use std::fs;

use nix::errno::Errno;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use oci_spec::runtime::Spec;

/// What the host can do with labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsm {
    /// AppArmor is enabled (/sys/module/apparmor/parameters/enabled).
    pub apparmor: bool,
    /// SELinux is enabled (selinuxfs is mounted at /sys/fs/selinux).
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
        Lsm { apparmor: apparmor().is_ok(), selinux: selinux().is_ok(), procfs: procfs().is_ok() }
    }
}

const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
const SELINUX: &str = "/sys/fs/selinux";
/// `SELINUX_MAGIC` in include/uapi/linux/magic.h.
const SELINUX_SUPER_MAGIC: u32 = 0xf97c_ff8c;

/// Whether AppArmor is enabled; else the file that says so.
///
/// # Errors
/// Why it is not, in words.
pub fn apparmor() -> Result<(), String> {
    let text = fs::read_to_string(APPARMOR).map_err(|error| unreadable("read", APPARMOR, &error))?;
    match text.starts_with('Y') {
        true => Ok(()),
        false => Err(format!("{APPARMOR} is {:?}", text.trim())),
    }
}

/// Whether SELinux is enabled, with its mode: the policy decides, or it only logs.
///
/// # Errors
/// Why it is not, in words.
pub fn selinux() -> Result<&'static str, String> {
    let found = statfs(SELINUX).map_err(|errno| format!("statfs {SELINUX}: {errno:?}"))?;
    if found.filesystem_type().0 as u32 != SELINUX_SUPER_MAGIC {
        return Err(format!("{SELINUX} is not selinuxfs: it is not mounted"));
    }
    let file = format!("{SELINUX}/enforce");
    let text = fs::read_to_string(&file).map_err(|error| unreadable("read", &file, &error))?;
    Ok(if text.starts_with('1') { "enforcing" } else { "permissive" })
}

/// Whether /proc is procfs.
///
/// # Errors
/// Why it is not, in words.
pub fn procfs() -> Result<(), String> {
    match statfs("/proc") {
        Ok(found) if found.filesystem_type() == PROC_SUPER_MAGIC => Ok(()),
        Ok(_) => Err("/proc is not procfs".to_owned()),
        Err(errno) => Err(format!("statfs /proc: {errno:?}")),
    }
}

fn unreadable(call: &str, file: &str, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => format!("{call} {file}: {:?}", Errno::from_raw(code)),
        None => format!("{call} {file}: {error}"),
    }
}
