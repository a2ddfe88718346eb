//! One line of the invocation log: what it says, how it is written, how it is read back.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::quote::{Token, fit, quote, readable, unquote};
use crate::args::Format;

/// The longest line, its newline included, in bytes.
pub const LINE: usize = 8192;
/// What a line needs beside its argv and its error, at most.
const FRAME: usize = 384;
/// The most of an error that is written, in bytes.
const ERROR: usize = 4096;
/// The most of a verb, an id or a process name that is written, in bytes.
const NAME: usize = 1024;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC, in microseconds.
    pub time: String,
    /// Pairs a call with its exit: the process id, and a part of the time in hexadecimal.
    pub invocation: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// runb was called.
    Call {
        /// The arguments, without the program's name.
        argv: Vec<String>,
        /// How many bytes of the arguments did not fit into the line.
        #[serde(default, skip_serializing_if = "is_zero")]
        cut: usize,
    },
    /// It came to its end.
    Exit(Exit),
    /// Something about the log itself.
    Note {
        /// What.
        text: String,
    },
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// The verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// The container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The exit status.
    pub status: u8,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The process that called.
    pub caller: Caller,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The process that called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Caller {
    /// The parent's process id; 0 if it lives in another pid namespace.
    pub pid: i32,
    /// Its name (proc(5), comm); empty if it is not to be had.
    pub comm: String,
    /// The real user id.
    pub uid: u32,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// RFC 3339 in UTC, in microseconds, with the offset written out.
pub fn timestamp(time: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_micros(time).to_string();
    text.truncate(text.len() - 1);
    text + "+00:00"
}

/// Seconds, in microseconds.
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

/// The line of a call, with its newline.
pub fn call(time: &str, invocation: &str, argv: &[OsString], format: Format) -> String {
    let encode = |word: &[u8]| match format {
        Format::Text => quote(word),
        Format::Json => json(&readable(word)),
    };
    let (words, cut) = bounded(argv, LINE - FRAME, encode);
    match format {
        Format::Text => {
            let cut = if cut > 0 { format!(" [cut:{cut}]") } else { String::new() };
            format!("[{time}] call runb: {}{cut} # {invocation}\n", words.join(" "))
        }
        Format::Json => {
            let cut = if cut > 0 { format!(",\"cut\":{cut}") } else { String::new() };
            format!(
                "{{\"time\":{},\"invocation\":{},\"event\":\"call\",\"argv\":[{}]{cut}}}\n",
                json(time),
                json(invocation),
                words.join(",")
            )
        }
    }
}

/// As many of `argv` as fit into `room` bytes, the last one perhaps in part; and how many bytes were left out.
fn bounded(argv: &[OsString], mut room: usize, encode: impl Fn(&[u8]) -> String) -> (Vec<String>, usize) {
    let mut words = Vec::with_capacity(argv.len());
    for (at, word) in argv.iter().enumerate() {
        let text = encode(word.as_bytes());
        if text.len() < room {
            room -= text.len() + 1;
            words.push(text);
            continue;
        }
        // Less than this is no help to a reader.
        let (part, length) = if room > 64 { fit(word.as_bytes(), room, encode) } else { (String::new(), 0) };
        let cut = argv[at..].iter().map(|word| word.len()).sum::<usize>() - length;
        words.extend(Some(part).filter(|part| !part.is_empty()));
        // What is left out may be empty arguments alone: a cut is never 0.
        let cut = cut.max(1);
        return (words, cut);
    }
    (words, 0)
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Entry {
    /// The line, with its newline; at most [`LINE`] bytes.
    pub fn line(&self, format: Format) -> String {
        match (format, &self.event) {
            (format, Event::Call { argv, cut: 0 }) => {
                let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
                call(&self.time, &self.invocation, &argv, format)
            }
            (Format::Json, _) => {
                let mut line = serde_json::to_string(self).unwrap_or_default();
                line.push('\n');
                line
            }
            (Format::Text, _) => format!("[{}] {} # {}\n", self.time, self.event.text(), self.invocation),
        }
    }

    /// Reads a line of either form; none if it is neither.
    pub fn parse(line: &str) -> Option<Entry> {
        let line = line.trim_end();
        if line.starts_with('{') {
            return serde_json::from_str(line).ok();
        }
        let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
        let (kind, rest) = rest.split_once(" runb: ")?;
        let mut tokens = unquote(rest)?;
        let (Some(Token::Word(invocation)), Some(Token::Mark(_))) = (tokens.pop(), tokens.pop()) else { return None };
        let event = match kind {
            "call" => Event::parse_call(tokens)?,
            "exit" => Event::Exit(Exit::parse(tokens)?),
            "note" => Event::Note { text: words(tokens)?.pop()? },
            _ => return None,
        };
        Some(Entry { time: time.to_owned(), invocation: readable(&invocation), event })
    }
}

/// The tokens as words; none if there is a mark among them.
fn words(tokens: Vec<Token>) -> Option<Vec<String>> {
    tokens
        .into_iter()
        .map(|token| match token {
            Token::Word(word) => Some(readable(&word)),
            Token::Mark(_) => None,
        })
        .collect()
}

impl Event {
    fn text(&self) -> String {
        match self {
            Event::Call { argv, cut } => {
                let words: Vec<String> = argv.iter().map(|word| quote(word.as_bytes())).collect();
                format!("call runb: {} [cut:{cut}]", words.join(" "))
            }
            Event::Exit(exit) => format!("exit runb: {}", exit.text()),
            Event::Note { text } => format!("note runb: {}", fit(text.as_bytes(), ERROR, quote).0),
        }
    }

    fn parse_call(mut tokens: Vec<Token>) -> Option<Event> {
        let cut = match tokens.last() {
            Some(Token::Mark(mark)) => mark.strip_prefix("[cut:")?.strip_suffix(']')?.parse().ok()?,
            _ => 0,
        };
        tokens.truncate(tokens.len() - usize::from(cut > 0));
        Some(Event::Call { argv: words(tokens)?, cut })
    }
}

impl Exit {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut field = |name: &str, value: Option<&str>, room: usize| {
            if let Some(value) = value {
                text += &format!("{name}={} ", fit(value.as_bytes(), room, quote).0);
            }
        };
        field("verb", self.verb.as_deref(), NAME);
        field("container", self.container.as_deref(), NAME);
        field("status", Some(&self.status.to_string()), NAME);
        field("seconds", Some(&format!("{:.6}", self.seconds)), NAME);
        field("caller", Some(&self.caller.pid.to_string()), NAME);
        field("comm", Some(&self.caller.comm), NAME);
        field("uid", Some(&self.caller.uid.to_string()), NAME);
        field("error", self.error.as_deref(), ERROR);
        text.truncate(text.len() - 1);
        text
    }

    /// The same, with every text short enough for a line of either form.
    pub fn bounded(mut self) -> Self {
        let short = |text: &mut String, room| {
            if json(text).len() > room {
                // JSON writes a control character with six bytes: cut until its form fits.
                let (cut, _) = fit(text.as_bytes(), room - 3, |part| json(&String::from_utf8_lossy(part)));
                *text = serde_json::from_str::<String>(&cut).unwrap_or_default() + "…";
            }
        };
        self.verb.iter_mut().chain(&mut self.container).for_each(|text| short(text, NAME));
        self.error.iter_mut().for_each(|text| short(text, ERROR));
        self
    }

    fn parse(tokens: Vec<Token>) -> Option<Exit> {
        let mut exit = Exit::default();
        for word in words(tokens)? {
            let (name, value) = word.split_once('=')?;
            match name {
                "verb" => exit.verb = Some(value.to_owned()),
                "container" => exit.container = Some(value.to_owned()),
                "status" => exit.status = value.parse().ok()?,
                "seconds" => exit.seconds = value.parse().ok()?,
                "caller" => exit.caller.pid = value.parse().ok()?,
                "comm" => exit.caller.comm = value.to_owned(),
                "uid" => exit.caller.uid = value.parse().ok()?,
                "error" => exit.error = Some(value.to_owned()),
                _ => return None,
            }
        }
        Some(exit)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
