//! The handle of a container: make it, load it, start, signal, delete. What the verbs of the CLI call.

mod console;
mod exec;
mod foreground;
mod hooks;
mod pidfd_socket;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};
use runb_init::{REPORT_SIZE, Report};
use serde::Serialize;

use crate::cgroup::{self, Cgroup, FreezerState};
use crate::error::{Error, Kind, Result};
use crate::hearing::reap;
use crate::hooks::of_kind;
use crate::host::Host;
use crate::launch::{self, Context, deadline, late_failure, out_of_memory};
use crate::notify::{self, Readiness};
use crate::options::{Caller, HookEnvironment, Options};
use crate::plan::{self, Ending, Late, Plan, Request};
use crate::signal::Signal;
use crate::spec::Bundle;
use crate::state::{self, ProcessRef, Saved, StateDir, Status};
use crate::survey::Survey;
use crate::sys;
use crate::terminal::{ConsoleSocket, Master};
use crate::undo::Journal;

use pidfd_socket::PidfdSocket;

pub use foreground::{Foreground, Subreaper, Workload};

/// Which processes a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Init.
    Init,
    /// Every process in the container's cgroup.
    All,
}

/// Whether a container that runs is ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// It is an error.
    No,
    /// It is killed; one that does not exist is no error.
    Yes,
}

/// What `state` prints (runtime.md "State", and runc's fields).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Init's process id; 0 when stopped.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "std::collections::HashMap::is_empty")]
    pub annotations: std::collections::HashMap<String, String>,
    /// The user that created it.
    pub owner: String,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    saved: Saved,
    warnings: Vec<String>,
    hook_environment: HookEnvironment,
}

/// A container whose workload runs as this process's child.
#[derive(Debug)]
pub struct Running {
    container: Container,
    workload: Workload,
}

/// A plan with what it was made from.
#[derive(Debug)]
pub struct Planned {
    bundle: Bundle,
    rootfs: PathBuf,
    /// The plan.
    pub plan: Plan,
}

/// Reads the bundle of `options` and plans, without touching anything.
///
/// # Errors
/// The bundle or its configuration is wrong, or this machine cannot do what it asks for.
pub fn planned(options: &Options, host: &Host, ending: Ending) -> Result<Planned> {
    state::check_id(&options.id)?;
    let mut bundle = Bundle::load(&options.bundle)?;
    if options.notify_socket.is_some() {
        notify::add_to(&mut bundle.spec, &options.root.join(&options.id))?;
    }
    let rootfs = bundle.rootfs().unwrap_or_default();
    if bundle.spec.root().is_some() {
        check_rootfs(&bundle.spec, &rootfs)?;
    }
    let survey = Survey::of(&bundle.spec, &bundle.path, &rootfs, options.root_entry, host.mounts);
    let request = Request { spec: &bundle.spec, host, survey: &survey, options, bundle: &bundle.path, ending };
    let plan = plan::create(&request)?;
    Ok(Planned { bundle, rootfs, plan })
}

/// The root filesystem is a directory; where the runtime may not look, the root of a user namespace still may.
fn check_rootfs(spec: &Spec, rootfs: &Path) -> Result<()> {
    let namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref());
    let mapped = namespaces.flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    match fs::metadata(rootfs) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(e) if mapped && e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Ok(_) => Err(Error::host(format!("{} is no directory", rootfs.display()), Errno::ENOTDIR).at("root.path")),
        Err(e) => Err(Error::io(format!("stat {}", rootfs.display()), &e).at("root.path")),
    }
}

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
    planned: &'a Planned,
    dir: &'a StateDir,
    saved: Saved,
}

/// What is to be preserved must be there.
fn check_descriptors(kept: u32) -> Result<()> {
    if let Err(descriptor) = sys::descriptors_are_open(3, kept) {
        let text = format!("{kept} descriptors are to be preserved, and descriptor {descriptor} is not open");
        return Err(Error::new(Kind::Usage, text).with_errno(Errno::EBADF));
    }
    Ok(())
}

