//! Limits as properties, from what is written into the cgroup's files.

use zbus::Variant;

use super::{Property, UnitKind};
use crate::error::{Error, Result};
use crate::plan::cgroup::{Absent, Write};

/// USEC_INFINITY, CGROUP_LIMIT_MAX: no limit.
const INFINITY: u64 = u64::MAX;

/// The kernel's period of cpu.max, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The properties for those of `writes` that systemd has one for. A later write counts, as in the kernel. A quota is rounded up
/// in both: systemd keeps it in whole percents of a processor, and would write that when it is reloaded.
///
/// Errors: a value that systemd cannot be told, with its place: it would write its own in its stead.
pub(super) fn properties(writes: &mut [Write], v1: bool, kind: UnitKind) -> Result<Vec<Property>> {
    let mut properties = quota(writes, v1)?;
    for write in writes.iter() {
        let property = if v1 { of_v1(write) } else { of_v2(write, kind) };
        properties.extend(property?.map(|property| property.at(write.origin.clone())));
    }
    // systemd takes the weight 0 for idle, and has but one of both.
    if let Some(idle) = properties.iter().rposition(is_idle) {
        let idle = properties.remove(idle);
        properties.retain(|property| property.name != "CPUWeight");
        properties.push(idle);
    }
    Ok(properties)
}

/// A property as it is where nobody has set it.
pub(super) fn unset(name: &str) -> Property {
    match name {
        "MemoryLow" | "MemoryMin" => Property::new(name, 0u64),
        "AllowedCPUs" | "AllowedMemoryNodes" => Property::new(name, Vec::<u8>::new()),
        _ => Property::new(name, INFINITY),
    }
}

/// systemd has a weight or idle, and the kernel refuses a weight while a cgroup is idle: of both, idle counts.
///
/// Returns what is odd.
pub(super) fn weight_or_idle(writes: &mut Vec<Write>) -> Option<String> {
    let weight = writes.iter().find(|write| write.file == "cpu.weight")?;
    if last(writes, "cpu.idle")?.value.trim() != "1" {
        return None;
    }
    let warning = format!("{}: unable to apply both a weight and cpu.idle: the weight is left out", weight.origin);
    writes.retain(|write| write.file != "cpu.weight");
    Some(warning)
}

/// A weight ends the idleness of a cgroup: systemd takes it so, and the kernel refuses the weight before.
pub(super) fn end_idleness(writes: &mut Vec<Write>) {
    let Some(first) = writes.iter().position(|write| write.file == "cpu.weight") else { return };
    if last(writes, "cpu.idle").is_none() {
        let (file, value) = ("cpu.idle".to_owned(), "0".to_owned());
        writes.insert(first, Write { file, value, absent: Absent::Skips, ..writes[first].clone() });
    }
}

fn last<'a>(writes: &'a [Write], file: &str) -> Option<&'a Write> {
    writes.iter().rfind(|write| write.file == file)
}

/// The weight in `writes`, of a cgroup that is not to be idle any more.
pub(super) fn weight(writes: &[Write]) -> Result<Property> {
    last(writes, "cpu.weight").map_or_else(|| Ok(unset("CPUWeight")), |write| limit(write, "CPUWeight"))
}

/// Whether `writes` end the idleness of a cgroup without giving it a weight.
pub(super) fn ends_idleness(writes: &[Write]) -> bool {
    last(writes, "cpu.idle").is_some_and(|write| write.value.trim() == "0") && last(writes, "cpu.weight").is_none()
}

/// Whether systemd writes its own form of this file with every property of the processor's: quotas in whole percents, which
/// are so in `writes` as well, and where there is no quota the period that it likes.
pub(super) fn is_quota(write: &Write) -> bool {
    write.file.starts_with("cpu.max") || write.file.starts_with("cpu.cfs_")
}

/// Whether systemd writes its own form of this file with a weight: scaled for BFQ, and without what single devices have.
pub(super) fn is_io_weight(write: &Write) -> bool {
    ["blkio.bfq.weight", "io.bfq.weight", "io.weight"].iter().any(|file| write.file.starts_with(file))
}

fn is_idle(property: &Property) -> bool {
    property.name == "CPUWeight" && property.value == Variant::U64(0)
}

fn of_v1(write: &Write) -> Result<Option<Property>> {
    let limit = |name| limit(write, name).map(Some);
    match write.file.as_str() {
        "memory.limit_in_bytes" => limit("MemoryLimit"),
        "cpu.shares" => limit("CPUShares"),
        "blkio.bfq.weight" => limit("BlockIOWeight"),
        "pids.max" => limit("TasksMax"),
        // It keeps them, and uses them on version 2 alone.
        "cpuset.cpus" => Ok(Some(Property::new("AllowedCPUs", bits(write)?))),
        "cpuset.mems" => Ok(Some(Property::new("AllowedMemoryNodes", bits(write)?))),
        _ => Ok(None),
    }
}

