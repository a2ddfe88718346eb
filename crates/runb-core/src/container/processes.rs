//! `ps`: who is in the container.

use super::Container;
use crate::error::{Error, Kind, Result};
use crate::state::Phase;

impl Container {
    /// The ids of all processes in the container's cgroup and below, as the caller's pid namespace has them, in order. One
    /// that has stopped has none.
    ///
    /// # Errors
    /// It has no cgroup by which they could be known (kind state), or the cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let cgroup = &self.saved.cgroup;
        if cgroup.is_empty() && self.saved.phase != Phase::Creating {
            return Err(Error::new(Kind::State, "the container has no cgroup, by which its processes would be known"));
        }
        cgroup.procs()
    }
}
