//! What a spawned program says over its socket, as the runtime hears it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use runb_init::{REPORT_SIZE, Report, ReportKind};

use crate::error::{Error, Result};
use crate::sys;

/// What came over the socket.
#[derive(Debug)]
pub(crate) enum Said {
    /// Init has come to a point.
    Reached(Report),
    /// A call failed.
    Failed(Report),
    /// A sibling goes on.
    Twin(i32),
    /// The master of a terminal that was opened.
    Terminal(OwnedFd),
    /// The other end is closed: init has executed, or ended.
    Gone,
}

/// Waits for the next message.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Said> {
    let mut bytes = [0u8; REPORT_SIZE];
    let (length, descriptor) = loop {
        match sys::receive(socket, &mut bytes) {
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => break (0, None),
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
