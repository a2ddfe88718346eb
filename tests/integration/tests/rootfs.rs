//! What a root filesystem may be, and how mounts pass between it and the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use runb_tests::squash::Squashed;
use runb_tests::*;

/// The user that the root of a container with a user namespace is on the host.
const OWNER: u32 = 100_000;

fn in_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let map = json!([{"containerID": 0, "hostID": OWNER, "size": 65536}]);
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

fn mount_command(args: &[&str], place: &Path) {
    assert!(Command::new("mount").args(args).arg(place).status().expect("mount").success(), "{args:?}");
}

fn unmount_command(place: &Path) {
    assert!(Command::new("umount").arg(place).status().expect("umount").success(), "{place:?}");
}

/// Whether something is mounted at `place` for the process `pid`.
fn is_mounted(pid: &str, place: &Path) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|mounted| Path::new(mounted) == place))
}

#[test]
fn what_the_host_mounts_below_a_shared_root_arrives_in_a_slave_and_nothing_goes_back() {
    in_modes(ALL, |t| {
        let rows = [
            (None, true),
            (Some("private"), false),
            (Some("rprivate"), false),
            (Some("slave"), true),
            (Some("rslave"), true),
            (Some("shared"), false),
            (Some("rshared"), false),
            (Some("unbindable"), false),
            (Some("runbindable"), false),
        ];
        if t.is(&[Kind::Crun]) {
            t.skip("crun's modes are its own");
        }
        for (mode, arrives) in rows {
            // runc makes the mount that the root lies on private first, whatever a mode without an r says of "/".
            let arrives = arrives && !(t.is(&[Kind::Runc]) && mode == Some("slave"));
            if t.is(&[Kind::Runc]) && mode == Some("runbindable") {
                continue;
            }
            let sets = json!(["CAP_SYS_ADMIN"]);
            let script = "mount -t tmpfs inside /tmp && echo up >/share/events; exec sleep 86400";
            let bundle = t.bundle().with_id(&t.name("p")).sh(script).spec(|spec| {
                spec["process"]["capabilities"] = json!({"bounding": sets, "permitted": sets, "effective": sets});
                if let Some(mode) = mode {
                    spec["linux"]["rootfsPropagation"] = json!(mode);
                }
            });
            let (dir, rootfs) = (bundle.dir().to_owned(), bundle.rootfs());
            let dir_text = dir.to_str().expect("a path");
            mount_command(&["--bind", dir_text], &dir);
            mount_command(&["--make-shared"], &dir);
            let mut events = t.fifo(&bundle, "events");
            // Many machines have a tmpfs there.
            let on_tmp = is_mounted("self", Path::new("/tmp"));
            let container = bundle.run_detached();
            assert_eq!(events.line(), "up");
            assert!(!is_mounted("self", &rootfs.join("tmp")), "{mode:?}: the container's mount is on the host");
            assert_eq!(is_mounted("self", Path::new("/tmp")), on_tmp, "{mode:?}: the container's mount is on the host");
            mount_command(&["-t", "tmpfs", "outside"], &rootfs.join("root"));
            let pid = container.pid().to_string();
            assert!(is_mounted(&pid, Path::new("/tmp")), "{mode:?}");
            assert_eq!(is_mounted(&pid, Path::new("/root")), arrives, "{mode:?}: what the host mounts");
            unmount_command(&rootfs.join("root"));
            container.delete_force().ok();
            drop(events);
            unmount_command(&dir);
        }
    });
}

#[test]
fn a_root_filesystem_that_root_may_not_look_into_is_opened_as_the_root_of_the_user_namespace() {
    in_modes(ALL, |t| {
        t.runb_only("the peers look as the host's root");
        for hooks in [json!([]), json!([{"path": "/bin/true"}])] {
            let bundle = in_user_namespace(t.bundle().with_id(&t.name("q")));
            let place = t.dir().join(t.name("squashed"));
            fs::create_dir(&place).expect("make a directory");
            let Ok(squashed) = Squashed::mount(bundle.dir(), &place, OWNER) else { t.skip("no FUSE here") };
            let denied = fs::metadata(place.join("rootfs")).expect_err("root may not look");
            assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
            let bundle = bundle.set("/root/path", json!(place.join("rootfs"))).spec(|spec| {
                spec["hooks"] = json!({"createRuntime": hooks});
            });
            let script = "grep ' / [^ ]* .*- fuse ' /proc/self/mountinfo | wc -l; stat -c %u /etc/passwd; id -u";
            let outcome = bundle.sh(script).run().ok();
            assert_eq!(outcome.stdout, "1\n0\n0\n", "{outcome:?}");
            squashed.end();
        }
    });
}

#[test]
fn sources_that_only_the_hosts_root_or_only_the_containers_may_reach_are_bound() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers look as the host's root alone");
        let closed = t.dir().join(t.name("closed"));
        fs::create_dir_all(closed.join("dir")).expect("make directories");
        fs::write(closed.join("dir/file"), "the host's\n").expect("write");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
        let shown = t.dir().join(t.name("shown"));
        let place = t.dir().join(t.name("squashed"));
        for dir in [&shown, &place] {
            fs::create_dir(dir).expect("make a directory");
        }
        fs::write(shown.join("file"), "the container's\n").expect("write");
        let Ok(squashed) = Squashed::mount(&shown, &place, OWNER) else { t.skip("no FUSE here") };
        let bind = |source: &Path, to: &str| json!({"destination": to, "type": "bind", "source": source, "options": ["rbind"]});
        let bundle = in_user_namespace(t.bundle().with_id(&t.name("s")))
            .rootfs_with(|rootfs| ["a", "b"].iter().for_each(|name| fs::create_dir(rootfs.join(name)).expect("mkdir")))
            .mount(bind(&closed.join("dir"), "/a"))
            .mount(bind(&place, "/b"));
        assert_eq!(bundle.args(["cat", "/a/file", "/b/file"]).run().ok().stdout, "the host's\nthe container's\n");
        squashed.end();
    });
}

