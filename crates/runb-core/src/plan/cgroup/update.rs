//! An update of the limits of a container that exists.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::limits::{Absent, DeviceProgram, Target, Write};
use super::merge::merge;
use super::{bpf, devices, set};
use crate::error::{Error, Result};

/// Everything that an update does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The writes; those to one controller follow each other.
    pub writes: Vec<Write>,
    /// What becomes of the device rules, where they change.
    pub devices: Option<devices::Change>,
    /// Whether a limit that memory in use exceeds already is refused before anything is tried (`checkBeforeUpdate`): the limits
    /// of memory, and of memory and swap.
    pub check: Option<(Option<i64>, Option<i64>)>,
    /// What is odd and no error.
    pub warnings: Vec<String>,
    /// All that is set then.
    pub effective: LinuxResources,
}

/// Plans the update of a container with the resources `before`: what `change` gives is written, whatever was set before; what it
/// does not give is not touched. Values that the kernel takes together are completed by the former ones.
///
/// # Errors
/// What cannot be done here, by its place in `linux.resources`.
pub fn update(before: &LinuxResources, change: &LinuxResources, target: &Target) -> Result<Update> {
    let mut wanted = merge(&LinuxResources::default(), change)?;
    let mut effective = merge(before, change)?;
    if let Some(cpu) = wanted.cpu_mut() {
        complete_cpu(cpu, before.cpu().as_ref());
    }
    let mut writes = Vec::new();
    if let Some(memory) = wanted.memory_mut() {
        complete_memory(memory, before.memory().as_ref());
        if memory.limit() == Some(-1) && memory.swap().is_none() {
            // The former limit of both went with it.
            if let Some(memory) = effective.memory_mut() {
                memory.set_swap(None);
            }
        }
        writes.extend(oom_killer(memory, before.memory().as_ref(), target));
    }
    if target.v1.is_empty() && target.unified.is_none() && wanted != LinuxResources::default() {
        return Err(Error::spec("linux.resources", "the container has no cgroup that could be limited"));
    }
    writes.splice(0..0, target.writes(&wanted)?);
    if let (Some(all), given) = (effective.unified_mut(), change.unified()) {
        // What was just written by another name holds, and no longer what `unified` had for it.
        let given = |file: &str| given.as_ref().is_some_and(|files| files.contains_key(file));
        all.retain(|file, _| given(file) || writes.iter().all(|write| write.file != *file));
    }
    let check = wanted.memory().filter(|memory| memory.check_before_update() == Some(true));
    Ok(Update {
        writes,
        devices: device_change(before, change, target)?,
        warnings: devices::odd_access(change).collect(),
        check: check.map(|memory| (set(memory.limit()), set(memory.swap()))),
        effective,
    })
}

/// Quota and period make one limit (and one file on version 2).
fn complete_cpu(cpu: &mut LinuxCpu, before: Option<&LinuxCpu>) {
    let Some(before) = before else { return };
    match (set(cpu.quota()), set(cpu.period())) {
        (Some(_), None) => _ = cpu.set_period(before.period()),
        (None, Some(_)) => _ = cpu.set_quota(before.quota()),
        _ => {}
    }
}

/// The limit of both counts memory in.
fn complete_memory(memory: &mut LinuxMemory, before: Option<&LinuxMemory>) {
    let Some(before) = before else { return };
    match (set(memory.limit()), set(memory.swap())) {
        // No limit at all, unless it is said what holds for both.
        (Some(-1), None) => {}
        (Some(_), None) => _ = memory.set_swap(before.swap()),
        (None, Some(_)) => _ = memory.set_limit(before.limit()),
        _ => {}
    }
}

/// A new cgroup has its out-of-memory killer, so that only an update can give it back.
fn oom_killer(memory: &LinuxMemory, before: Option<&LinuxMemory>, target: &Target) -> Option<Write> {
    let was_disabled = before.is_some_and(|memory| memory.disable_oom_killer() == Some(true));
    let dir = target.v1("memory").filter(|_| was_disabled && memory.disable_oom_killer() == Some(false))?;
    Some(Write {
        dir: dir.to_owned(),
        file: "memory.oom_control".to_owned(),
        value: "0".to_owned(),
        origin: "linux.resources.memory.disableOOMKiller".to_owned(),
        absent: Absent::Fails,
    })
}

/// The rules are left alone where they are given as they were: engines send them with every update, and what another
/// program has allowed besides (a GPU's device) would go.
fn device_change(before: &LinuxResources, change: &LinuxResources, target: &Target) -> Result<Option<devices::Change>> {
    let given = change.devices().as_ref().filter(|rules| Some(*rules) != before.devices().as_ref());
    if given.is_none() {
        return Ok(None);
    }
    let (old, new) = (devices::rules(before)?, devices::rules(change)?);
    Ok(match (target.v1("devices"), &target.unified) {
        (Some(dir), _) => Some(devices::v1_change(dir, &old, &new)?),
        (None, Some(unified)) => {
            let (dir, instructions) = (unified.dir.clone(), bpf::program(&new));
            Some(devices::Change::Program(DeviceProgram { dir, instructions }))
        }
        (None, None) => None,
    })
}
