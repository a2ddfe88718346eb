//! The verbs: what they do to a container, and what they answer.

use std::fs;
use std::process::{Command, Stdio};

use runb_tests::*;

/// What a runtime says of an id that it does not know. crun's word for it is not the engines'.
fn gone(t: &Test) -> &'static str {
    if t.is(&[Kind::Crun]) { "No such file or directory" } else { "does not exist" }
}

#[test]
fn run_returns_the_exit_code_of_the_workload() {
    in_modes(ALL, |t| {
        let outcome = t.bundle().sh("echo out; echo err >&2; exit 7").run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "out\n"), "{outcome:?}");
        assert!(outcome.stderr.contains("err\n"), "{outcome:?}");
    });
}

#[test]
fn run_returns_128_and_the_signal_that_killed_the_workload() {
    in_modes(LIFECYCLE, |t| {
        // Without a pid namespace of its own, since the first process of one ignores its own signals.
        let outcome = t.bundle().without_namespace("pid").sh("kill -9 $$").run();
        assert_eq!(outcome.code, 137, "{outcome:?}");
    });
}

#[test]
fn create_leaves_the_workload_waiting_for_start() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh("echo started >/share/events");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.create();
        assert_eq!(container.status(), "created");
        assert!(events.is_silent());
        let pid = container.pid();
        container.start().ok();
        assert_eq!(events.line(), "started");
        assert_eq!(container.reap(pid), 0);
        assert_eq!(container.status(), "stopped");
        container.delete().ok();
    });
}

#[test]
fn state_tells_what_the_specification_demands() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().idle().spec(|spec| spec["annotations"] = json!({"org.example.key": "value"}));
        let (id, dir) = (bundle.id().to_owned(), bundle.dir().to_owned());
        let container = bundle.create();
        let state = container.state();
        assert!(state["ociVersion"].as_str().expect("ociVersion").starts_with("1."), "{state}");
        assert_eq!(state["id"], json!(id));
        assert_eq!(state["status"], "created");
        assert_eq!(state["bundle"], json!(dir));
        assert_eq!(state["annotations"]["org.example.key"], "value");
        assert!(fs::exists(format!("/proc/{}/ns", state["pid"])).expect("stat"), "{state}");
        container.start().ok();
        assert_eq!(container.status(), "running");
        container.kill(&["KILL"]).ok();
        assert_eq!(container.reap(state["pid"].as_i64().expect("pid") as i32), 137);
        let state = container.state();
        assert_eq!((&state["status"], &state["pid"]), (&json!("stopped"), &json!(0)));
        container.delete().ok();
    });
}

#[test]
fn run_detached_returns_while_the_workload_runs() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
        assert!(t.call(["state", container.id()]).fails_with(&[gone(t)]).stdout.is_empty());
    });
}

#[test]
fn run_with_keep_leaves_a_stopped_container() {
    in_modes(LIFECYCLE, |t| {
        if !t.is(&[Kind::Runb]) && !t.call(["run", "--help"]).stdout.contains("--keep") {
            t.skip("this peer has no --keep");
        }
        let bundle = t.bundle().sh("exit 3");
        assert_eq!(bundle.run_with(&["--keep"]).code, 3);
        assert_eq!(t.call(["state", bundle.id()]).ok().json()["status"], "stopped");
        t.call(["delete", bundle.id()]).ok();
    });
}

#[test]
fn the_pid_file_holds_digits_and_no_newline() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().idle();
        let file = t.dir().join("pid");
        let container = bundle.create_with(&["--pid-file", file.to_str().expect("text")]);
        let text = fs::read_to_string(&file).expect("read the pid file");
        assert_eq!(text, container.pid().to_string());
        container.delete_force().ok();
    });
}

#[test]
fn the_pid_file_appears_complete() {
    in_modes(V2, |t| {
        // crun opens and writes it in place.
        if t.is(&[Kind::Crun]) {
            t.skip("crun's pid file is not atomic");
        }
        let dir = t.dir().join("engine");
        fs::create_dir(&dir).expect("make a directory");
        let changes = wait::Changes::of(&dir);
        let file = dir.join("pid");
        let container = t.bundle().idle().create_with(&["--pid-file", file.to_str().expect("text")]);
        let written: Vec<_> = changes.written();
        assert!(!written.contains(&"pid".to_owned()), "written in place: {written:?}");
        assert_eq!(fs::read_to_string(&file).expect("the pid file"), container.pid().to_string());
        assert_eq!(fs::read_dir(&dir).expect("list").count(), 1, "a temporary file stays");
        container.delete_force().ok();
    });
}

