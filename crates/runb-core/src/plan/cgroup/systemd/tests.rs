//! Planning a unit, from a configuration as an engine writes it.

use std::collections::HashMap;

use oci_spec::runtime::LinuxResources;

use super::*;
use crate::host::cgroups::CgroupMounts;
use crate::plan::cgroup::plan as plan_cgroups;

fn v2() -> CgroupMounts {
    CgroupMounts::v2_for_tests("/own", &["cpuset", "cpu", "io", "memory", "hugetlb", "pids"])
}

fn v1() -> CgroupMounts {
    CgroupMounts::v1_for_tests("/own", &["cpuset", "cpu,cpuacct", "memory", "devices", "pids", "blkio", "name=systemd"])
}

struct Case<'a> {
    resources: &'a str,
    path: Option<&'a str>,
    annotations: &'a [(&'a str, &'a str)],
    whose: Whose,
    manager_cgroup: &'a str,
}

const CASE: Case<'static> =
    Case { resources: "{}", path: None, annotations: &[], whose: Whose::System, manager_cgroup: "/" };

impl Case<'_> {
    fn plan(&self, mounts: &CgroupMounts) -> Result<CgroupPlan> {
        let resources: LinuxResources = serde_json::from_str(self.resources).expect("resources");
        let systemd = Systemd { whose: self.whose, ..Systemd::default() };
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let annotations: HashMap<String, String> = self.annotations.iter().map(own).collect();
        let manager_cgroup = Path::new(self.manager_cgroup);
        let asked = Asked { systemd: &systemd, manager_cgroup, annotations: Some(&annotations) };
        plan_cgroups(Some(&resources), self.path.map(Path::new), "web1", Some(&asked), mounts)
    }

    fn refusal(&self, mounts: &CgroupMounts) -> String {
        self.plan(mounts).expect_err("a refusal").to_string()
    }

    /// The properties that come from config.json, but for those of the devices, as `NAME=VALUE`; then the writes.
    fn limits(&self, mounts: &CgroupMounts) -> (Vec<String>, Vec<String>) {
        let plan = self.plan(mounts).expect("a plan");
        let told = plan.unit.as_ref().expect("a unit").properties.iter();
        let told = told.filter(|property| !property.origin.is_empty() && !property.name.starts_with("Device"));
        let writes = plan.limits.writes.iter().filter(|write| !write.file.starts_with("devices."));
        (
            told.map(|property| format!("{}={}", property.name, property.value)).collect(),
            writes.map(|write| format!("{}={}", write.file, write.value)).collect(),
        )
    }
}

fn device_policy(resources: &str, mounts: &CgroupMounts) -> (String, String, usize) {
    let plan = Case { resources, ..CASE }.plan(mounts).expect("a plan");
    let unit = plan.unit.expect("a unit");
    let list = unit.properties.iter().find(|property| property.name == "DeviceAllow").expect("a list");
    (unit.text("DevicePolicy").expect("a policy").to_owned(), list.value.to_string(), unit.warnings.len())
}

#[test]
fn the_whole_of_what_systemd_is_asked_is_printed() {
    let resources = r#"{"memory":{"limit":1048576},"devices":[{"allow":false,"access":"rwm"}]}"#;
    let annotations = [("org.systemd.property.TimeoutStopSec", "2.5"), ("org.example", "1")];
    let plan = Case { resources, annotations: &annotations, ..CASE }.plan(&v2()).expect("a plan");
    let steps = plan.unit.expect("a unit").steps();
    let (devices, rest) = steps.split_last().expect("steps");
    let expected = "at the stop Cgroup: StartTransientUnit runb-web1.scope, with init as PIDs and
  Description=\"runb container web1\"
  Slice=\"system.slice\"
  Delegate=true
  DefaultDependencies=false
  CPUAccounting=true
  IOAccounting=true
  MemoryAccounting=true
  TasksAccounting=true
  TimeoutStopUSec=uint64 2500000 # annotations[\"org.systemd.property.TimeoutStopSec\"]
  MemoryMax=uint64 1048576 # linux.resources.memory.limit
  DevicePolicy=\"strict\" # linux.resources.devices";
    assert_eq!(rest.join("\n"), expected);
    let default = r#"  DeviceAllow=[("char-*", "m"), ("block-*", "m"), ("/dev/char/1:3", "rwm"),"#;
    assert!(devices.starts_with(default), "{devices}");
}

