//! What a container uses, as the kernel counts it: [`Container::stats`](crate::container::Container::stats).
//!
//! [`Stats`] is the same for version 1, hybrid machines and version 2. Times are nanoseconds, sizes bytes. What the kernel has
//! no figure for is `None` or empty, never 0; a limit that is `None` is no limit. docs/stats.md says which file each comes from.
//!
//! ```no_run
//! use runb_core::container::Container;
//!
//! let stats = Container::load("/run/runb".as_ref(), "web1")?.stats()?;
//! println!("{:?} ns", stats.cpu.total);
//! if let Some(memory) = stats.memory {
//!     println!("{} bytes of {:?}", memory.usage.usage, memory.usage.limit);
//! }
//! # Ok::<(), runb_core::Error>(())
//! ```

mod controllers;
mod cpu;
mod files;
mod intel_rdt;
mod io;
mod memory;
mod network;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::Result;
use files::Files;

pub(crate) use intel_rdt::of as intel_rdt;
pub use intel_rdt::{IntelRdt, L3CacheInfo, MemBwInfo, MonitoringDomain};
pub(crate) use network::interfaces;

/// The version of [`Stats`]. It grows when a figure gets another meaning or goes; a new figure does not change it.
pub const VERSION: u32 = 1;

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// [`VERSION`].
    pub version: u32,
    /// The version of the cgroups that the figures are from. On a hybrid machine it is 1, and pressure is version 2's.
    pub cgroup_version: u8,
    /// CPU time.
    pub cpu: Cpu,
    /// CPUs and memory nodes.
    pub cpuset: Option<Cpuset>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads.
    pub pids: Option<Pids>,
    /// Block devices.
    pub io: Io,
    /// Huge pages, by their size (`2MB`).
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// RDMA, by device.
    pub rdma: BTreeMap<String, Rdma>,
    /// What the misc controller counts, by its name.
    pub misc: BTreeMap<String, Misc>,
    /// The resctrl group; `None` without linux.intelRdt.
    pub intel_rdt: Option<IntelRdt>,
    /// The interfaces of the container's network namespace; `None` if it has the host's.
    pub network: Option<Vec<Interface>>,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cpu {
    /// All of it.
    pub total: Option<u64>,
    /// In the processes' own code.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// By CPU, from CPU 0 on; on version 1 alone.
    pub per_cpu: Vec<PerCpu>,
    /// What a quota has done.
    pub throttling: Option<Throttling>,
    /// Waiting for a CPU.
    pub pressure: Option<Pressure>,
}

/// The time on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PerCpu {
    /// All of it.
    pub total: u64,
    /// In the processes' own code.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
}

/// What a quota has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long it was held up.
    pub throttled_time: u64,
    /// Periods in which it ran beyond the quota (`burst`).
    pub bursts: Option<u64>,
    /// How long it did.
    pub burst_time: Option<u64>,
}

/// CPUs and memory nodes that may be used; the flags are those of a version 1 cpuset (cpuset(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is named as its file")]
pub struct Cpuset {
    /// The CPUs.
    pub cpus: Vec<u32>,
    /// The memory nodes.
    pub mems: Vec<u32>,
    pub cpu_exclusive: Option<u64>,
    pub mem_hardwall: Option<u64>,
    pub mem_exclusive: Option<u64>,
    pub memory_migrate: Option<u64>,
    pub memory_spread_page: Option<u64>,
    pub memory_spread_slab: Option<u64>,
    pub memory_pressure: Option<u64>,
    pub sched_load_balance: Option<u64>,
    pub sched_relax_domain_level: Option<i64>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Memory {
    /// All that is charged, without swap.
    pub usage: MemoryUse,
    /// Memory and swap together; its limit is the sum of both on version 2.
    pub memory_and_swap: Option<MemoryUse>,
    /// Swap alone; version 1 knows its use and nothing else.
    pub swap: Option<MemoryUse>,
    /// The kernel's own part, on version 1.
    pub kernel: Option<MemoryUse>,
    /// The part in TCP's buffers, on version 1.
    pub kernel_tcp: Option<MemoryUse>,
    /// The page cache.
    pub cache: u64,
    /// How many processes the out-of-memory killer took.
    pub oom_kills: Option<u64>,
    /// All that memory.stat has.
    pub raw: BTreeMap<String, u64>,
    /// Waiting for memory.
    pub pressure: Option<Pressure>,
}

/// One kind of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryUse {
    /// How much is in use.
    pub usage: u64,
    /// How much may be.
    pub limit: Option<u64>,
    /// The most that ever was.
    pub peak: Option<u64>,
    /// How often the limit was hit.
    pub failures: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pids {
    /// How many there are. Without the pids controller processes are counted, and threads are not.
    pub current: u64,
    /// How many there may be.
    pub limit: Option<u64>,
}

/// Block devices. Which figures there are depends on the I/O scheduler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Io {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Requests.
    pub operations: Vec<IoEntry>,
    /// Requests that wait.
    pub queued: Vec<IoEntry>,
    /// Time from a request's dispatch to its end.
    pub service_time: Vec<IoEntry>,
    /// Time in the scheduler's queues.
    pub wait_time: Vec<IoEntry>,
    /// Requests that became a part of another.
    pub merged: Vec<IoEntry>,
    /// Time of access to the device.
    pub time: Vec<IoEntry>,
    /// Sectors.
    pub sectors: Vec<IoEntry>,
    /// Waiting for a device.
    pub pressure: Option<Pressure>,
}

