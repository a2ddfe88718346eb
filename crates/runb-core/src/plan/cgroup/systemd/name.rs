//! `linux.cgroupsPath` as `SLICE:PREFIX:NAME`.

use std::path::{Path, PathBuf};

use super::slice_dirs;
use crate::error::{Error, Result};
use crate::options::Whose;

const ORIGIN: &str = "linux.cgroupsPath";

/// UNIT_NAME_MAX of systemd, without the byte at the end.
const LONGEST: usize = 255;

/// What a container's unit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// A scope: processes that systemd has not started, in a slice.
    Scope,
    /// A slice of its own name: systemd puts no process into it, so the runtime does.
    Slice,
}

impl UnitKind {
    /// By the end of a unit's name.
    pub(super) fn of(unit: &str) -> Self {
        if unit.ends_with(".slice") { UnitKind::Slice } else { UnitKind::Scope }
    }
}

/// The name of a unit, and where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::plan::cgroup) struct Name {
    pub(super) unit: String,
    pub(super) kind: UnitKind,
    /// The slice that it is asked to be in.
    pub(super) slice: String,
    /// The directories of that slice, or of the slice above it.
    above: PathBuf,
}

impl Name {
    /// Reads cgroupsPath; without one it is `:runb:ID`.
    pub(super) fn parse(cgroups_path: Option<&Path>, id: &str, whose: Whose) -> Result<Self> {
        let wrong = |text: String| Err(Error::spec(ORIGIN, text));
        let path = match cgroups_path {
            None => format!(":runb:{id}"),
            Some(path) => match path.to_str() {
                Some(path) => path.to_owned(),
                None => return wrong(format!("{path:?} is no name of a unit of systemd: it is not UTF-8")),
            },
        };
        let parts: Vec<&str> = path.split(':').collect();
        let [slice, prefix, name] = parts[..] else {
            return wrong(format!("expected cgroupsPath to be SLICE:PREFIX:NAME for systemd, got {path:?}"));
        };
        let slice = match (slice, whose) {
            ("", Whose::System) => "system.slice",
            ("", Whose::User) => "user.slice",
            ("-", _) => "-.slice",
            (slice, _) => slice,
        };
        check(slice)?;
        let no_slice = |name: &str| {
            let text = "a slice is named A-B.slice, without a slash, and with a name on either side of each \"-\"";
            Error::spec(ORIGIN, format!("invalid slice name {name:?}: {text}"))
        };
        let above = slice_dirs(slice).ok_or_else(|| no_slice(slice))?;
        let slice = slice.to_owned();
        if !name.ends_with(".slice") {
            let unit = format!("{prefix}-{name}.scope");
            check(&unit)?;
            return Ok(Name { unit, kind: UnitKind::Scope, slice, above });
        }
        check(name)?;
        let own = slice_dirs(name).filter(|own| !own.as_os_str().is_empty()).ok_or_else(|| no_slice(name))?;
        let above = own.parent().map_or_else(PathBuf::new, Path::to_owned);
        Ok(Name { unit: name.to_owned(), kind: UnitKind::Slice, slice, above })
    }

    /// The unit's cgroup, from that of the manager on.
    pub(super) fn below_manager(&self) -> PathBuf {
        self.above.join(escaped(&self.unit))
    }
}

/// What systemd takes for a name (unit_name_is_valid).
fn check(name: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::spec(ORIGIN, format!("{name:?} is no name of a unit of systemd: {text}")));
    if name.len() > LONGEST {
        return wrong(format!("it has {} bytes; {LONGEST} are allowed", name.len()));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || ":-_.\\@".contains(*c))) {
        Some(c) => wrong(format!("it has {c:?} in it; letters, digits and : - _ . \\ @ are allowed")),
        None if name.starts_with('@') => wrong("it begins with \"@\"".to_owned()),
        None => Ok(()),
    }
}

/// The controllers that systemd knows by name.
const CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
    "bpf-bind-network-interface",
];

/// The directory of a unit: systemd puts `_` before what could be a file of the kernel's (cg_escape).
pub(super) fn escaped(name: &str) -> String {
    let a_file = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    let clashes = name.starts_with(['_', '.'])
        || ["notify_on_release", "release_agent", "tasks"].contains(&name)
        || a_file("cgroup")
        || CONTROLLERS.iter().any(|controller| a_file(controller));
    if clashes { format!("_{name}") } else { name.to_owned() }
}
