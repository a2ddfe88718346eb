//! The library in another program.

use std::process::Command;

use runb_tests::*;

/// Each container has a cgroup of its own, by its id.
fn of_many(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        spec["linux"].as_object_mut().expect("linux").remove("cgroupsPath");
    })
}

#[test]
fn threads_of_a_busy_program_run_containers_side_by_side() {
    in_modes(ALL, |t| {
        t.runb_only("the library");
        let bundle = of_many(t.bundle().sh("exit 7"));
        bundle.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedder"));
        command.arg(t.root()).arg(bundle.dir()).arg(t.name("embedded")).args(["8", "2"]);
        let mut lines = vec!["exit 7"; 8];
        lines.push("0 descriptors more");
        assert_eq!(t.finish(command).ok().lines(), lines);
    });
}

#[test]
fn an_error_reaches_the_thread_that_made_it_and_the_others_go_on() {
    in_modes(V2, |t| {
        t.runb_only("the library");
        let bundle = of_many(t.bundle().args(["/no/such/command"]));
        bundle.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedder"));
        command.arg(t.root()).arg(bundle.dir()).arg(t.name("embedded")).args(["4", "2"]);
        let outcome = t.finish(command).ok();
        let [errors @ .., descriptors] = &outcome.lines()[..] else { panic!("{outcome:?}") };
        assert_eq!((errors.len(), *descriptors), (4, "0 descriptors more"));
        for error in errors {
            assert!(error.contains("stat /no/such/command: no such file or directory"), "{error}");
        }
    });
}

#[test]
fn a_program_asks_for_what_a_container_uses_and_keeps_the_answer() {
    in_modes(ALL, |t| {
        t.runb_only("the library");
        let container = t.bundle().idle().run_detached();
        let stats = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_embedder"));
            command.arg("stats").arg(t.root()).arg(container.id());
            t.finish(command).ok().json()
        };
        let (first, second) = (stats(), stats());
        assert_eq!((&first["version"], &first["pids"]["current"]), (&json!(1), &json!(1)), "{first}");
        let total = |stats: &Value| stats["cpu"]["total"].as_u64().expect("nanoseconds");
        assert!(total(&first) > 0 && total(&second) >= total(&first), "{first} {second}");
        // Nothing of the network is kept where the kernel counts none.
        assert!(first["network"].as_array().is_some_and(|interfaces| !interfaces.is_empty()), "{first}");
        container.delete_force().ok();
    });
}

/// The library in a program that ignores SIGCHLD.
fn without_statuses(t: &Test, bundle: &Bundle<'_>) -> Outcome {
    bundle.write();
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_embedder")]);
    command.arg(t.root()).arg(bundle.dir()).arg(t.name("embedded")).args(["1", "0"]);
    t.finish(command).ok()
}

#[test]
fn a_program_that_ignores_its_children_runs_containers_and_theirs_are_not_ignored() {
    in_modes(V2, |t| {
        t.runb_only("the library");
        // The pid namespace is joined: init is a twin, whose maker nobody can reap.
        let bundle = of_many(t.bundle().join_namespace("pid", "/proc/self/ns/pid"));
        let bundle = bundle.sh("grep SigIgn /proc/self/status");
        let outcome = without_statuses(t, &bundle);
        let [ignored, "exit -1", "0 descriptors more"] = outcome.lines()[..] else { panic!("{outcome:?}") };
        let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:\t"), 16).expect("a set");
        assert_eq!(ignored & 1 << 16, 0, "SIGCHLD is ignored: {ignored:x}");
    });
}

#[test]
fn a_hook_of_a_program_that_ignores_its_children_fails_and_says_why() {
    in_modes(V2, |t| {
        t.runb_only("the library");
        let bundle = of_many(t.bundle().args(["true"])).hook("createRuntime", json!({"path": "/bin/true"}));
        let outcome = without_statuses(t, &bundle);
        assert!(outcome.stdout.contains("hooks.createRuntime[0]"), "{outcome:?}");
        assert!(outcome.stdout.contains("is lost: this program ignores SIGCHLD"), "{outcome:?}");
    });
}
