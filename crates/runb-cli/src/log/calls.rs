//! Calls: the lines of the log, put together again by their invocation. What is held meanwhile are the calls that have not ended.

use std::collections::HashMap;
use std::time::SystemTime;

use anyhow::Result;

use super::filter::Filter;
use super::line::{Kind, Line};
use crate::record::entry::{Entry, Event, Exit};

/// The most calls without an end that are held; then the oldest are taken for killed.
const OPEN: usize = 1 << 16;
/// The most debug lines of a call that are held.
const DEBUG: usize = 64;

/// A call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// The invocation.
    pub invocation: String,
    /// When it began; of a call whose beginning is not in the log, when it ended.
    pub time: String,
    /// The arguments, if they are in the log.
    pub argv: Vec<String>,
    /// How many bytes of them are missing.
    pub cut: usize,
    /// The current folder.
    pub cwd: Option<String>,
    /// What was done on the way, with its time.
    pub debug: Vec<(String, String)>,
    /// When and how it ended; none, if that is not in the log.
    pub exit: Option<(String, Exit)>,
}

/// What is read from a log.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A call.
    Call(Box<Call>),
    /// A remark about the log itself.
    Note(Box<Entry>),
}

/// What has become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// runb did what it was asked for.
    Done,
    /// It did not.
    Failed,
    /// It has not ended.
    Running,
    /// It was killed, or the machine went down, before it could write its end.
    Killed,
}

impl Call {
    /// The verb, if it is known.
    pub fn verb(&self) -> &str {
        let known = self.exit.as_ref().and_then(|(_, exit)| exit.verb.as_deref());
        known.or_else(|| self.argv.iter().map(String::as_str).find(|word| is_verb(word))).unwrap_or("?")
    }

    /// The container, if it is known: by what runb has understood, else by what looks like one.
    pub fn container(&self) -> Option<&str> {
        match &self.exit {
            Some((_, exit)) => exit.container.as_deref(),
            None => {
                let verb = self.argv.iter().position(|word| is_verb(word))?;
                self.argv[verb + 1..].iter().rev().map(String::as_str).find(|word| !word.starts_with(['-', '/']))
            }
        }
    }

    /// When it began, in microseconds since 1970.
    pub fn began(&self) -> i64 {
        let time = micros(&self.time).unwrap_or(0);
        match &self.exit {
            Some((_, exit)) if self.argv.is_empty() => time - (exit.seconds * 1e6) as i64,
            _ => time,
        }
    }

    /// How long it took, in seconds, if it has ended.
    pub fn seconds(&self) -> Option<f64> {
        self.exit.as_ref().map(|(_, exit)| exit.seconds)
    }

    /// The error, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.exit.as_ref()?.1.error.as_deref()
    }

    /// What has become of it.
    pub fn outcome(&self) -> Outcome {
        match &self.exit {
            Some((_, exit)) if exit.error.is_some() => Outcome::Failed,
            Some(_) => Outcome::Done,
            None if self.lives() => Outcome::Running,
            None => Outcome::Killed,
        }
    }

    /// Whether the process lives that an invocation names: it was there when the call began.
    fn lives(&self) -> bool {
        let pid = self.invocation.split('-').next().unwrap_or_default();
        let started = || -> Option<i64> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let ticks: i64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
            let machine = std::fs::read_to_string("/proc/stat").ok()?;
            let boot: i64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
            // USER_HZ is 100 on every architecture that runb is made for.
            Some((boot * 100 + ticks) * 10_000)
        };
        // btime is in whole seconds.
        started().is_some_and(|started| started <= self.began() + 2_000_000)
    }

    /// Its lines.
    pub fn entries(&self) -> Vec<Entry> {
        let of = |time: &str, event| Entry { time: time.to_owned(), invocation: self.invocation.clone(), event };
        let mut entries = Vec::new();
        if !self.argv.is_empty() || self.exit.is_none() {
            let (argv, cut, cwd) = (self.argv.clone(), self.cut, self.cwd.clone());
            entries.push(of(&self.time, Event::Call { argv, cut, cwd }));
        }
        entries.extend(self.debug.iter().map(|(time, text)| of(time, Event::Debug { text: text.clone() })));
        entries.extend(self.exit.iter().map(|(time, exit)| of(time, Event::Exit(exit.clone()))));
        entries
    }
}

