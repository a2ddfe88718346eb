//! The harness itself: each kind of leftover is seen.

use std::fs;
use std::process::Command;

use runb_tests::leftovers::Snapshot;
use runb_tests::*;

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
