//! Disks.

use std::fs;
use std::process::Command;

use runb_tests::*;

/// A loop device with an empty filesystem, until it is dropped.
pub struct Disk(String);

impl Disk {
    /// None where this machine has no loop devices, or nobody to make the filesystem.
    pub fn new(t: &Test, typ: &str) -> Option<Self> {
        let image = t.dir().join(format!("{typ}.img"));
        fs::File::create(&image).and_then(|file| file.set_len(4 << 20)).expect("make an image");
        let made = Command::new("mke2fs").args(["-q", "-t", typ, "-E", "root_owner=0:0"]).arg(&image).output().ok()?;
        let found = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok()?;
        let device = String::from_utf8(found.stdout).expect("a path").trim().to_owned();
        (made.status.success() && found.status.success()).then_some(Disk(device))
    }
}

impl Disk {
    /// The device.
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("losetup").args(["--detach", &self.0]).status().expect("losetup");
    }
}
