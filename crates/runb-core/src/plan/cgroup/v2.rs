//! The list for cgroup version 2. Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::path::Place;
use super::{Absent, Dir, DirKind, UnifiedTarget, Write, file_name, indexed, set};
use crate::error::{Error, Result};
use crate::host::cgroups::Unified;

/// The period of cpu.max where only a quota is given, in microseconds: the kernel's default (cgroup-v2.rst).
const DEFAULT_PERIOD: u64 = 100_000;

/// The writes of everything but the devices.
pub(super) fn writes(resources: &LinuxResources, unified: &UnifiedTarget) -> Result<Vec<Write>> {
    let mut list = List { unified, writes: Vec::new() };
    if let Some(pids) = resources.pids() {
        list.need("pids", "linux.resources.pids.limit")?.write(
            "pids.max",
            pids_limit(pids.limit()),
            "linux.resources.pids.limit",
        );
    }
    if let Some(memory) = resources.memory() {
        list.memory(memory)?;
    }
    if let Some(io) = resources.block_io() {
        list.block_io(io)?;
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu)?;
    }
    list.hugepages(resources)?;
    list.rdma(resources)?;
    refuse_network(resources)?;
    list.unified_files(resources)?;
    Ok(list.writes)
}

/// The container's directory. The own cgroup most probably has processes, and where processes are no controller can be
/// given on (cgroup-v2.rst, "No Internal Process Constraint"): a relative path starts beside it, as runc's.
pub(super) fn dir(place: &Place, unified: &Unified) -> Dir {
    let parent = unified.own.parent().unwrap_or(Path::new("/"));
    Dir {
        kind: DirKind::Unified { enable: unified.controllers.clone() },
        mountpoint: unified.mountpoint.clone(),
        path: place.within(&unified.mountpoint, parent),
    }
}

/// pids.max, both versions. 0 is taken as 1, as runc does: a limit of 0 would keep init itself from being cloned into the
/// cgroup, and neither allows a second process.
pub(super) fn pids_limit(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        0 => "1".to_owned(),
        limit => limit.to_string(),
    }
}

/// cpu.weight (1 to 10000, 100 by default) for cpu.shares (2 to 262144, 1024 by default): the quadratic curve through
/// these three points that runc has (opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value).
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

/// io.weight (1 to 10000) for a blkio weight (10 to 1000): linear.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

/// -1 is `max`; 0 is not set.
fn limit(value: Option<i64>) -> Option<String> {
    set(value).map(|value| if value == -1 { "max".to_owned() } else { value.to_string() })
}

/// memory.swap.max, which counts swap alone, from `swap`, which counts memory and swap.
fn swap_limit(memory: &LinuxMemory) -> Result<Option<String>> {
    let origin = "linux.resources.memory.swap";
    Ok(match (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0)) {
        // Version 1's meaning of an unlimited memory without a word about swap.
        (-1, 0) | (_, -1) => Some("max".to_owned()),
        (_, 0) => None,
        (-1, swap) => Some(swap.to_string()),
        (0, _) => return Err(Error::spec(origin, "a swap limit needs a memory limit")),
        (limit, swap) if swap < limit => return Err(Error::spec(origin, SWAP_BELOW_LIMIT)),
        (limit, swap) => Some((swap - limit).to_string()),
    })
}

pub(super) const SWAP_BELOW_LIMIT: &str = "the limit of memory and swap is below the memory limit";

/// `memory`'s numbers that no version can take.
pub(super) fn check_memory(memory: &LinuxMemory) -> Result<()> {
    let numbers = [("limit", memory.limit()), ("reservation", memory.reservation()), ("swap", memory.swap())];
    for (field, value) in numbers {
        if value.is_some_and(|value| value < -1) {
            return Err(Error::spec(format!("linux.resources.memory.{field}"), "is negative (-1 is \"no limit\")"));
        }
    }
    Ok(())
}

fn only_v1(origin: &str) -> Error {
    Error::spec(origin, "cgroup version 2 has nothing like it")
}

struct List<'a> {
    unified: &'a UnifiedTarget,
    writes: Vec<Write>,
}

