//! A path that a second process exchanges while containers are made: CVE-2021-30465, CVE-2024-45310, CVE-2023-27561,
//! CVE-2025-31133.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use runb_tests::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::canary::{Canary, refused_or_harmless};

/// How many containers are made while the exchange goes on.
const ROUNDS: u32 = 150;

/// Exchanges `one` and `other` for as long as `body` runs. How often it did.
fn while_exchanging(one: &Path, other: &Path, body: impl FnOnce()) -> u64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        body();
        stop.store(true, Ordering::Relaxed);
    });
    count.into_inner()
}

struct Volume {
    dir: PathBuf,
}

impl Volume {
    /// A volume with the directory `a`, and beside it `s`, a link to the canary.
    fn new(t: &Test, canary: &Canary) -> Self {
        let dir = t.dir().join(t.name("volume"));
        fs::create_dir_all(dir.join("a/b/c")).expect("make directories");
        symlink(Canary::upwards(&canary.dir()), dir.join("s")).expect("a link");
        Volume { dir }
    }

    fn exchange(&self, body: impl FnOnce()) {
        let count = while_exchanging(&self.dir.join("a"), &self.dir.join("s"), body);
        assert!(count > u64::from(ROUNDS), "only {count} exchanges");
    }
}

/// Runs what `bundle` makes again and again; each time it is refused or harmless.
fn hammer(canary: &Canary, bundle: Bundle<'_>) {
    let bundle = bundle.args(["true"]);
    let mut started = 0;
    for _ in 0..ROUNDS {
        let outcome = bundle.run();
        refused_or_harmless(&outcome);
        started += u32::from(outcome.code == 0);
    }
    canary.is_unharmed(&format!("{started} of {ROUNDS} have started"));
}

#[test]
fn a_mount_destination_that_is_exchanged_for_a_link_stays_in_the_root() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let volume = Volume::new(t, &canary);
        let source = t.dir().join("source");
        fs::create_dir(&source).expect("make a directory");
        let mounts = |dir: &Path| {
            [
                json!({"destination": "/v", "type": "bind", "source": dir, "options": ["bind"]}),
                json!({"destination": "/v/a/b", "type": "tmpfs"}),
                json!({"destination": "/v/a/b/c", "type": "bind", "source": source, "options": ["bind"]}),
            ]
        };
        let with = |dir: &Path| {
            let bundle = t.bundle().with_id(&t.name("x")).writable();
            mounts(dir).into_iter().fold(bundle, |bundle, mount| bundle.mount(mount))
        };
        volume.exchange(|| hammer(&canary, with(&volume.dir)));
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn destinations_that_are_made_meanwhile_are_never_made_on_the_host() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let volume = Volume::new(t, &canary);
        let file = t.dir().join("source");
        fs::write(&file, "").expect("write");
        let with = |dir: &Path| {
            t.bundle()
                .with_id(&t.name("x"))
                .writable()
                .mount(json!({"destination": "/v", "type": "bind", "source": dir, "options": ["bind"]}))
                .mount(json!({"destination": "/v/a/new1/new2", "type": "tmpfs"}))
                .mount(json!({"destination": "/v/a/newfile", "type": "bind", "source": file, "options": ["bind"]}))
                .set("/linux/devices", json!([{"path": "/v/a/device", "type": "p"}]))
        };
        volume.exchange(|| {
            for _ in 0..ROUNDS {
                let bundle = with(&volume.dir).args(["true"]);
                refused_or_harmless(&bundle.run());
                // Made again and again: what an earlier round left is taken away.
                for name in ["a/new1/new2", "a/new1", "s/new1/new2", "s/new1"] {
                    let _ = fs::remove_dir(volume.dir.join(name));
                }
                for name in ["a/newfile", "a/device"] {
                    let _ = fs::remove_file(volume.dir.join(name));
                }
            }
        });
        canary.is_unharmed("destinations");
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn a_proc_that_is_exchanged_for_a_link_is_mounted_on_a_directory_or_not_at_all() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let bundle = t.bundle().writable().args(["true"]);
        let rootfs = bundle.rootfs();
        symlink(Canary::upwards(&canary.dir()), rootfs.join("s")).expect("a link");
        let count = while_exchanging(&rootfs.join("proc"), &rootfs.join("s"), || {
            for _ in 0..ROUNDS {
                refused_or_harmless(&bundle.run());
            }
        });
        assert!(count > u64::from(ROUNDS));
        canary.is_unharmed("/proc");
        t.bundle().with_id(&t.name("x")).args(["true"]).run().ok();
    });
}

#[test]
fn masks_and_read_only_paths_that_are_exchanged_for_a_link_stay_in_the_root() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let volume = Volume::new(t, &canary);
        let with = |dir: &Path| {
            t.bundle()
                .with_id(&t.name("x"))
                .writable()
                .mount(json!({"destination": "/v", "type": "bind", "source": dir, "options": ["bind"]}))
                .set("/linux/maskedPaths", json!(["/v/a/b", "/v/a/ptmx"]))
                .set("/linux/readonlyPaths", json!(["/v/a", "/v/a/b/c"]))
        };
        volume.exchange(|| hammer(&canary, with(&volume.dir)));
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn a_working_directory_that_is_exchanged_for_a_link_stays_in_the_root() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let volume = Volume::new(t, &canary);
        let with = |dir: &Path| {
            t.bundle()
                .with_id(&t.name("x"))
                .writable()
                .mount(json!({"destination": "/v", "type": "bind", "source": dir, "options": ["bind"]}))
                .set("/process/cwd", json!("/v/a/b"))
        };
        volume.exchange(|| hammer(&canary, with(&volume.dir)));
        let still = Volume::new(t, &canary);
        let outcome = with(&still.dir).args(["pwd"]).run().ok();
        assert_eq!(outcome.stdout, "/v/a/b\n");
    });
}