/// Plans, launches, and takes everything back if it fails.
fn launch(options: &Options, ending: Ending) -> Result<Running> {
    check_descriptors(options.kept_descriptors())?;
    let host = Host::probe()?;
    let planned = planned(options, &host, ending)?;
    console_fits(planned.bundle.spec.process().as_ref(), options.caller, options.console_socket.as_deref())?;
    let dir = StateDir::create(&options.root, &options.id)?;
    let saved = saved(options, &planned, &host);
    let mut launch = Launch { options, planned: &planned, dir: &dir, saved };
    let result = launch.go(ending);
    let saved = launch.saved;
    match result {
        Ok(Launched { pid, pidfd, terminal, readiness }) => {
            let warnings = [planned.bundle.warnings, planned.plan.warnings].concat();
            Ok(Running {
                container: Container {
                    dir: dir.path().to_owned(),
                    saved,
                    warnings,
                    hook_environment: options.hook_environment.clone(),
                },
                workload: Workload { pid, pidfd, terminal, readiness },
            })
        }
        Err(error) => Err(take_back(dir, &saved, options, error)),
    }
}

/// A terminal wants somebody who has its master, and only what leaves gives it away (as runc).
fn console_fits(process: Option<&Process>, caller: Caller, socket: Option<&Path>) -> Result<()> {
    let wanted = process.is_some_and(|process| process.terminal() == Some(true));
    let text = match (wanted, caller, socket) {
        (true, Caller::Leaves, None) => "cannot allocate a tty for a detached container without --console-socket",
        (false, _, Some(_)) => "cannot use --console-socket: process.terminal is not true",
        (true, Caller::Waits, Some(_)) => {
            "cannot use --console-socket in the foreground, where the caller has the terminal"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Usage, text).at("process.terminal"))
}

fn saved(options: &Options, planned: &Planned, host: &Host) -> Saved {
    let spec = &planned.bundle.spec;
    let later = ["startContainer", "poststart", "poststop"];
    Saved {
        oci_version: spec.version().clone(),
        id: options.id.clone(),
        bundle: planned.bundle.path.clone(),
        rootfs: planned.rootfs.clone(),
        created: Saved::now(),
        owner: host.ids.0,
        annotations: spec.annotations().clone().unwrap_or_default(),
        init: None,
        namespaces: planned.plan.namespaces,
        hooks: later.iter().any(|kind| !of_kind(spec.hooks().as_ref(), kind).is_empty()),
        cgroup: Cgroup::of(&planned.plan.cgroup),
        keyring: options.keyring,
        journal: Journal { cgroups: cgroup::missing(&planned.plan.cgroup) },
        late: planned.plan.late(),
    }
}

impl Launch<'_> {
    fn go(&mut self, ending: Ending) -> Result<Launched> {
        let plan = &self.planned.plan;
        let console = self.options.console_socket.as_deref().map(ConsoleSocket::connect).transpose()?;
        let listener = launch::listener::connect_to(plan.filter.as_ref())?;
        let socket = self.options.pidfd_socket.as_deref().map(PidfdSocket::connect).transpose()?;
        // The journal is on disk before there is anything to take back.
        self.dir.save_intent(&self.saved)?;
        self.dir.save_config(&self.planned.bundle.text)?;
        if ending == Ending::Fifo {
            self.dir.make_fifo()?;
        }
        let readiness = self.readiness(ending)?;
        let made = cgroup::make(&plan.cgroup)?;
        self.saved.cgroup = made.cgroup.clone();
        // Nobody can join a version 1 cpuset that is empty; on version 2 init works meanwhile.
        let before = !plan.cgroup.join.procs.is_empty();
        if before {
            made.apply(&plan.cgroup)?;
        }
        let running = launch::spawn(plan, &made, self.options.kept_descriptors())?;
        if !before {
            made.apply(&plan.cgroup)?;
        }
        if !plan.has_twin() {
            self.record(running.pid())?;
        }
        let context = Context {
            hooks: self.planned.bundle.spec.hooks().as_ref().map(|hooks| (hooks, &self.options.hook_environment)),
            saved: &self.saved,
            status: Status::Creating,
            listener,
            terminal: &|_| Ok(()),
        };
        let mut ready = running.until_ready(plan, context)?;
        let terminal = hand_over(ready.take_terminal(), self.options.caller, console)?;
        let pid = ready.pid();
        if plan.has_twin() {
            self.record(pid)?;
        }
        if let Some(file) = &self.options.pid_file {
            state::write_whole(file, pid.to_string().as_bytes()).map_err(|e| e.during("--pid-file"))?;
        }
        if let Some(socket) = &socket {
            socket.send(ready.pidfd())?;
        }
        let (pid, pidfd) = match ending {
            Ending::Fifo => ready.release(),
            Ending::Stop => self.start(ready)?,
        };
        Ok(Launched { pid, pidfd, terminal, readiness })
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

    /// Writes who init is.
    fn record(&mut self, pid: i32) -> Result<()> {
        self.saved.init = Some(ProcessRef::of(pid)?);
        self.dir.save(&self.saved)
    }

    /// The start of a `run`.
    fn start(&self, ready: launch::Ready) -> Result<(i32, OwnedFd)> {
        let spec = &self.planned.bundle.spec;
        if let Some(init) = self.saved.init {
            hooks::start_container(spec, &self.saved, init, ready.pidfd().as_fd())?;
        }
        let (pid, pidfd) = ready.execute(&self.planned.plan.program)?;
        if let Err(error) = hooks::poststart(spec.hooks().as_ref(), &self.saved, &self.options.hook_environment) {
            let _ = sys::pidfd_send_signal(&pidfd, libc::SIGKILL);
            let _ = reap(pid);
            return Err(error);
        }
        Ok((pid, pidfd))
    }
}

