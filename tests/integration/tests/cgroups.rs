//! Cgroups: where they are made, the limits, the device rules, and that they are gone afterwards.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runb_tests::*;

fn with_resources<'t>(bundle: Bundle<'t>, key: &str, value: Value) -> Bundle<'t> {
    bundle.spec(|spec| spec["linux"]["resources"][key] = value)
}

#[test]
fn the_cgroup_is_made_at_its_path_in_every_hierarchy() {
    in_modes(ALL, |t| {
        let container = t.bundle().idle().create();
        let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("read");
        let path = format!("/{}", container.id());
        for line in text.lines() {
            let (number, rest) = line.split_once(':').expect("fields");
            let (name, place) = rest.split_once(':').expect("fields");
            let in_sight = match t.mode() {
                Mode::V1 => number != "0",
                Mode::Hybrid => true,
                Mode::V2 => number == "0",
            };
            // Hierarchies that are not mounted here stay as they were; a named one may.
            if in_sight && !name.starts_with("name=") {
                assert!(place == path || number == "0" && t.mode() == Mode::Hybrid, "{line}");
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_deep_cgroups_path_is_made_and_the_containers_own_part_removed() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().idle();
        let path = format!("/{}/deep", bundle.id());
        let container = bundle.spec(|spec| spec["linux"]["cgroupsPath"] = json!(path)).create();
        let controller = if t.mode() == Mode::V2 { "" } else { "pids" };
        let procs = t.cgroup_file(controller, &path, "cgroup.procs");
        assert_eq!(procs.lines().collect::<Vec<_>>(), [container.pid().to_string()]);
        container.delete_force().ok();
        // What lies above belongs to whoever else may use it; nobody does here.
        for hierarchy in hierarchies() {
            let _ = fs::remove_dir(format!("{hierarchy}/{}", container.id()));
        }
    });
}

/// The mount points of all hierarchies in sight.
fn hierarchies() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let cgroups = text.lines().filter(|line| line.contains(" - cgroup"));
    cgroups.map(|line| line.split(' ').nth(4).expect("a mount point").to_owned()).collect()
}

#[test]
fn without_a_cgroups_path_the_runtime_chooses_one_and_removes_it() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().idle().spec(|spec| {
            spec["linux"].as_object_mut().expect("linux").remove("cgroupsPath");
        });
        bundle.create().delete_force().ok();
    });
}

#[test]
fn the_memory_limit_is_set() {
    in_modes(ALL, |t| {
        t.needs_controller("memory");
        let bundle = t.bundle().idle();
        let container = with_resources(bundle, "memory", json!({"limit": 67108864, "reservation": 33554432})).create();
        let path = container.id();
        let (limit, low) = match t.mode() {
            Mode::V2 => ("memory.max", "memory.low"),
            _ => ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
        };
        assert_eq!(t.cgroup_file("memory", path, limit), "67108864");
        assert_eq!(t.cgroup_file("memory", path, low), "33554432");
        container.delete_force().ok();
    });
}

#[test]
fn a_workload_beyond_its_memory_limit_is_killed() {
    in_modes(ALL, |t| {
        t.needs_controller("memory");
        let bundle = t.bundle().mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}));
        let bundle = with_resources(bundle, "memory", json!({"limit": 16777216, "swap": 16777216}));
        let outcome = bundle.sh("exec dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null").run();
        assert_eq!(outcome.code, 137, "{outcome:?}");
    });
}

#[test]
fn the_pids_limit_is_set_and_held() {
    in_modes(ALL, |t| {
        t.needs_controller("pids");
        let bundle = with_resources(t.bundle(), "pids", json!({"limit": 5}));
        let script = "i=0; while [ $i -lt 10 ]; do sleep 86400 & i=$((i + 1)); done";
        let outcome = bundle.sh(script).run();
        assert!(outcome.stderr.contains("fork"), "{outcome:?}");
        let container = with_resources(t.bundle().idle(), "pids", json!({"limit": 5})).create();
        assert_eq!(t.cgroup_file("pids", container.id(), "pids.max"), "5");
        container.delete_force().ok();
    });
}

#[test]
fn a_limit_of_one_process_holds_beside_a_user_namespace() {
    in_modes(ALL, |t| {
        t.needs_controller("pids");
        let bundle = || with_resources(in_user_namespace(t.bundle()), "pids", json!({"limit": 1}));
        let container = bundle().idle().create();
        assert_eq!(t.cgroup_file("pids", container.id(), "pids.max"), "1");
        container.delete_force().ok();
        let outcome = bundle().sh("sleep 0 & wait").run();
        assert!(outcome.stderr.contains("fork"), "{outcome:?}");
    });
}

