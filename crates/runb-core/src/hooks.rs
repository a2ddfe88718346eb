//! Running hooks: config.md "POSIX-platform Hooks". A hook is spawned as init is, by a program of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::{Hook, Hooks};
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::hearing::{Said, pair, reap, receive};
use crate::plan::program::Program;
use crate::plan::signals;
use crate::state::{Saved, Status};
use crate::sys;
use crate::sys::spawn::{self, Spawn};

/// How much of a hook's output an error carries: its end, in bytes.
const OUTPUT: u64 = 4096;

/// Where hooks run.
#[derive(Clone, Copy, Debug)]
pub enum Namespaces<'a> {
    /// The runtime's, with the bundle as the working directory.
    Runtime(&'a Path),
    /// The container's: those of the process, by `CLONE_NEW*` flags.
    Container(i32, u64),
}

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

/// Runs the hooks of `kind` in order, up to the first that fails.
///
/// # Errors
/// Names the hook, how it ended, and the end of its output.
pub fn run_all(hooks: Option<&Hooks>, kind: &str, state: &[u8], namespaces: Namespaces<'_>) -> Result<()> {
    for (i, hook) in of_kind(hooks, kind).iter().enumerate() {
        let place = format!("hooks.{kind}[{i}] ({})", hook.path().display());
        run(hook, state, namespaces).map_err(|e| e.with_kind(Kind::Hook).at(place))?;
    }
    Ok(())
}

/// Runs the hooks of `kind` in order, all of them, and returns what failed.
pub fn run_each(hooks: Option<&Hooks>, kind: &str, state: &[u8], namespaces: Namespaces<'_>) -> Vec<Error> {
    let list = of_kind(hooks, kind).iter().enumerate();
    let named = |(i, hook): (usize, &Hook)| {
        let place = format!("hooks.{kind}[{i}] ({})", hook.path().display());
        run(hook, state, namespaces).err().map(|e| e.with_kind(Kind::Hook).at(place))
    };
    list.filter_map(named).collect()
}

fn host(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::host(call, errno)
}

fn program(hook: &Hook, namespaces: Namespaces<'_>) -> Program {
    let mut p = Program::new(3);
    match namespaces {
        Namespaces::Runtime(bundle) => {
            p.doing("chdir to the bundle");
            let path = p.text(bundle.as_os_str().as_encoded_bytes());
            p.call(libc::SYS_chdir, &[path.into()]);
        }
        Namespaces::Container(pid, flags) => {
            p.call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()]);
            let process = p.call(libc::SYS_pidfd_open, &[pid.into(), 0.into()]).out();
            p.call(libc::SYS_setns, &[process.into(), flags.into()]);
            if flags & libc::CLONE_NEWPID as u64 != 0 {
                p.twin();
            }
        }
    }
    p.call(libc::SYS_close_range, &[4.into(), u64::from(u32::MAX).into(), 0.into()]);
    let flags = p.report();
    p.call(libc::SYS_fcntl, &[flags.into(), libc::F_SETFD.into(), libc::FD_CLOEXEC.into()]);
    signals(&mut p);
    p.doing("execve");
    let path = p.text(hook.path().as_os_str().as_encoded_bytes());
    let name = vec![hook.path().display().to_string()];
    let args = p.strings(hook.args().as_ref().filter(|args| !args.is_empty()).unwrap_or(&name));
    let env = p.strings(hook.env().as_deref().unwrap_or_default());
    p.call(libc::SYS_execve, &[path.into(), args.into(), env.into()]);
    p
}

/// Files in memory for its input and output: a hook that leaves a child behind with its output open holds nobody up.
fn memory_file(text: &[u8]) -> Result<File> {
    let mut file = File::from(memfd_create(c"runb-hook", MFdFlags::MFD_CLOEXEC).map_err(host("memfd_create"))?);
    file.write_all(text).and_then(|()| file.rewind()).map_err(|e| Error::io("write the state for a hook", &e))?;
    Ok(file)
}

fn run(hook: &Hook, state: &[u8], namespaces: Namespaces<'_>) -> Result<()> {
    let program = program(hook, namespaces);
    let (input, mut output) = (memory_file(state)?, memory_file(b"")?);
    let (ours, theirs) = pair()?;
    let executable = spawn::executable(&program.image()).map_err(|(call, errno)| Error::host(call, errno))?;
    let spawned = spawn::spawn(&Spawn {
        namespaces: 0,
        cgroup: None,
        executable: executable.as_fd(),
        socket: theirs.as_fd(),
        more: None,
        preserve: 0,
        stdio: Some([input.as_fd(), output.as_fd(), output.as_fd()]),
    })
    .map_err(|(call, errno)| Error::host(call, errno))?;
    drop(theirs);
    let (mut pid, mut pidfd) = (spawned.pid, spawned.pidfd);
    loop {
        match receive(&ours)? {
            Said::Gone => break,
            Said::Failed(report) => {
                let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
                reap(pid)?;
                let what = program.what(report.call.into());
                return Err(Error::new(Kind::Hook, what).with_errno(Errno::from_raw(report.errno)));
            }
            Said::Twin { pid: twin, maker } if maker == pid => {
                reap(pid)?;
                (pid, pidfd) = (twin, sys::pidfd_open(twin).map_err(host("pidfd_open"))?);
            }
            other => {
                let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
                reap(pid)?;
                return Err(Error::internal(format!("a hook's process said {other:?} out of turn")));
            }
        }
    }
    let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    if !ends(&pidfd, timeout.map(Duration::from_secs))? {
        let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
        reap(pid)?;
        let text = format!("timeout: it did not end within {} s, and was killed", timeout.unwrap_or(0));
        return Err(failed(text, &mut output));
    }
    match reap(pid)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(failed(format!("exit status {code}"), &mut output)),
        WaitStatus::Signaled(_, signal, _) => Err(failed(format!("killed by {signal}"), &mut output)),
        other => Err(Error::internal(format!("a hook ended as {other:?}"))),
    }
}

/// Waits for the end of a process; false if the time ran out.
fn ends(pidfd: &OwnedFd, timeout: Option<Duration>) -> Result<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let wait = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, wait) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => return Ok(true),
            Err(errno) => return Err(Error::host("poll", errno)),
        }
    }
}

fn failed(how: String, output: &mut File) -> Error {
    let length = output.metadata().map_or(0, |meta| meta.len());
    let mut text = Vec::new();
    let read = output
        .seek(SeekFrom::Start(length.saturating_sub(OUTPUT)))
        .and_then(|_| output.take(OUTPUT).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match read {
        Ok(_) if !lines.is_empty() => Error::new(Kind::Hook, format!("{how}: {}", lines.join(" | "))),
        _ => Error::new(Kind::Hook, how),
    }
}
