//! A process that this one makes to run a program: init, the process of an exec, a hook.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use runb_init::REPORT_SIZE;

use crate::error::{Error, Result};
use crate::hearing::{deadline, ended, pair, reap};
use crate::plan::program::Program;
use crate::sys;
use crate::sys::spawn::{self, Spawn};

/// A process that lives. Dropped without [`Child::release`] it is killed, so that no error of this one leaves it behind.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    /// Until it is released or killed.
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) socket: OwnedFd,
}

/// Where a process is born, and with what.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// `CLONE_NEW*` flags of the clone itself.
    pub(crate) namespaces: u64,
    /// The version 2 cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// One more descriptor, after the socket's.
    pub(crate) more: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on it keeps.
    pub(crate) preserve: u32,
    /// Its descriptors 0, 1 and 2, if they are not this process's.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
}

impl Child {
    /// Makes a process that runs `program`. `who` says what it is, for errors.
    ///
    /// # Errors
    /// A call that makes it, with the errno.
    pub(crate) fn spawn(program: &Program, place: Place<'_>, who: &str) -> Result<Self> {
        let (ours, theirs) = pair()?;
        let failed = |(call, errno): (&str, Errno)| Error::host(format!("{call} (spawning {who})"), errno);
        let executable = spawn::executable(&program.image()).map_err(failed)?;
        let (executable, socket) = (executable.as_fd(), theirs.as_fd());
        let Place { namespaces, cgroup, more, preserve, stdio } = place;
        let spawned = spawn::spawn(&Spawn { namespaces, cgroup, executable, socket, more, preserve, stdio });
        let spawned = spawned.map_err(|(call, errno)| match errno {
            // cgroup-v2.rst, "Threads".
            Errno::EOPNOTSUPP if cgroup.is_some() => failed((call, errno)).with_hint(
                "its cgroup takes none, see cgroup.type there: a cgroup above has processes in it, and gives on controllers for \
                 threads",
            ),
            Errno::EACCES if cgroup.is_some() && call == "clone3" => failed((call, errno)).with_hint(
                "a process is put into a cgroup by who may write to cgroup.procs of the one that is above it and the caller's",
            ),
            _ => failed((call, errno)),
        })?;
        Ok(Child { pid: spawned.pid, pidfd: Some(spawned.pidfd), socket: ours })
    }

    /// Lets it go on from a stop.
    ///
    /// # Errors
    /// send(2) fails.
    pub(crate) fn resume(&self) -> Result<()> {
        self.tell(0)
    }

    /// Sends a number, for which it waits.
    fn tell(&self, number: u64) -> Result<()> {
        let mut resume = [0u8; REPORT_SIZE];
        resume[..8].copy_from_slice(&number.to_ne_bytes());
        // A closed socket is noticed by the next receive, which knows what to say of it.
        match send(self.socket.as_raw_fd(), &resume, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(Error::host("send to init", errno)),
        }
    }

    /// Gives it the whole program, of which it runs the first calls, in the file that it has got for it.
    ///
    /// # Errors
    /// write(2), fcntl(2) or send(2) fails.
    pub(crate) fn go_on(&self, program: &Program, file: OwnedFd) -> Result<()> {
        let image = program.image();
        spawn::fill(file, &image)
            .map_err(|(call, errno)| Error::host(format!("{call} (the program of init)"), errno))?;
        self.tell(image.len() as u64)
    }

    /// Sends it descriptors, for which it waits.
    ///
    /// # Errors
    /// sendmsg(2) fails.
    pub(crate) fn send(&self, descriptors: &[OwnedFd]) -> Result<()> {
        let bytes = [0u8; REPORT_SIZE];
        let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        match sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) | Err(Errno::EPIPE) => Ok(()),
            Err(errno) => Err(Error::host("sendmsg to init", errno)),
        }
    }

    /// Its twin goes on, and it has ended.
    ///
    /// # Errors
    /// pidfd_open(2) fails; the twin does not live any more then.
    pub(crate) fn becomes(&mut self, twin: i32) -> Result<()> {
        let pidfd = sys::pidfd_open(twin).map_err(|errno| {
            // A child that nobody has waited for keeps its number.
            let _ = kill(Pid::from_raw(twin), Signal::SIGKILL);
            let _ = reap(twin);
            Error::host("pidfd_open", errno)
        })?;
        // How the maker ends tells nothing.
        let _ = reap(self.pid);
        (self.pid, self.pidfd) = (twin, Some(pidfd));
        Ok(())
    }

    /// A descriptor of it, while it is neither released nor killed.
    pub(crate) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.as_ref()
    }

    /// Lets it live on without this process.
    pub(crate) fn release(mut self) -> (i32, OwnedFd) {
        (self.pid, self.pidfd.take().expect("a process that was neither released nor killed"))
    }

    /// Waits for one that has ended, or is about to.
    ///
    /// # Errors
    /// It is not this process's to wait for.
    pub(crate) fn reap(mut self) -> Result<WaitStatus> {
        self.pidfd = None;
        reap(self.pid)
    }

    /// Kills it and waits for its end; how it ended, if that can be told and it was not killed before.
    ///
    /// # Errors
    /// It does not end: a process in an uninterruptible sleep, or frozen on version 1, dies only when that is over.
    pub(crate) fn kill(&mut self) -> Result<Option<WaitStatus>> {
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
    pub(crate) fn end(&mut self, error: Error) -> Error {
        match self.kill() {
            Ok(_) => error,
            Err(more) => error.and_cleanup(more),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::waitpid;
    use runb_init::Point;

    use super::*;

    #[test]
    fn a_child_that_is_dropped_is_gone() {
        let mut program = Program::new(3);
        program.stop(Point::Ready);
        let child = Child::spawn(&program, Place::default(), "a child").expect("a child");
        let pid = child.pid;
        drop(child);
        assert_eq!(waitpid(Pid::from_raw(pid), None), Err(Errno::ECHILD));
    }
}
