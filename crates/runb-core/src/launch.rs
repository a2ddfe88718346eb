//! Running a plan: the spawn, the stops, and what init says. The runtime expects exactly the stops of the program.

mod ahead;
mod copy_up;
pub(crate) mod failure;
mod hooks;
mod id_maps;
pub(crate) mod listener;
mod mounts;
pub(crate) mod moved;
mod procfs;
mod unmapped;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use oci_spec::runtime::Hooks;
use runb_init::{Point, Report};

use crate::cgroup::{Cgroup, Made};
use crate::child::{Child, Place};
use crate::error::{Error, Result};
use crate::hearing::{Said, receive_or_end};
use crate::hooks::process_state;
use crate::options::{HookEnvironment, Meanwhile};
use crate::plan::exec::ExecPlan;
use crate::plan::program::{Mark, Program};
use crate::plan::seccomp::Filter;
use crate::plan::{Attributes, Plan, SCHEDULER};
use crate::state::{Saved, Status};
use crate::sys;
use crate::terminal::Master;
use crate::trace::{Stop, Trace, What};

pub(crate) use ahead::Ahead;
use failure::{died, failure, late_failure};
use listener::Listener;

/// What the stops of a launch need beside the plan.
pub(crate) struct Context<'a> {
    /// The hooks, with the environment of those in the runtime's namespaces that name none.
    pub(crate) hooks: Option<(&'a Hooks, &'a HookEnvironment)>,
    pub(crate) saved: &'a Saved,
    /// Where the container is in its life.
    pub(crate) status: Status,
    /// The connection to whoever listens to the seccomp filter, until its hand-over.
    pub(crate) listener: Option<OwnedFd>,
    /// What is done while this process is in the container's network namespace, and waits.
    pub(crate) network: &'a dyn Fn(i32) -> Result<()>,
    /// What becomes of the terminal of a process that joins.
    pub(crate) terminal: &'a dyn Fn(&Master) -> Result<()>,
    /// What the caller has to do, while init is at work and would only be waited for.
    pub(crate) meanwhile: Option<&'a Meanwhile>,
}

/// What is done with the process id of whoever is init from now on.
pub(crate) type Born<'a> = &'a dyn Fn(i32) -> Result<()>;

/// A launch that goes on in init.
pub(crate) struct Running<'p> {
    program: &'p Program,
    init: Child,
    cgroup: Cgroup,
    terminal: Option<Master>,
    /// The call that makes a twin, until the twin is known.
    twin: Option<usize>,
    /// Hears of the process that goes on as init, as soon as there is one.
    born: Born<'p>,
    /// The seccomp filter's listener, from its load to the hand-over.
    listener: Option<Listener>,
}

/// Spawns the init of `plan` into the cgroups that were made; none where it is moved into them ([`Running::be_moved`]).
pub(crate) fn spawn<'p>(plan: &'p Plan, made: Option<&Made>, preserve: u32, born: Born<'p>) -> Result<Running<'p>> {
    let cgroup = made.and_then(Made::unified);
    let place = Place { namespaces: plan.clone, cgroup, preserve, ..Place::default() };
    let init = Child::spawn(&plan.program, place, "init")?;
    born(init.pid)?;
    Ok(Running::of(plan, init, made, born))
}

impl<'p> Running<'p> {
    fn of(plan: &'p Plan, init: Child, made: Option<&Made>, born: Born<'p>) -> Self {
        Running {
            program: &plan.program,
            init,
            cgroup: made.map(|made| made.cgroup.clone()).unwrap_or_default(),
            terminal: None,
            twin: plan.program.marked(Mark::Twin),
            born,
            listener: None,
        }
    }

    /// The process id of init, or of what will be its twin's maker.
    pub(crate) fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Has init moved into its cgroups while it waits for that; `work` gets its process id.
    ///
    /// # Errors
    /// `work` fails, or a call of init did before. It does not live any more then.
    pub(crate) fn be_moved(
        mut self,
        trace: &mut Trace,
        work: impl FnOnce(i32, &mut Trace) -> Result<Cgroup>,
    ) -> Result<Self> {
        let moved = self.reach(Point::Cgroup).and_then(|_| {
            trace.done(What::Stop(Stop(Point::Cgroup)));
            work(self.init.pid, trace)
        });
        match moved.and_then(|cgroup| self.init.resume().map(|()| cgroup)) {
            Ok(cgroup) => Ok(Running { cgroup, ..self }),
            Err(error) => Err(self.init.end(error)),
        }
    }

    /// Goes through the stops up to [`Point::Ready`], whether init waits there or not.
    ///
    /// # Errors
    /// A call of init, one of the runtime's, or a hook failed; or init was killed. It does not live any more then.
    pub(crate) fn until_ready(mut self, plan: &Plan, context: Context<'_>, trace: &mut Trace) -> Result<Ready> {
        match self.go_through(plan, context, trace) {
            Ok(()) => Ok(Ready { init: self.init, cgroup: self.cgroup, terminal: self.terminal }),
            Err(error) => Err(self.init.end(error)),
        }
    }

