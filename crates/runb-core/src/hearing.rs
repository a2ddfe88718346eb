//! What a spawned program says over its socket, as the runtime hears it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use runb_init::{REPORT_SIZE, Report, ReportKind};

use crate::error::{Error, Result};

/// What came over the socket.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said {
    /// Init has come to a point.
    Reached(Report),
    /// A call failed.
    Failed(Report),
    /// A sibling goes on.
    Twin(i32),
    /// The other end is closed: init has executed, or ended.
    Gone,
}

/// Waits for the next message.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Said> {
    let mut bytes = [0u8; REPORT_SIZE];
    let length = loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => break 0,
            Err(errno) => return Err(Error::host("recv from init", errno)),
            Ok(length) => break length,
        }
    };
    if length == 0 {
        return Ok(Said::Gone);
    }
    let report = Report::from_bytes(bytes);
    match report.kind {
        kind if length == REPORT_SIZE && kind == ReportKind::Reached as u8 => Ok(Said::Reached(report)),
        kind if length == REPORT_SIZE && kind == ReportKind::Failed as u8 => Ok(Said::Failed(report)),
        kind if length == REPORT_SIZE && kind == ReportKind::Twin as u8 => Ok(Said::Twin(report.value as i32)),
        kind => Err(Error::internal(format!("init sent {length} bytes of kind {kind}"))),
    }
}

/// Waits for a child that has ended or is about to.
pub(crate) fn reap(pid: i32) -> Result<WaitStatus> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Err(Errno::EINTR) => continue,
            result => return result.map_err(|errno| Error::host(format!("waitpid {pid}"), errno)),
        }
    }
}