/// Gives the terminal's master to whoever awaits it: the socket, if the caller leaves; else the caller.
fn hand_over(master: Option<Master>, caller: Caller, console: Option<ConsoleSocket>) -> Result<Option<Master>> {
    match (master, console) {
        (Some(master), _) if caller == Caller::Waits => console::prepare(&master).map(|()| Some(master)),
        (Some(master), Some(console)) => console.send(&master).map(|()| None),
        _ => Ok(None),
    }
}

/// Takes a failed launch back; what fails in that is said beside the cause.
fn take_back(dir: StateDir, saved: &Saved, options: &Options, error: Error) -> Error {
    let mut error = error;
    let mut note = |result: Result<()>| {
        if let Err(more) = result {
            error = std::mem::replace(&mut error, Error::internal("")).and_cleanup(more);
        }
    };
    note(saved.cgroup.kill(deadline()));
    note(saved.journal.undo(deadline()));
    if let Some(file) = &options.pid_file
        && saved.init.is_some_and(|init| fs::read(file).is_ok_and(|text| text == init.pid.to_string().as_bytes()))
    {
        note(fs::remove_file(file).map_err(|e| Error::io(format!("unlink {}", file.display()), &e)));
    }
    note(dir.remove());
    error
}

impl Container {
    /// Makes a container: `create`. It waits for [`Container::start`].
    ///
    /// # Errors
    /// What is wrong; nothing is left of the container then.
    pub fn create(options: &Options) -> Result<Container> {
        launch(options, Ending::Fifo).map(|running| running.container)
    }

    /// Makes a container and starts it: `run`.
    ///
    /// # Errors
    /// As [`Container::create`].
    pub fn run(options: &Options) -> Result<Running> {
        launch(options, Ending::Stop)
    }

    /// The container `id` of the folder `root`.
    ///
    /// # Errors
    /// There is none (kind not found), or its `create` was never finished.
    pub fn load(root: &Path, id: &str) -> Result<Container> {
        state::check_id(id)?;
        let dir = root.join(id);
        let saved = state::load(&dir)?;
        let Some(saved) = saved else {
            return Err(Error::new(Kind::State, "container is half-made: its create was ended; delete it"));
        };
        Ok(Container { dir, saved, warnings: Vec::new(), hook_environment: HookEnvironment::default() })
    }

    /// Gives hooks in the runtime's namespaces that name no environment this one; a container that was loaded has none for
    /// them. One that was created keeps [`Options::hook_environment`].
    pub fn with_hook_environment(self, hook_environment: HookEnvironment) -> Self {
        Container { hook_environment, ..self }
    }

