//! `update`: other limits for a container that exists.

use oci_spec::runtime::LinuxResources;

use super::{Container, Held};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::hearing::deadline;
use crate::host::standing::in_user_namespace;
use crate::plan;
use crate::plan::cgroup::systemd::{self, Property};
use crate::state::Status;
use crate::trace::{Step, Trace, What};
use crate::undo::MadeUnit;

/// Lines of the schemata of a resctrl group, as linux.intelRdt has them; what is not given stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schemata {
    /// `l3CacheSchema`.
    pub l3_cache_schema: Option<String>,
    /// `memBwSchema`.
    pub mem_bw_schema: Option<String>,
}

impl Schemata {
    fn lines(&self) -> Vec<(String, String)> {
        let lines = [("--l3-cache-schema", &self.l3_cache_schema), ("--mem-bw-schema", &self.mem_bw_schema)];
        let given = lines.into_iter().filter_map(|(name, line)| line.as_ref().map(|line| (name, line)));
        given.filter(|(_, line)| !line.is_empty()).map(|(name, line)| (name.to_owned(), line.clone())).collect()
    }
}

/// What an update came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Updated {
    /// What is odd and no error.
    pub warnings: Vec<String>,
    /// What was done, and how long it took.
    pub steps: Vec<Step>,
}

impl Container {
    /// Changes the container's limits: what `change` gives is set, the rest stays as it was. If something fails, everything
    /// is as it was before.
    ///
    /// Numbers for which 0 means "not set" in config.json are left alone where they are 0. Device rules are replaced as a
    /// whole, unless they are those that were given last. A memory limit below what is in use is reached by reclaiming, or
    /// refused. In a user namespace of somebody else's the kernel lets nobody set device rules, and they are passed over.
    ///
    /// # Errors
    /// It does not run (kind state); what cannot be done, by its place in the resources.
    pub fn update(&self, change: &LinuxResources) -> Result<Updated> {
        self.update_with(change, &Schemata::default())
    }

    /// The same, and other lines in the schemata of the container's resctrl group.
    ///
    /// # Errors
    /// As [`Container::update`]; lines for a container that has no linux.intelRdt.
    pub fn update_with(&self, change: &LinuxResources, schemata: &Schemata) -> Result<Updated> {
        let updated = self.held_traced(|mut held, trace| held.update(change, schemata.lines(), trace));
        updated.map(|(warnings, steps)| Updated { warnings, steps })
    }
}

impl Held {
    fn update(
        &mut self,
        change: &LinuxResources,
        lines: Vec<(String, String)>,
        trace: &mut Trace,
    ) -> Result<Vec<String>> {
        if matches!(self.status(), Status::Stopped | Status::Creating) {
            return Err(Error::new(Kind::State, "container not running"));
        }
        let cgroup = self.saved.cgroup.clone();
        let groups = self.saved.resctrl.clone();
        if groups.is_none() && !lines.is_empty() {
            let text = "updating a non-existent Intel RDT configuration is not supported: there is no linux.intelRdt";
            return Err(Error::new(Kind::Usage, text));
        }
        let (before, target) = (self.resources()?, cgroup.target()?);
        let mut update = plan::cgroup::update(&before, change, &target)?;
        if update.devices.is_some() && in_user_namespace() {
            // As at create.
            update.devices = None;
        }
        let unit = self.saved.journal.unit().cloned();
        let told = match &unit {
            Some(unit) => systemd::changed(&mut update, change, &target, &unit.name)?,
            None => Vec::new(),
        };
        trace.done(What::Change);
        let updated = cgroup.update(&update, deadline())?;
        trace.done(What::Limits);
        // systemd takes all of it or nothing, and writes its own form of it.
        if let Err(error) = tell(unit.as_ref(), &told, &cgroup) {
            return Err(updated.undo(error));
        }
        if unit.is_some() {
            trace.done(What::Told);
        }
        let again = unit.as_ref().map(|unit| systemd::again(&told, &update.effective, &target, &unit.name)).transpose();
        let again = again.and_then(|writes| Cgroup::write_again(&writes.unwrap_or_default()));
        self.saved.resources = Some(Box::new(update.effective));
        let mut save = || self.dir.save(&self.saved);
        let saved = again.and_then(|()| match &groups {
            Some(groups) => groups.change(&lines, save),
            None => save(),
        });
        if let Err(error) = saved {
            let former = unit.as_ref().map(|unit| systemd::former(&told, &before, &target, &unit.name)).transpose();
            let back = former.and_then(|former| tell(unit.as_ref(), &former.unwrap_or_default(), &cgroup));
            return Err(updated.undo(back.err().into_iter().fold(error, Error::and_cleanup)));
        }
        trace.done(What::Saved);
        Ok(update.warnings)
    }
}

/// Tells systemd. On version 1 it writes its list of devices anew with any property, in steps, which nobody is to see half of.
fn tell(unit: Option<&MadeUnit>, told: &[Property], cgroup: &Cgroup) -> Result<()> {
    let Some(unit) = unit.filter(|_| !told.is_empty()) else { return Ok(()) };
    let in_steps = cgroup.v1("devices").is_some();
    let set = || unit.set_properties(told);
    if in_steps { cgroup.while_frozen(deadline(), set) } else { set() }
}

impl Held {
    /// All that is set now: by the configuration, and by updates since.
    fn resources(&self) -> Result<LinuxResources> {
        if let Some(resources) = &self.saved.resources {
            return Ok((**resources).clone());
        }
        let spec = self.config()?;
        Ok(spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default())
    }
}
