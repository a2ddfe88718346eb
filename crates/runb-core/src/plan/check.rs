//! The rules that refuse a configuration, each with its sentence.

use oci_spec::runtime::{Hook, Process, Spec, User};

use super::environment;
use crate::error::{Error, Result};
use crate::host::Host;

/// The specification that this runtime implements.
pub const SPEC_VERSION: &str = "1.3.0";

/// Refuses what the specification forbids and what this version does not do. Returns what is only odd.
///
/// # Errors
/// Names the place and the rule.
pub fn check(spec: &Spec, _host: &Host) -> Result<Vec<String>> {
    version(spec.version())?;
    let Some(root) = spec.root() else {
        return Err(Error::spec("root", "is missing: a container needs a root filesystem"));
    };
    if root.path().as_os_str().is_empty() {
        return Err(Error::spec("root.path", "is empty"));
    }
    process(spec)?;
    hooks(spec)?;
    let mut warnings = Vec::new();
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        if !mount.destination().is_absolute() {
            warnings.push(format!(
                "mounts[{i}].destination: {:?} is relative, and taken from the root",
                mount.destination()
            ));
        }
    }
    let resources = spec.linux().iter().filter_map(|linux| linux.resources().as_ref());
    warnings.extend(resources.flat_map(super::cgroup::odd_access));
    Ok(warnings)
}

fn version(version: &str) -> Result<()> {
    let place = "ociVersion";
    let major = version.split('.').next().unwrap_or("");
    match major.parse::<u32>() {
        Ok(1) => Ok(()),
        // Before 1.0 the documents changed from one to the next; runc takes them, and so do engines' old bundles.
        Ok(0) if version.starts_with("0.") => Ok(()),
        Ok(_) => {
            Err(Error::spec(place, format!("{version:?} is not supported: this runtime implements {SPEC_VERSION}")))
        }
        Err(_) => Err(Error::spec(place, format!("{version:?} is no version; this runtime implements {SPEC_VERSION}"))),
    }
}

fn process(spec: &Spec) -> Result<()> {
    let Some(process) = spec.process() else { return Err(Error::spec("process", "is missing")) };
    process_object(process)
}

/// The rules for a process object.
pub(super) fn process_object(process: &Process) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    if args.first().is_none_or(String::is_empty) {
        return Err(Error::spec("process.args", "is empty: there is nothing to execute"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::spec("process.cwd", format!("{:?} is not an absolute path", process.cwd())));
    }
    user(process.user())?;
    environment::check(process)?;
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    for (i, limit) in rlimits.iter().enumerate() {
        if let Some(first) = rlimits[..i].iter().position(|other| other.typ() == limit.typ()) {
            let text =
                format!("{} is also process.rlimits[{first}].type; config.md demands one entry for each", limit.typ());
            return Err(Error::spec(format!("process.rlimits[{i}].type"), text));
        }
        if limit.soft() > limit.hard() {
            let text = format!("{}: soft limit {} above hard limit {}", limit.typ(), limit.soft(), limit.hard());
            return Err(Error::spec(format!("process.rlimits[{i}]"), text));
        }
    }
    Ok(())
}

/// The highest number is no id: setresuid(2), setresgid(2) and fchown(2) take it for "as it is", which is root.
pub(super) fn id(id: u32) -> std::result::Result<(), String> {
    if id == u32::MAX { Err(format!("{id} is no id")) } else { Ok(()) }
}

fn user(user: &User) -> Result<()> {
    for (field, number) in [("uid", user.uid()), ("gid", user.gid())] {
        id(number).map_err(|text| Error::spec(format!("process.user.{field}"), text))?;
    }
    Ok(())
}

/// Each kind of hook with its place.
#[allow(deprecated)]
pub(crate) fn kinds(hooks: &oci_spec::runtime::Hooks) -> [(&'static str, &Option<Vec<Hook>>); 6] {
    [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ]
}

/// The names of the hooks that are run, in the order in which they run; `features` tells them.
pub fn hook_names() -> [&'static str; 6] {
    kinds(&oci_spec::runtime::Hooks::default()).map(|(name, _)| name)
}

fn hooks(spec: &Spec) -> Result<()> {
    for (kind, list) in spec.hooks().iter().flat_map(kinds) {
        for (i, hook) in list.iter().flatten().enumerate() {
            let place = format!("hooks.{kind}[{i}]");
            if !hook.path().is_absolute() {
                return Err(Error::spec(format!("{place}.path"), format!("{:?} is not an absolute path", hook.path())));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(Error::spec(format!("{place}.timeout"), "must be greater than zero"));
            }
        }
    }
    Ok(())
}