    /// The containers of the folder `root`, by id; what is no container there is passed over.
    ///
    /// # Errors
    /// The folder cannot be read; one that is not there has no containers.
    pub fn list(root: &Path) -> Result<Vec<Container>> {
        let entries = match fs::read_dir(root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| Error::io(format!("open {}", root.display()), &e))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut containers: Vec<Container> = names.filter_map(|id| Container::load(root, &id).ok()).collect();
        containers.sort_by(|a, b| a.saved.id.cmp(&b.saved.id));
        Ok(containers)
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.saved.id
    }

    /// What was odd in the configuration, and no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where it is in its life, now.
    pub fn status(&self) -> Status {
        match self.saved.init {
            None => Status::Creating,
            Some(init) if !init.is_alive() => Status::Stopped,
            Some(_) if self.dir.join(plan::FIFO).exists() => Status::Created,
            Some(_) if !matches!(self.saved.cgroup.freezer_state(), Ok(FreezerState::Thawed) | Err(_)) => {
                Status::Paused
            }
            Some(_) => Status::Running,
        }
    }

    /// What `state` prints.
    pub fn state(&self) -> State {
        let saved = &self.saved;
        let status = self.status();
        let pid = saved.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        State {
            oci_version: saved.oci_version.clone(),
            id: saved.id.clone(),
            pid,
            status,
            bundle: saved.bundle.clone(),
            rootfs: saved.rootfs.clone(),
            created: saved.created.clone(),
            annotations: saved.annotations.clone(),
            owner: owner(saved.owner),
        }
    }

    /// Lets the workload run: `start`.
    ///
    /// # Errors
    /// The status is not `created`; a hook failed; the execve failed. The container is stopped in the last two cases.
    pub fn start(&self) -> Result<()> {
        let dir = self.lock()?;
        match self.status() {
            Status::Created => {}
            Status::Stopped => return Err(Error::new(Kind::State, "cannot start a container that has stopped")),
            Status::Running | Status::Paused => {
                return Err(Error::new(Kind::State, "cannot start an already running container"));
            }
            Status::Creating => return Err(Error::new(Kind::State, "cannot start a container in the creating state")),
        }
        let Some(init) = self.saved.init else { return Err(Error::internal("a created container without an init")) };
        let spec = self.saved.hooks.then(|| self.config()).transpose()?;
        let list = spec.as_ref().and_then(|spec| spec.hooks().as_ref());
        let result = spec
            .as_ref()
            .map_or(Ok(()), |spec| hooks::start_container_of(spec, &self.saved, init))
            .and_then(|()| self.release(&dir))
            .and_then(|()| hooks::poststart(list, &self.saved, &self.hook_environment));
        result.map_err(|error| match self.end() {
            Ok(()) => error,
            Err(more) => error.and_cleanup(more),
        })
    }

    /// As [`Container::start`]; returns when the workload is ready or has ended, and tells the datagram socket `callers` of
    /// it (`NOTIFY_SOCKET`). A container that was created without such a socket is only started: it has nowhere to report to.
    ///
    /// # Errors
    /// As [`Container::start`]; or its readiness cannot be passed on, while it runs.
    pub fn start_until_ready(&self, callers: &Path) -> Result<()> {
        if !self.dir.join(notify::FOLDER).exists() || self.status() != Status::Created {
            return self.start();
        }
        let Some(init) = self.saved.init else { return self.start() };
        let pidfd =
            sys::pidfd_open(init.pid).map_err(|errno| Error::host(format!("pidfd_open {}", init.pid), errno))?;
        let readiness = Readiness::listen(&self.dir, callers)?;
        self.start()?;
        readiness.wait(init.pid, pidfd)
    }

