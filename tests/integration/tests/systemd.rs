//! systemd as the maker of cgroups: what it is told and does, and what becomes of a container while it is loaded or executed anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use runb_tests::*;
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, Signal, kill_process};

fn systemctl(args: &[&str]) {
    let output = Command::new("systemctl").args(args).output().expect("start systemctl");
    assert!(output.status.success(), "systemctl {args:?}: {output:?}");
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
            systemctl(&[verb]);
            limits_hold(t, &container);
            assert_eq!(container.status(), "running");
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
            systemctl(&[verb]);
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
        systemctl(&["daemon-reload"]);
        assert!(!opens(&container, &["/dev/denied"])[0]);
        if t.mode() == Mode::V2 {
            assert_eq!(opens(&container, &["/dev/null"]), [true]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn the_unit_lies_in_nested_slices_and_init_in_the_unit() {
    under_systemd(|t| {
        let bundle = t.bundle().idle();
        let (slice, id) = (t.name("a").replace('-', "_"), bundle.id().to_owned());
        let path = format!("{slice}-b.slice:p:{id}");
        let container = bundle.spec(|spec| spec["linux"]["cgroupsPath"] = json!(path)).create();
        let expected = format!("/{slice}.slice/{slice}-b.slice/p-{id}.scope");
        let unit = format!("p-{id}.scope");
        assert_eq!(systemd::property(&unit, "ControlGroup"), expected);
        for controller in ["memory", "pids", "freezer", "cpuset", "name=systemd"] {
            assert!(
                cgroup_dir(t, container.pid(), controller).ends_with(expected.trim_start_matches('/')),
                "{controller}"
            );
        }
        container.delete_force().ok();
        assert_eq!(systemd::units(&unit), [""; 0]);
        // Slices stay until they are stopped, as under runc.
        systemctl(&["stop", &format!("{slice}.slice")]);
    });
}

#[test]
fn without_a_path_the_unit_has_the_name_of_the_container() {
    under_systemd(|t| {
        let bundle = t.bundle().idle().spec(|spec| {
            spec["linux"].as_object_mut().expect("an object").remove("cgroupsPath");
        });
        let container = bundle.create();
        let prefix = match t.runtime().kind() {
            Kind::Runb => "runb",
            Kind::Runc => "runc",
            Kind::Crun => "crun",
        };
        let unit = format!("{prefix}-{}.scope", container.id());
        assert_eq!(systemd::property(&unit, "ActiveState"), "active");
        container.delete_force().ok();
        assert_eq!(systemd::units(&unit), [""; 0]);
    });
}

#[test]
fn a_container_can_have_a_slice_for_its_own() {
    under_systemd(|t| {
        t.runb_only("runc and crun hand systemd a process, which a slice takes none of");
        let bundle = with_limits(t.bundle().idle());
        let slice = t.name("own").replace('-', "_") + ".slice";
        let path = format!("-.slice::{slice}");
        let container = bundle.spec(|spec| spec["linux"]["cgroupsPath"] = json!(path)).run_detached();
        assert_eq!(systemd::property(&slice, "ControlGroup"), format!("/{slice}"));
        assert_eq!(systemd::property(&slice, "TasksMax"), "33");
        assert_eq!(limit(t, container.pid(), "pids.max", ("pids", "pids.max")), "33");
        assert!(cgroup_dir(t, container.pid(), "pids").ends_with(&slice));
        assert_eq!(container.call("exec", &["echo", "here"]).ok().stdout, "here\n");
        container.delete_force().ok();
        assert_eq!(systemd::units(&slice), [""; 0]);
    });
}

#[test]
fn annotations_are_properties_of_the_unit() {
    under_systemd(|t| {
        let annotations = json!({
            "org.systemd.property.TimeoutStopSec": "5",
            "org.systemd.property.CollectMode": "'inactive'",
            "org.systemd.property.Documentation": "['https://example.org/']",
        });
        let container = t.bundle().idle().spec(|spec| spec["annotations"] = annotations).create();
        for (name, value) in
            [("TimeoutStopUSec", "5s"), ("CollectMode", "inactive"), ("Documentation", "https://example.org/")]
        {
            assert_eq!(systemd::property(&container.unit(), name), value);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_property_that_systemd_does_not_know_fails_the_create_by_its_name() {
    under_systemd(|t| {
        let annotations = json!({"org.systemd.property.NoSuchThing": "true"});
        let outcome = t.bundle().idle().spec(|spec| spec["annotations"] = annotations).try_create();
        outcome.fails_with(&["NoSuchThing"]);
    });
}

#[test]
fn a_unit_that_has_failed_is_forgotten_by_its_deletion() {
    under_systemd(|t| {
        t.runb_only("the unit of a container of crun and runc is asked about by other ways");
        for collect in ["'inactive'", "'inactive-or-failed'"] {
            let annotations = json!({
                "org.systemd.property.CollectMode": collect,
                "org.systemd.property.RuntimeMaxSec": "1",
            });
            let container = t.bundle().idle().spec(|spec| spec["annotations"] = annotations).run_detached();
            let pid = container.pid();
            // systemd ends it, and the unit has failed.
            container.reap(pid);
            container.delete().ok();
            assert_eq!(systemd::units(&container.unit()), [""; 0], "{collect}");
        }
    });
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    under_systemd(|t| {
        let bundle = t.bundle().idle();
        let unit = format!("runbtest-{}.scope", bundle.id());
        let mut other = begin_scope(t, &unit);
        bundle.try_create().fails_with(&[]);
        assert_eq!(systemd::property(&unit, "ActiveState"), "active");
        assert!(other.try_wait().expect("wait").is_none());
        systemd::end(&unit);
        other.wait().expect("wait");
        t.call(["delete", "--force", bundle.id()]);
    });
}

/// A scope of somebody else's, with a process in it.
fn begin_scope(t: &Test, unit: &str) -> Child {
    let mut told = wait::Fifo::new(&t.dir().join(t.name("told")));
    let script = format!("echo in > {}; exec sleep 86400", told.path().display());
    let mut command = Command::new("systemd-run");
    let child = command.args(["--quiet", "--scope", "--unit", unit, "sh", "-c", &script]).spawn();
    let child = child.expect("start systemd-run");
    assert_eq!(told.line(), "in");
    child
}

#[test]
fn a_unit_that_has_taken_the_name_of_an_ended_container_is_left_alone_by_its_deletion() {
    under_systemd(|t| {
        t.runb_only("runc and crun stop whatever has the name");
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        // It ends by itself as well, some time.
        systemd::end(&container.unit());
        let mut other = begin_scope(t, &container.unit());
        container.delete().ok();
        assert_eq!(systemd::property(&container.unit(), "ActiveState"), "active");
        systemd::end(&container.unit());
        other.wait().expect("wait");
    });
}

#[test]
fn two_hundred_containers_in_a_row_leave_no_unit() {
    under_systemd(|t| {
        let bundle = t.bundle().args(["true"]);
        for _ in 0..200 {
            bundle.run().ok();
        }
        assert_eq!(systemd::units(&format!("*{}*", t.tag())), [""; 0]);
    });
}

#[test]
fn fifty_containers_at_once_leave_no_unit() {
    under_systemd(|t| {
        let bundles: Vec<_> = (0..50).map(|number| t.bundle().sh(&format!("exit {number}"))).collect();
        let mut children = Vec::new();
        for bundle in &bundles {
            children.push(bundle.write().command("run", &[]).spawn().expect("start the runtime"));
        }
        for (number, child) in children.iter_mut().enumerate() {
            assert!(wait::process_end(child.id() as i32, wait::deadline()), "container {number} hangs");
            assert_eq!(child.wait().expect("wait").code(), Some(number as i32));
        }
        assert_eq!(systemd::units(&format!("*{}*", t.tag())), [""; 0]);
    });
}

#[test]
fn containers_are_made_while_systemd_is_loaded_and_executed_anew() {
    under_systemd(|t| {
        t.runb_only("runc and crun give up when the connection goes away");
        let bundles: Vec<_> = (0..6).map(|_| t.bundle().args(["true"])).collect();
        let mut children: Vec<_> = bundles
            .iter()
            .map(|bundle| bundle.write().command("run", &[]).spawn().expect("start the runtime"))
            .collect();
        for verb in ["daemon-reexec", "daemon-reload", "daemon-reexec"] {
            systemctl(&[verb]);
        }
        for child in &mut children {
            assert!(wait::process_end(child.id() as i32, wait::deadline()), "a container hangs");
            assert_eq!(child.wait().expect("wait").code(), Some(0));
        }
    });
}

/// Nobody of systemd can be reached from here on, in this test's mount namespace.
fn hide_systemd() {
    for dir in ["/run/systemd", "/run/dbus"] {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(c"mode=755")).expect("mount a tmpfs");
    }
}

#[test]
fn only_create_and_delete_need_systemd() {
    under_systemd(|t| {
        let container = t.bundle().sh("trap 'exit 3' TERM; while :; do sleep 0.1; done").create();
        let pid = container.pid();
        hide_systemd();
        container.start().ok();
        assert_eq!(container.status(), "running");
        assert_eq!(container.call("exec", &["echo", "here"]).ok().stdout, "here\n");
        container.kill(&["TERM"]).ok();
        assert_eq!(container.reap(pid), 3);
        assert_eq!(container.status(), "stopped");
        let other = t.bundle().try_create();
        other.fails_with(&[]);
        show_systemd();
        container.delete_force().ok();
    });
}

fn show_systemd() {
    for dir in ["/run/systemd", "/run/dbus"] {
        rustix::mount::unmount(dir, rustix::mount::UnmountFlags::DETACH).expect("umount");
    }
}

#[test]
fn who_can_not_be_reached_is_named() {
    under_systemd(|t| {
        t.runb_only("its own words");
        hide_systemd();
        let outcome = t.bundle().idle().try_create();
        show_systemd();
        outcome
            .fails_with(&["/run/systemd/private: no such file or directory (ENOENT)", "/run/dbus/system_bus_socket"]);
    });
}

#[test]
fn a_failing_create_leaves_no_unit_whenever_it_fails() {
    under_systemd(|t| {
        let bundles = [
            t.bundle().args(["/no/such/program"]),
            t.bundle().mount(json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"})),
            t.bundle().idle().hook("createRuntime", json!({"path": "/bin/false"})),
            t.bundle().idle().spec(|spec| spec["linux"]["resources"]["cpu"] = json!({"cpus": "4000"})),
        ];
        for bundle in bundles {
            bundle.try_create().fails_with(&[]);
            assert_eq!(systemd::units(&format!("*{}*", bundle.id())), [""; 0]);
        }
    });
}

#[test]
fn a_create_that_is_killed_at_any_moment_leaves_what_a_delete_can_take_away() {
    under_systemd(|t| {
        t.runb_only("runc and crun cannot");
        let bundle = t.bundle().idle();
        bundle.write();
        for step in 0..12u32 {
            let mut child = bundle.command("create", &[]).spawn().expect("start the runtime");
            let pid = Pid::from_raw(child.id() as i32).expect("a pid");
            // Later with every round; a create takes some hundred milliseconds there.
            let event = wait::slowly(std::time::Duration::from_millis(u64::from(step * 4)));
            wait::process_end(child.id() as i32, std::time::Instant::now() + event);
            let _ = kill_process(pid, Signal::KILL);
            child.wait().expect("wait");
            t.call(["delete", "--force", bundle.id()]).ok();
            reap_orphans();
            assert_eq!(systemd::units(&format!("*{}*", bundle.id())), [""; 0], "round {step}");
        }
    });
}

/// The inits of runtimes that were killed are this process's children.
fn reap_orphans() {
    use rustix::process::{WaitOptions, waitpid};
    while waitpid(None, WaitOptions::NOHANG).is_ok_and(|status| status.is_some()) {}
}

#[test]
fn what_systemd_makes_is_printed_before_it_is() {
    under_systemd(|t| {
        t.runb_only("a verb of its own");
        let bundle = with_limits(t.bundle().idle());
        let outcome = t.finish(bundle.write().command("plan", &[])).ok();
        let unit = format!("StartTransientUnit runbtest-{}.scope, with init as PIDs and", bundle.id());
        for line in [&unit, "Delegate=true", "TasksMax=uint64 33 # linux.resources.pids.limit"] {
            assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
        }
        assert!(!Path::new("/sys/fs/cgroup/system.slice").join(unit).exists());
        assert_eq!(systemd::units(&format!("*{}*", bundle.id())), [""; 0]);
    });
}

/// A user of the machine that has a systemd of its own, and what is called as that user.
struct User {
    ids: (u32, u32),
}

impl User {
    /// The machine's; skips the test where there is none.
    fn of_the_machine(t: &Test) -> User {
        let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
        let mut users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        });
        match users.find(|(uid, _)| Path::new(&format!("/run/user/{uid}/systemd/private")).exists()) {
            Some(ids) => User { ids },
            None => t.skip("no user has a systemd of its own here"),
        }
    }

    /// A call as the user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        let (uid, gid) = (self.ids.0.to_string(), self.ids.1.to_string());
        command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", program]);
        command
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .current_dir("/");
        command
    }

    /// A call of the runtime as root of a user namespace of the user's, as rootless engines do.
    fn runtime(&self, t: &Test, args: &[&str]) -> Outcome {
        let mut command = self.command("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "--"]);
        command.arg(t.runtime().path()).arg("--root").arg(t.root()).arg("--systemd-cgroup").args(args);
        t.finish(command)
    }

    fn property(&self, unit: &str, name: &str) -> String {
        let mut command = self.command("systemctl");
        let output = command.args(["--user", "show", "--property", name, "--value", unit]).output().expect("systemctl");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

#[test]
fn a_users_systemd_makes_the_cgroups_of_a_users_container() {
    under_systemd(|t| {
        if t.mode() != Mode::V2 {
            t.skip("a user's systemd makes no cgroups of version 1");
        }
        let user = User::of_the_machine(t);
        fs::create_dir(t.root()).expect("make a directory");
        std::os::unix::fs::chown(t.root(), Some(user.ids.0), Some(user.ids.1)).expect("chown");
        // What an unprivileged user may mount, and no device node.
        let bundle = with_limits(t.bundle().idle()).spec(|spec| {
            let bind = |path: &str| json!({"destination": path, "type": "bind", "source": path, "options": ["rbind"]});
            spec["mounts"] = json!([bind("/dev"), bind("/proc")]);
            spec["linux"]["cgroupsPath"] = json!(":u:c");
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
            spec["process"]["capabilities"] = json!({});
        });
        bundle.write();
        let dir = bundle.dir().display().to_string();
        user.runtime(t, &["create", "--bundle", &dir, bundle.id()]).ok();
        let pid = user.runtime(t, &["state", bundle.id()]).ok().json()["pid"].as_i64().expect("a pid") as i32;
        let cgroup = cgroup_dir(t, pid, "");
        assert!(cgroup.ends_with(format!("user@{}.service/user.slice/u-c.scope", user.ids.0)), "{cgroup:?}");
        for (file, value) in
            [("memory.max", "67108864"), ("pids.max", "33"), ("cpu.max", "16000 100000"), ("cpuset.cpus", "0")]
        {
            assert_eq!(fs::read_to_string(cgroup.join(file)).expect(file).trim(), value, "{file}");
        }
        for (name, value) in
            [("MemoryMax", "67108864"), ("TasksMax", "33"), ("CPUQuotaPerSecUSec", "160ms"), ("AllowedCPUs", "0")]
        {
            assert_eq!(user.property("u-c.scope", name), value, "{name}");
        }
        user.runtime(t, &["delete", "--force", bundle.id()]).ok();
        assert_eq!(user.property("u-c.scope", "ActiveState"), "inactive");
        assert!(!cgroup.exists());
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
            systemctl(&["daemon-reload"]);
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
            systemctl(&["daemon-reload"]);
            assert_eq!(opens(&container, &["/dev/some", "/dev/null"]), [allow, true], "after daemon-reload");
        }
        container.delete_force().ok();
    });
}

#[test]
fn an_update_that_systemd_is_not_there_for_changes_nothing() {
    under_systemd(|t| {
        t.runb_only("runc 1.1 and crun change some");
        let container = with_limits(t.bundle().idle()).run_detached();
        hide_systemd();
        container.call("update", &["--pids-limit", "44"]).fails_with(&[]);
        show_systemd();
        limits_hold(t, &container);
        container.delete_force().ok();
    });
}

#[test]
fn a_container_is_paused_and_killed_while_systemd_is_not_there() {
    under_systemd(|t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        hide_systemd();
        container.call("pause", &[]).ok();
        assert_eq!(container.status(), "paused");
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "running");
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        show_systemd();
        container.delete().ok();
        assert_eq!(systemd::units(&container.unit()), [""; 0]);
    });
}
