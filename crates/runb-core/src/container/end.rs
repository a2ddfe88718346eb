//! The end of a container: `kill` and `delete`.

use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::remains::{self, let_go, outlives_init};
use super::{Container, Held, hooks, traced};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::hearing::deadline;
use crate::network::Inside;
use crate::options::HookEnvironment;
use crate::signal::Signal;
use crate::state::{self, Opened, Phase, Saved, StateDir, Status};
use crate::sys;
use crate::trace::{Step, Trace, What};
use crate::undo::Ours;

/// Which processes a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Init; SIGKILL without a pid namespace of the container's own is for all, as under runc.
    Init,
    /// Every process in the container's cgroup.
    All,
}

/// Whether a container that runs is ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// It is an error.
    No,
    /// It is killed; one that does not exist is no error.
    Yes,
}

/// What a removal came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Removal {
    /// What went wrong in poststop hooks, which is no error (runtime.md, lifecycle step 13).
    pub warnings: Vec<Error>,
    /// What was done, and how long it took.
    pub steps: Vec<Step>,
}

pub(super) fn removal(work: impl FnOnce(&mut Trace) -> Result<Vec<Error>>) -> Result<Removal> {
    traced(work).map(|(warnings, steps)| Removal { warnings, steps })
}

impl Container {
    /// Sends a signal: `kill`. It waits for no other verb: what is signalled is the init that this handle knows. Returns what
    /// was done.
    ///
    /// # Errors
    /// It does not run (kind state).
    pub fn kill(&self, signal: Signal, scope: Scope) -> Result<Vec<Step>> {
        let signalled = |trace: &mut Trace| self.signal(signal, scope).map(|()| trace.done(What::Signalled));
        traced(signalled).map(|((), steps)| steps)
    }

    fn signal(&self, signal: Signal, scope: Scope) -> Result<()> {
        if self.saved.phase == Phase::Creating {
            return Err(not_running());
        }
        match scope {
            // Who is in the cgroup now is another container's.
            Scope::All if self.saved.init_fd()?.is_none() && !outlives_init(&self.saved) => Ok(()),
            Scope::All if signal.number() == libc::SIGKILL => end(&self.saved),
            Scope::All => self.saved.own_cgroup().map_or(Ok(()), |cgroup| cgroup.signal(signal.number())),
            Scope::Init
                if signal.number() == libc::SIGKILL && outlives_init(&self.saved) && !self.saved.cgroup.is_empty() =>
            {
                self.kill_everyone()
            }
            Scope::Init => self.signal_init(signal),
        }
    }

    fn signal_init(&self, signal: Signal) -> Result<()> {
        let (_, pidfd) = self.saved.init_fd()?.ok_or_else(not_running)?;
        match sys::pidfd_send_signal(&pidfd, signal.number()) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Err(not_running()),
            Err(errno) => return Err(Error::host(format!("pidfd_send_signal {}", signal.number()), errno)),
        }
        if signal.number() == libc::SIGKILL {
            let_go(&self.saved);
        }
        Ok(())
    }

    /// Also what init has left behind, as long as there is a cgroup that would tell.
    fn kill_everyone(&self) -> Result<()> {
        let is_there = |Cgroup { unified, v1 }: &Cgroup| {
            unified.iter().chain(v1.iter().map(|dir| &dir.path)).any(|dir| dir.exists())
        };
        match self.saved.init_fd()? {
            None if !self.saved.own_cgroup().is_some_and(is_there) => Err(not_running()),
            _ => end(&self.saved),
        }
    }

    /// Removes the container: `delete`.
    ///
    /// # Errors
    /// It runs and `force` is [`Force::No`]; or something of it could not be removed, and the container is still there.
    pub fn delete(&self, force: Force) -> Result<Removal> {
        removal(|trace| match self.hold_for(force) {
            Ok(held) => {
                trace.done(What::Loaded);
                held.delete(force, &self.hook_environment, trace)
            }
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => Ok(Vec::new()),
            Err(error) => Err(error),
        })
    }

    /// Removes the container `id` of `root`, also one whose `create` was killed at any moment. Its poststop hooks have
    /// `environment` where they name none.
    ///
    /// # Errors
    /// As [`Container::delete`]; with [`Force::Yes`] a container that does not exist is no error.
    pub fn remove(root: &Path, id: &str, force: Force, environment: &HookEnvironment) -> Result<Removal> {
        removal(|trace| Container::remove_traced((root, id), force, environment, trace))
    }

    fn remove_traced(
        (root, id): (&Path, &str),
        force: Force,
        environment: &HookEnvironment,
        trace: &mut Trace,
    ) -> Result<Vec<Error>> {
        let dir = match open(root, id, force) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => return Ok(Vec::new()),
            dir => dir?,
        };
        let (dir, saved) = load(dir, force)?;
        trace.done(What::Loaded);
        if let Some(saved) = saved {
            return Held { dir, saved }.delete(force, environment, trace);
        }
        // A create that was ended before it did anything.
        dir.remove()?;
        match force {
            Force::Yes => Ok(Vec::new()),
            Force::No => Err(Error::new(Kind::NotFound, "container does not exist")),
        }
    }

    /// Locks the container for its end.
    fn hold_for(&self, force: Force) -> Result<Held> {
        let (root, id) = self.place();
        match load(open(root, id, force)?, force)? {
            (dir, Some(saved)) => self.same(Held { dir, saved }),
            (_, None) => Err(Error::new(Kind::NotFound, "container does not exist")),
        }
    }
}

