//! The unit that systemd makes for a container: its name and place, and all that it is told of it.
//!
//! Source: systemd.unit(5), systemd.slice(5), systemd.resource-control(5), org.freedesktop.systemd1(5); the grammar of
//! cgroupsPath is runc's (docs/systemd.md there). What systemd has a property for is given to it, as it writes its own values
//! again whenever it is reloaded; the same is written to the cgroup afterwards, as it leaves out in silence what its
//! controllers lack.

mod annotations;
mod devices;
mod gvariant;
mod name;
mod resources;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use zbus::Variant;

use super::devices::rules;
use super::path::Place;
use super::{CgroupPlan, Dir, DirKind, Target, Update, Write};
use crate::error::{Error, Kind, Result};
use crate::options::{Systemd, Whose};
pub(super) use name::Name;

pub use annotations::PREFIX;
pub use name::UnitKind;

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name in org.freedesktop.systemd1(5).
    pub name: String,
    /// Its value; printed, it has the syntax of GVariant.
    pub value: Variant<'static>,
    /// The place in config.json, if it comes from there.
    pub origin: String,
    /// The version of systemd that brought it, where an older one is to do without: what it asks for is written, too.
    pub since: Option<u32>,
}

impl Property {
    fn new(name: &str, value: impl Into<Variant<'static>>) -> Self {
        Property { name: name.to_owned(), value: value.into(), origin: String::new(), since: None }
    }

    fn at(self, origin: impl Into<String>) -> Self {
        Property { origin: origin.into(), ..self }
    }

    fn since(self, version: u32) -> Self {
        Property { since: Some(version), ..self }
    }
}

/// A unit that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name, `runb-web1.scope`.
    pub name: String,
    /// Scope or slice.
    pub kind: UnitKind,
    /// Its properties, but for the process ids of a scope.
    pub properties: Vec<Property>,
    /// The index in [`CgroupPlan::dirs`] of the directory in the hierarchy by which systemd tells units apart.
    pub dir: Option<usize>,
    /// What was found odd and is no error.
    pub warnings: Vec<String>,
}

impl Unit {
    /// What is asked of systemd, in words.
    #[cfg(any(test, feature = "internals"))]
    pub fn steps(&self) -> Vec<String> {
        let begin = match self.kind {
            UnitKind::Scope => format!("at the stop Cgroup: StartTransientUnit {}, with init as PIDs and", self.name),
            UnitKind::Slice => format!("StartTransientUnit {}, with", self.name),
        };
        let property = |property: &Property| {
            let Property { name, value, origin, .. } = property;
            if origin.is_empty() { format!("  {name}={value}") } else { format!("  {name}={value} # {origin}") }
        };
        [begin].into_iter().chain(self.properties.iter().map(property)).collect()
    }

    /// The value of a property that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|property| property.name == name).and_then(|property| match &property.value {
            Variant::Str(text) => Some(text.as_str()),
            _ => None,
        })
    }
}

/// What is asked of systemd.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Which one is asked.
    pub systemd: &'a Systemd,
    /// The cgroup below which its slices lie, from the top of each hierarchy.
    pub manager_cgroup: &'a Path,
    /// The configuration's annotations.
    pub annotations: Option<&'a HashMap<String, String>>,
}

/// Reads cgroupsPath: where the unit's cgroup lies in every hierarchy, and its name.
///
/// Errors: it is not `SLICE:PREFIX:NAME`, or that makes no name of a unit.
pub(super) fn place(cgroups_path: Option<&Path>, id: &str, asked: &Asked<'_>) -> Result<(Place, Name)> {
    let name = Name::parse(cgroups_path, id, asked.systemd.whose)?;
    let above = asked.manager_cgroup.strip_prefix("/").unwrap_or(asked.manager_cgroup);
    Ok((Place::BelowMount(above.join(name.below_manager())), name))
}

/// Makes the cgroups of `plan` those of a unit.
///
/// Errors: what systemd cannot be told, with its place.
pub(super) fn take_over(
    plan: &mut CgroupPlan,
    name: Name,
    resources: &LinuxResources,
    id: &str,
    asked: &Asked<'_>,
) -> Result<()> {
    let v1 = plan.dirs.iter().any(|dir| matches!(dir.kind, DirKind::V1 { .. }));
    let of_a_user = asked.systemd.whose == Whose::User;
    if v1 && of_a_user {
        let text = "a user's systemd makes no cgroups of version 1, and this machine has version 1";
        return Err(Error::new(Kind::Host, text).at("linux.cgroupsPath"));
    }
    let mut properties = base(&name, id, v1);
    for property in annotations::properties(asked.annotations)? {
        replace(&mut properties, property);
    }
    let mut warnings: Vec<String> = resources::weight_or_idle(&mut plan.limits.writes).into_iter().collect();
    for property in resources::properties(&mut plan.limits.writes, v1, name.kind)? {
        replace(&mut properties, property);
    }
    if of_a_user {
        // An unprivileged user may attach no device program, and opens no device that the host does not let him open.
        plan.limits.leave_devices();
    } else {
        let (devices, odd) = devices::properties(&rules(resources)?, v1);
        devices.into_iter().for_each(|property| replace(&mut properties, property));
        warnings.extend(odd);
    }
    if name.kind == UnitKind::Scope {
        // Init is moved by systemd; it enters the hierarchies of version 1 that systemd does not have by itself.
        plan.join.into = None;
    }
    let dir = plan.dirs.iter().position(names_units);
    plan.unit = Some(Unit { name: name.unit, kind: name.kind, properties, dir, warnings });
    Ok(())
}

