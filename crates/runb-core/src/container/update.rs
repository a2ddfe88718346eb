//! `update`: other limits for a container that exists.

use oci_spec::runtime::LinuxResources;

use super::{Container, Held};
use crate::error::{Error, Kind, Result};
use crate::hearing::deadline;
use crate::host::in_user_namespace;
use crate::plan;
use crate::state::Status;

impl Container {
    /// Changes the container's limits: what `change` gives is set, the rest stays as it was. If something fails, everything
    /// is as it was before. What is odd and no error is returned.
    ///
    /// Numbers for which 0 means "not set" in config.json are left alone where they are 0. Device rules are replaced as a
    /// whole, unless they are those that were given last. A memory limit below what is in use is reached by reclaiming, or
    /// refused. In a user namespace of somebody else's the kernel lets nobody set device rules, and they are passed over.
    ///
    /// # Errors
    /// It does not run (kind state); what cannot be done, by its place in the resources.
    pub fn update(&self, change: &LinuxResources) -> Result<Vec<String>> {
        let mut held = self.hold()?;
        if matches!(held.status(), Status::Stopped | Status::Creating) {
            return Err(Error::new(Kind::State, "container not running"));
        }
        let cgroup = held.saved.cgroup.clone();
        let mut update = plan::cgroup::update(&held.resources()?, change, &cgroup.target()?)?;
        if update.devices.is_some() && in_user_namespace() {
            // As at create.
            update.devices = None;
        }
        let updated = cgroup.update(&update, deadline())?;
        held.saved.resources = Some(Box::new(update.effective));
        held.dir.save(&held.saved).map_err(|error| updated.undo(error))?;
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
