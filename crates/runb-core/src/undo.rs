//! What takes a launch back: one journal, written before the first effect, replayed by a failing launch and by `delete`.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cgroup::{self, MadeDir};
use crate::error::Result;

/// The journal of a container, oldest entry first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Directories of cgroups that were made, or may have been.
    #[serde(default)]
    pub cgroups: Vec<MadeDir>,
}

impl Journal {
    /// Takes a single cgroup back, if nobody is in it and nothing below it; says whether there is none any more.
    pub fn undo_if_unused(&self) -> bool {
        cgroup::remove_if_unused(&self.cgroups)
    }

    /// Takes everything back, newest first.
    ///
    /// # Errors
    /// What could not be taken back by `deadline`; the rest is.
    pub fn undo(&self, deadline: Instant) -> Result<()> {
        cgroup::undo(&self.cgroups, deadline)
    }
}
