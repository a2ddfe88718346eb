//! The invocation log: a line when runb is called, a line when it ends. It never fails a call and never makes one wait:
//! whatever goes wrong here is dropped. A verb that makes processes, or waits, holds no descriptor between the two lines, so that none
//! can be mistaken for one of `--preserve-fds`, and a log that is rotated meanwhile gets the second line in its new file.

pub mod account;
mod caller;
pub mod entry;
pub mod journal;
pub mod keep;
mod lost;
pub mod quote;
pub mod redact;
mod spans;
mod target;
pub mod text;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use runb_core::options::Meanwhile;
use sha2::{Digest, Sha256};

use crate::config::Settings;
use account::Account;
use caller::Called;
use entry::{Entry, Event, Exit, seconds, timestamp};
use target::Target;

/// How many lines tell what a failed call did before.
const DEBUG: usize = 12;

/// A call that is on record and has not ended.
#[derive(Debug)]
pub struct Record {
    target: Option<Target>,
    settings: Settings,
    invocation: String,
    began: Instant,
    /// None of a call that is not on record.
    called: Option<Arc<Called>>,
    /// As they are written; kept where the end is told to others.
    argv: Vec<String>,
    /// The log, while a brief verb is at work.
    held: Option<File>,
}

/// Verbs that end at once and make no process: the log stays open for their second line.
const BRIEF: [&str; 6] = ["state", "kill", "pause", "resume", "list", "ps"];

/// Verbs that wait for a process to begin.
const LAUNCHING: [&str; 4] = ["create", "run", "exec", "start"];

/// Writes the line of a call of `verb`; `own_length` of the arguments are runb's own.
pub fn begin(settings: Settings, argv: &[OsString], own_length: usize, verb: Option<&str>) -> Record {
    let began = Instant::now();
    let target = Target::new(&settings);
    let others = settings.journal.is_some() || settings.spans.is_some();
    if target.is_none() && !others {
        return Record {
            target,
            settings,
            invocation: String::new(),
            began,
            called: None,
            argv: Vec::new(),
            held: None,
        };
    }
    let mut held = None;
    let now = SystemTime::now();
    let invocation = invocation(now);
    let redacted = redact::redact(argv, own_length);
    if let Some(target) = &target {
        let time = timestamp(now);
        let note =
            |text: String| Entry { time: time.clone(), invocation: invocation.clone(), event: Event::Note { text } };
        let cwd = std::env::current_dir().ok().map(|cwd| cwd.display().to_string());
        let mut lines = String::new();
        let lost = target.lost();
        if let Some(lost) = lost {
            let text = format!("{} records could not be written, the last at {}", lost.count, timestamp(lost.last));
            // One that was cut short may have no end.
            lines = format!("\n{}", note(text).line(target.format));
        }
        lines += &entry::call(&time, &invocation, &redacted, cwd.as_deref(), target.format);
        lines.extend(settings.notes.iter().map(|text| note(text.clone()).line(target.format)));
        // One write for all: the descriptor is O_APPEND, so lines of other calls come before or after, not between.
        let file = target.append(&lines, lost.map_or(0, |lost| lost.count));
        held = file.filter(|_| verb.is_some_and(|verb| BRIEF.contains(&verb)));
    }
    let argv = match others {
        true => redacted.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        false => Vec::new(),
    };
    let called = Called::new();
    if verb.is_none_or(|verb| !LAUNCHING.contains(&verb)) {
        called.caller();
    }
    Record { target, settings, invocation, began, called: Some(Arc::new(called)), argv, held }
}

impl Record {
    /// Writes the line of the end, of a call that did what `account` says; of one that failed the last things that it did as well.
    pub fn end(
        mut self,
        (verb, container): (Option<String>, Option<String>),
        (status, error): (u8, Option<String>),
        account: &Account,
    ) {
        let Some(called) = self.called.take() else { return };
        let caller = called.caller();
        let (elapsed, now) = (self.began.elapsed(), SystemTime::now());
        let debug = self.debug((verb.as_deref(), container.as_deref()), error.is_some(), account);
        let mut names = account.names();
        names.container = names.container.or_else(|| caller.name.clone());
        let exit = Exit {
            verb,
            container,
            names,
            status,
            seconds: seconds(elapsed),
            caller: caller.clone(),
            bundle: account.config(|bundle, _| bundle.display().to_string()),
            config: account.config(|_, config| digest(config)),
            process: account.process(),
            error,
            failure: account.failure(),
            phases: account.phases(),
            hooks: account.hooks(),
        };
        let kept = match self.settings.keep {
            keep::Keep::All => true,
            _ => exit.error.is_some(),
        };
        if let (true, Some(digest), Some(target)) = (kept, &exit.config, &self.target) {
            account.config(|_, config| keep::keep(target.path(), digest, config, self.settings.keep));
        }
        let entry =
            Entry { time: timestamp(now), invocation: self.invocation.clone(), event: Event::Exit(exit.bounded()) };
        if let Some(target) = &self.target {
            let mut lines = String::new();
            for (at, text) in debug {
                let time = timestamp(now.checked_sub(elapsed.saturating_sub(at)).unwrap_or(now));
                let event = Event::Debug { text };
                lines += &Entry { time, invocation: self.invocation.clone(), event }.line(target.format);
            }
            let lines = lines + &entry.line(target.format);
            match self.held.take() {
                Some(file) => drop(target.append_to(file, &lines, 0)),
                None => drop(target.append(&lines, 0)),
            }
        }
        if self.settings.journal.is_some() || self.settings.spans.is_some() {
            self.tell_others(&entry, now.checked_sub(elapsed).unwrap_or(now), account);
        }
    }

    /// What was done on the way: the last things, where the call failed; all, where it was asked for.
    fn debug(&self, of: (Option<&str>, Option<&str>), failed: bool, account: &Account) -> Vec<(Duration, String)> {
        let wanted = &self.settings.debug;
        let asked = !wanted.is_empty()
            && account.with_annotations(|annotations| wanted.iter().any(|one| one.holds(of.0, of.1, annotations)));
        match (asked, failed) {
            (true, _) => account.sentences(),
            (false, true) => last(account.sentences()),
            (false, false) => Vec::new(),
        }
    }

    /// To journald and to a collector of traces, where they are set up.
    #[cold]
    #[inline(never)]
    fn tell_others(&self, entry: &Entry, began: SystemTime, account: &Account) {
        if let Some(socket) = &self.settings.journal {
            journal::send(socket, entry, &self.argv);
        }
        let (Some(path), Event::Exit(exit)) = (&self.settings.spans, &entry.event) else { return };
        let own = self.settings.trace_annotation.as_deref();
        let container = exit.container.as_deref().unwrap_or(&self.invocation);
        let trace = account.with_annotations(|annotations| spans::Trace::of(annotations, own, container));
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let line = spans::line(&self.invocation, began, exit, &self.argv, &trace);
        if let Ok(mut file) = open(path) {
            let _ = target::write(&mut file, line.as_bytes()).ok();
        }
    }

    /// What is left to be done for the record, while something else is waited for.
    pub fn meanwhile(&self) -> Option<Meanwhile> {
        let called = self.called.clone()?;
        Some(Meanwhile::new(move || {
            called.caller();
        }))
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
pub fn digest(config: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(config).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Opens a file to append to; nothing waits for what is no regular file.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
