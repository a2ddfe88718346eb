//! cpuacct, cpu; cpu.stat.

use super::files::{Files, number};
use super::{Cpu, PerCpu, Throttling};
use crate::error::Result;

/// Nanoseconds in a tick of cpuacct.stat: USER_HZ is 100 on every architecture that has cgroups (include/asm-generic/param.h).
const TICK: u64 = 10_000_000;
const MICROSECOND: u64 = 1000;

pub(super) fn v1(cpuacct: Option<Files<'_>>, cpu: Option<Files<'_>>, unified: Option<Files<'_>>) -> Result<Cpu> {
    let mut found = Cpu::default();
    if let Some(files) = cpuacct {
        let ticks = files.flat("cpuacct.stat")?.unwrap_or_default();
        found.total = files.number("cpuacct.usage")?;
        found.user = ticks.get("user").map(|ticks| ticks * TICK);
        found.system = ticks.get("system").map(|ticks| ticks * TICK);
        found.per_cpu = per_cpu(files)?;
    }
    if let Some(stat) = cpu.map_or(Ok(None), |files| files.flat("cpu.stat"))? {
        let figure = |key: &str| stat.get(key).copied();
        found.throttling = figure("nr_periods").map(|periods| Throttling {
            periods,
            throttled_periods: figure("nr_throttled").unwrap_or(0),
            throttled_time: figure("throttled_time").unwrap_or(0),
            bursts: figure("nr_bursts"),
            burst_time: figure("burst_time"),
        });
    }
    found.pressure = unified.map_or(Ok(None), |files| files.pressure("cpu.pressure"))?;
    Ok(found)
}

/// Lines of `CPU USER SYSTEM` in cpuacct.usage_all, under a head; the sums are in cpuacct.usage_percpu.
fn per_cpu(files: Files<'_>) -> Result<Vec<PerCpu>> {
    const SUMS: &str = "cpuacct.usage_percpu";
    let sums = files.text(SUMS)?.unwrap_or_default();
    let modes = files.text("cpuacct.usage_all")?.unwrap_or_default();
    let mut modes = modes.lines().skip(1).map(|line| {
        let mut fields = line.split_whitespace().skip(1).map(number);
        (fields.next().flatten(), fields.next().flatten())
    });
    let one = |word: &str| {
        let total = number(word).ok_or_else(|| files.strange(SUMS, word))?;
        let (user, system) = modes.next().unwrap_or_default();
        Ok(PerCpu { total, user, system })
    };
    sums.split_whitespace().map(one).collect()
}

pub(super) fn v2(files: Files<'_>) -> Result<Cpu> {
    let stat = files.flat("cpu.stat")?.unwrap_or_default();
    let figure = |key: &str| stat.get(key).copied();
    let time = |key: &str| figure(key).map(|time| time * MICROSECOND);
    Ok(Cpu {
        total: time("usage_usec"),
        user: time("user_usec"),
        system: time("system_usec"),
        per_cpu: Vec::new(),
        throttling: figure("nr_periods").map(|periods| Throttling {
            periods,
            throttled_periods: figure("nr_throttled").unwrap_or(0),
            throttled_time: time("throttled_usec").unwrap_or(0),
            bursts: figure("nr_bursts"),
            burst_time: time("burst_usec"),
        }),
        pressure: files.pressure("cpu.pressure")?,
    })
}
