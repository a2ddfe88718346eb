//! Words that users and scripts wait for. Who wrote for runc looks for runc's: here they stand inside of runb's own sentences.

use std::process::Command;

use runb_tests::*;

/// The last line of stderr, of runb and runc alike.
#[track_caller]
fn last_line(outcome: &Outcome) -> &str {
    outcome.stderr.lines().last().unwrap_or_else(|| panic!("no stderr: {outcome:?}"))
}

fn not_crun(t: &Test) {
    if t.is(&[Kind::Crun]) {
        t.skip("crun has its own words, and takes less than runc does");
    }
}

/// Expects that the call has failed with `text`, in runb's one line with each of `more` as well.
#[track_caller]
fn says(t: &Test, outcome: Outcome, text: &str, more: &[&str]) {
    assert_ne!(outcome.code, 0, "{outcome:?}");
    if t.is(&[Kind::Crun]) {
        return;
    }
    let line = last_line(&outcome);
    assert!(outcome.stderr.contains(text), "{text:?} is not in {outcome:?}");
    for text in if t.is(&[Kind::Runb]) { more } else { &[] } {
        assert!(line.contains(text), "{text:?} is not in {line:?}");
    }
}

#[test]
fn a_hook_that_fails_is_told_by_kind_and_number() {
    in_modes(V2, |t| {
        not_crun(t);
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
            let hook = |path: &str| json!({"path": path});
            let bundle = t.bundle().sh("true").hook(kind, hook("/bin/true")).hook(kind, hook("/bin/false"));
            let place = format!("hooks.{kind}[1] (/bin/false): ");
            // Debian's runc has no names for the kinds.
            let text = if t.is(&[Kind::Runb]) { format!("error running {kind} hook #1: ") } else { "hook #1: ".into() };
            says(t, bundle.run(), &text, &[&place, "exit status 1"]);
        }
    });
}

