//! What the kernel says of memory after a container has ended for want of it.

use super::Cgroup;
use super::files::{read_path, value_of};

/// The memory controller's account of a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OomReport {
    /// How many processes the out-of-memory killer took.
    pub kills: u64,
    /// The limit, in bytes.
    pub limit: Option<u64>,
    /// The highest use, in bytes. Version 2 knows it since Linux 5.19.
    pub peak: Option<u64>,
}

impl Cgroup {
    /// The account, if the cgroup has a memory controller. It is asked before the cgroup is removed.
    pub fn oom(&self) -> Option<OomReport> {
        let number = |text: String| text.trim().parse::<u64>().ok();
        if let Some(path) = self.v1("memory") {
            // "No limit" is the highest multiple of the page size.
            let limited = |limit: &u64| *limit < i64::MAX as u64 - 0x1_0000;
            return Some(OomReport {
                kills: value_of(&read_path(path, "memory.oom_control").ok()?, "oom_kill")?,
                limit: read_path(path, "memory.limit_in_bytes").ok().and_then(number).filter(limited),
                peak: read_path(path, "memory.max_usage_in_bytes").ok().and_then(number),
            });
        }
        let path = self.unified.as_deref()?;
        Some(OomReport {
            kills: value_of(&read_path(path, "memory.events").ok()?, "oom_kill")?,
            limit: read_path(path, "memory.max").ok().and_then(number),
            peak: read_path(path, "memory.peak").ok().and_then(number),
        })
    }
}
