//! `pause` and `resume`: all processes of the container stand still, or run again.

use nix::libc;

use super::{Container, Held};
use crate::cgroup::FreezerState;
use crate::error::{Error, Kind, Result};
use crate::hearing::deadline;
use crate::state::Status;
use crate::trace::{Step, Trace, What};

impl Container {
    /// Stops every process in the container's cgroup and below, and returns when all stand still: `pause`. Returns what was
    /// done.
    ///
    /// # Errors
    /// It neither runs nor is created (kind state); it has no cgroup with a freezer; some process does not stop in time
    /// (ETIMEDOUT), and all run again then.
    pub fn pause(&self) -> Result<Vec<Step>> {
        let freeze = |held: Held, trace: &mut Trace| {
            match held.status() {
                Status::Created | Status::Running => {}
                Status::Paused => return refused("container not running: it is paused"),
                Status::Creating | Status::Stopped => return refused("container not running"),
            }
            held.saved.cgroup.freeze(deadline())?;
            trace.done(What::Frozen);
            held.let_a_killed_init_die()
        };
        self.held_traced(freeze).map(|((), steps)| steps)
    }

    /// Lets the processes of a paused container run again, and returns when they do: `resume`. Returns what was done.
    ///
    /// # Errors
    /// It is not paused (kind state); a cgroup above the container's is frozen.
    pub fn resume(&self) -> Result<Vec<Step>> {
        let thaw = |held: Held, trace: &mut Trace| {
            match held.status() {
                Status::Paused => held.saved.cgroup.thaw_and_wait(deadline())?,
                _ => return refused("container not paused"),
            }
            trace.done(What::Thawed);
            Ok(())
        };
        self.held_traced(thaw).map(|((), steps)| steps)
    }
}

fn refused(text: &str) -> Result<()> {
    Err(Error::new(Kind::State, text))
}

impl Held {
    /// A SIGKILL takes no effect while the version 1 freezer holds its process. Whoever kills thaws after the signal; where it
    /// came while this verb froze, this verb thaws.
    fn let_a_killed_init_die(&self) -> Result<()> {
        let cgroup = &self.saved.cgroup;
        let Some(init) = self.saved.init.filter(|_| cgroup.v1("freezer").is_some()) else { return Ok(()) };
        let pending = procfs::process::Process::new(init.pid).and_then(|process| process.status());
        let killed = pending.is_ok_and(|status| (status.sigpnd | status.shdpnd) >> (libc::SIGKILL - 1) & 1 == 1);
        match killed && cgroup.freezer_state()? != FreezerState::Thawed {
            true => cgroup.thaw().and_then(|()| refused("container not running: it was killed meanwhile")),
            false => Ok(()),
        }
    }
}
