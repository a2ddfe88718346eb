//! What systemd knows of a unit.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};

use crate::wait;

fn call(args: &[&str]) -> Output {
    Command::new("systemctl").args(args).output().expect("start systemctl")
}

fn succeeds(args: &[&str]) -> String {
    let output = call(args);
    assert!(output.status.success(), "systemctl {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// Tests run at once, and systemd listens to nobody while one of them has it executed anew: they wait for each other here.
fn turn() -> File {
    let file = std::env::temp_dir().join("runb-tests-systemd");
    File::options().create(true).truncate(false).write(true).open(file).expect("a file to lock")
}

/// Calls systemctl, which must succeed; what it prints.
pub fn systemctl(args: &[&str]) -> String {
    let turn = turn();
    turn.lock_shared().expect("flock");
    succeeds(args)
}

/// Has systemd executed anew, and waits until it listens.
pub fn execute_anew() {
    let turn = turn();
    turn.lock().expect("flock");
    succeeds(&["daemon-reexec"]);
    let answers = || call(&["show", "--property=Version"]).status.success();
    // It writes there, last of all, that it has loaded its units.
    wait::change_in(Path::new("/run/systemd"), "systemd's return", answers);
}

/// The property `name` of `unit` as `systemctl show` prints it. Of a unit that is not loaded it is the default.
pub fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--property", name, "--value", "--", unit])
}

/// The units that match `pattern` and are active, about to be, or have failed.
pub fn units(pattern: &str) -> Vec<String> {
    let list = systemctl(&["list-units", "--plain", "--no-legend", "--full", "--", pattern]);
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Ends a unit with all its processes, and forgets how it ended.
pub fn end(unit: &str) {
    for verb in [&["kill", "--signal=KILL"][..], &["stop"], &["reset-failed"]] {
        // What it does not apply to any more is said to stderr.
        let turn = turn();
        turn.lock_shared().expect("flock");
        call(&[verb, &["--", unit]].concat());
    }
}
