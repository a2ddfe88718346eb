//! Every field of linux.resources: what the kernel has then, or why not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use runb_tests::*;

/// A field, and what comes of it on version 1 and on version 2.
struct Row {
    resources: fn() -> Value,
    v1: Comes,
    v2: Comes,
}

/// What comes of a field.
enum Comes {
    /// The controller and its files with their values; without the controller it is refused as [`Comes::Refused`].
    Set(&'static str, &'static [(&'static str, &'static str)]),
    /// It is refused, with the place in the message.
    Refused(&'static str),
}

use Comes::{Refused, Set};

/// The number of a disk, as `MAJOR:MINOR`.
fn disk() -> (u64, u64) {
    let disks = fs::read_dir("/sys/block").expect("the disks").filter_map(Result::ok);
    let sized = disks
        .map(|entry| entry.path())
        .filter(|path| fs::read_to_string(path.join("size")).is_ok_and(|size| size.trim() != "0"));
    let number = sized.filter_map(|path| fs::read_to_string(path.join("dev")).ok()).next().expect("a disk");
    let (major, minor) = number.trim().split_once(':').expect("two numbers");
    (major.parse().expect("a number"), minor.parse().expect("a number"))
}

fn throttle(field: &str, rate: u64) -> Value {
    let (major, minor) = disk();
    json!({"blockIO": {field: [{"major": major, "minor": minor, "rate": rate}]}})
}

const TABLE: &[Row] = &[
    Row {
        resources: || json!({"memory": {"limit": 67108864, "swap": 67108864}}),
        v1: Set("memory", &[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "67108864")]),
        v2: Set("memory", &[("memory.max", "67108864"), ("memory.swap.max", "0")]),
    },
    Row {
        resources: || json!({"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432}}),
        v1: Set("memory", &[("memory.memsw.limit_in_bytes", "134217728"), ("memory.soft_limit_in_bytes", "33554432")]),
        v2: Set("memory", &[("memory.swap.max", "67108864"), ("memory.low", "33554432")]),
    },
    Row {
        resources: || json!({"memory": {"swappiness": 7}}),
        v1: Set("memory", &[("memory.swappiness", "7")]),
        v2: Refused("linux.resources.memory.swappiness"),
    },
    Row {
        resources: || json!({"memory": {"disableOOMKiller": true}}),
        v1: Set("memory", &[("memory.oom_control", "oom_kill_disable 1")]),
        v2: Refused("linux.resources.memory.disableOOMKiller"),
    },
    Row {
        resources: || json!({"memory": {"kernelTCP": 1048576}}),
        v1: Set("memory", &[("memory.kmem.tcp.limit_in_bytes", "1048576")]),
        v2: Refused("linux.resources.memory.kernelTCP"),
    },
    Row {
        resources: || json!({"memory": {"useHierarchy": false}}),
        v1: Refused("linux.resources.memory.useHierarchy"),
        v2: Refused("linux.resources.memory.useHierarchy"),
    },
    Row {
        resources: || json!({"cpu": {"shares": 2048, "quota": 50000, "period": 100000, "burst": 20000}}),
        v1: Set("cpu", &[("cpu.shares", "2048"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_burst_us", "20000")]),
        v2: Set("cpu", &[("cpu.weight", "174"), ("cpu.max", "50000 100000"), ("cpu.max.burst", "20000")]),
    },
    Row {
        resources: || json!({"cpu": {"period": 50000}}),
        v1: Set("cpu", &[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "-1")]),
        v2: Set("cpu", &[("cpu.max", "max 50000")]),
    },
    Row {
        resources: || json!({"cpu": {"idle": 1}}),
        v1: Set("cpu", &[("cpu.idle", "1")]),
        v2: Set("cpu", &[("cpu.idle", "1")]),
    },
    Row {
        resources: || json!({"cpu": {"realtimeRuntime": 4000000000_i64}}),
        v1: Refused("linux.resources.cpu.realtimeRuntime"),
        v2: Refused("linux.resources.cpu.realtimeRuntime"),
    },
    Row {
        resources: || json!({"cpu": {"cpus": "0", "mems": "0"}}),
        v1: Set("cpuset", &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
        v2: Set("cpuset", &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
    },
    Row {
        resources: || json!({"pids": {"limit": 77}}),
        v1: Set("pids", &[("pids.max", "77")]),
        v2: Set("pids", &[("pids.max", "77")]),
    },
    Row {
        resources: || json!({"pids": {"limit": -1}}),
        v1: Set("pids", &[("pids.max", "max")]),
        v2: Set("pids", &[("pids.max", "max")]),
    },
    Row {
        resources: || json!({"pids": {"limit": 0}}),
        v1: Set("pids", &[("pids.max", "1")]),
        v2: Set("pids", &[("pids.max", "1")]),
    },
    Row {
        resources: || json!({"blockIO": {"weight": 500}}),
        v1: Set("blkio", &[("blkio.bfq.weight", "500")]),
        v2: Set("io", &[("io.bfq.weight", "500")]),
    },
    Row {
        resources: || json!({"blockIO": {"leafWeight": 500}}),
        v1: Refused("linux.resources.blockIO.leafWeight"),
        v2: Refused("linux.resources.blockIO.leafWeight"),
    },
    Row {
        resources: || throttle("throttleReadBpsDevice", 1048576),
        v1: Set("blkio", &[("blkio.throttle.read_bps_device", " 1048576")]),
        v2: Set("io", &[("io.max", "rbps=1048576")]),
    },
    Row {
        resources: || throttle("throttleWriteBpsDevice", 2097152),
        v1: Set("blkio", &[("blkio.throttle.write_bps_device", " 2097152")]),
        v2: Set("io", &[("io.max", "wbps=2097152")]),
    },
    Row {
        resources: || throttle("throttleReadIOPSDevice", 111),
        v1: Set("blkio", &[("blkio.throttle.read_iops_device", " 111")]),
        v2: Set("io", &[("io.max", "riops=111")]),
    },
    Row {
        resources: || throttle("throttleWriteIOPSDevice", 222),
        v1: Set("blkio", &[("blkio.throttle.write_iops_device", " 222")]),
        v2: Set("io", &[("io.max", "wiops=222")]),
    },
    Row {
        resources: || json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}),
        v1: Set(
            "hugetlb",
            &[("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304")],
        ),
        v2: Set("hugetlb", &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")]),
    },
    Row {
        resources: || json!({"network": {"classID": 1048577}}),
        v1: Set("net_cls", &[("net_cls.classid", "1048577")]),
        v2: Refused("linux.resources.network.classID"),
    },
    Row {
        resources: || json!({"network": {"priorities": [{"name": "lo", "priority": 3}]}}),
        v1: Set("net_prio", &[("net_prio.ifpriomap", "lo 3")]),
        v2: Refused("linux.resources.network.priorities"),
    },
    Row {
        resources: || json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
        v1: Refused("linux.resources.rdma[\"mlx5_1\"]"),
        v2: Refused("linux.resources.rdma[\"mlx5_1\"]"),
    },
    Row {
        resources: || json!({"unified": {"cgroup.max.depth": "4"}}),
        v1: Refused("linux.resources.unified"),
        v2: Set("", &[("cgroup.max.depth", "4")]),
    },
    Row {
        resources: || json!({"unified": {"nosuch.max": "4"}}),
        v1: Refused("linux.resources.unified"),
        v2: Refused("linux.resources.unified[\"nosuch.max\"]"),
    },
];

/// The controllers that this mode has.
fn has_controller(t: &Test, controller: &str) -> bool {
    match t.mode() {
        Mode::V2 => {
            let all = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("the controllers");
            controller.is_empty() || all.split_whitespace().any(|name| name == controller)
        }
        _ => t.controller_dir(controller).is_some(),
    }
}

fn with<'t>(t: &'t Test, resources: &Value) -> Bundle<'t> {
    t.bundle().idle().spec(|spec| {
        for (key, value) in resources.as_object().expect("an object") {
            spec["linux"]["resources"][key] = value.clone();
        }
    })
}

#[test]
fn each_field_is_in_the_kernel_or_refused_by_its_place() {
    in_modes(ALL, |t| {
        t.runb_only("peers ignore some in silence");
        for row in TABLE {
            let resources = (row.resources)();
            match if t.mode() == Mode::V2 { &row.v2 } else { &row.v1 } {
                Set(controller, files) if has_controller(t, controller) => {
                    let container = with(t, &resources).create();
                    for &(mut file, mut value) in *files {
                        // Without BFQ another file serves.
                        if file == "io.bfq.weight"
                            && !std::path::Path::new("/sys/fs/cgroup").join(container.id()).join(file).exists()
                        {
                            (file, value) = ("io.weight", "4950");
                        }
                        let found = t.cgroup_file(controller, container.id(), file);
                        assert!(
                            found == *value || found.lines().any(|line| line.contains(value)),
                            "{resources}: {file} has {found:?}"
                        );
                    }
                    container.delete_force().ok();
                }
                Set(controller, _) => {
                    let texts = ["linux.resources.", &format!("the {controller} controller is not")];
                    with(t, &resources).try_create().fails_with(&texts);
                }
                Refused(place) => drop(with(t, &resources).try_create().fails_with(&[place])),
            }
        }
    });
}

#[test]
fn a_limit_that_the_kernel_takes_and_forgets_is_refused() {
    in_modes(V1, |t| {
        if t.mode() == Mode::V2 {
            t.skip("it is of version 1");
        }
        t.runb_only("runc leaves it out with a warning");
        t.needs_controller("memory");
        let outcome = with(t, &json!({"memory": {"kernel": 1048576}})).try_create();
        if outcome.code != 0 {
            outcome.fails_with(&["linux.resources.memory.kernel: this kernel does not limit kernel memory"]);
        } else {
            t.skip("a kernel before 5.16");
        }
    });
}

#[test]
fn a_pids_object_without_a_limit_is_no_limit() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Runc]) {
            t.skip("runc 1.1 takes it for 0, and that for nothing");
        }
        let outcome =
            t.bundle().spec(|spec| spec["linux"]["resources"]["pids"] = json!({})).sh("true & wait; echo ran").run();
        assert_eq!(outcome.ok().stdout, "ran\n");
    });
}

