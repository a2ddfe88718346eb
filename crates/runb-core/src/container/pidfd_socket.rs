//! A socket where somebody listens who is given a pidfd of the process.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::socket;

/// A connection to the listener.
pub(super) struct PidfdSocket(OwnedFd);

impl PidfdSocket {
    /// Connects, before anything is made.
    ///
    /// # Errors
    /// Nobody listens, or takes the connection.
    pub(super) fn connect(path: &Path) -> Result<Self> {
        let failed = |errno| Error::host(format!("connect to {}", path.display()), errno).at("options.pidfd_socket");
        socket::connect(path).map(PidfdSocket).map_err(failed)
    }

    /// Sends it: one message with the descriptor as SCM_RIGHTS.
    ///
    /// # Errors
    /// The listener has gone, or does not read.
    pub(super) fn send(&self, pidfd: &OwnedFd) -> Result<()> {
        let failed = |errno| Error::host("sendmsg", errno).at("options.pidfd_socket");
        socket::send(&self.0, b"pidfd", &[pidfd.as_fd()]).map_err(failed)
    }
}
