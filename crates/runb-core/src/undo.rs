//! What takes a launch back: one journal, written before the first effect, replayed by a failing launch and by `delete`.
//!
//! A step is written with what tells that its object is this container's; docs/design.md has the table.

mod unit;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, MadeDir, Own, first_error};
use crate::error::{Error, Result};
use crate::input;
use crate::network::{Device, Inside};
use crate::resctrl::MadeGroup;
use crate::sys;

pub use unit::{Holder, MadeUnit, UnitCgroup};

/// One thing that a launch makes outside of the state's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A directory of a cgroup. It was claimed: it did not exist, or nobody was in it.
    Cgroup(MadeDir),
    /// The file of `--pid-file`. It is ours while it holds init's process id.
    PidFile(PathBuf),
    /// The mount of the root filesystem in the runtime's mount namespace.
    RootMount(RootMount),
    /// A unit of systemd. It is ours if the cgroup that it was made with is still there, or by its description.
    Unit(Box<MadeUnit>),
    /// A group of the resctrl filesystem. It was missing, and mkdir succeeded.
    Resctrl(MadeGroup),
    /// A network device that is moved into the container's network namespace. It is ours if it lies there.
    NetDevice(Device),
}

/// A mount that init makes at a path. It is ours if its number is the one that was found there when init was ready; before
/// that is known, if it is not the one that lay there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootMount {
    path: PathBuf,
    under: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
}

impl RootMount {
    /// One that will be made at `path`.
    ///
    /// # Errors
    /// statx(2) fails.
    pub fn at(path: &Path) -> Result<Self> {
        Ok(RootMount { path: path.to_owned(), under: number_at(path)?, number: None })
    }

    fn undo(&self) -> Result<()> {
        match number_at(&self.path) {
            Err(error) if error.nix_errno() == Some(Errno::ENOENT) => return Ok(()),
            Ok(now) if now == self.under || self.number.is_some_and(|number| number != now) => return Ok(()),
            other => other?,
        };
        match umount2(&self.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL) => Ok(()),
            Err(errno) => Err(Error::host(format!("umount2 {}", self.path.display()), errno)),
        }
    }
}

fn number_at(path: &Path) -> Result<u64> {
    sys::mount_number(path).map_err(|errno| Error::host(format!("statx {}", path.display()), errno))
}

/// Who takes back.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// The process id of init, if one was made.
    pub init: Option<i32>,
    /// What is known of the cgroups.
    pub own: Own,
    /// Until when processes that are ending are waited for.
    pub deadline: Instant,
}

/// The journal of a container, oldest step first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    #[serde(default)]
    steps: Vec<Step>,
}

impl Journal {
    /// Adds what was made, or is about to be.
    pub fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The same for directories of cgroups.
    pub fn add_cgroups(&mut self, dirs: &[MadeDir]) {
        self.steps.extend(dirs.iter().cloned().map(Step::Cgroup));
    }

    /// Has the unit, as it is known by now, as the newest step: systemd stops it before its cgroup goes.
    pub fn set_unit(&mut self, unit: MadeUnit) {
        self.steps.retain(|step| !matches!(step, Step::Unit(_)));
        self.steps.push(Step::Unit(Box::new(unit)));
    }

    /// The unit of systemd that has the container's cgroups.
    pub fn unit(&self) -> Option<&MadeUnit> {
        self.steps.iter().find_map(|step| match step {
            Step::Unit(unit) => Some(unit.as_ref()),
            _ => None,
        })
    }

    /// Init is ready: what lies at the path of the root filesystem now is its mount.
    ///
    /// # Errors
    /// statx(2) fails.
    pub fn find_mounts(&mut self) -> Result<()> {
        for step in &mut self.steps {
            if let Step::RootMount(mount) = step {
                mount.number = Some(number_at(&mount.path)?);
            }
        }
        Ok(())
    }

    /// The launch has succeeded: what is the caller's from then on is not taken back.
    pub fn settle(&mut self) {
        self.steps.retain(|step| match step {
            Step::PidFile(_) | Step::NetDevice(_) => false,
            Step::Resctrl(group) => !group.stays,
            Step::Cgroup(_) | Step::RootMount(_) | Step::Unit(_) => true,
        });
    }

    /// Takes the container's own cgroup back if it has but one (version 2), nobody is in it and nothing below it; says whether
    /// there is none any more. A unit's is systemd's to remove.
    pub fn undo_if_unused(&self) -> bool {
        if self.unit().is_some() {
            return false;
        }
        let mut own = self.steps.iter().filter_map(|step| match step {
            Step::Cgroup(dir) if dir.role == cgroup::Role::Own => Some(dir),
            _ => None,
        });
        match (own.next(), own.next()) {
            (Some(dir), None) => cgroup::remove_if_unused(&dir.path),
            (None, _) => true,
            _ => false,
        }
    }

    /// The network devices that a launch moves.
    pub(crate) fn devices(&self) -> Vec<&Device> {
        let devices = self.steps.iter().filter_map(|step| match step {
            Step::NetDevice(device) => Some(device),
            _ => None,
        });
        devices.collect()
    }

    /// Takes everything back, newest first; network devices from the namespace that they are in, if it is still there.
    ///
    /// # Errors
    /// What could not be taken back by the deadline; the rest is.
    pub(crate) fn undo(&self, ours: Ours, mut inside: Option<Inside>) -> Result<()> {
        first_error(self.steps.iter().rev().map(|step| match step {
            Step::Cgroup(dir) => cgroup::undo(dir, ours.own, ours.deadline),
            Step::PidFile(path) => remove_pid_file(path, ours.init),
            Step::RootMount(mount) => mount.undo(),
            Step::Unit(unit) => unit.undo(),
            Step::Resctrl(group) => group.undo(),
            Step::NetDevice(device) => inside.as_mut().map_or(Ok(()), |inside| inside.take_back(device)),
        }))
    }
}

/// More bytes than any process id has.
const LONGEST_PID: u64 = 32;

fn remove_pid_file(path: &Path, init: Option<i32>) -> Result<()> {
    let ours =
        init.is_some_and(|pid| input::read(path, LONGEST_PID).is_ok_and(|text| text == pid.to_string().as_bytes()));
    if !ours {
        return Ok(());
    }
    fs::remove_file(path).map_err(|e| Error::io(format!("unlink {}", path.display()), &e))
}