fn in_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    let rootfs = bundle.rootfs();
    fs::set_permissions(rootfs.parent().expect("a parent"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.writable().spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

#[test]
fn cpu_shares_quota_and_period_are_set() {
    in_modes(ALL, |t| {
        t.needs_controller("cpu");
        let cpu = json!({"shares": 512, "quota": 50000, "period": 100000});
        let container = with_resources(t.bundle().idle(), "cpu", cpu).create();
        match t.mode() {
            Mode::V2 => assert_eq!(t.cgroup_file("cpu", container.id(), "cpu.max"), "50000 100000"),
            _ => {
                assert_eq!(t.cgroup_file("cpu", container.id(), "cpu.shares"), "512");
                // Absent where the kernel has no bandwidth control.
                let dir = t.controller_dir("cpu").expect("the hierarchy").join(container.id());
                if dir.join("cpu.cfs_quota_us").exists() {
                    assert_eq!(t.cgroup_file("cpu", container.id(), "cpu.cfs_quota_us"), "50000");
                    assert_eq!(t.cgroup_file("cpu", container.id(), "cpu.cfs_period_us"), "100000");
                }
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn cpuset_is_set() {
    in_modes(ALL, |t| {
        t.needs_controller("cpuset");
        let container = with_resources(t.bundle().idle(), "cpu", json!({"cpus": "0", "mems": "0"})).create();
        assert_eq!(t.cgroup_file("cpuset", container.id(), "cpuset.cpus"), "0");
        container.delete_force().ok();
    });
}

/// A workload with the right to make devices, that tries some and prints one word for each. A rule denies with EPERM;
/// a device without a driver (loop-control, a loop device) fails otherwise.
fn tries_devices<'t>(t: &'t Test, rules: Value) -> Bundle<'t> {
    let script = "cd /tmp
        try() { case $(\"$@\" 2>&1) in *'not permitted'*) echo no;; *) echo yes;; esac; }
        try mknod zero c 1 5; try mknod other c 10 237; try mknod loop b 7 0
        try sh -c 'exec 3<zero'
        try sh -c ': >/dev/null'; try sh -c 'exec 3<other'; try sh -c 'exec 3<loop'";
    let capabilities = json!(["CAP_MKNOD", "CAP_KILL"]);
    let sets = json!({"bounding": capabilities, "permitted": capabilities, "effective": capabilities});
    with_resources(t.bundle(), "devices", rules)
        .set("/process/capabilities", sets)
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}))
        .sh(script)
}

#[test]
fn devices_are_denied_but_for_the_default_ones() {
    in_modes(ALL, |t| {
        let rules = json!([{"allow": false, "access": "rwm"}]);
        let words: Vec<_> = tries_devices(t, rules).run().ok().stdout.split_whitespace().map(str::to_owned).collect();
        // mknod of any device is among the defaults; opening it is not.
        assert_eq!(words, ["yes", "yes", "yes", "yes", "yes", "no", "no"]);
    });
}

#[test]
fn a_device_that_a_rule_allows_can_be_opened() {
    in_modes(ALL, |t| {
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "r"},
        ]);
        let words: Vec<_> = tries_devices(t, rules).run().ok().stdout.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["yes", "yes", "yes", "yes", "yes", "yes", "no"]);
    });
}

#[test]
fn a_later_rule_wins_over_an_earlier_one() {
    in_modes(ALL, |t| {
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"},
            {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "rw"},
        ]);
        let words: Vec<_> = tries_devices(t, rules).run().ok().stdout.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["yes", "yes", "yes", "yes", "yes", "no", "no"]);
    });
}

#[test]
fn a_rule_for_all_devices_allows_them() {
    in_modes(ALL, |t| {
        let outcome = tries_devices(t, json!([{"allow": true, "access": "rwm"}])).run().ok();
        let words: Vec<_> = outcome.stdout.split_whitespace().collect();
        assert_eq!(words, ["yes"; 7], "{outcome:?}");
    });
}

#[test]
fn the_rules_that_containerd_sends_are_accepted() {
    in_modes(ALL, |t| {
        let allow = |kind: &str, major: i64, minor: i64| json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm"});
        let rules = json!([
            {"allow": false, "access": "rwm"}, allow("c", 1, 3), allow("c", 1, 8), allow("c", 1, 7), allow("c", 5, 0),
            allow("c", 1, 5), allow("c", 1, 9), allow("c", 5, 1),
            {"allow": true, "type": "c", "major": 136, "access": "rwm"}, allow("c", 5, 2),
        ]);
        let words: Vec<_> = tries_devices(t, rules).run().ok().stdout.split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["yes", "yes", "yes", "yes", "yes", "no", "no"]);
    });
}

#[test]
fn ten_thousand_device_rules_hold_from_the_first_to_the_last() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers take long for it");
        let rule = |minor: i32| json!({"allow": true, "type": "c", "major": 10, "minor": minor, "access": "rwm"});
        let rules = [json!({"allow": false, "access": "rwm"}), rule(237)].into_iter().chain((1000..11_000).map(rule));
        let outcome = tries_devices(t, rules.collect()).run().ok();
        let words: Vec<_> = outcome.stdout.split_whitespace().collect();
        assert_eq!(words, ["yes", "yes", "yes", "yes", "yes", "yes", "no"], "{outcome:?}");
    });
}

#[test]
fn the_container_sees_its_own_cgroup_as_the_root() {
    in_modes(ALL, |t| {
        let outcome = t.bundle().args(["cat", "/proc/self/cgroup"]).run().ok();
        let wanted = |line: &&str| match t.mode() {
            Mode::V2 => line.starts_with("0:"),
            _ => line.contains(":pids:") || line.contains(":memory:"),
        };
        for line in outcome.stdout.lines().filter(wanted) {
            assert!(line.ends_with(":/"), "{outcome:?}");
        }
    });
}

#[test]
fn a_failing_create_removes_its_cgroup() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Runc]) {
            t.skip("runc 1.1 leaves the cgroup now and then");
        }
        t.bundle()
            .mount(json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"}))
            .try_create()
            .fails_with(&[]);
    });
}
