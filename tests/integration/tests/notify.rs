//! SCMP_ACT_NOTIFY: a listener outside decides over calls of the workload.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;

use runb_tests::*;

const EPERM: i32 = 1;
const ENOSPC: i32 = 28;

/// Where the listener of a bundle is.
fn socket(bundle: &Bundle<'_>) -> PathBuf {
    bundle.dir().join("listener")
}

/// A profile that asks the listener about `names`, and lets everything else pass.
fn asking<'t>(bundle: Bundle<'t>, names: &[&str]) -> Bundle<'t> {
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket(&bundle),
        "listenerMetadata": "of this test",
        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
    });
    bundle.set("/linux/seccomp", profile)
}

fn with_tmp(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}))
}

/// Makes a directory, links, asks for its parent, and says what came of each.
const ASK: &str = "mkdir /tmp/d 2>&1; ln -s target /tmp/l && readlink /tmp/l; sh -c 'echo parent $PPID'";
const ASKED: [&str; 3] = ["mkdir", "symlink", "getppid"];
const ANSWERS: [(&str, Answer); 2] = [("mkdir", Answer::Errno(ENOSPC)), ("getppid", Answer::Value(4242))];

/// What `heard` says of the process: the id, the state as the specification has it for `status`.
#[track_caller]
fn check_state(heard: &Heard, container: &Bundle<'_>, status: &str, init: Option<i64>) -> i64 {
    let pid = heard.state["pid"].as_i64().expect("a pid");
    let expected = json!({
        "ociVersion": "1.0.2",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": "of this test",
        "state": {
            "ociVersion": "1.0.2",
            "id": container.id(),
            "status": status,
            "pid": init.unwrap_or(pid),
            "bundle": container.dir(),
            "annotations": {"of": "the test"},
        },
    });
    assert_eq!(heard.state, expected);
    assert_eq!(heard.descriptors, 1);
    pid
}

fn annotated(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.set("/annotations", json!({"of": "the test"}))
}

#[test]
fn a_listener_answers_with_an_errno_or_a_value_or_lets_the_call_pass() {
    in_modes(LIFECYCLE, |t| {
        let bundle = asking(with_tmp(t.bundle()).sh(ASK), &ASKED);
        let agent = Agent::bind(&socket(&bundle)).answers(&ANSWERS);
        let outcome = bundle.run().ok();
        let heard = agent.join().expect("the agent");
        for line in ["No space left on device", "\ntarget\n", "\nparent 4242\n"] {
            assert!(outcome.stdout.contains(line), "{line:?}: {outcome:?}");
        }
        for name in ASKED {
            assert!(heard.names().contains(&name), "{name}: {heard:?}");
        }
    });
}

#[test]
fn the_container_process_state_is_that_of_the_specification() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers send the state of an older specification");
        let bundle = annotated(asking(t.bundle().sh("sh -c 'echo $PPID'"), &["getppid"]));
        let agent = Agent::bind(&socket(&bundle)).answers_after_the_end(&[("getppid", Answer::Value(7))]);
        let container = bundle.create();
        let init: i64 = container.pid().into();
        container.start().ok();
        assert_eq!(container.reap(init as i32), 0);
        let heard = agent.join().expect("the agent");
        assert_eq!(check_state(&heard, container.bundle(), "creating", None), init);
        assert_eq!(container.stdout(), "7\n");
        container.delete().ok();
    });
}

#[test]
fn metadata_that_is_not_set_is_not_in_the_state() {
    in_modes(V2, |t| {
        let bundle = asking(t.bundle().sh("true"), &["mkdir"]);
        let bundle = bundle.spec(|spec| {
            spec["linux"]["seccomp"].as_object_mut().expect("the profile").remove("listenerMetadata");
        });
        let agent = Agent::bind(&socket(&bundle)).answers(&[]);
        bundle.run().ok();
        let state = agent.join().expect("the agent").state;
        assert!(state.get("metadata").is_none_or(|metadata| t.is(&[Kind::Runc]) && metadata == ""), "{state}");
    });
}

