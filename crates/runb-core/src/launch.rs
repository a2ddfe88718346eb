//! Running a plan: the spawn, the stops, and what init says. The runtime expects exactly the stops of the program.

mod copy_up;
mod init;
pub(crate) mod listener;
mod mounts;

use std::fs;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::WaitStatus;
use oci_spec::runtime::Hooks;
use runb_init::{Point, Report};

use crate::cgroup::{Cgroup, Made};
use crate::error::{Error, Kind, Result};
use crate::hearing::{Said, reap, receive_or_end};
use crate::hooks::{self, Namespaces};
use crate::plan::exec::ExecPlan;
use crate::plan::program::Program;
use crate::plan::seccomp::Filter;
use crate::plan::{IdMaps, Plan};
use crate::state::{Saved, Status};
use crate::sys;
use crate::terminal::Master;

use init::{Init, Place, spawn_program};
use listener::Listener;

/// How long the end of a killed process is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the stops of a launch need beside the plan.
pub(crate) struct Context<'a> {
    pub(crate) hooks: Option<&'a Hooks>,
    pub(crate) saved: &'a Saved,
    /// Where the container is in its life.
    pub(crate) status: Status,
    /// The connection to whoever listens to the seccomp filter, until its hand-over.
    pub(crate) listener: Option<OwnedFd>,
    /// What becomes of the terminal of a process that joins.
    pub(crate) terminal: &'a dyn Fn(&Master) -> Result<()>,
}

/// A launch that goes on in init.
pub(crate) struct Running<'p> {
    program: &'p Program,
    init: Init,
    cgroup: Cgroup,
    terminal: Option<Master>,
    /// The call that makes a twin, until the twin is known.
    twin: Option<usize>,
    /// The seccomp filter's listener, from its load to the hand-over.
    listener: Option<Listener>,
}

/// Spawns the init of `plan` into the cgroups that were made.
pub(crate) fn spawn<'p>(plan: &'p Plan, made: &Made, preserve: u32) -> Result<Running<'p>> {
    let place = Place { namespaces: plan.clone, cgroup: made.unified(), more: None, preserve };
    let init = spawn_program(&plan.program, place)?;
    let twin = plan.program.calls().iter().position(|call| call.kind == runb_init::Kind::Twin);
    Ok(Running { program: &plan.program, init, cgroup: made.cgroup.clone(), terminal: None, twin, listener: None })
}

