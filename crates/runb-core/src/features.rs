//! What this build supports: the Features structure (runtime-spec, features.md and features-linux.md). It says nothing
//! about the machine.

mod criu;
pub mod host;

use std::collections::HashMap;

use oci_spec::runtime::{
    ApparmorBuilder, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder, LinuxFeature,
    LinuxFeatureBuilder, MemoryPolicyBuilder, MountExtensionsBuilder, NetDevicesBuilder, Seccomp, SeccompBuilder,
    SelinuxBuilder,
};

use oci_spec::OciSpecError;

use crate::options::CONFIG_ANNOTATION;
use crate::plan::{self, seccomp};
use crate::{Error, Result};

/// The oldest version of the specification that a config.json may name.
pub const OCI_VERSION_MIN: &str = "1.0.0";
/// The newest version of the specification that a config.json may name.
pub const OCI_VERSION_MAX: &str = plan::SPEC_VERSION;

/// The specification has no field for a checkpoint: runc's annotation says that there is one, whether or not the machine has CRIU.
const ANNOTATIONS: [(&str, &str); 2] =
    [("org.runb.version", env!("CARGO_PKG_VERSION")), ("org.opencontainers.runc.checkpoint.enabled", "true")];

/// The names of the capabilities that are known, in the kernel's order.
pub(crate) fn capabilities() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(|capability| capability.index());
    all.iter().map(ToString::to_string).collect()
}

/// What this build supports.
///
/// # Errors
/// `Internal`, if oci-spec refuses its own types.
pub fn features() -> Result<Features> {
    let built = linux().and_then(|linux| {
        FeaturesBuilder::default()
            .oci_version_min(OCI_VERSION_MIN)
            .oci_version_max(OCI_VERSION_MAX)
            .hooks(plan::hook_names().map(String::from))
            .mount_options(plan::option_names())
            .linux(linux)
            .annotations(HashMap::from(ANNOTATIONS.map(|(name, value)| (name.to_owned(), value.to_owned()))))
            .potentially_unsafe_config_annotations(
                [plan::cgroup::systemd::PREFIX, CONFIG_ANNOTATION].map(str::to_owned),
            )
            .build()
    });
    built.map_err(|error| Error::internal(format!("features: {error}")))
}

fn linux() -> std::result::Result<LinuxFeature, OciSpecError> {
    let cgroup = CgroupBuilder::default().v1(true).v2(true).systemd(true).systemd_user(true).rdma(true).build()?;
    LinuxFeatureBuilder::default()
        .namespaces(plan::NAMESPACES)
        .capabilities(capabilities())
        .cgroup(cgroup)
        .seccomp(seccomp()?)
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        .memory_policy(
            MemoryPolicyBuilder::default()
                .modes(plan::MEMORY_POLICY_MODES.map(|mode| mode.to_string()))
                .flags(plan::MEMORY_POLICY_FLAGS.map(|flag| flag.to_string()))
                .build()?,
        )
        .intel_rdt(IntelRdtBuilder::default().enabled(true).schemata(true).monitoring(true).build()?)
        .mount_extensions(
            MountExtensionsBuilder::default().idmap(IDMapBuilder::default().enabled(true).build()?).build()?,
        )
        .net_devices(NetDevicesBuilder::default().enabled(true).build()?)
        .build()
}

