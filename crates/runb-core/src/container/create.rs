//! `create` and `run`: a container from its bundle, or nothing.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use oci_spec::runtime::Process;

use super::cgroups::Cgroups;
use super::console;
use super::pidfd_socket::PidfdSocket;
use super::planned::{Read, complete, probe};
use super::{Container, Running, Workload, hooks, planned_step, traced};
use crate::cgroup::{Cgroup, Made, Own};
use crate::error::{Error, Kind, Result};
use crate::hearing::{deadline, reap};
use crate::host::Host;
use crate::launch::{self, Ahead, Context};
use crate::network::{self, Inside};
use crate::notify::{self, Readiness};
use crate::options::{Caller, Options};
use crate::plan::cgroup::{CgroupPlan, LastLimit};
use crate::plan::{Ending, Outline, Plan};
use crate::resctrl;
use crate::state::{self, Phase, ProcessRef, Saved, StateDir, Status};
use crate::sys;
use crate::terminal::{ConsoleSocket, Master};
use crate::trace::{Trace, What};
use crate::undo::{Ours, RootMount, Step};

/// What a launch has come to.
struct Launched {
    pid: i32,
    pidfd: OwnedFd,
    /// For a caller that waits.
    terminal: Option<Master>,
    readiness: Option<Readiness>,
}

/// What a launch works with.
struct Launch<'a> {
    options: &'a Options,
    host: &'a Host,
    read: &'a Read,
    /// What is odd and no error.
    warnings: Vec<String>,
    dir: StateDir,
    /// Its journal has what was made so far.
    saved: Saved,
    /// The network namespace that devices were moved into.
    inside: Option<Inside>,
    trace: &'a mut Trace,
}

/// What is to be preserved must be there.
pub(super) fn check_descriptors(kept: u32) -> Result<()> {
    if let Err(descriptor) = sys::descriptors_are_open(3, kept) {
        let text = format!("{kept} descriptors are to be preserved, and descriptor {descriptor} is not open");
        return Err(Error::new(Kind::Usage, text).with_errno(Errno::EBADF));
    }
    Ok(())
}

impl Container {
    /// Makes a container: `create`. It waits for [`Container::start`].
    ///
    /// # Errors
    /// What is wrong; nothing is left of the container then.
    pub fn create(options: &Options) -> Result<Container> {
        Container::launch(options, Ending::Fifo).map(|running| running.container)
    }

    /// Makes a container and starts it: `run`.
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn run(options: &Options) -> Result<Running> {
        Container::launch(options, Ending::Stop)
    }

    fn launch(options: &Options, ending: Ending) -> Result<Running> {
        let (mut running, steps) = traced(|trace| launch(options, ending, trace))?;
        running.container.steps = steps;
        Ok(running)
    }
}

/// How far the planning is when something is made.
enum Drawn {
    /// Init begins, and the rest is planned meanwhile.
    Outline(Outline),
    Whole(Box<Plan>),
}

/// Plans, launches, and takes everything back if it fails.
fn launch(options: &Options, ending: Ending, trace: &mut Trace) -> Result<Running> {
    check_descriptors(options.kept_descriptors())?;
    let host = probe(options)?;
    trace.done(What::Host);
    let read = Read::of(options, trace)?;
    let outline = read.outline(options, &host)?;
    let drawn = match outline.is_ahead() {
        true => Drawn::Outline(outline),
        false => {
            let plan = read.plan(outline, options, &host, ending)?;
            trace.done(planned_step(&plan.program, plan.filter.as_ref()));
            Drawn::Whole(Box::new(plan))
        }
    };
    console_fits(read.bundle.spec.process().as_ref(), options.caller, options.console_socket.as_deref())?;
    let dir = StateDir::create(&options.root, &options.id)?;
    let saved = match &drawn {
        Drawn::Outline(outline) => read.saved(options, outline.namespaces(), outline.cgroup(), &host),
        Drawn::Whole(plan) => complete(read.saved(options, (plan.namespaces, plan.made), &plan.cgroup, &host), plan),
    };
    let mut launch =
        Launch { options, host: &host, read: &read, warnings: Vec::new(), dir, saved, inside: None, trace };
    match launch.go(drawn, ending) {
        Ok(Launched { pid, pidfd, terminal, readiness }) => {
            let Launch { dir, saved, warnings, .. } = launch;
            Ok(Running {
                container: Container {
                    dir: dir.path().to_owned(),
                    saved,
                    warnings,
                    hook_environment: options.hook_environment.clone(),
                    steps: Vec::new(),
                },
                workload: Workload { pid, pidfd, terminal, readiness },
            })
        }
        Err(error) => {
            let Launch { dir, saved, inside, trace, .. } = launch;
            // Without an init nobody in the cgroups is this container's.
            let used = saved.init.is_some();
            Err(take_back((dir, saved), inside, used, trace, error))
        }
    }
}

