//! Mounts whose source lies on the host or in the container: filesystems of every type, however the root is entered; what earlier
//! mounts bring; and the order of it all.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use runb_tests::*;

#[path = "filesystems/disk.rs"]
mod disk;
#[path = "filesystems/mapped.rs"]
mod mapped_ids;

/// A way in which a root is entered.
struct Way {
    name: &'static str,
    flags: &'static [&'static str],
    mapped: bool,
    change: fn(&mut Value),
}

fn hooked(spec: &mut Value) {
    spec["hooks"] = json!({"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]});
}

fn read_only(spec: &mut Value) {
    spec["root"]["readonly"] = json!(true);
}

fn mapped(spec: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
}

/// The container mounts in the runtime's mount namespace, and is in a chroot.
fn in_the_runtimes(spec: &mut Value) {
    let linux = &mut spec["linux"];
    linux["namespaces"].as_array_mut().expect("namespaces").retain(|namespace| namespace["type"] != "mount");
    (linux["maskedPaths"], linux["readonlyPaths"]) = (json!([]), json!([]));
}

const WAYS: &[Way] = &[
    Way { name: "a pivot", flags: &[], mapped: false, change: |_| {} },
    Way { name: "no pivot", flags: &["--no-pivot"], mapped: false, change: |_| {} },
    Way { name: "hooks", flags: &[], mapped: false, change: hooked },
    Way { name: "hooks, no pivot", flags: &["--no-pivot"], mapped: false, change: hooked },
    Way { name: "read-only", flags: &[], mapped: false, change: read_only },
    Way { name: "no mount namespace", flags: &[], mapped: false, change: in_the_runtimes },
    Way { name: "a user namespace", flags: &[], mapped: true, change: mapped },
    Way { name: "a user namespace, no pivot", flags: &["--no-pivot"], mapped: true, change: mapped },
    Way {
        name: "a user namespace, hooks, read-only",
        flags: &[],
        mapped: true,
        change: |spec| [mapped, hooked, read_only].iter().for_each(|change| change(spec)),
    },
];

/// Those of a runtime: the peers leave behind what they have mounted in the runtime's own mount namespace.
fn ways(t: &Test) -> impl Iterator<Item = &'static Way> + Clone {
    let all = t.is(&[Kind::Runb]);
    WAYS.iter().filter(move |way| all || way.name != "no mount namespace")
}

/// A bundle that is entered in this way, with a root filesystem that the container may write to.
fn entered<'t>(t: &'t Test, way: &Way) -> Bundle<'t> {
    let bundle = t.bundle().with_id(&t.name("f")).writable().spec(way.change);
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    if way.mapped {
        chown(bundle.rootfs(), Some(100_000), Some(100_000)).expect("chown");
    }
    bundle
}

/// Whether a user namespace may make a filesystem of a type (`FS_USERNS_MOUNT` in the kernel), and what it takes.
struct Type {
    name: &'static str,
    by_users: bool,
    options: &'static [&'static str],
}

