//! The cgroups of a container: which directories, what is written into them, the device list, and how init joins.
//!
//! Versions 1 and 2 differ in how the lists are made ([`v1`], [`v2`]); one loop applies them (`crate::cgroup`). The limits are
//! planned by what the container has ([`Target`]), whoever made it, so that a launch and an update go by the same rules.
//! Source: config-linux.md, "Control groups"; cgroups(7); the kernel's admin-guide/cgroup-v1 and cgroup-v2.

mod bpf;
mod delegate;
mod devices;
mod limits;
mod merge;
mod path;
pub mod systemd;
mod update;
mod v1;
mod v2;

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use crate::error::{Error, Kind, Result};
use crate::host::cgroups::CgroupMounts;
use systemd::{Asked, Unit, UnitKind};

pub use delegate::owner;
pub use devices::Change as DeviceChange;
pub(super) use devices::odd_access;
pub use limits::{Absent, DeviceProgram, LastLimit, Limits, Target, UnifiedTarget, V1Target, Write};
pub use update::{Update, update};

/// What a version 1 cpuset needs before anyone can join it (cpuset(7)).
pub const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Where a process with one thread puts itself into a cgroup of version 1. cgroup.procs does the same, and takes the kernel's lock of
/// all thread groups for it, which waits for an RCU grace period: 10 ms and more, where this takes 50 µs
/// (cgroup_procs_write_start in the kernel, which since Linux 5.5 does without the lock for `0` in this file).
pub(super) const V1_MEMBERS: &str = "tasks";

/// What a directory is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirKind {
    /// A version 1 hierarchy.
    V1 {
        /// Its controllers, or `name=systemd`.
        controllers: Vec<String>,
        /// Those of [`CPUSET_FILES`] that the cgroup takes from its parent, as the configuration does not give them.
        inherit: Vec<&'static str>,
    },
    /// The version 2 hierarchy.
    Unified {
        /// The controllers that are to be enabled for the cgroup: in cgroup.subtree_control of every parent.
        enable: Vec<String>,
    },
}

/// The container's cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// What it is in.
    pub kind: DirKind,
    /// The top of the hierarchy, which exists.
    pub mountpoint: PathBuf,
    /// The cgroup's directory, below the mountpoint.
    pub path: PathBuf,
}

impl Dir {
    /// Every directory from below the mountpoint down to the cgroup itself, the outermost first.
    pub fn chain(&self) -> Vec<&Path> {
        let mut chain: Vec<&Path> = self.path.ancestors().take_while(|path| *path != self.mountpoint).collect();
        chain.reverse();
        chain
    }
}

/// How init gets into its cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// The index of the version 2 directory that init is cloned into (CLONE_INTO_CGROUP).
    pub into: Option<usize>,
    /// The [`V1_MEMBERS`] files of version 1 into which init itself writes `0`, by index of the directory.
    pub procs: Vec<(usize, PathBuf)>,
}

impl Join {
    /// Into all of `dirs`.
    fn of(dirs: &[Dir]) -> Self {
        let v1 = |dir: &Dir| matches!(dir.kind, DirKind::V1 { .. });
        let procs = dirs.iter().enumerate().filter(|(_, dir)| v1(dir));
        Join {
            into: dirs.iter().position(|dir| !v1(dir)),
            procs: procs.map(|(index, dir)| (index, dir.path.join(V1_MEMBERS))).collect(),
        }
    }
}

/// Everything about a container's cgroups, known before anything exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPlan {
    /// One directory for each hierarchy in which the container gets a cgroup.
    pub dirs: Vec<Dir>,
    /// The runtime's own cgroup in each of the others, where the container stays.
    pub stays: Vec<Dir>,
    /// What is written before anyone joins.
    pub limits: Limits,
    /// How init joins.
    pub join: Join,
    /// The user who is to own the cgroup of version 2, if it is not the runtime's.
    pub owner: Option<u32>,
    /// The unit of systemd that has the cgroups.
    pub unit: Option<Unit>,
    /// A limit that holds when init is ready, and not before.
    pub last: Option<LastLimit>,
}

impl CgroupPlan {
    fn empty() -> Self {
        CgroupPlan {
            dirs: Vec::new(),
            stays: Vec::new(),
            limits: Limits::default(),
            join: Join::default(),
            owner: None,
            unit: None,
            last: None,
        }
    }

