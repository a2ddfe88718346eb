//! `update`: other limits for a container that exists.

use oci_spec::runtime::LinuxResources;

use super::{Container, Held};
use crate::error::{Error, Kind, Result};
use crate::hearing::deadline;
use crate::plan;
use crate::state::Status;

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

impl Container {
    /// Changes the container's limits: what `change` gives is set, the rest stays as it was. If something fails, everything
    /// is as it was before. What is odd and no error is returned.
    ///
    /// Numbers for which 0 means "not set" in config.json are left alone where they are 0. Device rules are replaced as a
    /// whole, unless they are those that were given last. A memory limit below what is in use is reached by reclaiming, or
    /// refused.
    ///
    /// # Errors
    /// It does not run (kind state); what cannot be done, by its place in the resources.
    pub fn update(&self, change: &LinuxResources) -> Result<Vec<String>> {
        self.update_with(change, &Schemata::default())
    }

    /// The same, and other lines in the schemata of the container's resctrl group.
    ///
    /// # Errors
    /// As [`Container::update`]; lines for a container that has no linux.intelRdt.
    pub fn update_with(&self, change: &LinuxResources, schemata: &Schemata) -> Result<Vec<String>> {
        let mut held = self.hold()?;
        if matches!(held.status(), Status::Stopped | Status::Creating) {
            return Err(Error::new(Kind::State, "container not running"));
        }
        let cgroup = held.saved.cgroup.clone();
        let update = plan::cgroup::update(&held.resources()?, change, &cgroup.target()?)?;
        let lines = schemata.lines();
        let groups = match (&held.saved.resctrl, lines.is_empty()) {
            (None, false) => {
                let text =
                    "updating a non-existent Intel RDT configuration is not supported: there is no linux.intelRdt";
                return Err(Error::new(Kind::Usage, text));
            }
            (groups, _) => groups.clone(),
        };
        let updated = cgroup.update(&update, deadline())?;
        let changed = groups.as_ref().map_or(Ok(()), |groups| groups.change(&lines));
        held.saved.resources = Some(Box::new(update.effective));
        changed.and_then(|()| held.dir.save(&held.saved)).map_err(|error| updated.undo(error))?;
        Ok(update.warnings)
    }
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