#[test]
fn an_exec_has_a_listener_and_a_state_of_its_own() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("Debian's peers send the state of an older specification");
        for no_new_privileges in [true, false] {
            let bundle = with_tmp(t.bundle()).idle().set("/process/noNewPrivileges", json!(no_new_privileges));
            let bundle = annotated(asking(bundle, &ASKED));
            let agent = Agent::bind(&socket(&bundle));
            let of_init = agent.answers(&[]);
            let container = bundle.run_detached();
            let of_exec = agent.answers_after_the_end(&ANSWERS);
            let file = t.dir().join(t.name("pid"));
            let mut command = t.command(["exec", "--pid-file"]);
            command.arg(&file).args([container.id(), "sh", "-c", ASK]);
            let outcome = t.finish(command).ok();
            for line in ["No space left on device", "\ntarget\n", "\nparent 4242\n"] {
                assert!(outcome.stdout.contains(line), "{line:?}: {outcome:?}");
            }
            let heard = of_exec.join().expect("the agent");
            let init: i64 = container.pid().into();
            let pid = check_state(&heard, container.bundle(), "running", Some(init));
            assert_eq!(fs::read_to_string(file).expect("the pid"), pid.to_string());
            assert_ne!(pid, init);
            container.delete_force().ok();
            check_state(&of_init.join().expect("the agent"), container.bundle(), "creating", None);
        }
    });
}

#[test]
fn a_start_container_hook_has_a_listener_and_a_state_of_its_own() {
    in_modes(V2, |t| {
        t.runb_only("the peers' hooks share the listener of init");
        for no_new_privileges in [true, false] {
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "mkdir /share/d 2>/share/said; true"]});
            let bundle = t.bundle().idle().hook("startContainer", hook);
            let bundle = annotated(asking(bundle.set("/process/noNewPrivileges", json!(no_new_privileges)), &ASKED));
            let (agent, said) = (Agent::bind(&socket(&bundle)), bundle.share_dir().join("said"));
            let of_init = agent.answers(&[]);
            let container = bundle.create();
            let of_hook = agent.answers_after_the_end(&ANSWERS);
            container.start().ok();
            let heard = of_hook.join().expect("the agent");
            let init: i64 = container.pid().into();
            assert_ne!(check_state(&heard, container.bundle(), "created", Some(init)), init);
            assert!(fs::read_to_string(said).expect("the hook ran").contains("No space left on device"));
            container.delete_force().ok();
            check_state(&of_init.join().expect("the agent"), container.bundle(), "creating", None);
        }
    });
}

#[test]
fn a_container_in_the_pid_namespace_of_another_has_its_listener() {
    in_modes(V2, |t| {
        let first = t.bundle().with_id(&t.name("f")).idle().run_detached();
        for no_new_privileges in [true, false] {
            let bundle = with_tmp(t.bundle()).with_id(&t.name("s")).sh(ASK);
            let bundle = bundle.join_namespace("pid", &format!("/proc/{}/ns/pid", first.pid()));
            let bundle = asking(bundle.set("/process/noNewPrivileges", json!(no_new_privileges)), &ASKED);
            let agent = Agent::bind(&socket(&bundle));
            let of_run = agent.answers(&ANSWERS);
            let outcome = bundle.run().ok();
            assert!(outcome.stdout.contains("No space left on device"), "{outcome:?}");
            of_run.join().expect("the agent");
            let of_create = agent.answers(&ANSWERS);
            let container = bundle.with_id(&t.name("s")).create();
            let pid = container.pid();
            container.start().ok();
            container.reap(pid);
            assert!(container.stdout().contains("No space left on device"), "{}", container.stdout());
            of_create.join().expect("the agent");
            container.delete().ok();
        }
        first.delete_force().ok();
    });
}

#[test]
fn a_listener_that_is_not_there_fails_create_and_nothing_is_left() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers find out when the container is half made");
        let bundle = asking(t.bundle().idle(), &["mkdir"]);
        let path = socket(&bundle);
        let named = path.to_str().expect("text");
        bundle.try_create().fails_with(&["linux.seccomp.listenerPath", named, "no such file or directory"]);
        // A socket that nobody listens at.
        drop(UnixListener::bind(&path).expect("bind"));
        bundle.try_create().fails_with(&["linux.seccomp.listenerPath", named, "connection refused"]);
        fs::remove_file(&path).expect("unlink");
        fs::write(&path, "").expect("a file");
        bundle.try_create().fails_with(&["linux.seccomp.listenerPath", named, "connection refused"]);
    });
}

