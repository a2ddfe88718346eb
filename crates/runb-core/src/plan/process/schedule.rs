//! process.scheduler, process.ioPriority and process.execCPUAffinity: when and where a process runs. Sources: config.md
//! "Linux Process", sched(7), sched_setattr(2), ioprio_set(2), sched_setaffinity(2).

use nix::libc;
use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process, Scheduler};
use runb_init::Point;

use crate::error::{Error, Kind, Result};
use crate::plan::namespaces::Entry;
use crate::plan::program::{Hint, Program};

use super::mask::{MAX_CPUS, Of, mask};

/// struct sched_attr with the two clamps of utilization (since kernel commit a509a7cd7974, Linux 5.3), in bytes.
const ATTR_SIZE: u32 = 56;

fn policy(scheduler: &Scheduler) -> u32 {
    match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER as u32,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO as u32,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR as u32,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH as u32,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE as u32,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE as u32,
    }
}

fn flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

/// What the kernel would answer EINVAL to, with its reason.
fn check_scheduler(scheduler: &Scheduler) -> Result<()> {
    let wrong = |field: &str, text: String| Err(Error::spec(format!("process.scheduler.{field}"), text));
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return wrong("nice", format!("{nice} is not between -20 and 19"));
    }
    match scheduler.policy() {
        LinuxSchedulerPolicy::SchedIso => {
            let text = "SCHED_ISO is a reserved number: no Linux has this policy";
            return Err(Error::spec("process.scheduler.policy", text).with_kind(Kind::Host));
        }
        policy @ (LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr) if !(1..=99).contains(&priority) => {
            return wrong("priority", format!("{priority} is not between 1 and 99, as {policy} demands"));
        }
        LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr => {}
        policy if priority != 0 => return wrong("priority", format!("{priority} is not 0, as {policy} demands")),
        _ => {}
    }
    if *scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline {
        let [runtime, deadline, period] = times(scheduler);
        let period = if period == 0 { deadline } else { period };
        // sched(7): runtime <= deadline <= period, each at least 1024 ns and below 2^63 ns.
        if !(1024 <= runtime && runtime <= deadline && deadline <= period && period < 1 << 63) {
            let text = format!(
                "SCHED_DEADLINE demands 1024 <= runtime <= deadline <= period: {runtime}, {deadline}, {period} ns"
            );
            return Err(Error::spec("process.scheduler", text));
        }
    }
    Ok(())
}

fn times(scheduler: &Scheduler) -> [u64; 3] {
    [scheduler.runtime(), scheduler.deadline(), scheduler.period()].map(|time| time.unwrap_or(0))
}

/// process.scheduler as one call of the process itself. The right to a real-time policy is asked of the host's user namespace.
/// What a twin would not inherit is not set before there is one: see [`of_twin`].
///
/// # Errors
/// A value is out of the kernel's range.
pub(in crate::plan) fn scheduler(p: &mut Program, process: &Process, entry: Entry) -> Result<()> {
    let Some(Attributes { attr, what, hint }) = attributes(process)? else { return Ok(()) };
    if entry != Entry::Born && is_lost_by_fork(process) {
        return Ok(());
    }
    p.section(PLACE);
    p.doing(what);
    let call = p.sched_setattr(&attr);
    if let Some(hint) = hint {
        call.hint(hint);
    }
    Ok(())
}

/// A process.scheduler that the twin does not inherit, and that it has no right to set by itself: it stops, and the runtime
/// sets it.
///
/// # Errors
/// As [`scheduler`].
pub(in crate::plan) fn of_twin(p: &mut Program, process: &Process) -> Result<Option<Attributes>> {
    let attributes = attributes(process)?.filter(|_| is_lost_by_fork(process));
    if attributes.is_some() {
        p.section(PLACE);
        p.stop(Point::Scheduler);
    }
    Ok(attributes)
}

/// The place of a scheduler in config.json.
pub const PLACE: &str = "process.scheduler";

/// A scheduler, for sched_setattr(2).
#[derive(Clone, Debug)]
pub struct Attributes {
    /// The struct sched_attr.
    pub attr: Vec<u8>,
    /// It in words.
    pub what: String,
    /// What a failure means.
    pub hint: Option<Hint>,
}

