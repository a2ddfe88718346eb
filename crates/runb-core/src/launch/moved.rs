//! A process that cannot be born in the cgroup of a container whose cgroup a user's systemd has made: from a login session, which is
//! not below that systemd, a user may not put one there. systemd may, and moves it while it waits for that.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::host::cgroups::CgroupMounts;
use crate::options::Whose;
use crate::state::Saved;
use crate::undo::MadeUnit;

/// What is done when a process joins a cgroup.
pub(crate) const ADDING: &str = "adding pid of the process to cgroups";

/// The unit of a user's systemd that has the container's cgroup.
pub(crate) fn users_unit(saved: &Saved) -> Option<&MadeUnit> {
    saved.journal.unit().filter(|unit| unit.systemd.whose == Whose::User)
}

/// Has systemd move a process into a cgroup at or below that of `unit`, and sees that it is there.
pub(crate) fn attach(saved: &Saved, unit: &MadeUnit, cgroup: &Path, pid: i32) -> Result<()> {
    let adding = |error: Error| error.during(format!("{ADDING}: {}", cgroup.display()));
    let below = saved.cgroup.unified.as_ref().and_then(|top| cgroup.strip_prefix(top).ok());
    let Some(below) = below.and_then(Path::to_str) else {
        return Err(adding(Error::new(Kind::Host, "this is not in the cgroup of the container's unit")));
    };
    unit.attach(&format!("/{below}"), pid).map_err(adding)?;
    match cgroup_of(pid)? {
        Some(actual) if actual == *cgroup => Ok(()),
        actual => {
            let place =
                actual.map_or_else(|| "a cgroup that is not in sight".into(), |path| path.display().to_string());
            let text = format!("systemd says that it is done, and the process {pid} is in {place}");
            Err(adding(Error::new(Kind::Host, text)))
        }
    }
}

/// The version 2 cgroup that a process is in now.
pub(crate) fn cgroup_of(pid: i32) -> Result<Option<PathBuf>> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&file).map_err(|e| Error::io(format!("read {file}"), &e))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let unified = match CgroupMounts::probe()? {
        CgroupMounts::V2(unified) => Some(unified),
        CgroupMounts::V1 { unified, .. } => unified,
        CgroupMounts::None => None,
    };
    Ok(path.filter(|path| !path.starts_with("../")).zip(unified).map(|(path, unified)| unified.mountpoint.join(path)))
}
