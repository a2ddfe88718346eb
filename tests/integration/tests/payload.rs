//! systemd as the workload: it takes the container's cgroup for its own, moves away from there, and makes cgroups below.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runb_tests::*;

const UNIT: &str = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sh -c 'echo ready >/run/share/ready; exec sleep 86400'\n";

/// What Docker gives without being asked, and no more.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The host's own systemd, with one unit, as Podman starts it.
fn systemd<'t>(t: &'t Test, namespaces: fn(&mut Value)) -> Bundle<'t> {
    if !Path::new("/lib/systemd/systemd").exists() {
        t.skip("the host has no systemd to be the workload");
    }
    let units = t.dir().join(t.name("units"));
    fs::create_dir(&units).expect("make a directory");
    fs::write(units.join("payload.service"), UNIT).expect("write the unit");
    t.bundle().spec(|spec| {
        spec["root"] = json!({"path": "/", "readonly": true});
        let process = &mut spec["process"];
        process["args"] = json!(["/lib/systemd/systemd", "--unit=payload.service"]);
        process["env"] = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=runb"]);
        process["capabilities"] =
            json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES});
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        let share = mounts.iter_mut().find(|mount| mount["destination"] == "/share").expect("what is shared");
        share["destination"] = json!("/run/share");
        let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").expect("a cgroup mount");
        cgroup["options"] = json!(["nosuid", "noexec", "nodev", "relatime", "rw"]);
        let tmpfs = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]});
        let first = mounts.iter().position(|mount| mount["destination"] == "/run/share").expect("it is there");
        mounts.splice(first..first, ["/run", "/run/lock", "/tmp"].map(tmpfs));
        mounts.push(json!({"destination": "/run/systemd/system", "type": "bind", "source": units, "options": ["bind", "ro"]}));
        namespaces(spec);
    })
}

fn in_a_user_namespace(spec: &mut Value) {
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
}

#[test]
fn systemd_runs_as_the_workload_and_is_used_as_any_other() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc gives the cgroup away under systemd alone, and looks for the container's processes in one place");
        for namespaces in [|_: &mut Value| {}, in_a_user_namespace as fn(&mut Value)] {
            let bundle = systemd(t, namespaces);
            let mut ready = t.fifo(&bundle, "ready");
            let open = fs::Permissions::from_mode(0o666);
            fs::set_permissions(bundle.share_dir().join("ready"), open).expect("chmod");
            let container = bundle.run_detached();
            assert_eq!(ready.line(), "ready");
            let unit = ["systemctl", "show", "--property", "ControlGroup", "--value", "payload.service"];
            assert_eq!(container.call("exec", &unit).ok().stdout, "/system.slice/payload.service\n");
            let pids = t.call(["ps", "--format", "json", container.id()]).ok().json();
            let pids = pids.as_array().expect("a list");
            assert!(pids.len() >= 2 && pids.contains(&json!(container.pid())), "{pids:?}");
            container.call("pause", &[]).ok();
            let below = format!("{}/system.slice/payload.service", container.id());
            assert!(t.cgroup_file("", &below, "cgroup.events").contains("frozen 1"));
            container.call("resume", &[]).ok();
            if let Some(file) = ["memory.max", "hugetlb.2MB.max"].into_iter().find(|file| has(&container, file)) {
                let file = (file, "536870912");
                let resources = t.dir().join(t.name("resources"));
                fs::write(&resources, json!({"unified": {file.0: file.1}}).to_string()).expect("write");
                t.call(["update", "--resources", resources.to_str().expect("text"), container.id()]).ok();
                assert_eq!(t.cgroup_file("", container.id(), file.0), file.1);
            }
            t.call(["events", "--stats", container.id()]).ok();
            // Its own way to end, with all of its units.
            let pid = container.pid();
            container.kill(&["RTMIN+3"]).ok();
            assert_eq!(container.reap(pid), 0);
            assert_eq!(container.status(), "stopped");
            container.delete().ok();
        }
    });
}

fn has(container: &Container<'_>, file: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(container.id()).join(file).exists()
}