impl Running<'_> {
    /// The process id of init, before a twin takes its place.
    pub(crate) fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Goes through the stops up to [`Point::Ready`], whether init waits there or not.
    ///
    /// # Errors
    /// A call of init, one of the runtime's, or a hook failed; or init was killed. It does not live any more then.
    pub(crate) fn until_ready(mut self, plan: &Plan, context: Context<'_>) -> Result<Ready> {
        match self.go_through(plan, context) {
            Ok(()) => Ok(Ready { init: self.init, cgroup: self.cgroup, terminal: self.terminal }),
            Err(error) => Err(self.init.end(error)),
        }
    }

    fn go_through(&mut self, plan: &Plan, mut context: Context<'_>) -> Result<()> {
        let mut expected: Vec<Point> = self.program.points().filter(|point| *point != Point::Ready).collect();
        expected.push(Point::Ready);
        let mut mounts = mounts::Mounts::of(plan);
        for point in expected {
            let report = self.reach(point)?;
            match point {
                Point::IdMap => self.map_ids(plan)?,
                Point::Mount => mounts.next(&self.init, report.value as i32)?,
                Point::Hooks => self.run_hooks(&context)?,
                Point::Notify => self.take_listener(&report)?,
                Point::Ready => break,
                Point::Terminal => {
                    return Err(Error::internal(format!("nothing is planned for the stop {point:?}")));
                }
            }
            self.init.resume()?;
        }
        if self.listener.is_some() {
            if !self.program.points().any(|point| point == Point::Ready) {
                self.until_waiting(plan.filter.as_ref())?;
            }
            self.hand_over(plan.filter.as_ref(), &mut context)?;
        }
        Ok(())
    }

    fn reach(&mut self, point: Point) -> Result<Report> {
        match self.next()? {
            Said::Reached(report) if report.point == point as u8 => Ok(report),
            Said::Failed(report) => Err(failure(self.program, &report, &self.init)),
            Said::Gone => Err(died(&mut self.init, &self.cgroup)),
            other => Err(Error::internal(format!("init said {other:?}, and is not at {point:?}"))),
        }
    }

    /// Waits until init has closed the socket, and lets its wait at the exec fifo pass: what is left then is to execute.
    fn until_waiting(&mut self, filter: Option<&Filter>) -> Result<()> {
        match self.next()? {
            Said::Gone => {}
            Said::Failed(report) => return Err(failure(self.program, &report, &self.init)),
            other => return Err(Error::internal(format!("init said {other:?} after it was ready"))),
        }
        let wait = self.program.calls().iter().rfind(|call| libc::c_long::from(call.nr) == libc::SYS_read);
        match (filter, wait, &self.listener) {
            (Some(filter), Some(wait), Some(listener)) if filter.asks_about(wait)? => listener.let_one_pass(),
            _ => Ok(()),
        }
    }

    /// What init says next. A terminal that it opened is kept on the way, and its twin is taken for it.
    fn next(&mut self) -> Result<Said> {
        // What the twin says may arrive before what its maker says of it.
        let mut early = None;
        loop {
            if self.twin.is_none()
                && let Some(said) = early
            {
                return Ok(said);
            }
            let Some(pidfd) = &self.init.pidfd else { return Err(Error::internal("an init that was killed")) };
            // Who traces the twin may keep its socket open, so that it has no end; and a maker says all before it ends.
            let said = match &self.listener {
                Some(listener) => listener.receive(&self.init.socket, pidfd)?,
                None => receive_or_end(&self.init.socket, pidfd)?,
            };
            match said {
                Said::Reached(report) | Said::Failed(report) if self.awaits_twin(&report) => early = Some(said),
                Said::Terminal(master) if self.terminal.is_none() => self.terminal = Some(Master::verified(master)?),
                Said::Twin { pid, maker } if self.twin.is_some() && maker == self.init.pid => {
                    let pidfd = sys::pidfd_open(pid).map_err(|errno| Error::host("pidfd_open", errno))?;
                    // How the maker ends tells nothing.
                    let _ = reap(self.init.pid);
                    (self.init.pid, self.init.pidfd) = (pid, Some(pidfd));
                    self.twin = None;
                }
                Said::Twin { .. } => return Err(Error::internal("somebody else speaks of a twin of init's")),
                // The maker is gone without a word of its twin: nobody knows it, and only what has failed is told.
                Said::Gone => return Ok(early.filter(|said| matches!(said, Said::Failed(_))).unwrap_or(Said::Gone)),
                other => return Ok(other),
            }
        }
    }

    /// Whether `report` is a twin's of which nothing was heard so far.
    fn awaits_twin(&self, report: &Report) -> bool {
        self.twin.is_some_and(|call| usize::from(report.call) > call)
    }

    /// Takes a copy of the seccomp filter's listener.
    fn take_listener(&mut self, report: &Report) -> Result<()> {
        let Some(pidfd) = &self.init.pidfd else { return Err(Error::internal("a stop of an init that was killed")) };
        self.listener = Some(Listener::of(pidfd, report.value as i32)?);
        Ok(())
    }

    /// Sends the filter's listener with the state of the process.
    fn hand_over(&mut self, filter: Option<&Filter>, context: &mut Context<'_>) -> Result<()> {
        let planned = filter.and_then(|filter| filter.listener.as_ref());
        let (Some(planned), Some(to), Some(listener)) = (planned, context.listener.take(), self.listener.take()) else {
            return Err(Error::internal("a listener that is not planned"));
        };
        let metadata = planned.metadata.as_deref();
        listener.hand_over(to, &hooks::process_state(context.saved, context.status, self.init.pid, metadata)?)
    }

    fn map_ids(&self, plan: &Plan) -> Result<()> {
        let Some(maps) = &plan.id_maps else { return Err(Error::internal("no id maps are planned")) };
        write_id_maps(self.init.pid, maps, ["linux.uidMappings", "linux.gidMappings"])
    }

    fn run_hooks(&self, context: &Context<'_>) -> Result<()> {
        let state = hooks::state(context.saved, Status::Creating, self.init.pid)?;
        let runtime = Namespaces::Runtime(&context.saved.bundle);
        hooks::run_all(context.hooks, "prestart", &state, runtime)?;
        hooks::run_all(context.hooks, "createRuntime", &state, runtime)?;
        let container = Namespaces::Container(self.init.pid, context.saved.namespaces);
        hooks::run_all(context.hooks, "createContainer", &state, container)
    }
}

