//! Units: their names and properties, whose they are, and that none stays.

use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use super::*;

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
        systemd::systemctl(&["stop", &format!("{slice}.slice")]);
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
        for collect in [None, Some("'inactive'"), Some("'inactive-or-failed'")] {
            // Long enough for the container to run before.
            let seconds = wait::slowly(std::time::Duration::from_secs(1)).as_secs().to_string();
            let mut annotations =
                json!({"org.systemd.property.RuntimeMaxSec": seconds, "org.systemd.property.TimeoutStopSec": "1"});
            if let Some(collect) = collect {
                annotations["org.systemd.property.CollectMode"] = collect.into();
            }
            let container = t.bundle().idle().spec(|spec| spec["annotations"] = annotations).run_detached();
            let (pid, unit) = (container.pid(), container.unit());
            let dir = cgroup_dir(t, pid, "name=systemd");
            // systemd ends it, and the unit has failed.
            container.reap(pid);
            let failed = collect != Some("'inactive-or-failed'");
            let state = if failed { "failed" } else { "inactive" };
            let parent = dir.parent().expect("a slice");
            wait::change_in(parent, "the unit's end", || systemd::property(&unit, "ActiveState") == state);
            assert_eq!(systemd::units(&unit).len(), usize::from(failed), "{collect:?}");
            container.delete().ok();
            assert_eq!(systemd::units(&unit), [""; 0], "{collect:?}");
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
            renew(verb);
        }
        for child in &mut children {
            assert!(wait::process_end(child.id() as i32, wait::deadline()), "a container hangs");
            assert_eq!(child.wait().expect("wait").code(), Some(0));
        }
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
    while waitpid(None, WaitOptions::NOHANG).is_ok_and(|status| status.is_some()) {}
}
#[test]
fn what_systemd_makes_is_printed_before_it_is() {
    under_systemd(|t| {
        t.runb_only("a verb of its own");
        let bundle = with_limits(t.bundle().idle());
        let unit = format!("runbtest-{}.scope", bundle.id());
        let calls = format!("StartTransientUnit {unit}, with init as PIDs and");
        for (flags, first) in [(&[] as &[&str], &unit), (&["--calls"], &calls)] {
            let outcome = t.finish(bundle.write().command("plan", flags)).ok();
            for line in [first, "Delegate=true", "TasksMax=uint64 33 # linux.resources.pids.limit"] {
                assert!(outcome.stdout.contains(line), "{line}: {}", outcome.stdout);
            }
            assert!(!outcome.stdout.contains("nothing is done for it"), "{}", outcome.stdout);
        }
        assert!(!Path::new("/sys/fs/cgroup/system.slice").join(unit).exists());
        assert_eq!(systemd::units(&format!("*{}*", bundle.id())), [""; 0]);
    });
}
