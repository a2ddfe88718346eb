//! Running hooks: config.md "POSIX-platform Hooks". A hook is spawned as init is, by a program of its own
//! ([`crate::plan::hooks`]).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::{Hook, Hooks};
use runb_init::Point;
use serde::Serialize;

use crate::child::{Child, Place};
use crate::error::{Error, Kind, Result};
use crate::hearing::{Said, receive_or_end};
use crate::options::HookEnvironment;
use crate::plan;
use crate::plan::program::Program;
use crate::signal::killed_by;
use crate::state::{Saved, Status};
use crate::trace::{Trace, What};

/// How much of a hook's output is kept: its end, in bytes.
const OUTPUT: u64 = 4096;

/// The state that a hook reads from its stdin (runtime.md, "State").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    pid: i32,
    bundle: &'a Path,
    annotations: &'a std::collections::HashMap<String, String>,
}

/// The text that a hook reads from its stdin.
pub fn state(saved: &Saved, status: Status, pid: i32) -> Result<Vec<u8>> {
    let state = State {
        oci_version: &saved.oci_version,
        id: &saved.id,
        status,
        pid,
        bundle: &saved.bundle,
        annotations: &saved.annotations,
    };
    serde_json::to_vec(&state).map_err(|e| Error::internal(format!("the state for hooks: {e}")))
}

/// What a seccomp listener gets beside its descriptor (config-linux.md, "The Container Process State").
pub(crate) fn process_state(saved: &Saved, status: Status, pid: i32, metadata: Option<&str>) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ProcessState<'a> {
        oci_version: &'a str,
        fds: [&'static str; 1],
        pid: i32,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a str>,
        state: State<'a>,
    }
    let state = State {
        oci_version: &saved.oci_version,
        id: &saved.id,
        status,
        pid: saved.init.map_or(pid, |init| init.pid),
        bundle: &saved.bundle,
        annotations: &saved.annotations,
    };
    let state = ProcessState { oci_version: &saved.oci_version, fds: ["seccompFd"], pid, metadata, state };
    serde_json::to_vec(&state).map_err(|e| Error::internal(format!("the container process state: {e}")))
}

/// The list of a kind, with its name.
pub fn of_kind<'a>(hooks: Option<&'a Hooks>, kind: &str) -> &'a [Hook] {
    let kinds = hooks.map(crate::plan::hook_kinds);
    kinds.iter().flatten().find(|(name, _)| *name == kind).and_then(|(_, list)| list.as_deref()).unwrap_or_default()
}

/// Runs the hooks of `kind` in order by `run`, up to the first that fails.
///
/// # Errors
/// Names the hook, how it ended, and the end of its output.
pub(crate) fn run_all(
    hooks: Option<&Hooks>,
    kind: &'static str,
    trace: &mut Trace,
    mut run: impl FnMut(&Hook) -> Result<Finished>,
) -> Result<()> {
    for (i, hook) in of_kind(hooks, kind).iter().enumerate() {
        run_one((kind, i, hook), trace, &mut run)?;
    }
    Ok(())
}

/// Runs the hooks of `kind` in order by `run`, all of them, and returns what failed.
pub(crate) fn run_each(
    hooks: Option<&Hooks>,
    kind: &'static str,
    trace: &mut Trace,
    mut run: impl FnMut(&Hook) -> Result<Finished>,
) -> Vec<Error> {
    let list = of_kind(hooks, kind).iter().enumerate();
    list.filter_map(|(i, hook)| run_one((kind, i, hook), trace, &mut run).err()).collect()
}

