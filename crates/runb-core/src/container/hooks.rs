//! The hooks that run when the container exists: startContainer as a process of the container, the others beside the runtime.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use oci_spec::runtime::{Hook, Hooks, Spec};

use super::exec::inside;
use super::joining::join;
use crate::error::{Error, Kind, Result};
use crate::hooks::{self, Finished, Streams};
use crate::host::Host;
use crate::launch::{Context, Target, listener};
use crate::options::{ExecOptions, HookEnvironment};
use crate::plan::exec::{self, Request};
use crate::state::{ProcessRef, Saved, Status};
use crate::survey::Survey;
use crate::trace::Trace;

/// Runs the startContainer hooks of a container whose init waits for a later call.
///
/// # Errors
/// A hook fails, or cannot be made; init has ended.
pub(super) fn start_container_of(spec: &Spec, saved: &Saved, trace: &mut Trace) -> Result<()> {
    let list = spec.hooks().as_ref();
    if hooks::of_kind(list, "startContainer").is_empty() {
        return Ok(());
    }
    let (Some(init), Some((_, pidfd))) = (saved.init, saved.init_fd()?) else {
        return Err(Error::new(Kind::State, "cannot start a container that has stopped"));
    };
    start_container(spec, saved, (init, pidfd.as_fd()), trace)
}

/// Runs the startContainer hooks. The descriptor is proven to be a pidfd of init.
///
/// # Errors
/// A hook fails, or cannot be made.
pub(super) fn start_container(
    spec: &Spec,
    saved: &Saved,
    (init, pidfd): (ProcessRef, BorrowedFd<'_>),
    trace: &mut Trace,
) -> Result<()> {
    let list = spec.hooks().as_ref();
    if hooks::of_kind(list, "startContainer").is_empty() {
        return Ok(());
    }
    let inner = if saved.namespaces & libc::CLONE_NEWPID as u64 != 0 { 1 } else { init.pid };
    let state = hooks::state(saved, Status::Created, inner)?;
    hooks::run_all(list, "startContainer", trace, |hook| run(hook, spec, saved, (init, pidfd), &state))
}

/// A startContainer hook is a file of the container: it is executed with all that its process has, and no more.
fn run(
    hook: &Hook,
    spec: &Spec,
    saved: &Saved,
    (init, pidfd): (ProcessRef, BorrowedFd<'_>),
    state: &[u8],
) -> Result<Finished> {
    let process = exec::hook_process(spec)?;
    let host = Host::probe_processes()?;
    let survey = Survey::of_hook(&process, init.pid, saved.namespaces);
    let options = ExecOptions::default();
    let inside = inside(saved);
    let (process, inside, host, survey, options) = (&process, &inside, &host, &survey, &options);
    let request = Request { spec, process, inside, host, survey, options, hook: Some(hook), moved: false };
    let plan = exec::exec(&request)?;
    let listener = listener::connect_to(plan.filter.as_ref())?;
    let streams = Streams::of(state)?;
    let target = Target { init: pidfd, cgroup: None, preserve: 0, stdio: Some(streams.stdio()) };
    // Its steps are the hook's own: what is told is how long the hook took.
    let (moved, mut steps) = (OnceCell::new(), Trace::begin());
    let running = join(saved, (&plan, &moved), &request, target, init, &mut steps)?;
    let context = Context {
        hooks: None,
        saved,
        status: Status::Created,
        listener,
        network: &|_| Ok(()),
        terminal: &|_| Ok(()),
        meanwhile: None,
    };
    let executed = running.until_executed(&plan, context, &mut steps)?;
    hooks::finish(hook, executed.process, streams, Some(pidfd))
}

/// Runs the poststart hooks.
///
/// # Errors
/// A hook fails.
pub(super) fn poststart(
    list: Option<&Hooks>,
    saved: &Saved,
    environment: &HookEnvironment,
    trace: &mut Trace,
) -> Result<()> {
    if hooks::of_kind(list, "poststart").is_empty() {
        return Ok(());
    }
    let pid = saved.init.map_or(0, |init| init.pid);
    let state = hooks::state(saved, Status::Running, pid)?;
    hooks::run_all(list, "poststart", trace, |hook| {
        hooks::run_in_runtime(hook, &saved.bundle, environment, &state, None)
    })
}

/// Runs the poststop hooks. A failing one is warned about, and the others run (runtime.md, lifecycle step 13).
pub(super) fn poststop(
    list: Option<&Hooks>,
    saved: &Saved,
    environment: &HookEnvironment,
    trace: &mut Trace,
) -> Vec<Error> {
    if hooks::of_kind(list, "poststop").is_empty() {
        return Vec::new();
    }
    match hooks::state(saved, Status::Stopped, 0) {
        Ok(state) => hooks::run_each(list, "poststop", trace, |hook| {
            hooks::run_in_runtime(hook, &saved.bundle, environment, &state, None)
        }),
        Err(error) => vec![error],
    }
}
