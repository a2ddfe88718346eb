//! systemd as the maker of cgroups: what it is told and does, and what becomes of a container while it is loaded or executed anew.

use std::fs;
use std::path::{Path, PathBuf};

use runb_tests::*;

#[path = "systemd/silence.rs"]
mod silence;
#[path = "systemd/units.rs"]
mod units;
#[path = "systemd/user.rs"]
mod user;

/// Has systemd loaded (`daemon-reload`) or executed (`daemon-reexec`) anew.
fn renew(verb: &str) {
    match verb {
        "daemon-reexec" => systemd::execute_anew(),
        verb => {
            systemd::systemctl(&[verb]);
        }
    }
}

/// The directory of a container's cgroup, in the hierarchy of `controller` on version 1.
fn cgroup_dir(t: &Test, pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process's cgroups");
    let has = |line: &&str| match t.mode() {
        Mode::V2 => line.starts_with("0::"),
        _ => line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == controller)),
    };
    let path = text.lines().find(has).and_then(|line| line.splitn(3, ':').nth(2)).expect("a line of the hierarchy");
    let top = match t.mode() {
        Mode::V2 => PathBuf::from("/sys/fs/cgroup"),
        _ => t.controller_dir(controller.trim_start_matches("name=")).expect("the hierarchy"),
    };
    top.join(path.trim_start_matches('/'))
}

/// A file of a container's cgroup: its name on version 2, and the controller with its name on version 1.
fn limit(t: &Test, pid: i32, v2: &str, (controller, v1): (&str, &str)) -> String {
    let file = if t.mode() == Mode::V2 { v2 } else { v1 };
    let path = cgroup_dir(t, pid, controller).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")).trim().to_owned()
}

fn with_limits(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        let resources = &mut spec["linux"]["resources"];
        resources["memory"] = json!({"limit": 64 << 20});
        resources["cpu"] = json!({"shares": 512, "quota": 15_500, "period": 100_000, "cpus": "0"});
        resources["pids"] = json!({"limit": 33});
    })
}

/// The limits of [`with_limits`], as the kernel has them and as systemd tells them.
#[track_caller]
fn limits_hold(t: &Test, container: &Container<'_>) {
    let pid = container.pid();
    let v2 = t.mode() == Mode::V2;
    // A quota in whole percents: systemd has no others.
    let quota = if v2 { "16000 100000" } else { "16000" };
    for (v2, v1, value) in [
        ("memory.max", ("memory", "memory.limit_in_bytes"), "67108864"),
        ("pids.max", ("pids", "pids.max"), "33"),
        ("cpu.max", ("cpu", "cpu.cfs_quota_us"), quota),
        ("cpuset.cpus", ("cpuset", "cpuset.cpus"), "0"),
    ] {
        assert_eq!(limit(t, pid, v2, v1), value, "{v2}");
    }
    assert_eq!(limit(t, pid, "cpu.weight", ("cpu", "cpu.shares")), if v2 { "59" } else { "512" });
    let unit = container.unit();
    let told: &[(&str, &str)] = match v2 {
        true => &[("MemoryMax", "67108864"), ("CPUWeight", "59"), ("AllowedCPUs", "0")],
        false => &[("MemoryLimit", "67108864"), ("CPUShares", "512")],
    };
    for (name, value) in told.iter().chain(&[("TasksMax", "33"), ("CPUQuotaPerSecUSec", "160ms"), ("Delegate", "yes")])
    {
        assert_eq!(systemd::property(&unit, name), *value, "{name}");
    }
}

#[test]
fn limits_are_the_same_in_the_kernel_and_in_systemd_and_stay_when_it_is_loaded_or_executed_anew() {
    under_systemd(|t| {
        t.runb_only("runc 1.1 and crun write other values to some of the files");
        let container = with_limits(t.bundle().idle()).run_detached();
        limits_hold(t, &container);
        for verb in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
            renew(verb);
            limits_hold(t, &container);
            assert_eq!(container.status(), "running");
        }
        container.delete_force().ok();
    });
}

#[test]
fn what_systemd_has_a_property_for_on_version_2_is_the_same_in_the_kernel() {
    under_systemd(|t| {
        t.runb_only("runc 1.1 and crun know fewer properties");
        if t.mode() != Mode::V2 {
            t.skip("these are of version 2");
        }
        let container = t.bundle().idle().spec(|spec| {
            let resources = &mut spec["linux"]["resources"];
            resources["memory"] = json!({"limit": 64 << 20, "reservation": 32 << 20, "swap": 80 << 20});
            resources["cpu"] = json!({"idle": 1, "mems": "0", "period": 50_000, "quota": 10_000});
            resources["unified"] =
                json!({"memory.high": "60M", "memory.min": "8388608", "memory.oom.group": "1", "pids.max": "max"});
        });
        let container = container.run_detached();
        for verb in [None, Some("daemon-reload")] {
            verb.into_iter().for_each(renew);
            for (file, kernel, property, told) in [
                ("memory.low", "33554432", "MemoryLow", "33554432"),
                ("memory.high", "62914560", "MemoryHigh", "62914560"),
                ("memory.min", "8388608", "MemoryMin", "8388608"),
                ("memory.swap.max", "16777216", "MemorySwapMax", "16777216"),
                ("memory.oom.group", "1", "OOMPolicy", "kill"),
                ("cpu.idle", "1", "CPUWeight", "idle"),
                ("cpu.max", "10000 50000", "CPUQuotaPeriodUSec", "50ms"),
                ("cpuset.mems", "0", "AllowedMemoryNodes", "0"),
                ("pids.max", "max", "TasksMax", "infinity"),
            ] {
                let path = cgroup_dir(t, container.pid(), "").join(file);
                assert_eq!(fs::read_to_string(path).expect(file).trim(), kernel, "{file}");
                assert_eq!(systemd::property(&container.unit(), property), told, "{property}");
            }
        }
        container.delete_force().ok();
    });
}

