//! The runtime under test, and what one call of it came to.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::host::Test;
use crate::wait;

/// Which program is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Runb,
    /// opencontainers/runc.
    Runc,
    /// containers/crun.
    Crun,
}

/// The program under test.
pub struct Runtime {
    path: PathBuf,
    kind: Kind,
}

impl Runtime {
    /// The one that `RUNB_UNDER_TEST` names; by default the workspace's `runb`, built if need be.
    pub fn under_test() -> &'static Runtime {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            let path = std::env::var_os("RUNB_UNDER_TEST").map_or_else(build, PathBuf::from);
            let path = path.canonicalize().unwrap_or_else(|error| panic!("the runtime {path:?}: {error}"));
            let output = Command::new(&path).arg("--version").env("RUNB_LOG", "off").output();
            let output = output.unwrap_or_else(|error| panic!("{path:?} --version: {error}"));
            let kind = match String::from_utf8_lossy(&output.stdout).split_whitespace().next() {
                Some("runc") => Kind::Runc,
                Some("crun") => Kind::Crun,
                _ => Kind::Runb,
            };
            Runtime { path, kind }
        })
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which one it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// Builds the workspace's `runb`, without changing anything if it is up to date.
fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--quiet", "-p", "runb-cli"]).current_dir(&workspace).status();
    assert!(status.expect("start cargo").success(), "runb does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join(concat!(env!("RUNB_TARGET"), "/debug/runb"))
}

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128+n when it was killed by signal n.
    pub code: i32,
    /// What it, and a workload that has its stdout, wrote.
    pub stdout: String,
    /// What it, and a workload that has its stderr, wrote.
    pub stderr: String,
    /// What it appended to `--log`.
    pub log: String,
    /// The file that is its stdout, for what a workload writes later.
    pub stdout_file: PathBuf,
}

impl Outcome {
    /// Runs `command` to its end.
    pub(crate) fn of(mut command: Command, test: &Test) -> Outcome {
        let outputs = Outputs::of(&mut command, test);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let ended = wait::process_end(child.id() as i32, wait::deadline());
        if !ended {
            child.kill().expect("kill the runtime");
        }
        let status = child.wait().expect("wait for the runtime");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().expect("a signal"));
        let outcome = outputs.outcome(code);
        assert!(ended, "{command:?} did not end within {:?}: {outcome:?}", wait::patience());
        outcome
    }

    /// The same, known to have ended well.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert_eq!(self.code, 0, "the call failed: {self:?}");
        self
    }

    /// The same, known to have failed with code 1, and with each of `texts` in its message.
    #[track_caller]
    pub fn fails_with(self, texts: &[&str]) -> Outcome {
        // crun passes a hook's failure on as 255.
        let peers = Runtime::under_test().kind() == Kind::Crun && self.code == 255;
        assert!(self.code == 1 || peers, "{self:?}");
        let message = self.message();
        for text in texts {
            assert!(message.contains(text), "{text:?} is not in the message {message:?}; {self:?}");
        }
        self
    }

    /// The message as containerd's shim finds it: the last line of `--log` with the level `error`.
    #[track_caller]
    pub fn message(&self) -> String {
        let lines = self.log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON in --log"));
        let error = lines.rev().find(|line| line["level"] == "error");
        let error = error.unwrap_or_else(|| panic!("no error in --log: {self:?}"));
        error["msg"].as_str().expect("msg is a string").to_owned()
    }

    /// stdout, parsed.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// stdout's lines.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}

/// Where a call of the runtime writes. Files: a workload that outlives the call keeps nobody waiting.
pub(crate) struct Outputs {
    stdout: PathBuf,
    stderr: PathBuf,
    log: PathBuf,
    log_before: String,
}

impl Outputs {
    /// Those of `command`, from now on.
    pub(crate) fn of(command: &mut Command, test: &Test) -> Outputs {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| test.dir().join(test.name(name)));
        command.stdin(Stdio::null()).stdout(output(&stdout)).stderr(output(&stderr));
        let log_before = fs::read_to_string(test.log()).unwrap_or_default();
        Outputs { stdout, stderr, log: test.log(), log_before }
    }

    /// What was written by a call that has ended with `code`.
    pub(crate) fn outcome(self, code: i32) -> Outcome {
        let Outputs { stdout, stderr, log, log_before } = self;
        let log = fs::read_to_string(log).unwrap_or_default();
        assert!(log.starts_with(&log_before), "--log was not appended to: {log_before:?}, then {log:?}");
        Outcome {
            code,
            stdout: text(&stdout),
            stderr: text(&stderr),
            log: log[log_before.len()..].to_owned(),
            stdout_file: stdout,
        }
    }
}

fn output(path: &Path) -> File {
    File::options().append(true).create_new(true).open(path).expect("make a file for an output")
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("read an output")).into_owned()
}
