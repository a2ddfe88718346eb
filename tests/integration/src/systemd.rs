//! What systemd knows of a unit.

use std::process::Command;

fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().expect("start systemctl");
    assert!(output.status.success(), "systemctl {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
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
        let _ = Command::new("systemctl").args(verb).args(["--", unit]).output();
    }
}
