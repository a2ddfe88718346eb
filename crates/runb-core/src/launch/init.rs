//! The process that runs a program: its birth, and its end if it comes to nothing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, send};
use nix::sys::wait::WaitStatus;
use runb_init::REPORT_SIZE;

use super::deadline;
use crate::error::{Error, Result};
use crate::hearing::{ended, pair, reap};
use crate::plan::program::Program;
use crate::sys;
use crate::sys::spawn::{self, Spawn};

/// An init that lives and has not yet executed. Dropped without [`Init::release`] it is killed.
#[derive(Debug)]
pub(super) struct Init {
    pub(super) pid: i32,
    /// Until it is released or killed.
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) socket: OwnedFd,
}

impl Init {
    pub(super) fn resume(&self) -> Result<()> {
        let resume = [0u8; REPORT_SIZE];
        // A closed socket is noticed by the next receive, which knows what to say of it.
        match send(self.socket.as_raw_fd(), &resume, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(Error::host("send to init", errno)),
        }
    }

    /// Lets it live on without this runtime.
    pub(super) fn release(mut self) -> (i32, OwnedFd) {
        (self.pid, self.pidfd.take().expect("an init that was neither released nor killed"))
    }

    /// Kills it and waits for its end; how it ended, if that can be told and it was not killed before.
    ///
    /// # Errors
    /// It does not end: a process in an uninterruptible sleep, or frozen on version 1, dies only when that is over.
    pub(super) fn kill(&mut self) -> Result<Option<WaitStatus>> {
        let Some(pidfd) = self.pidfd.take() else { return Ok(None) };
        match sys::pidfd_send_signal(&pidfd, libc::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(Error::host(format!("pidfd_send_signal 9 to {}", self.pid), errno)),
        }
        match ended(&pidfd, deadline())? {
            true => Ok(reap(self.pid).ok()),
            false => Err(Error::host(
                format!("wait for the end of the process {} after SIGKILL", self.pid),
                Errno::ETIMEDOUT,
            )),
        }
    }

    /// Kills it after `error`, which is what counts.
    pub(super) fn end(&mut self, error: Error) -> Error {
        match self.kill() {
            Ok(_) => error,
            Err(more) => error.and_cleanup(more),
        }
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Where a process is born, and with what.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    /// `CLONE_NEW*` flags of the clone itself.
    pub(super) namespaces: u64,
    /// The version 2 cgroup.
    pub(super) cgroup: Option<BorrowedFd<'a>>,
    /// One more descriptor, after the socket's.
    pub(super) more: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on it keeps.
    pub(super) preserve: u32,
}

/// Spawns a process that runs `program`.
pub(super) fn spawn_program(program: &Program, place: Place<'_>) -> Result<Init> {
    let (ours, theirs) = pair()?;
    let failed = |(call, errno): (&str, Errno)| Error::host(format!("{call} (spawning init)"), errno);
    let executable = spawn::executable(&program.image()).map_err(failed)?;
    let (executable, socket) = (executable.as_fd(), theirs.as_fd());
    let Place { namespaces, cgroup, more, preserve } = place;
    let spawned =
        spawn::spawn(&Spawn { namespaces, cgroup, executable, socket, more, preserve, stdio: None }).map_err(failed)?;
    Ok(Init { pid: spawned.pid, pidfd: Some(spawned.pidfd), socket: ours })
}
