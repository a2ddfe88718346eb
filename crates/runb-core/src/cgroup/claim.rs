//! Whether the planned cgroups may become a container's: looked at before anything is made, so that a refused launch has
//! nothing to take back, and a later one knows what it found.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::files::{open_dir, read_file, value_of};
use super::procs::everyone_below;
use super::{MadeDir, Role};
use crate::error::{Error, Kind, Result};
use crate::plan::cgroup::{CgroupPlan, Dir, DirKind};

/// The cgroups that a launch may make and take over.
#[derive(Debug)]
pub struct Claim {
    /// All that making can make or take over, the outermost first, hierarchy by hierarchy: for the record that is written
    /// before.
    pub dirs: Vec<MadeDir>,
    /// The container's own that exist, locked until init is in them: two launches that find the same cgroup empty do not both
    /// take it.
    found: Vec<(PathBuf, File)>,
    /// Whether systemd has made directories of it in the meantime: with its name the unit has them all.
    by_unit: bool,
}

impl Claim {
    /// Whether the directory existed when it was claimed.
    pub(super) fn was_there(&self, path: &Path) -> bool {
        self.found.iter().any(|(found, _)| found == path)
    }

    /// Whether it may be there when it is made.
    pub(super) fn may_be_there(&self, path: &Path) -> bool {
        self.by_unit || self.was_there(path)
    }
}

/// Claims the cgroups of `plan`. One that exists is the container's from then on if nobody is in it or below: engines make it
/// beforehand, and crashes leave one.
///
/// Errors (kind exists): somebody is in one; it is frozen, so that nobody could join; another launch is taking it over.
pub fn claim(plan: &CgroupPlan) -> Result<Claim> {
    let by_unit = plan.unit.is_some();
    // What is of a unit is the container's when the unit is known to be; until then it goes only if nobody uses it.
    let role = if by_unit { Role::Parent } else { Role::Own };
    let mut claim = Claim { dirs: Vec::new(), found: Vec::new(), by_unit };
    for dir in &plan.dirs {
        let chain = dir.chain();
        let (own, parents) = chain.split_last().ok_or_else(|| Error::internal("a cgroup without a name"))?;
        let exists = |path: &Path| access(path, AccessFlags::F_OK).is_ok();
        let missing = parents.iter().rev().take_while(|path| !exists(path)).count();
        if !plan.is_systemds(dir) {
            let parents = parents[parents.len() - missing..].iter();
            claim.dirs.extend(parents.map(|path| MadeDir { path: path.to_path_buf(), role: Role::Parent }));
        }
        claim.dirs.push(MadeDir { path: own.to_path_buf(), role });
        // Below a parent that is missing there is nothing.
        if missing == 0 && exists(own) {
            claim.found.extend(take_over(dir)?.map(|lock| (dir.path.clone(), lock)));
        }
    }
    Ok(claim)
}

/// One that was not there when it was claimed.
pub(super) fn made_by_another(path: &Path) -> Error {
    let text = format!("the cgroup {} has just been made by somebody else", path.display());
    Error::new(Kind::Exists, text).at("linux.cgroupsPath")
}

/// The lock of a cgroup that may be taken over; none if it is gone by now.
fn take_over(dir: &Dir) -> Result<Option<File>> {
    let place = dir.path.display();
    let refused = |text: String| Err(Error::new(Kind::Exists, format!("{text} ({place})")).at("linux.cgroupsPath"));
    let failed = |call: &str, errno| Error::host(format!("{call} {place}"), errno);
    let folder = match open_dir(&dir.path) {
        Err(Errno::ENOENT) => return Ok(None),
        folder => File::from(folder.map_err(|errno| failed("open", errno))?),
    };
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return refused("another container is just taking the cgroup over".to_owned());
        }
        Err(TryLockError::Error(e)) => return Err(Error::io(format!("flock {place}"), &e)),
    }
    let everyone = everyone_below(&dir.path).map_err(|errno| failed("read the processes of", errno))?;
    let events = read_file(&folder, "cgroup.events").unwrap_or_default();
    // The lists leave out what a threaded cgroup has; the kernel counts it.
    if !everyone.is_empty() || value_of(&events, "populated") == Some(1) {
        let one = everyone.iter().find(|pid| **pid != 0).map_or_else(String::new, |pid| format!(", {pid} is one"));
        let count = everyone.len().max(1);
        return refused(format!("container's cgroup is not empty: {count} process(es) found{one}"));
    }
    let frozen = match dir.kind {
        // A parent that is frozen freezes this one too.
        DirKind::Unified { .. } => {
            value_of(&events, "frozen") == Some(1)
                || read_file(&folder, "cgroup.freeze").is_ok_and(|state| state.trim() == "1")
        }
        DirKind::V1 { .. } => read_file(&folder, "freezer.state").is_ok_and(|state| state.trim() != "THAWED"),
    };
    if frozen { refused("container's cgroup unexpectedly frozen".to_owned()) } else { Ok(Some(folder)) }
}
