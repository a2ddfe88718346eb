//! The listener of a seccomp filter, between the filter's load in init and the hand-over to whoever decides for the workload.
//!
//! In between the runtime itself answers: what init calls then is part of the launch, and no question to anybody. So a
//! profile may have SCMP_ACT_NOTIFY for nearly any call, and whoever listens cannot hold a launch up or make it go wrong.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::hearing::{Said, receive, receive_or_end};
use crate::plan::seccomp::Filter;
use crate::{socket, sys};

/// The place in config.json.
const PLACE: &str = "linux.seccomp.listenerPath";

/// Connects to whoever listens to the filter, if it has a listener; that nobody does is an error before anything is made.
///
/// # Errors
/// connect(2) fails, or the queue of the socket stays full.
pub(crate) fn connect_to(filter: Option<&Filter>) -> Result<Option<OwnedFd>> {
    let Some(listener) = filter.and_then(|filter| filter.listener.as_ref()) else { return Ok(None) };
    let failed = |errno| {
        let text = format!("failed to connect with seccomp agent: connect to {}", listener.path.display());
        Error::host(text, errno).at(PLACE)
    };
    socket::connect(&listener.path).map(Some).map_err(failed)
}

/// A copy of init's descriptor.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Takes the descriptor `number` of the process.
    pub(super) fn of(pidfd: &OwnedFd, number: i32) -> Result<Self> {
        let copy = sys::pidfd_getfd(pidfd, number);
        copy.map(Listener).map_err(|errno| Error::host("pidfd_getfd of the seccomp listener", errno))
    }

    /// Waits for what comes over the socket, or for the end of the process of `pidfd`, and lets every call pass meanwhile.
    pub(super) fn receive(&self, from: &OwnedFd, pidfd: &OwnedFd) -> Result<Said> {
        loop {
            let mut fds = [from, &self.0].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll the seccomp listener", errno)),
                Ok(_) => {}
            }
            let [said, calls] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            // What is said was said before the call: after the last word the calls are not for this loop any more.
            if !said.is_empty() {
                return receive(from);
            } else if calls.contains(PollFlags::POLLIN) {
                self.let_pass()?;
            } else {
                // Nobody is left under the filter: what remains is to hear that init is gone.
                return receive_or_end(from, pidfd);
            }
        }
    }

    /// Waits for one call and lets it pass; or until nobody is left who could call.
    pub(super) fn let_one_pass(&self) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll the seccomp listener", errno)),
                Ok(_) if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)) => {
                    return self.let_pass();
                }
                Ok(_) => return Ok(()),
            }
        }
    }

    fn let_pass(&self) -> Result<()> {
        sys::seccomp::let_pass(&self.0).map_err(|errno| Error::host("answer a call of init", errno))
    }

    /// Sends the listener with the state of the process, and closes both it and the connection (config-linux.md, "The
    /// Container Process State": one state for a connection).
    pub(super) fn hand_over(self, to: OwnedFd, state: &[u8]) -> Result<()> {
        socket::send(&to, state, &[self.0.as_fd()])
            .map_err(|errno| Error::host("hand over the seccomp listener", errno).at(PLACE))
    }
}