#[test]
fn a_listener_that_is_not_there_fails_exec_and_the_container_runs_on() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers find out when the process is half made");
        let bundle = asking(t.bundle().idle(), &["mkdir"]);
        let path = socket(&bundle);
        let agent = Agent::bind(&path);
        let of_init = agent.answers(&[]);
        let container = bundle.run_detached();
        drop(agent);
        let outcome = container.call("exec", &["true"]);
        assert_eq!(outcome.code, 255, "{outcome:?}");
        assert!(outcome.stderr.contains("linux.seccomp.listenerPath"), "{outcome:?}");
        assert!(outcome.stderr.contains("connection refused"), "{outcome:?}");
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
        of_init.join().expect("the agent");
    });
}

#[test]
fn a_listener_that_hangs_up_before_it_has_the_state_fails_create() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers connect late");
        let bundle = asking(t.bundle().idle(), &["mkdir"]);
        let gate = bundle.dir().join("gate");
        let mut fifo = wait::Fifo::new(&gate);
        let script = format!("echo come >{0}; read go <{0}.go", gate.display());
        let go = gate.with_extension("go");
        let _held = wait::Fifo::new(&go);
        let bundle = bundle.hook("createRuntime", json!({"path": "/bin/sh", "args": ["sh", "-c", script]}));
        let agent = Agent::bind(&socket(&bundle)).hangs_up();
        let mut create = bundle.write().command("create", &[]);
        let child = create.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start");
        assert_eq!(fifo.line(), "come");
        agent.join().expect("the agent");
        fs::write(&go, "go\n").expect("open the gate");
        let output = child.wait_with_output().expect("wait");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("linux.seccomp.listenerPath") && message.contains("broken pipe"), "{message}");
    });
}

#[test]
fn calls_fail_with_enosys_where_the_listener_was_let_go() {
    in_modes(V2, |t| {
        let bundle = asking(with_tmp(t.bundle()).sh("mkdir /tmp/d 2>&1; true"), &["mkdir"]);
        let agent = Agent::bind(&socket(&bundle)).lets_go();
        let outcome = bundle.run().ok();
        assert!(outcome.stdout.contains("Function not implemented"), "{outcome:?}");
        agent.join().expect("the agent");
    });
}

/// Calls that init makes between the load of the filter and the execve, in one way of starting or another.
const OF_INIT: [&str; 10] =
    ["capset", "clone", "close", "dup3", "fcntl", "ioctl", "read", "rt_sigaction", "rt_sigprocmask", "setsid"];

#[test]
fn what_init_calls_is_no_question_to_the_listener() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the others let the listener decide over calls of their own");
        for no_new_privileges in [true, false] {
            let names = [&OF_INIT[..], &["execve"]].concat();
            let bundle = t.bundle().args(["true"]).set("/process/noNewPrivileges", json!(no_new_privileges));
            let bundle = asking(bundle, &names);
            let agent = Agent::bind(&socket(&bundle));
            let answers = OF_INIT.map(|name| (name, Answer::Errno(EPERM)));
            let first = |heard: Heard| heard.calls.first().map(|(name, _)| name.clone());
            let of_run = agent.answers_after_the_end(&answers);
            bundle.run().ok();
            assert_eq!(first(of_run.join().expect("the agent")).as_deref(), Some("execve"));

            let of_create = agent.answers(&answers);
            let container = bundle.args(["sleep", "86400"]).create();
            container.start().ok();
            let of_exec = agent.answers_after_the_end(&answers);
            container.call("exec", &["true"]).ok();
            assert_eq!(first(of_exec.join().expect("the agent")).as_deref(), Some("execve"));
            container.delete_force().ok();
            assert_eq!(first(of_create.join().expect("the agent")).as_deref(), Some("execve"));
        }
    });
}

