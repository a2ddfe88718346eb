//! process.apparmorProfile, process.selinuxLabel and linux.mountLabel: written while the host's procfs is at hand, which no
//! mount of the configuration covers (CVE-2019-16884); refused where the host has no such module, so that nothing ever runs
//! with less confinement than was asked for.

use nix::libc;
use oci_spec::runtime::{Process, Spec};

use super::procfs::write_file;
use super::program::{AT_FDCWD, Hint, O_WRONLY, Program};
use crate::error::{Error, Kind, Result};
use crate::host::lsm::Lsm;

/// Filesystems that a mount option does not label (runc mounts them without one, too): procfs and sysfs are labelled by
/// policy; a cgroup hierarchy is one superblock for all, and a second mount with other labels is EINVAL
/// (`selinux_set_mnt_opts` in security/selinux/hooks.c). For mqueue see [`root_label`].
const WITHOUT_CONTEXT: [&str; 5] = ["proc", "sysfs", "mqueue", "cgroup", "cgroup2"];

/// SELinux's mount options (`tokens` in security/selinux/hooks.c). Their values have commas.
const CONTEXTS: [&str; 4] = ["context=", "fscontext=", "defcontext=", "rootcontext="];

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
    let file = p.slot();
    p.openat(AT_FDCWD, "/proc/self/attr/apparmor/exec", O_WRONLY).tolerate(&[libc::ENOENT]).into_slot(file);
    p.openat(AT_FDCWD, "/proc/self/attr/exec", O_WRONLY).after(libc::ENOENT).into_slot(file);
    p.write(file, format!("exec {profile}")).hint(Hint::ProfileMissing);
    p.close(file);
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

/// `option` as a part of the data of mount(2), where commas part the options: SELinux wants quotes around its contexts
/// (`opt_len` in security/selinux/hooks.c), filesystems a backslash.
pub(super) fn in_data(option: &str) -> String {
    match option.split_once('=').filter(|_| CONTEXTS.iter().any(|key| option.starts_with(key))) {
        Some((key, value)) => format!("{key}=\"{value}\""),
        None => option.replace(',', "\\,"),
    }
}

