//! The lock of a container's folder: flock(2), which the kernel takes back from whoever ends.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use procfs::LockType;

use crate::error::{Error, Kind, Result};
use crate::socket::PATIENCE;

/// Takes the lock if nobody has it.
///
/// # Errors
/// flock(2) fails.
pub(super) fn try_lock(folder: &File) -> Result<bool> {
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(e)) => return Err(Error::io("flock", &e)),
        }
    }
}

/// Takes the lock; waits, with a bound, where another one has it.
///
/// # Errors
/// As [`wait`].
pub(super) fn wait_if_busy(folder: &File) -> Result<()> {
    if try_lock(folder)? { Ok(()) } else { wait(folder) }
}

/// Waits for the lock. flock(2) knows no bound, so a thread of its own waits in it; if nobody wants the lock any more when it
/// is had, it is given back.
///
/// # Errors
/// Another process has it all the time: says who.
pub(super) fn wait(folder: &File) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("flock", &e);
    let (tell, told) = channel();
    // A copy of the descriptor: the lock is that of what both are open on.
    let copy = folder.try_clone().map_err(failed)?;
    let waits = move || {
        let locked = loop {
            match copy.lock() {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                locked => break locked,
            }
        };
        let _ = tell.send(locked);
    };
    thread::Builder::new().name("runb-lock".to_owned()).spawn(waits).map_err(|e| Error::io("clone a thread", &e))?;
    match told.recv_timeout(PATIENCE) {
        Ok(locked) => locked.map_err(failed),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let text = format!("the container is in use by {}; waited {} s", holder(folder), PATIENCE.as_secs());
            Err(Error::new(Kind::State, text))
        }
    }
}

/// Who has the lock, for a person to read.
fn holder(folder: &File) -> String {
    let inode = folder.metadata().map_or(0, |meta| meta.ino());
    let locks = procfs::locks().unwrap_or_default();
    let lock = locks.into_iter().find(|lock| lock.lock_type == LockType::FLock && lock.inode == inode);
    match lock.and_then(|lock| lock.pid).filter(|pid| *pid > 0) {
        None => "another process".to_owned(),
        Some(pid) => {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            format!("process {pid} ({})", words.join(" ").trim())
        }
    }
}