/// Writes down who is init.
fn born(dir: &StateDir, pid: i32, init: &Cell<Option<ProcessRef>>) -> Result<()> {
    match ProcessRef::of(pid) {
        Ok(process) => {
            init.set(Some(process));
            dir.born(process)
        }
        // It has ended, and a program that ignores SIGCHLD keeps nothing of it; its twin, or its silence, tells more.
        Err(error) if error.nix_errno() == Some(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A terminal wants somebody who has its master, and only what leaves gives it away (as runc).
pub(super) fn console_fits(process: Option<&Process>, caller: Caller, socket: Option<&Path>) -> Result<()> {
    let wanted = process.is_some_and(|process| process.terminal() == Some(true));
    let text = match (wanted, caller, socket) {
        (true, Caller::Leaves, None) => "cannot allocate a tty for a detached container without a console socket",
        (false, _, Some(_)) => "cannot use a console socket: process.terminal is not true",
        (true, Caller::Waits, Some(_)) => {
            "cannot use a console socket in the foreground, where the caller has the terminal"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, text).at("process.terminal"))
}

impl Launch<'_> {
    fn go(&mut self, drawn: Drawn, ending: Ending) -> Result<Launched> {
        let console = self.options.console_socket.as_deref().map(ConsoleSocket::connect).transpose()?;
        let socket = self.options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
        let init = Cell::new(None);
        let result = self.until_ready(drawn, ending, &init);
        self.saved.init = init.get();
        let (plan, mut ready, readiness) = result?;
        self.saved.journal.find_mounts()?;
        let terminal = hand_over(ready.take_terminal(), self.options.caller, console.as_ref())?;
        self.tell(ready.pid())?;
        if let Some(socket) = &socket {
            socket.send(ready.pidfd())?;
        }
        self.saved.phase = Phase::Created;
        self.save()?;
        self.trace.done(What::Announced);
        let (pid, pidfd) = match ending {
            Ending::Fifo => ready.release(),
            Ending::Stop => self.start(ready, &plan)?,
        };
        Ok(Launched { pid, pidfd, terminal, readiness })
    }

    /// Makes everything, and goes with init to where it waits for the workload's start. `init` is told who that is as soon as there
    /// is one.
    fn until_ready(
        &mut self,
        drawn: Drawn,
        ending: Ending,
        init: &Cell<Option<ProcessRef>>,
    ) -> Result<(Plan, launch::Ready, Option<Readiness>)> {
        let (cgroup, listener) = match &drawn {
            Drawn::Outline(outline) => (Arc::clone(outline.cgroup()), None),
            Drawn::Whole(plan) => (Arc::clone(&plan.cgroup), launch::listener::connect_to(plan.filter.as_ref())?),
        };
        let cgroups = Cgroups::claim(&cgroup, self.options)?;
        self.announce(&cgroups, if let Drawn::Whole(plan) = &drawn { Some(plan) } else { None })?;
        let made = self.make_cgroups(&cgroups, &cgroup)?;
        let preserve = self.options.kept_descriptors();
        let (plan, ahead) = match drawn {
            Drawn::Whole(plan) => (*plan, None),
            Drawn::Outline(outline) => {
                let ahead = Ahead::spawn(&outline, made.as_ref(), preserve)?;
                born(&self.dir, ahead.pid(), init)?;
                self.trace.done(What::Clone { pid: ahead.pid() });
                let plan = self.read.plan(outline, self.options, self.host, ending)?;
                self.trace.done(planned_step(&plan.program, plan.filter.as_ref()));
                self.saved = complete(self.saved.clone(), &plan);
                (plan, Some(ahead))
            }
        };
        self.warnings = [self.read.bundle.warnings.as_slice(), plan.warnings.as_slice()].concat();
        self.dir.save_config(&self.read.bundle.text)?;
        if ending == Ending::Fifo {
            self.dir.make_fifo()?;
        }
        let readiness = self.readiness(ending)?;
        self.trace.done(What::Folder);
        let ready = self.launch(&plan, (ahead, made), &cgroups, listener, init)?;
        Ok((plan, ready, readiness))
    }

    /// Writes the intent: on disk before there is anything to take back.
    fn announce(&mut self, cgroups: &Cgroups<'_>, plan: Option<&Plan>) -> Result<()> {
        if self.saved.namespaces & libc::CLONE_NEWNS as u64 == 0 {
            self.saved.journal.add(Step::RootMount(RootMount::at(&self.saved.rootfs)?));
        }
        for group in plan.iter().flat_map(|plan| &plan.intel_rdt).flat_map(resctrl::to_be_made) {
            self.saved.journal.add(Step::Resctrl(group));
        }
        for device in network::look(plan.map_or(&[], |plan| &plan.net_devices))? {
            self.saved.journal.add(Step::NetDevice(device));
        }
        let mut intent = self.saved.clone();
        cgroups.intend(&mut intent);
        if let Some(file) = &self.options.pid_file {
            intent.journal.add(Step::PidFile(file.clone()));
        }
        self.dir.begin(&intent)
    }

    /// Makes the cgroups. Nobody can join a version 1 cpuset that is empty, and a memory policy is set for the nodes of the cpuset:
    /// then the limits come first. Else init works meanwhile.
    fn make_cgroups(&mut self, cgroups: &Cgroups<'_>, plan: &CgroupPlan) -> Result<Option<Made>> {
        let made = cgroups.make(&mut self.saved, self.trace)?;
        if let Some(made) = &made {
            self.trace.done(What::Cgroups);
            if self.limits_come_first(plan) {
                made.apply(plan)?;
                self.trace.done(What::Limits);
            }
        }
        Ok(made)
    }

    fn limits_come_first(&self, plan: &CgroupPlan) -> bool {
        let linux = self.read.bundle.spec.linux().as_ref();
        !plan.join.procs.is_empty() || linux.is_some_and(|linux| linux.memory_policy().is_some())
    }

    /// Launches init, or the rest of it, and goes through its stops.
    fn launch(
        &mut self,
        plan: &Plan,
        (ahead, made): (Option<Ahead>, Option<Made>),
        cgroups: &Cgroups<'_>,
        listener: Option<OwnedFd>,
        init: &Cell<Option<ProcessRef>>,
    ) -> Result<launch::Ready> {
        if let Some(intel_rdt) = &plan.intel_rdt {
            resctrl::make(intel_rdt)?;
        }
        let dir = &self.dir;
        let born = |pid| born(dir, pid, init);
        let inside = RefCell::new(None);
        let devices: Vec<_> = self.saved.journal.devices().into_iter().cloned().collect();
        let network = |pid| inside.borrow_mut().insert(Inside::of(pid)?).give(&devices);
        let first = self.limits_come_first(&plan.cgroup);
        let trace = &mut *self.trace;
        let running = match ahead {
            Some(ahead) => ahead.go_on(plan, made.as_ref(), &born),
            None => launch::spawn(plan, made.as_ref(), self.options.kept_descriptors(), &born)
                .inspect(|running| trace.done(What::Clone { pid: running.pid() })),
        };
        let ready = running.and_then(|running| {
            let running = match made {
                Some(made) if !first => {
                    made.apply(&plan.cgroup)?;
                    trace.done(What::Limits);
                    running
                }
                Some(_) => running,
                None => running.be_moved(trace, |init, trace| {
                    let made = cgroups.make_around(&mut self.saved, init, trace)?;
                    trace.done(What::Cgroups);
                    made.apply(&plan.cgroup)?;
                    trace.done(What::Limits);
                    Ok(made.cgroup)
                })?,
            };
            let context = Context {
                hooks: self.read.bundle.spec.hooks().as_ref().map(|hooks| (hooks, &self.options.hook_environment)),
                saved: &self.saved,
                status: Status::Creating,
                listener,
                network: &network,
                terminal: &|_| Ok(()),
                meanwhile: self.options.meanwhile.as_ref(),
            };
            running.until_ready(plan, context, trace)
        });
        self.inside = inside.into_inner();
        let ready = ready?;
        if let Some(last) = &plan.cgroup.last {
            self.limit(last)?;
        }
        Ok(ready)
    }

    /// Sets a limit that init did not pass on its way.
    fn limit(&mut self, LastLimit { write, told }: &LastLimit) -> Result<()> {
        if let (Some(unit), Some(told)) = (self.saved.journal.unit(), told) {
            unit.set_properties(std::slice::from_ref(told))?;
        }
        Cgroup::write_again(std::slice::from_ref(write))?;
        self.trace.done(What::Limits);
        Ok(())
    }

    /// Makes the folder that the workload finds the socket in; the socket itself when the workload is started.
    fn readiness(&self, ending: Ending) -> Result<Option<Readiness>> {
        let Some(callers) = &self.options.notify_socket else { return Ok(None) };
        notify::make_folder(self.dir.path())?;
        match ending {
            Ending::Fifo => Ok(None),
            Ending::Stop => Readiness::listen(self.dir.path(), callers).map(Some),
        }
    }

    /// Tells the caller who init is.
    fn tell(&mut self, pid: i32) -> Result<()> {
        let Some(file) = &self.options.pid_file else { return Ok(()) };
        self.saved.journal.add(Step::PidFile(file.clone()));
        state::write_whole(file, pid.to_string().as_bytes()).map_err(|e| e.at("options.pid_file"))
    }

    /// Writes state.json: the container is made.
    fn save(&mut self) -> Result<()> {
        let mut saved = self.saved.clone();
        saved.journal.settle();
        self.dir.save(&saved)
    }

    /// The start of a `run`.
    fn start(&mut self, ready: launch::Ready, plan: &Plan) -> Result<(i32, OwnedFd)> {
        let spec = &self.read.bundle.spec;
        if let Some(init) = self.saved.init {
            hooks::start_container(spec, &self.saved, (init, ready.pidfd().as_fd()), self.trace)?;
        }
        self.enter(Phase::Starting)?;
        let (pid, pidfd) = ready.execute(&plan.program)?;
        self.trace.done(What::Executed);
        let environment = &self.options.hook_environment;
        let result = self
            .enter(Phase::Running)
            .and_then(|()| hooks::poststart(spec.hooks().as_ref(), &self.saved, environment, self.trace));
        if let Err(error) = result {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
            let _ = reap(pid);
            return Err(error);
        }
        Ok((pid, pidfd))
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.saved.phase = phase;
        self.dir.enter(phase)
    }
}

/// Takes a failed launch back, of which somebody was in the cgroup, if it is `used`; what fails in that is said beside the cause.
pub(super) fn take_back(
    (dir, saved): (StateDir, Saved),
    inside: Option<Inside>,
    used: bool,
    trace: &mut Trace,
    mut error: Error,
) -> Error {
    trace.done(What::Failed);
    let mut note = |result: Result<()>| {
        if let Err(more) = result {
            error = std::mem::replace(&mut error, Error::internal("")).and_cleanup(more);
        }
    };
    if used {
        note(saved.cgroup.kill(deadline()));
    }
    let own = if used { Own::Used } else { Own::Unused };
    note(saved.journal.undo(Ours { init: saved.init.map(|init| init.pid), own, deadline: deadline() }, inside));
    note(dir.remove());
    if error.cleanup().is_empty() {
        trace.done(What::Removed);
    }
    error
}

/// Gives the terminal's master to whoever awaits it: the socket, if the caller leaves; else the caller.
pub(super) fn hand_over(
    master: Option<Master>,
    caller: Caller,
    console: Option<&ConsoleSocket>,
) -> Result<Option<Master>> {
    match (master, console) {
        (Some(master), _) if caller == Caller::Waits => console::prepare(&master).map(|()| Some(master)),
        (Some(master), Some(console)) => console.send(&master).map(|()| None),
        _ => Ok(None),
    }
}
