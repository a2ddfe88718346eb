//! An init that begins before its program is whole (docs/decisions/ahead.md).

use std::os::fd::{AsFd, OwnedFd};

use super::{Born, Running};
use crate::cgroup::Made;
use crate::child::{Child, Place};
use crate::error::{Error, Result};
use crate::plan::{Outline, Plan};
use crate::sys;

/// An init that makes the first calls of its program, while the rest is being planned. Dropped it is killed.
pub(crate) struct Ahead {
    init: Child,
    /// What the whole program is awaited in.
    file: OwnedFd,
}

impl Ahead {
    /// Spawns it into the cgroups that were made.
    ///
    /// # Errors
    /// A call that makes it, with the errno.
    pub(crate) fn spawn(outline: &Outline, made: Option<&Made>, preserve: u32) -> Result<Self> {
        let cgroup = made.and_then(Made::unified);
        let file = sys::spawn::whole().map_err(|(call, errno)| Error::host(format!("{call} (spawning init)"), errno))?;
        let place =
            Place { namespaces: outline.clone_flags(), cgroup, preserve, more: Some(file.as_fd()), ..Place::default() };
        Child::spawn(outline.program(), place, "init").map(|init| Ahead { init, file })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Has it go on with `plan`.
    ///
    /// # Errors
    /// The program cannot be handed over. It does not live any more then.
    pub(crate) fn go_on<'p>(self, plan: &'p Plan, made: Option<&Made>, born: Born<'p>) -> Result<Running<'p>> {
        let Ahead { init, file } = self;
        init.go_on(&plan.program, file)?;
        Ok(Running::of(plan, init, made, born))
    }
}
