//! What is planned for kernels that lack calls on mounts.

use std::path::Path;

use runb_core::host::Host;
use runb_core::host::mounts::MountCalls;
use runb_core::options::Options;
use runb_core::plan::{Ending, Plan, Request, create};
use runb_core::survey::{Kind, MountFlags, Survey};
use serde_json::{Value, json};

const ST_NOSUID: u64 = 2;
const ST_RELATIME: u64 = 4096;

fn plan(calls: MountCalls, mounts: Value, linux: Value) -> runb_core::Result<Plan> {
    let mut whole = json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/true"]},
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]},
    });
    whole["linux"].as_object_mut().expect("an object").extend(linux.as_object().expect("an object").clone());
    let spec: oci_spec::runtime::Spec = serde_json::from_value(whole).expect("a spec");
    let host = Host { mounts: calls, ..Host::plain() };
    let count = spec.mounts().iter().flatten().count();
    let survey = Survey {
        sources: vec![Kind::File; count],
        mount_flags: MountFlags { root: ST_NOSUID | ST_RELATIME, sources: vec![ST_NOSUID | ST_RELATIME; count] },
        masked: vec![Kind::Directory; 2],
        ..Survey::default()
    };
    let options = Options::new("web1", "", "");
    let bundle = Path::new("/bundle");
    create(&Request { spec: &spec, host: &host, survey: &survey, options: &options, bundle, ending: Ending::Fifo })
}

/// The calls that come from `place`, as text.
fn calls(plan: &Plan, place: &str) -> Vec<String> {
    let program = &plan.program;
    let own = |index: &usize| program.place(*index) == place;
    (0..program.calls().len()).filter(own).map(|index| program.describe(index)).collect()
}

#[track_caller]
fn refused(calls: MountCalls, mount: Value, text: &str) {
    let error = plan(calls, json!([mount]), json!({})).expect_err("it is refused");
    assert_eq!(error.to_string(), text);
}

fn bind(options: &[&str]) -> Value {
    json!({"destination": "/d", "type": "bind", "source": "/s", "options": options})
}

#[test]
fn a_bind_mount_is_attached_first_and_changed_next_by_the_link_of_its_descriptor() {
    let plan = plan(MountCalls::Classic, json!([bind(&["bind", "ro"])]), json!({})).expect("a plan");
    let calls = calls(&plan, "mounts[0] (/d)");
    let attached = calls.iter().position(|call| call.starts_with("move_mount(")).expect("it is attached");
    let changes: Vec<_> =
        calls[attached + 1..].iter().map(|call| call.replace(char::is_numeric, "N").replace("$NNNN", "$N")).collect();
    let expected = [
        "dupN($N, N, O_CLOEXEC)",
        "fchdir($N)",
        "mount(NULL, \"N\", NULL, MS_SLAVE, NULL)",
        "mount(NULL, \"N\", NULL, MS_RDONLY|MS_REMOUNT|MS_BIND, NULL)",
        "chdir(\"/\")",
        // Then it is asked whether its name leads to it.
        "statx($N, \"\", AT_EMPTY_PATH|AT_NO_AUTOMOUNT|AT_STATX_DONT_SYNC, NxNNNN, {…})",
        "statx(AT_FDCWD, \"d\", AT_NO_AUTOMOUNT|AT_STATX_DONT_SYNC, NxNNNN, {…})",
        "futex({…}, FUTEX_CMP_REQUEUE_PRIVATE, N, N, {…}, $N)",
    ];
    assert_eq!(changes, expected);
}

#[test]
fn no_program_for_a_kernel_without_mount_setattr_has_the_call() {
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "nosymfollow", "rslave"]},
        bind(&["rbind", "ro", "rprivate"]),
        {"destination": "/c", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ]);
    let linux =
        json!({"readonlyPaths": ["/proc/sys"], "maskedPaths": ["/proc/a", "/proc/b"], "rootfsPropagation": "rshared"});
    let has = |kernel| {
        let plan = plan(kernel, mounts.clone(), linux.clone()).expect("a plan");
        let count = |name: &str| {
            plan.program.calls().iter().enumerate().filter(|(i, _)| plan.program.describe(*i).starts_with(name)).count()
        };
        (count("mount_setattr("), count("mount(NULL, ") > 5)
    };
    assert_eq!(has(MountCalls::Classic), (0, true));
    assert!(has(MountCalls::NoSymFollow).0 > 5);
}

#[test]
fn the_root_stays_as_it_was_mounted_when_it_becomes_read_only() {
    let plan = plan(MountCalls::Classic, json!([]), json!({})).expect("a plan");
    let expected = "mount(NULL, \"/\", NULL, MS_RDONLY|MS_NOSUID|MS_REMOUNT|MS_BIND, NULL)";
    assert_eq!(calls(&plan, "root.readonly"), [expected]);
}

#[test]
fn a_detached_mount_is_copied_only_where_the_kernel_copies_it() {
    let linux = json!({"maskedPaths": ["/proc/a", "/proc/b"]});
    let dev = json!([{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}]);
    let shared = |kernel| {
        let plan = plan(kernel, dev.clone(), linux.clone()).expect("a plan");
        ["linux.maskedPaths[0] (/proc/a)", "linux.maskedPaths[1] (/proc/b)"].map(|place| {
            let calls = calls(&plan, place);
            calls.iter().filter(|call| call.starts_with("open_tree(")).map(|call| call.contains(" ok EINVAL")).next()
        })
    };
    // Elsewhere the first one gets the mount itself, and what is copied for the second may not be attached.
    assert_eq!(shared(MountCalls::CopyDetached), [Some(false), None]);
    assert_eq!(shared(MountCalls::NoSymFollow), [None, Some(true)]);
}

#[test]
fn what_the_kernel_cannot_do_is_refused_by_the_options_name() {
    let lacks = "needs mount_setattr(2) of Linux 5.12, which this kernel (6.12) does not offer";
    refused(MountCalls::Classic, bind(&["rbind", "rro"]), &format!("mounts[0].options (/d): \"rro\" {lacks}"));
    let mut mapped = bind(&["bind"]);
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    (mapped["uidMappings"], mapped["gidMappings"]) = (map.clone(), map);
    refused(MountCalls::Classic, mapped, &format!("mounts[0].uidMappings (/d): an id mapping {lacks}"));
    let text = "needs MOUNT_ATTR_NOSYMFOLLOW of Linux 5.14, which this kernel (6.12) does not offer";
    refused(
        MountCalls::SetAttributes,
        bind(&["bind", "nosymfollow"]),
        &format!("mounts[0].options (/d): \"nosymfollow\" {text}"),
    );
    plan(MountCalls::SetAttributes, json!([bind(&["rbind", "rro"])]), json!({})).expect("a plan");
    plan(MountCalls::NoSymFollow, json!([bind(&["rbind", "rnosymfollow"])]), json!({})).expect("a plan");
}

#[test]
fn a_program_grows_by_as_much_for_each_mount_however_many_there_are() {
    let size = |count: usize| {
        let mounts: Vec<Value> = (0..count)
            .map(|i| json!({"destination": format!("/d/{i}"), "type": "bind", "source": "/s", "options": ["bind"]}))
            .collect();
        plan(MountCalls::CopyDetached, json!(mounts), json!({})).expect("a plan").program.calls().len()
    };
    let (none, few, many) = (size(0), size(10), size(1000));
    assert_eq!(many - none, (few - none) * 100);
}