#[test]
fn a_script_whose_interpreter_is_missing_is_told_as_the_kernel_tells_it() {
    in_modes(V2, |t| {
        not_crun(t);
        let bundle = || {
            t.bundle().rootfs_with(|rootfs| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::write(rootfs.join("run.sh"), "#!/no/such/interpreter\n").expect("written");
                std::fs::set_permissions(rootfs.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("executable");
            })
        };
        let text = "exec /run.sh: no such file or directory";
        let more = ["process.args[0]: ", "its interpreter is not", "(ENOENT)"];
        let container = bundle().args(["/run.sh"]).create();
        // Debian's runc lets the workload say it.
        if t.is(&[Kind::Runb]) {
            says(t, container.call("start", &[]), text, &more);
        }
        container.delete_force().ok();
        // Debian's runc adds a quoted name.
        let text = if t.is(&[Kind::Runb]) { text } else { "no such file or directory" };
        let container = bundle().idle().run_detached();
        for outcome in [bundle().args(["/run.sh"]).run(), t.call(["exec", container.id(), "/run.sh"])] {
            assert!(outcome.code != 0 && outcome.stderr.contains(text), "{outcome:?}");
            if t.is(&[Kind::Runb]) {
                // In the workload's name it is what a shell would say, and nothing else.
                assert_eq!(outcome.stderr, format!("{text}\n"));
                let logged = std::fs::read_to_string(t.log()).expect("the log");
                let logged = logged.lines().last().expect("a line");
                assert!(more.iter().all(|text| logged.contains(text)), "{logged}");
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn what_is_no_regular_format_is_told_with_the_file() {
    in_modes(V2, |t| {
        let bundle = t.bundle().rootfs_with(|rootfs| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(rootfs.join("bin/text"), "no program\n").expect("written");
            std::fs::set_permissions(rootfs.join("bin/text"), PermissionsExt::from_mode(0o755)).expect("executable");
        });
        let bundle = bundle.args(["text"]);
        if !t.is(&[Kind::Runb]) {
            return says(t, bundle.run(), "exec format error", &[]);
        }
        let text = "exec /bin/text: exec format error";
        assert_eq!(bundle.run().stderr, format!("{text}\n"));
        let container = bundle.create();
        says(t, container.call("start", &[]), text, &["process.args[0]: ", "(ENOEXEC)"]);
        container.delete_force().ok();
    });
}

#[test]
fn limits_of_version_2_on_version_1_are_an_invalid_configuration() {
    in_modes(V1, |t| {
        not_crun(t);
        let bundle = t.bundle().set("/linux/resources", json!({"unified": {"pids.max": "5"}}));
        let text = if t.is(&[Kind::Runb]) { "invalid configuration" } else { "unified" };
        says(t, bundle.try_create(), text, &["linux.resources.unified: "]);
    });
}

#[test]
fn a_seccomp_agent_that_is_not_there_and_a_call_that_it_cannot_have_are_named() {
    in_modes(V2, |t| {
        let with = |name: &str| {
            t.bundle().set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/no/such/agent",
                    "syscalls": [{"names": [name], "action": "SCMP_ACT_NOTIFY"}],
                }),
            )
        };
        let more = ["linux.seccomp.listenerPath: ", "connect to /no/such/agent", "(ENOENT)"];
        says(t, with("mkdir").run(), "failed to connect with seccomp agent", &more);
        let text = "SCMP_ACT_NOTIFY cannot be used for the write syscall";
        says(t, with("write").run(), text, &["linux.seccomp.syscalls[0].action: "]);
    });
}

#[test]
fn a_hook_that_the_seccomp_filter_ends_is_told_so() {
    in_modes(V2, |t| {
        t.runb_only("which hooks run under the filter is each runtime's own choice");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -SYS $$"]});
        let outcome = t.bundle().sh("true").hook("createRuntime", hook).try_create();
        says(t, outcome, "error running createRuntime hook #0: killed by SIGSYS (bad system call", &[]);
    });
}

#[test]
fn the_cgroup_of_an_exec_is_looked_for_below_the_containers() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        let exec = |cgroup: &str| t.call(["exec", "--cgroup", cgroup, container.id(), "true"]);
        if t.is(&[Kind::Runb]) {
            says(t, exec(".."), "bad sub cgroup path", &["--cgroup: \"..\": "]);
            says(
                t,
                exec("none"),
                " adding pid of the process to cgroups: ",
                &["/none", "no such file or directory (ENOENT)"],
            );
        }
        container.delete_force().ok();
    });
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_a_warning() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers fail, or say nothing");
        let sets = json!({"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]});
        let outcome = t.bundle().set("/process/capabilities", sets).args(["true"]).run().ok();
        assert!(outcome.log.contains("can't raise ambient capability CAP_CHOWN: "), "{outcome:?}");
    });
}

#[test]
fn a_letter_of_device_access_that_means_nothing_is_a_warning() {
    in_modes(V1, |t| {
        not_crun(t);
        let rules = json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwa"}]);
        let outcome = t.bundle().set("/linux/resources", json!({"devices": rules})).args(["true"]).run().ok();
        if t.is(&[Kind::Runb]) {
            assert!(outcome.log.contains("linux.resources.devices[1].access: of \\\"rwa\\\""), "{outcome:?}");
        }
    });
}

#[test]
fn a_key_of_the_configuration_in_another_case_is_read() {
    in_modes(V2, |t| {
        not_crun(t);
        let bundle = t.bundle().args(["hostname"]).spec(|spec| {
            spec["Hostname"] = json!("written-so");
            spec.as_object_mut().expect("an object").remove("hostname");
        });
        let outcome = bundle.run().ok();
        assert_eq!(outcome.stdout.trim(), "written-so");
        if t.is(&[Kind::Runb]) {
            assert!(outcome.log.contains("Hostname is read as hostname"), "{outcome:?}");
        }
    });
}

#[test]
fn the_process_of_an_exec_may_come_by_a_pipe() {
    in_modes(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let process =
            json!({"args": ["echo", "by a pipe"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]});
        let script = format!("echo '{process}' | \"$@\"");
        let args = ["exec", "--process", "/dev/stdin", container.id()];
        let outcome = t.finish(t.wrapped(&["sh", "-c", &script, "sh"], args)).ok();
        assert_eq!(outcome.stdout, "by a pipe\n");
        container.delete_force().ok();
    });
}

