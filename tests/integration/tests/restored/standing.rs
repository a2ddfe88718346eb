//! How a restored container stands on the machine: its unit of systemd, its profile, its namespaces; and what a checkpoint makes of one
//! that is paused, or has a filter with a listener.

use super::*;

#[test]
fn the_unit_of_systemd_is_there_again_with_its_limits_and_goes_with_the_container() {
    let _alone = criu::alone();
    under_systemd(|t| {
        let criu = t.criu();
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["resources"]["memory"] = json!({"limit": 256 << 20});
            spec["linux"]["resources"]["pids"] = json!({"limit": 33});
        });
        let (container, mut said, mut input) = answering(t, bundle);
        let unit = container.unit();
        for (round, flags) in [&[][..], &["--manage-cgroups-mode", "ignore"]].into_iter().enumerate() {
            let images = t.dir().join(format!("images-{round}"));
            let images = images.to_str().expect("text");
            let pid = container.pid();
            criu.checkpoint(t, container.id(), images, flags).ok();
            container.reap(pid);
            assert_eq!(systemd::units(&unit), [""; 0], "a container that is gone has no unit");
            criu.restore(t, container.bundle(), images, flags).ok();
            answers(&mut said, &mut input, "b", &format!("b {} 0 runb", round + 1));
            assert_eq!(systemd::property(&unit, "ActiveState"), "active");
            assert_eq!(systemd::property(&unit, "TasksMax"), "33");
            let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroups");
            let own = systemd::property(&unit, "ControlGroup");
            assert!(cgroups.lines().any(|line| line.ends_with(&format!(":{own}"))), "{own} in {cgroups}");
            if t.mode() == Mode::V2 {
                assert_eq!(systemd::property(&unit, "MemoryMax"), (256 << 20).to_string());
                let file = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup{own}/{name}")).expect(name);
                assert_eq!((file("pids.max").trim(), file("memory.max").trim()), ("33", "268435456"));
            }
        }
        assert_eq!(container.call("exec", &["hostname"]).ok().stdout, "runb\n");
        container.delete_force().ok();
        assert_eq!(systemd::units(&unit), [""; 0]);
    });
}

#[test]
fn a_process_has_its_profile_again_or_the_one_that_is_named() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        let (own, other) = (Profile::load(t, ""), Profile::load(t, "deny /etc/group r,"));
        let (container, mut said, mut input) =
            answering(t, t.bundle().set("/process/apparmorProfile", json!(own.name)));
        let current = || {
            let text = fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).expect("a profile");
            text.trim_end().to_owned()
        };
        assert_eq!(current(), own.enforced());
        criu.round_trip(t, &container, &[]);
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        assert_eq!(current(), own.enforced());
        let images = t.dir().join("other");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        let named = format!("apparmor:{}", other.name);
        criu.restore(t, container.bundle(), images, &["--lsm-profile", &named]).ok();
        answers(&mut said, &mut input, "c", "c 2 0 runb");
        assert_eq!(current(), other.enforced());
        container.delete_force().ok();
    });
}

#[test]
fn a_paused_container_is_saved_and_runs_when_it_is_restored() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        let criu = t.criu();
        let (container, mut said, mut input) = answering(t, t.bundle());
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let flags = ["--manage-cgroups-mode", "ignore"];
        container.call("pause", &[]).ok();
        // What is to run on stays as it is.
        criu.checkpoint(t, container.id(), images, &[&flags[..], &["--leave-running"]].concat()).ok();
        assert_eq!(container.status(), "paused");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &flags).ok();
        container.reap(pid);
        criu.restore(t, container.bundle(), images, &flags).ok();
        assert_eq!(container.status(), "running");
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        container.call("pause", &[]).ok();
        container.call("resume", &[]).ok();
        answers(&mut said, &mut input, "c", "c 2 0 runb");
        container.delete_force().ok();
    });
}

#[test]
fn namespaces_of_others_are_joined_again() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        let holder = t.bundle().idle().spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "time"}));
        });
        let holder = holder.run_detached();
        let inode = |pid: i32, name: &str| fs::metadata(format!("/proc/{pid}/ns/{name}")).expect("a namespace").ino();
        for name in ["ipc", "uts", "pid", "time"] {
            let path = format!("/proc/{}/ns/{name}", holder.pid());
            let bundle = t.bundle().join_namespace(name, &path);
            let bundle = bundle.spec(|spec| drop(spec.as_object_mut().expect("an object").remove("hostname")));
            let (container, mut said, mut input) = answering(t, bundle);
            criu.round_trip(t, &container, &["--manage-cgroups-mode", "ignore"]);
            writeln!(input, "b").expect("write to the fifo");
            assert!(said.line().starts_with("b 1 0 "), "{name}");
            let pid = container.pid();
            assert_eq!(inode(pid, name), inode(holder.pid(), name), "{name}");
            container.delete_force().ok();
            // The holder of the pid namespace ends no sooner.
            container.reap(pid);
        }
        holder.delete_force().ok();
    });
}

#[test]
fn a_container_in_a_cgroup_namespace_of_others_is_not_saved_and_runs_on() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        t.runb_only("the text is runb's");
        let criu = t.criu();
        let holder = t.bundle().idle().run_detached();
        let path = format!("/proc/{}/ns/cgroup", holder.pid());
        let (container, mut said, mut input) = answering(t, t.bundle().join_namespace("cgroup", &path));
        let images = t.dir().join("images");
        let outcome = criu.checkpoint(t, container.id(), images.to_str().expect("text"), &[]);
        outcome.fails_with(&["linux.namespaces[", ".path: ", "a cgroup namespace of others"]);
        assert!(!images.exists());
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        container.delete_force().ok();
        holder.delete_force().ok();
    });
}

#[test]
fn a_filter_with_a_listener_cannot_be_saved_and_the_container_runs_on() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        let bundle = t.bundle();
        let socket = bundle.dir().join("listener");
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        let agent = Agent::bind(&socket).answers(&[]);
        let (container, mut said, mut input) = answering(t, bundle.set("/linux/seccomp", profile));
        if !t.is(&[Kind::Runb]) {
            // They save it. Nobody answers for the container that they restore, and what the filter asks about fails.
            criu.round_trip(t, &container, &["--manage-cgroups-mode", "ignore"]);
            agent.join().expect("the agent");
            let outcome = container.call("exec", &["mkdir", "/tmp/d"]);
            assert!(outcome.stderr.contains("Function not implemented"), "{outcome:?}");
            container.delete_force().ok();
            return;
        }
        let images = t.dir().join("images");
        for flags in [&[][..], &["--leave-running"]] {
            let outcome = criu.checkpoint(t, container.id(), images.to_str().expect("text"), flags);
            outcome.fails_with(&["linux.seccomp.listenerPath: ", "cannot be checkpointed"]);
        }
        assert!(!images.exists());
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        container.delete_force().ok();
        agent.join().expect("the agent");
    });
}
