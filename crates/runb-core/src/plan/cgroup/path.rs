//! `linux.cgroupsPath`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

const ORIGIN: &str = "linux.cgroupsPath";

/// NAME_MAX: a longer component could not be made in any hierarchy.
const NAME_MAX: usize = 255;

/// Where the container's cgroup lies in each hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the mountpoint.
    BelowMount(PathBuf),
    /// Below the runtime's own cgroup; on version 2 beside it.
    BelowOwn(PathBuf),
}

impl Place {
    /// Reads cgroupsPath; without one the id is the name.
    pub fn parse(cgroups_path: Option<&Path>, id: &str) -> Result<Self> {
        let Some(path) = cgroups_path else { return Ok(Place::BelowOwn(PathBuf::from(id))) };
        let mut names = PathBuf::new();
        for component in path.components() {
            match component {
                Component::Normal(name) if name.as_bytes().contains(&0) => {
                    return Err(Error::spec(ORIGIN, format!("{path:?} has a NUL byte")));
                }
                Component::Normal(name) if name.len() > NAME_MAX => {
                    return Err(Error::spec(ORIGIN, format!("{path:?} has a name of more than {NAME_MAX} bytes")));
                }
                // The kernel refuses it too, as /proc/PID/cgroup has a line for each (kernel commit 71b1fb5c4473).
                Component::Normal(name) if name.as_bytes().contains(&b'\n') => {
                    return Err(Error::spec(ORIGIN, format!("{path:?} has a newline")));
                }
                Component::Normal(name) => names.push(name),
                Component::ParentDir => return Err(Error::spec(ORIGIN, format!("{path:?} has a \"..\""))),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        if names.as_os_str().is_empty() {
            return Err(Error::spec(ORIGIN, format!("{path:?} names no cgroup of its own")));
        }
        Ok(if path.is_absolute() { Place::BelowMount(names) } else { Place::BelowOwn(names) })
    }

    /// The directory, where the runtime's own cgroup (or what stands for it) is `own` below `mountpoint`.
    pub fn within(&self, mountpoint: &Path, own: &Path) -> PathBuf {
        match self {
            Place::BelowMount(names) => mountpoint.join(names),
            Place::BelowOwn(names) => {
                // Seen from a cgroup namespace, a cgroup outside of it is /../x: nothing of it can be reached here.
                let own = own.components().filter(|part| matches!(part, Component::Normal(_)));
                mountpoint.join(own.collect::<PathBuf>()).join(names)
            }
        }
    }
}
