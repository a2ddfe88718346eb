//! Disks.

use std::fs;
use std::process::Command;

use runb_tests::*;

use super::{WAYS, entered, ways};

/// A loop device with an empty filesystem, until it is dropped.
struct Disk(String);

impl Disk {
    /// None where this machine has no loop devices, or nobody to make the filesystem. One that is made whole has the file `made`.
    fn new(t: &Test, typ: &str) -> Option<Self> {
        let image = t.dir().join(format!("{typ}.img"));
        let tree = t.dir().join(t.name("tree"));
        fs::create_dir(&tree).and_then(|()| fs::write(tree.join("made"), "one\n")).expect("make a tree");
        let (program, flags, size) = match typ {
            "xfs" => ("mkfs.xfs", vec!["-q", "-f"], 320 << 20),
            "btrfs" => ("mkfs.btrfs", vec!["-q"], 128 << 20),
            "squashfs" => ("mksquashfs", vec![], 0),
            "erofs" => ("mkfs.erofs", vec!["--quiet"], 0),
            _ => ("mke2fs", vec!["-q", "-t", typ, "-E", "root_owner=0:0"], 8 << 20),
        };
        let mut command = Command::new(program);
        match program {
            "mksquashfs" => command.args([&tree, &image]).args(["-quiet", "-no-progress"]),
            "mkfs.erofs" => command.args(flags).args([&image, &tree]),
            _ => {
                fs::File::create(&image).and_then(|file| file.set_len(size)).expect("make an image");
                command.args(flags).arg(&image)
            }
        };
        let made = command.output().ok()?;
        let found = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok()?;
        let device = String::from_utf8(found.stdout).expect("a path").trim().to_owned();
        (made.status.success() && found.status.success()).then_some(Disk(device))
    }
}

impl Disk {
    /// The device.
    fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().expect("losetup");
    }
}

#[test]
fn a_disk_of_the_hosts_is_mounted_unless_a_user_namespace_forbids_it() {
    in_modes(V2, |t| {
        t.runb_only("crun's init may not open it, and Debian's runc leaves it busy");
        let known = fs::read_to_string("/proc/filesystems").expect("read");
        for typ in ["ext2", "ext3", "ext4", "xfs", "btrfs"] {
            if !known.lines().any(|line| line == format!("\t{typ}")) {
                continue;
            }
            let Some(disk) = Disk::new(t, typ) else { t.skip(format!("no loop device with {typ} here")) };
            for way in ways(t) {
                let mount = json!({"destination": "/disk", "type": typ, "source": disk.path(), "options": ["noatime"]});
                let bundle =
                    entered(t, way).mount(mount).sh("echo more >>/disk/file; grep ' /disk ' /proc/self/mounts");
                let line = format!(" /disk {typ} rw,noatime");
                match way.mapped {
                    false => assert!(bundle.run_with(way.flags).ok().stdout.contains(&line), "{}: {typ}", way.name),
                    true => drop(bundle.run_with(way.flags).fails_with(&["/disk"])),
                }
            }
            let mount = json!({"destination": "/disk", "type": typ, "source": disk.path(), "options": ["ro"]});
            let written = entered(t, &WAYS[0]).mount(mount).args(["wc", "-l", "/disk/file"]).run().ok().stdout;
            assert_eq!(written, "6 /disk/file\n", "{typ}");
        }
    });
}

#[test]
fn an_image_that_cannot_be_written_to_is_mounted_unless_a_user_namespace_forbids_it() {
    in_modes(V2, |t| {
        t.runb_only("crun's init may not open it, and Debian's runc leaves it busy");
        let known = fs::read_to_string("/proc/filesystems").expect("read");
        for typ in ["squashfs", "erofs"].into_iter().filter(|typ| known.lines().any(|line| line == format!("\t{typ}")))
        {
            let Some(disk) = Disk::new(t, typ) else { t.skip(format!("no loop device with {typ} here")) };
            for way in ways(t) {
                let mount = json!({"destination": "/disk", "type": typ, "source": disk.path(), "options": ["ro"]});
                let bundle = entered(t, way).mount(mount).args(["cat", "/disk/made"]);
                match way.mapped {
                    false => assert_eq!(bundle.run_with(way.flags).ok().stdout, "one\n", "{}: {typ}", way.name),
                    true => drop(bundle.run_with(way.flags).fails_with(&["/disk"])),
                }
            }
        }
    });
}

/// What was mounted on the host, until it is dropped.
struct Attached(std::path::PathBuf);

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
fn mapped_owner(t: &Test, place: &std::path::Path, to: u32, change: impl Fn(&mut Value)) -> Outcome {
    let map = json!([{"containerID": 0, "hostID": to, "size": 100}]);
    let mount = json!({"destination": "/tmp", "type": "bind", "source": place, "options": ["rbind", "idmap"],
        "uidMappings": map, "gidMappings": map});
    let bundle = t.bundle().with_id(&t.name("i")).writable().mount(mount).args(["stat", "-c", "%u:%g", "/tmp"]);
    fs::set_permissions(bundle.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    bundle.spec(change).run()
}

#[test]
fn ids_are_mapped_on_every_filesystem_of_this_kernel_that_has_it_with_a_user_namespace_and_without() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        let with_user_namespace = |spec: &mut Value| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        };
        let check = |typ: &str, place: &std::path::Path| {
            let plain = mapped_owner(t, place, 1000, |_| {}).ok();
            assert_eq!(plain.stdout, "1000:1000\n", "{typ}");
            let inside = mapped_owner(t, place, 100_000, with_user_namespace).ok();
            assert_eq!(inside.stdout, "0:0\n", "{typ}");
        };
        let known = fs::read_to_string("/proc/filesystems").expect("read");
        let known = |typ: &&str| known.lines().any(|line| line.split('\t').nth(1) == Some(typ));
        for typ in ["ext4", "xfs", "btrfs", "squashfs", "erofs"].into_iter().filter(known) {
            let Some(disk) = Disk::new(t, typ) else { t.skip(format!("no loop device with {typ} here")) };
            let options = if ["squashfs", "erofs"].contains(&typ) { "ro" } else { "rw" };
            let attached = Attached::new(t, typ, disk.path(), options);
            std::os::unix::fs::chown(&attached.0, Some(0), Some(0)).ok();
            check(typ, &attached.0);
        }
        check("tmpfs", &Attached::new(t, "tmpfs", "tmpfs", "rw").0);
        let layers = ["lower", "upper", "work"].map(|name| t.dir().join(name));
        layers.iter().for_each(|layer| fs::create_dir(layer).expect("make a directory"));
        let [lower, upper, work] = layers.map(|layer| layer.display().to_string());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let overlay = Attached::new(t, "overlay", "overlay", &options);
        // What has no mapping is named.
        mapped_owner(t, &overlay.0, 1000, |_| {}).fails_with(&[
            "mounts[8]",
            "overlay, has no id mapped mounts",
            "EINVAL",
        ]);
        let procfs = Attached::new(t, "proc", "proc", "rw");
        mapped_owner(t, &procfs.0, 1000, |_| {}).fails_with(&["mounts[8]", "proc, has no id mapped mounts", "EINVAL"]);
    });
}
