//! A path that a second process exchanges while containers are made: CVE-2021-30465, CVE-2024-45310, CVE-2023-27561,
//! CVE-2025-31133. That the exchange is fast enough to harm shows a stand-in that checks a path and then uses it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use runb_tests::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::canary::{Canary, refused_or_harmless};
use super::exchange::{Exchange, rounds};

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

    fn exchange(&self) -> Exchange {
        Exchange::of(&self.dir.join("a"), &self.dir.join("s"))
    }

    /// Runs what `bundle` makes again and again while `a` and `s` are exchanged; each time it is refused or harmless.
    fn hammer(&self, t: &Test, canary: &Canary, bundle: Bundle<'_>) {
        let bundle = bundle.args(["true"]);
        let exchange = self.exchange();
        for _ in rounds(t) {
            refused_or_harmless(&exchange.during(|| bundle.run()));
        }
        let how = exchange.end();
        canary.is_unharmed(&how);
    }
}

#[test]
fn a_mount_destination_that_is_exchanged_for_a_link_stays_in_the_root() {
    in_modes(ALL, |t| {
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
        volume.hammer(t, &canary, with(&volume.dir));
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn destinations_that_are_made_meanwhile_are_never_made_on_the_host() {
    in_modes(ALL, |t| {
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
        let bundle = with(&volume.dir).args(["true"]);
        let exchange = volume.exchange();
        for _ in rounds(t) {
            refused_or_harmless(&exchange.during(|| bundle.run()));
            // Made again and again: what an earlier round left is taken away, under whichever name it has now.
            for volume in [&volume.dir.join("a"), &volume.dir.join("s")] {
                let is_own = volume.symlink_metadata().is_ok_and(|meta| meta.is_dir());
                for name in ["new1/new2", "new1"].into_iter().filter(|_| is_own) {
                    let _ = fs::remove_dir(volume.join(name));
                }
                for name in ["newfile", "device"].into_iter().filter(|_| is_own) {
                    let _ = fs::remove_file(volume.join(name));
                }
            }
        }
        let how = exchange.end();
        canary.is_unharmed(&how);
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn a_proc_that_is_exchanged_for_a_link_is_mounted_on_a_directory_or_not_at_all() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let bundle = t.bundle().writable().args(["true"]);
        let rootfs = bundle.rootfs();
        symlink(Canary::upwards(&canary.dir()), rootfs.join("s")).expect("a link");
        let exchange = Exchange::of(&rootfs.join("proc"), &rootfs.join("s"));
        for _ in rounds(t) {
            refused_or_harmless(&exchange.during(|| bundle.run()));
        }
        let how = exchange.end();
        canary.is_unharmed(&how);
        t.bundle().with_id(&t.name("x")).args(["true"]).run().ok();
    });
}

#[test]
fn masks_and_read_only_paths_that_are_exchanged_for_a_link_stay_in_the_root() {
    in_modes(ALL, |t| {
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
        volume.hammer(t, &canary, with(&volume.dir));
        let still = Volume::new(t, &canary);
        with(&still.dir).args(["true"]).run().ok();
    });
}

#[test]
fn a_working_directory_that_is_exchanged_for_a_link_stays_in_the_root() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let volume = Volume::new(t, &canary);
        let with = |dir: &Path| {
            t.bundle()
                .with_id(&t.name("x"))
                .writable()
                .mount(json!({"destination": "/v", "type": "bind", "source": dir, "options": ["bind"]}))
                .set("/process/cwd", json!("/v/a/b"))
        };
        volume.hammer(t, &canary, with(&volume.dir));
        let still = Volume::new(t, &canary);
        let outcome = with(&still.dir).args(["pwd"]).run().ok();
        assert_eq!(outcome.stdout, "/v/a/b\n");
    });
}

/// A careless runtime's way: it looks whether `path` is a directory of the volume, and then does `what` to the path.
fn checked(path: &Path, what: impl FnOnce(&Path)) {
    if path.parent().and_then(|dir| dir.symlink_metadata().ok()).is_some_and(|meta| meta.is_dir()) {
        what(path);
    }
}

/// Repeats `attempt` until `harmed`.
#[track_caller]
fn loses(name: &str, attempt: impl Fn(), harmed: impl Fn() -> bool) {
    let deadline = wait::deadline();
    while !harmed() {
        assert!(Instant::now() < deadline, "{name}: the exchange does no harm to who checks and then acts");
        attempt();
    }
}

#[test]
fn who_checks_a_path_and_then_uses_it_is_led_out_by_the_same_exchange() {
    in_modes(V2, |t| {
        let victim = Canary::new(t);
        let volume = Volume::new(t, &victim);
        let outside = victim.dir();
        fs::create_dir(outside.join("b")).expect("make a directory");
        let exchange = volume.exchange();
        let (dir, place) = (volume.dir.join("a/new"), volume.dir.join("a/b"));
        let made = || outside.join("new").exists();
        let mkdir = || checked(&dir, |path| drop(fs::create_dir(path).and_then(|()| fs::remove_dir(path))));
        exchange.during(|| loses("mkdir", mkdir, made));
        let on = |path: &Path| {
            mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).expect("mount");
        };
        let before = outside.metadata().expect("stat").dev();
        let mounted = || outside.join("b").metadata().expect("stat").dev() != before;
        exchange.during(|| loses("mount", || checked(&place, on), mounted));
        unmount(outside.join("b"), UnmountFlags::DETACH).expect("umount");
        exchange.end();
        // What went where it was meant to.
        for name in ["a", "s"] {
            while unmount(volume.dir.join(name).join("b"), UnmountFlags::DETACH).is_ok() {}
        }
    });
}