impl List<'_> {
    fn need(&mut self, controller: &str, origin: &str) -> Result<&mut Self> {
        if !self.unified.controllers.iter().any(|have| have == controller) {
            let text =
                format!("the {controller} controller is not in {}/cgroup.controllers", self.unified.listed.display());
            return Err(Error::spec(origin, text));
        }
        Ok(self)
    }

    fn write(&mut self, file: impl Into<String>, value: impl ToString, origin: impl Into<String>) {
        self.write_or(file, value, origin, Absent::Fails);
    }

    fn write_or(&mut self, file: impl Into<String>, value: impl ToString, origin: impl Into<String>, absent: Absent) {
        let dir = self.unified.dir.clone();
        self.writes.push(Write { dir, file: file.into(), value: value.to_string(), origin: origin.into(), absent });
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        check_memory(memory)?;
        let refused = [
            ("kernel", set(memory.kernel()).is_some_and(|value| value != -1)),
            ("kernelTCP", set(memory.kernel_tcp()).is_some_and(|value| value != -1)),
            ("swappiness", memory.swappiness().is_some_and(|value| value != u64::MAX)),
            ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
            ("useHierarchy", memory.use_hierarchy() == Some(false)),
        ];
        if let Some((field, _)) = refused.iter().find(|(_, asked)| *asked) {
            return Err(only_v1(&format!("linux.resources.memory.{field}")));
        }
        // checkBeforeUpdate compares with the usage, and a cgroup that is just made has none.
        if let Some(value) = swap_limit(memory)? {
            let origin = "linux.resources.memory.swap";
            // Without swap accounting there is no file, and no swap to use either.
            let absent = if value == "max" || value == "0" { Absent::Skips } else { Absent::Fails };
            self.need("memory", origin)?.write_or("memory.swap.max", value, origin, absent);
        }
        for (field, file, value) in
            [("limit", "memory.max", memory.limit()), ("reservation", "memory.low", memory.reservation())]
        {
            if let Some(value) = limit(value) {
                let origin = format!("linux.resources.memory.{field}");
                self.need("memory", &origin)?.write(file, value, origin);
            }
        }
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        for (field, asked) in [
            ("realtimeRuntime", set(cpu.realtime_runtime()).is_some()),
            ("realtimePeriod", set(cpu.realtime_period()).is_some()),
        ] {
            if asked {
                return Err(only_v1(&format!("linux.resources.cpu.{field}")));
            }
        }
        if let Some(shares) = set(cpu.shares()) {
            let origin = "linux.resources.cpu.shares";
            self.need("cpu", origin)?.write("cpu.weight", weight_of_shares(shares), origin);
        }
        let (quota, period) = (set(cpu.quota()), set(cpu.period()));
        if quota.is_some() || period.is_some() {
            let origin = if quota.is_some() { "linux.resources.cpu.quota" } else { "linux.resources.cpu.period" };
            let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            let period = period.unwrap_or(DEFAULT_PERIOD);
            self.need("cpu", origin)?.write("cpu.max", format!("{quota} {period}"), origin);
        }
        // After the quota, which it may not exceed (kernel commit f4183717b370).
        if let Some(burst) = cpu.burst() {
            let origin = "linux.resources.cpu.burst";
            let absent = if burst == 0 { Absent::Skips } else { Absent::Fails };
            self.need("cpu", origin)?.write_or("cpu.max.burst", burst, origin, absent);
        }
        // After the weight, which an idle cgroup refuses (kernel commit 304000390f88).
        if let Some(idle) = cpu.idle() {
            let origin = "linux.resources.cpu.idle";
            let absent = if idle == 0 { Absent::Skips } else { Absent::Fails };
            self.need("cpu", origin)?.write_or("cpu.idle", idle, origin, absent);
        }
        for (field, value) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                let origin = format!("linux.resources.cpu.{field}");
                self.need("cpuset", &origin)?.write(format!("cpuset.{field}"), value, origin);
            }
        }
        Ok(())
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        if set(io.leaf_weight()).is_some() {
            return Err(only_v1("linux.resources.blockIO.leafWeight"));
        }
        if let Some(weight) = set(io.weight()) {
            let origin = "linux.resources.blockIO.weight".to_owned();
            self.need("io", &origin)?.weight(String::new(), weight, origin)?;
        }
        for (origin, device) in indexed("blockIO.weightDevice", io.weight_device()) {
            if set(device.leaf_weight()).is_some() {
                return Err(only_v1(&format!("{origin}.leafWeight")));
            }
            if let Some(weight) = set(device.weight()) {
                let prefix = format!("{}:{} ", device.major(), device.minor());
                self.need("io", &origin)?.weight(prefix, weight, origin)?;
            }
        }
        self.throttle("ReadBps", "rbps", io.throttle_read_bps_device())?;
        self.throttle("WriteBps", "wbps", io.throttle_write_bps_device())?;
        self.throttle("ReadIOPS", "riops", io.throttle_read_iops_device())?;
        self.throttle("WriteIOPS", "wiops", io.throttle_write_iops_device())
    }

    /// BFQ's file takes the specification's numbers; where BFQ is not, io.weight serves.
    fn weight(&mut self, prefix: String, weight: u16, origin: String) -> Result<()> {
        check_weight(&origin, weight)?;
        let value = format!("{prefix}{}", io_weight(weight));
        let dir = self.unified.dir.clone();
        let other = Write { dir, file: "io.weight".into(), value, origin: origin.clone(), absent: Absent::Fails };
        self.write_or("io.bfq.weight", format!("{prefix}{weight}"), origin, Absent::Instead(Box::new(other)));
        Ok(())
    }

    fn throttle(&mut self, field: &str, key: &str, list: &Option<Vec<LinuxThrottleDevice>>) -> Result<()> {
        for (origin, device) in indexed(&format!("blockIO.throttle{field}Device"), list) {
            let rate = set(Some(device.rate())).map_or("max".to_owned(), |rate| rate.to_string());
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            self.need("io", &origin)?.write("io.max", value, origin);
        }
        Ok(())
    }

    fn hugepages(&mut self, resources: &LinuxResources) -> Result<()> {
        for (origin, huge) in indexed("hugepageLimits", resources.hugepage_limits()) {
            file_name(&format!("{origin}.pageSize"), huge.page_size())?;
            // The reservation comes first, as the specification demands: the other limit ends in a SIGBUS.
            let rsvd = format!("hugetlb.{}.rsvd.max", huge.page_size());
            self.need("hugetlb", &origin)?.write_or(rsvd, huge.limit(), origin.clone(), Absent::Skips);
            self.write(format!("hugetlb.{}.max", huge.page_size()), huge.limit(), origin);
        }
        Ok(())
    }

    fn rdma(&mut self, resources: &LinuxResources) -> Result<()> {
        for (origin, value) in rdma_lines(resources)? {
            self.need("rdma", &origin)?.write("rdma.max", value, origin);
        }
        Ok(())
    }

    /// `unified` comes last: what it says has the last word (config-linux.md, "Unified").
    fn unified_files(&mut self, resources: &LinuxResources) -> Result<()> {
        let files: BTreeMap<_, _> = resources.unified().iter().flatten().collect();
        for (file, value) in files {
            let origin = format!("linux.resources.unified[{file:?}]");
            file_name(&origin, file)?;
            match file.split_once('.') {
                None => return Err(Error::spec(origin, "a file is named CONTROLLER.PARAMETER")),
                Some(("cgroup", "procs" | "threads" | "kill" | "freeze" | "subtree_control" | "type")) => {
                    return Err(Error::spec(origin, "is not a limit: the runtime itself writes it"));
                }
                Some(("cgroup" | "io" | "memory" | "cpu", "pressure")) | Some(("cgroup", _)) => {}
                Some((controller, _)) => drop(self.need(controller, &origin)?),
            }
            for line in value.lines().filter(|line| !line.is_empty()) {
                self.write(file.as_str(), line, origin.clone());
            }
        }
        Ok(())
    }
}