const fn typ(name: &'static str, by_users: bool, options: &'static [&'static str]) -> Type {
    Type { name, by_users, options }
}

/// Those of /proc/filesystems that need no program to serve them. Disks and overlay are in a test of their own.
const TYPES: &[Type] = &[
    typ("tmpfs", true, &["size=1m"]),
    typ("ramfs", true, &[]),
    typ("sysfs", true, &[]),
    typ("proc", true, &[]),
    typ("mqueue", true, &[]),
    typ("devpts", true, &["newinstance", "ptmxmode=0666"]),
    typ("devtmpfs", false, &[]),
    typ("hugetlbfs", false, &["size=2m"]),
    typ("bpf", false, &["mode=700"]),
    typ("tracefs", false, &[]),
    typ("debugfs", false, &[]),
    typ("securityfs", false, &[]),
    typ("fusectl", false, &[]),
    typ("pstore", false, &[]),
];

#[test]
fn a_filesystem_of_each_type_is_mounted_however_the_root_is_entered() {
    in_modes(V2, |t| {
        t.runb_only("the peers refuse or change some of them");
        let known = fs::read_to_string("/proc/filesystems").expect("read");
        let known: Vec<_> = known.lines().filter_map(|line| line.split('\t').nth(1)).collect();
        let here = || TYPES.iter().filter(|typ| known.contains(&typ.name));
        assert!(here().count() > 4, "{known:?}");
        for way in ways(t) {
            let mut bundle = entered(t, way);
            // procfs has a place of its own, and is there already.
            let these: Vec<_> = here().filter(|typ| typ.name != "proc" && (typ.by_users || !way.mapped)).collect();
            for Type { name, options, .. } in &these {
                let place = format!("/m/{name}");
                bundle = bundle.mount(json!({"destination": place, "type": name, "source": name, "options": options}));
            }
            let table = bundle.args(["cat", "/proc/self/mounts"]).run_with(way.flags).ok().stdout;
            for Type { name, .. } in these {
                // pstore forgets its source.
                let line = format!(" /m/{name} {name} ");
                assert!(table.lines().any(|found| found.contains(&line)), "{}: {name}: {table}", way.name);
            }
            assert!(table.contains("proc /proc proc "), "{table}");
        }
        let way = WAYS.iter().find(|way| way.mapped).expect("one");
        for Type { name, .. } in here().filter(|typ| !typ.by_users) {
            let mount = json!({"destination": "/m", "type": name, "source": name});
            entered(t, way).mount(mount).try_create().fails_with(&["mounts[8] (/m): ", name, "EPERM"]);
        }
    });
}

/// Two layers below each other, and what an overlay has beside them.
fn layers(t: &Test, way: &Way) -> [PathBuf; 4] {
    let dirs = ["one", "two", "upper", "work"].map(|name| t.dir().join(t.name(name)));
    for dir in &dirs {
        fs::create_dir(dir).expect("make a directory");
        if way.mapped {
            chown(dir, Some(100_000), Some(100_000)).expect("chown");
        }
    }
    fs::write(dirs[0].join("first"), "").expect("write");
    fs::write(dirs[1].join("second"), "").expect("write");
    dirs
}

#[test]
fn an_overlay_is_made_of_the_hosts_directories_however_long_their_names_are() {
    in_modes(V2, |t| {
        for (way, padding) in ways(t).flat_map(|way| [(way, 0), (way, 300)]) {
            let [one, two, upper, work] = layers(t, way);
            let data = format!("lowerdir={}{}:{}", one.display(), "/".repeat(padding), two.display());
            let options = json!([data, format!("upperdir={}", upper.display()), format!("workdir={}", work.display())]);
            let bundle = entered(t, way)
                .mount(json!({"destination": "/merged", "type": "overlay", "source": "overlay", "options": options}));
            let outcome = bundle.sh("ls /merged && grep -c ' /merged overlay ' /proc/self/mounts").run_with(way.flags);
            assert_eq!(outcome.ok().stdout, "first\nsecond\n1\n", "{}, {padding}", way.name);
        }
    });
}

#[test]
fn what_is_written_to_an_overlay_is_the_hosts() {
    in_modes(V2, |t| {
        let [one, _, upper, work] = layers(t, &WAYS[0]);
        let dirs = [("lowerdir", &one), ("upperdir", &upper), ("workdir", &work)];
        let options = dirs.map(|(name, path)| format!("{name}={}", path.display()));
        let mount = json!({"destination": "/tmp", "type": "overlay", "source": "overlay", "options": options});
        t.bundle().mount(mount).sh("echo written >/tmp/first").run().ok();
        let first = |dir: &Path| fs::read_to_string(dir.join("first")).expect("read");
        assert_eq!((first(&upper), first(&one)), ("written\n".into(), String::new()));
    });
}

#[test]
fn a_fuse_filesystem_is_served_by_who_has_its_descriptor() {
    in_modes(V2, |t| {
        t.runb_only("the peers look at what nobody serves here, and wait");
        if !Path::new("/dev/fuse").exists() {
            t.skip("no fuse here");
        }
        for way in WAYS.iter().filter(|way| way.flags.is_empty()) {
            let options = json!(["fd=3", "rootmode=40000", "user_id=0", "group_id=0"]);
            let bundle = entered(t, way)
                .mount(json!({"destination": "/fuse", "type": "fuse", "source": "served", "options": options}))
                .args(["grep", "-c", "^served /fuse fuse ", "/proc/self/mounts"]);
            bundle.write();
            let line = "exec 3<>/dev/fuse; exec \"$@\" --preserve-fds 1";
            let mut command = t.wrapped(&["sh", "-c", line, "sh"], ["run", "--bundle"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let outcome = t.finish(command);
            match way.mapped {
                false => assert_eq!(outcome.ok().stdout, "1\n", "{}", way.name),
                // Its descriptor was opened outside.
                true => drop(outcome.fails_with(&["mounts[8] (/fuse)"])),
            }
        }
    });
}

/// `ROOTFS/rest` as the host names it.
fn on_host(bundle: &Bundle<'_>, rest: &str) -> String {
    bundle.rootfs().join(rest).display().to_string()
}

/// Directories `a/x`, `b/y` and `c/z` with a file each that says so, and links to the first of each.
fn sources(t: &Test) -> PathBuf {
    let top = t.dir().join(t.name("sources"));
    for dir in ["a/x", "b/y", "c/z"] {
        fs::create_dir_all(top.join(dir)).expect("make directories");
        fs::write(top.join(dir).join("file"), dir).expect("write");
        let first = dir.split('/').next().expect("one");
        symlink(first, top.join(format!("sym-{first}"))).expect("make a link");
    }
    // The container's root may not look into it.
    fs::set_permissions(&top, fs::Permissions::from_mode(0o700)).expect("chmod");
    top
}

#[test]
fn what_an_earlier_mount_has_brought_is_bound_by_its_path_below_the_root_filesystem() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc does not take a destination so");
        for way in ways(t) {
            let (top, bundle) = (sources(t), entered(t, way));
            let host = |name: &str| top.join(name).display().to_string();
            let own = |rest: &str| on_host(&bundle, rest);
            let rows = [
                (host("a"), "/mnt".to_owned(), "bind"),
                (host("sym-b"), "/mnt/x".to_owned(), "bind"),
                (host("c"), "/mnt/x/y".to_owned(), "bind"),
                (host("sym-a"), "/mnt/x/y/z".to_owned(), "bind"),
                (own("mnt/x"), own("mnt/x/y/z/x"), "rbind"),
                (own("mnt/x/y"), own("mnt/x/y/z"), "rbind"),
                (own("mnt"), own("final"), "rbind"),
                (own("mnt/x/y/z/z/x/y/z/x/file"), "/a-file".to_owned(), "bind"),
            ];
            let mut all = entered(t, way).spec(|spec| spec["root"]["path"] = json!(bundle.rootfs()));
            for (source, destination, kind) in rows {
                let options = json!([kind, "rprivate"]);
                let mount = json!({"destination": destination, "type": "bind", "source": source, "options": options});
                all = all.mount(mount);
            }
            let outcome = all.args(["cat", "/final/x/y/z/z/x/y/z/x/file", "/a-file"]).run_with(way.flags);
            assert_eq!(outcome.ok().stdout, "a/xa/x", "{}", way.name);
        }
    });
}