    /// Holds back a limit of one process for an init that goes on as its twin: both count for a moment.
    pub(in crate::plan) fn let_a_twin_pass(&mut self) {
        let one = |write: &Write| write.file == "pids.max" && write.value == "1";
        let Some(at) = self.limits.writes.iter().position(one) else { return };
        let write = self.limits.writes.remove(at);
        let told = self.unit.as_mut().and_then(|unit| {
            let at = unit.properties.iter().position(|property| property.name == "TasksMax")?;
            Some(unit.properties.remove(at))
        });
        self.last = Some(LastLimit { write, told });
    }

    /// Leaves the container where the runtime is, in the hierarchies where no cgroup can be made below these directories.
    pub(in crate::plan) fn stay_in(&mut self, closed: &[PathBuf]) {
        let is_closed = |dir: &Dir| dir.path.parent().is_some_and(|parent| closed.iter().any(|path| path == parent));
        let (stays, dirs): (Vec<Dir>, Vec<Dir>) = std::mem::take(&mut self.dirs).into_iter().partition(is_closed);
        let own = |path: &Path| dirs.iter().any(|dir| dir.path == path);
        self.limits.writes.retain(|write| own(&write.dir));
        self.limits.devices = self.limits.devices.take().filter(|program| own(&program.dir));
        let runtimes = |dir: Dir| Dir { path: dir.path.parent().unwrap_or(&dir.mountpoint).to_owned(), ..dir };
        self.stays = stays.into_iter().map(runtimes).collect();
        self.join = Join::of(&dirs);
        self.dirs = dirs;
    }

    /// The directories that making the cgroups may make, the outermost first, hierarchy by hierarchy.
    #[cfg(feature = "internals")]
    pub fn chains(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().filter(|dir| !self.is_systemds(dir)).flat_map(Dir::chain)
    }

    /// Whether systemd makes this directory. Of version 1 it has some hierarchies and not others.
    pub fn is_systemds(&self, dir: &Dir) -> bool {
        self.unit.is_some() && systemd::names_units(dir)
    }

    /// Whether init waits until systemd has moved it.
    pub fn moves_init(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.kind == UnitKind::Scope)
    }
}

/// Plans the cgroups of the container `id`.
///
/// An absolute `cgroups_path` lies below the mountpoint of each hierarchy, a relative one below the runtime's own cgroup
/// (on version 2 beside it, as processes may not be where controllers are given on); without one the id is its name, there.
///
/// Where systemd is `asked` to make them, cgroups_path is `SLICE:PREFIX:NAME`: see [`systemd`].
///
/// Errors: what the configuration asks for and this machine's cgroups, or systemd, cannot do, by its place; no hierarchy.
pub fn plan(
    resources: Option<&LinuxResources>,
    cgroups_path: Option<&Path>,
    id: &str,
    asked: Option<&Asked<'_>>,
    mounts: &CgroupMounts,
) -> Result<CgroupPlan> {
    let default = LinuxResources::default();
    let resources = resources.unwrap_or(&default);
    let cgroups_path = cgroups_path.filter(|path| !path.as_os_str().is_empty());
    let (place, name) = match asked {
        None => (path::Place::parse(cgroups_path, id)?, None),
        Some(asked) => systemd::place(cgroups_path, id, asked).map(|(place, name)| (place, Some((name, asked))))?,
    };
    let nothing = cgroups_path.is_none() && *resources == default && asked.is_none();
    let dirs = match mounts {
        CgroupMounts::None if nothing => return Ok(CgroupPlan::empty()),
        CgroupMounts::None => return Err(Error::new(Kind::Host, "no cgroup hierarchy is mounted on this machine")),
        CgroupMounts::V1 { hierarchies, unified } => v1::dirs(resources, &place, hierarchies, unified.as_ref()),
        CgroupMounts::V2(unified) => vec![v2::dir(&place, unified)],
    };
    let (limits, join) = (Target::of(&dirs).limits(resources)?, Join::of(&dirs));
    let mut plan = CgroupPlan { limits, join, dirs, stays: Vec::new(), owner: None, unit: None, last: None };
    if let Some((name, asked)) = name {
        systemd::take_over(&mut plan, name, resources, id, asked)?;
    }
    Ok(plan)
}

/// The places of one array in config.json, as `FIELD[INDEX]`.
fn indexed<'a, T>(field: &str, list: &'a Option<Vec<T>>) -> impl Iterator<Item = (String, &'a T)> {
    let field = field.to_owned();
    list.iter().flatten().enumerate().map(move |(index, item)| (format!("linux.resources.{field}[{index}]"), item))
}

/// An optional number; 0 means that it is not set: Docker sends 0 for what its user did not give.
fn set<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// A file's name that comes from the configuration.
fn file_name(origin: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return Err(Error::spec(origin, format!("{name:?} is not the name of a cgroup file")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