#[test]
fn list_shows_each_container_with_its_status() {
    in_modes(V2, |t| {
        let [created, running] = [t.bundle().idle().create(), t.bundle().idle().run_detached()];
        let list = t.call(["list", "--format", "json"]).ok().json();
        let status = |id: &str| {
            let all = list.as_array().expect("a list");
            all.iter().find(|entry| entry["id"] == id).expect("listed")["status"].clone()
        };
        assert_eq!(status(created.id()), "created");
        assert_eq!(status(running.id()), "running");
        let quiet = t.call(["list", "--quiet"]).ok();
        let mut ids = quiet.lines();
        ids.sort_unstable();
        let mut expected = [created.id(), running.id()];
        expected.sort_unstable();
        assert_eq!(ids, expected);
        let table = t.call(["list"]).ok().stdout;
        assert!(table.lines().next().is_some_and(|line| line.starts_with("ID") || line.starts_with("NAME")), "{table}");
        created.delete_force().ok();
        running.delete_force().ok();
    });
}

#[test]
fn list_of_nothing_is_no_error() {
    in_modes(V2, |t| {
        fs::create_dir_all(t.root()).expect("make the folder");
        assert!(t.call(["list", "-q"]).ok().stdout.is_empty());
    });
}

#[test]
fn delete_of_a_running_container_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        container.delete().fails_with(&[container.id()]);
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn delete_force_removes_a_created_container() {
    in_modes(ALL, |t| {
        t.bundle().idle().create().delete_force().ok();
    });
}

#[test]
fn delete_force_removes_a_running_container() {
    in_modes(ALL, |t| {
        t.bundle().idle().run_detached().delete_force().ok();
    });
}

#[test]
fn delete_force_kills_what_a_container_without_a_pid_namespace_has_started() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Runc]) && t.mode() == Mode::V2 {
            t.skip("runc 1.1 leaves the cgroup of a container without a pid namespace on v2");
        }
        let bundle = t.bundle().without_namespace("pid").sh("sleep 86400 & sleep 86400 & echo up >/share/events; wait");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.run_detached();
        assert_eq!(events.line(), "up");
        container.delete_force().ok();
    });
}

#[test]
fn delete_force_removes_a_stopped_container() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        container.delete_force().ok();
    });
}

#[test]
fn delete_force_of_an_id_that_is_gone_is_silent_and_succeeds() {
    in_modes(V2, |t| {
        let outcome = t.call(["delete", "--force", &t.name("gone")]).ok();
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""), "{outcome:?}");
    });
}

#[test]
fn delete_of_an_id_that_is_gone_says_that_it_does_not_exist() {
    in_modes(V2, |t| {
        t.call(["delete", &t.name("gone")]).fails_with(&[gone(t)]);
    });
}

#[test]
fn every_verb_on_an_unknown_id_says_that_it_does_not_exist() {
    in_modes(V2, |t| {
        for verb in ["start", "state", "kill", "delete"] {
            t.call([verb, &t.name("gone")]).fails_with(&[gone(t)]);
        }
    });
}

#[test]
fn start_twice_is_refused_and_the_workload_goes_on() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().create();
        container.start().ok();
        container.start().fails_with(&[]);
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn start_of_a_stopped_container_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        container.start().fails_with(&[]);
        container.delete().ok();
    });
}

#[test]
fn an_id_in_use_is_refused_and_its_container_goes_on() {
    in_modes(LIFECYCLE, |t| {
        let first = t.bundle().idle().run_detached();
        t.bundle().with_id(first.id()).try_create().fails_with(&["exist"]);
        assert_eq!(first.status(), "running");
        first.delete_force().ok();
    });
}

#[test]
fn kill_sends_term_unless_told_otherwise() {
    in_modes(LIFECYCLE, |t| {
        let bundle =
            t.bundle().sh("trap 'exit 3' TERM; echo ready >/share/events; while :; do sleep 86400 & wait; done");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.run_detached();
        assert_eq!(events.line(), "ready");
        let pid = container.pid();
        container.kill(&[]).ok();
        assert_eq!(container.reap(pid), 3);
        container.delete().ok();
    });
}

