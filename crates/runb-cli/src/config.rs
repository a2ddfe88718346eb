//! The settings: of the invocation log, and how long systemd is waited for. A later source wins: defaults,
//! /etc/runb/runb.toml, RUNB_LOG and RUNB_LOG_FORMAT, flags. A source that is wrong is skipped and a note in the log says so: it
//! never fails a call.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::args::{Format, Global};
use crate::environment::{Caller, Environment};

/// Where an administrator sets up runb. Engines pass no flags of runb's own, so this file matters.
pub const FILE: &str = "/etc/runb/runb.toml";

/// The most that is read of it, in bytes.
const LONGEST: u64 = 1 << 20;

/// Where records go, and in which form; what else is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file; none is no log.
    pub path: Option<PathBuf>,
    /// The form of its lines.
    pub format: Format,
    /// What was wrong with a source.
    pub notes: Vec<String>,
    /// Whether the folder is runb's to make: the user's default one is, a configured one is not.
    pub folder: Folder,
    /// How long systemd may take for a container's unit, if that is said.
    pub systemd_timeout: Option<Duration>,
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
        let mut settings = Settings { path, folder, ..Settings::default() };
        settings.take_file(file);
        settings.take_environment(environment);
        settings.take_flags(global);
        settings
    }

    fn take_file(&mut self, file: &Path) {
        let text = runb_core::input::read(file, LONGEST)
            .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.notes.push(format!("{}: {error}", file.display())),
        };
        let File { invocation_log: section, systemd } = match toml::from_str::<File>(&text) {
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
mod tests {
    use super::*;

    fn settings(toml: Option<&str>, environment: &Environment, global: &Global) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("runb.toml");
        if let Some(text) = toml {
            std::fs::write(&file, text).unwrap();
        }
        Settings::read(global, environment, &file)
    }

    #[test]
    fn it_is_on_when_nothing_is_configured() {
        let settings = settings(None, &Environment::default(), &Global::default());
        assert_eq!(settings, Settings { path: Some("/var/log/runb.log".into()), ..Settings::default() });
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let toml = "[invocation-log]\npath = \"/file\"\nformat = \"json\"\n";
        let mut environment = Environment::default();
        let mut global = Global::default();
        let path = |environment: &_, global: &_| settings(Some(toml), environment, global).path.unwrap();
        assert_eq!(path(&environment, &global), Path::new("/file"));
        environment.runb_log = Some("/environment".into());
        assert_eq!(path(&environment, &global), Path::new("/environment"));
        global.invocation_log = Some("/flag".into());
        assert_eq!(path(&environment, &global), Path::new("/flag"));
        assert_eq!(settings(Some(toml), &environment, &global).format, Format::Json);
        global.invocation_log_format = Some(Format::Text);
        assert_eq!(settings(Some(toml), &environment, &global).format, Format::Text);
    }

    #[test]
    fn each_source_can_turn_it_off() {
        let off = Some("[invocation-log]\nenabled = false\n");
        assert_eq!(settings(off, &Environment::default(), &Global::default()).path, None);
        let environment = Environment { runb_log: Some("off".into()), ..Environment::default() };
        assert_eq!(settings(None, &environment, &Global::default()).path, None);
        let global = Global { no_invocation_log: true, ..Global::default() };
        assert_eq!(settings(None, &Environment::default(), &global).path, None);
    }

    #[test]
    fn what_is_no_file_is_noted_and_not_read() {
        let settings = Settings::read(&Global::default(), &Environment::default(), Path::new("/dev/zero"));
        assert_eq!(settings.notes, ["/dev/zero: it is no regular file"]);
    }

    #[test]
    fn a_wrong_file_is_noted_with_its_line_and_otherwise_skipped() {
        for (toml, line, word) in [
            ("[invocation-log]\npath = 5\n", "line 2", "string"),
            ("[invocation-log]\n\nfromat = \"json\"\n", "line 3", "fromat"),
            ("[invocation-log\n", "line 1", ""),
        ] {
            let settings = settings(Some(toml), &Environment::default(), &Global::default());
            assert_eq!(settings.path, Some("/var/log/runb.log".into()));
            assert!(settings.notes[0].contains(line) && settings.notes[0].contains(word), "{:?}", settings.notes);
        }
    }
}
