//! Waiting for a workload in the foreground: signals are passed on, and its exit status is returned.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::console::Console;
use crate::error::{Error, Result};
use crate::notify::{MainProcess, Readiness};
use crate::sys;
use crate::terminal::Master;

/// Whether orphans of the container come to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subreaper {
    /// They do, and are reaped.
    Yes,
    /// They go to whoever else is one.
    No,
}

/// A process that is this one's child and runs in a container.
#[derive(Debug)]
pub struct Workload {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) terminal: Option<Master>,
    /// Whoever awaits its readiness.
    pub(super) readiness: Option<Readiness>,
}

impl Workload {
    /// One that was made otherwise than by a plan.
    pub(super) fn of(pid: i32, pidfd: OwnedFd, terminal: Option<Master>, readiness: Option<Readiness>) -> Self {
        Workload { pid, pidfd, terminal, readiness }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The master of its terminal, if it has one that nobody else got.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(Master::as_fd)
    }

    /// A descriptor of it, readable when it has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }
}

/// The signals of this thread, held for a workload. Made before the workload is, so that none is lost.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
    before: SigSet,
    subreaper: Subreaper,
}

impl Foreground {
    /// Blocks the signals of this thread.
    ///
    /// # Errors
    /// A call fails.
    pub fn begin(subreaper: Subreaper) -> Result<Self> {
        if subreaper == Subreaper::Yes {
            set_child_subreaper(true).map_err(|errno| Error::host("prctl PR_SET_CHILD_SUBREAPER", errno))?;
        }
        let mut set = SigSet::all();
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT] {
            set.remove(fault);
        }
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))
            .map_err(|errno| Error::host("sigprocmask", errno))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(|errno| Error::host("signalfd", errno))?;
        Ok(Foreground { signals, before, subreaper })
    }

    /// Waits for the workload; its exit status, or 128 and the signal that ended it.
    ///
    /// # Errors
    /// A call fails; or there is no status, as the program ignores SIGCHLD, or has reaped the workload by itself.
    pub fn wait(&self, workload: &Workload) -> Result<i32> {
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        let console = |master| Console::new(master, stdin.as_fd(), stdout.as_fd());
        let mut console = workload.terminal.as_ref().map(console).transpose()?;
        while !self.wait_once(workload, console.as_mut())? {}
        report(workload)?;
        if let Some(console) = console {
            console.finish(self.signals.as_fd(), || self.is_interrupted())?;
        }
        self.status(workload.pid())
    }

    /// Waits until anything happens, and acts on it; true when the workload has ended.
    fn wait_once(&self, workload: &Workload, mut console: Option<&mut Console<'_>>) -> Result<bool> {
        let mut fds = vec![
            PollFd::new(workload.pidfd().as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            workload.readiness.as_ref().and_then(Readiness::waits_for).map(|fd| PollFd::new(fd, PollFlags::POLLIN)),
        );
        let wanted = console.as_deref().map_or_else(Default::default, Console::waits_for);
        let places = wanted.map(|wanted| {
            let place = wanted.is_some().then_some(fds.len());
            fds.extend(wanted);
            place
        });
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(Error::host("poll", errno)),
        }
        let ready = places.map(|place| place.and_then(|place| fds[place].revents()).unwrap_or(PollFlags::empty()));
        let ended = fds[0].any() == Some(true);
        drop(fds);
        self.pass_on(workload, console.as_deref())?;
        report(workload)?;
        if let Some(console) = &mut console {
            console.copy(ready);
        }
        Ok(ended)
    }

    /// Whether a signal has come that asks this process to end.
    fn is_interrupted(&self) -> bool {
        let ends = |signal: i32| [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(&signal);
        let next = || self.signals.read_signal().ok().flatten();
        std::iter::from_fn(next).any(|info| ends(info.ssi_signo as i32))
    }

    fn pass_on(&self, workload: &Workload, console: Option<&Console<'_>>) -> Result<()> {
        while let Some(info) = self.signals.read_signal().map_err(|errno| Error::host("read signalfd", errno))? {
            match info.ssi_signo as i32 {
                // A pipe that this process wrote to, and the scheduler's own: not meant for the workload.
                libc::SIGPIPE | libc::SIGURG => {}
                // The kernel tells the container's own foreground.
                libc::SIGWINCH if console.is_some() => console.into_iter().for_each(Console::resize),
                libc::SIGCHLD => self.reap_orphans(workload.pid())?,
                signal => match sys::pidfd_send_signal(workload.pidfd(), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(Error::host(format!("pidfd_send_signal {signal}"), errno)),
                },
            }
        }
        Ok(())
    }

    fn status(&self, pid: i32) -> Result<i32> {
        let status = crate::hearing::reap(pid)?;
        self.reap_orphans(pid)?;
        match status {
            WaitStatus::Exited(_, code) => Ok(code),
            WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
            other => Err(Error::internal(format!("the workload ended as {other:?}"))),
        }
    }

    /// Reaps what has ended, the workload aside; nothing but a subreaper's orphans: another child is somebody else's.
    fn reap_orphans(&self, workload: i32) -> Result<()> {
        use nix::sys::wait::{Id, waitid};
        if self.subreaper == Subreaper::No {
            return Ok(());
        }
        loop {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, peek) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Ok(_) | Err(Errno::ECHILD) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("waitid", errno)),
            };
            if pid.as_raw() == workload {
                return Ok(());
            }
            let _ = waitpid(Pid::from_raw(pid.as_raw()), Some(WaitPidFlag::WNOHANG));
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Passes on that the workload is ready, if it has said so.
fn report(workload: &Workload) -> Result<()> {
    workload.readiness.as_ref().map_or(Ok(()), |readiness| readiness.pass_on(MainProcess::Runtime))
}
