//! What happens to a container, as it happens: what `events` waits for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Container;
use crate::cgroup::OomWatch;
use crate::error::{Error, Kind, Result};

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// The out-of-memory killer was at work.
    OutOfMemory,
    /// The container has stopped: nothing more will happen.
    Ended,
}

/// Waits for what happens to a container.
#[derive(Debug)]
pub struct Watch {
    init: OwnedFd,
    memory: Option<OomWatch>,
    /// Events that were heard and not told yet.
    untold: u64,
}

impl Container {
    /// Watches the container from now on.
    ///
    /// # Errors
    /// It has stopped (kind state); a call.
    pub fn watch(&self) -> Result<Watch> {
        let Some((_, init)) = self.saved.init_fd()? else {
            return Err(Error::new(Kind::State, format!("container with id {} is not running", self.saved.id)));
        };
        Ok(Watch { init, memory: self.saved.cgroup.watch_oom()?, untold: 0 })
    }
}

impl Watch {
    /// Whether the out-of-memory killer is heard of: that needs the memory controller.
    pub fn hears_of_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// The next that happens; none if that is not before `until`.
    ///
    /// # Errors
    /// A call.
    pub fn next(&mut self, until: Instant) -> Result<Option<Happening>> {
        loop {
            if self.untold > 0 {
                self.untold -= 1;
                return Ok(Some(Happening::OutOfMemory));
            }
            // Rounded up to milliseconds, so that what is left never becomes a busy loop of zeroes.
            let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            let mut fds = vec![PollFd::new(self.init.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.memory.as_ref().map(OomWatch::poll).map(|(fd, events)| PollFd::new(fd, events)));
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll", errno)),
                Ok(0) if Instant::now() < until => continue,
                Ok(0) => return Ok(None),
                Ok(_) => {}
            }
            let ended = fds[0].any() == Some(true);
            match self.memory.as_mut().map(OomWatch::take).transpose()?.flatten() {
                Some(count) => self.untold = count,
                None => self.memory = None,
            }
            if ended && self.untold == 0 {
                return Ok(Some(Happening::Ended));
            }
        }
    }
}
