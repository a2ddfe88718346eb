//! One line of the invocation log: what it says, how it is written, how it is read back.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::quote::{fit, quote, readable};
use super::text;
use crate::args::Format;

/// The longest line, its newline included, in bytes.
pub const LINE: usize = 16384;
/// The most of the arguments that is written, in bytes.
const ARGV: usize = 7680;
/// The most of an error that is written, in bytes.
const ERROR: usize = 4096;
/// The most of a verb, an id, a name, or a path that is written, in bytes.
const NAME: usize = 512;

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
#[allow(clippy::large_enum_variant, reason = "a call makes two of them")]
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
        /// The current folder.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cwd: Option<String>,
    },
    /// It came to its end.
    Exit(Exit),
    /// Something about the log itself.
    Note {
        /// What.
        text: String,
    },
    /// What was done on the way.
    Debug {
        /// What.
        text: String,
    },
}

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// The verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// The container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// What the engine calls it.
    #[serde(skip_serializing_if = "Names::is_empty")]
    pub names: Names,
    /// The exit status.
    pub status: u8,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// The process that called.
    pub caller: Caller,
    /// The bundle's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The SHA-256 of its config.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// The arguments of a process that was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Vec<String>>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The error's place, call and errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Where the time went.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// The hooks that ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
}

/// The names that an engine gives to a container beside its id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// The container's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The pod's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The id of the pod's sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// What an error is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// The place in config.json, or the option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// Which call of init it was, by `runb plan --calls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The errno's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
}

/// A part of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// When it began, in seconds from the call's beginning.
    #[serde(default)]
    pub at: f64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// A hook that ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HookRun {
    /// Its kind, as config.json has it.
    pub kind: String,
    /// Which of its kind, from 0.
    pub index: usize,
    /// Its file.
    pub path: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How it ended.
    pub status: String,
    /// The end of what it wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
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
    /// The caller's own parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// systemd's unit that the caller is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The name of the container that the caller was told, where it is Podman's conmon.
    #[serde(skip)]
    pub name: Option<String>,
}

/// The process that has called the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// Its process id.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

impl Names {
    /// Those in the annotations of an engine: containerd's CRI, CRI-O, nerdctl.
    pub fn of(annotations: &HashMap<String, String>) -> Self {
        let given = |key: &&str| annotations.get(*key).filter(|name| !name.is_empty());
        let first = |keys: &[&str]| keys.iter().find_map(given).cloned();
        Names {
            container: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
            pod: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
            namespace: first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
            sandbox: first(&["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"]),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Names::default()
    }
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
pub fn call(time: &str, invocation: &str, argv: &[OsString], cwd: Option<&str>, format: Format) -> String {
    let encode = |word: &[u8]| match format {
        Format::Text => quote(word),
        Format::Json => json(&readable(word)),
    };
    let (words, cut) = bounded(argv, ARGV, encode);
    match format {
        Format::Text => {
            let cut = if cut > 0 { format!(" [cut:{cut}]") } else { String::new() };
            let argv = words.join(" ");
            format!("[{time}] call runb: {argv}{cut} # {invocation}{}\n", cwd.map(in_folder).unwrap_or_default())
        }
        Format::Json => {
            let cut = if cut > 0 { format!(",\"cut\":{cut}") } else { String::new() };
            format!(
                "{{\"time\":{},\"invocation\":{},\"event\":\"call\",\"argv\":[{}]{cut}{}}}\n",
                json(time),
                json(invocation),
                words.join(","),
                cwd.map(|cwd| format!(",\"cwd\":{}", json(&short(cwd)))).unwrap_or_default()
            )
        }
    }
}

/// The current folder, at the end of a line of text.
fn in_folder(cwd: &str) -> String {
    format!(" in {}", quote(short(cwd).as_bytes()))
}

/// As much of a path as is written.
fn short(path: &str) -> String {
    bounded_text(path, NAME)
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

/// A text whose form as JSON has no more than `room` bytes.
fn bounded_text(text: &str, room: usize) -> String {
    if text.len() * 6 + 2 <= room || json(text).len() <= room {
        return text.to_owned();
    }
    // JSON writes a control character with six bytes: cut until its form fits.
    let (cut, _) = fit(text.as_bytes(), room - 3, |part| json(&String::from_utf8_lossy(part)));
    serde_json::from_str::<String>(&cut).unwrap_or_default() + "…"
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Entry {
    /// The line, with its newline; at most [`LINE`] bytes.
    pub fn line(&self, format: Format) -> String {
        match (format, &self.event) {
            (format, Event::Call { argv, cut: 0, cwd }) => {
                let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
                call(&self.time, &self.invocation, &argv, cwd.as_deref(), format)
            }
            (Format::Json, _) => {
                let mut line = serde_json::to_string(self).unwrap_or_default();
                line.push('\n');
                line
            }
            (Format::Text, _) => text::line(self),
        }
    }

    /// Reads a line of either form; none if it is neither.
    pub fn parse(line: &str) -> Option<Entry> {
        let line = line.trim_end();
        if line.starts_with('{') { serde_json::from_str(line).ok() } else { text::parse(line) }
    }
}

impl Exit {
    /// The same, with every text short enough for a line of either form.
    pub fn bounded(mut self) -> Self {
        let short = |text: &mut String, room: usize| *text = bounded_text(text, room);
        let Names { container, pod, namespace, sandbox } = &mut self.names;
        let own = self.verb.iter_mut().chain(&mut self.container).chain(&mut self.bundle);
        own.chain(container).chain(pod).chain(namespace).chain(sandbox).for_each(|text| short(text, NAME));
        self.error.iter_mut().for_each(|text| short(text, ERROR));
        if let Some(failure) = &mut self.failure {
            failure.place.iter_mut().chain(&mut failure.call).for_each(|text| short(text, NAME));
        }
        self.caller.unit.iter_mut().for_each(|text| short(text, NAME));
        if let Some(args) = &mut self.process {
            let mut room = 2 * NAME;
            let fits = |arg: &String| {
                let length = json(arg).len() + 1;
                room = room.checked_sub(length)?;
                Some(())
            };
            let count = args.iter().map_while(fits).count();
            if count < args.len() {
                args.truncate(count);
                args.push("…".to_owned());
            }
        }
        // What hooks say is all that may be long beside those; the later ones say what went wrong.
        let mut room = ERROR;
        for hook in self.hooks.iter_mut().rev() {
            short(&mut hook.path, NAME / 2);
            short(&mut hook.status, NAME);
            short(&mut hook.output, room.max(64));
            room = room.saturating_sub(json(&hook.output).len());
        }
        let long = |hooks: &[HookRun]| serde_json::to_string(hooks).map_or(0, |text| text.len()) > ERROR + 4 * NAME;
        while long(&self.hooks) {
            self.hooks.remove(0);
        }
        self
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
