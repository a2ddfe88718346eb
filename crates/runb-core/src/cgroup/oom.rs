//! What the kernel says of memory after a container has ended for want of it.

use std::path::{Path, PathBuf};

use super::Cgroup;
use super::files::{read_path, value_of};

/// The memory controller's account of a cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomReport {
    /// How many processes the out-of-memory killer took.
    pub kills: u64,
    /// The limit, in bytes.
    pub limit: Option<u64>,
    /// The highest use, in bytes. Version 2 knows it since Linux 5.19.
    pub peak: Option<u64>,
    /// The cgroup above whose limit was reached, and not this one's, and that limit.
    pub above: Option<(PathBuf, u64)>,
}

/// The names of a version's files.
struct Files {
    limit: &'static str,
    peak: &'static str,
    /// How often the limit of this very cgroup was reached.
    reached: fn(&Path) -> Option<u64>,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    peak: "memory.max_usage_in_bytes",
    reached: |path| number(&read_path(path, "memory.failcnt").ok()?),
};

const V2: Files = Files {
    limit: "memory.max",
    peak: "memory.peak",
    reached: |path| value_of(&read_path(path, "memory.events.local").ok()?, "max"),
};

impl Cgroup {
    /// The account, if the cgroup has a memory controller. It is asked before the cgroup is removed.
    pub fn oom(&self) -> Option<OomReport> {
        if let Some(path) = self.v1("memory") {
            return V1.report(path, value_of(&read_path(path, "memory.oom_control").ok()?, "oom_kill")?);
        }
        let path = self.unified.as_deref()?;
        V2.report(path, value_of(&read_path(path, "memory.events").ok()?, "oom_kill")?)
    }
}

impl Files {
    fn report(&self, path: &Path, kills: u64) -> Option<OomReport> {
        let was_reached = |path: &Path| (self.reached)(path).is_some_and(|times| times > 0);
        let above = || {
            let reached = |path: &Path| Some((path.to_owned(), self.limit(path).filter(|_| was_reached(path))?));
            path.ancestors().skip(1).find_map(reached)
        };
        let above = if kills > 0 && !was_reached(path) { above() } else { None };
        let peak = read_path(path, self.peak).ok().and_then(|text| number(&text));
        Some(OomReport { kills, limit: self.limit(path), peak, above })
    }

    fn limit(&self, path: &Path) -> Option<u64> {
        // In version 1 "no limit" is the highest multiple of the page size.
        let limited = |limit: &u64| *limit < i64::MAX as u64 - 0x1_0000;
        read_path(path, self.limit).ok().and_then(|text| number(&text)).filter(limited)
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}
