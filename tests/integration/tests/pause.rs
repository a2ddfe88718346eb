//! `pause` and `resume`, and what the other verbs do with a paused container.

use std::fs;

use runb_tests::*;

/// Whether the kernel says that the container's processes stand still.
fn stands_still(t: &Test, container: &Container<'_>) -> bool {
    match t.mode() {
        Mode::V2 => t.cgroup_file("", container.id(), "cgroup.events").contains("frozen 1"),
        _ => t.cgroup_file("freezer", container.id(), "freezer.state") == "FROZEN",
    }
}

/// The directory in which the container is frozen.
fn freezer(t: &Test, path: &str) -> std::path::PathBuf {
    match t.mode() {
        Mode::V2 => std::path::PathBuf::from("/sys/fs/cgroup").join(path),
        _ => t.controller_dir("freezer").expect("a freezer").join(path),
    }
}

/// Debian's crun 1.8 neither asks for the status before it freezes, nor thaws what it kills.
fn not_crun_1_8(t: &Test) {
    if t.is(&[Kind::Crun]) {
        t.skip("crun 1.8 kills what is frozen, and leaves it frozen");
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().sh("exec 3<>/share/in; while read line <&3; do echo got $line >/share/out; done");
        let (mut input, mut output) = (fs::File::options(), t.fifo(&bundle, "out"));
        let _keeps_it_open = t.fifo(&bundle, "in");
        let path = bundle.share_dir().join("in");
        let container = bundle.run_detached();
        let mut says = |text: &str| {
            use std::io::Write;
            let mut file = input.write(true).open(&path).expect("open the fifo");
            writeln!(file, "{text}").expect("write to the fifo");
        };
        says("one");
        assert_eq!(output.line(), "got one");
        container.call("pause", &[]).ok();
        assert_eq!(container.status(), "paused");
        assert!(stands_still(t, &container));
        says("two");
        assert!(output.is_silent());
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "running");
        assert!(!stands_still(t, &container));
        assert_eq!(output.line(), "got two");
        container.delete_force().ok();
    });
}

#[test]
fn only_what_runs_is_paused_and_only_what_is_paused_resumed() {
    in_modes(LIFECYCLE, |t| {
        not_crun_1_8(t);
        let container = t.bundle().idle().run_detached();
        container.call("resume", &[]).fails_with(&["not paused"]);
        container.call("pause", &[]).ok();
        container.call("pause", &[]).fails_with(&["not running"]);
        container.call("resume", &[]).ok();
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        container.call("pause", &[]).fails_with(&["not running"]);
        container.call("resume", &[]).fails_with(&["not paused"]);
        container.delete().ok();
        for verb in ["pause", "resume"] {
            t.call([verb, "nobody"]).fails_with(&["does not exist"]);
        }
    });
}

#[test]
fn an_exec_into_a_paused_container_is_refused_or_waits_for_the_resume() {
    in_modes(ALL, |t| {
        t.runb_only("Debian's peers have no --ignore-paused, or do not refuse");
        let container = t.bundle().idle().run_detached();
        container.call("pause", &[]).ok();
        let outcome = container.call("exec", &["true"]);
        assert_eq!(outcome.code, 255, "{outcome:?}");
        assert!(outcome.message().contains("cannot exec in a paused container"), "{outcome:?}");
        let mut exec = t.command(["exec", "--ignore-paused", container.id(), "echo", "ran"]);
        let exec = exec.stdout(std::process::Stdio::piped()).spawn().expect("start exec");
        container.call("resume", &[]).ok();
        let output = exec.wait_with_output().expect("the exec's end");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ran\n".as_slice()));
        container.delete_force().ok();
    });
}

#[test]
fn a_paused_container_is_killed() {
    in_modes(ALL, |t| {
        not_crun_1_8(t);
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        container.call("pause", &[]).ok();
        container.kill(&["KILL"]).ok();
        assert_eq!(container.reap(pid), 137);
        assert_eq!(container.status(), "stopped");
        container.delete().ok();
    });
}

#[test]
fn a_paused_container_is_deleted_by_force_alone() {
    in_modes(ALL, |t| {
        not_crun_1_8(t);
        let container = t.bundle().sh("sleep 86400 & exec sleep 86400").run_detached();
        container.call("pause", &[]).ok();
        container.delete().fails_with(&["paused"]);
        assert_eq!(container.status(), "paused");
        container.delete_force().ok();
    });
}

#[test]
fn a_created_container_that_is_paused_starts_after_its_resume() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun starts it");
        }
        let container = t.bundle().idle().create();
        container.call("pause", &[]).ok();
        container.start().fails_with(&["paused"]);
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "created");
        container.start().ok();
        container.delete_force().ok();
    });
}

#[test]
fn a_container_that_a_cgroup_above_holds_is_not_resumed() {
    in_modes(ALL, |t| {
        t.runb_only("peers say nothing of it");
        let parent = t.name("above");
        let path = format!("/{parent}/c");
        let container = t.bundle().idle().set("/linux/cgroupsPath", json!(path)).run_detached();
        let above = freezer(t, &parent);
        let (file, frozen, thawed) = match t.mode() {
            Mode::V2 => ("cgroup.freeze", "1", "0"),
            _ => ("freezer.state", "FROZEN", "THAWED"),
        };
        container.call("pause", &[]).ok();
        fs::write(above.join(file), frozen).expect("freeze above");
        container.call("resume", &[]).fails_with(&[above.to_str().expect("text"), "is frozen"]);
        fs::write(above.join(file), thawed).expect("thaw above");
        container.delete_force().ok();
    });
}
