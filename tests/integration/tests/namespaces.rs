//! linux.namespaces: every kind as the host's, new, or joined, beside every kind of user namespace; and containers without one
//! of their own.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use runb_tests::*;

/// Each kind with its name in /proc/PID/ns.
const KINDS: [(&str, &str); 7] = [
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Hosts,
    New,
    Joined,
}

use Whose::{Hosts, Joined, New};

/// The namespace `name` of a process.
fn namespace(pid: impl std::fmt::Display, name: &str) -> String {
    let path = fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("readlink");
    path.to_str().expect("text").to_owned()
}

/// A bundle that mounts nothing which would take a namespace of its own, and whose files the user 100000 has.
fn plain(t: &Test) -> Bundle<'_> {
    let bundle = t.bundle().writable();
    for path in [bundle.dir(), &bundle.rootfs(), &bundle.share_dir()] {
        chown(path, Some(100_000), Some(100_000)).expect("chown");
    }
    bundle.spec(|spec| {
        let share = spec["mounts"].as_array().expect("mounts").last().cloned();
        let procfs = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        let dev = json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]});
        spec["mounts"] = json!([procfs, dev, share]);
        spec["linux"]["namespaces"] = json!([]);
        for field in ["maskedPaths", "readonlyPaths"] {
            spec["linux"].as_object_mut().expect("linux").remove(field);
        }
        spec.as_object_mut().expect("an object").remove("hostname");
    })
}

/// Adds a namespace to the list.
fn with<'t>(bundle: Bundle<'t>, kind: &str, whose: Whose, holder: &Container<'_>) -> Bundle<'t> {
    let name = KINDS.iter().find(|(other, _)| *other == kind).map_or("user", |(_, name)| name);
    let entry = match whose {
        Hosts => return bundle,
        New => json!({"type": kind}),
        Joined => json!({"type": kind, "path": format!("/proc/{}/ns/{name}", holder.pid())}),
    };
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(entry);
        if kind == "user" && whose == New {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        }
    })
}

/// A container with a namespace of every kind, with a user namespace or without.
fn holder(t: &Test, user: Whose) -> Container<'_> {
    let bundle = plain(t).idle().spec(|spec| {
        let list = KINDS.map(|(kind, _)| json!({"type": kind}));
        spec["linux"]["namespaces"] = list.to_vec().into();
    });
    let bundle = match user {
        New => bundle.spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        }),
        _ => bundle,
    };
    bundle.run_detached()
}

/// Why the kernel does not allow it, in the words of the error.
fn forbidden(kind: &str, whose: Whose, user: Whose) -> Option<&'static str> {
    match (kind, whose, user) {
        ("mount", Hosts, New | Joined) | ("mount", Joined, New) => {
            Some("whose root may mount nothing in one of others")
        }
        _ => None,
    }
}

#[test]
fn each_kind_is_the_hosts_new_or_joined_beside_each_kind_of_user_namespace() {
    in_modes(V2, |t| {
        t.runb_only("the peers are older than time namespaces, and demand mappings of what is joined");
        let holders = [holder(t, Hosts), holder(t, New)];
        for (kind, name) in KINDS {
            for whose in [Hosts, New, Joined] {
                for user in [Hosts, New, Joined] {
                    let case = format!("{kind}: {whose:?}, user: {user:?}");
                    // What is joined beside a joined user namespace is that one's.
                    let holder = &holders[usize::from(user == Joined)];
                    let mut bundle =
                        plain(t).sh(&format!("readlink /proc/self/ns/{name}; readlink /proc/self/ns/user"));
                    // Beside a user namespace a mount namespace is needed, whatever else there is.
                    if kind != "mount" && user != Hosts {
                        bundle = with(bundle, "mount", New, holder);
                    }
                    let bundle = with(with(bundle, kind, whose, holder), "user", user, holder);
                    if let Some(reason) = forbidden(kind, whose, user) {
                        bundle.try_create().fails_with(&["linux.namespaces", reason]);
                        continue;
                    }
                    let outcome = bundle.run();
                    assert_eq!(outcome.code, 0, "{case}: {outcome:?}");
                    let seen = outcome.lines();
                    for ((name, whose), seen) in [(name, whose), ("user", user)].into_iter().zip(seen) {
                        let (hosts, theirs) = (namespace("self", name), namespace(holder.pid(), name));
                        let is = (seen == hosts, seen == theirs);
                        let expected = match whose {
                            Hosts => (true, theirs == hosts),
                            New => (false, false),
                            Joined => (false, true),
                        };
                        assert_eq!(is, expected, "{case}: {name} is {seen}");
                    }
                }
            }
        }
        for holder in holders {
            holder.delete_force().ok();
        }
    });
}

#[test]
fn the_offsets_of_a_new_time_namespace_are_set_beside_each_kind_of_user_namespace() {
    in_modes(V2, |t| {
        t.runb_only("the peers are older than time namespaces");
        let holder = holder(t, New);
        for user in [Hosts, New, Joined] {
            let bundle = with(plain(t), "mount", New, &holder);
            let bundle = with(with(bundle, "time", New, &holder), "user", user, &holder);
            let offsets =
                json!({"monotonic": {"secs": 7881, "nanosecs": 2718}, "boottime": {"secs": 1337, "nanosecs": 5}});
            let outcome = bundle.set("/linux/timeOffsets", offsets).sh("cat /proc/self/timens_offsets").run().ok();
            let seen: Vec<String> =
                outcome.lines().iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            assert_eq!(seen, ["monotonic 7881 2718", "boottime 1337 5"], "{user:?}");
        }
        holder.delete_force().ok();
    });
}