fn run_one(
    (kind, index, hook): (&'static str, usize, &Hook),
    trace: &mut Trace,
    run: &mut impl FnMut(&Hook) -> Result<Finished>,
) -> Result<()> {
    let (status, output, result) = match run(hook) {
        Ok(finished) => (finished.status(), finished.output.join("\n"), finished.result()),
        Err(error) => (error.to_string(), String::new(), Err(error)),
    };
    trace.done(What::Hook { kind, index, path: hook.path().clone(), status, output });
    result.map_err(|error| named(kind, index, hook, error))
}

/// How a hook that was made has ended.
pub(crate) struct Finished {
    /// What is wrong with that; nothing, if all is well.
    fault: Option<String>,
    /// The last lines that it wrote.
    output: Vec<String>,
}

impl Finished {
    fn status(&self) -> String {
        self.fault.clone().unwrap_or_else(|| "exit status 0".to_owned())
    }

    fn result(self) -> Result<()> {
        match self.fault {
            None => Ok(()),
            Some(how) if self.output.is_empty() => Err(Error::new(Kind::Hook, how)),
            Some(how) => Err(Error::new(Kind::Hook, format!("{how}: {}", self.output.join(" | ")))),
        }
    }
}

/// Which hook it was; also where the call that failed came from another place.
fn named(kind: &str, i: usize, hook: &Hook, error: Error) -> Error {
    let place = format!("hooks.{kind}[{i}] ({})", hook.path().display());
    let error = error.with_kind(Kind::Hook).during(format_args!("error running {kind} hook #{i}"));
    if error.origin().is_some() { error.during(place) } else { error.at(place) }
}

/// What a hook reads, and what it says: files in memory, so that one that leaves a child behind with its output open holds
/// nobody up.
pub(crate) struct Streams {
    input: File,
    output: File,
}

impl Streams {
    /// With `state` to read.
    pub(crate) fn of(state: &[u8]) -> Result<Self> {
        Ok(Streams { input: memory_file(state)?, output: memory_file(b"")? })
    }

    /// The hook's descriptors 0, 1 and 2.
    pub(crate) fn stdio(&self) -> [BorrowedFd<'_>; 3] {
        [self.input.as_fd(), self.output.as_fd(), self.output.as_fd()]
    }
}

fn memory_file(text: &[u8]) -> Result<File> {
    let file = memfd_create(c"runb-hook", MFdFlags::MFD_CLOEXEC).map_err(|e| Error::host("memfd_create", e))?;
    let mut file = File::from(file);
    file.write_all(text).and_then(|()| file.rewind()).map_err(|e| Error::io("write the state for a hook", &e))?;
    Ok(file)
}

/// Which process a hook works for: with its end the hook is to end, too. None after the start, and for one that has ended.
pub(crate) type Serves<'a> = Option<BorrowedFd<'a>>;

/// Runs a hook in the runtime's namespaces, with `environment` if it names none.
///
/// # Errors
/// A call that makes it fails.
pub(crate) fn run_in_runtime(
    hook: &Hook,
    bundle: &Path,
    environment: &HookEnvironment,
    state: &[u8],
    serves: Serves<'_>,
) -> Result<Finished> {
    let streams = Streams::of(state)?;
    let place = Place { stdio: Some(streams.stdio()), ..Place::default() };
    let child = start(&plan::hooks::in_runtime(hook, bundle, environment), place, |_| Ok(()))?;
    finish(hook, child, streams, serves)
}

/// Starts the program of a hook. `work` is done with its process id where it stops for that.
///
/// # Errors
/// A call that makes it, or of it; `work` fails.
pub(crate) fn start(program: &Program, place: Place<'_>, work: impl Fn(i32) -> Result<()>) -> Result<Child> {
    let mut child = Child::spawn(program, place, "a hook")?;
    loop {
        let Some(pidfd) = child.pidfd() else { return Err(Error::internal("a hook that was killed")) };
        match receive_or_end(&child.socket, pidfd)? {
            Said::Gone => return Ok(child),
            Said::Failed(report) => {
                let what = program.what(report.call.into());
                let error = Error::new(Kind::Hook, what).with_errno(Errno::from_raw(report.errno));
                let place = program.place(report.call.into());
                return Err(if place.is_empty() { error } else { error.at(place) });
            }
            Said::Twin { pid, maker } if maker == child.pid => child.becomes(pid)?,
            Said::Reached(report) if report.point == Point::Cgroup as u8 => {
                work(child.pid)?;
                child.resume()?;
            }
            other => return Err(Error::internal(format!("a hook's process said {other:?} out of turn"))),
        }
    }
}

/// Waits for the end of a hook that was started.
///
/// # Errors
/// It cannot be waited for, or cannot be ended.
pub(crate) fn finish(hook: &Hook, mut child: Child, mut streams: Streams, serves: Serves<'_>) -> Result<Finished> {
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    let Some(pidfd) = child.pidfd() else { return Err(Error::internal("a hook that was killed")) };
    let killed = match ends(pidfd, serves, timeout.map(Duration::from_secs))? {
        End::Own => None,
        End::Timeout => Some(format!("timeout: it did not end within {} s, and was killed", timeout.unwrap_or(0))),
        End::Init => Some("init was killed meanwhile, and so was the hook".to_owned()),
    };
    let fault = match killed {
        Some(text) => {
            child.kill().map_err(|more| Error::new(Kind::Hook, &text).and_cleanup(more))?;
            Some(text)
        }
        None => match child.reap()? {
            WaitStatus::Exited(_, 0) => None,
            WaitStatus::Exited(_, code) => Some(format!("exit status {code}")),
            WaitStatus::Signaled(_, signal, _) => Some(killed_by(signal)),
            other => return Err(Error::internal(format!("a hook ended as {other:?}"))),
        },
    };
    Ok(Finished { fault, output: last_lines(&mut streams.output) })
}

/// What ended the wait for a hook.
enum End {
    /// Its own end.
    Own,
    /// The time ran out.
    Timeout,
    /// The end of the process that it serves.
    Init,
}

fn ends(pidfd: &OwnedFd, serves: Serves<'_>, timeout: Option<Duration>) -> Result<End> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(serves.map(|init| PollFd::new(init, PollFlags::POLLIN)));
        match poll(&mut fds, wait) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(End::Timeout),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) if fds[0].any() == Some(true) => return Ok(End::Own),
            Ok(_) => return Ok(End::Init),
            Err(errno) => return Err(Error::host("poll", errno)),
        }
    }
}

/// The end of what a hook wrote, without empty lines.
fn last_lines(output: &mut File) -> Vec<String> {
    let length = output.metadata().map_or(0, |meta| meta.len());
    if length == 0 {
        return Vec::new();
    }
    let mut text = Vec::new();
    let read = output
        .seek(SeekFrom::Start(length.saturating_sub(OUTPUT)))
        .and_then(|_| output.take(OUTPUT).read_to_end(&mut text));
    let text = if read.is_ok() { String::from_utf8_lossy(&text) } else { "".into() };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
