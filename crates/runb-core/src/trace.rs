//! What a call of this library did, and how long each part took: a list that comes back with the result, or with the error. It
//! costs a reading of the clock for each part; words are made of it by whoever wants to read it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runb_init::Point;

/// The list while it is being made.
#[derive(Debug)]
pub(crate) struct Trace {
    began: Instant,
    steps: Vec<Step>,
}

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What was done.
    pub what: What,
    /// When it was done, from the begin of the call on.
    pub at: Duration,
    /// How long it took: all the time since the step before it.
    pub took: Duration,
}

/// Where init waits for the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop(pub(crate) Point);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Point::Cgroup => "init waits until systemd has moved it into its cgroups",
            Point::IdMap => "init has made its user namespace, and waits for id maps",
            Point::Mount => "init has made a filesystem that it needs something for, and waits",
            Point::Terminal => "the process has opened its terminal, and waits",
            Point::NetDevices => "init is in its network namespace, and waits for devices",
            Point::Scheduler => "init waits for its scheduling policy",
            Point::Hooks => "init has made the mounts, and waits for hooks",
            Point::Notify => "the seccomp filter with a listener is loaded",
            Point::Ready => "init is ready to execute",
        })
    }
}

/// What is done in a part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The machine was looked at: its cgroup hierarchies, security modules, its own ids.
    Host,
    /// The configuration of a bundle was read; whether there is any sense in it is not yet known.
    Read {
        /// The bundle's folder.
        bundle: PathBuf,
        /// The bytes of its config.json.
        config: Arc<Vec<u8>>,
    },
    /// The state of a container was read; it was not locked.
    Looked,
    /// The container was locked, and its state was read.
    Loaded,
    /// Which process is to be added is known.
    Process {
        /// Its arguments.
        args: Vec<String>,
    },
    /// What was read was understood, and what is to be done was planned.
    Plan {
        /// How many system calls init makes.
        calls: usize,
        /// The seccomp filter, if there is one: its instructions, and the flags of seccomp(2) that it is loaded with.
        filter: Option<(usize, u32)>,
    },
    /// The container's folder is there, with the intent and the configuration.
    Folder,
    /// systemd has made a unit: its job has ended.
    Unit {
        /// The unit's name.
        name: String,
    },
    /// The cgroups are there.
    Cgroups,
    /// The limits are in the cgroups.
    Limits,
    /// There is a process that runs the plan.
    Clone {
        /// Its process id.
        pid: i32,
    },
    /// Init was waited for until it stopped here; the work of the stop itself is in what follows.
    Stop(Stop),
    /// The id maps of init's user namespace are written.
    IdMaps,
    /// Network devices were moved into the container's network namespace.
    NetDevices,
    /// What init needed for a filesystem was made: an id mapping, a copy.
    Mount,
    /// A hook ran, or could not be made.
    Hook {
        /// Its kind, as config.json has it.
        kind: &'static str,
        /// Which of its kind, from 0.
        index: usize,
        /// Its file.
        path: PathBuf,
        /// How it ended, in words: `exit status 0`, if all is well.
        status: String,
        /// The end of what it wrote to its stdout and stderr.
        output: String,
    },
    /// What leaves the runtime was handed over: the terminal, the pid file, the pidfd; and state.json is written.
    Announced,
    /// The workload was executed.
    Executed,
    /// CRIU was started, and knows what it is to do.
    CriuAsked,
    /// CRIU has saved the processes.
    Dumped,
    /// CRIU has brought the processes back, and they run.
    Restored {
        /// The process id of the first of them.
        pid: i32,
    },
    /// Other limits were planned for a container that exists.
    Change,
    /// systemd was told of other limits.
    Told,
    /// The state was written.
    Saved,
    /// A signal was sent.
    Signalled,
    /// All processes of the container stand still.
    Frozen,
    /// They run again.
    Thawed,
    /// Something failed; what was made is taken back from now on.
    Failed,
    /// Init, and whatever was in its cgroup, has ended.
    Ended,
    /// What was made for the container is gone.
    Removed,
}

impl Trace {
    /// Of a call that begins now.
    pub(crate) fn begin() -> Self {
        // A `run` with a hook or two has no more.
        Trace { began: Instant::now(), steps: Vec::with_capacity(16) }
    }

    /// Notes that `what` is done, since the last one that is noted.
    pub(crate) fn done(&mut self, what: What) {
        let at = self.began.elapsed();
        let before = self.steps.last().map_or(Duration::ZERO, |step| step.at);
        self.steps.push(Step { what, at, took: at.saturating_sub(before) });
    }