fn not_running() -> Error {
    Error::new(Kind::State, "container not running")
}

/// Locks the folder. What is at work in it may wait for init, or for a hook that does: with init's end it ends, too.
fn open(root: &Path, id: &str, force: Force) -> Result<StateDir> {
    match StateDir::open(root, id)? {
        Opened::Locked(dir) => Ok(dir),
        Opened::Busy(busy) => {
            if force == Force::Yes
                && let Ok(saved) = state::read(&root.join(id))
                && let Ok(Some((_, pidfd))) = saved.init_fd()
            {
                let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
                let_go(&saved);
            }
            busy.wait()
        }
    }
}

/// Reads what a locked folder says, if it is a container's; where the state is damaged, what the intent says, if the container
/// is to be ended by force.
fn load(mut dir: StateDir, force: Force) -> Result<(StateDir, Option<Saved>)> {
    let error = match dir.load() {
        Ok(saved) => return Ok((dir, Some(saved))),
        Err(error) if error.kind() == Kind::NotFound => return Ok((dir, None)),
        Err(error) if error.kind() == Kind::State && force == Force::Yes => error,
        Err(error) => return Err(error),
    };
    match dir.load_intent().ok().filter(|saved| saved.init.is_some()) {
        Some(saved) => {
            // First: a removal takes the intent first, and may be killed then.
            dir.forget_state()?;
            Ok((dir, Some(saved)))
        }
        None => Err(error.during(format!(
            "{} does not tell which processes and cgroups are the container's, and nothing was removed",
            dir.path().display()
        ))),
    }
}

impl Held {
    /// Kills init and whatever is left in the cgroup, and waits until they are gone.
    pub(super) fn end(&self) -> Result<()> {
        end(&self.saved)
    }

    /// Returns what went wrong in poststop hooks.
    pub(super) fn delete(self, force: Force, environment: &HookEnvironment, trace: &mut Trace) -> Result<Vec<Error>> {
        let init = self.saved.init_fd()?;
        let status = self.saved.status_by(self.dir.path(), |_| init.is_some());
        if force == Force::No && matches!(status, Status::Running | Status::Paused) {
            let text = format!("cannot delete container {} that is not stopped: {status}", self.saved.id);
            return Err(Error::new(Kind::State, text));
        }
        let Held { dir, saved } = &self;
        let spec = saved.hooks.then(|| self.config()).transpose();
        // A launch that was killed may have moved network devices, which go with the namespace.
        let living = || init.as_ref().map(|(pid, _)| *pid);
        let inside = Inside::again(&saved.journal.devices(), living);
        let own = remains::end(dir, saved, init)?;
        trace.done(What::Ended);
        let mut warnings = Vec::new();
        match spec {
            Ok(spec) => {
                let list = spec.as_ref().and_then(|spec| spec.hooks().as_ref());
                warnings.extend(hooks::poststop(list, saved, environment, trace));
            }
            Err(error) => warnings.push(error.during("the poststop hooks are not run")),
        }
        saved.journal.undo(Ours { init: saved.init.map(|init| init.pid), own, deadline: deadline() }, inside)?;
        self.dir.remove()?;
        trace.done(What::Removed);
        Ok(warnings)
    }
}

/// Kills init and whatever is left in the cgroup, and waits until they are gone.
fn end(saved: &Saved) -> Result<()> {
    remains::end_init(saved, saved.init_fd()?)?;
    saved.own_cgroup().map_or(Ok(()), |cgroup| cgroup.kill(deadline()))
}
