//! Where mounts land: CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867, CVE-2019-16884, CVE-2025-52881,
//! CVE-2019-18837, and the still forms of CVE-2021-30465 and CVE-2024-45310.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless, without_mounts};

fn replace(root: &Path, name: &str, link: &str) {
    let path = root.join(name);
    fs::remove_dir(&path).expect("remove a directory");
    match link {
        "fifo" => assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
        "file" => fs::write(&path, "").expect("write"),
        link => symlink(link, &path).expect("a link"),
    }
}

#[test]
fn procfs_and_sysfs_are_never_mounted_through_a_link() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let outside = [canary.dir().display().to_string(), Canary::upwards(&canary.dir())];
        for name in ["proc", "sys"] {
            for link in [outside[0].as_str(), &outside[1], "etc", "/", "nowhere", "fifo", "file"] {
                let bundle = t.bundle().with_id(&t.name("x")).writable();
                let bundle = bundle.rootfs_with(|root| replace(root, name, link));
                let outcome = bundle.args(["true"]).run();
                assert_eq!(outcome.code, 1, "/{name} -> {link}: {outcome:?}");
                if t.is(&[Kind::Runb]) {
                    assert!(outcome.message().contains("ordinary directory"), "/{name} -> {link}: {outcome:?}");
                }
                canary.is_unharmed(&format!("/{name} -> {link}"));
            }
        }
        t.bundle().args(["true"]).run().ok();
    });
}

#[test]
fn links_below_other_mounts_stay_in_the_root() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let dir = canary.dir();
        for link in [dir.display().to_string(), Canary::upwards(&dir), "etc".into(), "nowhere".into()] {
            let bundle = t.bundle().with_id(&t.name("x")).writable();
            let bundle = bundle.rootfs_with(|root| replace(root, "dev", &link)).args(["true"]);
            refused_or_harmless(&bundle.run());
            canary.is_unharmed(&format!("/dev -> {link}"));
        }
        t.bundle().args(["true"]).run().ok();
    });
}

#[test]
fn a_destination_through_a_link_makes_nothing_on_the_host() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let source = t.dir().join("source");
        fs::write(&source, "").expect("write");
        let (dir, up) = (canary.dir(), Canary::upwards(&canary.dir()));
        let prepare = |root: &Path| {
            symlink(&up, root.join("up")).expect("a link");
            symlink(&dir, root.join("absolute")).expect("a link");
            symlink(dir.join("new"), root.join("dangling")).expect("a link");
            symlink("/proc/self/root", root.join("magic")).expect("a link");
            symlink("/proc/1/cwd", root.join("cwd")).expect("a link");
            symlink("loop", root.join("loop")).expect("a link");
            for i in 0..45 {
                symlink(format!("chain{}", i + 1), root.join(format!("chain{i}"))).expect("a link");
            }
        };
        let places = [
            "/up/new",
            "/up",
            "/absolute/new",
            "/absolute/a/b/c",
            "/dangling",
            "/magic/new",
            "/cwd/new",
            "/loop/x",
            "/chain0/x",
            "/../../../../up/new",
            "up/../../../../absolute/new",
        ];
        for place in places {
            for mount in [
                json!({"destination": place, "type": "tmpfs"}),
                json!({"destination": place, "type": "bind", "source": source, "options": ["bind"]}),
            ] {
                let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare).mount(mount.clone());
                refused_or_harmless(&bundle.args(["true"]).run());
                canary.is_unharmed(&mount.to_string());
            }
        }
        let twin = json!({"destination": "/new/a/b", "type": "tmpfs"});
        t.bundle().with_id(&t.name("x")).writable().mount(twin).args(["true"]).run().ok();
    });
}

