//! Who of a container lives at its end, and how they are ended: its init, what has outlived that, and an init of which nobody
//! wrote down who it is.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::Own;
use crate::error::{Error, Result};
use crate::hearing::{deadline, ended};
use crate::socket::PATIENCE;
use crate::state::{Saved, StateDir};
use crate::sys;

/// How long an exec may take to notice that init is gone.
const EXEC: Duration = Duration::from_secs(1);

/// A living init.
pub(super) type Init = (i32, OwnedFd);

/// Ends everybody of the container in `dir`, and `init` first. Tells whether its cgroups are still its own: once init is gone, another container
/// may have found them empty and taken them over.
pub(super) fn end(dir: &StateDir, saved: &Saved, init: Option<Init>) -> Result<Own> {
    if saved.init.is_none() {
        end_orphan(dir, saved)?;
        return Ok(Own::Unused);
    }
    let lived = end_init(saved, init)?;
    // Mostly init was the last: then the cgroup goes at once, and nobody need be looked for.
    if saved.journal.undo_if_unused() {
        return Ok(Own::Used);
    }
    if saved.own_cgroup().is_none() {
        return Ok(Own::Unused);
    }
    // Nobody takes over a cgroup that somebody is in.
    if lived == Lived::Yes || outlives_init(saved) {
        saved.cgroup.kill(deadline())?;
        return Ok(Own::Used);
    }
    match saved.cgroup.wait_empty(Instant::now() + EXEC) {
        Ok(()) => Ok(Own::Used),
        Err(_) => Ok(Own::Unused),
    }
}

/// Whether init lived until it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lived {
    /// It did.
    Yes,
    /// It was gone before.
    No,
}

/// Whether processes of the container can outlive its init: it is not the first one of a pid namespace.
pub(super) fn outlives_init(saved: &Saved) -> bool {
    saved.made & libc::CLONE_NEWPID as u64 == 0
}

/// A process that the version 1 freezer holds dies no sooner than it is let go; one that CRIU traces, or whose children it does,
/// not before CRIU has ended, which a checkpoint or a restore that was killed has left at work.
pub(super) fn let_go(saved: &Saved) {
    if let Some(criu) = saved.criu
        && let Ok(Some(pidfd)) = criu.open()
    {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
    }
    if saved.cgroup.v1("freezer").is_some() {
        let _ = saved.cgroup.thaw();
    }
}

/// Kills `init` and waits until it is gone.
pub(super) fn end_init(saved: &Saved, init: Option<Init>) -> Result<Lived> {
    let Some((pid, pidfd)) = init else { return Ok(Lived::No) };
    match sys::pidfd_send_signal(&pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => return Err(Error::host(format!("pidfd_send_signal 9 to {pid}"), errno)),
    }
    let_go(saved);
    match ended(&pidfd, deadline())? {
        true => Ok(Lived::Yes),
        false => {
            let error = Error::host(format!("wait for the end of init, {pid}, after SIGKILL"), Errno::ETIMEDOUT);
            Err(tracer(pid).into_iter().fold(error, Error::with_hint))
        }
    }
}

/// Who traces a process: it ends when they let it.
fn tracer(pid: i32) -> Option<String> {
    let tracer = procfs::process::Process::new(pid).and_then(|process| process.status()).ok()?.tracerpid;
    let name = fs::read_to_string(format!("/proc/{tracer}/comm")).ok().filter(|_| tracer != 0)?;
    Some(format!("it is traced by {}, process {tracer}", name.trim_end()))
}

/// An init whose create was killed before it wrote down who that is ends by itself, as soon as it reports; one that has
/// reported already waits for a start. It has the fifo open as long as it lives; without one, it is seen in its cgroup.
fn end_orphan(dir: &StateDir, saved: &Saved) -> Result<()> {
    let Ok(fifo) = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(dir.fifo()) else {
        // Who is there longer than an init that nobody hears is somebody else, and stays.
        let _ = saved.cgroup.wait_empty(deadline());
        return Ok(());
    };
    // It joins its cgroups before it opens the fifo. So it is in them, and they are the container's.
    saved.cgroup.kill(deadline())?;
    let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
    match poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX)) {
        Ok(0) => Err(Error::host("wait for the end of an init without a runtime", Errno::ETIMEDOUT)),
        _ => Ok(()),
    }
}