#[test]
fn a_quota_holds_the_workload_up() {
    in_modes(ALL, |t| {
        t.needs_controller("cpu");
        if t.is(&[Kind::Crun]) {
            t.skip("crun has no events");
        }
        let bundle = with(t, &json!({"cpu": {"quota": 10000, "period": 20000}}));
        let container = bundle.sh("while :; do :; done").run_detached();
        let mut events = t.command(["events", "--interval", "50ms", container.id()]);
        let mut events = events.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start events");
        let lines = BufReader::new(events.stdout.take().expect("stdout")).lines().map(|line| line.expect("text"));
        let mut figures = lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON")["data"]["cpu"].take());
        let throttled = |cpu: &Value| cpu["throttling"]["throttledPeriods"].as_u64().is_some_and(|periods| periods > 0);
        // The workload never ends by itself, and no more do the lines.
        assert!(figures.any(|cpu| throttled(&cpu)));
        events.kill().expect("kill events");
        events.wait().expect("the end of events");
        container.delete_force().ok();
    });
}

#[test]
fn a_static_workload_starts_in_512_kib_and_what_does_not_fit_is_told_with_limit_and_peak() {
    in_modes(ALL, |t| {
        t.needs_controller("memory");
        t.runb_only("peers need megabytes");
        let limited = |limit: u64| with(t, &json!({"memory": {"limit": limit, "swap": limit}})).args(["true"]);
        limited(512 << 10).run().ok();
        // The kernel counts in batches: once in a while what it has counted already is enough for init.
        let told = (0..5).any(|_| {
            let bundle = limited(64 << 10);
            let outcome = bundle.try_create();
            if outcome.code == 0 {
                t.finish(t.command(["delete", "--force", bundle.id()])).ok();
                return false;
            }
            outcome.fails_with(&["linux.resources.memory.limit: ", "limit 65536 bytes, peak "]);
            true
        });
        assert!(told, "64 KiB are enough five times");
    });
}