#[test]
fn init_is_moved_into_a_scope_and_born_in_a_slice() {
    let scope = CASE.plan(&v2()).expect("a plan");
    assert!(scope.moves_init() && scope.join.into.is_none());
    assert_eq!(scope.chains().count(), 0);
    let slice = Case { path: Some("a.slice::a-b.slice"), ..CASE }.plan(&v2()).expect("a plan");
    assert!(!slice.moves_init());
    assert_eq!(slice.join.into, Some(0));
    let unit = slice.unit.expect("a unit");
    assert_eq!((unit.name.as_str(), unit.kind), ("a-b.slice", UnitKind::Slice));
    assert_eq!(unit.steps()[2], r#"  Wants=["a.slice"]"#);
    assert!(unit.text("Slice").is_none() && unit.properties.iter().all(|property| property.name != "Delegate"));
}

#[test]
fn a_units_place_is_the_same_in_every_hierarchy_and_systemd_makes_its_own() {
    let mounts = CgroupMounts::hybrid_for_tests("/own", &["memory", "devices", "freezer", "name=systemd"]);
    let plan = Case { path: Some("a-b.slice:x:1"), ..CASE }.plan(&mounts).expect("a plan");
    let places: Vec<_> = plan.dirs.iter().map(|dir| dir.path.display().to_string()).collect();
    let expected = ["memory", "devices", "freezer", "systemd", "unified"];
    assert_eq!(places, expected.map(|name| format!("/sys/fs/cgroup/{name}/a.slice/a-b.slice/x-1.scope")));
    let theirs: Vec<_> = plan.dirs.iter().map(|dir| plan.is_systemds(dir)).collect();
    assert_eq!(theirs, [false, false, false, true, true]);
    assert_eq!(plan.unit.expect("a unit").dir, Some(3));
}

#[test]
fn cgroups_path_is_slice_prefix_and_name_each_of_which_may_be_empty() {
    for (path, unit, slice, below) in [
        (None, "runb-web1.scope", "system.slice", "system.slice/runb-web1.scope"),
        (Some("system.slice:docker:1234"), "docker-1234.scope", "system.slice", "system.slice/docker-1234.scope"),
        (Some("::"), "-.scope", "system.slice", "system.slice/-.scope"),
        (Some(":p:"), "p-.scope", "system.slice", "system.slice/p-.scope"),
        (Some("::n"), "-n.scope", "system.slice", "system.slice/-n.scope"),
        (Some("-.slice:p:n"), "p-n.scope", "-.slice", "p-n.scope"),
        (Some("-:p:n"), "p-n.scope", "-.slice", "p-n.scope"),
        (Some("a-b-c.slice:p:n"), "p-n.scope", "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
        (Some("_x.slice:memory.p:n"), "memory.p-n.scope", "_x.slice", "__x.slice/_memory.p-n.scope"),
        (Some("a.slice:p:a-b.slice"), "a-b.slice", "a.slice", "a.slice/a-b.slice"),
        (Some(":p:b.slice"), "b.slice", "system.slice", "b.slice"),
    ] {
        let name = Name::parse(path.map(Path::new), "web1", Whose::System).expect("a name");
        assert_eq!((name.unit.as_str(), name.slice.as_str(), &*name.below_manager()), (unit, slice, Path::new(below)));
    }
    let user = Name::parse(None, "web1", Whose::User).expect("a name");
    assert_eq!((user.slice.as_str(), &*user.below_manager()), ("user.slice", Path::new("user.slice/runb-web1.scope")));
}

#[test]
fn what_is_no_unit_is_refused_with_the_place() {
    let long = format!(":p:{}", "n".repeat(250));
    for path in [
        "/a/b",
        "a",
        "a:b",
        "a:b:c:d",
        "a.slice/b.slice:p:n",
        ".slice:p:n",
        "a--b.slice:p:n",
        "-a.slice:p:n",
        "a-.slice:p:n",
        "a:p:n",
        ":p:-.slice",
        ":p:a--b.slice",
        ":p p:n",
        ":p:n\n",
        ":p:ü",
        ":@:x",
        &long,
    ] {
        let error = Name::parse(Some(Path::new(path)), "web1", Whose::System).expect_err(path);
        assert_eq!((error.kind(), error.origin()), (Kind::Spec, Some("linux.cgroupsPath")), "{path}: {error}");
    }
}

#[test]
fn a_users_slices_lie_below_the_cgroup_of_the_users_systemd_and_it_is_told_of_no_devices() {
    let manager_cgroup = "/user.slice/user-1.slice/user@1.service";
    let case = Case { whose: Whose::User, manager_cgroup, ..CASE };
    let plan = case.plan(&v2()).expect("a plan");
    let expected = format!("/sys/fs/cgroup{manager_cgroup}/user.slice/runb-web1.scope");
    assert_eq!(plan.dirs[0].path, Path::new(&expected));
    assert!(plan.limits.devices.is_none());
    assert!(plan.unit.expect("a unit").properties.iter().all(|property| !property.name.starts_with("Device")));
    assert!(case.refusal(&v1()).contains("version 1"));
}

#[test]
fn limits_are_told_to_systemd_and_written() {
    let resources = r#"{"memory":{"limit":4096,"swap":8192,"reservation":-1},"pids":{"limit":0},
        "cpu":{"shares":1024,"cpus":"0-2,9","mems":"1"},"blockIO":{"weight":500}}"#;
    let (told, written) = Case { resources, ..CASE }.limits(&v2());
    assert_eq!(
        told,
        [
            "TasksMax=uint64 1",
            "MemorySwapMax=uint64 4096",
            "MemoryMax=uint64 4096",
            "MemoryLow=uint64 18446744073709551615",
            "IOWeight=uint64 4950",
            "CPUWeight=uint64 100",
            "AllowedCPUs=[byte 0x07, 0x02]",
            "AllowedMemoryNodes=[byte 0x02]",
        ]
    );
    let files = "pids.max=1 memory.swap.max=4096 memory.max=4096 memory.low=max io.bfq.weight=500 cpu.weight=100 \
                 cpuset.cpus=0-2,9 cpuset.mems=1";
    assert_eq!(written.join(" "), files);
    let resources =
        r#"{"memory":{"limit":-1},"cpu":{"shares":2,"cpus":"0"},"blockIO":{"weight":10},"pids":{"limit":-1}}"#;
    let (told, _) = Case { resources, ..CASE }.limits(&v1());
    let infinity = u64::MAX;
    assert_eq!(
        told,
        [
            "AllowedCPUs=[byte 0x01]".to_owned(),
            format!("MemoryLimit=uint64 {infinity}"),
            "CPUShares=uint64 2".to_owned(),
            format!("TasksMax=uint64 {infinity}"),
            "BlockIOWeight=uint64 10".to_owned(),
        ]
    );
}

#[test]
fn a_quota_is_rounded_up_to_a_whole_percent_for_systemd_and_in_the_file() {
    let limits = |cpu: &str, mounts: &CgroupMounts| {
        let (told, written) = Case { resources: &format!("{{\"cpu\":{cpu}}}"), ..CASE }.limits(mounts);
        (told.join(" "), written.join(" "))
    };
    let of = |told: &str, written: &str| (told.to_owned(), written.to_owned());
    let second = "CPUQuotaPerSecUSec=uint64";
    let period = "CPUQuotaPeriodUSec=uint64";
    assert_eq!(
        limits(r#"{"quota":15500}"#, &v2()),
        of(&format!("{second} 160000 {period} 100000"), "cpu.max=16000 100000")
    );
    let exact = r#"{"quota":5000,"period":1000}"#;
    assert_eq!(limits(exact, &v2()), of(&format!("{second} 5000000 {period} 1000"), "cpu.max=5000 1000"));
    let odd = r#"{"quota":1001,"period":3000}"#;
    assert_eq!(
        limits(odd, &v1()),
        of(&format!("{second} 340000 {period} 3000"), "cpu.cfs_period_us=3000 cpu.cfs_quota_us=1020")
    );
    let infinity = u64::MAX;
    assert_eq!(
        limits(r#"{"quota":-1,"period":50000}"#, &v2()),
        of(&format!("{second} {infinity} {period} 50000"), "cpu.max=max 50000")
    );
    assert_eq!(
        limits(r#"{"period":50000}"#, &v1()),
        of(&format!("{second} {infinity} {period} 50000"), "cpu.cfs_period_us=50000")
    );
}

#[test]
fn files_of_version_2_are_told_too_and_have_the_last_word() {
    let resources = r#"{"memory":{"limit":4096},"cpu":{"shares":1024},"unified":{"memory.max":"2M","memory.high":"max",
        "cpu.max":"1500 10000","cpu.idle":"1","memory.oom.group":"1","io.weight":"default 7","hugetlb.2MB.max":"0",
        "cpuset.cpus":"1"}}"#;
    let plan = Case { resources, ..CASE }.plan(&v2()).expect("a plan");
    let unit = plan.unit.expect("a unit");
    let find = |name: &str| unit.properties.iter().find(|property| property.name == name).expect(name);
    for (name, value, since) in [
        ("MemoryMax", "uint64 2097152", None),
        ("MemoryHigh", "uint64 18446744073709551615", None),
        ("CPUQuotaPerSecUSec", "uint64 150000", None),
        ("CPUQuotaPeriodUSec", "uint64 10000", None),
        ("CPUWeight", "uint64 0", Some(252)),
        ("OOMPolicy", "\"kill\"", Some(253)),
        ("IOWeight", "uint64 7", None),
        ("AllowedCPUs", "[byte 0x02]", None),
    ] {
        let property = find(name);
        assert_eq!((property.value.to_string().as_str(), property.since), (value, since), "{name}");
    }
    assert_eq!(unit.properties.iter().filter(|property| property.name == "CPUWeight").count(), 1);
    for (file, value) in
        [("memory.max", "much"), ("cpuset.cpus", "3-x"), ("cpuset.cpus", "99999"), ("cpu.max", "1 2 x")]
    {
        let resources = format!("{{\"unified\":{{\"{file}\":\"{value}\"}}}}");
        let case = Case { resources: &resources, ..CASE };
        if file == "cpu.max" {
            // The kernel refuses what follows, when it is written.
            case.plan(&v2()).expect("a plan");
            continue;
        }
        assert!(
            case.refusal(&v2()).starts_with(&format!("linux.resources.unified[\"{file}\"]: systemd cannot be told"))
        );
    }
}

#[test]
fn devices_are_listed_where_systemd_can_name_them_and_on_version_1_never_left_open() {
    let all = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
    let but_one =
        r#"{"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]}"#;
    let minor = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","minor":7,"access":"r"}]}"#;
    let named = r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"},
        {"allow":true,"type":"c","major":195,"minor":255,"access":"rw"}]}"#;
    let none = "@a(ss) []";
    for (rules, mounts, policy, list, warnings) in [
        (all, v2(), "auto", none, 0),
        (all, v1(), "auto", none, 0),
        (but_one, v2(), "auto", none, 0),
        (but_one, v1(), "strict", none, 1),
        (minor, v2(), "auto", none, 0),
        (minor, v1(), "strict", "[(\"char-*\", \"m\")", 1),
        (named, v2(), "strict", "[(\"block-8\", \"r\"), (\"/dev/char/195:255\", \"rw\")", 0),
        (named, v1(), "strict", "[(\"block-8\", \"r\"), (\"/dev/char/195:255\", \"rw\")", 0),
    ] {
        let (found, allowed, count) = device_policy(rules, &mounts);
        assert_eq!((found.as_str(), count), (policy, warnings), "{rules} {mounts:?}");
        assert!(allowed.starts_with(list), "{allowed}");
    }
}

