//! The invocation log: two lines for each call, on by default, and never a reason for a call to fail.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use runb_tests::*;

const LOG: &str = "/var/log/runb.log";

/// The log's lines.
fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A call without `--log`, with settings in its environment.
fn call(t: &Test, environment: &[(&str, &str)], args: &[&str]) -> Outcome {
    let mut command = Command::new(t.runtime().path());
    command.arg("--root").arg(t.root()).args(args).envs(environment.iter().copied());
    t.finish(command)
}

fn only_here(t: &Test) {
    t.runb_only("the invocation log");
}

#[test]
fn each_call_leaves_a_call_line_and_an_exit_line() {
    in_modes(LIFECYCLE, |t| {
        only_here(t);
        let bundle = t.bundle().sh("exit 3");
        let id = bundle.id().to_owned();
        assert_eq!(bundle.run().code, 3);
        let lines = lines(Path::new(LOG));
        let [call, exit] = lines.as_slice() else { panic!("not two lines: {lines:#?}") };
        assert!(call.starts_with("[20") && call.contains("] call runb: "), "{call}");
        assert!(call.contains(" run ") && call.contains(&id), "{call}");
        assert!(exit.contains("] exit ") && exit.contains(&id) && exit.contains("run"), "{exit}");
        assert!(exit.contains('3'), "{exit}");
    });
}

#[test]
fn the_life_of_a_container_is_in_the_log_call_by_call() {
    in_modes(LIFECYCLE, |t| {
        only_here(t);
        let container = t.bundle().idle().create();
        let pid = container.pid();
        container.start().ok();
        container.kill(&["9"]).ok();
        container.reap(pid);
        container.delete().ok();
        let lines = lines(Path::new(LOG));
        for verb in ["create", "state", "start", "kill", "delete"] {
            let calls = lines.iter().filter(|line| line.contains("] call ") && line.contains(&format!(" {verb} ")));
            assert_eq!(calls.count(), 1, "{verb}: {lines:#?}");
        }
        assert_eq!(lines.iter().filter(|line| line.contains("] exit ")).count(), 5, "{lines:#?}");
    });
}

#[test]
fn the_exit_line_of_a_failure_has_its_error() {
    in_modes(V2, |t| {
        only_here(t);
        call(t, &[], &["state", "nobody"]);
        let lines = lines(Path::new(LOG));
        assert!(lines.last().is_some_and(|line| line.contains("does not exist")), "{lines:#?}");
    });
}

#[test]
fn a_usage_error_is_in_the_log() {
    in_modes(V2, |t| {
        only_here(t);
        assert_ne!(call(t, &[], &["nosuchverb"]).code, 0);
        let lines = lines(Path::new(LOG));
        assert!(lines.iter().any(|line| line.contains("call") && line.contains("nosuchverb")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("] exit ")), "{lines:#?}");
    });
}

#[test]
fn json_lines_are_json() {
    in_modes(V2, |t| {
        only_here(t);
        call(t, &[("RUNB_LOG_FORMAT", "json")], &["state", "no\"bo\ndy"]);
        let lines = lines(Path::new(LOG));
        assert_eq!(lines.len(), 2, "{lines:#?}");
        for line in &lines {
            assert!(line.parse::<Value>().is_ok(), "{line}");
        }
    });
}

#[test]
fn no_argument_can_forge_a_line() {
    in_modes(V2, |t| {
        only_here(t);
        let forged = "x\n[2026-01-01T00:00:00.000000+00:00] call runb: forged\r\x1b[2Jy";
        call(t, &[], &["state", forged]);
        let text = fs::read_to_string(LOG).expect("the log");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.bytes().all(|byte| byte == b'\n' || byte >= b' ' && byte != 0x7f), "{text:?}");
    });
}

#[test]
fn a_very_long_argument_is_cut() {
    in_modes(V2, |t| {
        only_here(t);
        let long = "x".repeat(100_000);
        call(t, &[], &["state", &long]);
        let lines = lines(Path::new(LOG));
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.len() < 65536), "{:?}", lines.iter().map(String::len).collect::<Vec<_>>());
    });
}

#[test]
fn values_of_the_environment_are_not_written() {
    in_modes(V2, |t| {
        only_here(t);
        let env = json!(["PATH=/bin", "TOKEN=very-secret"]);
        t.bundle().set("/process/env", env).args(["true"]).run().ok();
        call(t, &[("CALLERS", "very-secret")], &["state", "nobody"]);
        assert!(!fs::read_to_string(LOG).expect("the log").contains("very-secret"));
    });
}

#[test]
fn the_environment_names_another_file_or_none() {
    in_modes(V2, |t| {
        only_here(t);
        let own = t.dir().join("own.log");
        call(t, &[("RUNB_LOG", own.to_str().expect("text"))], &["state", "nobody"]);
        assert_eq!(lines(&own).len(), 2);
        call(t, &[("RUNB_LOG", "off")], &["state", "nobody"]);
        assert!(!Path::new(LOG).exists());
    });
}

#[test]
fn a_full_disk_fails_no_call() {
    in_modes(V2, |t| {
        only_here(t);
        let outcome = t.bundle().args(["true"]).write().run_logged(t, "/dev/full");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    });
}

#[test]
fn a_missing_directory_fails_no_call() {
    in_modes(V2, |t| {
        only_here(t);
        let outcome = t.bundle().args(["true"]).write().run_logged(t, "/no/such/directory/runb.log");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    });
}

#[test]
fn a_log_on_a_read_only_file_system_fails_no_call() {
    in_modes(V2, |t| {
        only_here(t);
        // /proc cannot get a file from anyone.
        let outcome = t.bundle().args(["true"]).write().run_logged(t, "/proc/runb.log");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        let outcome = t.bundle().args(["true"]).write().run_logged(t, "/var/log");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    });
}

#[test]
fn a_log_that_nobody_reads_from_does_not_block() {
    in_modes(V2, |t| {
        only_here(t);
        let fifo = t.dir().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("start mkfifo");
        assert!(made.success());
        let outcome = t.bundle().args(["true"]).write().run_logged(t, fifo.to_str().expect("text"));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    });
}

trait RunLogged {
    /// `run` with the invocation log at `path`.
    fn run_logged(&self, t: &Test, path: &str) -> Outcome;
}

impl RunLogged for Bundle<'_> {
    fn run_logged(&self, t: &Test, path: &str) -> Outcome {
        let mut command = self.command("run", &[]);
        command.env("RUNB_LOG", path);
        t.finish(command)
    }
}

#[test]
fn lines_of_calls_at_the_same_time_do_not_mix() {
    in_modes(V2, |t| {
        only_here(t);
        let state = || {
            let mut command = t.command(["state", "nobody"]);
            let null = || File::create("/dev/null").expect("open /dev/null");
            command.stdout(null()).stderr(null()).spawn().expect("start the runtime")
        };
        let children: Vec<_> = (0..50).map(|_| state()).collect();
        for mut child in children {
            child.wait().expect("wait");
        }
        let lines = lines(Path::new(LOG));
        assert_eq!(lines.len(), 100);
        assert!(lines.iter().all(|line| line.starts_with("[20")), "{lines:#?}");
    });
}