/// The verbs of a container, for a call that has not ended: what it was is then told by its arguments alone.
fn is_verb(word: &str) -> bool {
    crate::args::is_verb(word)
}

/// Microseconds since 1970 of a time in the log.
pub fn micros(time: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(&(time.strip_suffix("+00:00").unwrap_or(time).to_owned() + "Z"));
    let since = time.ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_micros()).ok()
}

/// A call that has not ended, as its lines.
struct Open {
    number: u64,
    call: Vec<u8>,
    debug: Vec<Vec<u8>>,
}

/// Puts lines together.
pub struct Calls {
    filter: Filter,
    open: HashMap<String, Open>,
    number: u64,
}

impl Calls {
    /// Of which those that pass `filter` are given out.
    pub fn new(filter: Filter) -> Self {
        Calls { filter, open: HashMap::new(), number: 0 }
    }

    /// Takes a line; what comes to its end by it is given to `emit`.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn line(&mut self, raw: &[u8], emit: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let Some(line) = Line::look(raw) else { return Ok(()) };
        match line.kind {
            Kind::Call if self.filter.is_too_old(line.time) => Ok(()),
            Kind::Call => {
                self.number += 1;
                let open = Open { number: self.number, call: line.raw.to_vec(), debug: Vec::new() };
                if let Some(earlier) = self.open.insert(line.invocation.to_owned(), open) {
                    self.give(None, Some(earlier), emit)?;
                }
                if self.open.len() > OPEN { self.let_go(OPEN / 2, emit) } else { Ok(()) }
            }
            Kind::Debug => {
                if let Some(open) = self.open.get_mut(line.invocation).filter(|open| open.debug.len() < DEBUG) {
                    open.debug.push(line.raw.to_vec());
                }
                Ok(())
            }
            Kind::Exit => {
                let open = self.open.remove(line.invocation);
                match self.filter.may_pass(&line) {
                    true => self.give(Some(line.raw), open, emit),
                    false => Ok(()),
                }
            }
            Kind::Note if self.filter.takes_notes(line.time) => match entry(line.raw) {
                Some(note) => emit(Item::Note(Box::new(note))),
                None => Ok(()),
            },
            Kind::Note => Ok(()),
        }
    }

    /// Gives out the calls that have not ended, in their order.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn rest(&mut self, emit: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        self.let_go(0, emit)
    }

    fn let_go(&mut self, keep: usize, emit: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
        let mut all: Vec<(String, Open)> = self.open.drain().collect();
        all.sort_by_key(|(_, open)| open.number);
        let kept = all.split_off(all.len().saturating_sub(keep));
        self.open.extend(kept);
        all.into_iter().try_for_each(|(_, open)| self.give(None, Some(open), emit))
    }

    fn give(
        &mut self,
        exit: Option<&[u8]>,
        open: Option<Open>,
        emit: &mut dyn FnMut(Item) -> Result<()>,
    ) -> Result<()> {
        let Some(call) = together(exit, open) else { return Ok(()) };
        match self.filter.passes(&call) {
            true => emit(Item::Call(Box::new(call))),
            false => Ok(()),
        }
    }
}

fn entry(raw: &[u8]) -> Option<Entry> {
    Entry::parse(&String::from_utf8_lossy(raw))
}

