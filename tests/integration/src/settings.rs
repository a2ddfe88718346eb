//! Settings of the machine for the time of a test: a layer over /etc, which nobody outside sees.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::host::Test;

/// The layer; with its end it is gone.
pub struct Settings {
    folder: PathBuf,
}

impl Settings {
    /// With `text` as /etc/runb/runb.toml.
    pub fn with(t: &Test, text: &str) -> Self {
        let layer = t.dir().join(t.name("etc"));
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        fs::create_dir_all(upper.join("runb/runb.toml.d")).expect("a folder");
        fs::create_dir_all(&work).expect("a folder");
        fs::write(upper.join("runb/runb.toml"), text).expect("the settings");
        let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        let mount = Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay", "/etc"]).status();
        assert!(mount.expect("start mount").success(), "no layer over /etc");
        Settings { folder: PathBuf::from("/etc/runb/runb.toml.d") }
    }

    /// Adds a file to /etc/runb/runb.toml.d.
    pub fn drop_in(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("a drop-in");
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("/etc").status();
    }
}
