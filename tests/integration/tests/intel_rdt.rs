//! linux.intelRdt, on a filesystem that behaves like resctrl: who is in which group when, what is written, what goes with the
//! container, `update` and `events`.

use runb_tests::resctrl::Resctrl;
use runb_tests::*;

/// A resctrl for one test.
fn mounted(t: &Test) -> Resctrl {
    t.runb_only("peers take nothing but the kernel's resctrl");
    let (backing, place) = (t.dir().join("backing"), t.dir().join("resctrl"));
    for dir in [&backing, &place] {
        std::fs::create_dir(dir).expect("mkdir");
    }
    Resctrl::mount(&backing, &place).unwrap_or_else(|_| t.skip("no FUSE here"))
}

fn with(t: &Test, rdt: Value) -> Bundle<'_> {
    t.bundle().set("/linux/intelRdt", rdt).idle()
}

#[test]
fn a_group_of_the_containers_own_has_its_id_its_init_and_its_schemata_and_goes_with_it() {
    in_modes(LIFECYCLE, |t| {
        let resctrl = mounted(t);
        let rdt = json!({"l3CacheSchema": "L3:0=7f0", "memBwSchema": "MB:1=20", "schemata": ["L3:1=1f"]});
        let container = with(t, rdt).create();
        let id = container.id().to_owned();
        assert_eq!(resctrl.tasks(&id), [container.pid()]);
        assert_eq!(resctrl.schemata(&id), "    MB:0=100;1=20\n    L3:0=7f0;1=1f\n");
        container.start().ok();
        container.delete_force().ok();
        assert!(!resctrl.has(&id));
        resctrl.end();
    });
}

#[test]
fn an_exec_is_in_the_groups_of_the_container() {
    in_modes(LIFECYCLE, |t| {
        let resctrl = mounted(t);
        let container = with(t, json!({"enableMonitoring": true})).create();
        container.start().ok();
        let pid_file = t.dir().join("exec.pid");
        let file = pid_file.to_str().expect("a path");
        t.call(["exec", "--detach", "--pid-file", file, container.id(), "sleep", "1000"]).ok();
        let pid: i32 = std::fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a number");
        for group in [container.id().to_owned(), format!("{0}/mon_groups/{0}", container.id())] {
            let tasks = resctrl.tasks(&group);
            assert!(tasks.contains(&container.pid()), "{group}: {tasks:?}");
            // Who writes is the process itself, or who makes its twin: both are in the group then.
            assert!(tasks.contains(&pid) || tasks.len() == 2, "{group}: {tasks:?}");
        }
        let id = container.id().to_owned();
        // The first process of a pid namespace does not end before the others are gone.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).expect("kill");
        container.reap(pid);
        container.delete_force().ok();
        assert!(!resctrl.has(&id));
        resctrl.end();
    });
}

#[test]
fn a_group_that_closid_names_stays_and_must_have_the_schemata_if_it_is_there() {
    in_modes(V2, |t| {
        let resctrl = mounted(t);
        let gold = |more: Value| {
            let mut rdt = json!({"closID": "gold"});
            rdt.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            rdt
        };
        with(t, gold(json!({}))).try_create().fails_with(&["linux.intelRdt.closID: clos dir not accessible"]);
        with(t, gold(json!({"schemata": ["MB:0=20", "L3:0=f"]}))).create().delete_force().ok();
        assert_eq!(resctrl.schemata("gold"), "    MB:0=20;1=100\n    L3:0=f;1=7ff\n");
        // As it is, and however it is written.
        for more in [json!({}), json!({"memBwSchema": "MB:0=20"}), json!({"l3CacheSchema": "L3:1=7FF;0=00f"})] {
            let container = with(t, gold(more)).create();
            assert!(resctrl.tasks("gold").contains(&container.pid()));
            container.delete_force().ok();
        }
        let texts = ["linux.intelRdt.memBwSchema: \"MB:0=30\" is not what the group closID has: \"MB:0=20;1=100\""];
        with(t, gold(json!({"memBwSchema": "MB:0=30"}))).try_create().fails_with(&texts);
        assert_eq!(resctrl.schemata("gold"), "    MB:0=20;1=100\n    L3:0=f;1=7ff\n");
        with(t, json!({"closID": "/"})).create().delete_force().ok();
        assert!(resctrl.has("gold"));
        resctrl.end();
    });
}

#[test]
fn a_monitoring_group_goes_with_the_container_and_the_group_above_it_stays() {
    in_modes(V2, |t| {
        let resctrl = mounted(t);
        resctrl.make("gold");
        let container = with(t, json!({"closID": "gold", "enableMonitoring": true})).create();
        let group = format!("gold/mon_groups/{}", container.id());
        assert_eq!(resctrl.tasks(&group), [container.pid()]);
        container.delete_force().ok();
        assert!(resctrl.has("gold") && !resctrl.has(&group));
        resctrl.end();
    });
}