#[test]
fn list_of_a_root_that_is_named_and_not_there_is_an_error_and_of_the_default_one_it_is_empty() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc takes it for an empty one, crun makes it");
        let list = |root: &[&str]| {
            let mut command = Command::new(t.runtime().path());
            command.args(root).args(["list", "--quiet"]);
            t.finish(command)
        };
        let outcome = list(&["--root", "/run/no-such-root"]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("/run/no-such-root") && outcome.stderr.contains("no such file"), "{outcome:?}");
        assert_eq!(list(&[]).ok().stdout, "");
        assert!(!std::path::Path::new("/run/no-such-root").exists());
    });
}

/// A bundle about which there is nothing to warn of.
fn unwarned(t: &Test) -> Bundle<'_> {
    t.bundle().set("/process/capabilities/ambient", json!([]))
}

/// The `msg` of each debugging line in logrus' text form.
fn debugged(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with("time=\"20") && line.contains("Z\" level=debug msg="));
    let message = |line: &str| line.split_once(" msg=").map(|(_, message)| message.to_owned());
    lines.filter_map(message).collect()
}

#[test]
fn debug_prints_each_step_of_a_launch_to_stderr_in_logrus_form() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("each runtime has its own words for its own steps");
        let call = |args: &[&str]| {
            let mut command = Command::new(t.runtime().path());
            command.arg("--root").arg(t.root()).arg("--debug").args(args);
            t.finish(command)
        };
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": []});
        let bundle = unwarned(t).sh("true").set("/linux/seccomp", seccomp);
        let bundle =
            bundle.hook("createRuntime", json!({"path": "/bin/true"})).hook("poststart", json!({"path": "/bin/true"}));
        let bundle = bundle.hook("poststop", json!({"path": "/bin/true"}));
        bundle.write();
        let dir = bundle.dir().to_str().expect("text").to_owned();
        let outcome = call(&["run", "--bundle", &dir, bundle.id()]).ok();
        let said = debugged(&outcome.stderr);
        assert_eq!(said.len(), outcome.stderr.lines().count(), "{}", outcome.stderr);
        let mut wanted = vec![
            " called\"",
            "\"the machine was looked at, after ",
            "\"the cgroups were made, after ",
            " was cloned, after ",
            "\"planned: ",
            "\"seccomp filter flags: 2\"",
            "\"the container's folder was made, after ",
            "\"init has made the mounts, and waits for hooks, after ",
            "\"hooks.createRuntime[0] (/bin/true) ran: exit status 0, after ",
            "\"init is ready to execute, after ",
            "\"the workload was executed, after ",
            "\"hooks.poststart[0] (/bin/true) ran: exit status 0, after ",
            "\"init has ended, and nobody is left in the cgroup, after ",
            "\"hooks.poststop[0] (/bin/true) ran: exit status 0, after ",
            "\"the cgroups and the folder were removed, after ",
            "\"exit status 0 after ",
        ];
        wanted.reverse();
        for line in &said {
            if wanted.last().is_some_and(|text| line.contains(text)) {
                wanted.pop();
            }
        }
        assert_eq!(wanted, Vec::<&str>::new(), "not there, or not in this order: {said:#?}");

        // What was done before a failure is told, too, and the error is the last line.
        let bundle = t.bundle().hook("createRuntime", json!({"path": "/bin/false"}));
        bundle.write();
        let dir = bundle.dir().to_str().expect("text").to_owned();
        let outcome = call(&["create", "--bundle", &dir, bundle.id()]);
        let said = debugged(&outcome.stderr);
        assert!(said.iter().any(|line| line.contains("hooks.createRuntime[0] (/bin/false) ran")), "{said:#?}");
        assert!(said.iter().any(|line| line.contains("the cgroups and the folder were removed")), "{said:#?}");
        assert!(outcome.code == 1, "{outcome:?}");
    });
}

#[test]
fn debug_says_nothing_of_the_steps_unless_it_is_asked_for() {
    in_modes(V2, |t| {
        t.runb_only("runb's own words");
        let outcome = unwarned(t).args(["true"]).run().ok();
        assert_eq!((outcome.stderr.as_str(), outcome.log.as_str()), ("", ""));
    });
}