#[test]
fn a_file_that_an_earlier_mount_has_brought_is_bound_to_a_new_file() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc does not find it in a user namespace");
        for way in ways(t) {
            let (top, bundle) = (sources(t), entered(t, way));
            let source = on_host(&bundle, "mnt/x/file");
            let bundle = bundle
                .mount(json!({"destination": "/mnt", "type": "bind", "source": top.join("a"), "options": ["bind"]}))
                .mount(
                    json!({"destination": "/new/file", "type": "bind", "source": source, "options": ["bind", "ro"]}),
                );
            let outcome = bundle.sh("cat /new/file; grep -c ' /new/file [a-z0-9]* ro,' /proc/self/mounts");
            assert_eq!(outcome.run_with(way.flags).ok().stdout, "a/x1\n", "{}", way.name);
        }
    });
}

#[test]
fn an_overlay_is_made_of_what_earlier_mounts_have_brought_but_not_of_both() {
    in_modes(V2, |t| {
        t.runb_only("the peers make it of both, and follow the image's links to the host");
        for way in ways(t) {
            let [one, two, upper, _] = layers(t, way);
            let bundle = entered(t, way);
            let lower = |one: &str, two: &str| json!([format!("lowerdir={one}:{two}"), "ro"]);
            let (first, second) = (on_host(&bundle, "low/one"), on_host(&bundle, "low/two"));
            let overlay =
                |options| json!({"destination": "/merged", "type": "overlay", "source": "o", "options": options});
            let refused = entered(t, way).spec(|spec| spec["root"]["path"] = json!(bundle.rootfs()));
            refused.mount(overlay(lower(&first, &upper.display().to_string()))).try_create().fails_with(&[
                "mounts[8] (/merged): ",
                "low/one lies in the root filesystem and ",
                "does not",
            ]);
            let bundle = bundle
                .mount(json!({"destination": "/low", "type": "tmpfs", "source": "t"}))
                .mount(json!({"destination": "/low/one", "type": "bind", "source": one, "options": ["bind"]}))
                .mount(json!({"destination": "/low/two", "type": "bind", "source": two, "options": ["bind"]}))
                .mount(overlay(lower(&first, &second)));
            assert_eq!(
                bundle.args(["ls", "/merged"]).run_with(way.flags).ok().stdout,
                "first\nsecond\n",
                "{}",
                way.name
            );
        }
    });
}