fn attributes(process: &Process) -> Result<Option<Attributes>> {
    let Some(scheduler) = process.scheduler() else { return Ok(None) };
    check_scheduler(scheduler)?;
    let flags = scheduler.flags().iter().flatten().fold(0, |all, one| all | flag(*one));
    let (nice, priority) = (scheduler.nice().unwrap_or(0), scheduler.priority().unwrap_or(0));
    let [runtime, deadline, period] = times(scheduler);
    let mut what = format!("sched_setattr {}", scheduler.policy());
    match scheduler.policy() {
        LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr => {
            what.push_str(&format!(" priority {priority}"))
        }
        LinuxSchedulerPolicy::SchedDeadline => {
            what.push_str(&format!(" runtime {runtime} deadline {deadline} period {period}"))
        }
        _ => what.push_str(&format!(" nice {nice}")),
    }
    let mut attr = Vec::with_capacity(ATTR_SIZE as usize);
    attr.extend_from_slice(&ATTR_SIZE.to_ne_bytes());
    attr.extend_from_slice(&policy(scheduler).to_ne_bytes());
    attr.extend_from_slice(&flags.to_ne_bytes());
    attr.extend_from_slice(&nice.to_ne_bytes());
    attr.extend_from_slice(&priority.to_ne_bytes());
    for time in [runtime, deadline, period] {
        attr.extend_from_slice(&time.to_ne_bytes());
    }
    // The specification has no values for the clamps.
    attr.resize(ATTR_SIZE as usize, 0);
    let hint = (*scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline).then_some(Hint::Deadline);
    Ok(Some(Attributes { attr, what, hint }))
}

/// Whether a fork would not hand process.scheduler on: sched(7), "SCHED_RESET_ON_FORK"; a deadline task cannot fork.
pub(in crate::plan) fn is_lost_by_fork(process: &Process) -> bool {
    let Some(scheduler) = process.scheduler() else { return false };
    let reset = scheduler.flags().iter().flatten().any(|flag| *flag == LinuxSchedulerFlag::SchedResetOnFork);
    reset || *scheduler.policy() == LinuxSchedulerPolicy::SchedDeadline
}

/// process.ioPriority, for the calling process and what it will fork.
///
/// # Errors
/// The priority is not one of the eight levels.
pub(in crate::plan) fn io_priority(p: &mut Program, process: &Process) -> Result<()> {
    const CLASS_SHIFT: u32 = 13;
    let Some(io) = process.io_priority() else { return Ok(()) };
    let level = io.priority();
    if !(0..=7).contains(&level) {
        return Err(Error::spec("process.ioPriority.priority", format!("{level} is not between 0 and 7")));
    }
    let class: u32 = match io.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    p.section("process.ioPriority");
    p.doing(format!("ioprio_set {} level {level}", io.class()));
    p.ioprio_set(class << CLASS_SHIFT | level as u32);
    Ok(())
}

/// The part of process.execCPUAffinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Affinity {
    /// Before the process is in the container's cgroup.
    Initial,
    /// After it.
    Final,
}

/// All CPUs of the process's cgroup, and those that are added to it later: not those of the caller, who may be pinned to one.
/// What is not in the cgroup's cpuset the kernel leaves out by itself.
pub(in crate::plan) fn every_cpu(p: &mut Program) {
    p.section("");
    p.doing("let it run on every CPU of its cgroup");
    // A filter around the runtime may forbid it: then it has the caller's.
    p.sched_setaffinity(&[u64::MAX; MAX_CPUS / 64]).tolerate(&[libc::EPERM, libc::ENOSYS]);
}

/// One part of process.execCPUAffinity, for a process that joins a container; the container's own init has none. Without
/// either it begins on every CPU.
///
/// # Errors
/// The text is no list of CPUs.
pub(in crate::plan) fn affinity(p: &mut Program, process: &Process, part: Affinity) -> Result<()> {
    let Some(mask) = affinity_mask(process, part)? else {
        if part == Affinity::Initial && affinity_mask(process, Affinity::Final)?.is_none() {
            every_cpu(p);
        }
        return Ok(());
    };
    p.section(part.place());
    p.doing(format!("sched_setaffinity {}", part.list(process).unwrap_or_default()));
    p.sched_setaffinity(&mask);
    Ok(())
}