/// Writes the maps of the user namespace that `pid` has made.
fn write_id_maps(pid: i32, maps: &IdMaps, places: [&str; 2]) -> Result<()> {
    for ((file, text), place) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)].into_iter().zip(places) {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).map_err(|e| Error::io(format!("write {text:?} to {path}"), &e).at(place))?;
    }
    Ok(())
}

/// What an exec joins.
pub(crate) struct Target<'a> {
    /// The container's init, proven to be it.
    pub(crate) init: BorrowedFd<'a>,
    /// The version 2 cgroup that the process is born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on are the workload's.
    pub(crate) preserve: u32,
}

/// Spawns the process of an exec; the errno where the cgroup takes none, by which the caller may choose another.
pub(crate) fn join<'p>(plan: &'p ExecPlan, target: &Target<'_>, cgroup: &Cgroup) -> Result<Running<'p>> {
    let place = Place { namespaces: 0, cgroup: target.cgroup, more: Some(target.init), preserve: target.preserve };
    let init = spawn_program(&plan.program, place)?;
    let twin = plan.twin;
    Ok(Running { program: &plan.program, init, cgroup: cgroup.clone(), terminal: None, twin, listener: None })
}

impl Running<'_> {
    /// Waits until the process of an exec has executed.
    ///
    /// # Errors
    /// A call of it failed, or it was killed before it joined. It does not live any more then.
    pub(crate) fn until_executed(mut self, plan: &ExecPlan, context: Context<'_>) -> Result<Executed> {
        match self.execute(plan, context) {
            Ok(()) => {
                let (pid, pidfd) = self.init.release();
                Ok(Executed { pid, pidfd, terminal: self.terminal })
            }
            Err(error) => Err(self.init.end(error)),
        }
    }

    fn execute(&mut self, plan: &ExecPlan, mut context: Context<'_>) -> Result<()> {
        // In the container's pid namespace the process may be in the hands of another: what is out of turn is not heard.
        let points: Vec<Point> = plan.program.points().collect();
        let carries = points.contains(&Point::Terminal);
        for point in points {
            let report = self.reach(point)?;
            match point {
                Point::Terminal => {
                    let Some(master) = &self.terminal else {
                        return Err(Error::internal("the process has no terminal at the stop for it"));
                    };
                    (context.terminal)(master)?;
                }
                Point::Notify => self.take_listener(&report)?,
                Point::Ready => self.hand_over(plan.filter.as_ref(), &mut context)?,
                other => return Err(Error::internal(format!("nothing is planned for the stop {other:?}"))),
            }
            self.init.resume()?;
        }
        match self.next()? {
            Said::Gone if self.twin.is_none() && self.terminal.is_some() == carries => Ok(()),
            Said::Gone => Err(died(&mut self.init, &self.cgroup)),
            Said::Failed(report) => Err(failure(self.program, &report, &self.init)),
            other => Err(Error::internal(format!("the process said {other:?} out of turn"))),
        }
    }
}

/// A process that has become the workload.
pub(crate) struct Executed {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) terminal: Option<Master>,
}

/// An init for which everything is done but the execve.
pub(crate) struct Ready {
    init: Init,
    cgroup: Cgroup,
    terminal: Option<Master>,
}

impl Ready {
    /// The process id of init.
    pub(crate) fn pid(&self) -> i32 {
        self.init.pid
    }

