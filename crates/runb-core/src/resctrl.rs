//! Groups of the resctrl filesystem: made, changed, removed, as linux.intelRdt is planned.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::input;
use crate::plan::{IntelRdt, RESCTRL, WhoseGroup as Whose};
use crate::survey::RESCTRL_LONGEST;

/// A group that a launch makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeGroup {
    /// Its directory.
    path: PathBuf,
    /// Whether it stays when the container is deleted.
    pub(crate) stays: bool,
}

/// The groups that a container's processes are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// Where resctrl is mounted.
    pub(crate) root: PathBuf,
    /// The group with the schemata.
    pub(crate) group: PathBuf,
    /// The monitoring group, if there is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) monitoring: Option<PathBuf>,
}

impl Groups {
    pub(crate) fn of(plan: &IntelRdt) -> Self {
        let IntelRdt { root, group, monitoring, .. } = plan;
        Groups { root: root.clone(), group: group.clone(), monitoring: monitoring.clone() }
    }

    /// The groups in the order in which they are joined.
    pub(crate) fn joined(&self) -> Vec<PathBuf> {
        [Some(&self.group), self.monitoring.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Takes the process `pid` in, and with it whom it makes.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn take_in(&self, pid: i32) -> Result<()> {
        self.joined().iter().try_for_each(|group| {
            let file = group.join("tasks");
            fs::write(&file, pid.to_string())
                .map_err(|e| Error::io(format!("write {pid} to {}", file.display()), &e).at(RESCTRL))
        })
    }

    /// Writes other lines to the schemata, and does what follows; if that fails, what was there is put back.
    ///
    /// # Errors
    /// The kernel does not take them; its own words are with it. What follows fails.
    pub(crate) fn change(&self, lines: &[(String, String)], then: impl FnOnce() -> Result<()>) -> Result<()> {
        if lines.is_empty() {
            return then();
        }
        let file = self.group.join("schemata");
        let former = input::read(&file, RESCTRL_LONGEST)
            .map_err(|e| Error::io(format!("read {}", file.display()), &e).at(RESCTRL))?;
        write_schemata(&self.root, &self.group, lines)?;
        then().map_err(|error| {
            let former = String::from_utf8_lossy(&former);
            let former: Vec<_> = former.lines().map(|line| (RESCTRL.to_owned(), line.trim().to_owned())).collect();
            write_schemata(&self.root, &self.group, &former).err().into_iter().fold(error, Error::and_cleanup)
        })
    }
}

/// What a launch will make, for its journal. A group that is there belongs to somebody else.
pub(crate) fn to_be_made(plan: &IntelRdt) -> Vec<MadeGroup> {
    let group = MadeGroup { path: plan.group.clone(), stays: plan.whose == Whose::Everybodys };
    let own = (plan.whose != Whose::Others).then_some(group);
    let monitoring = plan.monitoring.as_ref().filter(|path| !path.exists());
    let monitoring = monitoring.map(|path| MadeGroup { path: path.clone(), stays: false });
    own.into_iter().chain(monitoring).collect()
}

/// Makes the groups and writes the schemata, before anybody is in them.
///
/// # Errors
/// The kernel refuses a group (there are only so many) or a line; its own words are with it.
pub(crate) fn make(plan: &IntelRdt) -> Result<()> {
    if plan.whose != Whose::Others {
        make_group(&plan.root, &plan.group)?;
    }
    write_schemata(&plan.root, &plan.group, &plan.lines)?;
    match &plan.monitoring {
        Some(path) if !path.exists() => make_group(&plan.root, path),
        _ => Ok(()),
    }
}

fn make_group(root: &Path, path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|e| told(root, Error::io(format!("mkdir {}", path.display()), &e)).at(RESCTRL))
}

fn write_schemata(root: &Path, group: &Path, lines: &[(String, String)]) -> Result<()> {
    let Some((place, _)) = lines.first() else { return Ok(()) };
    let place = if lines.len() == 1 { place } else { RESCTRL };
    let text: String = lines.iter().map(|(_, line)| format!("{line}\n")).collect();
    let file = group.join("schemata");
    // One write: the kernel takes all of the lines, or says which one it does not.
    let written = fs::OpenOptions::new().write(true).open(&file).and_then(|mut open| open.write_all(text.as_bytes()));
    written.map_err(|e| told(root, Error::io(format!("write {text:?} to {}", file.display()), &e)).at(place))
}

/// The error with what the kernel says of its last command.
fn told(root: &Path, error: Error) -> Error {
    let words = input::read(&root.join("info/last_cmd_status"), RESCTRL_LONGEST).unwrap_or_default();
    let words = String::from_utf8_lossy(&words);
    match words.trim() {
        "" | "ok" => error,
        words => error.with_hint(format!("last_cmd_status: {words}")),
    }
}

impl MadeGroup {
    /// Removes it. One that is to stay goes only if nobody is in it, as others may use it by now.
    ///
    /// # Errors
    /// rmdir(2) fails.
    pub(crate) fn undo(&self) -> Result<()> {
        let used = || fs::read(self.path.join("tasks")).is_ok_and(|tasks| !tasks.is_empty());
        if self.stays && used() {
            return Ok(());
        }
        match fs::remove_dir(&self.path) {
            Err(e) if e.raw_os_error() != Some(Errno::ENOENT as i32) => {
                Err(Error::io(format!("rmdir {}", self.path.display()), &e))
            }
            _ => Ok(()),
        }
    }
}