    fn go_through(&mut self, plan: &Plan, mut context: Context<'_>, trace: &mut Trace) -> Result<()> {
        context.meanwhile.iter().for_each(|meanwhile| meanwhile.call());
        let later = |point: &Point| !matches!(point, Point::Cgroup | Point::Ready);
        let mut expected: Vec<Point> = self.program.points().filter(later).collect();
        expected.push(Point::Ready);
        let mut mounts = mounts::Mounts::of(plan);
        for point in expected {
            let report = self.reach(point)?;
            trace.done(What::Stop(Stop(point)));
            match point {
                Point::IdMap => {
                    self.map_ids(plan)?;
                    trace.done(What::IdMaps);
                }
                Point::NetDevices => {
                    (context.network)(self.init.pid)?;
                    trace.done(What::NetDevices);
                }
                Point::Mount => {
                    let for_init = mounts.next(&self.init, report.value as i32)?;
                    trace.done(What::Mount);
                    if !for_init.is_empty() {
                        self.init.resume()?;
                        self.init.send(&for_init)?;
                        continue;
                    }
                }
                Point::Hooks => self.run_hooks(plan, &context, trace)?,
                Point::Notify => self.take_listener(&report)?,
                Point::Scheduler => self.schedule(plan.scheduler.as_ref())?,
                Point::Ready => break,
                Point::Terminal | Point::Cgroup => {
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
        let wait = self.program.marked(Mark::Wait).map(|wait| &self.program.calls()[wait]);
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
                    self.init.becomes(pid)?;
                    self.twin = None;
                    (self.born)(pid)?;
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
        listener.hand_over(to, &process_state(context.saved, context.status, self.init.pid, metadata)?)
    }

    /// Gives the twin, which waits for it and is not reaped, its scheduler.
    fn schedule(&self, scheduler: Option<&Attributes>) -> Result<()> {
        let Some(Attributes { attr, what, hint }) = scheduler.filter(|_| self.twin.is_none()) else {
            return Err(Error::internal("a stop for a scheduler that is not planned"));
        };
        sys::sched_setattr(self.init.pid, attr).map_err(|errno| late_failure(what, SCHEDULER, *hint, errno as i32))
    }

    fn map_ids(&self, plan: &Plan) -> Result<()> {
        let Some((maps, writers)) = &plan.id_maps else { return Err(Error::internal("no id maps are planned")) };
        id_maps::write(self.init.pid, maps, writers, ["linux.uidMappings", "linux.gidMappings"])
    }
}

/// The directory of a version 2 cgroup, for a process to be born in.
pub(crate) fn open_cgroup(path: &Path) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Error::host(format!("open the cgroup {}", path.display()), errno))
}

/// What an exec joins.
pub(crate) struct Target<'a> {
    /// The container's init, proven to be it.
    pub(crate) init: BorrowedFd<'a>,
    /// The version 2 cgroup that the process is born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on are the workload's.
    pub(crate) preserve: u32,
    /// Its descriptors 0, 1 and 2, if they are not this process's.
    pub(crate) stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// Spawns the process of an exec; the errno where the cgroup takes none, by which the caller may choose another.
pub(crate) fn join<'p>(plan: &'p ExecPlan, target: &Target<'_>, cgroup: &Cgroup) -> Result<Running<'p>> {
    let Target { init, cgroup: unified, preserve, stdio } = *target;
    let place = Place { cgroup: unified, more: Some(init), preserve, stdio, ..Place::default() };
    let init = Child::spawn(&plan.program, place, "a process in the container")?;
    let twin = plan.program.marked(Mark::Twin);
    let born = &|_| Ok(());
    Ok(Running { program: &plan.program, init, cgroup: cgroup.clone(), terminal: None, twin, born, listener: None })
}

impl Running<'_> {
    /// Waits until the process of an exec has executed.
    ///
    /// # Errors
    /// A call of it failed, or it was killed before it joined. It does not live any more then.
    pub(crate) fn until_executed(
        mut self,
        plan: &ExecPlan,
        context: Context<'_>,
        trace: &mut Trace,
    ) -> Result<Executed> {
        match self.execute(plan, context, trace) {
            Ok(()) => Ok(Executed { process: self.init, terminal: self.terminal }),
            Err(error) => Err(self.init.end(error)),
        }
    }

    fn execute(&mut self, plan: &ExecPlan, mut context: Context<'_>, trace: &mut Trace) -> Result<()> {
        context.meanwhile.iter().for_each(|meanwhile| meanwhile.call());
        // In the container's pid namespace the process may be in the hands of another: what is out of turn is not heard.
        let points: Vec<Point> = self.program.points().filter(|point| *point != Point::Cgroup).collect();
        let carries = points.contains(&Point::Terminal);
        for point in points {
            let report = self.reach(point)?;
            trace.done(What::Stop(Stop(point)));
            match point {
                Point::Terminal => {
                    let Some(master) = &self.terminal else {
                        return Err(Error::internal("the process has no terminal at the stop for it"));
                    };
                    (context.terminal)(master)?;
                }
                Point::Notify => self.take_listener(&report)?,
                Point::Scheduler => self.schedule(plan.scheduler.as_ref())?,
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
    pub(crate) process: Child,
    pub(crate) terminal: Option<Master>,
}

/// An init for which everything is done but the execve.
pub(crate) struct Ready {
    init: Child,
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