/// `label` for the root of a new mqueue, the working directory, as runc labels it: its files have labels of their own.
pub(super) fn root_label(p: &mut Program, label: &str) {
    p.doing(format!("label with {label:?}"));
    p.setxattr(".", "security.selinux", label);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::Host;
    use crate::options::{ExecOptions, Keyring, Options};
    use crate::plan::{self, Plan};
    use crate::survey::Survey;

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

    const LABEL: &str = "system_u:object_r:container_file_t:s0:c1,c2";

    fn spec(mounts: serde_json::Value, process: serde_json::Value, linux: serde_json::Value) -> Spec {
        let mut whole = serde_json::json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "mounts": mounts,
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]},
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}});
        for (object, more) in [("process", process), ("linux", linux)] {
            for (field, value) in more.as_object().expect("an object") {
                whole[object][field] = value.clone();
            }
        }
        serde_json::from_value(whole).expect("a spec")
    }

    fn launch(spec: &Spec, lsm: Lsm) -> std::result::Result<Plan, String> {
        let survey = Survey { lsm, ..Survey::default() };
        plan::create(&plan::Request {
            spec,
            host: &Host::plain(),
            survey: &survey,
            options: &Options::default(),
            bundle: Path::new("/b"),
            ending: plan::Ending::Fifo,
        })
        .map_err(|error| error.to_string())
    }

    /// The calls of a place.
    fn calls(program: &Program, place: &str) -> Vec<String> {
        let indices = (0..program.calls().len()).filter(|index| program.place(*index).starts_with(place));
        indices.map(|index| program.describe(index)).collect()
    }

    const BOTH: Lsm = Lsm { apparmor: true, selinux: true, procfs: true };

    /// What tells of a label in the calls of a launch with this one mount.
    fn labelled(mount: serde_json::Value) -> Vec<String> {
        let spec = spec(serde_json::json!([mount]), serde_json::json!({}), serde_json::json!({"mountLabel": LABEL}));
        let plan = launch(&spec, BOTH).expect("planned");
        calls(&plan.program, "mounts[0]").into_iter().filter(|call| call.contains(LABEL)).collect()
    }

    #[test]
    fn a_new_filesystem_has_the_mount_label_in_its_context_with_the_commas_of_its_categories() {
        for typ in ["tmpfs", "devpts", "overlay", "ext4"] {
            let found = labelled(serde_json::json!({"destination": "/data", "type": typ, "source": typ}));
            let expected = format!("FSCONFIG_SET_STRING, \"context\", \"{LABEL}\"");
            assert_eq!(found.len(), 1, "{typ}: {found:?}");
            assert!(found[0].contains(&expected), "{typ}: {found:?}");
        }
    }

    #[test]
    fn what_is_labelled_by_policy_or_belongs_to_the_host_is_mounted_without_a_label() {
        for mount in [
            serde_json::json!({"destination": "/proc", "type": "proc", "source": "proc"}),
            serde_json::json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}),
            serde_json::json!({"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup"}),
            serde_json::json!({"destination": "/data", "type": "bind", "source": "/srv", "options": ["bind"]}),
        ] {
            assert_eq!(labelled(mount.clone()), [""; 0], "{mount}");
        }
        assert_eq!(context("cgroup", Some("l"), &[]), None);
    }

    #[test]
    fn the_root_of_an_mqueue_is_labelled_after_it_is_mounted() {
        let mount = serde_json::json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"});
        let length = LABEL.len();
        assert_eq!(labelled(mount), [format!("setxattr(\".\", \"security.selinux\", \"{LABEL}\", {length}, 0)")]);
    }

    #[test]
    fn a_context_in_the_options_is_kept_as_it_is() {
        let own = "context=\"a:b:c:s0:c3,c4\"";
        let mount = serde_json::json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": [own]});
        assert_eq!(labelled(mount), [""; 0]);
    }

    #[test]
    fn an_overlay_whose_layers_are_too_long_for_fsconfig_has_its_label_in_quotes() {
        let layers = format!("lowerdir=/{}", "l".repeat(300));
        let mount =
            serde_json::json!({"destination": "/t", "type": "overlay", "source": "overlay", "options": [layers]});
        let spec = spec(serde_json::json!([mount]), serde_json::json!({}), serde_json::json!({"mountLabel": LABEL}));
        let plan = launch(&spec, BOTH).expect("planned");
        assert_eq!(in_data(&format!("context={LABEL}")), format!("context=\"{LABEL}\""));
        assert_eq!(in_data("lowerdir=/a,b"), "lowerdir=/a\\,b");
        assert_eq!(calls(&plan.program, "mounts[0]").iter().filter(|call| call.starts_with("mount(")).count(), 1);
    }

    #[test]
    fn what_covers_a_masked_directory_has_the_mount_label() {
        let linux = serde_json::json!({"mountLabel": LABEL, "maskedPaths": ["/proc/acpi"]});
        let spec = spec(serde_json::json!([]), serde_json::json!({}), linux);
        let plan = launch(&spec, BOTH).expect("planned");
        let found = calls(&plan.program, "linux.maskedPaths[0]");
        assert!(found.iter().any(|call| call.contains("tmpfs") && call.contains(LABEL)), "{found:?}");
    }

    #[test]
    fn a_mount_label_is_refused_by_name_where_selinux_is_not_enabled() {
        let spec = spec(serde_json::json!([]), serde_json::json!({}), serde_json::json!({"mountLabel": LABEL}));
        let lsm = Lsm { selinux: false, ..BOTH };
        assert_eq!(launch(&spec, lsm).unwrap_err(), "linux.mountLabel: SELinux is not enabled on this host");
    }

    #[test]
    fn a_launch_writes_its_labels_before_it_enters_a_namespace_or_mounts_anything() {
        let process = serde_json::json!({"apparmorProfile": "web", "selinuxLabel": "a:b:c:s0"});
        let plan = launch(&spec(serde_json::json!([]), process, serde_json::json!({})), BOTH).expect("planned");
        let all: Vec<String> = (0..plan.program.calls().len()).map(|index| plan.program.describe(index)).collect();
        let last = all.iter().rposition(|call| call.contains("/proc/self/attr/")).expect("a label");
        let entered = |call: &&String| {
            ["unshare(", "setns(", "mount(", "move_mount(", "pivot_root("].iter().any(|name| call.starts_with(name))
        };
        assert_eq!(all[..last].iter().find(entered), None);
        let labels = all.iter().filter(|call| call.contains("/proc/self/attr/")).count();
        assert_eq!(labels, 4, "{all:?}");
    }

    /// The labels of an exec, and what it is refused for.
    fn exec(process: serde_json::Value, options: ExecOptions, lsm: Lsm) -> std::result::Result<Vec<String>, String> {
        let spec = spec(serde_json::json!([]), process, serde_json::json!({}));
        let options = ExecOptions { args: vec!["true".to_owned()], ..options };
        let (process, _) = plan::exec::process(&spec, &options).expect("a process");
        let inside = plan::exec::Inside {
            id: "web1",
            namespaces: (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64,
            init: 7,
            keyring: Keyring::New,
            unified: None,
            resctrl: Vec::new(),
            v1: Vec::new(),
        };
        let (host, survey) = (Host::plain(), Survey { lsm, ..Survey::default() });
        let plan = plan::exec::exec(&plan::exec::Request {
            spec: &spec,
            process: &process,
            inside: &inside,
            host: &host,
            survey: &survey,
            options: &options,
            hook: None,
            moved: false,
        })
        .map_err(|error| error.to_string())?;
        let labels = |place| calls(&plan.program, place).into_iter().filter(|call| call.starts_with("write("));
        Ok(labels("process.apparmorProfile").chain(labels("process.selinuxLabel")).collect())
    }

    #[test]
    fn an_exec_has_the_labels_of_the_container() {
        let own = serde_json::json!({"apparmorProfile": "web", "selinuxLabel": "a:b:c:s0"});
        assert_eq!(
            exec(own, ExecOptions::default(), BOTH).expect("planned"),
            ["write($1, \"exec web\", 8)", "write($2, \"a:b:c:s0\", 8)", "write($3, \"a:b:c:s0\", 8)"]
        );
    }

    #[test]
    fn an_exec_with_labels_of_its_own_has_those_instead() {
        let own = serde_json::json!({"apparmorProfile": "web", "selinuxLabel": "a:b:c:s0"});
        let options = ExecOptions {
            apparmor_profile: Some("other".to_owned()),
            selinux_label: Some("d:e:f:s0".to_owned()),
            ..ExecOptions::default()
        };
        assert_eq!(
            exec(own, options, BOTH).expect("planned"),
            ["write($1, \"exec other\", 10)", "write($2, \"d:e:f:s0\", 8)", "write($3, \"d:e:f:s0\", 8)"]
        );
    }

    #[test]
    fn an_exec_is_refused_as_a_launch_is_where_the_host_lacks_the_module_or_procfs() {
        let of = |own: serde_json::Value, lsm| exec(own, ExecOptions::default(), lsm).unwrap_err();
        let profile = || serde_json::json!({"apparmorProfile": "web"});
        let none = Lsm { procfs: true, ..Lsm::default() };
        assert_eq!(of(profile(), none), "process.apparmorProfile: AppArmor is not enabled on this host");
        let label = serde_json::json!({"selinuxLabel": "a:b:c:s0"});
        assert_eq!(of(label, none), "process.selinuxLabel: SELinux is not enabled on this host");
        let no_procfs = Lsm { procfs: false, ..BOTH };
        assert_eq!(of(profile(), no_procfs), "/proc is not procfs: a label written there would be lost");
    }
}
