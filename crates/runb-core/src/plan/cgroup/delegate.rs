//! Whose a version 2 cgroup is: config-linux.md, "Cgroup ownership".

use oci_spec::runtime::{Linux, LinuxNamespaceType, Mount, Spec};

use super::{CgroupPlan, DirKind};

/// The user of the runtime's namespace who is to own the container's cgroup; none, if it stays the runtime's. It is given to a
/// container with a cgroup namespace of its own that mounts the hierarchy to write to it; on version 1 that is not safe.
pub fn owner(spec: &Spec, plan: &CgroupPlan) -> Option<u32> {
    let version_2 = !plan.dirs.is_empty() && plan.dirs.iter().all(|dir| matches!(dir.kind, DirKind::Unified { .. }));
    let linux = spec.linux().as_ref().filter(|_| version_2)?;
    let new = |kind| {
        let mut namespaces = linux.namespaces().iter().flatten();
        namespaces.find(|namespace| namespace.typ() == kind).map(|namespace| namespace.path().is_none())
    };
    if new(LinuxNamespaceType::Cgroup) != Some(true) || !spec.mounts().iter().flatten().any(is_writable_hierarchy) {
        return None;
    }
    let uid = spec.process().as_ref()?.user().uid();
    match new(LinuxNamespaceType::User) {
        None => Some(uid),
        Some(true) => mapped(linux, uid),
        // Who that is only its maps tell, and nobody may own what nobody knows.
        Some(false) => None,
    }
}

fn is_writable_hierarchy(mount: &Mount) -> bool {
    let is_hierarchy = mount.typ().as_deref().is_some_and(|typ| matches!(typ, "cgroup" | "cgroup2"));
    let source = mount.source().as_ref().is_some_and(|source| source.as_os_str() == "cgroup");
    let access = mount.options().iter().flatten().rfind(|option| matches!(option.as_str(), "ro" | "rw"));
    is_hierarchy
        && source
        && mount.destination().as_os_str() == "/sys/fs/cgroup"
        && access.is_none_or(|word| word == "rw")
}

fn mapped(linux: &Linux, uid: u32) -> Option<u32> {
    linux.uid_mappings().iter().flatten().find_map(|map| {
        let offset = uid.checked_sub(map.container_id()).filter(|offset| *offset < map.size())?;
        map.host_id().checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::cgroups::CgroupMounts;

    /// The owner, after a change of a configuration that asks for one.
    fn found(change: impl FnOnce(&mut serde_json::Value), mounts: &CgroupMounts) -> Option<u32> {
        let mut json = serde_json::json!({"ociVersion": "1.0.2", "process": {"user": {"uid": 7, "gid": 0}, "cwd": "/"},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}],
            "linux": {"namespaces": [{"type": "cgroup"}]}});
        change(&mut json);
        let spec = serde_json::from_value(json).expect("a configuration");
        let plan = super::super::plan(None, Some(Path::new("/c")), "c", None, mounts).expect("a plan");
        owner(&spec, &plan)
    }

    #[test]
    fn the_cgroup_is_given_to_whom_the_specification_says_and_to_nobody_else() {
        let v2 = CgroupMounts::v2_for_tests("/", &["pids"]);
        assert_eq!(found(|_| {}, &v2), Some(7));
        assert_eq!(found(|json| json["mounts"][0]["options"] = serde_json::json!(["nosuid"]), &v2), Some(7));
        assert_eq!(found(|json| json["mounts"][0]["options"] = serde_json::json!(["ro"]), &v2), None);
        assert_eq!(found(|json| json["mounts"][0]["destination"] = "/cgroup".into(), &v2), None);
        assert_eq!(found(|json| json["linux"]["namespaces"] = serde_json::json!([]), &v2), None);
        let joined = serde_json::json!([{"type": "cgroup", "path": "/proc/1/ns/cgroup"}]);
        assert_eq!(found(|json| json["linux"]["namespaces"] = joined, &v2), None);
        assert_eq!(found(|_| {}, &CgroupMounts::v1_for_tests("/", &["devices"])), None);
        assert_eq!(found(|_| {}, &CgroupMounts::hybrid_for_tests("/", &["devices"])), None);
    }

    #[test]
    fn in_a_user_namespace_it_is_the_user_outside() {
        let v2 = CgroupMounts::v2_for_tests("/", &["pids"]);
        let with = |maps: serde_json::Value| {
            move |json: &mut serde_json::Value| {
                json["linux"]["namespaces"] = serde_json::json!([{"type": "cgroup"}, {"type": "user"}]);
                json["linux"]["uidMappings"] = maps;
            }
        };
        let map =
            |container: u32, size: u32| serde_json::json!([{"containerID": container, "hostID": 100000, "size": size}]);
        assert_eq!(found(with(map(0, 65536)), &v2), Some(100_007));
        assert_eq!(found(with(map(5, 3)), &v2), Some(100_002));
        assert_eq!(found(with(map(8, 3)), &v2), None);
    }
}
