//! The end of a container: `kill` and `delete`.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Container, Held, hooks};
use crate::error::{Error, Kind, Result};
use crate::hearing::{deadline, ended};
use crate::options::HookEnvironment;
use crate::signal::Signal;
use crate::socket::PATIENCE;
use crate::state::{self, Opened, Phase, Saved, StateDir, Status};
use crate::sys;
use crate::undo::Ours;

/// Which processes a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Init.
    Init,
    /// Every process in the container's cgroup.
    All,
}

/// Whether a container that runs is ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It is an error.
    No,
    /// It is killed; one that does not exist is no error.
    Yes,
}

impl Container {
    /// Sends a signal: `kill`. It waits for no other verb: what is signalled is the init that this handle knows.
    ///
    /// # Errors
    /// It does not run (kind state).
    pub fn kill(&self, signal: Signal, scope: Scope) -> Result<()> {
        if self.saved.phase == Phase::Creating {
            return Err(not_running());
        }
        match scope {
            Scope::All if signal.number() == libc::SIGKILL => end(&self.saved),
            Scope::All => self.saved.cgroup.signal(signal.number()),
            Scope::Init => {
                let (_, pidfd) = self.saved.init_fd()?.ok_or_else(not_running)?;
                match sys::pidfd_send_signal(&pidfd, signal.number()) {
                    Err(Errno::ESRCH) => Err(not_running()),
                    Err(errno) => Err(Error::host(format!("pidfd_send_signal {}", signal.number()), errno)),
                    Ok(()) => {
                        if signal.number() == libc::SIGKILL {
                            let_go(&self.saved);
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    /// Removes the container: `delete`. Returns what went wrong in poststop hooks, which is no error.
    ///
    /// # Errors
    /// It runs and `force` is [`Force::No`]; or something of it could not be removed, and the container is still there.
    pub fn delete(&self, force: Force) -> Result<Vec<Error>> {
        match self.hold_for(force) {
            Ok(held) => held.delete(force, &self.hook_environment),
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Removes the container `id` of `root`, also one whose `create` was killed at any moment. Its poststop hooks have
    /// `environment` where they name none.
    ///
    /// # Errors
    /// As [`Container::delete`]; with [`Force::Yes`] a container that does not exist is no error.
    pub fn remove(root: &Path, id: &str, force: Force, environment: &HookEnvironment) -> Result<Vec<Error>> {
        let dir = match open(root, id, force) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => return Ok(Vec::new()),
            dir => dir?,
        };
        let (dir, saved) = load(dir, force)?;
        if let Some(saved) = saved {
            return Held { dir, saved }.delete(force, environment);
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
        Some(saved) => Ok((dir, Some(saved))),
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

    fn delete(self, force: Force, environment: &HookEnvironment) -> Result<Vec<Error>> {
        let status = self.status();
        if force == Force::No && matches!(status, Status::Running | Status::Paused) {
            let text = format!("cannot delete container {} that is not stopped: {status}", self.saved.id);
            return Err(Error::new(Kind::State, text));
        }
        let Held { dir, saved } = &self;
        let spec = saved.hooks.then(|| self.config()).transpose();
        match saved.init {
            Some(_) => {
                end_init(saved)?;
                // Mostly init was the last: then the cgroup goes at once, and nobody need be looked for.
                if !saved.journal.undo_if_unused() {
                    saved.cgroup.kill(deadline())?;
                }
            }
            None => wait_for_orphan(dir, saved)?,
        }
        let mut warnings = Vec::new();
        match spec {
            Ok(spec) => {
                let list = spec.as_ref().and_then(|spec| spec.hooks().as_ref());
                warnings.extend(hooks::poststop(list, saved, environment));
            }
            Err(error) => warnings.push(error.during("the poststop hooks are not run")),
        }
        saved.journal.undo(Ours { init: saved.init.map(|init| init.pid), deadline: deadline() })?;
        self.dir.remove()?;
        Ok(warnings)
    }
}

/// An init whose create was killed before it wrote down who that is ends by itself, as soon as it reports. It has the fifo
/// open as long as it lives; without one, it is seen in its cgroup.
fn wait_for_orphan(dir: &StateDir, saved: &Saved) -> Result<()> {
    let Ok(fifo) = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(dir.fifo()) else {
        // Who is there longer than an init that nobody hears is somebody else, and stays.
        let _ = saved.cgroup.wait_empty(deadline());
        return Ok(());
    };
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX)) {
        Ok(0) => Err(Error::host("wait for the end of an init without a runtime", Errno::ETIMEDOUT)),
        _ => Ok(()),
    }
}

/// Kills init and whatever is left in the cgroup, and waits until they are gone.
fn end(saved: &Saved) -> Result<()> {
    end_init(saved)?;
    saved.cgroup.kill(deadline())
}

/// Kills init and waits until it is gone.
fn end_init(saved: &Saved) -> Result<()> {
    let Some((pid, pidfd)) = saved.init_fd()? else { return Ok(()) };
    match sys::pidfd_send_signal(&pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Error::host(format!("pidfd_send_signal 9 to {pid}"), errno)),
    }
    let_go(saved);
    match ended(&pidfd, deadline())? {
        true => Ok(()),
        false => Err(Error::host(format!("wait for the end of init, {pid}, after SIGKILL"), Errno::ETIMEDOUT)),
    }
}

/// A process that the version 1 freezer holds dies no sooner than it is let go.
fn let_go(saved: &Saved) {
    if saved.cgroup.v1("freezer").is_some() {
        let _ = saved.cgroup.thaw();
    }
}