#[test]
fn with_hooks_a_destination_through_a_link_makes_nothing_on_the_host() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let (dir, up) = (canary.dir(), Canary::upwards(&canary.dir()));
        for link in [dir.display().to_string(), up] {
            let prepare = |root: &Path| symlink(&link, root.join("esc")).expect("a link");
            let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare);
            let bundle = bundle.hook("createRuntime", json!({"path": "/bin/true"}));
            let bundle = bundle.mount(json!({"destination": "/esc/new", "type": "tmpfs"}));
            refused_or_harmless(&bundle.args(["true"]).run());
            canary.is_unharmed(&link);
        }
        t.bundle().hook("createRuntime", json!({"path": "/bin/true"})).args(["true"]).run().ok();
    });
}

#[test]
fn nothing_is_mounted_over_procfs_but_what_lxcfs_serves() {
    in_modes(ALL, |t| {
        t.runb_only("crun lets it happen");
        let canary = Canary::new(t);
        let places = [
            "/proc",
            "/proc/self",
            "/proc/self/attr",
            "/proc/self/attr/exec",
            "/proc/self/fd",
            "/proc/sys",
            "/proc/1",
            "/proc/sysrq-trigger",
            "/proc/thread-self",
            "/proc/self/oom_score_adj",
            "/proc/../proc/self",
            "/x/../proc/self",
        ];
        for place in places {
            for mount in [
                json!({"destination": place, "type": "bind", "source": canary.dir(), "options": ["bind"]}),
                json!({"destination": place, "type": "tmpfs"}),
            ] {
                let outcome = t.bundle().with_id(&t.name("x")).mount(mount).try_create();
                outcome.fails_with(&["mounts[8].destination", "/proc"]);
            }
        }
        canary.is_unharmed("mounts below /proc");
        let file = t.dir().join("fake");
        fs::write(&file, "fake\n").expect("write");
        let twin = json!({"destination": "/proc/meminfo", "type": "bind", "source": file, "options": ["bind"]});
        assert_eq!(t.bundle().mount(twin).args(["cat", "/proc/meminfo"]).run().ok().stdout, "fake\n");
    });
}

#[test]
fn a_link_to_procfs_leads_no_mount_over_what_the_runtime_writes() {
    in_modes(ALL, |t| {
        let fake = t.dir().join("fake");
        fs::write(&fake, "").expect("write");
        let prepare = |root: &Path| symlink("/proc", root.join("l")).expect("a link");
        for place in ["/l/self/attr/exec", "/l/self/oom_score_adj", "/l/sys/kernel/domainname"] {
            let bundle = t.bundle().with_id(&t.name("x")).rootfs_with(prepare).spec(|spec| {
                spec["process"]["oomScoreAdj"] = json!(77);
                spec["linux"]["sysctl"] = json!({"kernel.domainname": "real"});
            });
            let mount = json!({"destination": place, "type": "bind", "source": fake, "options": ["bind"]});
            // Seen by a second procfs, which the link does not lead to.
            let bundle = bundle.mount(mount).mount(json!({"destination": "/tmp", "type": "tmpfs"}));
            let outcome = bundle.args(["sh", "-c", "cat /proc/self/oom_score_adj /proc/sys/kernel/domainname"]).run();
            refused_or_harmless(&outcome);
            assert_eq!(fs::read_to_string(&fake).expect("read"), "", "{place}: the value went into the fake file");
        }
        let bundle = t.bundle().with_id(&t.name("x")).rootfs_with(prepare).spec(|spec| {
            spec["process"]["oomScoreAdj"] = json!(77);
            spec["linux"]["sysctl"] = json!({"kernel.domainname": "real"});
        });
        let script = "cat /proc/self/oom_score_adj /proc/sys/kernel/domainname";
        assert_eq!(bundle.sh(script).run().ok().stdout, "77\nreal\n");
    });
}

#[test]
fn a_string_with_a_nul_is_refused() {
    in_modes(ALL, |t| {
        t.runb_only("the peers cut it");
        for pointer in ["/mounts/0/destination", "/mounts/0/source", "/process/args/0", "/process/cwd", "/hostname"] {
            let bundle = t.bundle().with_id(&t.name("x")).set(pointer, json!("/a\0b"));
            bundle.try_create().fails_with(&["NUL"]);
        }
        without_mounts(t.bundle(), &["/none"]).args(["true"]).run().ok();
    });
}
