//! What this build supports: the Features structure (runtime-spec, features.md and features-linux.md). It says nothing
//! about the machine.

use std::collections::HashMap;

use oci_spec::runtime::{
    ApparmorBuilder, Arch, CgroupBuilder, Features, FeaturesBuilder, IDMapBuilder, IntelRdtBuilder, LinuxFeature,
    LinuxFeatureBuilder, LinuxNamespaceType, LinuxSeccompAction, MountExtensionsBuilder, NetDevicesBuilder, Seccomp,
    SeccompBuilder, SelinuxBuilder,
};

use oci_spec::OciSpecError;

use crate::plan::seccomp::Native;
use crate::{Error, Result};

/// The oldest version of the specification that a config.json may name.
pub const OCI_VERSION_MIN: &str = "1.0.0";
/// The newest version of the specification that a config.json may name.
pub const OCI_VERSION_MAX: &str = "1.3.0";

/// The hooks of config.md, in the order in which they run.
pub const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The namespaces of config-linux.md, sorted by name.
pub const NAMESPACES: [LinuxNamespaceType; 8] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

/// The names of the capabilities that are known, in the kernel's order.
pub fn capabilities() -> Vec<String> {
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
            .hooks(HOOKS.map(String::from))
            .mount_options(crate::plan::option_names())
            .linux(linux)
            .annotations(HashMap::from([("org.runb.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]))
            .potentially_unsafe_config_annotations(Vec::new())
            .build()
    });
    built.map_err(|error| Error::internal(format!("features: {error}")))
}

fn linux() -> std::result::Result<LinuxFeature, OciSpecError> {
    let cgroup = CgroupBuilder::default().v1(true).v2(true).systemd(false).systemd_user(false).rdma(true).build()?;
    LinuxFeatureBuilder::default()
        .namespaces(NAMESPACES)
        .capabilities(capabilities())
        .cgroup(cgroup)
        .seccomp(seccomp()?)
        .apparmor(ApparmorBuilder::default().enabled(true).build()?)
        .selinux(SelinuxBuilder::default().enabled(true).build()?)
        .intel_rdt(IntelRdtBuilder::default().enabled(false).build()?)
        .mount_extensions(
            MountExtensionsBuilder::default().idmap(IDMapBuilder::default().enabled(true).build()?).build()?,
        )
        .net_devices(NetDevicesBuilder::default().enabled(false).build()?)
        .build()
}

/// What the compiler of `plan::seccomp` takes. Flags that it knows and the running kernel may lack are supported: whether
/// it has them is asked when a filter is compiled.
fn seccomp() -> std::result::Result<Seccomp, OciSpecError> {
    use LinuxSeccompAction as Action;
    let flags = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map(|name| format!("SCMP_CMP_{name}"));
    let archs = match Native::of_build() {
        Some(Native::X86_64) => vec![Arch::ScmpArchX86, Arch::ScmpArchX86_64, Arch::ScmpArchX32],
        Some(Native::Aarch64) => vec![Arch::ScmpArchArm, Arch::ScmpArchAarch64],
        None => Vec::new(),
    };
    SeccompBuilder::default()
        .enabled(!archs.is_empty())
        .actions([
            Action::ScmpActAllow,
            Action::ScmpActErrno,
            Action::ScmpActKill,
            Action::ScmpActKillProcess,
            Action::ScmpActKillThread,
            Action::ScmpActLog,
            Action::ScmpActNotify,
            Action::ScmpActTrace,
            Action::ScmpActTrap,
        ])
        .operators(operators)
        .archs(archs)
        .known_flags(flags.clone())
        .supported_flags(flags)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engines_look_for_is_where_they_look() {
        let value = serde_json::to_value(features().unwrap()).unwrap();
        assert_eq!((&value["ociVersionMin"], &value["ociVersionMax"]), (&"1.0.0".into(), &"1.3.0".into()));
        let has = |list: &serde_json::Value, name: &str| list.as_array().unwrap().iter().any(|item| item == name);
        assert!(has(&value["mountOptions"], "rro"));
        assert!(has(&value["linux"]["namespaces"], "user"));
        assert_eq!(value["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert!(has(&value["linux"]["seccomp"]["actions"], "SCMP_ACT_NOTIFY"));
        assert!(has(&value["linux"]["seccomp"]["knownFlags"], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"));
        assert_eq!(value["linux"]["capabilities"][0], "CAP_CHOWN");
        assert_eq!(value["linux"]["capabilities"].as_array().unwrap().last().unwrap(), "CAP_CHECKPOINT_RESTORE");
    }

    #[test]
    fn the_mount_options_are_sorted_and_each_is_there_once() {
        assert!(crate::plan::option_names().is_sorted_by(|a, b| a < b));
    }
}
