//! The making of /dev: CVE-2026-41579, CVE-2026-47766, CVE-2026-88265.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless, without_mounts};

#[test]
fn a_dev_of_the_image_that_is_a_link_makes_no_device_on_the_host() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun before 1.28 makes them: CVE-2026-47766");
        }
        let canary = Canary::new(t);
        let dir = canary.dir();
        for link in [dir.display().to_string(), Canary::upwards(&dir), "etc".into(), "nowhere".into()] {
            for hooks in [json!([]), json!([{"path": "/bin/true"}])] {
                let prepare = |root: &Path| {
                    fs::remove_dir(root.join("dev")).expect("remove");
                    symlink(&link, root.join("dev")).expect("a link");
                };
                let bundle =
                    without_mounts(t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare), &["/dev"]);
                let bundle = bundle.spec(|spec| {
                    spec["hooks"] = json!({"createRuntime": hooks});
                    spec["linux"]["devices"] = json!([
                        {"path": "/dev/x", "type": "c", "major": 1, "minor": 3},
                        {"path": "/dev/sub/y", "type": "c", "major": 1, "minor": 3},
                    ]);
                });
                refused_or_harmless(&bundle.args(["true"]).run());
                canary.is_unharmed(&link);
            }
        }
        without_mounts(t.bundle().writable(), &["/dev"]).args(["true"]).run().ok();
    });
}

#[test]
fn a_false_null_of_the_image_gets_nothing_of_the_standard_streams() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun before 1.30 hands them over: CVE-2026-88265");
        }
        let canary = Canary::new(t);
        for kind in ["link", "file", "fifo", "device"] {
            let prepare = |root: &Path| {
                let null = root.join("dev/null");
                fs::write(root.join("secret"), "").expect("write");
                let made = |program: &str, args: &[&str]| {
                    assert!(Command::new(program).args(args).status().expect("make a node").success());
                };
                let path = null.to_str().expect("a path");
                match kind {
                    "link" => symlink("/secret", &null).expect("a link"),
                    "file" => fs::write(&null, "").expect("write"),
                    "fifo" => made("mkfifo", &[path]),
                    _ => made("mknod", &[path, "c", "1", "5"]),
                }
            };
            let bundle = without_mounts(t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare), &["/dev"]);
            let mount = json!({"destination": "/secret", "type": "bind", "source": canary.file(), "options": ["bind"]});
            let bundle = bundle.mount(mount).set("/process/user", json!({"uid": 1000, "gid": 1000}));
            let outcome = bundle.args(["echo", "X"]).run();
            refused_or_harmless(&outcome);
            assert!(outcome.code != 0 || outcome.stdout == "X\n", "{kind}: {outcome:?}");
            canary.is_unharmed(kind);
        }
        let twin =
            without_mounts(t.bundle().writable(), &["/dev"]).set("/process/user", json!({"uid": 1000, "gid": 1000}));
        assert_eq!(twin.args(["echo", "X"]).run().ok().stdout, "X\n");
    });
}

#[test]
fn a_device_outside_of_dev_is_never_made_through_a_link_out_of_the_root() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let prepare = |root: &Path| symlink(Canary::upwards(&canary.dir()), root.join("esc")).expect("a link");
        let device = |path: &str| json!([{"path": path, "type": "c", "major": 1, "minor": 3}]);
        for path in ["/esc/x", "/esc/a/b", "/../../esc/x"] {
            let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare);
            refused_or_harmless(&bundle.set("/linux/devices", device(path)).args(["true"]).run());
            canary.is_unharmed(path);
        }
        t.bundle().writable().set("/linux/devices", device("/new/x")).args(["true"]).run().ok();
    });
}