fn refuse_network(resources: &LinuxResources) -> Result<()> {
    let Some(network) = resources.network() else { return Ok(()) };
    if set(network.class_id()).is_some() {
        return Err(only_v1("linux.resources.network.classID"));
    }
    if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(only_v1("linux.resources.network.priorities"));
    }
    Ok(())
}

/// The range of the specification and of BFQ.
pub(super) fn check_weight(origin: &str, weight: u16) -> Result<()> {
    match (10..=1000).contains(&weight) {
        true => Ok(()),
        false => Err(Error::spec(origin, format!("{weight} is not from 10 to 1000"))),
    }
}

/// The lines of rdma.max, which both versions have.
pub(super) fn rdma_lines(resources: &LinuxResources) -> Result<Vec<(String, String)>> {
    let devices: BTreeMap<_, _> = resources.rdma().iter().flatten().collect();
    let mut lines = Vec::new();
    for (name, limits) in devices {
        let origin = format!("linux.resources.rdma[{name:?}]");
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::spec(origin, "is not the name of a device"));
        }
        let keys = [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())];
        let values: String =
            keys.iter().filter_map(|(key, value)| value.map(|value| format!(" {key}={value}"))).collect();
        if values.is_empty() {
            return Err(Error::spec(origin, "needs hcaHandles or hcaObjects"));
        }
        lines.push((origin, format!("{name}{values}")));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_on_the_curve_through_minimum_default_and_maximum() {
        let found = [2, 1024, 262_144, 3, 512, 100_000_000].map(weight_of_shares);
        assert_eq!(found, [1, 100, 10_000, 2, 59, 10_000]);
    }

    #[test]
    fn a_blkio_weight_of_500_does_not_overflow() {
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }
}
