//! Where no cgroup can be made. Who asks for no cgroup and for no limit stays in the runtime's then: so a user runs containers
//! whom nobody has given cgroups, and an engine in a container that has its own for reading alone.

use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use oci_spec::runtime::{LinuxResources, Spec};

use crate::host::cgroups::CgroupMounts;
use crate::options::{CgroupManager, DeniedCgroups, Options};

/// Of the directories that the cgroup of the container would be made in, those that are closed to this process.
pub(crate) fn closed(spec: &Spec, options: &Options, cgroups: &CgroupMounts) -> Vec<PathBuf> {
    let asked = options.denied_cgroups == DeniedCgroups::Fail || options.cgroup_manager != CgroupManager::Cgroupfs;
    if asked || asks_for_cgroups(spec) {
        return Vec::new();
    }
    above_the_containers(cgroups).into_iter().filter(|directory| !is_open(directory)).collect()
}

/// Whether there is a path or a limit. The device rules do not tell, as every configuration has the default ones.
fn asks_for_cgroups(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return false };
    let path = linux.cgroups_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let mut limits = linux.resources().clone().unwrap_or_default();
    limits.set_devices(None);
    path || limits != LinuxResources::default()
}

/// The runtime's own cgroup in each hierarchy; of version 2 alone the one above.
fn above_the_containers(cgroups: &CgroupMounts) -> Vec<PathBuf> {
    let within = |mountpoint: &Path, own: &Path| {
        let own = own.components().filter(|part| matches!(part, Component::Normal(_)));
        mountpoint.join(own.collect::<PathBuf>())
    };
    match cgroups {
        CgroupMounts::None => Vec::new(),
        CgroupMounts::V1 { hierarchies, unified } => {
            let version1 = hierarchies.iter().map(|hierarchy| within(&hierarchy.mountpoint, &hierarchy.own));
            version1.chain(unified.iter().map(|unified| within(&unified.mountpoint, &unified.own))).collect()
        }
        CgroupMounts::V2(unified) => {
            vec![within(&unified.mountpoint, unified.own.parent().unwrap_or(Path::new("/")))]
        }
    }
}

fn is_open(directory: &Path) -> bool {
    faccessat(AT_FDCWD, directory, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed_for(linux: serde_json::Value, options: &Options) -> usize {
        let spec = serde_json::json!({"ociVersion": "1.0.2", "linux": linux});
        let cgroups = CgroupMounts::v1_for_tests("/nowhere", &["pids", "devices"]);
        closed(&serde_json::from_value(spec).expect("a configuration"), options, &cgroups).len()
    }

    #[test]
    fn it_is_looked_for_only_where_neither_a_cgroup_nor_a_limit_is_asked_for() {
        let options = Options::default();
        assert_eq!(closed_for(serde_json::json!({}), &options), 2);
        let rules = serde_json::json!({"resources": {"devices": [{"allow": false, "access": "rwm"}]}});
        assert_eq!(closed_for(rules, &options), 2);
        assert_eq!(closed_for(serde_json::json!({"cgroupsPath": "/web"}), &options), 0);
        assert_eq!(closed_for(serde_json::json!({"resources": {"pids": {"limit": 5}}}), &options), 0);
    }

    #[test]
    fn who_wants_a_refusal_to_be_an_error_gets_one() {
        let options = Options { denied_cgroups: DeniedCgroups::Fail, ..Options::default() };
        assert_eq!(closed_for(serde_json::json!({}), &options), 0);
    }
}