#[test]
fn a_parent_that_two_containers_share_goes_with_the_last_of_them() {
    in_modes(ALL, |t| {
        t.runb_only("peers leave it");
        let parent = t.name("parent");
        let create = || {
            let bundle = t.bundle().idle();
            let path = format!("/{parent}/deep/{}", bundle.id());
            bundle.set("/linux/cgroupsPath", json!(path)).create()
        };
        let (first, second) = (create(), create());
        first.delete_force().ok();
        let controller = if t.mode() == Mode::V2 { "" } else { "pids" };
        let path = format!("/{parent}/deep/{}", second.id());
        assert!(!t.cgroup_file(controller, &path, "cgroup.procs").is_empty());
        // The harness finds whatever is left of the parent.
        second.delete_force().ok();
    });
}

#[test]
fn a_parent_that_somebody_else_made_stays() {
    in_modes(ALL, |t| {
        let parent = t.name("parent");
        let bundle = t.bundle().idle();
        let path = format!("/{parent}/{}", bundle.id());
        let tops: Vec<_> = match t.mode() {
            Mode::V2 => vec!["/sys/fs/cgroup".into()],
            _ => ["pids", "memory", "devices"].iter().filter_map(|name| t.controller_dir(name)).collect(),
        };
        for top in &tops {
            fs::create_dir(top.join(&parent)).expect("make the parent");
        }
        bundle.set("/linux/cgroupsPath", json!(path)).create().delete_force().ok();
        for top in &tops {
            fs::remove_dir(top.join(&parent)).expect("the parent is there");
        }
        if t.is(&[Kind::Runc, Kind::Crun]) {
            for top in fs::read_dir("/sys/fs/cgroup").expect("the hierarchies").filter_map(Result::ok) {
                let _ = fs::remove_dir(top.path().join(&parent));
            }
        }
    });
}