#[test]
fn a_directory_that_only_the_containers_user_may_enter_is_bound_and_is_its_working_directory() {
    in_modes(LIFECYCLE, |t| {
        let closed = t.dir().join(t.name("closed"));
        fs::create_dir(&closed).expect("make a directory");
        // Its group is nobody in the container: so its root has no right to it either.
        std::os::unix::fs::chown(&closed, Some(OWNER + 24), Some(0)).expect("chown");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
        let bundle = |uid: u32| {
            in_user_namespace(t.bundle().with_id(&t.name(&format!("c{uid}"))))
                .rootfs_with(|rootfs| fs::create_dir(rootfs.join("closed")).expect("mkdir"))
                .mount(json!({"destination": "/closed", "type": "bind", "source": closed, "options": ["bind"]}))
                .set("/process/user/uid", json!(uid))
                .set("/process/cwd", json!("/closed"))
        };
        assert_eq!(bundle(24).sh("pwd; echo x >file; ls /closed").run().ok().stdout, "/closed\nfile\n");
        // Root, who may not, is told so.
        let outcome = bundle(0).sh("true").run();
        assert_ne!(outcome.code, 0, "{outcome:?}");
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["process.cwd", "/closed", "EACCES"]);
        }
    });
}

#[test]
fn a_root_filesystem_that_nobody_may_look_into_is_named() {
    in_modes(LIFECYCLE, |t| {
        for bundle in [t.bundle(), in_user_namespace(t.bundle().with_id(&t.name("q")))] {
            let place = t.dir().join(t.name("squashed"));
            fs::create_dir(&place).expect("make a directory");
            let Ok(squashed) = Squashed::mount(bundle.dir(), &place, OWNER + 1) else { t.skip("no FUSE here") };
            let outcome = bundle.set("/root/path", json!(place.join("rootfs"))).try_create();
            assert_ne!(outcome.code, 0, "{outcome:?}");
            if t.is(&[Kind::Runb]) {
                outcome.fails_with(&["root.path", "permission denied", "EACCES"]);
            }
            squashed.end();
        }
    });
}

/// Root in its filesystem, place, whether it is read-only, type.
type CgroupMount = (String, String, bool, String);

/// The lines of mountinfo at or below /sys/fs/cgroup.
fn cgroup_mounts(table: &str) -> Vec<CgroupMount> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let read_only = left[5].split(',').any(|word| word == "ro");
        let kind = right.split(' ').next()?;
        left[4].starts_with("/sys/fs/cgroup").then(|| (left[3].into(), left[4].into(), read_only, kind.into()))
    };
    let mut mounts: Vec<CgroupMount> = table.lines().filter_map(line).collect();
    // The order is that of the mounts' ids: what was copied early comes before what it lies on.
    mounts.sort_by(|a, b| a.1.cmp(&b.1));
    mounts
}

#[test]
fn cgroups_are_mounted_in_a_user_namespace_with_a_cgroup_namespace_and_without() {
    in_modes(ALL, |t| {
        t.runb_only("Debian's runc cannot traverse the test's directory");
        for (with_namespace, wish) in [(true, "ro"), (true, "rw"), (false, "ro"), (false, "rw")] {
            let bundle = in_user_namespace(t.bundle().with_id(&t.name("g"))).spec(|spec| {
                let mounts = spec["mounts"].as_array_mut().expect("mounts");
                let mount = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").expect("a cgroup mount");
                mount["options"] = json!(["nosuid", "noexec", "nodev", wish]);
            });
            let bundle = if with_namespace { bundle } else { bundle.without_namespace("cgroup") };
            let cgroup = format!("/{}", bundle_cgroup(&bundle));
            let script = "cat /proc/self/mountinfo; for i in /sys/fs/cgroup /sys/fs/cgroup/*/; do \
                          mkdir $i/canary 2>/dev/null && echo $i is writable; done; true";
            let outcome = bundle.sh(script).run().ok();
            let what = format!("{with_namespace}, {wish}: {}", outcome.stdout);
            assert!(!outcome.stdout.contains("is writable") || wish == "rw", "{what}");
            let mounts = cgroup_mounts(&outcome.stdout);
            let (top, below) = mounts.split_first().unwrap_or_else(|| panic!("{what}"));
            assert!(wish == "rw" || mounts.iter().all(|mount| mount.2), "{what}");
            if t.mode() == Mode::V2 {
                // Without a namespace of its own the whole of the host's is bound: the kernel lets nobody else mount it.
                assert_eq!((top.3.as_str(), top.0.as_str(), below.len()), ("cgroup2", "/", 0), "{what}");
                continue;
            }
            assert_eq!(top.3, "tmpfs", "{what}");
            let hierarchies: Vec<_> = below.iter().filter(|mount| mount.3 == "cgroup").collect();
            assert!(!hierarchies.is_empty(), "{what}");
            // Each shows the container's own cgroup and nothing above it.
            let root = if with_namespace { "/" } else { cgroup.as_str() };
            assert!(hierarchies.iter().all(|mount| mount.0 == root), "{what}");
        }
    });
}

/// The name of the bundle's cgroup.
fn bundle_cgroup(bundle: &Bundle<'_>) -> String {
    let text = fs::read_to_string(bundle.write().dir().join("config.json")).expect("read config.json");
    let spec: Value = text.parse().expect("JSON");
    spec["linux"]["cgroupsPath"].as_str().expect("a path").trim_start_matches('/').to_owned()
}
