//! A unit of systemd in the journal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::options::Systemd;
use crate::plan::cgroup::systemd::Property;
use crate::socket::PATIENCE;
use crate::systemd::{self, Manager};

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

/// What has a unit's cgroup by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The unit.
    Ours,
    /// Nobody: the unit has ended.
    Nobody,
    /// Another unit of that name.
    Another,
    /// It is not known whether the unit was made.
    Unknown,
}

impl MadeUnit {
    /// What has the unit's cgroup by now: systemd removes it when the unit ends, and its name is free then.
    pub fn holder(&self) -> Holder {
        let Some(cgroup) = &self.cgroup else { return Holder::Unknown };
        match fs::metadata(&cgroup.path) {
            Ok(meta) if meta.ino() == cgroup.inode => Holder::Ours,
            Ok(_) => Holder::Another,
            Err(_) => Holder::Nobody,
        }
    }

    /// Changes properties of the unit, until it is stopped.
    ///
    /// # Errors
    /// There is no such unit any more; systemd refuses a property, does not answer, or not in time.
    pub fn set_properties(&self, properties: &[Property]) -> Result<()> {
        Manager::of(&self.systemd).set_properties(&self.name, properties)
    }

    /// Has systemd move a process into the cgroup `below` the unit's.
    ///
    /// # Errors
    /// As [`MadeUnit::set_properties`].
    pub(crate) fn attach(&self, below: &str, process: i32) -> Result<()> {
        Manager::of(&self.systemd).attach(&self.name, below, process.cast_unsigned())
    }

    /// Stops the unit if it is the container's, and has systemd forget it if it has failed. Of one that has ended and is gone systemd
    /// is not asked at all.
    ///
    /// # Errors
    /// systemd does not answer, or not in time.
    pub(super) fn undo(&self) -> Result<()> {
        let mut systemd = self.systemd.clone();
        if self.cgroup.is_none() {
            // Who has not answered to its making is not waited for as long once more.
            systemd.patience = systemd.patience.min(PATIENCE);
        }
        let manager = Manager::of(&systemd);
        let is_ours = match self.holder() {
            Holder::Ours => true,
            Holder::Nobody if !self.may_have_failed() => false,
            Holder::Another => false,
            Holder::Nobody | Holder::Unknown => manager.description(&self.name)?.as_ref() == Some(&self.description),
        };
        if !is_ours {
            return Ok(());
        }
        manager.stop(&self.name)?;
        if self.may_have_failed() { manager.reset_failed(&self.name) } else { Ok(()) }
    }

    /// Whether systemd, for all that is seen without asking it, still has the unit now that it has ended, because it has failed. It
    /// keeps a file of a transient unit for as long as that is loaded.
    fn may_have_failed(&self) -> bool {
        !self.collected
            && systemd::folder(&self.systemd).is_none_or(|dir| {
                let units = dir.join("transient");
                units.join(&self.name).exists() || !units.exists()
            })
    }
}
