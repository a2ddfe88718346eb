//! Profiles of AppArmor.

use std::fs;
use std::process::Command;

use crate::host::Test;

const MODULE: &str = "/sys/kernel/security/apparmor";

/// A profile that allows all but what it denies, and is unloaded in the end.
pub struct Profile {
    /// Its name.
    pub name: String,
}

impl Profile {
    /// Loads it; skips the test where there is no AppArmor.
    pub fn load(t: &Test, denied: &str) -> Profile {
        t.needs_program("apparmor_parser");
        if fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default().trim() != "Y" {
            t.skip("AppArmor is not enabled here");
        }
        let profile = Profile { name: t.name("profile") };
        let file = t.dir().join(&profile.name);
        let text = format!(
            "profile {} flags=(attach_disconnected) {{\n\
             file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,\n{denied}\n}}\n",
            profile.name
        );
        fs::write(&file, text).expect("write the profile");
        let mut command = Command::new("apparmor_parser");
        command.args(["--replace", "--skip-cache"]).arg(file);
        t.finish(command).ok();
        profile
    }

    /// What the kernel tells of a process that has it.
    pub fn enforced(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        fs::write(format!("{MODULE}/.remove"), &self.name).expect("unload the profile");
    }
}
