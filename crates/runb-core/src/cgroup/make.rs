//! Making a container's cgroups, and writing what the plan has for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Uid, fchownat, mkdir};

use super::claim::{self, Claim};
use super::files::{open_dir, read_file, read_path, rmdir, write_file, write_path};
use super::{Cgroup, MadeDir, Role, apply, astray, devices};
use crate::error::{Error, Result};
use crate::plan::cgroup::{CPUSET_FILES, CgroupPlan, Dir, DirKind, Write};

/// How often a directory is tried whose parent another container's end takes away in between.
const ATTEMPTS: u32 = 16;

/// The cgroups that were made by a plan, before anyone joins.
#[derive(Debug)]
pub struct Made {
    /// What was made, the outermost first: what [`super::undo`] takes back.
    pub dirs: Vec<MadeDir>,
    /// The cgroup.
    pub cgroup: Cgroup,
    unified: Option<OwnedFd>,
    /// Whether the version 2 cgroup was there before: it may have a device program.
    taken_over: bool,
}

/// Makes the directories of `plan`, and gives version 2 its controllers. What was made is removed again if it fails.
///
/// Errors: a call of it; a cgroup that somebody else has made since it was claimed (kind exists).
pub fn make(plan: &CgroupPlan, claim: &Claim) -> Result<Made> {
    let mut made = Made {
        dirs: Vec::new(),
        cgroup: Cgroup::default(),
        unified: None,
        taken_over: false,
    };
    match make_all(plan, claim, &mut made) {
        Ok(()) => Ok(made),
        // One that was there already stays: nobody has used it. What is of a unit goes with it.
        Err(error) => Err(made.dirs.iter().rev().filter(|dir| !claim.may_be_there(&dir.path)).fold(
            error,
            |error, dir| match rmdir(&dir.path) {
                Err(errno) if dir.role == Role::Own => {
                    error.and_cleanup(Error::host(format!("rmdir {}", dir.path.display()), errno))
                }
                _ => error,
            },
        )),
    }
}

fn make_all(plan: &CgroupPlan, claim: &Claim, made: &mut Made) -> Result<()> {
    for dir in &plan.dirs {
        make_dir(dir, claim, &mut made.dirs)?;
        match &dir.kind {
            DirKind::V1 { controllers, inherit } if controllers.iter().any(|name| name == "cpuset") => {
                for file in CPUSET_FILES {
                    // What the configuration gives must be a part of what the parent has, which may be made just now too.
                    let from = if inherit.contains(&file) { Some(dir.path.as_path()) } else { dir.path.parent() };
                    inherited(from.unwrap_or(&dir.mountpoint), &dir.mountpoint, file)?;
                }
            }
            DirKind::V1 { .. } => {}
            DirKind::Unified { enable } => {
                let fd =
                    open_dir(&dir.path).map_err(|errno| Error::host(format!("open {}", dir.path.display()), errno))?;
                enable_controllers(dir, &fd, enable);
                made.unified = Some(fd);
                made.taken_over = claim.was_there(&dir.path);
            }
        }
    }
    made.cgroup = Cgroup::of(plan);
    Ok(())
}

fn make_dir(dir: &Dir, claim: &Claim, made: &mut Vec<MadeDir>) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o755);
    let host = |path: &Path, errno| Err(Error::host(format!("mkdir {}", path.display()), errno));
    for _ in 0..ATTEMPTS {
        match mkdir(&dir.path, mode) {
            Ok(()) => {}
            Err(Errno::EEXIST) if claim.may_be_there(&dir.path) => {}
            Err(Errno::EEXIST) => return Err(claim::made_by_another(&dir.path)),
            Err(Errno::ENOENT) => {
                let chain = dir.chain();
                for parent in &chain[..chain.len() - 1] {
                    match mkdir(*parent, mode) {
                        Ok(()) => made.push(MadeDir { path: parent.to_path_buf(), role: Role::Parent }),
                        // ENOENT: the end of another container took a directory away that was just there.
                        Err(Errno::EEXIST | Errno::ENOENT) => {}
                        Err(errno) => return host(parent, errno),
                    }
                }
                continue;
            }
            Err(errno) => return host(&dir.path, errno),
        }
        made.push(MadeDir { path: dir.path.clone(), role: Role::Own });
        return Ok(());
    }
    host(&dir.path, Errno::ENOENT)
}

/// Fills `file` of a version 1 cpuset from the nearest parent that has it, and the parents between. The value.
fn inherited(path: &Path, mountpoint: &Path, file: &str) -> Result<String> {
    let error = |call: &str, errno| Error::host(format!("{call} {}/{file}", path.display()), errno);
    let own = read_path(path, file).map_err(|errno| error("read", errno))?;
    if !own.trim().is_empty() || path == mountpoint {
        return Ok(own);
    }
    let value = inherited(path.parent().unwrap_or(mountpoint), mountpoint, file)?;
    write_path(path, file, &value).map_err(|errno| error("write", errno))?;
    Ok(value)
}

