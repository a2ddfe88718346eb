//! Events as `runc events` prints them: the names, what is left out where it is 0, and the order are runc's.

mod intel_rdt;

use anyhow::{Context as _, Result};
use std::collections::BTreeMap;

use runb_core::stats::{Cpu, Cpuset, Interface, Io, IoEntry, Memory, MemoryUse, Pressure, Stall, Stats};
use serde::Serialize;

use intel_rdt::IntelRdtData;

/// The line with the statistics of the container `id`.
pub fn stats(id: &str, stats: &Stats) -> Result<String> {
    line(&Event { kind: "stats", id, data: Some(Data::of(stats)) })
}

/// The line that tells of the out-of-memory killer.
pub fn out_of_memory(id: &str) -> Result<String> {
    line(&Event { kind: "oom", id, data: None })
}

fn line(event: &Event<'_>) -> Result<String> {
    let text = serde_json::to_string(event).context("internal error: an event")?;
    Ok(text + "\n")
}

fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
}

#[derive(Serialize)]
struct Data<'a> {
    cpu: CpuData,
    cpuset: CpusetData<'a>,
    memory: MemoryData<'a>,
    pids: PidsData,
    blkio: BlkioData<'a>,
    hugetlb: BTreeMap<&'a str, HugetlbData>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rdma: BTreeMap<&'a str, RdmaData>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    misc: BTreeMap<&'a str, MiscData>,
    intel_rdt: IntelRdtData<'a>,
    network_interfaces: Option<Vec<InterfaceData<'a>>>,
}

#[derive(Default, PartialEq, Serialize)]
struct CpuData {
    #[serde(skip_serializing_if = "zero")]
    usage: UsageData,
    #[serde(skip_serializing_if = "zero")]
    throttling: ThrottlingData,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<PsiData>,
}

#[derive(Default, PartialEq, Serialize)]
struct UsageData {
    #[serde(skip_serializing_if = "zero")]
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ThrottlingData {
    #[serde(skip_serializing_if = "zero")]
    periods: u64,
    #[serde(skip_serializing_if = "zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "zero")]
    throttled_time: u64,
}

#[derive(PartialEq, Serialize)]
struct PsiData {
    #[serde(skip_serializing_if = "StallData::is_zero")]
    some: StallData,
    #[serde(skip_serializing_if = "StallData::is_zero")]
    full: StallData,
}

#[derive(Default, PartialEq, Serialize)]
struct StallData {
    avg10: f64,
    avg60: f64,
    avg300: f64,
    total: u64,
}

#[derive(Serialize)]
struct CpusetData<'a> {
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    cpus: &'a [u32],
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    mems: &'a [u32],
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Serialize)]
struct MemoryData<'a> {
    #[serde(skip_serializing_if = "zero")]
    cache: u64,
    #[serde(skip_serializing_if = "zero")]
    usage: UseData,
    #[serde(skip_serializing_if = "zero")]
    swap: UseData,
    #[serde(skip_serializing_if = "zero")]
    kernel: UseData,
    #[serde(rename = "kernelTCP", skip_serializing_if = "zero")]
    kernel_tcp: UseData,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'a BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<PsiData>,
}

#[derive(Default, PartialEq, Serialize)]
struct UseData {
    limit: u64,
    #[serde(skip_serializing_if = "zero")]
    usage: u64,
    #[serde(skip_serializing_if = "zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Default, Serialize)]
struct PidsData {
    #[serde(skip_serializing_if = "zero")]
    current: u64,
    #[serde(skip_serializing_if = "zero")]
    limit: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlkioData<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_queue_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<EntryData<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<PsiData>,
}

#[derive(Serialize)]
struct EntryData<'a> {
    #[serde(skip_serializing_if = "zero")]
    major: u64,
    #[serde(skip_serializing_if = "zero")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "zero")]
    value: u64,
}

#[derive(Serialize)]
struct HugetlbData {
    #[serde(skip_serializing_if = "zero")]
    usage: u64,
    #[serde(skip_serializing_if = "zero")]
    max: u64,
    failcnt: u64,
}

/// runc counts these two and prints neither.
#[derive(Serialize)]
struct RdmaData {
    hca_handles: u64,
    hca_objects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hca_handles_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hca_objects_limit: Option<u64>,
}

