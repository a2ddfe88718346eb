//! What a container uses.

use nix::libc;

use super::Container;
use crate::error::{Error, Kind, Result};
use crate::stats::{self, Interface, Stats};

impl Container {
    /// What the container uses, as the kernel counts it now; of one that has stopped, as long as it is not deleted, what it
    /// has used.
    ///
    /// # Errors
    /// It has no cgroup (kind state); a figure cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let cgroup = &self.saved.cgroup;
        if cgroup.is_empty() {
            return Err(Error::new(Kind::State, "the container has no cgroup, by which its use would be counted"));
        }
        let network = self.interfaces()?;
        let intel_rdt = self.saved.resctrl.as_ref().map(stats::intel_rdt).transpose()?;
        Ok(Stats { network, intel_rdt, ..stats::of(cgroup)? })
    }

    /// The interfaces of the container's own network namespace, while it lives.
    fn interfaces(&self) -> Result<Option<Vec<Interface>>> {
        let own = self.saved.namespaces & libc::CLONE_NEWNET as u64 != 0;
        let Some(init) = self.saved.init.filter(|init| own && init.is_alive()) else { return Ok(None) };
        let found = stats::interfaces(init.pid);
        // Init may have ended meanwhile, and another process may have its number.
        if init.is_alive() { found.map(Some) } else { Ok(None) }
    }
}