#[test]
fn a_launch_that_fails_leaves_no_group() {
    in_modes(LIFECYCLE, |t| {
        let resctrl = mounted(t);
        for rdt in [json!({"enableMonitoring": true}), json!({"closID": "gold", "schemata": ["MB:0=20"]})] {
            let bundle = t.bundle().set("/linux/intelRdt", rdt).args(["/no/such/command"]);
            bundle.try_create().fails_with(&["no such file"]);
            assert!(!resctrl.has(bundle.id()) && !resctrl.has("gold"));
        }
        // The kernel's own words.
        let bundle = with(t, json!({"schemata": ["L2:0=f"]}));
        let texts = [
            "linux.intelRdt.schemata[0]: write \"L2:0=f\\n\" to ",
            "EINVAL",
            "last_cmd_status: Unknown or unsupported resource name 'L2'",
        ];
        bundle.try_create().fails_with(&texts);
        assert!(!resctrl.has(bundle.id()));
        resctrl.end();
    });
}

#[test]
fn a_create_that_was_killed_leaves_no_group_after_its_delete() {
    in_modes(V2, |t| {
        let resctrl = mounted(t);
        let kill = json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]});
        let bundle = with(t, json!({"enableMonitoring": true})).hook("createRuntime", kill);
        assert!(bundle.try_create().code != 0 && resctrl.has(bundle.id()));
        t.call(["delete", "--force", bundle.id()]).ok();
        assert!(!resctrl.has(bundle.id()));
        resctrl.end();
    });
}

#[test]
fn update_writes_other_schemata_or_nothing_at_all() {
    in_modes(&[Mode::V1], |t| {
        let resctrl = mounted(t);
        let container = with(t, json!({})).create();
        container.start().ok();
        let id = container.id();
        t.call(["update", "--l3-cache-schema", "L3:0=f", "--mem-bw-schema", "MB:1=30", id]).ok();
        assert_eq!(resctrl.schemata(id), "    MB:0=100;1=30\n    L3:0=f;1=7ff\n");
        let outcome = t.call(["update", "--pids-limit", "77", "--mem-bw-schema", "MB:7=30", id]);
        outcome.fails_with(&["--mem-bw-schema: write \"MB:7=30\\n\"", "last_cmd_status"]);
        assert_eq!(resctrl.schemata(id), "    MB:0=100;1=30\n    L3:0=f;1=7ff\n");
        let stats = t.call(["events", "--stats", id]).ok().json();
        assert_ne!(stats["data"]["pids"]["limit"], 77, "{stats}");
        // The kernel takes it, but the state cannot be written.
        let folder = t.root().join(id);
        let mount = |args: &[&str]| {
            assert!(std::process::Command::new("mount").args(args).arg(&folder).status().expect("mount").success());
        };
        mount(&["--bind", &folder.display().to_string()]);
        mount(&["-o", "remount,bind,ro"]);
        t.call(["update", "--l3-cache-schema", "L3:0=3", id]).fails_with(&["EROFS"]);
        assert_eq!(resctrl.schemata(id), "    MB:0=100;1=30\n    L3:0=f;1=7ff\n");
        assert!(std::process::Command::new("umount").arg(&folder).status().expect("umount").success());
        container.delete_force().ok();
        let container = t.bundle().idle().create();
        let outcome = t.call(["update", "--l3-cache-schema", "L3:0=f", container.id()]);
        outcome.fails_with(&["updating a non-existent Intel RDT configuration is not supported"]);
        container.delete_force().ok();
        resctrl.end();
    });
}

#[test]
fn events_have_the_schemata_and_what_the_monitoring_group_counts() {
    in_modes(V2, |t| {
        let resctrl = mounted(t);
        let container = with(t, json!({"enableMonitoring": true, "memBwSchema": "MB:0=50"})).create();
        container.start().ok();
        let stats = t.call(["events", "--stats", container.id()]).ok().json();
        let expected = json!({
            "l3_cache_info": {"cbm_mask": "7ff", "min_cbm_bits": 1, "num_closids": 16},
            "l3_cache_schema_root": "L3:0=7ff;1=7ff",
            "l3_cache_schema": "L3:0=7ff;1=7ff",
            "mem_bw_info": {"bandwidth_gran": 10, "delay_linear": 1, "min_bandwidth": 10, "num_closids": 8},
            "mem_bw_schema_root": "MB:0=100;1=100",
            "mem_bw_schema": "MB:0=50;1=100",
            "schemata": ["MB:0=50;1=100", "L3:0=7ff;1=7ff"],
            "mbm_stats": [
                {"mbm_total_bytes": 9000, "mbm_local_bytes": 5000}, {"mbm_total_bytes": 9001, "mbm_local_bytes": 5001},
            ],
            "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 4097}],
        });
        assert_eq!(stats["data"]["intel_rdt"], expected);
        container.delete_force().ok();
        resctrl.end();
    });
}

#[test]
fn without_a_resctrl_it_is_refused_and_without_the_field_none_is_touched() {
    in_modes(V2, |t| {
        let bundle = with(t, json!({"closID": "gold"}));
        t.runb_only("peers have words of their own");
        let texts = ["linux.intelRdt: intelRdt is specified in config, but Intel RDT is not enabled"];
        bundle.try_create().fails_with(&texts);
        let resctrl = mounted(t);
        let container = t.bundle().idle().create();
        assert_eq!(resctrl.tasks(""), Vec::<i32>::new());
        let stats = t.call(["events", "--stats", container.id()]).ok().json();
        assert_eq!(stats["data"]["intel_rdt"], json!({}));
        container.delete_force().ok();
        resctrl.end();
    });
}
