//! `update`: other limits for a container that runs.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use runb_tests::*;

#[path = "update/flags.rs"]
mod flags;

/// `update --resources - ID` with `resources` on stdin.
fn update(t: &Test, id: &str, resources: &Value) -> Outcome {
    let file = t.dir().join(t.name("resources"));
    fs::write(&file, resources.to_string()).expect("write the resources");
    t.call(["update", "--resources", file.to_str().expect("text"), id])
}

fn with<'t>(t: &'t Test, resources: Value) -> Bundle<'t> {
    t.bundle().idle().spec(|spec| {
        for (key, value) in resources.as_object().expect("an object") {
            spec["linux"]["resources"][key] = value.clone();
        }
    })
}

/// The directory of a version 1 controller of the container.
fn dir(t: &Test, controller: &str, id: &str) -> PathBuf {
    t.controller_dir(controller).expect("the hierarchy").join(id)
}

/// Skips where the machine has version 2 alone: the files are those of version 1.
fn of_version_1(t: &Test) {
    if t.mode() == Mode::V2 {
        t.skip("it is of version 1");
    }
}

#[test]
fn flags_change_what_they_name_and_nothing_else() {
    in_modes(&[Mode::V1, Mode::Hybrid], |t| {
        of_version_1(t);
        let container = with(
            t,
            json!({"memory": {"limit": 33554432, "reservation": 16777216}, "pids": {"limit": 20},
            "cpu": {"shares": 100, "quota": 500000, "period": 1000000}}),
        )
        .run_detached();
        let value = |controller: &str, file: &str| t.cgroup_file(controller, container.id(), file);
        let call = |args: &[&str]| drop(t.call([&["update"], args, &[container.id()]].concat()).ok());
        call(&["--memory", "50M"]);
        assert_eq!(value("memory", "memory.limit_in_bytes"), "52428800");
        assert_eq!(value("memory", "memory.soft_limit_in_bytes"), "16777216");
        call(&["--cpu-period", "900000"]);
        assert_eq!(
            (value("cpu", "cpu.cfs_quota_us"), value("cpu", "cpu.cfs_period_us")),
            ("500000".into(), "900000".into())
        );
        call(&["--cpu-quota", "-1", "--cpu-share", "200"]);
        assert_eq!((value("cpu", "cpu.cfs_quota_us"), value("cpu", "cpu.shares")), ("-1".into(), "200".into()));
        call(&["--pids-limit", "7", "--cpuset-cpus", "0"]);
        assert_eq!((value("pids", "pids.max"), value("cpuset", "cpuset.cpus")), ("7".into(), "0".into()));
        call(&["--memory-reservation", "33554432"]);
        assert_eq!(value("memory", "memory.soft_limit_in_bytes"), "33554432");
        assert_eq!(value("memory", "memory.limit_in_bytes"), "52428800");
        container.delete_force().ok();
    });
}

#[test]
fn memory_and_swap_go_up_and_down_together() {
    in_modes(V1, |t| {
        of_version_1(t);
        t.needs_controller("memory");
        let container = with(t, json!({"memory": {"limit": 41943040, "swap": 52428800}})).run_detached();
        let both = || {
            ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
                .map(|file| t.cgroup_file("memory", container.id(), file).parse::<u64>().expect("a number") >> 20)
        };
        for (limit, swap, found) in [("80M", "100M", [80, 100]), ("30M", "31M", [30, 31]), ("90M", "90M", [90, 90])] {
            t.call(["update", "--memory", limit, "--memory-swap", swap, container.id()]).ok();
            assert_eq!(both(), found);
        }
        // What was set of swap holds for a memory limit that is given alone.
        if !t.is(&[Kind::Crun]) {
            t.call(["update", "--memory", "95M", container.id()]).fails_with(&["memory"]);
        }
        assert_eq!(both(), [90, 90]);
        t.call(["update", "--memory", "-1", container.id()]).ok();
        assert!(both()[1] > 1 << 40, "{:?}", both());
        container.delete_force().ok();
    });
}