#[test]
fn kill_takes_a_signal_by_its_number_and_its_name() {
    in_modes(V2, |t| {
        for signal in ["10", "USR1", "SIGUSR1"] {
            let bundle =
                t.bundle().sh("trap 'exit 4' USR1; echo ready >/share/events; while :; do sleep 86400 & wait; done");
            let mut events = t.fifo(&bundle, "events");
            let container = bundle.run_detached();
            assert_eq!(events.line(), "ready");
            let pid = container.pid();
            container.kill(&[signal]).ok();
            assert_eq!(container.reap(pid), 4, "{signal}");
            container.delete().ok();
        }
    });
}

#[test]
fn kill_with_an_unknown_signal_is_refused_by_its_name() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes an unknown name for signal 0");
        }
        let container = t.bundle().idle().create();
        container.kill(&["NOSUCH"]).fails_with(&["NOSUCH"]);
        assert_eq!(container.status(), "created");
        container.delete_force().ok();
    });
}

#[test]
fn kill_of_a_created_container_ends_it() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().create();
        let pid = container.pid();
        container.kill(&["9"]).ok();
        container.reap(pid);
        assert_eq!(container.status(), "stopped");
        container.delete().ok();
    });
}

#[test]
fn a_created_container_ends_by_each_signal_that_asks_for_its_end() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun's init is the first process of its pid namespace, and ignores them");
        }
        for (signal, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("ABRT", 6), ("TERM", 15)] {
            for bundle in [t.bundle().idle(), t.bundle().idle().without_namespace("pid")] {
                let container = bundle.create();
                let pid = container.pid();
                container.kill(&[signal]).ok();
                let code = container.reap(pid);
                // runc's exits with 2, or dies by the signal where it may.
                assert!(code == 128 + number || t.is(&[Kind::Runc]), "{signal}: {code}");
                assert_eq!(container.status(), "stopped", "{signal}");
                container.delete().ok();
            }
        }
        // The workload has none of it.
        let container = t.bundle().idle().without_namespace("pid").create();
        let pid = container.pid();
        container.start().ok();
        container.kill(&["TERM"]).ok();
        assert_eq!(container.reap(pid), 128 + 15);
        container.delete().ok();
    });
}

#[test]
fn kill_9_without_a_pid_namespace_of_its_own_ends_all_that_the_container_has_started() {
    in_modes(ALL, |t| {
        // Debian's runc does so since 1.2.
        t.runb_only("Debian's peers end init alone");
        let first = t.bundle().idle().run_detached();
        let joined = format!("/proc/{}/ns/pid", first.pid());
        for init in ["stays; wait", "goes"] {
            for bundle in [t.bundle().without_namespace("pid"), t.bundle().join_namespace("pid", &joined)] {
                let script = format!("sleep 86400 & sleep 86400 & echo >/share/events {init}");
                let bundle = bundle.sh(&script);
                let mut events = t.fifo(&bundle, "events");
                let container = bundle.create();
                let pid = container.pid();
                container.start().ok();
                if events.line() == "goes" {
                    container.reap(pid);
                    container.kill(&["TERM"]).fails_with(&["container not running"]);
                }
                let procs = t.cgroup_file("pids", container.id(), "cgroup.procs");
                let pids: Vec<i32> = procs.lines().map(|line| line.parse().expect("a pid")).collect();
                assert_eq!(pids.contains(&pid), init != "goes", "{procs}");
                container.kill(&["KILL"]).ok();
                for pid in &pids {
                    assert!(wait::process_end(*pid, wait::deadline()), "{init}: {pid} goes on");
                }
                // A pid namespace's first process waits for all others to be reaped.
                if pids.contains(&pid) {
                    container.reap(pid);
                }
                assert_eq!(container.status(), "stopped");
                container.delete().ok();
            }
        }
        first.delete_force().ok();
    });
}

#[test]
fn kill_of_a_stopped_container_says_that_it_is_not_running() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        // crun: "kill container: No such process", which the shim knows in small letters only.
        let texts: &[&str] = if t.is(&[Kind::Crun]) { &[] } else { &["container not running"] };
        container.kill(&["9"]).fails_with(texts);
        container.delete().ok();
    });
}

#[test]
fn kill_all_of_a_stopped_container_succeeds() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        // crun makes the cgroup's absence an error here.
        let outcome = t.call(["kill", "--all", container.id(), "9"]);
        assert!(outcome.code == 0 || t.is(&[Kind::Crun]), "{outcome:?}");
        container.delete().ok();
    });
}

