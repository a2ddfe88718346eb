//! The processes of a cgroup: listing, killing, waiting for their end.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags};

use super::Cgroup;
use super::files::{children, open_child, open_dir, read_file, value_of, wait_for, wait_for_event, write_path};
use crate::error::{Error, Result};
use crate::sys::{pidfd_open, pidfd_send_signal};

impl Cgroup {
    /// The ids of all processes in the cgroup and those below, as the runtime's pid namespace has them, in order.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let Some(path) = self.census() else { return Ok(Vec::new()) };
        pids_below(path).map_err(|errno| Error::host(format!("read the processes of {}", path.display()), errno))
    }

    /// Moves the process `pid` into the cgroup, in each hierarchy.
    pub fn take_in(&self, pid: i32) -> Result<()> {
        let dirs = self.unified.iter().chain(self.v1.iter().map(|dir| &dir.path));
        dirs.into_iter().try_for_each(|dir| {
            let text = || format!("write {pid} to {}/cgroup.procs", dir.display());
            write_path(dir, "cgroup.procs", &pid.to_string()).map_err(|errno| Error::host(text(), errno))
        })
    }

    /// Sends a signal to every process that is there.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Some(path) = self.census() else { return Ok(()) };
        let text = || format!("send signal {signal} to the processes of {}", path.display());
        signal_all(path, signal).map(drop).map_err(|errno| Error::host(text(), errno))
    }

    /// Sends SIGKILL to every process, those that come meanwhile included, and waits until none is left.
    ///
    /// Errors: some are there at `deadline` (ETIMEDOUT).
    pub fn kill(&self, deadline: Instant) -> Result<()> {
        if let Some(path) = &self.unified {
            // One write, which also catches what forks at that moment (kernel commit 661ee6280931, 5.14).
            match write_path(path, "cgroup.kill", "1") {
                Ok(()) => {
                    // A process that the version 1 freezer holds dies no sooner than it is let go.
                    if let Some(freezer) = self.v1("freezer") {
                        let _ = write_path(freezer, "freezer.state", "THAWED");
                    }
                    wait_in(path, deadline)?;
                    if self.v1.is_empty() {
                        return Ok(());
                    }
                }
                // systemd removes a cgroup as soon as nobody is in it: also between the open and the write.
                Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => {}
                Err(errno) => return Err(Error::host(format!("write {}/cgroup.kill", path.display()), errno)),
            }
        }
        let Some(path) = self.census() else { return Ok(()) };
        let killed = self.kill_each(path, deadline);
        let text = || format!("kill the processes of {}", path.display());
        match killed.map_err(|errno| Error::host(text(), errno))? {
            true => Ok(()),
            false => Err(Error::host(text(), Errno::ETIMEDOUT)),
        }
    }

    /// Without cgroup.kill: the cgroup is frozen while the signals go out, so that none forks away from them.
    fn kill_each(&self, path: &Path, deadline: Instant) -> std::result::Result<bool, Errno> {
        while !pids_below(path)?.is_empty() {
            let freezer = self.v1("freezer").map(|path| (path, "freezer.state", "FROZEN", "THAWED"));
            let freezer = freezer.or(self.unified.as_deref().map(|path| (path, "cgroup.freeze", "1", "0")));
            if let Some((path, file, frozen, _)) = freezer {
                // It serves even before everyone has stopped, and a loop follows: the state is not waited for.
                let _ = write_path(path, file, frozen);
            }
            let pidfds = signal_all(path, libc::SIGKILL);
            // Thawed whatever happened: a cgroup that stays frozen cannot die.
            if let Some((path, file, _, thawed)) = freezer {
                let _ = write_path(path, file, thawed);
            }
            for pidfd in &pidfds? {
                if !wait_for(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], deadline)? {
                    return Ok(false);
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until no process is left.
    ///
    /// Errors: some are there at `deadline` (ETIMEDOUT).
    pub fn wait_empty(&self, deadline: Instant) -> Result<()> {
        let census = self.census().filter(|_| !self.v1.is_empty());
        self.unified.as_deref().into_iter().chain(census).try_for_each(|path| wait_in(path, deadline))
    }
}

fn wait_in(path: &Path, deadline: Instant) -> Result<()> {
    let empty = match open_dir(path) {
        Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(errno),
        Ok(dir) => wait_until_empty(path, &dir, deadline),
    };
    let error = |errno| Error::host(format!("wait for the processes of {}", path.display()), errno);
    match empty.map_err(error)? {
        true => Ok(()),
        false => Err(error(Errno::ETIMEDOUT)),
    }
}

/// Waits until nobody is in a cgroup or below: by its events, or by the ends of its processes. False: not by `deadline`.
pub fn wait_until_empty(path: &Path, dir: &OwnedFd, deadline: Instant) -> std::result::Result<bool, Errno> {
    if read_file(dir, "cgroup.events").is_ok() {
        return wait_for_event(dir, deadline, |events| value_of(events, "populated") == Some(0));
    }
    loop {
        let pids = pids_below(path)?;
        if pids.is_empty() {
            return Ok(true);
        }
        for pidfd in pids.iter().filter_map(|pid| pidfd_open(*pid).ok()) {
            if !wait_for(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], deadline)? {
                return Ok(false);
            }
        }
    }
}

/// Sends a signal to every process of the cgroup `path` and below: a pidfd of each.
///
/// A pid is that of the process which its pidfd has if the cgroup lists it once more after the pidfd was opened: then either
/// it is the same process, or the one of the pidfd is dead, and the signal goes nowhere.
fn signal_all(path: &Path, signal: i32) -> std::result::Result<Vec<OwnedFd>, Errno> {
    let mut pidfds = Vec::new();
    for pid in pids_below(path)? {
        match pidfd_open(pid) {
            Ok(pidfd) => pidfds.push((pid, pidfd)),
            Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    let still: BTreeSet<i32> = pids_below(path)?.into_iter().collect();
    pidfds.retain(|(pid, _)| still.contains(pid));
    for (_, pidfd) in &pidfds {
        match pidfd_send_signal(pidfd, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(pidfds.into_iter().map(|(_, pidfd)| pidfd).collect())
}

/// The pids in a cgroup and below; a cgroup that goes away meanwhile has none.
pub fn pids_below(path: &Path) -> std::result::Result<Vec<i32>, Errno> {
    let mut pids = everyone_below(path)?;
    // A process without a number here cannot be named to the kernel.
    pids.remove(&0);
    Ok(pids.into_iter().collect())
}

/// As [`pids_below`], with 0 for a process of another pid namespace than the runtime's and those below: it has no number here.
pub fn everyone_below(path: &Path) -> std::result::Result<BTreeSet<i32>, Errno> {
    let mut pids = BTreeSet::new();
    let mut waiting = match open_dir(path) {
        Err(Errno::ENOENT) => return Ok(pids),
        dir => vec![dir?],
    };
    while let Some(dir) = waiting.pop() {
        match read_file(&dir, "cgroup.procs") {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            // In a threaded cgroup the processes are listed by the top of its threaded domain.
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        for name in children(&dir)? {
            match open_child(&dir, &name) {
                Ok(child) => waiting.push(child),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(pids)
}