#[test]
fn engines_send_json_on_stdin_and_zeros_for_what_they_do_not_mean() {
    in_modes(&[Mode::V1, Mode::Hybrid], |t| {
        of_version_1(t);
        let container = with(t, json!({"memory": {"limit": 33554432}, "cpu": {"shares": 100}, "pids": {"limit": 20}}))
            .run_detached();
        let mut call = t.command(["update", "--resources", "-", container.id()]);
        let mut call = call.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("start update");
        let docker = json!({"blockIO": {"weight": 0}, "cpu": {"shares": 0, "period": 0, "quota": 0, "cpus": "", "mems": ""},
            "memory": {"limit": 67108864, "reservation": 0}});
        call.stdin.take().expect("stdin").write_all(docker.to_string().as_bytes()).expect("write");
        assert!(call.wait().expect("the end of update").success());
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.limit_in_bytes"), "67108864");
        assert_eq!(t.cgroup_file("cpu", container.id(), "cpu.shares"), "100");
        if !t.is(&[Kind::Crun]) {
            assert_eq!(t.cgroup_file("pids", container.id(), "pids.max"), "20");
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_write_that_fails_puts_back_what_was_written_before_it() {
    in_modes(&[Mode::V1, Mode::Hybrid], |t| {
        of_version_1(t);
        t.runb_only("peers write back what they know, not what was there");
        let container = with(t, json!({"memory": {"limit": 67108864}, "pids": {"limit": 20}})).run_detached();
        // Somebody else has changed it since.
        fs::write(dir(t, "pids", container.id()).join("pids.max"), "33").expect("write");
        let change = json!({"memory": {"limit": 50331648, "reservation": 1048576}, "cpu": {"shares": 777, "cpus": "0"},
            "pids": {"limit": 9}, "blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 77, "rate": 5}]}});
        update(t, container.id(), &change)
            .fails_with(&["linux.resources.blockIO.throttleReadBpsDevice[0]: write \"4095:77 5\"", "ENODEV"]);
        let value = |controller: &str, file: &str| t.cgroup_file(controller, container.id(), file);
        assert_eq!(value("memory", "memory.limit_in_bytes"), "67108864");
        assert!(value("memory", "memory.soft_limit_in_bytes").len() > 15);
        assert_eq!(value("cpu", "cpu.shares"), "1024");
        assert_ne!(value("cpuset", "cpuset.cpus"), "0");
        assert_eq!(value("pids", "pids.max"), "33");
        container.delete_force().ok();
    });
}

#[test]
fn a_memory_limit_below_what_is_in_use_is_refused_with_both_numbers() {
    in_modes(&[Mode::V1, Mode::Hybrid], |t| {
        of_version_1(t);
        t.needs_controller("memory");
        let bundle = with(t, json!({"memory": {"limit": 134217728}}));
        let bundle = bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}));
        let bundle =
            bundle.sh("dd if=/dev/zero of=/tmp/big bs=1M count=32 2>/dev/null; echo >/share/ready; exec sleep 86400");
        let mut ready = t.fifo(&bundle, "ready");
        let container = bundle.run_detached();
        ready.line();
        let outcome = t.call(["update", "--memory", "8M", container.id()]);
        outcome.fails_with(if t.is(&[Kind::Runb]) {
            &["linux.resources.memory.limit: ", "bytes are in use", "write \"8388608\"", "EBUSY"]
        } else {
            &[]
        });
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.limit_in_bytes"), "134217728");
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn on_version_2_a_limit_that_does_not_fit_kills_nobody() {
    in_modes(V2, |t| {
        t.needs_controller("memory");
        let bundle = with(t, json!({"memory": {"limit": 134217728}}));
        let bundle = bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}));
        let bundle =
            bundle.sh("dd if=/dev/zero of=/tmp/big bs=1M count=32 2>/dev/null; echo >/share/ready; exec sleep 86400");
        let mut ready = t.fifo(&bundle, "ready");
        let container = bundle.run_detached();
        ready.line();
        t.runb_only("runc lets the kernel kill");
        t.call(["update", "--memory", "8M", "--memory-swap", "8M", container.id()])
            .fails_with(&["linux.resources.memory.limit: rejecting memory limit 8388608 <= usage"]);
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.max"), "134217728");
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.high"), "max");
        assert_eq!(container.status(), "running");
        t.call(["update", "--memory", "64M", container.id()]).ok();
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.max"), "67108864");
        assert_eq!(t.cgroup_file("memory", container.id(), "memory.high"), "max");
        container.delete_force().ok();
    });
}

#[test]
fn huge_pages_and_files_of_version_2_are_changed_and_put_back() {
    in_modes(V2, |t| {
        t.runb_only("peers put nothing back");
        t.needs_controller("hugetlb");
        let container = with(t, json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 8388608}]})).run_detached();
        let value = |file: &str| t.cgroup_file("", container.id(), file);
        let change =
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}], "unified": {"cgroup.max.depth": "5"}});
        update(t, container.id(), &change).ok();
        let found = (value("hugetlb.2MB.max"), value("hugetlb.2MB.rsvd.max"), value("cgroup.max.depth"));
        assert_eq!(found, ("4194304".into(), "4194304".into(), "5".into()));
        let change =
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}], "unified": {"cgroup.max.depth": "x"}});
        update(t, container.id(), &change).fails_with(&["linux.resources.unified[\"cgroup.max.depth\"]: ", "EINVAL"]);
        let found = (value("hugetlb.2MB.max"), value("hugetlb.2MB.rsvd.max"), value("cgroup.max.depth"));
        assert_eq!(found, ("4194304".into(), "4194304".into(), "5".into()));
        container.delete_force().ok();
    });
}