#[test]
fn the_mounts_are_in_mountinfo_in_the_order_of_the_list() {
    in_modes(V2, |t| {
        for way in ways(t) {
            let source = sources(t).join("a");
            let bind =
                |place: &str| json!({"destination": place, "type": "bind", "source": source, "options": ["rbind"]});
            let tmpfs = |place: &str, options: &[&str]| json!({"destination": place, "type": "tmpfs", "source": "t", "options": options});
            let bundle = entered(t, way)
                .spec(|spec| spec["mounts"].as_array_mut().expect("mounts").insert(0, bind("/t/0")))
                .mount(tmpfs("/t/1", &[]))
                .mount(bind("/t/2"))
                .mount(bind("/t/3"))
                .mount(tmpfs("/t/4", &["tmpcopyup"]))
                .mount(bind("/t/5"));
            let table = bundle.args(["cat", "/proc/self/mounts"]).run_with(way.flags).ok().stdout;
            let places: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(1)).collect();
            let listed = [
                "/t/0",
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/shm",
                "/dev/mqueue",
                "/sys",
                "/sys/fs/cgroup",
                "/t/1",
                "/t/2",
                "/t/3",
                "/t/4",
                "/t/5",
            ];
            // crun opens what is bound before it is in the user namespace, and so the kernel numbers it.
            let bound = ["/t/0", "/t/2", "/t/3", "/t/5"];
            let counts =
                |place: &&str| listed.contains(place) && !(t.is(&[Kind::Crun]) && way.mapped && bound.contains(place));
            let found: Vec<_> = places.into_iter().filter(counts).collect();
            let expected: Vec<_> = listed.into_iter().filter(counts).collect();
            assert_eq!(found, expected, "{}: {table}", way.name);
        }
    });
}

/// As Podman without root calls its runtime: in a user namespace that is not the container's.
#[test]
fn in_a_user_namespace_of_somebody_elses_the_kernels_filesystems_and_the_hosts_devices_are_there() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc cannot bind what is locked");
        let source = t.dir().join("locked");
        fs::create_dir(&source).expect("make a directory");
        for change in [|_: &mut Value| {}, hooked as fn(&mut Value)] {
            let bundle = t.bundle().with_id(&t.name("u")).writable().spec(change).spec(|spec| {
                let mounts = spec["mounts"].as_array_mut().expect("mounts");
                mounts.retain(|mount| mount["type"] != "cgroup");
                // The group of terminals is not mapped there.
                let devpts = mounts.iter_mut().find(|mount| mount["type"] == "devpts").expect("one");
                devpts["options"].as_array_mut().expect("options").retain(|option| option != "gid=5");
            });
            let bundle = bundle
                .mount(json!({"destination": "/bound", "type": "bind", "source": source, "options": ["bind", "ro"]}))
                .sh("echo x >/dev/null && cat /proc/1/comm && ls -d /sys/kernel && grep ' /bound ' /proc/self/mounts");
            bundle.write();
            let mut command = t.in_a_user_namespace(["run", "--bundle"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let stdout = t.finish(command).ok().stdout;
            assert!(stdout.starts_with("sh\n/sys/kernel\n"), "{stdout}");
            // Its source's mount is nosuid and nodev, and locked there.
            assert!(stdout.contains(" ro,nosuid,nodev,"), "{stdout}");
        }
    });
}
