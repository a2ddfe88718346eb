//! What hides and what protects: CVE-2025-31133, CVE-2025-62161, CVE-2026-115521, and the nested procfs of `--no-pivot`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless, without_mounts};
use super::renames::in_user_namespace;

#[test]
fn a_mask_is_the_kernels_null_whatever_the_containers_is() {
    in_modes(ALL, |t| {
        t.runb_only("the peers refuse");
        let canary = Canary::new(t);
        for (i, target) in ["/proc/sys/kernel/domainname", "/secret", "file", "fifo", "none"].into_iter().enumerate() {
            let dev = t.dir().join(format!("dev{i}"));
            fs::create_dir(&dev).expect("make a directory");
            match target {
                "file" => fs::write(dev.join("null"), "x").expect("write"),
                "fifo" => assert!(Command::new("mkfifo").arg(dev.join("null")).status().expect("mkfifo").success()),
                "none" => {}
                target => symlink(target, dev.join("null")).expect("a link"),
            }
            let bundle = without_mounts(t.bundle().with_id(&t.name("x")).writable(), &["/dev"])
                .mount(json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["bind"]}))
                .mount(json!({"destination": "/secret", "type": "bind", "source": canary.file(), "options": ["bind"]}))
                .set("/linux/maskedPaths", json!(["/etc/group", "/proc/keys", "/tmp", "/none"]));
            let script = "stat -c %F:%t:%T /etc/group /proc/keys; ls /tmp; (: >/tmp/x) 2>&- || echo ro";
            let outcome = bundle.sh(script).run().ok();
            let null = "character special file:1:3\n";
            assert_eq!(outcome.stdout, format!("{null}{null}ro\n"), "{target}");
            canary.is_unharmed(target);
        }
    });
}

#[test]
fn a_mask_or_read_only_path_through_procfs_never_reaches_the_callers_files() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        for field in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
            for path in
                ["/proc/self/fd/0", "/proc/self/fd/1", "/proc/1/cwd", "/proc/self/root/../../etc", "/proc/self/exe"]
            {
                let bundle = t.bundle().with_id(&t.name("x")).set(field, json!([path]));
                refused_or_harmless(&bundle.args(["true"]).run());
                canary.is_unharmed(path);
            }
            t.bundle().with_id(&t.name("x")).set(field, json!(["/proc/keys", "/none"])).args(["true"]).run().ok();
        }
    });
}

#[test]
fn what_is_to_be_read_only_is_so_without_a_procfs_and_with_a_false_one() {
    in_modes(ALL, |t| {
        let source = t.dir().join("source");
        fs::create_dir(&source).expect("make a directory");
        let fake = t.dir().join("fake");
        fs::create_dir_all(fake.join("self/fd")).expect("make directories");
        for proc in ["none", "false", "last", "real"] {
            let bundle = t.bundle().with_id(&t.name("x"));
            let bundle = if proc == "real" { bundle } else { without_mounts(bundle, &["/proc"]) };
            let bundle = bundle
                .mount(json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "ro"]}))
                .mount(json!({"destination": "/root", "type": "tmpfs", "options": ["ro"]}))
                .set("/linux/readonlyPaths", json!(["/dev/shm"]));
            let bundle = match proc {
                // As an image would have it: there is no mount that the runtime could refuse.
                "false" => bundle.rootfs_with(|root| {
                    fs::create_dir_all(root.join("proc/self/fd")).expect("make directories");
                    fs::write(root.join("proc/self/mountinfo"), "").expect("write");
                }),
                "last" => bundle.mount(json!({"destination": "/proc", "type": "proc", "source": "proc"})),
                _ => bundle,
            };
            let script = "for i in / /tmp /root /dev/shm /sys /etc; do mkdir $i/new 2>/dev/null && echo $i is writable; done; echo end";
            let outcome = bundle.sh(script).run().ok();
            assert_eq!(outcome.stdout, "end\n", "procfs: {proc}");
        }
    });
}

