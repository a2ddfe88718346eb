//! The config.json that `spec` writes: one to begin with. Its values are runc's, except for the host name.

use oci_spec::runtime::{LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, Spec};
use serde_json::Value;

use crate::{Error, Result};

/// The values, in the form in which they are read.
const TEMPLATE: &str = include_str!("template.json");

/// Whether the container gets a cgroup namespace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupNamespace {
    /// It does; runc's choice on cgroup v2.
    New,
    /// It shares the caller's; runc's choice on cgroup v1.
    Inherit,
}

/// The configuration for a container of root.
///
/// # Errors
/// `Internal`, if the template is not what oci-spec reads; a test says that it is.
pub fn spec(cgroup: CgroupNamespace) -> Result<Spec> {
    let mut spec: Spec = serde_json::from_str(TEMPLATE).map_err(|error| internal(&error))?;
    if cgroup == CgroupNamespace::New {
        add_namespace(&mut spec, LinuxNamespaceType::Cgroup)?;
    }
    Ok(spec)
}

/// Changes `spec` into one for a user without privileges, whose ids are `uid` and `gid` (user_namespaces(7)): a user
/// namespace that maps them, the host's network, /sys by bind mount, no cgroup limits.
///
/// # Errors
/// `Internal`, as for [`spec`].
pub fn to_rootless(spec: &mut Spec, uid: u32, gid: u32) -> Result<()> {
    add_namespace(spec, LinuxNamespaceType::User)?;
    let map = |id| {
        let map = LinuxIdMappingBuilder::default().host_id(id).container_id(0u32).size(1u32).build();
        map.map_err(|error| internal(&error))
    };
    if let Some(linux) = spec.linux_mut() {
        linux.set_uid_mappings(Some(vec![map(uid)?]));
        linux.set_gid_mappings(Some(vec![map(gid)?]));
        linux.set_resources(None);
        if let Some(namespaces) = linux.namespaces_mut() {
            namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
        }
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        make_rootless(mount);
    }
    Ok(())
}

/// sysfs belongs to the network namespace, which is the host's; ids other than the user's own are not mapped.
fn make_rootless(mount: &mut Mount) {
    if mount.destination().as_os_str() == "/sys" {
        mount.set_typ(Some("none".to_owned()));
        mount.set_source(Some("/sys".into()));
        if let Some(options) = mount.options_mut() {
            options.insert(0, "rbind".to_owned());
        }
    }
    if let Some(options) = mount.options_mut() {
        options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
}

fn add_namespace(spec: &mut Spec, kind: LinuxNamespaceType) -> Result<()> {
    let namespace = LinuxNamespaceBuilder::default().typ(kind).build().map_err(|error| internal(&error))?;
    if let Some(namespaces) = spec.linux_mut().as_mut().and_then(|linux| linux.namespaces_mut().as_mut()) {
        namespaces.push(namespace);
    }
    Ok(())
}

/// The configuration as text, the same at each call: oci-spec keeps capabilities in a set, which has no order.
///
/// # Errors
/// `Internal`, if it cannot be written as JSON.
pub fn to_json(spec: &Spec) -> Result<String> {
    let mut value = serde_json::to_value(spec).map_err(|error| internal(&error))?;
    if let Some(Value::Object(sets)) = value.pointer_mut("/process/capabilities") {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    Ok(serde_json::to_string_pretty(&value).map_err(|error| internal(&error))? + "\n")
}

fn internal(error: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("the template of config.json: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(spec: &Spec) -> Value {
        serde_json::from_str(&to_json(spec).unwrap()).unwrap()
    }

    #[test]
    fn the_types_keep_every_value_of_the_template() {
        let template: Value = serde_json::from_str(TEMPLATE).unwrap();
        assert_eq!(json(&spec(CgroupNamespace::Inherit).unwrap()), template);
    }

    #[test]
    fn on_cgroup_v2_the_container_gets_a_cgroup_namespace() {
        let namespaces = &json(&spec(CgroupNamespace::New).unwrap())["linux"]["namespaces"];
        assert_eq!(namespaces[5]["type"], "cgroup");
    }

    #[test]
    fn a_rootless_one_maps_the_user_and_asks_for_nothing_that_only_root_has() {
        let mut spec = spec(CgroupNamespace::Inherit).unwrap();
        to_rootless(&mut spec, 1000, 100).unwrap();
        let value = json(&spec);
        let linux = &value["linux"];
        let kinds: Vec<&str> = linux["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|namespace| namespace["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "user"]);
        assert_eq!(linux["uidMappings"], serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        assert_eq!(linux["gidMappings"], serde_json::json!([{"containerID": 0, "hostID": 100, "size": 1}]));
        assert_eq!(linux.get("resources"), None);
        assert_eq!(value["mounts"][2]["options"].as_array().unwrap().last().unwrap(), "mode=0620");
        assert_eq!(
            value["mounts"][5],
            serde_json::json!({"destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
        );
    }
}
