//! The one place that prints errors: one line on stderr, and one in `--log`. Of a workload's command that the kernel does not execute
//! stderr, which is the workload's, has what a shell would say.
//!
//! containerd takes `msg` of the last line whose level is `error`; Podman wants the whole of a fresh log to be one JSON
//! object. So a clean-up that failed too stands *in* the JSON object, as `cleanup`, and is a line of its own, before the
//! error, on stderr and in a text log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use nix::fcntl::OFlag;
use runb_core::Error;
use runb_core::trace::{Step, What};

use crate::args::{Format, Global};
use crate::output::{self, PATIENCE, Wait};
use crate::record::account::Account;
use crate::record::quote::one_line;

/// Where reports go besides stderr.
#[derive(Clone, Debug, Default)]
pub struct Report {
    log: Option<PathBuf>,
    format: Format,
    debug: bool,
    /// `create web1`: what was being done.
    what: Option<String>,
    /// What goes on record.
    account: Account,
    stderr: Stderr,
}

/// Whose stderr is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stderr {
    /// The runtime's.
    #[default]
    Own,
    /// The workload's, or that of a process of an exec, which the verb starts.
    Workloads,
}

/// logrus' names.
#[derive(Clone, Copy)]
enum Level {
    Error,
    Warning,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

/// The text of an error that begins with an option of the library, by the name that the option has here.
fn by_flag(text: &str) -> String {
    let Some((field, rest)) = text.strip_prefix("options.").and_then(|text| text.split_once(':')) else {
        return text.to_owned();
    };
    let name = match field {
        "args" => "the command".to_owned(),
        "cgroups" => "--cgroup".to_owned(),
        "cgroup_manager" => "--systemd-cgroup".to_owned(),
        _ => format!("--{}", field.replace('_', "-")),
    };
    format!("{name}:{rest}")
}

/// `open /x: no such file or directory (ENOENT)`: what was being done, and why it failed, in the library's words for an errno.
fn chain(error: &anyhow::Error) -> String {
    let cause = |cause: &(dyn std::error::Error + 'static)| {
        let nixs = cause.downcast_ref::<nix::errno::Errno>().map(|errno| std::io::Error::from(*errno));
        let errno = cause.downcast_ref::<std::io::Error>().or(nixs.as_ref()).and_then(|e| Error::io("", e).errno());
        errno.map_or_else(|| cause.to_string(), |errno| errno.to_string())
    };
    error.chain().map(cause).collect::<Vec<_>>().join(": ")
}

impl Report {
    /// Reports as the global flags say, of `verb` on `id`.
    pub fn new(global: &Global, verb: Option<&str>, id: Option<&str>, account: Account) -> Self {
        let what = verb.map(|verb| match id {
            Some(id) => one_line(&format!("{verb} {id}")),
            None => one_line(verb),
        });
        let stderr = if let Some("run" | "exec") = verb { Stderr::Workloads } else { Stderr::Own };
        Report { log: global.log.clone(), format: global.log_format, debug: global.debug, what, stderr, account }
    }

    /// Prints an error, with its causes on the same line; of the library's own also what was done before it, and what failed
    /// while cleaning up after it. Returns its text.
    pub fn error(&self, error: &anyhow::Error) -> String {
        let of_library = error.downcast_ref::<Error>();
        self.steps(of_library.map(Error::steps).unwrap_or_default());
        if let Some(error) = of_library {
            self.account.error(error);
        }
        let cleanup = of_library.map(Error::cleanup).unwrap_or_default();
        let cleanup: Vec<String> = cleanup.iter().map(|error| one_line(&error.to_string())).collect();
        let plain = of_library.and_then(Error::in_the_workloads_name).filter(|_| self.stderr == Stderr::Workloads);
        self.say(&by_flag(&chain(error)), plain, &cleanup)
    }

    /// Prints an error that is a text; returns it on one line.
    pub fn failure(&self, text: &str, cleanup: &[String]) -> String {
        self.say(text, None, cleanup)
    }

