//! process.apparmorProfile, process.selinuxLabel and linux.mountLabel: written while the host's procfs is at hand, which no
//! mount of the configuration covers (CVE-2019-16884); refused where the host has no such module, so that nothing ever runs
//! with less confinement than was asked for.

use nix::libc;
use oci_spec::runtime::{Process, Spec};

use super::process::write_file;
use super::program::{AT_FDCWD, Program};
use crate::error::{Error, Kind, Result};
use crate::host::lsm::Lsm;

/// Filesystems that are labelled by policy, not by a mount option (runc mounts them without one, too).
const WITHOUT_CONTEXT: [&str; 3] = ["proc", "sysfs", "mqueue"];

fn given(label: &Option<String>) -> Option<&str> {
    label.as_deref().filter(|label| !label.is_empty())
}

fn enabled(place: &str, module: &str, enabled: bool) -> Result<()> {
    if enabled {
        return Ok(());
    }
    Err(Error::spec(place, format!("{module} is not enabled on this host")).with_kind(Kind::Host))
}

/// The labels of the workload: the kernel applies them at its execve.
///
/// # Errors
/// The module is not enabled, or /proc is not procfs.
pub(super) fn labels(p: &mut Program, process: &Process, lsm: Lsm) -> Result<()> {
    let (profile, label) = (given(process.apparmor_profile()), given(process.selinux_label()));
    if profile.is_some() {
        enabled("process.apparmorProfile", "AppArmor", lsm.apparmor)?;
    }
    if label.is_some() {
        enabled("process.selinuxLabel", "SELinux", lsm.selinux)?;
    }
    if (profile.is_some() || label.is_some()) && !lsm.procfs {
        return Err(Error::new(Kind::Host, "/proc is not procfs: a label written there would be lost"));
    }
    if let Some(profile) = profile {
        apparmor(p, profile);
    }
    if let Some(label) = label {
        p.section("process.selinuxLabel");
        for file in ["exec", "keycreate"] {
            p.doing(format!("write {label:?} to /proc/self/attr/{file}"));
            write_file(p, format!("/proc/self/attr/{file}"), label);
        }
    }
    Ok(())
}

/// apparmor(7): `exec PROFILE` to the module's own file (since kernel commit 6413f852ce08, Linux 5.8), or to the shared one.
fn apparmor(p: &mut Program, profile: &str) {
    p.section("process.apparmorProfile");
    p.doing(format!("write \"exec {profile}\" to /proc/self/attr/apparmor/exec"));
    let text = format!("exec {profile}");
    let (own, shared, length, text) =
        (p.text("/proc/self/attr/apparmor/exec"), p.text("/proc/self/attr/exec"), text.len(), p.text(text));
    let file = p.slot();
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    p.call(libc::SYS_openat, &[AT_FDCWD.into(), own.into(), flags.into()]).tolerate(&[libc::ENOENT]).into_slot(file);
    p.call(libc::SYS_openat, &[AT_FDCWD.into(), shared.into(), flags.into()]).after(libc::ENOENT).into_slot(file);
    p.call(libc::SYS_write, &[file.into(), text.into(), length.into()]);
    p.call(libc::SYS_close, &[file.into()]);
}

/// linux.mountLabel.
///
/// # Errors
/// SELinux is not enabled.
pub(super) fn mount_label(spec: &Spec, lsm: Lsm) -> Result<Option<&str>> {
    let Some(label) = spec.linux().as_ref().and_then(|linux| given(linux.mount_label())) else { return Ok(None) };
    enabled("linux.mountLabel", "SELinux", lsm.selinux)?;
    Ok(Some(label))
}

/// `label` as an option of a new filesystem of type `typ`, if the type takes one and `data` has none.
pub(super) fn context(typ: &str, label: Option<&str>, data: &[String]) -> Option<String> {
    let named = |option: &String| option.starts_with("context=");
    let label = label.filter(|_| !WITHOUT_CONTEXT.contains(&typ) && !data.iter().any(named))?;
    Some(format!("context={label}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(field: &str, label: &str) -> Process {
        let whole = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"], field: label});
        serde_json::from_value(whole).expect("a process")
    }

    fn planned(process: &Process, lsm: Lsm) -> std::result::Result<Vec<String>, String> {
        let mut p = Program::new(3);
        labels(&mut p, process, lsm).map_err(|error| error.to_string())?;
        Ok((0..p.calls().len()).map(|index| p.describe(index)).collect())
    }

    #[test]
    fn a_label_of_a_module_that_the_host_lacks_is_refused() {
        let lsm = Lsm { procfs: true, ..Lsm::default() };
        let text = planned(&process("apparmorProfile", "docker-default"), lsm).expect_err("it is refused");
        assert_eq!(text, "process.apparmorProfile: AppArmor is not enabled on this host");
        let text = planned(&process("selinuxLabel", "a:b:c:s0"), lsm).expect_err("it is refused");
        assert_eq!(text, "process.selinuxLabel: SELinux is not enabled on this host");
    }

    #[test]
    fn a_label_is_not_written_to_what_is_no_procfs() {
        let lsm = Lsm { apparmor: true, ..Lsm::default() };
        let text = planned(&process("apparmorProfile", "docker-default"), lsm).expect_err("it is refused");
        assert_eq!(text, "/proc is not procfs: a label written there would be lost");
    }

    #[test]
    fn an_apparmor_profile_goes_to_the_modules_own_file_or_to_the_shared_one() {
        let lsm = Lsm { apparmor: true, procfs: true, ..Lsm::default() };
        assert_eq!(
            planned(&process("apparmorProfile", "docker-default"), lsm).expect("planned"),
            [
                "openat(AT_FDCWD, \"/proc/self/attr/apparmor/exec\", O_WRONLY|O_CLOEXEC, 0o0) = $1 ok ENOENT",
                "openat(AT_FDCWD, \"/proc/self/attr/exec\", O_WRONLY|O_CLOEXEC, 0o0) = $1 after ENOENT",
                "write($1, \"exec docker-default\", 19)",
                "close($1)",
            ]
        );
    }

    #[test]
    fn an_selinux_label_goes_to_the_execve_and_to_new_keys() {
        let lsm = Lsm { selinux: true, procfs: true, ..Lsm::default() };
        let calls = planned(&process("selinuxLabel", "a:b:c:s0"), lsm).expect("planned");
        assert_eq!(calls[0], "openat(AT_FDCWD, \"/proc/self/attr/exec\", O_WRONLY|O_CLOEXEC, 0o0) = $1");
        assert_eq!(calls[1], "write($1, \"a:b:c:s0\", 8)");
        assert_eq!(calls[3], "openat(AT_FDCWD, \"/proc/self/attr/keycreate\", O_WRONLY|O_CLOEXEC, 0o0) = $2");
    }

    #[test]
    fn a_mount_label_is_for_filesystems_that_take_it_and_never_given_twice() {
        assert_eq!(context("tmpfs", Some("l"), &[]).as_deref(), Some("context=l"));
        assert_eq!(context("devpts", Some("l"), &["gid=5".to_owned()]).as_deref(), Some("context=l"));
        assert_eq!(context("proc", Some("l"), &[]), None);
        assert_eq!(context("tmpfs", Some("l"), &["context=x".to_owned()]), None);
        assert_eq!(context("tmpfs", None, &[]), None);
    }
}