#[test]
fn annotations_come_before_limits_and_after_what_holds_for_all() {
    let annotations = [
        ("org.systemd.property.CollectMode", "'inactive'"),
        ("org.systemd.property.MemoryMax", "uint64 1"),
        ("org.systemd.property.TasksMax", "uint64 2"),
        ("org.systemd.property.Description", "\"mine\""),
    ];
    let plan = Case { resources: r#"{"memory":{"limit":4096}}"#, annotations: &annotations, ..CASE }.plan(&v2());
    let unit = plan.expect("a plan").unit.expect("a unit");
    let value =
        |name: &str| unit.properties.iter().find(|property| property.name == name).expect(name).value.to_string();
    assert_eq!((value("MemoryMax"), value("TasksMax")), ("uint64 4096".to_owned(), "uint64 2".to_owned()));
    assert_eq!((unit.text("CollectMode"), unit.text("Description")), (Some("inactive"), Some("mine")));
}

#[test]
fn seconds_become_microseconds_and_what_is_no_property_is_refused() {
    let property = |name: &str, value: &str| {
        let name = format!("org.systemd.property.{name}");
        let annotations = HashMap::from([(name, value.to_owned())]);
        annotations::properties(Some(&annotations)).map(|mut list| list.remove(0))
    };
    for (name, value, expected) in [
        ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec=uint64 123456789"),
        ("TimeoutStopSec", "456", "TimeoutStopUSec=uint64 456000000"),
        ("TimeoutStopSec", "byte 234", "TimeoutStopUSec=uint64 234000000"),
        ("TimeoutStopSec", "int16 234", "TimeoutStopUSec=uint64 234000000"),
        ("TimeoutStopSec", "uint32 234", "TimeoutStopUSec=uint64 234000000"),
        ("TimeoutStopSec", "int64 234", "TimeoutStopUSec=uint64 234000000"),
        ("TimeoutStopSec", "234.789", "TimeoutStopUSec=uint64 234789000"),
        ("FOOSec", "123", "FOOSec=123"),
        ("Sec", "123", "Sec=123"),
    ] {
        let property = property(name, value).expect(value);
        assert_eq!(format!("{}={}", property.name, property.value), expected);
    }
    for (name, value) in [
        ("TimeoutStopSec", "false"),
        ("TimeoutStopSec", "'covfefe'"),
        ("TimeoutStopSec", "-1"),
        ("TimeoutStopSec", "1e30"),
        ("TimeoutStopSec", "uint64 18446744073709551615"),
        ("Xo", "1"),
        ("Number1", "1"),
        ("ValidName", "invalid-value"),
        ("PIDs", "[uint32 1]"),
        ("Slice", "'a.slice'"),
    ] {
        let error = property(name, value).expect_err(value);
        assert_eq!(error.origin(), Some(format!("annotations[\"org.systemd.property.{name}\"]").as_str()), "{error}");
    }
}

#[test]
fn an_update_has_a_weight_or_idle_and_writes_once_more_what_systemd_writes_otherwise() {
    let target = Target::of(&CASE.plan(&v2()).expect("a plan").dirs);
    let of = |json: &str| serde_json::from_str::<LinuxResources>(json).expect("resources");
    let told = |before: &str, change: &str| {
        let (before, change) = (of(before), of(change));
        let mut update = crate::plan::cgroup::update(&before, &change, &target).expect("an update");
        let told = super::changed(&mut update, &change, &target, "a.scope").expect("what is told");
        let again = super::again(&told, &update.effective, &target, "a.scope").expect("what is written");
        let files = |writes: &[Write]| {
            writes.iter().map(|write| format!("{}={}", write.file, write.value)).collect::<Vec<_>>().join(" ")
        };
        let told: Vec<_> = told.iter().map(|property| format!("{}={}", property.name, property.value)).collect();
        (files(&update.writes), told.join(" "), files(&again), update.warnings.len())
    };
    let of = |writes: &str, told: &str, again: &str, warnings| (writes.into(), told.into(), again.into(), warnings);
    assert_eq!(
        told(r#"{"cpu":{"quota":1001,"period":3000}}"#, r#"{"cpu":{"shares":1024}}"#),
        of("cpu.idle=0 cpu.weight=100", "CPUWeight=uint64 100", "cpu.max=1020 3000", 0)
    );
    assert_eq!(
        told("{}", r#"{"unified":{"cpu.idle":"1","cpu.weight":"8"}}"#),
        of("cpu.idle=1", "CPUWeight=uint64 0", "", 1)
    );
    assert_eq!(
        told(r#"{"cpu":{"shares":1024,"idle":1}}"#, r#"{"cpu":{"idle":0}}"#),
        of("cpu.idle=0", "CPUWeight=uint64 100", "", 0)
    );
    assert_eq!(told(r#"{"cpu":{"period":50000}}"#, r#"{"pids":{"limit":3}}"#).2, "");
    let weights = r#"{"blockIO":{"weight":300,"weightDevice":[{"major":8,"minor":0,"weight":400}]}}"#;
    assert_eq!(
        told(weights, r#"{"blockIO":{"weight":500}}"#),
        of("io.bfq.weight=500", "IOWeight=uint64 4950", "io.bfq.weight=500 io.bfq.weight=8:0 400", 0)
    );
}