#[test]
fn without_a_pivot_no_procfs_without_masks_can_be_mounted() {
    in_modes(ALL, |t| {
        let attempt =
            "unshare -U -r -m -p -f sh -c 'mount -t proc none /tmp && (: >/tmp/sys/kernel/hostname) && echo escaped'";
        let script = format!("{attempt}; echo end");
        let bundle = t.bundle().sh(&script);
        let outcome = bundle.run_with(&["--no-pivot"]).ok();
        assert_eq!(outcome.stdout, "end\n", "{outcome:?}");
        // The twin: without masks and read-only paths there is nothing to hide, and the kernel allows it.
        let bundle = t.bundle().with_id(&t.name("x")).spec(|spec| {
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
            spec["process"]["noNewPrivileges"] = json!(false);
        });
        let script = "unshare -U -r -m -p -f sh -c 'mount -t proc none /tmp && echo mounted'";
        let outcome = bundle.sh(script).run();
        assert!(outcome.stdout == "mounted\n" || outcome.stderr.contains("unshare"), "{outcome:?}");
    });
}

/// Ways in which a container comes to its root.
fn ways(t: &Test) -> [(&'static str, Bundle<'_>, &'static [&'static str]); 5] {
    let bundle = || t.bundle().with_id(&t.name("x"));
    let hook = json!({"path": "/bin/true"});
    [
        ("plain", bundle(), &[]),
        ("writable", bundle().writable(), &[]),
        ("hooks", bundle().hook("createRuntime", hook), &[]),
        ("no pivot", bundle(), &["--no-pivot"]),
        ("user namespace", in_user_namespace(bundle()), &[]),
    ]
}

#[test]
fn masked_directories_are_one_filesystem_and_what_is_masked_twice_is_masked_once() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers' versions here do neither");
        let fill = |root: &Path| {
            for dir in ["etc/one", "etc/other"] {
                fs::create_dir(root.join(dir)).expect("make a directory");
                fs::write(root.join(dir).join("secret"), "secret").expect("write");
            }
        };
        for (way, bundle, flags) in ways(t) {
            let masked = json!([
                "/etc/one",
                "/etc/group",
                "/etc/other",
                "/etc/one",
                "/etc/../etc/group",
                "/sys/firmware",
                "/dev/shm",
                "/proc/keys",
                "/proc/keys"
            ]);
            let bundle = bundle.rootfs_with(fill).set("/linux/maskedPaths", masked).sh(
                "cat /etc/group /proc/keys; ls /etc/one /etc/other; stat -c %d /etc/one /etc/other /sys/firmware | uniq | wc -l
                (: >/etc/one/x) 2>&- || echo ro
                for i in /etc/one /etc/group /etc/other /proc/keys; do grep -c \" $i \" /proc/self/mountinfo; done
                (: >/dev/shm/x) 2>&- || echo ro",
            );
            let outcome = bundle.run_with(flags).ok();
            assert_eq!(outcome.stdout, "/etc/one:\n\n/etc/other:\n1\nro\n1\n1\n1\n1\nro\n", "{way}");
        }
    });
}

#[test]
fn what_a_hook_has_mounted_over_procfs_is_masked_as_well() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers mount in another order");
        let bundle = t.bundle();
        let line = format!("mount -t proc proc {}", bundle.rootfs().join("proc").display());
        let bundle = bundle
            .hook("createContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", line]}))
            .set("/linux/readonlyPaths", json!(["/proc/sys", "/dev/mqueue"]));
        let outcome = bundle
            .sh("grep -c ' /proc ' /proc/self/mountinfo; cat /proc/keys; (: >>/proc/sys/kernel/hostname) 2>&- || echo ro
                (: >/dev/mqueue/x) 2>&- || echo ro")
            .run()
            .ok();
        assert_eq!(outcome.stdout, "2\nro\nro\n");
    });
}

#[test]
fn a_mount_point_below_a_read_only_path_is_still_where_its_name_leads() {
    in_modes(LIFECYCLE, |t| {
        let file = t.dir().join("file");
        fs::write(&file, "file\n").expect("write");
        let bundle = t
            .bundle()
            .mount(json!({"destination": "/etc/group", "type": "bind", "source": file, "options": ["bind"]}))
            .mount(json!({"destination": "/tmp", "type": "tmpfs"}))
            .set("/linux/readonlyPaths", json!(["/etc", "/tmp", "/proc", "/none/x"]))
            .set("/linux/maskedPaths", json!(["/proc/keys", "/tmp/none"]))
            .set("/root/readonly", json!(false));
        let script =
            "cat /etc/group; cat /proc/keys; for i in /etc/x /tmp/x /proc/self/comm; do (: >>$i) 2>&- || echo ro; done";
        assert_eq!(bundle.sh(script).run().ok().stdout, "file\nro\nro\nro\n");
    });
}