/// What systemd is told of an update, whose quota is rounded.
///
/// Errors: what it cannot be told, with its place.
pub fn changed(update: &mut Update, change: &LinuxResources, target: &Target, unit: &str) -> Result<Vec<Property>> {
    let (v1, kind) = (!target.v1.is_empty(), UnitKind::of(unit));
    update.warnings.extend(resources::weight_or_idle(&mut update.writes));
    resources::end_idleness(&mut update.writes);
    let mut properties = Vec::new();
    for property in resources::properties(&mut update.writes, v1, kind)? {
        replace(&mut properties, property);
    }
    if !v1 && resources::ends_idleness(&update.writes) {
        replace(&mut properties, resources::weight(&target.writes(&update.effective)?)?);
    }
    if update.devices.is_some() {
        let (devices, odd) = devices::properties(&rules(change)?, v1);
        // An empty list takes the former one away; a list that is not adds to it.
        properties.push(devices::no_list());
        properties.extend(devices);
        update.warnings.extend(odd);
    }
    Ok(properties)
}

/// What is written once more after systemd was told `changed`, as it has written its own form of it.
///
/// Errors: as for the writes of a launch.
pub fn again(changed: &[Property], effective: &LinuxResources, target: &Target, unit: &str) -> Result<Vec<Write>> {
    let told = |prefix: &str| changed.iter().any(|property| property.name.starts_with(prefix));
    let (cpu, io) = (told("CPU"), told("IO") || told("BlockIO"));
    if !cpu && !io {
        return Ok(Vec::new());
    }
    let mut writes = target.writes(effective)?;
    resources::properties(&mut writes, !target.v1.is_empty(), UnitKind::of(unit))?;
    writes.retain(|write| cpu && resources::is_quota(write) || io && resources::is_io_weight(write));
    Ok(writes)
}

/// The properties of these names as they are for `resources`, of a unit that has `before` been changed.
pub fn former(changed: &[Property], before: &LinuxResources, target: &Target, unit: &str) -> Result<Vec<Property>> {
    let (v1, kind) = (!target.v1.is_empty(), UnitKind::of(unit));
    let mut known = resources::properties(&mut target.writes(before)?, v1, kind)?;
    known.extend(devices::properties(&rules(before)?, v1).0);
    let former = |property: &Property| {
        let was = known.iter().rfind(|known| known.name == property.name).cloned();
        was.unwrap_or_else(|| resources::unset(&property.name))
    };
    let mut list: Vec<Property> = Vec::new();
    if changed.iter().any(|property| property.name == "DeviceAllow") {
        list.push(devices::no_list());
    }
    for property in changed {
        let former = former(property);
        if list.iter().all(|known| known.name != former.name || known.value != former.value) {
            list.push(former);
        }
    }
    Ok(list)
}

/// Whether systemd tells by this hierarchy which unit a process is of: version 2, and `name=systemd` where that is not.
pub(super) fn names_units(dir: &Dir) -> bool {
    match &dir.kind {
        DirKind::Unified { .. } => true,
        DirKind::V1 { controllers, .. } => controllers.iter().any(|name| name == "name=systemd"),
    }
}

/// What holds for every container.
fn base(name: &Name, id: &str, v1: bool) -> Vec<Property> {
    let mut properties = vec![Property::new("Description", format!("runb container {id}"))];
    match name.kind {
        UnitKind::Scope => {
            properties.push(Property::new("Slice", name.slice.clone()));
            // What lies below is the container's.
            properties.push(Property::new("Delegate", true));
        }
        // The parent of a slice is in its name; this one is to be there, too.
        UnitKind::Slice => properties.push(Property::new("Wants", vec![name.slice.clone()])),
    }
    // Without them, a scope would be stopped before the engine at a shutdown, and wait for sysinit.target.
    properties.push(Property::new("DefaultDependencies", false));
    let io = if v1 { "BlockIOAccounting" } else { "IOAccounting" };
    for accounting in ["CPUAccounting", io, "MemoryAccounting", "TasksAccounting"] {
        properties.push(Property::new(accounting, true));
    }
    properties
}

/// The later word counts, at the place of the earlier.
fn replace(properties: &mut Vec<Property>, property: Property) {
    match properties.iter_mut().find(|earlier| earlier.name == property.name) {
        Some(earlier) => *earlier = property,
        None => properties.push(property),
    }
}

/// The directories of the slices above a unit's cgroup, as names: `a-b.slice` lies in `a.slice`.
fn slice_dirs(slice: &str) -> Option<PathBuf> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(PathBuf::new());
    }
    let mut dirs = PathBuf::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        let name = &stem[..end];
        if name.is_empty() || name.ends_with('-') {
            return None;
        }
        dirs.push(name::escaped(&format!("{name}.slice")));
    }
    Some(dirs)
}

#[cfg(test)]
mod tests;
