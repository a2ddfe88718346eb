//! The settings: of the invocation log, and how long systemd is waited for. A later source wins: defaults,
//! /etc/runb/runb.toml, the files of /etc/runb/runb.toml.d by their names, RUNB_LOG and RUNB_LOG_FORMAT, flags. A source that is wrong is skipped and a note in the log says so: it
//! never fails a call.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::args::{Format, Global};
use crate::environment::{Caller, Environment};
use crate::record::journal::SOCKET;
use crate::record::keep::Keep;

/// Where an administrator sets up runb. Engines pass no flags of runb's own, so this file matters.
pub const FILE: &str = "/etc/runb/runb.toml";

/// The most that is read of it, in bytes.
const LONGEST: u64 = 1 << 20;

/// Where records go, and in which form; what else is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file; none is no log.
    pub path: Option<PathBuf>,
    /// The form of its lines.
    pub format: Format,
    /// What was wrong with a source.
    pub notes: Vec<String>,
    /// Whether the folder is runb's to make: the user's default one is, a configured one is not.
    pub folder: Folder,
    /// The folder where losses are counted; none, if the user has none.
    pub lost: Option<PathBuf>,
    /// The permissions of a new file, if they are set up.
    pub mode: Option<u32>,
    /// The group of a new file, if it is set up.
    pub group: Option<Group>,
    /// At how many bytes the log is rotated; 0 is never.
    pub max_size: u64,
    /// How many files it is rotated to.
    pub generations: u32,
    /// Which configurations are kept.
    pub keep: Keep,
    /// Whose calls are on record with every step.
    pub debug: Vec<Wanted>,
    /// Where journald listens, if it is told.
    pub journal: Option<PathBuf>,
    /// The file of an OpenTelemetry collector.
    pub spans: Option<PathBuf>,
    /// The annotation that holds the trace.
    pub trace_annotation: Option<String>,
    /// How long systemd may take for a container's unit, if that is said.
    pub systemd_timeout: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            path: None,
            format: Format::default(),
            notes: Vec::new(),
            folder: Folder::default(),
            lost: None,
            mode: None,
            group: None,
            max_size: 64 << 20,
            generations: 4,
            keep: Keep::default(),
            debug: Vec::new(),
            journal: None,
            spans: None,
            trace_annotation: None,
            systemd_timeout: None,
        }
    }
}

/// A group of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Group {
    /// By its number.
    Id(u32),
    /// By its name in /etc/group.
    Name(String),
}

impl Group {
    /// Its number.
    pub fn id(&self) -> Option<u32> {
        let name = match self {
            Group::Id(id) => return Some(*id),
            Group::Name(name) => name,
        };
        let text = std::fs::read_to_string("/etc/group").ok()?;
        let of = |line: &str| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        };
        text.lines().find_map(of)
    }
}

/// Calls that are on record with every step: those for which all that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Wanted {
    /// How the container's id begins.
    id: Option<String>,
    /// An annotation that the container has: `KEY` or `KEY=VALUE`.
    annotation: Option<String>,
    /// The verb.
    verb: Option<String>,
}

impl Wanted {
    /// Whether a call is one of them.
    pub fn holds(&self, verb: Option<&str>, id: Option<&str>, annotations: &HashMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => annotations.get(key).is_some_and(|found| found == value),
            None => annotations.contains_key(wanted),
        };
        self.id.as_deref().is_none_or(|wanted| id.is_some_and(|id| id.starts_with(wanted)))
            && self.verb.as_deref().is_none_or(|wanted| verb == Some(wanted))
            && self.annotation.as_deref().is_none_or(has)
    }
}