/// A container whose workload says on each line of its fifo whether it may open the device 10:237, and /dev/null.
fn opens_devices<'t>(t: &'t Test, rules: Value) -> (Container<'t>, wait::Fifo, wait::Fifo) {
    let script = "exec 3<>/share/ask; mknod /tmp/d c 10 237
        while read line <&3; do
            case $( (exec 4</tmp/d) 2>&1 ) in *'not permitted'*) a=no;; *) a=yes;; esac
            case $( (exec 4</dev/null) 2>&1 ) in *'not permitted'*) b=no;; *) b=yes;; esac
            echo $a $b >/share/answer
        done";
    let capabilities = json!(["CAP_MKNOD", "CAP_KILL"]);
    let sets = json!({"bounding": capabilities, "permitted": capabilities, "effective": capabilities});
    let bundle = with(t, json!({ "devices": rules }))
        .set("/process/capabilities", sets)
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}))
        .sh(script);
    let (ask, answer) = (t.fifo(&bundle, "ask"), t.fifo(&bundle, "answer"));
    (bundle.run_detached(), ask, answer)
}

#[test]
fn device_rules_are_replaced_as_a_whole() {
    in_modes(ALL, |t| {
        t.runb_only("runc leaves the devices alone, crun adds to them");
        let deny = json!([{"allow": false, "access": "rwm"}]);
        let rule = |allow: bool| json!({"allow": allow, "type": "c", "major": 10, "minor": 237, "access": "rw"});
        let allow = json!([{"allow": false, "access": "rwm"}, rule(true)]);
        let all = json!([{"allow": true, "access": "rwm"}]);
        let (container, _ask, mut answer) = opens_devices(t, deny.clone());
        let path = container.bundle().share_dir().join("ask");
        let mut tries = || {
            fs::write(&path, "x\n").expect("ask");
            answer.line()
        };
        assert_eq!(tries(), "no yes");
        for (rules, expected) in [
            (&allow, "yes yes"),
            (&deny, "no yes"),
            (&all, "yes yes"),
            (&allow, "yes yes"),
            (&all, "yes yes"),
            (&deny, "no yes"),
        ] {
            update(t, container.id(), &json!({ "devices": rules })).ok();
            assert_eq!(tries(), expected, "{rules}");
        }
        // The same once more, as engines send it: what somebody else has allowed since stays.
        if t.mode() != Mode::V2 {
            fs::write(dir(t, "devices", container.id()).join("devices.allow"), "c 10:237 rw").expect("allow");
            update(t, container.id(), &json!({"devices": deny, "pids": {"limit": 50}})).ok();
            assert_eq!(tries(), "yes yes");
        }
        // What cannot be is refused before anything changes.
        let hole = json!([{"allow": true, "type": "c", "major": 10, "access": "rw"}, rule(false)]);
        if t.mode() != Mode::V2 {
            update(t, container.id(), &json!({ "devices": hole })).fails_with(&["linux.resources.devices[1]: "]);
        } else {
            update(t, container.id(), &json!({ "devices": hole })).ok();
            assert_eq!(tries(), "no yes");
        }
        container.delete_force().ok();
    });
}

#[test]
fn in_a_user_namespace_of_somebody_elses_the_rules_for_devices_are_left_alone_and_the_rest_is_set() {
    in_modes(ALL, |t| {
        t.runb_only("the peers look for rights that they have not there");
        let (controller, mut resources, name, value) = match t.mode() {
            Mode::V2 => {
                let limits = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]});
                ("hugetlb", limits, "hugetlb.2MB.max", "4194304")
            }
            _ => ("pids", json!({"pids": {"limit": 77}}), "pids.max", "77"),
        };
        t.needs_controller(controller);
        let zero = json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"});
        let container = with(t, json!({"devices": [zero]})).run_detached();
        let file = t.dir().join(t.name("resources"));
        resources["devices"] = json!([{"allow": false, "access": "rwm"}]);
        fs::write(&file, resources.to_string()).expect("write the resources");
        let mut command = t.in_a_user_namespace(["update", "--resources"]);
        command.arg(&file).arg(container.id());
        t.finish(command).ok();
        assert_eq!(t.cgroup_file(controller, container.id(), name), value);
        container.call("exec", &["head", "-c1", "/dev/zero"]).ok();
        container.delete_force().ok();
    });
}