    /// The same; stderr has `plain` as it is, if that is given.
    fn say(&self, text: &str, plain: Option<String>, cleanup: &[String]) -> String {
        let text = one_line(text);
        let mut lines = String::new();
        if self.format == Format::Text {
            for warning in cleanup {
                lines += &self.line(Level::Warning, &format!("clean-up: {warning}"), &[]);
            }
        }
        lines += &self.line(Level::Error, &text, cleanup);
        let logged = self.append(&lines);
        let what = self.what.as_ref().map(|what| format!("{what}: ")).unwrap_or_default();
        let mut printed = String::new();
        for warning in cleanup.iter().map(|warning| format!("clean-up: {warning}")).chain(logged.err()) {
            printed += &format!("runb: warning: {what}{warning}\n");
        }
        printed += &plain.map_or_else(|| format!("runb: {what}{text}\n"), |plain| format!("{}\n", one_line(&plain)));
        print(&printed);
        text
    }

    /// Says what is odd and no error: in the log, or on stderr where there is none. With `create`, stderr is the
    /// container's own, so that a log is preferred.
    pub fn warning(&self, text: &str) {
        let text = one_line(text);
        let what = self.what.as_ref().map(|what| format!("{what}: ")).unwrap_or_default();
        if self.log.is_none() {
            return print(&format!("runb: warning: {what}{text}\n"));
        }
        if let Err(why) = self.append(&self.line(Level::Warning, &text, &[])) {
            print(&format!("runb: warning: {why}\n"));
        }
    }

    /// What goes on record.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// With `--debug`, writes a line to the log; without a log, to stderr, in the same form.
    pub fn debug(&self, text: &str) {
        if self.debug {
            self.write_debug(&self.line_at(SystemTime::now(), Level::Debug, &one_line(text), &[]));
        }
    }

    /// Takes what the library did up to now for the record; with `--debug`, writes it, a line for each step with the time at which it was done.
    pub fn steps(&self, steps: &[Step]) {
        self.account.steps(steps);
        let Some(last) = steps.last().filter(|_| self.debug) else { return };
        let now = SystemTime::now();
        let mut lines = String::new();
        for step in steps {
            let time = now.checked_sub(last.at - step.at).unwrap_or(now);
            let mut add = |text: &str| lines += &self.line_at(time, Level::Debug, &one_line(text), &[]);
            add(&format!("{}, after {:.1?}", step.what, step.took));
            // A sentence of runc's that its users look for.
            if let What::Plan { filter: Some((_, flags)), .. } = step.what {
                add(&format!("seccomp filter flags: {flags}"));
            }
        }
        self.write_debug(&lines);
    }

    fn write_debug(&self, lines: &str) {
        if self.log.is_none() {
            return print(lines);
        }
        if let Err(why) = self.append(lines) {
            print(&format!("runb: warning: {why}\n"));
        }
    }

    fn line(&self, level: Level, text: &str, cleanup: &[String]) -> String {
        self.line_at(SystemTime::now(), level, text, cleanup)
    }

    fn line_at(&self, time: SystemTime, level: Level, text: &str, cleanup: &[String]) -> String {
        let time = humantime::format_rfc3339_seconds(time);
        let json = |text: &str| serde_json::Value::from(text).to_string();
        let level = level.name();
        match self.format {
            // logrus quotes as Go does, which for text on one line is as JSON does.
            Format::Text => format!("time=\"{time}\" level={level} msg={}\n", json(text)),
            Format::Json if cleanup.is_empty() => {
                format!("{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"}}\n", json(text))
            }
            Format::Json => format!(
                "{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\",\"cleanup\":{}}}\n",
                json(text),
                serde_json::Value::from(cleanup)
            ),
        }
    }

    /// One write, so that lines of several runtimes do not mix. Who does not read a FIFO does not hold the call up.
    fn append(&self, lines: &str) -> Result<(), String> {
        let Some(path) = &self.log else { return Ok(()) };
        let mut options = OpenOptions::new();
        // O_NONBLOCK: a FIFO without a reader gives ENXIO instead of waiting (fifo(7)).
        let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
        let file = options.append(true).create(true).mode(0o644).custom_flags(flags).open(path);
        let write = |file| output::write(file, lines.as_bytes(), Wait::Until(Instant::now() + PATIENCE));
        file.and_then(|file: File| write(file).map_err(std::io::Error::from))
            .map_err(|error| format!("--log {}: {error}", path.display()))
    }
}

