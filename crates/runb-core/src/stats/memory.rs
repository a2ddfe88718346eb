//! The memory controller.

use super::files::Files;
use super::{Memory, MemoryUse};
use crate::error::Result;

pub(super) fn v1(files: Files<'_>, unified: Option<Files<'_>>) -> Result<Option<Memory>> {
    let Some(raw) = files.flat("memory.stat")? else { return Ok(None) };
    let usage = kind_v1(files, "memory")?.unwrap_or_default();
    let memory_and_swap = kind_v1(files, "memory.memsw")?;
    // Both are read one after the other, and memory may have grown in between.
    let swap =
        memory_and_swap.map(|both| MemoryUse { usage: both.usage.saturating_sub(usage.usage), ..MemoryUse::default() });
    Ok(Some(Memory {
        usage,
        memory_and_swap,
        swap,
        kernel: kind_v1(files, "memory.kmem")?,
        kernel_tcp: kind_v1(files, "memory.kmem.tcp")?,
        cache: raw.get("cache").copied().unwrap_or(0),
        oom_kills: files.flat("memory.oom_control")?.and_then(|control| control.get("oom_kill").copied()),
        raw,
        pressure: unified.map_or(Ok(None), |files| files.pressure("memory.pressure"))?,
    }))
}

fn kind_v1(files: Files<'_>, prefix: &str) -> Result<Option<MemoryUse>> {
    let Some(usage) = files.number(&format!("{prefix}.usage_in_bytes"))? else { return Ok(None) };
    Ok(Some(MemoryUse {
        usage,
        limit: files.limit(&format!("{prefix}.limit_in_bytes"))?,
        peak: files.number(&format!("{prefix}.max_usage_in_bytes"))?,
        failures: files.number(&format!("{prefix}.failcnt"))?,
    }))
}

pub(super) fn v2(files: Files<'_>) -> Result<Option<Memory>> {
    let Some(usage) = kind_v2(files, "memory")? else { return Ok(None) };
    let swap = kind_v2(files, "memory.swap")?;
    let memory_and_swap = swap.map(|swap| MemoryUse {
        usage: usage.usage + swap.usage,
        limit: usage.limit.zip(swap.limit).map(|(memory, swap)| memory + swap),
        // The highest of the one need not have been at the time of the other's.
        peak: None,
        failures: swap.failures,
    });
    let raw = files.flat("memory.stat")?.unwrap_or_default();
    let oom_kills = files.flat("memory.events")?.and_then(|events| events.get("oom_kill").copied());
    Ok(Some(Memory {
        usage,
        memory_and_swap,
        swap,
        kernel: None,
        kernel_tcp: None,
        cache: raw.get("file").copied().unwrap_or(0),
        oom_kills,
        raw,
        pressure: files.pressure("memory.pressure")?,
    }))
}

fn kind_v2(files: Files<'_>, prefix: &str) -> Result<Option<MemoryUse>> {
    let Some(usage) = files.number(&format!("{prefix}.current"))? else { return Ok(None) };
    let events = files.flat(&format!("{prefix}.events"))?;
    Ok(Some(MemoryUse {
        usage,
        limit: files.limit(&format!("{prefix}.max"))?,
        peak: files.number(&format!("{prefix}.peak"))?,
        failures: events.and_then(|events| events.get("max").copied()),
    }))
}
