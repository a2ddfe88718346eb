//! One more process in a container: what `exec` does.

use std::cell::OnceCell;
use std::os::fd::{AsFd, OwnedFd};

use super::joining::join;
use super::pidfd_socket::PidfdSocket;
use super::{Container, Workload, planned_step, traced};
use crate::child::Child;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::launch::{self, Context, Executed, Target};
use crate::options::{ExecOptions, Paused};
use crate::plan::exec::{self, Inside, Request};
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
        let inside = inside(&self.saved);
        let (spec, process, inside, host, survey) = (&spec, &process, &inside, &host, &survey);
        let request = Request { spec, process, inside, host, survey, options, hook: None, moved: false };
        let plan = exec::exec(&request)?;
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
        let moved = OnceCell::new();
        let running = join(&self.saved, (&plan, &moved), &request, target, init, trace)?;
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

/// Tells the caller who the process is.
fn announce(process: &Child, options: &ExecOptions, socket: Option<&PidfdSocket>) -> Result<()> {
    if let Some(file) = &options.pid_file {
        state::write_whole(file, process.pid.to_string().as_bytes()).map_err(|e| e.at("options.pid_file"))?;
    }
    socket.zip(process.pidfd()).map_or(Ok(()), |(socket, pidfd)| socket.send(pidfd))
}
