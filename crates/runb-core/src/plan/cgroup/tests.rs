//! Planning, from JSON as an engine writes it.

use super::*;

const V1: [&str; 9] =
    ["cpuset", "cpu,cpuacct", "memory", "devices", "pids", "blkio", "hugetlb", "net_cls,net_prio", "name=systemd"];
const V2: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

fn planned(json: &str, path: Option<&str>, mounts: &CgroupMounts) -> Result<CgroupPlan> {
    let resources: LinuxResources = serde_json::from_str(json).unwrap();
    plan(Some(&resources), path.map(Path::new), "web1", None, mounts)
}

fn v1() -> CgroupMounts {
    CgroupMounts::v1_for_tests("/own/x", &V1)
}

fn v2() -> CgroupMounts {
    CgroupMounts::v2_for_tests("/own/x", &V2)
}

/// The writes but those of the devices, as `FILE=VALUE`.
fn writes(json: &str, mounts: &CgroupMounts) -> Vec<String> {
    let plan = planned(json, Some("/web"), mounts).unwrap();
    let others = plan.limits.writes.iter().filter(|write| !write.file.starts_with("devices."));
    others.map(|write| format!("{}={}", write.file, write.value)).collect()
}

fn refusal(json: &str, mounts: &CgroupMounts) -> String {
    planned(json, Some("/web"), mounts).unwrap_err().to_string()
}

fn paths(path: Option<&str>, mounts: &CgroupMounts) -> Vec<String> {
    let plan = planned("{}", path, mounts).unwrap();
    plan.dirs.iter().map(|dir| dir.path.display().to_string()).collect()
}

#[test]
fn an_absolute_path_lies_exactly_there_in_every_hierarchy() {
    let found = paths(Some("/k8s.io/web1"), &v1());
    let expected =
        ["cpuset", "cpu,cpuacct", "memory", "devices", "pids", "blkio", "hugetlb", "net_cls,net_prio", "systemd"]
            .map(|name| format!("/sys/fs/cgroup/{name}/k8s.io/web1"));
    assert_eq!(found, expected);
    assert_eq!(paths(Some("/k8s.io//./web1/"), &v2()), ["/sys/fs/cgroup/k8s.io/web1"]);
}

#[test]
fn a_relative_path_is_below_the_own_cgroup_and_beside_it_on_version_2() {
    assert_eq!(paths(Some("a/b"), &v1())[0], "/sys/fs/cgroup/cpuset/own/x/a/b");
    assert_eq!(paths(Some("a/b"), &v2()), ["/sys/fs/cgroup/own/a/b"]);
}

#[test]
fn without_a_path_the_id_is_the_name() {
    assert_eq!(paths(None, &v1())[2], "/sys/fs/cgroup/memory/own/x/web1");
    assert_eq!(paths(None, &v2()), ["/sys/fs/cgroup/own/web1"]);
    assert_eq!(paths(Some(""), &v2()), ["/sys/fs/cgroup/own/web1"]);
    assert_eq!(paths(None, &CgroupMounts::v2_for_tests("/", &V2)), ["/sys/fs/cgroup/web1"]);
}

#[test]
fn a_path_that_leaves_or_is_the_root_is_refused() {
    for path in ["/a/../../b", "..", "/", "//.", "a\0b", "/a\nb", &"n".repeat(256)] {
        let error = planned("{}", Some(path), &v2()).unwrap_err();
        assert_eq!(error.origin(), Some("linux.cgroupsPath"), "{path:?}: {error}");
    }
}

#[test]
fn init_is_cloned_into_version_2_and_writes_itself_into_version_1() {
    let plan = planned("{}", Some("/web"), &v2()).unwrap();
    assert_eq!(plan.join, Join { into: Some(0), procs: Vec::new() });
    let mounts = CgroupMounts::hybrid_for_tests("/", &["devices", "pids"]);
    let plan = planned("{}", Some("/web"), &mounts).unwrap();
    assert_eq!(plan.join.into, Some(2));
    assert_eq!(plan.join.procs[1], (1, "/sys/fs/cgroup/pids/web/tasks".into()));
    assert_eq!(plan.dirs[2].path, Path::new("/sys/fs/cgroup/unified/web"));
}

