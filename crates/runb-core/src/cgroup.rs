//! Cgroups that exist: making them by a plan, and what is done with them until they are removed.
//!
//! There is no difference between the versions here but in the files that a verb uses. Nothing polls where the kernel has an
//! event: cgroup.events on version 2, pidfds on version 1.

mod apply;
mod claim;
mod devices;
mod files;
mod freeze;
mod make;
mod oom;
mod procs;
mod remove;
mod update;
mod watch;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::host::cgroups::path_of_process;
use crate::plan::cgroup::{CgroupPlan, Dir, DirKind};

pub use claim::{Claim, claim};
pub(crate) use files::read_path;
pub use freeze::FreezerState;
pub use make::{Made, make};
pub use oom::OomReport;
pub(crate) use remove::first_error;
#[cfg(feature = "internals")]
pub use remove::remove_tree;
pub use remove::{Own, remove_if_unused, undo};
pub use watch::OomWatch;

/// Whose a directory is that was made for a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The container's own: everything below goes with it.
    Own,
    /// One above it: it goes if nobody else uses it by then.
    Parent,
}

/// A directory that was made, or may have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeDir {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whose it is.
    pub role: Role,
}

/// The container's cgroup in one version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V1Dir {
    /// The hierarchy's controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// The directory.
    pub path: PathBuf,
}

/// A container's cgroup by the directories that it has: what the state keeps, and what every later verb works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// The directory in the version 2 hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unified: Option<PathBuf>,
    /// The directories in version 1 hierarchies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub v1: Vec<V1Dir>,
}

/// Where the process `pid` is instead of in `dir`; none if it is there.
///
/// Errors: there is no such process.
pub fn astray(pid: i32, dir: &Dir) -> Result<Option<String>> {
    let controllers = match &dir.kind {
        DirKind::Unified { .. } => &[][..],
        DirKind::V1 { controllers, .. } => controllers,
    };
    let planned = Path::new("/").join(dir.path.strip_prefix(&dir.mountpoint).unwrap_or(&dir.path));
    let actual = path_of_process(pid, controllers)?;
    Ok((actual.as_ref() != Some(&planned)).then(|| match actual {
        Some(actual) => format!("{}, not in {}", actual.display(), planned.display()),
        None => "no cgroup of that hierarchy".to_owned(),
    }))
}

impl Cgroup {
    /// The cgroup that `plan` makes.
    pub fn of(plan: &CgroupPlan) -> Self {
        let mut cgroup = Cgroup::default();
        for dir in &plan.dirs {
            match &dir.kind {
                DirKind::Unified { .. } => cgroup.unified = Some(dir.path.clone()),
                DirKind::V1 { controllers, .. } => {
                    cgroup.v1.push(V1Dir { controllers: controllers.clone(), path: dir.path.clone() });
                }
            }
        }
        cgroup
    }

    /// Whether the container has no cgroup of its own.
    pub fn is_empty(&self) -> bool {
        self.unified.is_none() && self.v1.is_empty()
    }

    /// The version 1 directory of `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let has = |dir: &&V1Dir| dir.controllers.iter().any(|name| name == controller);
        self.v1.iter().find(has).map(|dir| dir.path.as_path())
    }

    /// The directory whose processes are the container's: each hierarchy has them all, and one is enough to ask. A container
    /// can move its processes about in none of them but its own, if it was given one; devices and freezer are given to nobody.
    fn census(&self) -> Option<&Path> {
        let named = ["freezer", "devices", "pids"].iter().find_map(|controller| self.v1(controller));
        named.or(self.unified.as_deref()).or(self.v1.first().map(|dir| dir.path.as_path()))
    }
}
