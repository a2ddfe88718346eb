//! What limits are planned from beside the configuration, and what comes of it: a list of writes, and the device program.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::systemd::Property;
use super::{Dir, DirKind, bpf, devices, v1, v2};
use crate::error::{Error, Kind, Result};

/// What is done where a file does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The write fails.
    Fails,
    /// The kernel without the file behaves as the value demands.
    Skips,
    /// Another file serves.
    Instead(Box<Write>),
}

/// One write into a cgroup's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The cgroup's directory.
    pub dir: PathBuf,
    /// The file's name.
    pub file: String,
    /// What is written, in one write(2).
    pub value: String,
    /// The place in config.json.
    pub origin: String,
    /// What is done where the file does not exist.
    pub absent: Absent,
}

/// A device program for the version 2 cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProgram {
    /// The cgroup's directory.
    pub dir: PathBuf,
    /// `struct bpf_insn`s in the machine's byte order.
    pub instructions: Vec<u64>,
}

/// What limits a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The writes; those to one controller follow each other.
    pub writes: Vec<Write>,
    /// The device program, on version 2.
    pub devices: Option<DeviceProgram>,
}

/// A limit that is set when init is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastLimit {
    /// The write.
    pub write: Write,
    /// What systemd is told of it, if it makes the cgroups.
    pub told: Option<Property>,
}

impl Limits {
    /// Takes the rules for devices away: the kernel lets nobody in another user namespace than the first set them, who can
    /// make no devices either.
    pub(in crate::plan) fn leave_devices(&mut self) {
        self.devices = None;
        self.writes.retain(|write| !write.file.starts_with("devices."));
    }
}

/// The container's cgroup in one version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Target {
    /// The hierarchy's controllers, or `name=systemd`.
    pub controllers: Vec<String>,
    /// The cgroup's directory.
    pub dir: PathBuf,
}

/// The container's cgroup of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnifiedTarget {
    /// The cgroup's directory.
    pub dir: PathBuf,
    /// The controllers that it has, or will have.
    pub controllers: Vec<String>,
    /// Where they are listed, for a person to read.
    pub listed: PathBuf,
}

/// Where limits are written. With a cgroup in a version 1 hierarchy, version 1 has them all but, on a machine without its
/// devices controller, the devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The cgroups of version 1.
    pub v1: Vec<V1Target>,
    /// The cgroup of version 2.
    pub unified: Option<UnifiedTarget>,
}

impl Target {
    /// The cgroups that `dirs` are, or will be.
    pub fn of(dirs: &[Dir]) -> Self {
        let mut target = Target::default();
        for dir in dirs {
            match &dir.kind {
                DirKind::V1 { controllers, .. } => {
                    target.v1.push(V1Target { controllers: controllers.clone(), dir: dir.path.clone() });
                }
                DirKind::Unified { enable } => {
                    let listed = dir.mountpoint.clone();
                    let (dir, controllers) = (dir.path.clone(), enable.clone());
                    target.unified = Some(UnifiedTarget { dir, controllers, listed });
                }
            }
        }
        target
    }

    /// The version 1 directory of `controller`.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let has = |target: &&V1Target| target.controllers.iter().any(|name| name == controller);
        self.v1.iter().find(has).map(|target| target.dir.as_path())
    }

    /// What a new container gets.
    ///
    /// # Errors
    /// What cannot be done here, by its place in `linux.resources`.
    pub fn limits(&self, resources: &LinuxResources) -> Result<Limits> {
        let mut limits = Limits { writes: self.writes(resources)?, devices: None };
        let rules = devices::rules(resources)?;
        match (self.v1("devices"), &self.unified) {
            (Some(dir), _) => limits.writes.extend(devices::v1_writes(dir, &rules)?),
            (None, Some(unified)) => {
                limits.devices = Some(DeviceProgram { dir: unified.dir.clone(), instructions: bpf::program(&rules) });
            }
            // Without it every device of the host would be open to the container.
            (None, None) => return Err(Error::new(Kind::Host, "the devices cgroup controller is not mounted")),
        }
        Ok(limits)
    }

    /// The writes of everything but the devices.
    pub(super) fn writes(&self, resources: &LinuxResources) -> Result<Vec<Write>> {
        match &self.unified {
            Some(unified) if self.v1.is_empty() => v2::writes(resources, unified),
            _ => v1::writes(resources, self),
        }
    }
}