#[test]
fn a_chain_names_every_directory_below_the_mountpoint() {
    let plan = planned("{}", Some("/a/b"), &v2()).unwrap();
    let chain: Vec<&Path> = plan.chains().collect();
    assert_eq!(chain, [Path::new("/sys/fs/cgroup/a"), Path::new("/sys/fs/cgroup/a/b")]);
}

#[test]
fn what_docker_sends_for_nothing_writes_nothing() {
    let json = r#"{"memory":{"reservation":0,"disableOOMKiller":false},"cpu":{"shares":0},"blockIO":{"weight":0}}"#;
    assert_eq!(writes(json, &v1()), [""; 0]);
    assert_eq!(writes(json, &v2()), [""; 0]);
}

#[test]
fn memory_and_swap_are_one_limit_on_version_1_and_two_on_version_2() {
    let json = r#"{"memory":{"limit":1000,"swap":3000,"reservation":500}}"#;
    let v1_writes =
        ["memory.limit_in_bytes=1000", "memory.memsw.limit_in_bytes=3000", "memory.soft_limit_in_bytes=500"];
    assert_eq!(writes(json, &v1()), v1_writes);
    assert_eq!(writes(json, &v2()), ["memory.swap.max=2000", "memory.max=1000", "memory.low=500"]);
    let equal = r#"{"memory":{"limit":1000,"swap":1000}}"#;
    assert_eq!(writes(equal, &v2()), ["memory.swap.max=0", "memory.max=1000"]);
    let unlimited = r#"{"memory":{"limit":-1}}"#;
    assert_eq!(writes(unlimited, &v2()), ["memory.swap.max=max", "memory.max=max"]);
    assert_eq!(writes(unlimited, &v1()), ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
    for mounts in [v1(), v2()] {
        assert!(refusal(r#"{"memory":{"limit":2,"swap":1}}"#, &mounts).starts_with("linux.resources.memory.swap: "));
        assert!(refusal(r#"{"memory":{"swap":1}}"#, &mounts).starts_with("linux.resources.memory.swap: "));
        assert!(refusal(r#"{"memory":{"limit":-2}}"#, &mounts).starts_with("linux.resources.memory.limit: "));
    }
}

#[test]
fn cpu_is_shares_and_two_files_on_version_1_weight_and_one_on_version_2() {
    let json = r#"{"cpu":{"shares":1024,"quota":50000,"period":100000,"burst":1000,"idle":1,"cpus":"0-1","mems":"0"}}"#;
    let expected = [
        "cpuset.cpus=0-1",
        "cpuset.mems=0",
        "cpu.shares=1024",
        "cpu.cfs_period_us=100000",
        "cpu.cfs_quota_us=50000",
        "cpu.cfs_burst_us=1000",
        "cpu.idle=1",
    ];
    assert_eq!(writes(json, &v1()), expected);
    let expected = [
        "cpu.weight=100",
        "cpu.max=50000 100000",
        "cpu.max.burst=1000",
        "cpu.idle=1",
        "cpuset.cpus=0-1",
        "cpuset.mems=0",
    ];
    assert_eq!(writes(json, &v2()), expected);
    assert_eq!(writes(r#"{"cpu":{"quota":-1}}"#, &v2()), ["cpu.max=max 100000"]);
    assert_eq!(writes(r#"{"cpu":{"period":5000}}"#, &v2()), ["cpu.max=max 5000"]);
}

#[test]
fn a_cpuset_inherits_what_the_configuration_does_not_give() {
    let plan = planned(r#"{"cpu":{"cpus":"0"}}"#, Some("/web"), &v1()).unwrap();
    let DirKind::V1 { inherit, .. } = &plan.dirs[0].kind else { panic!("{plan:?}") };
    assert_eq!(*inherit, ["cpuset.mems"]);
}

#[test]
fn no_process_at_all_is_taken_as_one() {
    for mounts in [v1(), v2()] {
        assert_eq!(writes(r#"{"pids":{"limit":0}}"#, &mounts), ["pids.max=1"]);
        assert_eq!(writes(r#"{"pids":{"limit":-1}}"#, &mounts), ["pids.max=max"]);
        assert_eq!(writes(r#"{"pids":{"limit":77}}"#, &mounts), ["pids.max=77"]);
    }
}

#[test]
fn block_io_is_a_table() {
    let json = r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":300}]}}"#;
    let expected =
        ["blkio.bfq.weight=500", "blkio.throttle.read_bps_device=8:0 600", "blkio.throttle.write_iops_device=8:16 300"];
    assert_eq!(writes(json, &v1()), expected);
    assert_eq!(writes(json, &v2()), ["io.bfq.weight=500", "io.max=8:0 rbps=600", "io.max=8:16 wiops=300"]);
    let plan = planned(json, Some("/web"), &v2()).unwrap();
    let Absent::Instead(other) = &plan.limits.writes[0].absent else { panic!("{plan:?}") };
    assert_eq!((other.file.as_str(), other.value.as_str()), ("io.weight", "4950"));
}

#[test]
fn a_huge_page_limit_reserves_first() {
    let json = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4096}]}"#;
    assert_eq!(writes(json, &v1()), ["hugetlb.2MB.rsvd.limit_in_bytes=4096", "hugetlb.2MB.limit_in_bytes=4096"]);
    assert_eq!(writes(json, &v2()), ["hugetlb.2MB.rsvd.max=4096", "hugetlb.2MB.max=4096"]);
    let escape = r#"{"hugepageLimits":[{"pageSize":"../../x","limit":1}]}"#;
    assert!(refusal(escape, &v2()).starts_with("linux.resources.hugepageLimits[0].pageSize: "));
}

#[test]
fn network_classes_are_of_version_1() {
    let json = r#"{"network":{"classID":1048577,"priorities":[{"name":"eth0","priority":500}]}}"#;
    assert_eq!(writes(json, &v1()), ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 500"]);
    assert!(refusal(json, &v2()).starts_with("linux.resources.network.classID: "));
}

#[test]
fn unified_files_are_of_version_2_and_come_last() {
    let json = r#"{"unified":{"memory.high":"900","cgroup.max.depth":"3"},"pids":{"limit":5}}"#;
    assert_eq!(writes(json, &v2()), ["pids.max=5", "cgroup.max.depth=3", "memory.high=900"]);
    assert!(refusal(json, &v1()).starts_with("linux.resources.unified: "));
    for file in ["a/b.c", "../x.y", "memory", "cgroup.procs", "cgroup.kill", "rdma.max"] {
        let json = format!(r#"{{"unified":{{"{file}":"1"}}}}"#);
        assert!(refusal(&json, &v2()).starts_with("linux.resources.unified["), "{file}");
    }
}

#[test]
fn what_version_2_cannot_do_is_refused_by_its_place() {
    for (json, place) in [
        (r#"{"memory":{"swappiness":10}}"#, "memory.swappiness"),
        (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
        (r#"{"memory":{"kernel":1}}"#, "memory.kernel"),
        (r#"{"memory":{"kernelTCP":1}}"#, "memory.kernelTCP"),
        (r#"{"memory":{"useHierarchy":false}}"#, "memory.useHierarchy"),
        (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu.realtimeRuntime"),
        (r#"{"blockIO":{"leafWeight":10}}"#, "blockIO.leafWeight"),
        (r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#, "rdma[\"mlx5_1\"]"),
    ] {
        assert!(refusal(json, &v2()).starts_with(&format!("linux.resources.{place}: ")), "{json}");
    }
}

#[test]
fn a_limit_without_its_controller_is_refused() {
    let mounts = CgroupMounts::v2_for_tests("/", &["hugetlb"]);
    assert!(refusal(r#"{"pids":{"limit":5}}"#, &mounts).starts_with("linux.resources.pids.limit: the pids controller"));
    let mounts = CgroupMounts::v1_for_tests("/", &["devices"]);
    assert!(refusal(r#"{"memory":{"limit":5}}"#, &mounts).starts_with("linux.resources.memory.limit: the memory"));
}

/// The writes of the devices, as `allow LINE` and `deny LINE`.
fn device_lines(json: &str) -> Vec<String> {
    let plan = planned(json, Some("/web"), &v1()).unwrap();
    let lines =
        plan.limits.writes.iter().filter_map(|write| Some((write.file.strip_prefix("devices.")?, &write.value)));
    lines.map(|(verb, value)| format!("{verb} {value}")).collect()
}

#[test]
fn the_default_rules_deny_all_and_then_allow_each_device_once() {
    let json =
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]}"#;
    let expected = [
        "deny a",
        "allow b *:* m",
        "allow c *:* m",
        "allow c 1:3 rwm",
        "allow c 1:5 rwm",
        "allow c 1:7 rwm",
        "allow c 1:8 rwm",
        "allow c 1:9 rwm",
        "allow c 5:0 rwm",
        "allow c 5:1 rwm",
        "allow c 5:2 rwm",
        "allow c 10:200 rwm",
        "allow c 136:* rwm",
    ];
    assert_eq!(device_lines(json), expected);
    assert_eq!(device_lines("{}"), expected);
}

#[test]
fn a_privileged_container_has_every_device() {
    let json = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
    assert_eq!(device_lines(json), ["allow a"]);
    let json = r#"{"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]}"#;
    assert_eq!(device_lines(json), ["allow a", "deny b 8:* w"]);
}

#[test]
fn a_rule_of_every_type_is_one_for_each_where_it_is_narrower() {
    let json = r#"{"devices":[{"allow":true,"type":"a","major":7,"access":"r"}]}"#;
    let lines = device_lines(json);
    assert!(lines.contains(&"allow b 7:* r".to_owned()) && lines.contains(&"allow c 7:* r".to_owned()), "{lines:?}");
}

#[test]
fn a_hole_in_a_wildcard_is_refused_on_version_1_alone() {
    let json = r#"{"devices":[{"allow":true,"type":"c","major":4,"access":"rw"},
        {"allow":false,"type":"c","major":4,"minor":1,"access":"w"}]}"#;
    let error = refusal(json, &v1());
    assert!(error.starts_with("linux.resources.devices[1]: ") && error.contains("c 4:1 w"), "{error}");
    assert!(planned(json, Some("/web"), &v2()).unwrap().limits.devices.is_some());
}

#[test]
fn a_wrong_device_rule_is_refused_by_its_field() {
    for (rule, field) in [
        (r#"{"allow":true,"type":"p","access":"r"}"#, "type"),
        (r#"{"allow":true,"type":"c","major":-2,"access":"r"}"#, "major"),
        (r#"{"allow":true,"type":"c","minor":4294967296,"access":"r"}"#, "minor"),
        (r#"{"allow":true,"type":"c","access":"x"}"#, "access"),
        (r#"{"allow":true,"type":"c"}"#, "access"),
    ] {
        let error = refusal(&format!(r#"{{"devices":[{rule}]}}"#), &v2());
        assert!(error.starts_with(&format!("linux.resources.devices[0].{field}: ")), "{error}");
    }
}

#[test]
fn letters_of_access_that_mean_nothing_are_passed_over_and_told() {
    let json =
        r#"{"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11,"access":"rwa"}]}"#;
    assert_eq!(device_lines(json), ["allow a", "deny c 1:11 rw"]);
    let warnings: Vec<String> = odd_access(&serde_json::from_str(json).unwrap()).collect();
    assert_eq!(warnings, [r#"linux.resources.devices[1].access: of "rwa" only r, w and m count"#]);
}

#[test]
fn in_a_hierarchy_that_is_closed_the_container_stays_where_the_runtime_is() {
    let mut plan = planned("{}", None, &v1()).unwrap();
    let (all, closed) = (plan.dirs.len(), plan.dirs[0].path.parent().unwrap().to_owned());
    plan.stay_in(std::slice::from_ref(&closed));
    assert_eq!((plan.dirs.len(), plan.stays.len()), (all - 1, 1));
    assert_eq!(plan.stays[0].path, closed);
    assert!(plan.join.procs.iter().all(|(index, procs)| procs.starts_with(&plan.dirs[*index].path)));
    assert!(plan.limits.writes.iter().all(|write| !write.dir.starts_with(&closed)));
}

#[test]
fn only_a_container_that_asks_for_nothing_goes_without_a_cgroup_where_there_is_no_hierarchy() {
    let nothing = planned("{}", None, &CgroupMounts::None).unwrap();
    assert!(nothing.dirs.is_empty() && nothing.join == Join::default());
    assert_eq!(planned("{}", Some("/web"), &CgroupMounts::None).unwrap_err().kind(), Kind::Host);
}
