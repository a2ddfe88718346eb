//! A unit of systemd in the journal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::options::Systemd;
use crate::systemd::Manager;

/// A unit that was made, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeUnit {
    /// Its name.
    pub name: String,
    /// The systemd that has it.
    pub systemd: Systemd,
    /// Its description, which no other unit has.
    pub description: String,
    /// Its cgroup, once it is known that the unit was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<UnitCgroup>,
    /// Whether systemd forgets it by itself, even if it fails.
    pub collected: bool,
}

/// The cgroup of a unit, which is no other one of that name: the kernel gives no number of a cgroup out twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCgroup {
    /// Its directory in the hierarchy by which systemd tells units apart.
    pub path: PathBuf,
    /// The inode's number of that directory.
    pub inode: u64,
}

impl UnitCgroup {
    /// The cgroup at `path` as it is now.
    ///
    /// # Errors
    /// There is none.
    pub fn at(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).map_err(|e| Error::io(format!("stat {}", path.display()), &e))?;
        Ok(UnitCgroup { path: path.to_owned(), inode: meta.ino() })
    }
}

impl MadeUnit {
    /// Stops the unit if it is the container's. One whose cgroup is gone has ended, and systemd is not asked at all.
    ///
    /// # Errors
    /// systemd does not answer, or not in time.
    pub(super) fn undo(&self) -> Result<()> {
        let manager = Manager::of(&self.systemd);
        let is_ours = match &self.cgroup {
            Some(cgroup) => match fs::metadata(&cgroup.path) {
                Ok(meta) => meta.ino() == cgroup.inode,
                // It may have failed, and stays then unless systemd was told otherwise.
                Err(_) if !self.collected => self.is_described(&manager)?,
                Err(_) => false,
            },
            None => self.is_described(&manager)?,
        };
        if !is_ours {
            return Ok(());
        }
        manager.stop(&self.name)?;
        if self.collected { Ok(()) } else { manager.reset_failed(&self.name) }
    }

    fn is_described(&self, manager: &Manager) -> Result<bool> {
        Ok(manager.description(&self.name)?.as_ref() == Some(&self.description))
    }
}