/// A figure of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IoEntry {
    /// The device's major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard`; on version 1 also `Sync`, `Async` and `Total`; empty where all count as one.
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Huge pages of one size: what is reserved, where the kernel counts that, else what is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hugetlb {
    /// How much.
    pub usage: u64,
    /// How much may be.
    pub limit: Option<u64>,
    /// The most that ever was.
    pub peak: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// RDMA on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rdma {
    /// Handles.
    pub handles: u64,
    /// How many there may be.
    pub handle_limit: Option<u64>,
    /// Objects.
    pub objects: u64,
    /// How many there may be.
    pub object_limit: Option<u64>,
}

/// Something that the misc controller counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Misc {
    /// How much.
    pub usage: u64,
    /// How much may be.
    pub limit: Option<u64>,
    /// How often the limit was hit.
    pub failures: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst): how much time is lost in waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pressure {
    /// While some task waits.
    pub some: Stall,
    /// While all wait that do not sleep.
    pub full: Option<Stall>,
}

/// Shares of the last seconds, in per cent, and the sum since ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stall {
    /// Of the last 10 s.
    pub avg10: f64,
    /// Of the last 60 s.
    pub avg60: f64,
    /// Of the last 300 s.
    pub avg300: f64,
    /// The sum, in microseconds as the kernel has it.
    pub total: u64,
}

/// A network interface, as the container sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs, reason = "bytes, packets, errors and drops of both directions")]
pub struct Interface {
    /// Its name.
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What the kernel counts for a cgroup; the network is not among it.
///
/// # Errors
/// A file is there and cannot be read, or is not what the kernel's documentation says.
pub(crate) fn of(cgroup: &Cgroup) -> Result<Stats> {
    let unified = cgroup.unified.as_deref().map(Files::of);
    let nothing = Stats {
        version: VERSION,
        cgroup_version: if cgroup.v1.is_empty() { 2 } else { 1 },
        cpu: Cpu::default(),
        cpuset: None,
        memory: None,
        pids: None,
        io: Io::default(),
        hugetlb: BTreeMap::new(),
        rdma: BTreeMap::new(),
        misc: BTreeMap::new(),
        intel_rdt: None,
        network: None,
    };
    match unified.filter(|_| cgroup.v1.is_empty()) {
        Some(files) => Ok(Stats {
            cpu: cpu::v2(files)?,
            cpuset: controllers::cpuset_v2(files)?,
            memory: memory::v2(files)?,
            pids: Some(controllers::pids(files)?.map_or_else(|| controllers::counted(cgroup), Ok)?),
            io: io::v2(files)?,
            hugetlb: controllers::hugetlb_v2(files)?,
            rdma: controllers::rdma(files)?,
            misc: controllers::misc(files)?,
            ..nothing
        }),
        None => {
            let v1 = |controller: &str| cgroup.v1(controller).map(Files::of);
            Ok(Stats {
                cpu: cpu::v1(v1("cpuacct"), v1("cpu"), unified)?,
                cpuset: v1("cpuset").map(controllers::cpuset_v1).transpose()?,
                memory: v1("memory").map_or(Ok(None), |files| memory::v1(files, unified))?,
                pids: v1("pids").map_or(Ok(None), controllers::pids)?,
                io: io::v1(v1("blkio"), unified)?,
                hugetlb: v1("hugetlb").map_or(Ok(BTreeMap::new()), controllers::hugetlb_v1)?,
                rdma: v1("rdma").map_or(Ok(BTreeMap::new()), controllers::rdma)?,
                misc: v1("misc").map_or(Ok(BTreeMap::new()), controllers::misc)?,
                ..nothing
            })
        }
    }
}
