//! The list for cgroup version 1, and for a hybrid machine. Source: Documentation/admin-guide/cgroup-v1 of the kernel.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::path::Place;
use super::v2::{SWAP_BELOW_LIMIT, check_memory, check_weight, pids_limit, rdma_lines};
use super::{Absent, CPUSET_FILES, Dir, DirKind, Target, Write, file_name, indexed, set};
use crate::error::{Error, Result};
use crate::host::cgroups::{Hierarchy, Unified};

/// The directories, one for each hierarchy.
pub(super) fn dirs(
    resources: &LinuxResources,
    place: &Place,
    hierarchies: &[Hierarchy],
    unified: Option<&Unified>,
) -> Vec<Dir> {
    let mut dirs: Vec<Dir> = hierarchies.iter().map(|hierarchy| dir(place, hierarchy, resources)).collect();
    // Nothing is enabled: in the runtime's own cgroup there are processes, and no limit is written here.
    dirs.extend(unified.map(|unified| Dir {
        kind: DirKind::Unified { enable: Vec::new() },
        mountpoint: unified.mountpoint.clone(),
        path: place.within(&unified.mountpoint, &unified.own),
    }));
    dirs
}

fn dir(place: &Place, hierarchy: &Hierarchy, resources: &LinuxResources) -> Dir {
    let mut inherit = Vec::new();
    if hierarchy.controllers.iter().any(|name| name == "cpuset") {
        // What the configuration gives is not inherited first: that could clash with a cpuset.cpu_exclusive beside it.
        let given = resources.cpu().as_ref().map(cpuset_files).unwrap_or_default();
        inherit = CPUSET_FILES.to_vec();
        inherit.retain(|file| given.iter().all(|(_, name, _)| name != file));
    }
    Dir {
        kind: DirKind::V1 { controllers: hierarchy.controllers.clone(), inherit },
        mountpoint: hierarchy.mountpoint.clone(),
        path: place.within(&hierarchy.mountpoint, &hierarchy.own),
    }
}

/// Those of [`CPUSET_FILES`] that the configuration gives: field, file, value.
fn cpuset_files(cpu: &LinuxCpu) -> Vec<(&'static str, &'static str, &str)> {
    let files = [("cpus", CPUSET_FILES[0], cpu.cpus()), ("mems", CPUSET_FILES[1], cpu.mems())];
    let given = files.into_iter().filter_map(|(field, file, value)| Some((field, file, value.as_deref()?)));
    given.filter(|(_, _, value)| !value.is_empty()).collect()
}

/// The writes of everything but the devices.
pub(super) fn writes(resources: &LinuxResources, target: &Target) -> Result<Vec<Write>> {
    if resources.unified().as_ref().is_some_and(|files| !files.is_empty()) {
        let text = "invalid configuration: it is of cgroup version 2, and this machine has version 1";
        return Err(Error::spec("linux.resources.unified", text));
    }
    let mut list = List { target, writes: Vec::new() };
    if let Some(cpu) = resources.cpu() {
        list.cpuset(cpu)?;
    }
    if let Some(memory) = resources.memory() {
        list.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        list.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        list.write("pids", "pids.max", pids_limit(pids.limit()), "linux.resources.pids.limit")?;
    }
    if let Some(io) = resources.block_io() {
        list.block_io(io)?;
    }
    list.hugepages(resources)?;
    list.network(resources)?;
    for (origin, value) in rdma_lines(resources)? {
        list.write("rdma", "rdma.max", value, origin)?;
    }
    Ok(list.writes)
}

struct List<'a> {
    target: &'a Target,
    writes: Vec<Write>,
}

