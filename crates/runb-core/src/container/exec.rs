//! One more process in a container: what `exec` does.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::pidfd_socket::PidfdSocket;
use super::{Container, Workload, planned_step, traced};
use crate::child::Child;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::host::cgroups::CgroupMounts;
use crate::launch::{self, Context, Executed, Target};
use crate::options::{ExecOptions, Paused};
use crate::plan::exec::{self, ExecPlan, Inside, Request};
use crate::resctrl::Groups;
use crate::state::{self, ProcessRef, Saved, Status};
use crate::survey::Survey;
use crate::terminal::{ConsoleSocket, Master};
use crate::trace::{Step, Trace, What};

/// A process that was started in a container.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exec {
    /// The process.
    pub workload: Workload,
    /// What was odd, and no error.
    pub warnings: Vec<String>,
    /// What was done, and how long it took.
    pub steps: Vec<Step>,
}

impl Container {
    /// Starts another process in the container: `exec`. It is a child of the calling process.
    ///
    /// # Errors
    /// The container does not run; the process is wrong; a call failed. Nothing is left of the process then.
    pub fn exec(&self, options: &ExecOptions) -> Result<Exec> {
        let ((workload, warnings), steps) = traced(|trace| self.add(options, trace))?;
        Ok(Exec { workload, warnings, steps })
    }

    fn add(&self, options: &ExecOptions, trace: &mut Trace) -> Result<(Workload, Vec<String>)> {
        super::create::check_descriptors(options.preserve_fds)?;
        let (init, pidfd, status) = self.joinable(options.paused)?;
        let spec = self.config()?;
        trace.done(What::Loaded);
        let (process, mut warnings) = exec::process(&spec, options)?;
        trace.done(What::Process { args: process.args().clone().unwrap_or_default() });
        super::create::console_fits(Some(&process), options.caller, options.console_socket.as_deref())?;
        let host = Host::probe_processes()?;
        // A setns by the pidfd succeeds only while init lives: then what was seen at its pid before was init's.
        let survey = Survey::of_exec(&process, init.pid, self.saved.namespaces);
        let plan = exec::exec(&Request {
            spec: &spec,
            process: &process,
            inside: &inside(&self.saved),
            host: &host,
            survey: &survey,
            options,
            hook: None,
        })?;
        trace.done(planned_step(&plan.program, plan.filter.as_ref()));
        let socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
        let listener = launch::listener::connect_to(plan.filter.as_ref())?;
        let console = options.console_socket.as_deref().map(ConsoleSocket::connect).transpose()?;
        let terminal = |master: &Master| match &console {
            Some(console) => console.send(master),
            None => super::console::prepare(master),
        };
        let network = &|_| Ok(());
        let meanwhile = options.meanwhile.as_ref();
        let context =
            Context { hooks: None, saved: &self.saved, status, listener, network, terminal: &terminal, meanwhile };
        let target = Target { init: pidfd.as_fd(), cgroup: None, preserve: options.preserve_fds, stdio: None };
        let running = join(&self.saved, &plan, target, init, &options.cgroups)?;
        trace.done(What::Clone { pid: running.pid() });
        let Executed { process, terminal } = running.until_executed(&plan, context, trace)?;
        trace.done(What::Executed);
        announce(&process, options, socket.as_ref())?;
        warnings.extend(plan.warnings);
        let (pid, pidfd) = process.release();
        let terminal = terminal.filter(|_| console.is_none());
        Ok((Workload { pid, pidfd, terminal, readiness: None }, warnings))
    }

    /// The container's init with a pidfd of it, if processes can be added.
    fn joinable(&self, paused: Paused) -> Result<(ProcessRef, OwnedFd, Status)> {
        let refused = |text: &str| Err(Error::new(Kind::State, text));
        let opened = self.saved.init_fd()?;
        let lives = |init: &ProcessRef| match self.saved.init == Some(*init) {
            true => opened.is_some(),
            false => init.is_alive(),
        };
        let status = self.status_by(lives);
        match (status, self.saved.init, opened) {
            // Its mounts may still be the host's.
            (Status::Creating, ..) => refused("cannot exec in a container in the creating state"),
            (Status::Paused, ..) if paused == Paused::Refuse => refused("cannot exec in a paused container"),
            (Status::Created | Status::Running | Status::Paused, Some(init), Some((_, pidfd))) => {
                Ok((init, pidfd, status))
            }
            _ => refused("cannot exec in a stopped container"),
        }
    }
}

/// The container as a later process finds it.
pub(super) fn inside(saved: &Saved) -> Inside<'_> {
    let Saved { id, namespaces, init, keyring, cgroup, resctrl, .. } = saved;
    Inside {
        id,
        namespaces: *namespaces,
        init: init.map_or(0, |init| init.pid),
        keyring: *keyring,
        unified: cgroup.unified.as_deref(),
        resctrl: resctrl.as_ref().map(Groups::joined).unwrap_or_default(),
        v1: cgroup.v1.iter().map(|dir| (dir.controllers.as_slice(), dir.path.as_path())).collect(),
    }
}

/// Into the planned cgroup; or, unless the caller has named one, into that of init where the planned one takes no more
/// processes: on version 2 a cgroup that gives controllers to those below it has none of its own.
pub(super) fn join<'p>(
    saved: &Saved,
    plan: &'p ExecPlan,
    target: Target<'_>,
    init: ProcessRef,
    named: &[String],
) -> Result<launch::Running<'p>> {
    let join = |path: Option<&Path>| {
        let cgroup = path.map(launch::open_cgroup).transpose().map_err(|error| error.during(ADDING))?;
        let target = Target { cgroup: cgroup.as_ref().map(AsFd::as_fd), ..target };
        let text = |path: &Path| format!("{ADDING}: {}", path.display());
        launch::join(plan, &target, &saved.cgroup).map_err(|error| match path {
            Some(path) if error.nix_errno().is_some_and(is_of_cgroup) => error.during(text(path)),
            _ => error,
        })
    };
    let result = join(plan.unified.as_deref());
    let planned = plan.unified.as_ref().filter(|_| named.is_empty());
    match (&result, planned) {
        (Err(error), Some(planned)) if error.nix_errno().is_some_and(is_of_cgroup) => match cgroup_of(init)? {
            Some(actual) if actual != *planned => join(Some(&actual)),
            _ => result,
        },
        _ => result,
    }
}

/// What is done when a process joins a cgroup.
const ADDING: &str = "adding pid of the process to cgroups";

/// What a cgroup answers that takes no process: clone3(2), EBUSY and EOPNOTSUPP; one that is gone.
fn is_of_cgroup(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV)
}

/// The version 2 cgroup that init is in now.
fn cgroup_of(init: ProcessRef) -> Result<Option<PathBuf>> {
    let file = format!("/proc/{}/cgroup", init.pid);
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io(format!("read {file}"), &e))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let unified = match CgroupMounts::probe()? {
        CgroupMounts::V2(unified) => Some(unified),
        CgroupMounts::V1 { unified, .. } => unified,
        CgroupMounts::None => None,
    };
    Ok(path.filter(|path| !path.starts_with("../")).zip(unified).map(|(path, unified)| unified.mountpoint.join(path)))
}

/// Tells the caller who the process is.
fn announce(process: &Child, options: &ExecOptions, socket: Option<&PidfdSocket>) -> Result<()> {
    if let Some(file) = &options.pid_file {
        state::write_whole(file, process.pid.to_string().as_bytes()).map_err(|e| e.at("options.pid_file"))?;
    }
    socket.zip(process.pidfd()).map_or(Ok(()), |(socket, pidfd)| socket.send(pidfd))
}
