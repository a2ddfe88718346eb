//! Changing the limits of a cgroup that processes are in: all of an update, or nothing of it.

use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;

use super::devices::{self, Replaced};
use super::files::{read_path, write_path};
use super::{Cgroup, apply};
use crate::error::{Error, Kind, Result};
use crate::plan::cgroup::{DeviceChange, Target, UnifiedTarget, Update, V1Target, Write};

/// What an update has changed so far.
#[derive(Debug, Default)]
pub struct Updated {
    /// File and former content, the oldest first.
    former: Vec<(PathBuf, String, String)>,
    program: Option<Replaced>,
}

impl Cgroup {
    /// Where limits are written.
    ///
    /// Errors: the controllers of the version 2 cgroup cannot be read.
    pub fn target(&self) -> Result<Target> {
        let v1 = self.v1.iter().map(|dir| V1Target { controllers: dir.controllers.clone(), dir: dir.path.clone() });
        let unified = |dir: &PathBuf| {
            let text = read_path(dir, "cgroup.controllers")
                .map_err(|errno| Error::host(format!("read {}/cgroup.controllers", dir.display()), errno))?;
            let controllers = text.split_whitespace().map(str::to_owned).collect();
            Ok(UnifiedTarget { dir: dir.clone(), controllers, listed: dir.clone() })
        };
        Ok(Target { v1: v1.collect(), unified: self.unified.as_ref().map(unified).transpose()? })
    }

    /// Writes what holds already, and somebody else has written in another form; or what is to hold now.
    ///
    /// Errors name the place in the resources, the file and the value.
    pub fn write_again(writes: &[Write]) -> Result<()> {
        apply::in_order(writes, |write| apply::put(write, &apply::by_path))
    }

    /// Does what `update` says. If something fails, what was changed is taken back.
    ///
    /// Errors name the place in the resources, the file and the value; what cannot be taken back is beside.
    pub fn update(&self, update: &Update, deadline: Instant) -> Result<Updated> {
        if let Some((memory, both)) = update.check {
            check_usage(&update.writes, memory, both)?;
        }
        let mut updated = Updated::default();
        match updated.apply(self, update, deadline) {
            Ok(()) => Ok(updated),
            Err(error) => Err(updated.undo(error)),
        }
    }
}

impl Updated {
    fn apply(&mut self, cgroup: &Cgroup, update: &Update, deadline: Instant) -> Result<()> {
        apply::in_order(&update.writes, |write| self.put(write))?;
        match &update.devices {
            None => Ok(()),
            Some(DeviceChange::Exceptions(writes)) => {
                for (write, back) in writes {
                    apply::put(write, &apply::by_path)?;
                    self.former.push((back.dir.clone(), back.file.clone(), back.value.clone()));
                }
                Ok(())
            }
            Some(DeviceChange::Whole(writes, back)) => cgroup.while_frozen(deadline, || {
                self.former.extend(back.iter().rev().map(|w| (w.dir.clone(), w.file.clone(), w.value.clone())));
                writes.iter().try_for_each(|write| apply::put(write, &apply::by_path))
            }),
            Some(DeviceChange::Program(program)) => {
                self.program = Some(devices::replace(program)?);
                Ok(())
            }
        }
    }

    fn put(&mut self, write: &Write) -> Result<()> {
        // What serves where the file is missing is the file that changes.
        let write = match &write.absent {
            crate::plan::cgroup::Absent::Instead(other) if !write.dir.join(&write.file).exists() => other,
            _ => write,
        };
        // Files that can only be written to have no former content.
        let former = read_path(&write.dir, &write.file).ok();
        if write.file == "memory.max" {
            shrink(write)?;
        }
        apply::put(write, &apply::by_path)?;
        let lines = former.map(|text| former_lines(&write.file, &write.value, &text)).unwrap_or_default();
        self.former.extend(lines.into_iter().map(|line| (write.dir.clone(), write.file.clone(), line)));
        Ok(())
    }

    /// Takes back what was changed; what fails in that is said beside `error`.
    pub fn undo(self, error: Error) -> Error {
        let program = self.program.map_or(Ok(()), Replaced::undo);
        let error = program.err().into_iter().fold(error, Error::and_cleanup);
        // An order that was taken one way need not be taken the other way: once more, if some were refused.
        let mut left: Vec<_> = self.former.into_iter().rev().collect();
        let mut failed = Vec::new();
        for _ in 0..2 {
            failed.clear();
            left.retain(|(dir, file, value)| match write_path(dir, file, value) {
                Ok(()) => false,
                Err(errno) => {
                    failed.push(Error::host(format!("write {value:?} back to {}/{file}", dir.display()), errno));
                    true
                }
            });
        }
        failed.into_iter().fold(error, Error::and_cleanup)
    }
}