/// Gives the cgroup the controllers `enable`, from the top down. One that cannot be given is not an error: a limit
/// that needs it is, as its file is missing then.
fn enable_controllers(dir: &Dir, fd: &OwnedFd, enable: &[String]) {
    if enable.is_empty() {
        return;
    }
    // Mostly the parent gives them on already.
    let has = read_file(fd, "cgroup.controllers").unwrap_or_default();
    let lacks = |have: &str| enable.iter().any(|name| !have.split_whitespace().any(|has| has == name));
    if !lacks(&has) {
        return;
    }
    let all: Vec<String> = enable.iter().map(|name| format!("+{name}")).collect();
    let chain = dir.chain();
    for parent in std::iter::once(dir.mountpoint.as_path()).chain(chain[..chain.len() - 1].iter().copied()) {
        if busy(parent) {
            break;
        }
        if write_path(parent, "cgroup.subtree_control", &all.join(" ")).is_err() {
            // All or nothing for one write, so each by itself.
            for one in &all {
                let _ = write_path(parent, "cgroup.subtree_control", one);
            }
        }
    }
}

/// Whether there are processes in a cgroup that is not the machine's first, so that it can give no controllers on but those for
/// threads; with these nobody could enter the cgroups below it (cgroup-v2.rst, "No Internal Process Constraint", "Threads").
pub(super) fn busy(dir: &Path) -> bool {
    let has_type = dir.join("cgroup.type").exists();
    has_type && !matches!(read_path(dir, "cgroup.procs").as_deref(), Ok("") | Err(Errno::ENOENT))
}

impl Made {
    /// Moves `init` into the version 2 cgroup, if it is not there: systemd may have no use for that hierarchy, on a machine that
    /// has version 1. Those of version 1 init enters by itself.
    ///
    /// Errors: a call of it.
    pub fn take_in(&self, init: i32, plan: &CgroupPlan) -> Result<()> {
        let unified = plan.dirs.iter().position(|dir| matches!(dir.kind, DirKind::Unified { .. }));
        // Where units are told apart by it, it has been seen to.
        let unified = unified.filter(|dir| plan.unit.as_ref().and_then(|unit| unit.dir) != Some(*dir));
        let (Some(dir), Some(fd)) = (unified.map(|dir| &plan.dirs[dir]), &self.unified) else { return Ok(()) };
        if astray(init, dir)?.is_none() {
            return Ok(());
        }
        let call = || format!("write {init} to {}/cgroup.procs", dir.path.display());
        write_file(fd, "cgroup.procs", &init.to_string()).map_err(|errno| Error::host(call(), errno))
    }

    /// The directory in the version 2 hierarchy, for CLONE_INTO_CGROUP.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Writes the plan's values and attaches its device program; before anyone is in the cgroups.
    ///
    /// Errors name the place in config.json, the file and the value.
    pub fn apply(&self, plan: &CgroupPlan) -> Result<()> {
        let limits = &plan.limits;
        let call = |write: &Write| match &self.unified {
            Some(fd) if self.cgroup.unified.as_ref() == Some(&write.dir) => write_file(fd, &write.file, &write.value),
            _ => apply::by_path(write),
        };
        apply::in_order(&limits.writes, |write| apply::put(write, &call))?;
        match &limits.devices {
            None => {}
            Some(devices) if self.taken_over => drop(devices::replace(devices)?),
            Some(devices) => devices::attach(devices)?,
        }
        match (plan.owner, &self.unified) {
            (Some(owner), Some(dir)) => give(dir, owner),
            _ => Ok(()),
        }
    }
}

/// What config-linux.md says to give away where the kernel does not say it.
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

/// Gives a cgroup, and of its files those that are safe in the hands of whoever runs in it, to the user `owner`.
fn give(dir: &OwnedFd, owner: u32) -> Result<()> {
    const LIST: &str = "/sys/kernel/cgroup/delegate";
    let error = |what: &str, errno| Error::host(format!("chown of {what} to {owner}"), errno).at("linux.cgroupsPath");
    let change = |name: &str, flags| fchownat(dir, name, Some(Uid::from_raw(owner)), None, flags);
    if fstat(dir).map_err(|errno| error("the cgroup", errno))?.st_uid == owner {
        return Ok(());
    }
    change("", AtFlags::AT_EMPTY_PATH).map_err(|errno| error("the cgroup", errno))?;
    let list = std::fs::read_to_string(LIST).unwrap_or_else(|_| DELEGATED.to_owned());
    for name in list.lines() {
        match change(name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Those of controllers that the cgroup has not.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(error(name, errno)),
        }
    }
    Ok(())
}