#[test]
fn kill_all_reaches_every_process_of_the_cgroup() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().without_namespace("pid").sh("sleep 86400 & echo $! >/share/events; wait");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.run_detached();
        let other: i32 = events.line().parse().expect("a pid");
        let pid = container.pid();
        t.call(["kill", "--all", container.id(), "9"]).ok();
        assert_eq!(container.reap(pid), 137);
        assert!(wait::process_end(other, wait::deadline()));
        container.delete_force().ok();
    });
}

#[test]
fn delete_ends_what_outlived_the_init_of_a_container_without_a_pid_namespace() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Runc]) && t.mode() == Mode::V2 {
            t.skip("runc 1.1 leaves the cgroup of a container without a pid namespace on v2");
        }
        let bundle = t.bundle().without_namespace("pid").sh("sleep 86400 & echo up >/share/events");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.create();
        let pid = container.pid();
        container.start().ok();
        assert_eq!(events.line(), "up");
        container.reap(pid);
        container.delete_force().ok();
    });
}

#[test]
fn run_in_the_foreground_forwards_signals() {
    in_modes(LIFECYCLE, |t| {
        let bundle =
            t.bundle().sh("trap 'exit 5' TERM; echo ready >/share/events; while :; do sleep 86400 & wait; done");
        let mut events = t.fifo(&bundle, "events");
        let mut child = bundle.write().command("run", &[]).stdin(Stdio::null()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "ready");
        let pid = rustix_pid(child.id());
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        assert!(wait::process_end(child.id() as i32, wait::deadline()));
        assert_eq!(child.wait().expect("wait").code(), Some(5));
    });
}

fn rustix_pid(pid: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid as i32).expect("a pid")
}

#[test]
fn a_reused_pid_is_not_taken_for_the_container() {
    in_modes(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        rustix::process::kill_process(rustix_pid(pid as u32), rustix::process::Signal::KILL).expect("kill");
        container.reap(pid);
        let mut other = other_process_with(pid);
        assert_eq!(container.status(), "stopped");
        assert_ne!(container.kill(&["9"]).code, 0);
        container.delete().ok();
        assert!(other.try_wait().expect("wait").is_none(), "the other process was killed");
        other.kill().expect("kill");
        other.wait().expect("wait");
    });
}

