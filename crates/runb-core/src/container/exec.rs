//! One more process in a container: what `exec` does.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;

use super::pidfd_socket::PidfdSocket;
use super::{Container, Workload};
use crate::error::{Error, Kind, Result};
use crate::hearing::reap;
use crate::host::Host;
use crate::host::cgroups::CgroupMounts;
use crate::launch::{self, Context, Executed, Target};
use crate::options::{ExecOptions, Paused};
use crate::plan::exec::{self, ExecPlan, Inside, Request};
use crate::state::{self, ProcessRef, Saved, Status};
use crate::survey::Survey;
use crate::sys;
use crate::terminal::{ConsoleSocket, Master};

impl Container {
    /// Starts another process in the container: `exec`. It is a child of the calling process. What is odd and no error is
    /// beside it.
    ///
    /// # Errors
    /// The container does not run; the process is wrong; a call failed. Nothing is left of the process then.
    pub fn exec(&self, options: &ExecOptions) -> Result<(Workload, Vec<String>)> {
        super::check_descriptors(options.preserve_fds)?;
        let (init, pidfd, status) = self.joinable(options.paused)?;
        let spec = self.config()?;
        let (process, mut warnings) = exec::process(&spec, options)?;
        super::console_fits(Some(&process), options.caller, options.console_socket.as_deref())?;
        let host = Host::probe_processes()?;
        // A setns by the pidfd succeeds only while init lives: then what was seen at its pid before was init's.
        let survey = Survey::of_exec(&process, init.pid, self.saved.namespaces);
        let plan = exec::exec(&Request {
            spec: &spec,
            process: &process,
            inside: &self.inside(),
            host: &host,
            survey: &survey,
            options,
        })?;
        let socket = options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
        let listener = launch::listener::connect_to(plan.filter.as_ref())?;
        let console = options.console_socket.as_deref().map(ConsoleSocket::connect).transpose()?;
        let terminal = |master: &Master| match &console {
            Some(console) => console.send(master),
            None => super::console::prepare(master),
        };
        let context = Context { hooks: None, saved: &self.saved, status, listener, terminal: &terminal };
        let running = self.spawn(&plan, &pidfd, init, options)?;
        let Executed { pid, pidfd, terminal } = running.until_executed(&plan, context)?;
        let workload = Workload { pid, pidfd, terminal: terminal.filter(|_| console.is_none()), readiness: None };
        if let Err(error) = announce(&workload, options, socket.as_ref()) {
            let _ = sys::pidfd_send_signal(&workload.pidfd, libc::SIGKILL);
            let _ = reap(workload.pid);
            return Err(error);
        }
        warnings.extend(plan.warnings);
        Ok((workload, warnings))
    }

    fn inside(&self) -> Inside<'_> {
        let Saved { id, namespaces, keyring, cgroup, .. } = &self.saved;
        Inside {
            id,
            namespaces: *namespaces,
            keyring: *keyring,
            unified: cgroup.unified.as_deref(),
            v1: cgroup.v1.iter().map(|dir| (dir.controllers.as_slice(), dir.path.as_path())).collect(),
        }
    }

    /// The container's init with a pidfd of it, if processes can be added.
    fn joinable(&self, paused: Paused) -> Result<(ProcessRef, OwnedFd, Status)> {
        let stopped = || Error::new(Kind::State, "cannot exec in a stopped container");
        let Some(init) = self.saved.init else {
            return Err(Error::new(Kind::State, "cannot exec in a container in the creating state"));
        };
        // The pidfd first: what it is opened for cannot be replaced after the check.
        let pidfd = match sys::pidfd_open(init.pid) {
            Err(Errno::ESRCH) => return Err(stopped()),
            pidfd => pidfd.map_err(|errno| Error::host(format!("pidfd_open {}", init.pid), errno))?,
        };
        match self.status() {
            Status::Stopped => Err(stopped()),
            Status::Paused if paused == Paused::Refuse => {
                Err(Error::new(Kind::State, "cannot exec in a paused container (use --ignore-paused to override)"))
            }
            status => Ok((init, pidfd, status)),
        }
    }

    /// Into the planned cgroup; or, unless the caller has named one, into that of init where the planned one takes no more
    /// processes: on version 2 a cgroup that gives controllers to those below it has none of its own.
    fn spawn<'p>(
        &self,
        plan: &'p ExecPlan,
        init_fd: &OwnedFd,
        init: ProcessRef,
        options: &ExecOptions,
    ) -> Result<launch::Running<'p>> {
        let join = |path: Option<&Path>| {
            let cgroup = path.map(open_dir).transpose()?;
            let target = Target {
                init: init_fd.as_fd(),
                cgroup: cgroup.as_ref().map(AsFd::as_fd),
                preserve: options.preserve_fds,
            };
            let text = |path: &Path| format!("join the cgroup {}", path.display());
            launch::join(plan, &target, &self.saved.cgroup).map_err(|error| match path {
                Some(path) if error.errno().is_some_and(is_of_cgroup) => error.during(text(path)),
                _ => error,
            })
        };
        let result = join(plan.unified.as_deref());
        let planned = plan.unified.as_ref().filter(|_| options.cgroups.is_empty());
        match (&result, planned) {
            (Err(error), Some(planned)) if error.errno().is_some_and(is_of_cgroup) => match cgroup_of(init)? {
                Some(actual) if actual != *planned => join(Some(&actual)),
                _ => result,
            },
            _ => result,
        }
    }
}

/// What a cgroup answers that takes no process: clone3(2), EBUSY and EOPNOTSUPP; one that is gone.
fn is_of_cgroup(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV)
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::host(format!("open the cgroup {}", path.display()), errno))
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
fn announce(workload: &Workload, options: &ExecOptions, socket: Option<&PidfdSocket>) -> Result<()> {
    if let Some(file) = &options.pid_file {
        state::write_whole(file, workload.pid.to_string().as_bytes()).map_err(|e| e.during("--pid-file"))?;
    }
    socket.map_or(Ok(()), |socket| socket.send(&workload.pidfd))
}
