//! Hearing of the out-of-memory killer: version 1 by an eventfd, version 2 by the changes of memory.events.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::pread;

use super::Cgroup;
use super::files::{open_dir, open_file, value_of, write_file};
use crate::error::{Error, Result};

/// A descriptor that becomes ready when the memory of a cgroup is used up.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Counts the events of version 1. The kernel lets go of memory.oom_control itself.
    Eventfd { event: EventFd, directory: PathBuf },
    /// memory.events of version 2, with the kills that are known.
    Events { file: OwnedFd, kills: u64 },
}

impl Cgroup {
    /// Hears of what happens from now on; none if the cgroup has no memory controller.
    ///
    /// Errors: a call.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let failed = |path: &Path| {
            let text = format!("watch the memory of {}", path.display());
            move |errno| Error::host(text, errno)
        };
        let source = match (self.v1("memory"), self.unified.as_deref().filter(|_| self.v1.is_empty())) {
            (Some(path), _) => Some(watch_v1(path.to_owned()).map_err(failed(path))?),
            (None, Some(path)) => watch_v2(path).map_err(failed(path))?,
            (None, None) => None,
        };
        Ok(source.map(|source| OomWatch { source }))
    }
}

fn watch_v1(directory: PathBuf) -> std::result::Result<Source, Errno> {
    let folder = open_dir(&directory)?;
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = open_file(&folder, "memory.oom_control")?;
    let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
    write_file(&folder, "cgroup.event_control", &line)?;
    Ok(Source::Eventfd { event, directory })
}

fn watch_v2(path: &Path) -> std::result::Result<Option<Source>, Errno> {
    let file = match open_file(open_dir(path)?, "memory.events") {
        Err(Errno::ENOENT) => return Ok(None),
        file => file?,
    };
    // Once it was read, a change is an event.
    let kills = kills(&file)?;
    Ok(Some(Source::Events { file, kills }))
}

fn kills(file: &OwnedFd) -> std::result::Result<u64, Errno> {
    let mut buffer = [0; 512];
    let length = pread(file, &mut buffer, 0)?;
    Ok(value_of(&String::from_utf8_lossy(&buffer[..length]), "oom_kill").unwrap_or(0))
}

impl OomWatch {
    /// What to poll, and for which events.
    pub fn poll(&self) -> (BorrowedFd<'_>, PollFlags) {
        match &self.source {
            Source::Eventfd { event, .. } => (event.as_fd(), PollFlags::POLLIN),
            Source::Events { file, .. } => (file.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// How often it has happened since this was asked last; none once the cgroup is gone.
    ///
    /// Errors: a call.
    pub fn take(&mut self) -> Result<Option<u64>> {
        let result = match &mut self.source {
            Source::Eventfd { event, directory } => match event.read() {
                Err(Errno::EAGAIN) => Ok(Some(0)),
                // The end of the cgroup is told in the same way.
                Ok(_) if !directory.exists() => Ok(None),
                count => count.map(Some),
            },
            Source::Events { file, kills: known } => match kills(file) {
                Err(Errno::ENODEV) => Ok(None),
                now => now.map(|now| Some(now - std::mem::replace(known, now).min(now))),
            },
        };
        result.map_err(|errno| Error::host("read of an out-of-memory event", errno))
    }
}
