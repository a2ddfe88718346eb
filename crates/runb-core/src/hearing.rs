//! What a spawned program says over its socket, as the runtime hears it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use runb_init::{REPORT_SIZE, Report, ReportKind};

use crate::error::{Error, Result};
use crate::socket::PATIENCE;
use crate::sys::{self, Message};

/// What came over the socket.
#[derive(Debug)]
pub(crate) enum Said {
    /// Init has come to a point.
    Reached(Report),
    /// A call failed.
    Failed(Report),
    /// A sibling goes on. Who said so is the kernel's word: the number may come from a process in the container that has
    /// got hold of the socket.
    Twin {
        /// The sibling.
        pid: i32,
        /// Who said so.
        maker: i32,
    },
    /// The master of a terminal that was opened.
    Terminal(OwnedFd),
    /// The other end is closed: init has executed, or ended.
    Gone,
}

/// A socket for reports: the runtime's end, which learns who sends, and the other.
///
/// # Errors
/// There are no more descriptors.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
    let (ours, theirs) = pair.map_err(|errno| Error::host("socketpair", errno))?;
    setsockopt(&ours, sockopt::PassCred, &true).map_err(|errno| Error::host("setsockopt SO_PASSCRED", errno))?;
    Ok((ours, theirs))
}

/// Waits for the next message, or for the end of the process of `pidfd`, whoever may still have the other end of its socket.
pub(crate) fn receive_or_end(socket: &OwnedFd, pidfd: &OwnedFd) -> Result<Said> {
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::host("poll", errno)),
            Ok(_) => {}
        }
        return if fds[0].any() == Some(true) { receive(socket) } else { Ok(Said::Gone) };
    }
}

/// Waits for the next message.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Said> {
    let mut bytes = [0u8; REPORT_SIZE];
    let Message { length, descriptor, sender } = loop {
        match sys::receive(socket, &mut bytes) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => return Ok(Said::Gone),
            Err(errno) => return Err(Error::host("recvmsg from init", errno)),
            Ok(message) => break message,
        }
    };
    if length == 0 {
        return Ok(Said::Gone);
    }
    let report = Report::from_bytes(bytes);
    if let Some(master) = descriptor.filter(|_| report.kind == ReportKind::Terminal as u8) {
        return Ok(Said::Terminal(master));
    }
    match report.kind {
        kind if length == REPORT_SIZE && kind == ReportKind::Reached as u8 => Ok(Said::Reached(report)),
        kind if length == REPORT_SIZE && kind == ReportKind::Failed as u8 => Ok(Said::Failed(report)),
        kind if length == REPORT_SIZE && kind == ReportKind::Twin as u8 => {
            Ok(Said::Twin { pid: report.value as i32, maker: sender })
        }
        kind => Err(Error::internal(format!("init sent {length} bytes of kind {kind}"))),
    }
}

/// When to give up waiting for the kernel to take a killed process away.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits for the end of a process; false, if the time has come before.
///
/// # Errors
/// poll(2) fails.
pub(crate) fn ended(pidfd: impl AsFd, deadline: Instant) -> Result<bool> {
    loop {
        // Rounded up to milliseconds, so that what is left never becomes a busy loop of zeroes.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if Instant::now() < deadline => continue,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::host("poll a pidfd", errno)),
            Ok(ready) => return Ok(ready > 0),
        }
    }
}

/// Waits for a child that has ended or is about to.
///
/// Where the embedding program ignores SIGCHLD the kernel reaps every child itself, and its status is lost. A clone without an
/// exit signal does not help: the first execve sets it to SIGCHLD (begin_new_exec in fs/exec.c). So does another part of
/// the program that waits for whatever child. What needs no status goes on; what does says why there is none.
///
/// # Errors
/// The status is lost.
pub(crate) fn reap(pid: i32) -> Result<WaitStatus> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => {
                let text = format!(
                    "the exit status of the child {pid} is lost: this program ignores SIGCHLD, or another part of it has reaped it"
                );
                return Err(Error::host(text, Errno::ECHILD));
            }
            result => return result.map_err(|errno| Error::host(format!("waitpid {pid}"), errno)),
        }
    }
}
