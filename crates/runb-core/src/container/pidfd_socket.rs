//! `--pidfd-socket`: whoever listens there is given a pidfd of the process.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::error::{Error, Result};

/// A connection to the listener.
pub(super) struct PidfdSocket(UnixStream);

impl PidfdSocket {
    /// Connects, before anything is made.
    ///
    /// # Errors
    /// Nobody listens.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io(format!("--pidfd-socket: connect to {}", path.display()), &e);
        UnixStream::connect(path).map(PidfdSocket).map_err(failed)
    }

    /// Sends it: one message with the descriptor as SCM_RIGHTS.
    ///
    /// # Errors
    /// The listener has gone.
    pub(super) fn send(&self, pidfd: &OwnedFd) -> Result<()> {
        let descriptors = [pidfd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let name = [IoSlice::new(b"pidfd")];
        sendmsg::<()>(self.0.as_raw_fd(), &name, &rights, MsgFlags::MSG_NOSIGNAL, None)
            .map(drop)
            .map_err(|errno| Error::host("--pidfd-socket: sendmsg", errno))
    }
}