/// A call of its lines.
fn together(exit: Option<&[u8]>, open: Option<Open>) -> Option<Call> {
    let mut call = Call::default();
    if let Some(Open { call: raw, debug, .. }) = open
        && let Some(Entry { time, invocation, event: Event::Call { argv, cut, cwd } }) = entry(&raw)
    {
        let debug = debug.iter().filter_map(|raw| match entry(raw)? {
            Entry { time, event: Event::Debug { text }, .. } => Some((time, text)),
            _ => None,
        });
        call = Call { invocation, time, argv, cut, cwd, debug: debug.collect(), exit: None };
    }
    if let Some(Entry { time, invocation, event: Event::Exit(exit) }) = exit.and_then(entry) {
        if call.time.is_empty() {
            call.time.clone_from(&time);
        }
        call.invocation = invocation;
        call.exit = Some((time, exit));
    }
    (!call.invocation.is_empty()).then_some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], filter: Filter) -> Vec<Call> {
        let mut calls = Calls::new(filter);
        let mut found = Vec::new();
        let mut emit = |item| {
            if let Item::Call(call) = item {
                found.push(*call);
            }
            Ok(())
        };
        for line in lines {
            calls.line(line.as_bytes(), &mut emit).unwrap();
        }
        calls.rest(&mut emit).unwrap();
        found
    }

    const LINES: [&str; 4] = [
        "[2026-11-22T18:00:00.100000+00:00] call runb: create --bundle web1 db1 # 1-1",
        "{\"time\":\"2026-11-22T18:00:00.200000+00:00\",\"invocation\":\"2-2\",\"event\":\"call\",\"argv\":[\"start\",\"web1\"]}",
        "[2026-11-22T18:00:00.300000+00:00] exit runb: verb=create container=db1 status=0 seconds=0.1 caller=1 \
         comm=init uid=0 # 1-1",
        "{\"time\":\"2026-11-22T18:00:00.400000+00:00\",\"invocation\":\"2-2\",\"event\":\"exit\",\"container\":\"web1\",\
         \"status\":0,\"seconds\":0.1,\"caller\":{\"pid\":1,\"comm\":\"init\",\"uid\":0}}",
    ];

    #[test]
    fn the_calls_of_a_container_are_picked_by_their_exit_whatever_the_form_of_the_lines() {
        for (id, invocation) in [("web1", "2-2"), ("db1", "1-1"), ("we", "2-2")] {
            let [call] = read(&LINES, Filter::of_container(id)).try_into().unwrap();
            assert_eq!(call.invocation, invocation, "{id}");
        }
        assert_eq!(read(&LINES, Filter::default()).len(), 2);
        assert!(read(&LINES, Filter::of_container("eb1")).is_empty());
    }

    #[test]
    fn a_call_that_has_not_ended_is_picked_by_its_arguments_and_known_as_killed() {
        let line = "[2026-11-22T18:00:00.123456+00:00] call runb: --root /x start web1 # 4194304-2b in /";
        let [call] = read(&[line], Filter::of_container("web1")).try_into().unwrap();
        assert_eq!((call.verb(), call.container(), call.outcome()), ("start", Some("web1"), Outcome::Killed));
        assert_eq!(call.cwd.as_deref(), Some("/"));
        assert!(read(&[line], Filter::of_container("db1")).is_empty());
    }

    #[test]
    fn a_process_of_today_is_not_one_that_wrote_its_call_long_ago_and_this_one_is_running() {
        let own = std::process::id();
        let of = |time: &str| Call { invocation: format!("{own}-1"), time: time.to_owned(), ..Call::default() };
        assert_eq!(of("2001-11-22T18:00:00.123456+00:00").outcome(), Outcome::Killed);
        assert_eq!(of(&crate::record::entry::timestamp(SystemTime::now())).outcome(), Outcome::Running);
    }

    #[test]
    fn a_broken_line_does_not_hide_the_others() {
        let lines = ["[2026-11-2\u{fffd}", LINES[0], "{\"time\":", LINES[2]];
        assert_eq!(read(&lines, Filter::default()).len(), 1);
    }
}