#[test]
fn no_access_that_both_lists_have_is_ever_denied() {
    in_modes(ALL, |t| {
        t.runb_only("runc leaves the devices alone");
        let bundle =
            t.bundle().spec(|spec| spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]));
        let bundle = bundle
            .sh("echo >/share/ready; while :; do : </dev/null || echo denied; : </dev/zero || echo denied; done 2>&1");
        let mut ready = t.fifo(&bundle, "ready");
        let container = bundle.run_detached();
        ready.line();
        for minor in 0..30 {
            let rules = json!([{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 10, "minor": minor, "access": "rw"}]);
            update(t, container.id(), &json!({ "devices": rules })).ok();
        }
        assert_eq!(container.stdout(), "");
        container.delete_force().ok();
    });
}

#[test]
fn a_paused_container_is_updated_and_stays_paused() {
    in_modes(ALL, |t| {
        let container = with(t, json!({})).run_detached();
        container.call("pause", &[]).ok();
        let change = match t.mode() {
            Mode::V2 => json!({"unified": {"cgroup.max.depth": "9"}}),
            _ => json!({"pids": {"limit": 12}}),
        };
        update(t, container.id(), &change).ok();
        assert_eq!(container.status(), "paused");
        match t.mode() {
            Mode::V2 => assert_eq!(t.cgroup_file("", container.id(), "cgroup.max.depth"), "9"),
            _ => assert_eq!(t.cgroup_file("pids", container.id(), "pids.max"), "12"),
        }
        container.call("resume", &[]).ok();
        container.delete_force().ok();
    });
}

#[test]
fn a_created_container_is_updated_and_a_stopped_one_is_not() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun 1.8 takes a stopped one");
        }
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        let nothing = json!({});
        update(t, container.id(), &nothing).ok();
        container.start().ok();
        container.reap(pid);
        update(t, container.id(), &nothing).fails_with(&["not running"]);
        container.delete().ok();
        update(t, "nobody", &nothing).fails_with(&["does not exist"]);
    });
}

#[test]
fn what_is_wrong_is_refused_by_its_place() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("each runtime has its own words");
        let container = t.bundle().idle().run_detached();
        let refused = |resources: Value, texts: &[&str]| drop(update(t, container.id(), &resources).fails_with(texts));
        refused(json!({"cpu": {"shares": "many"}}), &["cpu.shares: invalid type"]);
        refused(json!({"memory": {"limit": 9, "swap": 5}}), &["linux.resources.memory.swap: "]);
        refused(json!({"blockIO": {"weight": 5}}), &["linux.resources.blockIO.weight"]);
        t.call(["update", "--resources", "/nosuch", container.id()]).fails_with(&["/nosuch", "ENOENT"]);
        t.call(["update", "--resources", "/dev/zero", container.id()]).fails_with(&["no regular file"]);
        t.call(["update", "--resources", "-", "--memory", "5M", container.id()]).fails_with(&["no other limits"]);
        t.call(["update", "--l3-cache-schema", "L3:0=f", container.id()]).fails_with(&["Intel RDT"]);
        container.delete_force().ok();
    });
}

#[test]
fn the_limits_of_version_2_are_changed_and_put_back() {
    in_modes(V2, |t| {
        t.runb_only("peers put nothing back");
        ["cpu", "memory", "pids", "cpuset", "io"].iter().for_each(|controller| t.needs_controller(controller));
        let container = with(
            t,
            json!({"memory": {"limit": 67108864, "swap": 67108864}, "pids": {"limit": 20},
            "cpu": {"quota": 50000, "period": 100000}}),
        )
        .run_detached();
        let values = || {
            ["memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpu.weight", "cpuset.cpus"]
                .map(|file| t.cgroup_file("", container.id(), file))
        };
        let call = |args: &[&str]| drop(t.call([&["update"], args, &[container.id()]].concat()).ok());
        call(&["--memory", "50M", "--memory-swap", "80M", "--pids-limit", "9", "--cpu-quota", "20000"]);
        assert_eq!(values(), ["52428800", "31457280", "9", "20000 100000", "100", ""]);
        call(&["--cpu-period", "50000", "--cpu-share", "2048", "--cpuset-cpus", "0"]);
        let set = ["52428800", "31457280", "9", "20000 50000", "174", "0"];
        assert_eq!(values(), set);
        let change = json!({"memory": {"limit": 40000000, "swap": 50000000}, "pids": {"limit": 5}, "cpu": {"shares": 100,
            "quota": 1000, "cpus": "0"}, "unified": {"io.max": "4095:77 rbps=5"}});
        update(t, container.id(), &change).fails_with(&["linux.resources.unified[\"io.max\"]: ", "ENODEV"]);
        assert_eq!(values(), set);
        container.delete_force().ok();
    });
}