/// Asks a running container which of the devices can be opened.
fn opens(container: &Container<'_>, devices: &[&str]) -> Vec<bool> {
    let can = |device: &&str| container.call("exec", &["sh", "-c", &format!(": < {device}")]).code == 0;
    devices.iter().map(can).collect()
}

#[test]
fn devices_stay_allowed_and_denied_when_systemd_is_loaded_anew() {
    under_systemd(|t| {
        let bundle = t.bundle().idle().spec(|spec| {
            spec["linux"]["devices"] = json!([
                {"path": "/dev/allowed", "type": "c", "major": 10, "minor": 237},
                {"path": "/dev/denied", "type": "c", "major": 10, "minor": 229},
            ]);
            spec["linux"]["resources"]["devices"] = json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rwm"},
            ]);
        });
        let container = bundle.run_detached();
        let devices = ["/dev/allowed", "/dev/denied", "/dev/null", "/dev/zero"];
        let expected = [true, false, true, true];
        assert_eq!(opens(&container, &devices), expected);
        for verb in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
            renew(verb);
            assert_eq!(opens(&container, &devices), expected, "after {verb}");
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_container_that_may_use_all_devices_but_one_is_not_given_that_one_by_systemd() {
    under_systemd(|t| {
        t.runb_only("runc refuses it on version 2");
        let bundle = t.bundle().idle().spec(|spec| {
            spec["linux"]["devices"] = json!([{"path": "/dev/denied", "type": "c", "major": 10, "minor": 237}]);
            spec["linux"]["resources"]["devices"] = json!([
                {"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "rw"},
            ]);
        });
        let container = bundle.run_detached();
        assert_eq!(opens(&container, &["/dev/denied", "/dev/null"]), [false, true]);
        renew("daemon-reload");
        assert!(!opens(&container, &["/dev/denied"])[0]);
        if t.mode() == Mode::V2 {
            assert_eq!(opens(&container, &["/dev/null"]), [true]);
        }
        container.delete_force().ok();
    });
}
#[test]
fn an_update_is_told_to_systemd_and_stays_when_it_is_loaded_anew() {
    under_systemd(|t| {
        t.runb_only("runc 1.1 and crun write other values to some of the files");
        let container = with_limits(t.bundle().idle()).run_detached();
        let flags = ["--memory", "96M", "--pids-limit", "44", "--cpu-quota", "25500", "--cpu-share", "1024"];
        container.call("update", &flags).ok();
        let v2 = t.mode() == Mode::V2;
        for _ in 0..2 {
            let pid = container.pid();
            for (v2_file, v1, value) in [
                ("memory.max", ("memory", "memory.limit_in_bytes"), "100663296"),
                ("pids.max", ("pids", "pids.max"), "44"),
                ("cpu.max", ("cpu", "cpu.cfs_quota_us"), if v2 { "26000 100000" } else { "26000" }),
                ("cpu.weight", ("cpu", "cpu.shares"), if v2 { "100" } else { "1024" }),
                // What the update does not speak of.
                ("cpuset.cpus", ("cpuset", "cpuset.cpus"), "0"),
            ] {
                assert_eq!(limit(t, pid, v2_file, v1), value, "{v2_file}");
            }
            let memory = if v2 { "MemoryMax" } else { "MemoryLimit" };
            let unit = container.unit();
            for (name, value) in [(memory, "100663296"), ("TasksMax", "44"), ("CPUQuotaPerSecUSec", "260ms")] {
                assert_eq!(systemd::property(&unit, name), value, "{name}");
            }
            renew("daemon-reload");
        }
        container.delete_force().ok();
    });
}

#[test]
fn devices_that_an_update_allows_or_denies_stay_so_when_systemd_is_loaded_anew() {
    under_systemd(|t| {
        t.runb_only("runc and crun do not take device rules of an update");
        let bundle = t.bundle().idle().spec(|spec| {
            spec["linux"]["devices"] = json!([{"path": "/dev/some", "type": "c", "major": 10, "minor": 237}]);
            spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
        });
        let container = bundle.run_detached();
        let file = t.dir().join("resources.json");
        for allow in [true, false] {
            let rules = json!({"devices": [
                {"allow": false, "access": "rwm"},
                {"allow": allow, "type": "c", "major": 10, "minor": 237, "access": "rwm"},
            ]});
            fs::write(&file, rules.to_string()).expect("write");
            container.call("update", &["--resources", &file.display().to_string()]).ok();
            assert_eq!(opens(&container, &["/dev/some", "/dev/null"]), [allow, true]);
            renew("daemon-reload");
            assert_eq!(opens(&container, &["/dev/some", "/dev/null"]), [allow, true], "after daemon-reload");
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_container_in_the_hosts_cgroup_namespace_leaves_the_options_of_the_hierarchy_as_they_are() {
    under_systemd(|t| {
        t.runb_only("a new mount of runc's takes nsdelegate away from the host");
        let options = || {
            let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
            mounts.lines().filter(|line| line.contains(" - cgroup2 ")).map(str::to_owned).collect::<Vec<_>>()
        };
        let before = options();
        let container = t.bundle().idle().without_namespace("cgroup").mount(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"],
        }));
        let container = container.run_detached();
        assert_eq!(options(), before);
        container.delete_force().ok();
    });
}