fn of_v2(write: &Write, kind: UnitKind) -> Result<Option<Property>> {
    let limit = |name| limit(write, name);
    Ok(Some(match write.file.as_str() {
        "memory.max" => limit("MemoryMax")?,
        "memory.high" => limit("MemoryHigh")?,
        "memory.low" => limit("MemoryLow")?,
        "memory.min" => limit("MemoryMin")?,
        "memory.swap.max" => limit("MemorySwapMax")?,
        "memory.zswap.max" => limit("MemoryZSwapMax")?.since(253),
        "pids.max" => limit("TasksMax")?,
        "cpu.weight" => limit("CPUWeight")?,
        // 0 is what holds without a word of it.
        "cpu.idle" if write.value.trim() == "1" => Property::new("CPUWeight", 0u64).since(252),
        "cpuset.cpus" => Property::new("AllowedCPUs", bits(write)?),
        "cpuset.mems" => Property::new("AllowedMemoryNodes", bits(write)?),
        // The file of BFQ is written afterwards; where it is not, its stand-in is what systemd has.
        "io.bfq.weight" | "io.weight" => return io_weight(write),
        "memory.oom.group" if kind == UnitKind::Scope => {
            let policy = if write.value.trim() == "1" { "kill" } else { "continue" };
            Property::new("OOMPolicy", policy).since(253)
        }
        _ => return Ok(None),
    }))
}

/// A number, or `max`; the kernel also takes -1 for it on version 1, and binary suffixes (memparse).
fn limit(write: &Write, name: &str) -> Result<Property> {
    let text = write.value.trim();
    let number = match text {
        "max" | "-1" => Some(INFINITY),
        _ => memparse(text),
    };
    number.map(|number| Property::new(name, number)).ok_or_else(|| untold(write, "a number, or \"max\""))
}

fn memparse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << factor)
}

/// The weight of the cgroup; those of single devices systemd leaves alone as long as it has none itself.
fn io_weight(write: &Write) -> Result<Option<Property>> {
    let write = match &write.absent {
        Absent::Instead(other) => other,
        _ => write,
    };
    let text = write.value.trim();
    let weight = text.strip_prefix("default").map_or(text, str::trim_start);
    if weight.contains([':', ' ']) {
        return Ok(None);
    }
    let weight: u64 = weight.parse().map_err(|_| untold(write, "a weight"))?;
    Ok(Some(Property::new("IOWeight", weight)))
}

/// The bit mask of a list like `0-3,7`, the lowest byte first.
fn bits(write: &Write) -> Result<Vec<u8>> {
    let mut mask: Vec<u8> = Vec::new();
    for range in write.value.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST_BITS);
        let (first, last) = number(first).zip(number(last)).ok_or_else(|| untold(write, "a list like 0-3,7"))?;
        for bit in first..=last {
            if mask.len() <= bit / 8 {
                mask.resize(bit / 8 + 1, 0);
            }
            mask[bit / 8] |= 1 << (bit % 8);
        }
    }
    if mask.is_empty() { Err(untold(write, "a list like 0-3,7")) } else { Ok(mask) }
}

/// No machine has so many (CONFIG_NR_CPUS).
const MOST_BITS: usize = 1 << 16;

fn untold(write: &Write, wanted: &str) -> Error {
    let text = format!("systemd cannot be told {:?} for {}: it takes {wanted}", write.value, write.file);
    Error::spec(write.origin.clone(), text)
}

/// The quota and period of the last writes that have them, rounded there.
fn quota(writes: &mut [Write], v1: bool) -> Result<Vec<Property>> {
    let at = |file: &str| writes.iter().rposition(|write| write.file == file);
    let (quota_at, period_at) = match v1 {
        true => (at("cpu.cfs_quota_us"), at("cpu.cfs_period_us")),
        false => (at("cpu.max"), None),
    };
    let Some(some) = quota_at.or(period_at) else { return Ok(Vec::new()) };
    let origin = writes[some].origin.clone();
    let number = |at: usize, text: &str| {
        text.parse::<u64>().map_err(|_| untold(&writes[at], "a quota and a period in microseconds, or \"max\""))
    };
    let unlimited = |text: &str| text == "max" || text.starts_with('-');
    let (quota, period) = match (quota_at, v1) {
        (Some(at), false) => {
            let mut parts = writes[at].value.split_ascii_whitespace();
            let quota = parts.next().unwrap_or("max");
            let period = parts.next().map(|text| number(at, text)).transpose()?;
            (if unlimited(quota) { None } else { Some(number(at, quota)?) }, period)
        }
        _ => {
            let value = |at: usize| writes[at].value.as_str();
            let quota = quota_at.filter(|at| !unlimited(value(*at))).map(|at| number(at, value(at))).transpose()?;
            (quota, period_at.map(|at| number(at, value(at))).transpose()?)
        }
    };
    let given = period.filter(|period| *period != 0);
    let period = given.unwrap_or(DEFAULT_PERIOD);
    let percent = quota.map(|quota| (u128::from(quota) * 100).div_ceil(u128::from(period)));
    if let (Some(percent), Some(at)) = (percent, quota_at) {
        let rounded = percent * u128::from(period) / 100;
        writes[at].value = if v1 { rounded.to_string() } else { format!("{rounded} {period}") };
    }
    let per_second = percent.map_or(INFINITY, |percent| u64::try_from(percent * 10_000).unwrap_or(INFINITY));
    let mut properties = vec![Property::new("CPUQuotaPerSecUSec", per_second).at(origin.clone())];
    properties.extend(given.map(|period| Property::new("CPUQuotaPeriodUSec", period).at(origin)));
    Ok(properties)
}
