//! The invocation log: a line when runb is called, a line when it ends. It never fails a call and never makes one wait:
//! whatever goes wrong here is dropped. No descriptor is held between the two lines, so that none can be mistaken for
//! one of `--preserve-fds`, and a log that is rotated meanwhile gets the second line in its new file.

pub mod account;
mod caller;
pub mod entry;
pub mod quote;
pub mod redact;
pub mod text;

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use crate::args::Format;
use crate::config::{Folder, Settings};
use account::Account;
use entry::{Caller, Entry, Event, Exit, seconds, timestamp};

/// How many lines tell what a failed call did before.
const DEBUG: usize = 12;

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
    let cwd = std::env::current_dir().ok().map(|cwd| cwd.display().to_string());
    let mut lines = entry::call(&time, &invocation, &redact::redact(argv, own_length), cwd.as_deref(), format);
    for text in notes {
        let event = Event::Note { text };
        lines += &Entry { time: time.clone(), invocation: invocation.clone(), event }.line(format);
    }
    // One write for all: the descriptor is O_APPEND, so lines of other calls come before or after, not between.
    target.append(&lines);
    Record { target: Some(target), invocation, began, caller: caller::caller() }
}

impl Record {
    /// Writes the line of the end, of a call that did what `account` says; of one that failed the last things that it did as well.
    pub fn end(
        self,
        (verb, container): (Option<String>, Option<String>),
        (status, error): (u8, Option<String>),
        account: &Account,
    ) {
        let Some(target) = self.target else { return };
        let (seconds, now) = (seconds(self.began.elapsed()), SystemTime::now());
        let debug = if error.is_some() { last(account.sentences()) } else { Vec::new() };
        let mut lines = String::new();
        for (at, text) in debug {
            let time = timestamp(now.checked_sub(self.began.elapsed().saturating_sub(at)).unwrap_or(now));
            let event = Event::Debug { text };
            lines += &Entry { time, invocation: self.invocation.clone(), event }.line(target.format);
        }
        let mut names = account.names();
        names.container = names.container.or_else(|| self.caller.name.clone());
        let exit = Exit {
            verb,
            container,
            names,
            status,
            seconds,
            caller: self.caller,
            bundle: account.config(|bundle, _| bundle.display().to_string()),
            config: account.config(|_, config| digest(config)),
            process: account.process(),
            error,
            failure: account.failure(),
            phases: account.phases(),
            hooks: account.hooks(),
        };
        let event = Event::Exit(exit.bounded());
        lines += &Entry { time: timestamp(now), invocation: self.invocation, event }.line(target.format);
        target.append(&lines);
    }

    /// When the call began.
    pub fn began(&self) -> Instant {
        self.began
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

/// The last things that a call did before it failed.
fn last(mut sentences: Vec<(Duration, String)>) -> Vec<(Duration, String)> {
    sentences.split_off(sentences.len().saturating_sub(DEBUG))
}

/// The SHA-256 of a configuration, as sha256sum(1) prints it.
fn digest(config: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(config).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
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