#[test]
fn the_filesystems_of_joined_namespaces_that_another_user_namespace_has_made_are_the_hosts_with_a_warning() {
    in_modes(V2, |t| {
        t.runb_only("runc fails with the kernel's EPERM");
        // The machine's user namespace has made its namespaces.
        let holder = holder(t, Hosts);
        let mqueue = std::path::Path::new("/dev/mqueue").exists();
        let joined: &[&str] = if mqueue { &["network", "ipc"] } else { &["network"] };
        let mut bundle = t.bundle().writable().sh("ls /dev/mqueue; ls -d /sys/kernel; readlink /proc/self/ns/net");
        for path in [bundle.dir(), &bundle.rootfs()] {
            chown(path, Some(100_000), Some(100_000)).expect("chown");
        }
        bundle = with(bundle, "user", New, &holder);
        for kind in joined {
            bundle = with(bundle.without_namespace(kind), kind, Joined, &holder);
        }
        let outcome = bundle.run().ok();
        assert!(outcome.stdout.contains(&namespace(holder.pid(), "net")), "{outcome:?}");
        assert!(outcome.stdout.contains("/sys/kernel"), "{outcome:?}");
        for (typ, path) in [("sysfs", "/sys"), ("mqueue", "/dev/mqueue")].into_iter().take(joined.len()) {
            let words = format!("no {typ} can be mounted for it: the host's {path} is bound in its place");
            assert!(outcome.log.contains(&words), "{words}: {outcome:?}");
        }
        holder.delete_force().ok();
    });
}

/// A bundle with all of the host's namespaces.
fn without_any(t: &Test) -> Bundle<'_> {
    t.bundle().spec(|spec| {
        for field in ["namespaces", "maskedPaths", "readonlyPaths"] {
            spec["linux"].as_object_mut().expect("linux").remove(field);
        }
        spec.as_object_mut().expect("an object").remove("hostname");
    })
}

/// What is mounted at or below a path.
fn mounted_below(path: &std::path::Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(path)).collect()
}

#[test]
fn a_container_without_any_namespace_has_its_root_and_mounts_and_they_go_with_it() {
    in_modes(ALL, |t| {
        t.runb_only("runc changes the propagation of the host's root, and leaves the mounts there");
        let container = without_any(t).idle().run_detached();
        let rootfs = container.bundle().rootfs();
        assert!(mounted_below(&rootfs).contains(&rootfs.join("dev/shm")), "the mounts are the host's to see");
        for (_, name) in KINDS {
            assert_eq!(namespace("self", name), namespace(container.pid(), name));
        }
        let inside = |script: &str| t.call(["exec", container.id(), "sh", "-c", script]);
        // Its root, and not the host's.
        assert_eq!(
            inside("pwd; ls -d /share /bin/busybox; echo x >/share/here").ok().stdout,
            "/\n/bin/busybox\n/share\n"
        );
        assert_eq!(fs::read_to_string(container.bundle().share_dir().join("here")).expect("read"), "x\n");
        assert!(inside("echo x >/root/here").stderr.contains("Read-only file system"));
        assert_eq!(inside("stat -f -c %T /dev/shm; stat -c %t:%T /dev/null").ok().stdout, "tmpfs\n1:3\n");
        container.delete_force().ok();
        assert_eq!(mounted_below(&rootfs), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_launch_without_a_mount_namespace_that_fails_or_is_over_leaves_no_mount() {
    in_modes(V2, |t| {
        t.runb_only("runc leaves the mounts there");
        let file = t.dir().join("seen");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("pwd >{}", file.display())]});
        let bundle = without_any(t).hook("createRuntime", hook).args(["echo", "Hello"]);
        assert_eq!(bundle.run().ok().stdout, "Hello\n");
        assert_eq!(fs::read_to_string(file).expect("read").trim_end(), bundle.dir().to_str().expect("text"));
        without_any(t).args(["/none"]).run().fails_with(&["/none"]);
        without_any(t)
            .hook("createContainer", json!({"path": "/bin/false"}))
            .try_create()
            .fails_with(&["createContainer"]);
        without_any(t).hook("startContainer", json!({"path": "/bin/true"})).args(["true"]).run().ok();
        let no_pivot = without_any(t).args(["true"]);
        no_pivot.run_with(&["--no-pivot"]).ok();
    });
}

#[test]
fn somebody_elses_mount_at_the_path_of_the_root_filesystem_stays() {
    in_modes(V2, |t| {
        t.runb_only("runc leaves the mounts there");
        let bundle = without_any(t);
        let rootfs = bundle.rootfs();
        let own = |program: &str, args: &[&str]| {
            let status = std::process::Command::new(program).args(args).arg(&rootfs).status().expect(program);
            assert!(status.success(), "{program} {args:?}");
        };
        own("mount", &["--bind", rootfs.to_str().expect("text")]);
        let container = bundle.idle().run_detached();
        container.delete_force().ok();
        assert_eq!(mounted_below(&rootfs), vec![rootfs.clone()]);
        own("umount", &[]);
    });
}

#[test]
fn what_needs_a_mount_namespace_is_refused_by_its_place_where_there_is_none() {
    in_modes(V2, |t| {
        t.runb_only("the peers say it in other words, or do it to the host");
        let needs = "needs a new or joined mount namespace";
        for (field, value) in [
            ("maskedPaths", json!(["/proc/kcore"])),
            ("readonlyPaths", json!(["/proc/sys"])),
            ("rootfsPropagation", json!("rslave")),
        ] {
            let bundle = without_any(t).set(&format!("/linux/{field}"), value);
            bundle.try_create().fails_with(&[&format!("linux.{field}"), needs]);
        }
    });
}
