//! The invocation log: a line when runb is called, a line when it ends. It never fails a call and never makes one wait:
//! whatever goes wrong here is dropped. No descriptor is held between the two lines, so that none can be mistaken for
//! one of `--preserve-fds`, and a log that is rotated meanwhile gets the second line in its new file.

pub mod entry;
pub mod quote;
pub mod redact;

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;

use crate::args::Format;
use crate::config::{Folder, Settings};
use entry::{Caller, Entry, Event, Exit, seconds, timestamp};

/// A call that is on record and has not ended.
#[derive(Debug)]
pub struct Record {
    target: Option<Target>,
    invocation: String,
    began: Instant,
    caller: Caller,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    format: Format,
    folder: Folder,
}

/// Writes the line of a call; `own_length` of the arguments are runb's own.
pub fn begin(settings: Settings, argv: &[OsString], own_length: usize) -> Record {
    let began = Instant::now();
    let Settings { path, format, notes, folder, .. } = settings;
    let Some(path) = path else {
        return Record { target: None, invocation: String::new(), began, caller: Caller::default() };
    };
    let now = SystemTime::now();
    let invocation = invocation(now);
    let target = Target { path, format, folder };
    let time = timestamp(now);
    let mut lines = entry::call(&time, &invocation, &redact::redact(argv, own_length), format);
    for text in notes {
        let event = Event::Note { text };
        lines += &Entry { time: time.clone(), invocation: invocation.clone(), event }.line(format);
    }
    // One write for all: the descriptor is O_APPEND, so lines of other calls come before or after, not between.
    target.append(&lines);
    Record { target: Some(target), invocation, began, caller: caller() }
}

impl Record {
    /// Writes the line of the end.
    pub fn end(self, verb: Option<String>, container: Option<String>, status: u8, error: Option<String>) {
        let Some(target) = self.target else { return };
        let seconds = seconds(self.began.elapsed());
        let exit = Exit { verb, container, status, seconds, caller: self.caller, error }.bounded();
        let time = timestamp(SystemTime::now());
        let entry = Entry { time, invocation: self.invocation, event: Event::Exit(exit) };
        target.append(&entry.line(target.format));
    }

    /// How long the call has taken.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The process id, and the microseconds of the minute: a pid is not used again within one.
fn invocation(now: SystemTime) -> String {
    let micros = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() % 60_000_000;
    format!("{}-{micros:x}", std::process::id())
}

/// Asked for when the call begins: later the parent may be gone.
fn caller() -> Caller {
    let pid = nix::unistd::getppid().as_raw();
    let mut name = [0; 64];
    let length = File::open(format!("/proc/{pid}/comm")).and_then(|mut comm| comm.read(&mut name)).unwrap_or(0);
    let comm = String::from_utf8_lossy(&name[..length]).trim_end_matches('\n').to_owned();
    Caller { pid, comm, uid: nix::unistd::getuid().as_raw() }
}

impl Target {
    fn append(&self, lines: &str) {
        let Some(mut file) = self.open() else { return };
        let _ = file.write(lines.as_bytes()).ok();
    }

    /// Opens the log; none if it cannot be had, or is no regular file.
    fn open(&self) -> Option<File> {
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                // O_NONBLOCK: a FIFO without a reader gives ENXIO instead of waiting (fifo(7)).
                .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
                .open(&self.path)
        };
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound && self.folder == Folder::Made => {
                DirBuilder::new().recursive(true).mode(0o700).create(self.path.parent()?).ok()?;
                open().ok()?
            }
            file => file.ok()?,
        };
        file.metadata().ok()?.is_file().then_some(file)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