    /// Notes that it came to nothing, unless that is noted already.
    pub(crate) fn failed(&mut self) {
        if !self.steps.iter().any(|step| step.what == What::Failed) {
            self.done(What::Failed);
        }
    }

    /// What was done, in order.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Host => f.write_str("the machine was looked at"),
            What::Read { bundle, config } => {
                write!(f, "{}/config.json was read, {} bytes", bundle.display(), config.len())
            }
            What::Looked => f.write_str("the container's state was read"),
            What::Loaded => f.write_str("the container was locked, and its state was read"),
            What::Process { args } => write!(f, "the process is {args:?}"),
            What::Plan { calls, filter: None } => write!(f, "planned: {calls} calls of init, no seccomp filter"),
            What::Plan { calls, filter: Some((instructions, _)) } => {
                write!(f, "planned: {calls} calls of init, a seccomp filter of {instructions} instructions")
            }
            What::Folder => f.write_str("the container's folder was made"),
            What::Unit { name } => write!(f, "systemd has made the unit {name}"),
            What::Cgroups => f.write_str("the cgroups were made"),
            What::Limits => f.write_str("the limits were written to the cgroups"),
            What::Clone { pid } => write!(f, "process {pid} was cloned"),
            What::Stop(stop) => write!(f, "{stop}"),
            What::Mount => f.write_str("what init needs for the filesystem was made"),
            What::NetDevices => f.write_str("the network devices were moved"),
            What::IdMaps => f.write_str("the id maps were written"),
            What::Hook { kind, index, path, status, output } => {
                write!(f, "hooks.{kind}[{index}] ({}) ran: {status}", path.display())?;
                if output.is_empty() { Ok(()) } else { write!(f, ", it wrote {output:?}") }
            }
            What::Announced => f.write_str("the state was written, and the caller told of init"),
            What::Executed => f.write_str("the workload was executed"),
            What::CriuAsked => f.write_str("CRIU was started"),
            What::Dumped => f.write_str("CRIU has saved the processes"),
            What::Restored { pid } => write!(f, "CRIU has restored the processes, process {pid} first"),
            What::Change => f.write_str("the change of the limits was planned"),
            What::Told => f.write_str("systemd was told of the limits"),
            What::Saved => f.write_str("the state was written"),
            What::Signalled => f.write_str("the signal was sent"),
            What::Frozen => f.write_str("all processes stand still"),
            What::Thawed => f.write_str("the processes run again"),
            What::Failed => f.write_str("it failed"),
            What::Ended => f.write_str("init has ended, and nobody is left in the cgroup"),
            What::Removed => f.write_str("the cgroups and the folder were removed"),
        }
    }
}

impl What {
    /// A word for it, in which a program may put its time on record. A new version may have more of them.
    pub fn phase(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            What::Host => "looking",
            What::Read { .. } | What::Looked | What::Loaded => "reading",
            What::Process { .. } | What::Plan { .. } | What::Change => "planning",
            What::Folder | What::Saved => "state",
            What::Told => "systemd",
            What::Signalled => "signal",
            What::Frozen => "freeze",
            What::Thawed => "thaw",
            What::Unit { .. } => "systemd-job",
            What::Cgroups => "cgroup",
            What::Limits => "limits",
            What::Clone { .. } => "spawn",
            What::Stop(stop) => stop.name(),
            What::IdMaps => "id-maps",
            What::NetDevices => "network-devices",
            What::Mount => "mount",
            What::Hook { kind, index, .. } => return Cow::Owned(format!("{kind}[{index}]")),
            What::Announced => "hand-over",
            What::Executed => "execve",
            What::CriuAsked => "criu-start",
            What::Dumped => "criu-dump",
            What::Restored { .. } => "criu-restore",
            What::Failed => "until-failure",
            What::Ended => "ending",
            What::Removed => "clean-up",
        })
    }
}

impl Stop {
    /// The stop in a word.
    fn name(self) -> &'static str {
        match self.0 {
            Point::Cgroup => "until-cgroup",
            Point::IdMap => "until-id-maps",
            Point::NetDevices => "until-network-devices",
            Point::Mount => "until-mount",
            Point::Terminal => "until-terminal",
            Point::Scheduler => "until-scheduler",
            Point::Hooks => "until-hooks",
            Point::Notify => "until-seccomp-listener",
            Point::Ready => "until-ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_takes_the_time_since_the_one_before_it() {
        let mut trace = Trace::begin();
        trace.done(What::Host);
        trace.done(What::Folder);
        let steps = trace.into_steps();
        let [first, second] = steps.as_slice() else { panic!("{steps:?}") };
        assert_eq!((first.took, second.took), (first.at, second.at - first.at));
    }
}
