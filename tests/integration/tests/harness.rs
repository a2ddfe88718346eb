//! The harness itself: each kind of leftover is seen.

use std::fs;
use std::process::Command;

use runb_tests::leftovers::Snapshot;
use runb_tests::*;
use rustix::process::{Pid, Signal, kill_process};

/// Makes a leftover, and takes it away after the search.
fn seen(t: &Test, word: &str, make: impl FnOnce() -> Box<dyn FnOnce()>) {
    let before = Snapshot::take(t);
    let take_away = make();
    let left = before.leftovers(t);
    take_away();
    assert!(left.iter().any(|line| line.contains(word)), "{word} was not seen: {left:?}");
    assert_eq!(before.leftovers(t), [""; 0]);
}

#[test]
fn a_process_is_seen() {
    in_modes(V2, |t| {
        seen(t, "process ", || {
            let mut child = Command::new("sleep").arg("86400").spawn().expect("start sleep");
            Box::new(move || {
                child.kill().expect("kill");
                child.wait().expect("wait");
            })
        });
    });
}

#[test]
fn a_cgroup_is_seen_in_any_hierarchy() {
    in_modes(ALL, |t| {
        let root = if t.mode() == Mode::V2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
        let path = format!("{root}/{}", t.name("left"));
        seen(t, "cgroup ", || {
            fs::create_dir(&path).expect("make a cgroup");
            Box::new(move || fs::remove_dir(path).expect("remove the cgroup"))
        });
    });
}

#[test]
fn a_mount_is_seen() {
    in_modes(V2, |t| {
        let place = t.dir().join("place");
        fs::create_dir(&place).expect("make a directory");
        let run = |program: &str, args: &[&str]| {
            assert!(Command::new(program).args(args).arg(&place).status().expect("start mount").success());
        };
        let before = Snapshot::take(t);
        run("mount", &["-t", "tmpfs", "left"]);
        assert!(before.leftovers(t).iter().any(|line| line.starts_with("mount ")));
        run("umount", &[]);
    });
}

#[test]
fn a_descriptor_is_seen() {
    in_modes(V2, |t| {
        seen(t, "descriptor ", || {
            let file = fs::File::open("/etc/passwd").expect("open a file");
            Box::new(move || drop(file))
        });
    });
}

#[test]
fn state_is_seen() {
    in_modes(V2, |t| {
        let path = t.root().join("left");
        seen(t, "state ", || {
            fs::create_dir_all(&path).expect("make a directory");
            Box::new(move || fs::remove_dir(path).expect("remove it"))
        });
    });
}

#[test]
fn a_file_in_the_rootfs_is_seen() {
    in_modes(V2, |t| {
        let bundle = t.bundle();
        let path = bundle.rootfs().join("etc/left");
        seen(t, "file ", || {
            fs::write(&path, "").expect("write");
            Box::new(move || fs::remove_file(path).expect("remove it"))
        });
    });
}

#[test]
fn under_systemd_an_orphan_is_seen() {
    under_systemd(|t| {
        seen(t, "process ", || {
            let script = "sleep 86400 >/dev/null 2>&1 & echo $!";
            let output = Command::new("sh").args(["-c", script]).output().expect("start sh");
            let pid =
                String::from_utf8_lossy(&output.stdout).trim().parse().ok().and_then(Pid::from_raw).expect("a pid");
            Box::new(move || kill_process(pid, Signal::KILL).expect("kill"))
        });
    });
}

#[test]
fn under_systemd_a_unit_is_seen() {
    under_systemd(|t| {
        let unit = t.name("left") + ".service";
        seen(t, "unit ", || {
            let run = ["--quiet", "--unit", &unit, "--property", "MemoryMax=64M", "sleep", "86400"];
            assert!(Command::new("systemd-run").args(run).status().expect("start systemd-run").success());
            assert_eq!(systemd::property(&unit, "MemoryMax"), "67108864");
            Box::new(move || systemd::end(&unit))
        });
    });
}

#[test]
fn under_systemd_a_process_of_the_test_can_be_given_to_systemd() {
    under_systemd(|t| {
        let scope = t.name("given") + ".scope";
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--scope", "--unit", &scope, "cat", "/proc/self/cgroup"]);
        let outcome = t.finish(command).ok();
        assert!(outcome.stdout.contains(&format!("/system.slice/{scope}\n")), "{outcome:?}");
    });
}
