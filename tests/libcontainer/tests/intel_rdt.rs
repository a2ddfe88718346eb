//! `process::intel_rdt`: it finds the kernel's own filesystem alone, in the mount table, so that nothing but such a machine shows
//! what it does.

use libcontainer::process::intel_rdt::{find_resctrl_mount_point, setup_intel_rdt};

#[test]
fn without_a_resctrl_nothing_of_it_can_be_asked() {
    if find_resctrl_mount_point().is_ok() {
        panic!("this machine has a resctrl filesystem: the module can be tested here, and must be");
    }
    let rdt = serde_json::from_value(serde_json::json!({"closID": "/"})).expect("an object");
    let pid = libcontainer_pid();
    assert!(setup_intel_rdt(Some("web1"), &pid, &rdt).is_err());
}

/// The module's own type of a process id, of another version of nix than runb's.
fn libcontainer_pid() -> nix_029::unistd::Pid {
    nix_029::unistd::Pid::this()
}