    /// Writes the byte that init waits for, and learns what became of the execve: the end of init's descriptor, with a
    /// report in the fifo if it failed.
    fn release(&self, dir: &StateDir) -> Result<()> {
        let path = dir.fifo();
        let open =
            |write: bool| fs::OpenOptions::new().write(write).read(!write).custom_flags(libc::O_NONBLOCK).open(&path);
        let mut fifo = match open(true) {
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                return Err(Error::new(Kind::State, "cannot start a container that has stopped"));
            }
            fifo => fifo.map_err(|e| Error::io(format!("open {}", path.display()), &e))?,
        };
        fifo.write_all(&[0]).map_err(|e| Error::io("write to the exec fifo", &e))?;
        loop {
            // POLLERR is always reported: nobody has it open for reading any more.
            let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll the exec fifo", errno)),
                Ok(_) => break,
            }
        }
        let mut said = [0u8; REPORT_SIZE];
        let length = open(false).and_then(|mut fifo| fifo.read(&mut said)).unwrap_or(0);
        fs::remove_file(&path).map_err(|e| Error::io(format!("unlink {}", path.display()), &e))?;
        match length {
            REPORT_SIZE => Err(self.late(&Report::from_bytes(said))),
            0 => Ok(()),
            _ => Err(match self.saved.cgroup.oom().filter(|oom| oom.kills > 0) {
                Some(oom) => Error::new(Kind::Init, out_of_memory(&oom)).at("linux.resources.memory.limit"),
                None => Error::new(Kind::Init, "init was killed before it started the workload"),
            }),
        }
    }

    fn late(&self, report: &Report) -> Error {
        let late = self.saved.late.iter().find(|late| late.call == report.call);
        let Late { place, what, nr, .. } = late.cloned().unwrap_or_default();
        late_failure(&what, &place, nr.into(), report.errno)
    }

    fn lock(&self) -> Result<StateDir> {
        let root = self.dir.parent().unwrap_or(Path::new("/"));
        StateDir::open(root, &self.saved.id)
    }

    /// The configuration as it was at `create`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config(&self) -> Result<Spec> {
        crate::spec::load_spec(&state::config(&self.dir))
    }

    /// Sends a signal: `kill`.
    ///
    /// # Errors
    /// It does not run (kind state).
    pub fn kill(&self, signal: Signal, scope: Scope) -> Result<()> {
        if scope == Scope::All {
            return self.kill_all(signal);
        }
        let not_running = || Error::new(Kind::State, "container not running");
        let init = self.saved.init.ok_or_else(not_running)?;
        // The pidfd first: what it is opened for cannot be replaced after the check.
        let pidfd = match sys::pidfd_open(init.pid) {
            Err(Errno::ESRCH) => return Err(not_running()),
            pidfd => pidfd.map_err(|errno| Error::host(format!("pidfd_open {}", init.pid), errno))?,
        };
        if !init.is_alive() {
            return Err(not_running());
        }
        match sys::pidfd_send_signal(&pidfd, signal.number()) {
            Err(Errno::ESRCH) => Err(not_running()),
            result => result.map_err(|errno| Error::host(format!("pidfd_send_signal {}", signal.number()), errno)),
        }
    }

    fn kill_all(&self, signal: Signal) -> Result<()> {
        if signal.number() == libc::SIGKILL {
            return self.end();
        }
        for pid in self.saved.cgroup.procs()? {
            match sys::pidfd_open(pid).and_then(|pidfd| sys::pidfd_send_signal(pidfd, signal.number())) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::host(format!("pidfd_send_signal {} to {pid}", signal.number()), errno));
                }
            }
        }
        Ok(())
    }

    /// Kills init and whatever is left in the cgroup, and waits until they are gone.
    fn end(&self) -> Result<()> {
        self.end_init()?;
        self.saved.cgroup.kill(deadline())
    }

    /// Kills init and waits until it is gone.
    fn end_init(&self) -> Result<()> {
        if let Some(init) = self.saved.init
            && let Ok(pidfd) = sys::pidfd_open(init.pid)
            && init.is_alive()
        {
            match sys::pidfd_send_signal(&pidfd, libc::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => gone(&pidfd)?,
                Err(errno) => return Err(Error::host(format!("pidfd_send_signal 9 to {}", init.pid), errno)),
            }
        }
        Ok(())
    }

    /// Removes the container: `delete`. Returns what went wrong in poststop hooks, which is no error.
    ///
    /// # Errors
    /// It runs and `force` is [`Force::No`]; or something of it could not be removed, and the container is still there.
    pub fn delete(&self, force: Force) -> Result<Vec<Error>> {
        // A start has the lock until the execve, and that may wait for a seccomp listener.
        if force == Force::Yes && self.status() == Status::Created {
            let _ = self.kill(Signal::KILL, Scope::Init);
        }
        let dir = self.lock()?;
        match self.status() {
            Status::Stopped | Status::Creating => {}
            Status::Created => {}
            status if force == Force::No => {
                return Err(Error::new(
                    Kind::State,
                    format!("cannot delete container {} that is not stopped: {status}", self.saved.id),
                ));
            }
            _ => {}
        }
        let spec = self.saved.hooks.then(|| self.config()).transpose();
        self.end_init()?;
        // Mostly init was the last: then the cgroup goes at once, and nobody need be looked for.
        if self.saved.init.is_none() || !self.saved.journal.undo_if_unused() {
            self.saved.cgroup.kill(deadline())?;
        }
        self.wait_for_orphan(&dir)?;
        let mut warnings = Vec::new();
        match spec {
            Ok(spec) => {
                let list = spec.as_ref().and_then(|spec| spec.hooks().as_ref());
                warnings.extend(hooks::poststop(list, &self.saved, &self.hook_environment));
            }
            Err(error) => warnings.push(error.during("the poststop hooks are not run")),
        }
        self.saved.journal.undo(deadline())?;
        dir.remove()?;
        Ok(warnings)
    }

    /// An init whose create was killed ends by itself as soon as it reports; it has the fifo open as long as it lives.
    fn wait_for_orphan(&self, dir: &StateDir) -> Result<()> {
        if self.saved.init.is_some() {
            return Ok(());
        }
        let Ok(fifo) = fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(dir.fifo()) else {
            return Ok(());
        };
        let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::try_from(launch::PATIENCE).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => Err(Error::host("wait for the end of an init without a runtime", Errno::ETIMEDOUT)),
            _ => Ok(()),
        }
    }

    /// Removes the container `id` of `root`, also one whose `create` was killed at any moment. Its poststop hooks have
    /// `hook_environment` where they name none.
    ///
    /// # Errors
    /// As [`Container::delete`]; with [`Force::Yes`] a container that does not exist is no error.
    pub fn remove(root: &Path, id: &str, force: Force, hook_environment: HookEnvironment) -> Result<Vec<Error>> {
        state::check_id(id)?;
        let missing = |error: &Error| error.kind() == Kind::NotFound && force == Force::Yes;
        match state::load(&root.join(id)) {
            Ok(Some(saved)) => {
                let container = Container { dir: root.join(id), saved, warnings: Vec::new(), hook_environment };
                match container.delete(force) {
                    Err(error) if missing(&error) => Ok(Vec::new()),
                    result => result,
                }
            }
            // Killed before or while the intent was written: nothing else was done by then.
            Ok(None) => StateDir::open(root, id).and_then(StateDir::remove).map(|()| Vec::new()),
            Err(error) if missing(&error) => Ok(Vec::new()),
            Err(error) if error.kind() == Kind::State && force == Force::Yes => {
                StateDir::open(root, id).and_then(StateDir::remove).map(|()| Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}

/// Waits until a process has ended.
fn gone(pidfd: &OwnedFd) -> Result<()> {
    let until = deadline();
    loop {
        let left = until.saturating_duration_since(std::time::Instant::now());
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::host("poll a pidfd", errno)),
            Ok(0) => return Err(Error::host("wait for the end of init after SIGKILL", Errno::ETIMEDOUT)),
            Ok(_) => return Ok(()),
        }
    }
}

/// The name of a user of the host, or its number.
fn owner(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_number = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(by_number).unwrap_or_else(|| uid.to_string())
}

impl Running {
    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The workload's process.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Leaves the workload alone: `run --detach`; as soon as it is ready, if somebody awaits that.
    ///
    /// # Errors
    /// Its readiness cannot be passed on; it runs all the same.
    pub fn detach(self) -> Result<Container> {
        let Workload { pid, pidfd, readiness, .. } = self.workload;
        if let Some(readiness) = readiness {
            readiness.wait(pid, pidfd)?;
        }
        Ok(self.container)
    }
}