/// What brings back the content `text` of a file into which `value` was written.
fn former_lines(file: &str, value: &str, text: &str) -> Vec<String> {
    let key = value.split_whitespace().next().unwrap_or_default();
    let is_device =
        key.split_once(':').is_some_and(|(major, minor)| [major, minor].iter().all(|n| n.parse::<u32>().is_ok()));
    let of_key = |key: &str| text.lines().find(|line| line.split_whitespace().next() == Some(key));
    if file == "memory.oom_control" {
        return of_key("oom_kill_disable")
            .and_then(|line| line.split(' ').nth(1))
            .map(str::to_owned)
            .into_iter()
            .collect();
    }
    if value.split_whitespace().nth(1).is_some()
        && let Some(line) = of_key(key)
    {
        return vec![line.to_owned()];
    }
    if is_device {
        let none = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "io.latency" => "target=0",
            _ if file.starts_with("blkio.throttle.") => "0",
            _ if file.contains("weight") => "default",
            _ => return Vec::new(),
        };
        return vec![format!("{key} {none}")];
    }
    match (of_key("default"), text.trim()) {
        (Some(line), _) if file.contains("weight") => vec![line.to_owned()],
        // Nothing is what an empty line stands for; an empty write does not reach the file.
        (_, "") => vec!["\n".to_owned()],
        (_, text) => text.lines().map(str::to_owned).collect(),
    }
}

/// Refuses limits that are below what is in use (config-linux.md, `checkBeforeUpdate`). Version 1 does so itself.
fn check_usage(writes: &[Write], memory: Option<i64>, both: Option<i64>) -> Result<()> {
    let Some(write) = writes.iter().find(|write| write.file.starts_with("memory.")) else { return Ok(()) };
    let Some(usage) = number(write, "memory.current") else { return Ok(()) };
    let limits = [("swap", "memory+swap", both), ("limit", "memory", memory)];
    for (field, name, limit) in limits {
        if let Some(limit) = limit.filter(|limit| *limit > 0 && limit.cast_unsigned() <= usage) {
            let text = format!("rejecting {name} limit {limit} <= usage {usage}");
            return Err(Error::new(Kind::State, text).at(format!("linux.resources.memory.{field}")));
        }
    }
    Ok(())
}

fn number(write: &Write, file: &str) -> Option<u64> {
    read_path(&write.dir, file).ok()?.trim().parse().ok()
}

/// Makes room for a lower memory.max, which would kill at once what does not fit. memory.high reclaims, and slows down whoever
/// wants more meanwhile; memory.reclaim (since Linux 5.19) does it once more, without a pause.
///
/// Errors: what is in use does not fit; nothing has changed then.
fn shrink(write: &Write) -> Result<()> {
    let Ok(limit) = write.value.parse::<u64>() else { return Ok(()) };
    // `max` is no number, and no limit.
    if number(write, "memory.max").is_some_and(|now| now <= limit) {
        return Ok(());
    }
    let host = |file: &'static str| {
        move |errno| Error::host(format!("write to {}/{file}", write.dir.display()), errno).at(write.origin.clone())
    };
    let high = read_path(&write.dir, "memory.high").map_err(host("memory.high"))?;
    write_path(&write.dir, "memory.high", &write.value).map_err(host("memory.high"))?;
    let usage = || number(write, "memory.current").unwrap_or(0);
    let over = usage().saturating_sub(limit);
    if over > 0 {
        // EAGAIN: not all of it could be had; how much there is now decides.
        match write_path(&write.dir, "memory.reclaim", &over.to_string()) {
            Ok(()) | Err(Errno::EAGAIN | Errno::ENOENT) => {}
            Err(errno) => return Err(back(write, &high, host("memory.reclaim")(errno))),
        }
    }
    let usage = usage();
    if usage > limit {
        let text = format!(
            "rejecting memory limit {limit} <= usage {usage}: the container uses more, and the rest could not be reclaimed"
        );
        return Err(back(write, &high, Error::new(Kind::State, text).at(write.origin.clone())));
    }
    let lowered = apply::put(write, &apply::by_path);
    match (lowered, write_path(&write.dir, "memory.high", high.trim())) {
        (Ok(()), result) => result.map_err(host("memory.high")),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(errno)) => Err(error.and_cleanup(host("memory.high")(errno))),
    }
}

/// Puts memory.high back to what it was.
fn back(write: &Write, high: &str, error: Error) -> Error {
    match write_path(&write.dir, "memory.high", high.trim()) {
        Ok(()) => error,
        Err(errno) => error.and_cleanup(Error::host(format!("write {}/memory.high back", write.dir.display()), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_had_is_found_by_the_key_of_the_value() {
        let lines = |file, value, text| former_lines(file, value, text).join("|");
        assert_eq!(lines("pids.max", "7", "max\n"), "max");
        assert_eq!(lines("cpu.max", "5 100000", "max 100000\n"), "max 100000");
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n9:0 rbps=2 wbps=max riops=max wiops=max\n";
        assert_eq!(lines("io.max", "9:0 wiops=4", io), "9:0 rbps=2 wbps=max riops=max wiops=max");
        assert_eq!(lines("io.max", "7:0 wiops=4", io), "7:0 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(lines("blkio.throttle.read_bps_device", "8:0 5", ""), "8:0 0");
        assert_eq!(lines("io.bfq.weight", "50", "default 100\n8:0 200\n"), "default 100");
        assert_eq!(lines("io.bfq.weight", "8:0 50", "default 100\n8:0 200\n"), "8:0 200");
        assert_eq!(lines("io.bfq.weight", "8:16 50", "default 100\n8:0 200\n"), "8:16 default");
        assert_eq!(lines("cpuset.cpus", "0", "\n"), "\n");
        assert_eq!(lines("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), "0");
        let rdma = "mlx5_0 hca_handle=3 hca_object=max\n";
        assert_eq!(lines("rdma.max", "mlx5_0 hca_handle=9", rdma), "mlx5_0 hca_handle=3 hca_object=max");
        assert_eq!(lines("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 1\n"), "eth0 1");
    }
}
