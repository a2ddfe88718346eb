//! A procfs for a pid namespace that init is not in yet, begun by a process that is: see [`crate::plan::begin`].

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use crate::child::{Child, Place};
use crate::error::{Error, Kind, Result};
use crate::hearing::{Said, receive_or_end};
use crate::plan;
use crate::sys;

/// A filesystem context of procfs for the pid namespace `namespace`.
pub(super) fn begin(namespace: &OwnedFd) -> Result<OwnedFd> {
    let program = plan::begin::procfs();
    let place = Place { more: Some(namespace.as_fd()), ..Place::default() };
    let mut child = Child::spawn(&program, place, "a process in the pid namespace")?;
    let maker = child.pid;
    // What the twin says may arrive before what its maker says of it.
    let mut context = None;
    loop {
        let Some(pidfd) = child.pidfd() else { return Err(Error::internal("a process that was killed")) };
        let said = if child.pid == maker {
            crate::hearing::receive(&child.socket)?
        } else {
            receive_or_end(&child.socket, pidfd)?
        };
        match said {
            Said::Twin { pid, maker } if maker == child.pid => child.becomes(pid)?,
            Said::Reached(report) => context = Some(report.value as i32),
            Said::Failed(report) => {
                let what = program.what(report.call.into());
                return Err(Error::new(Kind::Init, what).with_errno(Errno::from_raw(report.errno)));
            }
            other => return Err(Error::internal(format!("who begins a procfs said {other:?}"))),
        }
        if let Some((number, pidfd)) = context.zip(child.pidfd()).filter(|_| child.pid != maker) {
            return sys::pidfd_getfd(pidfd, number).map_err(|errno| Error::host("pidfd_getfd of a procfs", errno));
        }
    }
}