/// Whether a missing folder is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Folder {
    /// It is not.
    #[default]
    Expected,
    /// It is, mode 0700.
    Made,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    invocation_log: Section,
    #[serde(default)]
    systemd: Systemd,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Systemd {
    timeout: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Section {
    enabled: Option<bool>,
    path: Option<PathBuf>,
    format: Option<FileFormat>,
    /// Octal, as chmod(1) takes it.
    mode: Option<String>,
    group: Option<Group>,
    /// Bytes, or `64M`; 0 is never.
    max_size: Option<Size>,
    generations: Option<u32>,
    keep_configs: Option<Keep>,
    journald: Option<bool>,
    spans: Option<PathBuf>,
    trace_annotation: Option<String>,
    #[serde(default)]
    debug: Vec<Wanted>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

impl Size {
    fn bytes(&self) -> Option<u64> {
        match self {
            Size::Bytes(bytes) => Some(*bytes),
            Size::Text(text) => crate::args::bytes(text).ok().and_then(|bytes| u64::try_from(bytes).ok()),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FileFormat {
    Text,
    Json,
}

impl Settings {
    /// Reads all sources; `file` is [`FILE`].
    pub fn read(global: &Global, environment: &Environment, file: &Path) -> Self {
        let folder = if environment.caller == Caller::User { Folder::Made } else { Folder::Expected };
        let path = environment.default_invocation_log();
        let lost = environment.counters();
        let mut settings = Settings { path, folder, lost, ..Settings::default() };
        settings.take_file(file);
        settings.take_folder(&file.with_extension("toml.d"));
        settings.take_environment(environment);
        settings.take_flags(global);
        settings
    }

    /// Takes the files of a folder that end in `.toml`, by their names.
    fn take_folder(&mut self, folder: &Path) {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.notes.push(format!("{}: {error}", folder.display())),
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "toml"));
        files.sort();
        files.iter().for_each(|file| self.take_file(file));
    }

    fn take_file(&mut self, file: &Path) {
        let text = runb_core::input::read(file, LONGEST)
            .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.notes.push(format!("{}: {error}", file.display())),
        };
        self.take_text(file, &text);
    }

    /// Apart from what asks for a file, as there is none mostly.
    #[cold]
    #[inline(never)]
    fn take_text(&mut self, file: &Path, text: &str) {
        let File { invocation_log: section, systemd } = match toml::from_str::<File>(text) {
            Ok(file) => file,
            Err(error) => {
                let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                return self.notes.push(format!("{} line {line}: {}", file.display(), error.message()));
            }
        };
        if let Some(path) = section.path {
            self.set_path(path);
        }
        if section.enabled == Some(false) {
            self.path = None;
        }
        let mut wrong = |what: &str| self.notes.push(format!("{}: {what}", file.display()));
        if let Some(text) = &section.mode {
            match u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777) {
                Some(mode) => self.mode = Some(mode),
                None => wrong(&format!("mode is {text:?}, and no octal number up to 0777")),
            }
        }
        if let Some(size) = &section.max_size {
            match size.bytes() {
                Some(bytes) => self.max_size = bytes,
                None => wrong(&format!("max-size is {size:?}, and no number of bytes as 67108864 or \"64M\"")),
            }
        }
        if let Some(group) = section.group {
            if group.id().is_none() {
                wrong(&format!("group is {group:?}, and there is none"));
            }
            self.group = Some(group);
        }
        self.generations = section.generations.unwrap_or(self.generations);
        self.keep = section.keep_configs.unwrap_or(self.keep);
        self.debug.extend(section.debug);
        match section.journald {
            Some(true) => self.journal = Some(SOCKET.into()),
            Some(false) => self.journal = None,
            None => {}
        }
        self.spans = section.spans.or(self.spans.take());
        self.trace_annotation = section.trace_annotation.or(self.trace_annotation.take());
        match systemd.timeout.as_deref().map(humantime::parse_duration) {
            None => {}
            Some(Ok(timeout)) if !timeout.is_zero() => self.systemd_timeout = Some(timeout),
            Some(_) => self.notes.push(format!("{}: systemd.timeout is no time like \"30s\"", file.display())),
        }
        match section.format {
            Some(FileFormat::Text) => self.format = Format::Text,
            Some(FileFormat::Json) => self.format = Format::Json,
            None => {}
        }
    }

    fn take_environment(&mut self, environment: &Environment) {
        match &environment.runb_log {
            Some(off) if off == "off" => self.path = None,
            Some(path) => self.set_path(path.into()),
            None => {}
        }
        match environment.runb_log_format.as_ref().map(|format| format.to_string_lossy()).as_deref() {
            None => {}
            Some("text") => self.format = Format::Text,
            Some("json") => self.format = Format::Json,
            Some(other) => self.notes.push(format!("RUNB_LOG_FORMAT is {other:?}, not text or json")),
        }
    }

    fn take_flags(&mut self, global: &Global) {
        if let Some(path) = &global.invocation_log {
            self.set_path(path.clone());
        }
        self.format = global.invocation_log_format.unwrap_or(self.format);
        if global.no_invocation_log {
            self.path = None;
        }
    }

    fn set_path(&mut self, path: PathBuf) {
        self.path = Some(path);
        self.folder = Folder::Expected;
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