    /// A descriptor of init.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        self.init.pidfd.as_ref().expect("an init that was neither released nor killed")
    }

    /// The master of the terminal, if there is one; once.
    pub(crate) fn take_terminal(&mut self) -> Option<Master> {
        self.terminal.take()
    }

    /// Leaves init waiting.
    pub(crate) fn release(self) -> (i32, OwnedFd) {
        self.init.release()
    }

    /// Lets init execute, and waits until it has.
    ///
    /// # Errors
    /// The execve failed, or init was killed.
    pub(crate) fn execute(mut self, program: &Program) -> Result<(i32, OwnedFd)> {
        self.init.resume()?;
        match receive_or_end(&self.init.socket, self.pidfd())? {
            // It may have run to its end since; only a death in between is an error, and the workload's status tells that.
            Said::Gone => Ok(self.init.release()),
            Said::Failed(report) => {
                let error = failure(program, &report, &self.init);
                Err(self.init.end(error))
            }
            other => Err(died(&mut self.init, &self.cgroup).during(format!("after {other:?}"))),
        }
    }
}

/// The failing call of init as an error.
fn failure(program: &Program, report: &Report, init: &Init) -> Error {
    let index = usize::from(report.call);
    let mut what = program.what(index);
    let nr = program.calls().get(index).map_or(0, |call| libc::c_long::from(call.nr));
    if matches!(nr, libc::SYS_fsconfig | libc::SYS_fsmount)
        && let Some(words) = kernel_words(init, report.value as i32)
    {
        what = format!("{what}: {words}");
    }
    if nr == libc::SYS_prlimit64 && report.errno == libc::EPERM {
        let resource = program.calls().get(index).map_or(0, |call| call.args[1] as u32);
        if let Ok((_, hard)) = sys::rlimit(init.pid, resource) {
            what = format!("{what}: the hard limit is {hard}, and to raise it needs CAP_SYS_RESOURCE");
        }
    }
    if program.place(index) == "process.apparmorProfile" && nr == libc::SYS_write && report.errno == libc::ENOENT {
        what = format!("{what}: the profile is not loaded on this host");
    }
    late_failure(&what, program.place(index), nr, report.errno)
}

/// A failure as an error, by what was kept of the call.
pub(crate) fn late_failure(what: &str, place: &str, nr: libc::c_long, errno: i32) -> Error {
    let mut error = Error::new(Kind::Init, what);
    if nr == libc::SYS_execve && errno == libc::ENOENT && !what.contains("not found in") {
        error = Error::new(Kind::Init, format!("{what}: the file is there, its interpreter is not"));
    }
    let error = error.with_errno(Errno::from_raw(errno));
    if place.is_empty() { error } else { error.at(place) }
}

/// What the kernel says in the log of a filesystem context, read from a copy of init's descriptor.
fn kernel_words(init: &Init, context: i32) -> Option<String> {
    let copy = sys::pidfd_getfd(init.pidfd.as_ref()?, context).ok()?;
    let mut text = [0u8; 1024];
    let length = fs::File::from(copy).read(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..length]);
    let text = text.trim();
    // "e " for an error, "w " for a warning.
    Some(text.split_once(' ').map_or(text, |(_, words)| words).to_owned()).filter(|words| !words.is_empty())
}

/// Init has ended without a word.
fn died(init: &mut Init, cgroup: &Cgroup) -> Error {
    let oom = cgroup.oom().filter(|oom| oom.kills > 0);
    let status = match init.kill() {
        Ok(status) => status,
        Err(error) => return error,
    };
    if let Some(oom) = oom {
        return Error::new(Kind::Init, out_of_memory(&oom)).at("linux.resources.memory.limit");
    }
    let how = match status {
        Some(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
        Some(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
        other => format!("{other:?}"),
    };
    Error::new(Kind::Init, format!("init has ended before the container was ready: {how}"))
}

/// The sentence on an OOM kill.
pub(crate) fn out_of_memory(oom: &crate::cgroup::OomReport) -> String {
    let bytes = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| format!("{number} bytes"));
    format!("init was killed, out of memory: limit {}, peak {}", bytes(oom.limit), bytes(oom.peak))
}

/// When to give up waiting for the kernel to take a killed process away.
pub(crate) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}