/// stderr may be closed: then nobody listens.
fn print(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes()).ok();
}

/// The exit code of a verb that failed: runc's. An engine tells a failing `exec` of the runtime from one of the command
/// by 255; no kind of error has a code of its own.
pub fn exit_code(verb: Option<&str>) -> u8 {
    if verb == Some("exec") { 255 } else { 1 }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use runb_core::Kind;
    use serde_json::Value;

    use super::*;

    fn report(log: PathBuf, format: Format) -> Report {
        let global = Global { log: Some(log), log_format: format, ..Global::default() };
        Report::new(&global, Some("create"), Some("web1"), Account::default())
    }

    fn failure() -> anyhow::Error {
        let cleanup = Error::io("rmdir /sys/fs/cgroup/x", &Errno::EBUSY.into());
        Error::io("exec: \"/no\\such\n\": stat", &Errno::ENOENT.into()).and_cleanup(cleanup).into()
    }

    #[test]
    fn an_errno_is_told_in_the_same_words_wherever_it_comes_from() {
        use anyhow::Context;
        let expected = "write to stdout: broken pipe (EPIPE)";
        let of_nix = Err::<(), _>(Errno::EPIPE).context("write to stdout").unwrap_err();
        let of_std = Err::<(), _>(std::io::Error::from(Errno::EPIPE)).context("write to stdout").unwrap_err();
        let librarys = Error::io("write to stdout", &Errno::EPIPE.into()).into();
        assert_eq!([of_nix, of_std, librarys].map(|error| chain(&error)), [expected; 3]);
        let text = chain(&Err::<(), _>(failure()).context("first").unwrap_err());
        assert!(text.starts_with("first: exec: ") && text.ends_with("(ENOENT)"), "{text}");
    }

    #[test]
    fn an_option_has_the_name_of_its_flag() {
        let error = Error::new(Kind::Host, "connect to /x").at("options.console_socket");
        assert_eq!(by_flag(&error.to_string()), "--console-socket: connect to /x");
        assert_eq!(by_flag("options.cgroups: \"x\": y"), "--cgroup: \"x\": y");
        assert_eq!(by_flag("mounts[0]: options.x: y"), "mounts[0]: options.x: y");
    }

    #[test]
    fn a_fresh_json_log_is_one_object_with_level_msg_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log.json");
        let text = report(log.clone(), Format::Json).error(&failure());
        let object: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!(object["level"], "error");
        assert_eq!(object["msg"], text.as_str());
        assert_eq!(text, "exec: \"/no\\such\\n\": stat: no such file or directory (ENOENT)");
        assert_eq!(object["cleanup"][0], "rmdir /sys/fs/cgroup/x: device or resource busy (EBUSY)");
        humantime::parse_rfc3339(object["time"].as_str().unwrap()).unwrap();
    }

    #[test]
    fn a_log_that_exists_is_appended_to_and_the_error_is_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "old\n").unwrap();
        report(log.clone(), Format::Text).error(&failure());
        let text = std::fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "old");
        assert!(lines[1].contains("level=warning msg=\"clean-up: rmdir"), "{text}");
        assert!(lines[2].contains("level=error msg=\"exec: "), "{text}");
    }

    #[test]
    fn debug_lines_are_written_only_with_debug() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut report = report(log.clone(), Format::Json);
        report.debug("x");
        assert!(!log.exists());
        report.debug = true;
        report.debug("x");
        let line: Value = serde_json::from_str(&std::fs::read_to_string(&log).unwrap()).unwrap();
        assert_eq!((&line["level"], &line["msg"]), (&Value::from("debug"), &Value::from("x")));
    }

    #[test]
    fn a_failing_exec_ends_with_255_and_other_verbs_with_1() {
        assert_eq!(exit_code(Some("exec")), 255);
        assert_eq!(exit_code(Some("create")), 1);
        assert_eq!(exit_code(None), 1);
    }
}