/// A process that has the pid `pid`, which is free, and another start time than the one before it.
fn other_process_with(pid: i32) -> std::process::Child {
    let start_time = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
        let fields = stat.rsplit_once(')').expect("a name").1.to_owned();
        fields.split_whitespace().nth(19).expect("field 22").parse::<u64>().expect("ticks")
    };
    let mut first = None;
    loop {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("write ns_last_pid");
        let mut child = Command::new("sleep").arg("86400").spawn().expect("start sleep");
        assert_eq!(child.id() as i32, pid, "another process took the pid");
        // Started in the same tick as the container perhaps: the next tick is certainly another one.
        if start_time(pid) > *first.get_or_insert(start_time(pid)) {
            return child;
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}

#[test]
fn the_init_outlives_the_parent_of_create() {
    in_modes(V2, |t| {
        let bundle = t.bundle().idle();
        bundle.write();
        let mut command = t.wrapped(&["sh", "-c", "\"$@\" & wait $!", "sh"], ["create", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let container = bundle.container(t.finish(command).ok());
        container.start().ok();
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn a_verb_works_without_path_and_with_a_library_path() {
    in_modes(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        let mut command = t.command(["kill", container.id(), "9"]);
        command.env_clear().env("LD_LIBRARY_PATH", "/opt/containerd/lib");
        t.finish(command).ok();
        container.reap(pid);
        let mut command = t.command(["delete", container.id()]);
        command.env_clear();
        t.finish(command).ok();
    });
}

#[test]
fn the_log_is_appended_to() {
    in_modes(V2, |t| {
        for _ in 0..2 {
            t.call(["state", &t.name("gone")]).fails_with(&[gone(t)]);
        }
        assert_eq!(fs::read_to_string(t.log()).expect("the log").lines().count(), 2);
    });
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle();
        let mut command = t.command(["spec", "--bundle"]);
        command.arg(bundle.dir());
        t.finish(command).ok();
        let file = bundle.dir().join("config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&file).expect("config.json")).expect("JSON");
        assert_eq!(spec["process"]["args"], json!(["sh"]));
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", "exit 6"]);
        let id = bundle.id().to_owned();
        spec["linux"]["cgroupsPath"] = json!(format!("/{id}"));
        fs::write(&file, spec.to_string()).expect("write config.json");
        let outcome = t.finish(bundle.command("run", &[]));
        assert_eq!(outcome.code, 6, "{outcome:?}");
        let again = t.finish({
            let mut command = t.command(["spec", "--bundle"]);
            command.arg(bundle.dir());
            command
        });
        assert!(again.code != 0 || t.is(&[Kind::Crun]), "an existing config.json was overwritten");
    });
}

#[test]
fn version_has_the_lines_that_engines_parse() {
    in_modes(V2, |t| {
        let text = t.finish(version(t)).ok().stdout;
        let mut lines = text.lines();
        assert_eq!(lines.next().map(|line| line.contains(" version ")), Some(true), "{text}");
        assert!(text.lines().any(|line| line.starts_with("commit: ")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("spec: 1.")), "{text}");
    });
}

fn version(t: &Test) -> Command {
    let mut command = Command::new(t.runtime().path());
    command.arg("--version");
    command
}

#[test]
fn features_tells_hooks_namespaces_and_mount_options() {
    in_modes(V2, |t| {
        let mut command = Command::new(t.runtime().path());
        command.arg("features");
        let outcome = t.finish(command);
        if outcome.code != 0 && t.is(&[Kind::Runc, Kind::Crun]) {
            t.skip("this peer has no features verb");
        }
        let features = outcome.ok().json();
        assert_eq!(features["hooks"].as_array().expect("hooks").len(), 6);
        for namespace in ["pid", "network", "ipc", "uts", "mount", "cgroup"] {
            let all = features["linux"]["namespaces"].as_array().expect("namespaces");
            assert!(all.contains(&json!(namespace)), "{namespace}: {features}");
        }
        assert!(features["mountOptions"].as_array().expect("options").contains(&json!("rbind")));
    });
}

#[test]
fn features_tells_of_the_host_what_the_mode_is_and_why_something_does_not_work() {
    in_modes(ALL, |t| {
        t.runb_only("features --host");
        let mut command = Command::new(t.runtime().path());
        command.args(["features", "--host", "--json"]);
        let host = t.finish(command).ok().json();
        let expected = match t.mode() {
            Mode::V1 => "v1",
            Mode::Hybrid => "hybrid",
            Mode::V2 => "v2",
        };
        assert_eq!(host["cgroup"]["mode"], expected);
        for ability in host["abilities"].as_array().expect("abilities") {
            let (works, reason) = (ability["works"].as_str().expect("a word"), &ability["reason"]);
            assert!(works == "yes" || reason.as_str().is_some_and(|text| !text.is_empty()), "{ability}");
        }
    });
}

#[test]
fn the_program_is_linked_statically() {
    in_modes(V2, |t| {
        t.runb_only("one static binary");
        let output = Command::new("ldd").arg(t.runtime().path()).output().expect("start ldd");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(text.contains("statically linked") || text.contains("not a dynamic executable"), "{text}");
    });
}

#[test]
fn plan_prints_a_launch_and_touches_nothing() {
    in_modes(V2, |t| {
        t.runb_only("the plan verb");
        let bundle = t.bundle().idle();
        bundle.write();
        let mut command = t.command(["plan", "--calls", "--bundle"]);
        command.arg(bundle.dir());
        let text = t.finish(command).ok().stdout;
        assert!(text.contains("mounts[0]") && text.contains("execve"), "{text}");
        let mut command = t.command(["plan", "--json", "--bundle"]);
        command.arg(bundle.dir());
        t.finish(command).ok().json();
    });
}

#[test]
fn a_debian_rootfs_runs() {
    in_modes(LIFECYCLE, |t| {
        let Some(rootfs) = std::env::var_os("RUNB_TESTS_DEBIAN") else { t.skip("RUNB_TESTS_DEBIAN names no rootfs") };
        let outcome = t
            .bundle()
            .spec(|spec| {
                spec["root"]["path"] = json!(rootfs.to_str().expect("text"));
                spec["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/share");
            })
            .args(["/bin/bash", "-c", ". /etc/os-release; echo $ID; ls /proc/self/fd | wc -l; hostname"])
            .run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "debian\n4\nrunb\n"), "{outcome:?}");
    });
}