/// Checks both parts of process.execCPUAffinity.
///
/// # Errors
/// As [`affinity`].
pub(in crate::plan) fn check_affinity(process: &Process) -> Result<()> {
    affinity_mask(process, Affinity::Initial)?;
    affinity_mask(process, Affinity::Final).map(drop)
}

/// The words of the CPU mask of one part, if it is given; as long as the highest CPU in it demands.
///
/// # Errors
/// As [`affinity`].
pub(in crate::plan) fn affinity_mask(process: &Process, part: Affinity) -> Result<Option<Vec<u64>>> {
    let Some(list) = part.list(process) else { return Ok(None) };
    mask(list, Of::Cpus).map(Some).map_err(|text| Error::spec(part.place(), text))
}

impl Affinity {
    fn place(self) -> &'static str {
        match self {
            Affinity::Initial => "process.execCPUAffinity.initial",
            Affinity::Final => "process.execCPUAffinity.final",
        }
    }

    fn list(self, process: &Process) -> Option<&str> {
        let both = process.exec_cpu_affinity().as_ref()?;
        let list = match self {
            Affinity::Initial => both.initial(),
            Affinity::Final => both.cpu_affinity_final(),
        };
        list.as_deref().filter(|list| !list.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(fields: serde_json::Value) -> Process {
        let mut whole = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]});
        whole.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        serde_json::from_value(whole).expect("a process")
    }

    fn refused(fields: serde_json::Value) -> String {
        let process = process(fields);
        let mut p = Program::new(3);
        let planned = scheduler(&mut p, &process, Entry::Born);
        let planned = planned.and_then(|()| io_priority(&mut p, &process));
        planned.expect_err("it is refused").to_string()
    }

    #[test]
    fn a_scheduler_becomes_one_call_with_all_its_values() {
        let fields = serde_json::json!({"scheduler": {"policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 5_000_000, "deadline": 10_000_000, "period": 20_000_000}});
        let mut p = Program::new(3);
        scheduler(&mut p, &process(fields), Entry::Born).expect("planned");
        assert_eq!(p.what(0), "sched_setattr SCHED_DEADLINE runtime 5000000 deadline 10000000 period 20000000");
        let attr = p.bytes_at(p.calls()[0].args[1], 56).expect("an attribute");
        let word = |at: usize| u64::from_ne_bytes(attr[at..at + 8].try_into().expect("eight bytes"));
        assert_eq!(word(0), 6 << 32 | 56);
        assert_eq!(
            [word(8), word(16), word(24), word(32), word(40), word(48)],
            [2, 0, 5_000_000, 10_000_000, 20_000_000, 0]
        );
    }

    #[test]
    fn values_that_the_kernel_refuses_are_refused_with_their_reason() {
        let of = |fields| refused(serde_json::json!({"scheduler": fields}));
        let text = of(serde_json::json!({"policy": "SCHED_FIFO"}));
        assert_eq!(text, "process.scheduler.priority: 0 is not between 1 and 99, as SCHED_FIFO demands");
        let text = of(serde_json::json!({"policy": "SCHED_OTHER", "nice": 20}));
        assert_eq!(text, "process.scheduler.nice: 20 is not between -20 and 19");
        assert!(of(serde_json::json!({"policy": "SCHED_BATCH", "priority": 1})).contains("as SCHED_BATCH demands"));
        assert!(of(serde_json::json!({"policy": "SCHED_ISO"})).contains("no Linux has this policy"));
        let text = of(serde_json::json!({"policy": "SCHED_DEADLINE", "runtime": 10_000, "deadline": 5_000}));
        assert!(text.contains("runtime <= deadline <= period: 10000, 5000, 5000 ns"), "{text}");
        let text = refused(serde_json::json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}));
        assert_eq!(text, "process.ioPriority.priority: 8 is not between 0 and 7");
    }
}
