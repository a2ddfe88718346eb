//! Disks.

use std::fs;
use std::process::Command;

use runb_tests::*;

use super::{WAYS, entered, ways};

/// A loop device with an empty filesystem, until it is dropped.
pub(super) struct Disk(String);

impl Disk {
    /// None where this machine has no loop devices, or nobody to make the filesystem. One that is made whole has the file `made`.
    pub(super) fn new(t: &Test, typ: &str) -> Option<Self> {
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
    pub(super) fn path(&self) -> &str {
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