impl List<'_> {
    fn write(&mut self, controller: &str, file: &str, value: impl ToString, origin: impl Into<String>) -> Result<()> {
        self.write_or(controller, file, value, origin, Absent::Fails)
    }

    fn write_or(
        &mut self,
        controller: &str,
        file: &str,
        value: impl ToString,
        origin: impl Into<String>,
        absent: Absent,
    ) -> Result<()> {
        let origin = origin.into();
        let Some(dir) = self.target.v1(controller) else {
            return Err(Error::spec(origin, format!("the {controller} controller is not mounted as cgroup version 1")));
        };
        let dir = dir.to_owned();
        self.writes.push(Write { dir, file: file.to_owned(), value: value.to_string(), origin, absent });
        Ok(())
    }

    fn cpuset(&mut self, cpu: &LinuxCpu) -> Result<()> {
        let mut files = cpuset_files(cpu).into_iter();
        files.try_for_each(|(field, file, value)| {
            self.write("cpuset", file, value, format!("linux.resources.cpu.{field}"))
        })
    }

    /// Which of the two limits comes first depends on what the cgroup has: the limit of memory and swap never may be the lower
    /// one. Whoever writes finds out (`crate::cgroup`).
    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        check_memory(memory)?;
        let (limit, mut swap) = (set(memory.limit()), set(memory.swap()));
        let mut absent = Absent::Fails;
        if limit == Some(-1) && swap.is_none() {
            (swap, absent) = (Some(-1), Absent::Skips);
        }
        match (limit, swap) {
            (None, Some(1..)) => {
                return Err(Error::spec("linux.resources.memory.swap", "a swap limit needs a memory limit"));
            }
            (Some(limit @ 1..), Some(swap @ 1..)) if swap < limit => {
                return Err(Error::spec("linux.resources.memory.swap", SWAP_BELOW_LIMIT));
            }
            _ => {}
        }
        let limits = [
            ("limit", "memory.limit_in_bytes", limit, Absent::Fails),
            ("swap", "memory.memsw.limit_in_bytes", swap, absent),
            ("reservation", "memory.soft_limit_in_bytes", set(memory.reservation()), Absent::Fails),
            ("kernel", "memory.kmem.limit_in_bytes", set(memory.kernel()), Absent::Fails),
            ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", set(memory.kernel_tcp()), Absent::Fails),
        ];
        for (field, file, value, absent) in limits {
            if let Some(value) = value {
                self.write_or("memory", file, value, format!("linux.resources.memory.{field}"), absent)?;
            }
        }
        if memory.disable_oom_killer() == Some(true) {
            self.write("memory", "memory.oom_control", 1, "linux.resources.memory.disableOOMKiller")?;
        }
        // True is what every kernel since 5.11 does; false is what it refuses (kernel commit bef8620cd8e0).
        if let Some(use_hierarchy) = memory.use_hierarchy() {
            let (value, absent) = if use_hierarchy { (1, Absent::Skips) } else { (0, Absent::Fails) };
            self.write_or("memory", "memory.use_hierarchy", value, "linux.resources.memory.useHierarchy", absent)?;
        }
        let origin = "linux.resources.memory.swappiness";
        match memory.swappiness() {
            // An old Docker writes -1 for "not set".
            None | Some(u64::MAX) => Ok(()),
            Some(value @ 0..=100) => self.write("memory", "memory.swappiness", value, origin),
            Some(value) => Err(Error::spec(origin, format!("{value} is not from 0 to 100"))),
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<()> {
        if let Some(shares) = set(cpu.shares()) {
            let origin = "linux.resources.cpu.shares";
            // The kernel takes the nearest in silence.
            if !(2..=262_144).contains(&shares) {
                return Err(Error::spec(origin, format!("{shares} is not from 2 to 262144")));
            }
            self.write("cpu", "cpu.shares", shares, origin)?;
        }
        if let Some(period) = set(cpu.period()) {
            self.write("cpu", "cpu.cfs_period_us", period, "linux.resources.cpu.period")?;
        }
        if let Some(quota) = set(cpu.quota()) {
            self.write("cpu", "cpu.cfs_quota_us", quota, "linux.resources.cpu.quota")?;
        }
        // After the quota, which it may not exceed (kernel commit f4183717b370).
        if let Some(burst) = cpu.burst() {
            let absent = if burst == 0 { Absent::Skips } else { Absent::Fails };
            self.write_or("cpu", "cpu.cfs_burst_us", burst, "linux.resources.cpu.burst", absent)?;
        }
        // After the shares, which an idle cgroup refuses (kernel commit 304000390f88).
        if let Some(idle) = cpu.idle() {
            let absent = if idle == 0 { Absent::Skips } else { Absent::Fails };
            self.write_or("cpu", "cpu.idle", idle, "linux.resources.cpu.idle", absent)?;
        }
        if let Some(period) = set(cpu.realtime_period()) {
            self.write("cpu", "cpu.rt_period_us", period, "linux.resources.cpu.realtimePeriod")?;
        }
        if let Some(runtime) = set(cpu.realtime_runtime()) {
            self.write("cpu", "cpu.rt_runtime_us", runtime, "linux.resources.cpu.realtimeRuntime")?;
        }
        Ok(())
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        const GONE: &str = "leaf weights went with the CFQ scheduler in Linux 5.0";
        if set(io.leaf_weight()).is_some() {
            return Err(Error::spec("linux.resources.blockIO.leafWeight", GONE));
        }
        if let Some(weight) = set(io.weight()) {
            let origin = "linux.resources.blockIO.weight";
            check_weight(origin, weight)?;
            self.write("blkio", "blkio.bfq.weight", weight, origin)?;
        }
        for (origin, device) in indexed("blockIO.weightDevice", io.weight_device()) {
            if set(device.leaf_weight()).is_some() {
                return Err(Error::spec(format!("{origin}.leafWeight"), GONE));
            }
            if let Some(weight) = set(device.weight()) {
                check_weight(&origin, weight)?;
                let value = format!("{}:{} {weight}", device.major(), device.minor());
                self.write("blkio", "blkio.bfq.weight_device", value, origin)?;
            }
        }
        self.throttle("ReadBps", "read_bps", io.throttle_read_bps_device())?;
        self.throttle("WriteBps", "write_bps", io.throttle_write_bps_device())?;
        self.throttle("ReadIOPS", "read_iops", io.throttle_read_iops_device())?;
        self.throttle("WriteIOPS", "write_iops", io.throttle_write_iops_device())
    }

    fn throttle(&mut self, field: &str, key: &str, list: &Option<Vec<LinuxThrottleDevice>>) -> Result<()> {
        for (origin, device) in indexed(&format!("blockIO.throttle{field}Device"), list) {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            self.write("blkio", &format!("blkio.throttle.{key}_device"), value, origin)?;
        }
        Ok(())
    }

    fn hugepages(&mut self, resources: &LinuxResources) -> Result<()> {
        for (origin, huge) in indexed("hugepageLimits", resources.hugepage_limits()) {
            file_name(&format!("{origin}.pageSize"), huge.page_size())?;
            // The reservation comes first, as the specification demands: the other limit ends in a SIGBUS.
            let rsvd = format!("hugetlb.{}.rsvd.limit_in_bytes", huge.page_size());
            self.write_or("hugetlb", &rsvd, huge.limit(), origin.clone(), Absent::Skips)?;
            self.write("hugetlb", &format!("hugetlb.{}.limit_in_bytes", huge.page_size()), huge.limit(), origin)?;
        }
        Ok(())
    }

    fn network(&mut self, resources: &LinuxResources) -> Result<()> {
        let Some(network) = resources.network() else { return Ok(()) };
        if let Some(class) = set(network.class_id()) {
            self.write("net_cls", "net_cls.classid", class, "linux.resources.network.classID")?;
        }
        for (origin, priority) in indexed("network.priorities", network.priorities()) {
            let value = format!("{} {}", priority.name(), priority.priority());
            self.write("net_prio", "net_prio.ifpriomap", value, origin)?;
        }
        Ok(())
    }
}