#[derive(Serialize)]
struct MiscData {
    usage: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    events: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InterfaceData<'a> {
    name: &'a str,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

impl<'a> Data<'a> {
    fn of(stats: &'a Stats) -> Self {
        let named = |list: &'a Vec<Interface>| list.iter().map(InterfaceData::of).collect();
        Data {
            cpu: cpu(&stats.cpu),
            cpuset: cpuset(stats.cpuset.as_ref()),
            memory: memory(stats),
            pids: stats
                .pids
                .map_or(PidsData::default(), |pids| PidsData { current: pids.current, limit: pids.limit.unwrap_or(0) }),
            blkio: blkio(&stats.io),
            hugetlb: stats
                .hugetlb
                .iter()
                .map(|(size, huge)| {
                    let data = HugetlbData { usage: huge.usage, max: huge.peak.unwrap_or(0), failcnt: huge.failures };
                    (size.as_str(), data)
                })
                .collect(),
            rdma: stats
                .rdma
                .iter()
                .map(|(device, rdma)| {
                    let data = RdmaData {
                        hca_handles: rdma.handles,
                        hca_objects: rdma.objects,
                        hca_handles_limit: rdma.handle_limit,
                        hca_objects_limit: rdma.object_limit,
                    };
                    (device.as_str(), data)
                })
                .collect(),
            misc: stats
                .misc
                .iter()
                .map(|(name, misc)| {
                    (name.as_str(), MiscData { usage: misc.usage, limit: misc.limit, events: misc.failures })
                })
                .collect(),
            intel_rdt: stats.intel_rdt.as_ref().map(intel_rdt::data).unwrap_or_default(),
            network_interfaces: stats.network.as_ref().map(named),
        }
    }
}

fn cpu(cpu: &Cpu) -> CpuData {
    let each = |figure: fn(&runb_core::stats::PerCpu) -> Option<u64>| -> Vec<u64> {
        cpu.per_cpu.iter().filter_map(figure).collect()
    };
    let throttling = cpu.throttling.unwrap_or_default();
    CpuData {
        usage: UsageData {
            total: cpu.total.unwrap_or(0),
            percpu: each(|cpu| Some(cpu.total)),
            percpu_kernel: each(|cpu| cpu.system),
            percpu_user: each(|cpu| cpu.user),
            kernel: cpu.system.unwrap_or(0),
            user: cpu.user.unwrap_or(0),
        },
        throttling: ThrottlingData {
            periods: throttling.periods,
            throttled_periods: throttling.throttled_periods,
            throttled_time: throttling.throttled_time,
        },
        psi: cpu.pressure.map(PsiData::of),
    }
}

fn cpuset(cpuset: Option<&Cpuset>) -> CpusetData<'_> {
    let flag = |flag: fn(&Cpuset) -> Option<u64>| cpuset.and_then(flag).unwrap_or(0);
    CpusetData {
        cpus: cpuset.map_or(&[], |cpuset| &cpuset.cpus),
        cpu_exclusive: flag(|cpuset| cpuset.cpu_exclusive),
        mems: cpuset.map_or(&[], |cpuset| &cpuset.mems),
        mem_hardwall: flag(|cpuset| cpuset.mem_hardwall),
        mem_exclusive: flag(|cpuset| cpuset.mem_exclusive),
        memory_migrate: flag(|cpuset| cpuset.memory_migrate),
        memory_spread_page: flag(|cpuset| cpuset.memory_spread_page),
        memory_spread_slab: flag(|cpuset| cpuset.memory_spread_slab),
        memory_pressure: flag(|cpuset| cpuset.memory_pressure),
        sched_load_balance: flag(|cpuset| cpuset.sched_load_balance),
        sched_relax_domain_level: cpuset.and_then(|cpuset| cpuset.sched_relax_domain_level).unwrap_or(0),
    }
}

fn memory(stats: &Stats) -> MemoryData<'_> {
    let memory = stats.memory.as_ref();
    // What the kernel has where there is no limit: the highest number of pages on version 1, `max` on version 2.
    let unlimited = match stats.cgroup_version {
        1 => i64::MAX as u64 / page_size() * page_size(),
        _ => u64::MAX,
    };
    let data = |kind: Option<&MemoryUse>| {
        kind.map_or(UseData::default(), |kind| UseData {
            limit: kind.limit.unwrap_or(unlimited),
            usage: kind.usage,
            max: kind.peak.unwrap_or(0),
            failcnt: kind.failures.unwrap_or(0),
        })
    };
    let part = |part: fn(&Memory) -> Option<&MemoryUse>| data(memory.and_then(part));
    MemoryData {
        cache: memory.map_or(0, |memory| memory.cache),
        usage: part(|memory| Some(&memory.usage)),
        swap: part(|memory| memory.memory_and_swap.as_ref()),
        kernel: part(|memory| memory.kernel.as_ref()),
        kernel_tcp: part(|memory| memory.kernel_tcp.as_ref()),
        raw: memory.map(|memory| &memory.raw).filter(|raw| !raw.is_empty()),
        psi: memory.and_then(|memory| memory.pressure).map(PsiData::of),
    }
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |size| size as u64)
}

fn blkio(io: &Io) -> BlkioData<'_> {
    fn data(entry: &IoEntry) -> EntryData<'_> {
        EntryData { major: entry.major, minor: entry.minor, op: &entry.op, value: entry.value }
    }
    fn list(entries: &[IoEntry]) -> Vec<EntryData<'_>> {
        entries.iter().map(data).collect()
    }
    BlkioData {
        io_service_bytes_recursive: list(&io.bytes),
        io_serviced_recursive: list(&io.operations),
        io_queue_recursive: list(&io.queued),
        io_service_time_recursive: list(&io.service_time),
        io_wait_time_recursive: list(&io.wait_time),
        io_merged_recursive: list(&io.merged),
        io_time_recursive: list(&io.time),
        sectors_recursive: list(&io.sectors),
        psi: io.pressure.map(PsiData::of),
    }
}

impl PsiData {
    fn of(pressure: Pressure) -> Self {
        PsiData { some: pressure.some.into(), full: pressure.full.unwrap_or_default().into() }
    }
}

impl StallData {
    fn is_zero(&self) -> bool {
        zero(self)
    }
}

impl From<Stall> for StallData {
    fn from(stall: Stall) -> Self {
        StallData { avg10: stall.avg10, avg60: stall.avg60, avg300: stall.avg300, total: stall.total }
    }
}

impl<'a> InterfaceData<'a> {
    fn of(interface: &'a Interface) -> Self {
        let Interface {
            rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped, ..
        } = *interface;
        let name = &interface.name;
        InterfaceData { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped }
    }
}