/// What the compiler takes on this architecture. Flags that the running kernel may lack are named as supported: whether it
/// has them is asked when a filter is compiled.
fn seccomp() -> std::result::Result<Seccomp, OciSpecError> {
    let flags = seccomp::FLAGS.map(|flag| flag.to_string());
    let abis: Vec<_> = seccomp::Native::of_build().into_iter().flat_map(seccomp::Native::abis).collect();
    SeccompBuilder::default()
        .enabled(!abis.is_empty())
        .actions(seccomp::ACTIONS)
        .operators(seccomp::OPERATORS.map(|operator| operator.to_string()))
        .archs(abis.into_iter().map(seccomp::Abi::spec).collect::<Vec<_>>())
        .known_flags(flags.clone())
        .supported_flags(flags)
        .build()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::host::Host;
    use crate::options::Options;
    use crate::survey::Survey;

    #[test]
    fn what_the_engines_look_for_is_where_they_look() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        assert_eq!((&value["ociVersionMin"], &value["ociVersionMax"]), (&"1.0.0".into(), &"1.3.0".into()));
        let has = |list: &serde_json::Value, name: &str| list.as_array().unwrap().iter().any(|item| item == name);
        assert!(has(&value["mountOptions"], "rro"));
        for unsafe_one in ["org.systemd.property.", "org.criu.config"] {
            assert!(has(&value["potentiallyUnsafeConfigAnnotations"], unsafe_one));
        }
        assert_eq!(value["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
        let cgroup = &value["linux"]["cgroup"];
        assert_eq!((&cgroup["systemd"], &cgroup["systemdUser"]), (&true.into(), &true.into()));
        assert!(has(&value["linux"]["namespaces"], "user"));
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["capabilities"].as_array().unwrap().last().unwrap(), "CAP_CHECKPOINT_RESTORE");
    }

    #[test]
    fn the_seccomp_names_are_the_specifications() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        let seccomp = &value["linux"]["seccomp"];
        assert_eq!(seccomp["enabled"], true);
        for (field, prefix, count) in [
            ("actions", "SCMP_ACT_", 9),
            ("operators", "SCMP_CMP_", 7),
            ("archs", "SCMP_ARCH_", seccomp::Native::of_build().unwrap().abis().count()),
            ("knownFlags", "SECCOMP_FILTER_FLAG_", 4),
            ("supportedFlags", "SECCOMP_FILTER_FLAG_", 4),
        ] {
            let names: Vec<_> = seccomp[field].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(names.len(), count, "{field}: {names:?}");
            assert!(names.iter().all(|name| name.starts_with(prefix)), "{field}: {names:?}");
        }
    }

    #[test]
    fn every_action_that_is_named_compiles() {
        for action in seccomp::ACTIONS {
            let profile = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l",
                "flags": seccomp::FLAGS, "syscalls": [{"names": ["mkdir"], "action": action}]});
            let profile = serde_json::from_value(profile).unwrap();
            let kernel = seccomp::Kernel::of_release(6, 12);
            seccomp::compile(&profile, seccomp::Native::X86_64, &kernel).unwrap();
        }
    }

    #[test]
    fn the_fields_of_the_newest_specification_are_told() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        let linux = &value["linux"];
        assert_eq!(linux["intelRdt"], serde_json::json!({"enabled": true, "schemata": true, "monitoring": true}));
        assert_eq!(linux["netDevices"]["enabled"], true);
        assert_eq!(linux["memoryPolicy"]["modes"].as_array().map(Vec::len), Some(7));
        assert_eq!(linux["memoryPolicy"]["flags"].as_array().map(Vec::len), Some(3));
    }

    fn planned(changes: serde_json::Value) -> Result<plan::Plan> {
        let mut whole = serde_json::json!({"ociVersion": OCI_VERSION_MAX, "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]},
            "linux": {"namespaces": [{"type": "mount"}]}});
        for (field, value) in changes.as_object().unwrap() {
            whole[field] = value.clone();
        }
        let spec = serde_json::from_value(whole).unwrap();
        plan::create(&plan::Request {
            spec: &spec,
            host: &Host::plain(),
            survey: &Survey::default(),
            options: &Options::default(),
            bundle: Path::new("/b"),
            ending: plan::Ending::Fifo,
        })
    }

    #[test]
    fn the_oldest_and_the_newest_version_that_are_told_are_planned() {
        for version in [OCI_VERSION_MIN, OCI_VERSION_MAX] {
            planned(serde_json::json!({"ociVersion": version})).unwrap();
        }
        assert!(planned(serde_json::json!({"ociVersion": "2.0.0"})).is_err());
    }

    #[test]
    fn every_namespace_that_is_told_is_made_and_there_is_no_other() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        let maps = serde_json::json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        for name in value["linux"]["namespaces"].as_array().unwrap() {
            let namespaces = serde_json::json!([{"type": "mount"}, {"type": name}]);
            let linux = match name.as_str().unwrap() {
                "mount" => serde_json::json!({"namespaces": [{"type": name}]}),
                "user" => serde_json::json!({"namespaces": namespaces, "uidMappings": maps, "gidMappings": maps}),
                _ => serde_json::json!({"namespaces": namespaces}),
            };
            let plan = planned(serde_json::json!({"linux": linux})).unwrap();
            let kind = plan::NAMESPACES.into_iter().find(|kind| plan::namespace_name(*kind) == name).unwrap();
            assert!(plan.namespaces & kind as u64 != 0, "{name}");
        }
        // The kernel's CLONE_NEW* flags are eight.
        let all = plan::NAMESPACES.into_iter().fold(0, |all, kind| all | kind as u64);
        assert_eq!(all.count_ones(), 8);
    }

    #[test]
    fn the_hooks_are_those_of_a_whole_hooks_object() {
        let whole = oci_spec::runtime::HooksBuilder::default()
            .prestart(Vec::new())
            .create_runtime(Vec::new())
            .create_container(Vec::new())
            .start_container(Vec::new())
            .poststart(Vec::new())
            .poststop(Vec::new())
            .build()
            .unwrap();
        let fields: std::collections::BTreeSet<String> =
            serde_json::to_value(whole).unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, plan::hook_names().map(String::from).into());
    }

    #[test]
    fn an_id_mapping_is_told_because_it_is_planned() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        let maps = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        let mounts = serde_json::json!([{"destination": "/data", "source": "/srv", "options": ["bind"],
            "uidMappings": maps, "gidMappings": maps}]);
        let plan = planned(serde_json::json!({"mounts": mounts})).unwrap();
        let mapped = plan.mount_steps.iter().any(|step| matches!(step.work, plan::MountWork::MapIds(Some(_), _)));
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], mapped);
    }

    #[test]
    fn every_mode_and_flag_of_a_memory_policy_that_is_named_is_planned() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        let policy = &value["linux"]["memoryPolicy"];
        let names = |field: &str| policy[field].as_array().unwrap().clone();
        for mode in names("modes") {
            for flag in names("flags") {
                let nodes = if mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL" { "" } else { "0" };
                let policy = serde_json::json!({"mode": mode, "nodes": nodes, "flags": [flag]});
                let linux = serde_json::json!({"namespaces": [{"type": "mount"}], "memoryPolicy": policy});
                planned(serde_json::json!({"linux": linux})).unwrap();
            }
        }
    }

    #[test]
    fn the_mount_options_are_sorted_and_each_is_there_once() {
        assert!(plan::option_names().is_sorted_by(|a, b| a < b));
    }
}