/// A container of a user namespace that may write to its cgroup, or may not.
fn in_a_user_namespace<'t>(t: &'t Test, access: &str) -> Bundle<'t> {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    t.bundle().idle().spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").expect("a cgroup mount");
        cgroup["options"] = json!(["nosuid", "noexec", "nodev", "relatime", access]);
    })
}

fn owner(t: &Test, id: &str, file: &str) -> u32 {
    use std::os::unix::fs::MetadataExt;
    let _ = t;
    fs::metadata(format!("/sys/fs/cgroup/{id}/{file}")).expect("stat").uid()
}

#[test]
fn a_writable_cgroup_of_version_2_is_the_containers_and_a_read_only_one_the_hosts() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers give it away under systemd alone");
        let container = in_a_user_namespace(t, "rw").create();
        let of = |file: &str| owner(t, container.id(), file);
        assert_eq!([of(""), of("cgroup.procs"), of("cgroup.subtree_control"), of("cgroup.threads")], [100_000; 4]);
        // What is not in /sys/kernel/cgroup/delegate stays the host's: limits are not the container's to change.
        assert_eq!([of("cgroup.max.depth"), of("cgroup.freeze"), of("cgroup.kill")], [0; 3]);
        container.delete_force().ok();
        let container = in_a_user_namespace(t, "ro").create();
        assert_eq!(owner(t, container.id(), "cgroup.procs"), 0);
        container.delete_force().ok();
    });
}

#[test]
fn a_container_whose_init_has_moved_into_a_cgroup_below_is_used_as_any_other() {
    in_modes(V2, |t| {
        t.needs_controller("hugetlb");
        t.runb_only("Debian's peers do not fall back to where init is");
        let bundle = in_a_user_namespace(t, "rw");
        // As systemd does: controllers are given on, so that nobody can be in the container's own cgroup any more.
        let bundle = bundle.sh("mkdir /sys/fs/cgroup/init && echo 0 >/sys/fs/cgroup/init/cgroup.procs &&
            echo +hugetlb >/sys/fs/cgroup/cgroup.subtree_control && echo ready >/share/ready; exec sleep 86400");
        let mut ready = t.fifo(&bundle, "ready");
        let container = bundle.run_detached();
        assert_eq!(ready.line(), "ready");
        let outcome = container.call("exec", &["cat", "/proc/self/cgroup"]).ok();
        assert!(outcome.stdout.ends_with("0::/init\n"), "{outcome:?}");
        let pids = t.call(["ps", "--format", "json", container.id()]).ok().json();
        assert_eq!(pids, json!([container.pid()]));
        let file = t.dir().join(t.name("resources"));
        fs::write(&file, json!({"unified": {"cgroup.max.descendants": "20"}}).to_string()).expect("write");
        t.call(["update", "--resources", file.to_str().expect("text"), container.id()]).ok();
        assert_eq!(t.cgroup_file("", container.id(), "cgroup.max.descendants"), "20");
        container.call("pause", &[]).ok();
        assert!(t.cgroup_file("", &format!("{}/init", container.id()), "cgroup.events").contains("frozen 1"));
        container.call("resume", &[]).ok();
        t.call(["events", "--stats", container.id()]).ok();
        container.delete_force().ok();
    });
}
