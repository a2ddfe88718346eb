//! Mounts that map ids, on every type of filesystem that the kernel has.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use runb_tests::squash::Squashed;
use runb_tests::*;

use super::disk::Disk;

/// Those that have had them longer than any kernel of these tests is old, or are known by the kernel not to.
const BY_A_DISK: &[(&str, bool)] = &[
    ("ext2", false),
    ("ext3", false),
    ("ext4", true),
    ("xfs", true),
    ("btrfs", true),
    ("squashfs", true),
    ("erofs", true),
];
const BY_THEMSELVES: &[(&str, bool)] = &[
    ("tmpfs", true),
    ("ramfs", false),
    ("proc", false),
    ("sysfs", false),
    ("devpts", false),
    ("devtmpfs", false),
    ("mqueue", false),
    ("bpf", false),
    ("cgroup2", false),
    ("debugfs", false),
    ("tracefs", false),
    ("securityfs", false),
    ("pstore", false),
    ("binfmt_misc", false),
    ("fusectl", false),
];

/// What was mounted on the host, until it is dropped.
struct Attached(PathBuf);

impl Attached {
    fn new(t: &Test, typ: &str, source: &str, options: &str) -> Self {
        let place = t.dir().join(t.name("attached"));
        fs::create_dir(&place).expect("make a directory");
        let status =
            Command::new("mount").args(["-t", typ, "-o", options, source]).arg(&place).status().expect("mount");
        assert!(status.success(), "mount -t {typ} {source}");
        Attached(place)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().expect("umount");
    }
}

/// The owner of `place` in a container with this mapping of ids, and as the bundle is changed.
fn mapped_owner(t: &Test, place: &Path, to: u32, change: impl Fn(&mut Value)) -> Outcome {
    let map = json!([{"containerID": 0, "hostID": to, "size": 100}]);
    let mount = json!({"destination": "/tmp", "type": "bind", "source": place, "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map});
    let bundle = t.bundle().with_id(&t.name("i")).writable().mount(mount).args(["stat", "-c", "%u:%g", "/tmp"]);
    fs::set_permissions(bundle.dir(), PermissionsExt::from_mode(0o755)).expect("chmod");
    bundle.spec(change).run()
}

fn with_user_namespace(spec: &mut Value) {
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
}

/// Holds that a filesystem has them, with a user namespace and without; or that the error names it.
fn check(t: &Test, typ: &str, has: bool, place: &Path) {
    let (plain, inside) = (mapped_owner(t, place, 1000, |_| {}), mapped_owner(t, place, 100_000, with_user_namespace));
    if has {
        assert_eq!(plain.ok().stdout, "1000:1000\n", "{typ}");
        assert_eq!(inside.ok().stdout, "0:0\n", "{typ}");
    } else {
        let named = format!("the filesystem, {typ}, has no id mapped mounts");
        for outcome in [plain, inside] {
            outcome.fails_with(&["mounts[8]", &named, "EINVAL"]);
        }
    }
}

fn known(typ: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").expect("read");
    known.lines().any(|line| line.split('\t').nth(1) == Some(typ))
}

/// Whether the kernel is of this version, or newer: what a type of filesystem has is written in the kernel's source alone.
fn since(version: (u32, u32)) -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read");
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

#[test]
fn ids_are_mapped_on_every_disk_that_has_it_with_a_user_namespace_and_without() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        for (typ, has) in BY_A_DISK.iter().filter(|(typ, _)| known(typ)) {
            let Some(disk) = Disk::new(t, typ) else { t.skip(format!("no loop device with {typ} here")) };
            let options = if ["squashfs", "erofs"].contains(typ) { "ro" } else { "rw" };
            let attached = Attached::new(t, typ, disk.path(), options);
            chown(&attached.0, Some(0), Some(0)).ok();
            let has = *has && (*typ != "squashfs" || since((6, 2))) && (*typ != "erofs" || since((5, 19)));
            check(t, typ, has, &attached.0);
        }
    });
}

#[test]
fn ids_are_mapped_on_every_filesystem_without_a_disk_that_has_it_and_each_other_is_named() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        for (typ, has) in BY_THEMSELVES.iter().filter(|(typ, _)| known(typ)) {
            let has = *has && since((6, 3));
            check(t, typ, has, &Attached::new(t, typ, typ, "rw").0);
        }
        if known("hugetlbfs") {
            check(t, "hugetlbfs", since((6, 9)), &Attached::new(t, "hugetlbfs", "hugetlbfs", "rw").0);
        }
    });
}

#[test]
fn ids_are_not_mapped_on_an_overlay() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        let layers = ["lower", "upper", "work"].map(|name| t.dir().join(name));
        layers.iter().for_each(|layer| fs::create_dir(layer).expect("make a directory"));
        let [lower, upper, work] = layers.map(|layer| layer.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        check(t, "overlay", false, &Attached::new(t, "overlay", "overlay", &options).0);
    });
}

#[test]
fn ids_are_mapped_on_fuse_if_its_server_says_that_they_may_be() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        let (tree, place) = (t.dir().join("tree"), t.dir().join("place"));
        fs::create_dir(&tree).and_then(|()| fs::create_dir(&place)).expect("make directories");
        let Ok(squashed) = Squashed::mount(&tree, &place, 0) else { t.skip("no FUSE here") };
        // Nobody but its user may look into it.
        mapped_owner(t, &place, 1000, |_| {})
            .fails_with(&["mounts[8]", "the filesystem, fuse, has no id mapped mounts"]);
        squashed.end();
        let squashed = Squashed::mount_mappable(&tree, &place).expect("FUSE");
        check(t, "fuse", since((6, 12)), &place);
        squashed.end();
    });
}