#[test]
fn a_listener_may_refuse_the_execve_of_the_workload() {
    in_modes(V2, |t| {
        t.runb_only("the others let the listener decide over calls of their own");
        let bundle = asking(t.bundle().args(["/bin/true"]), &["execve"]);
        let agent = Agent::bind(&socket(&bundle));
        let refusing = agent.answers(&[("execve", Answer::Errno(EPERM))]);
        bundle.run().fails_with(&["process.args[0]", "/bin/true", "EPERM"]);
        refusing.join().expect("the agent");

        let refusing = agent.answers(&[("execve", Answer::Errno(EPERM))]);
        let container = bundle.create();
        container.start().fails_with(&["process.args[0]", "/bin/true", "EPERM"]);
        refusing.join().expect("the agent");
        container.delete().ok();
    });
}

#[test]
fn no_start_waits_for_a_listener_that_was_let_go() {
    in_modes(V2, |t| {
        t.runb_only("the others let the listener decide over calls of their own");
        let bundle = asking(t.bundle().args(["/bin/true"]), &["execve"]);
        let agent = Agent::bind(&socket(&bundle));
        let gone = agent.lets_go();
        bundle.run().fails_with(&["process.args[0]", "/bin/true", "ENOSYS"]);
        gone.join().expect("the agent");
        let gone = agent.lets_go();
        let container = bundle.create();
        gone.join().expect("the agent");
        container.start().fails_with(&["process.args[0]", "/bin/true", "ENOSYS"]);
        container.delete().ok();
    });
}

#[test]
fn a_container_can_be_deleted_while_its_start_waits_for_the_listener() {
    in_modes(V2, |t| {
        let bundle = asking(t.bundle().args(["/bin/true"]), &["execve"]);
        let agent = Agent::bind(&socket(&bundle)).keeps();
        let container = bundle.create();
        let mut start = t.command(["start", container.id()]);
        let mut start = start.stdin(Stdio::null()).spawn().expect("start");
        agent.join().expect("the agent").awaits_a_call();
        container.delete_force().ok();
        // A death in the execve cannot be told from one right after it: how the start ends is not asked.
        start.wait().expect("wait");
    });
}

#[test]
fn calls_by_which_the_listener_is_handed_over_cannot_be_its_to_decide() {
    in_modes(V2, |t| {
        t.runb_only("the others refuse write alone");
        for name in ["write", "recvfrom"] {
            let bundle = asking(t.bundle(), &["mkdir", name]);
            let text = format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
            bundle.try_create().fails_with(&["linux.seccomp.syscalls[0].action", &text]);
        }
    });
}

#[test]
fn a_profile_that_kills_init_before_the_listener_is_handed_over_is_refused() {
    in_modes(V2, |t| {
        t.runb_only("the others find out when init is dead");
        for (name, action, text) in [
            ("dup3", "SCMP_ACT_KILL_PROCESS", "answers dup3 with KILL_PROCESS"),
            ("write", "SCMP_ACT_ERRNO", "answers write with ERRNO EPERM"),
            ("recvfrom", "SCMP_ACT_ERRNO", "answers recvfrom with ERRNO EPERM"),
        ] {
            let bundle = asking(t.bundle(), &["mkdir"]).spec(|spec| {
                let rules = spec["linux"]["seccomp"]["syscalls"].as_array_mut().expect("rules");
                rules.push(json!({"names": [name], "action": action}));
            });
            bundle.try_create().fails_with(&["linux.seccomp", text]);
        }
    });
}

#[test]
fn a_call_of_init_that_the_profile_forbids_is_named() {
    in_modes(V2, |t| {
        t.runb_only("the others call other calls");
        let bundle = asking(t.bundle().idle(), &["mkdir"]).spec(|spec| {
            let rules = spec["linux"]["seccomp"]["syscalls"].as_array_mut().expect("rules");
            rules.push(json!({"names": ["dup3"], "action": "SCMP_ACT_ERRNO"}));
        });
        let agent = Agent::bind(&socket(&bundle)).hangs_up();
        bundle.try_create().fails_with(&["dup3", "EPERM"]);
        agent.join().expect("the agent");
    });
}
