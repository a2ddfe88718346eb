//! What the runtime saw of the resctrl filesystem, which linux.intelRdt is about: looked at only where that is set.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use procfs::process::{MountInfo, Process};

use crate::input;

/// The filesystem, and the group that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resctrl {
    /// Where it is mounted.
    pub root: PathBuf,
    /// The group's schemata, if there is such a group.
    pub schemata: Option<String>,
}

/// A schemata file has a line for each resource and a part for each cache: no machine comes near this.
pub(crate) const LONGEST: u64 = 64 << 10;

impl Resctrl {
    /// Looks, if `spec` has linux.intelRdt. Without a closID the group's name is the container's id.
    pub(crate) fn of(spec: &Spec, id: &str) -> Option<Self> {
        let rdt = spec.linux().as_ref()?.intel_rdt().as_ref()?;
        let root = mounted()?;
        let group = group(&root, rdt.clos_id().as_deref(), id);
        let schemata = input::read(&group.join("schemata"), LONGEST).ok();
        Some(Resctrl { root, schemata: schemata.map(|text| String::from_utf8_lossy(&text).into_owned()) })
    }
}

/// The directory of a group: `/` is the filesystem's own.
pub(crate) fn group(root: &Path, clos_id: Option<&str>, id: &str) -> PathBuf {
    match clos_id.filter(|name| !name.is_empty()) {
        Some("/") => root.to_owned(),
        Some(name) => root.join(name),
        None => root.join(id),
    }
}

/// Where resctrl is mounted: at its own place, or where it is found first.
pub(crate) fn mounted() -> Option<PathBuf> {
    const PLACE: &str = "/sys/fs/resctrl";
    let mounts = Process::myself().and_then(|this| this.mountinfo()).ok()?;
    let mut places: Vec<PathBuf> = mounts.into_iter().filter(is_resctrl).map(|mount| mount.mount_point).collect();
    let own = places.iter().position(|place| place == Path::new(PLACE)).unwrap_or(0);
    let place = (own < places.len()).then(|| places.swap_remove(own))?;
    fs::canonicalize(&place).ok()
}

/// The kernel's, or what the host's root has mounted in its stead: a FUSE filesystem that calls itself so. One of another user
/// is nobody's business.
fn is_resctrl(mount: &MountInfo) -> bool {
    let of_root = || mount.super_options.get("user_id").is_some_and(|user| user.as_deref() == Some("0"));
    mount.fs_type == "resctrl" || mount.fs_type == "fuse.resctrl" && of_root()
}
