//! Where the cgroup hierarchies are mounted, and where in each of them this process is.
//!
//! Source: cgroups(7); /proc/self/cgroup; statfs(2). /proc/self/mountinfo grows with the host's mounts, so it is read only
//! where a hierarchy is not at its usual place below /sys/fs/cgroup.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use procfs::process::{MountInfo, Process};

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The root of a hierarchy has this inode number; another one means that a mount shows a part of the hierarchy only.
const HIERARCHY_ROOT_INODE: u64 = 1;

/// A cgroup v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// What is mounted there together (`cpu` and `cpuacct`), or `name=systemd`.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The cgroup of this process as seen below the mountpoint: absolute, `/` for the top.
    pub own: PathBuf,
}

/// The cgroup v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unified {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// The cgroup of this process as seen below the mountpoint: absolute, `/` for the top.
    pub own: PathBuf,
    /// What cgroup.controllers lists at the mountpoint; not asked for on a hybrid machine, where none is used.
    pub controllers: Vec<String>,
}

/// How this machine (this mount namespace) has its cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CgroupMounts {
    /// No hierarchy is mounted.
    None,
    /// Version 1, with the version 2 hierarchy beside it on a hybrid machine.
    V1 {
        /// The version 1 hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// The version 2 hierarchy of a hybrid machine.
        unified: Option<Unified>,
    },
    /// Version 2 alone.
    V2(Unified),
}

impl CgroupMounts {
    /// Looks at this process's mount namespace.
    ///
    /// Errors: /proc/self/cgroup or, where it is needed, /proc/self/mountinfo cannot be read.
    pub fn probe() -> Result<Self> {
        let text = std::fs::read("/proc/self/cgroup").map_err(|error| Error::io("read /proc/self/cgroup", &error))?;
        let entries = parse_proc_cgroup(&text);
        if file_system(Path::new(ROOT)) == Some(CGROUP2_SUPER_MAGIC) {
            let own = entries.iter().find(|entry| entry.controllers.is_empty()).map(|entry| entry.path.clone());
            return Ok(CgroupMounts::V2(unified_at(PathBuf::from(ROOT), own.unwrap_or_else(|| "/".into()))));
        }
        let mut mountinfo = LazyMountinfo::default();
        let mut hierarchies = Vec::new();
        let mut unified = None;
        for entry in &entries {
            let Some((mountpoint, own)) = entry.locate(&mut mountinfo)? else { continue };
            if entry.controllers.is_empty() {
                unified = Some((mountpoint, own));
            } else {
                hierarchies.push(Hierarchy { controllers: entry.controllers.clone(), mountpoint, own });
            }
        }
        Ok(match (hierarchies.is_empty(), unified) {
            (true, None) => CgroupMounts::None,
            (true, Some((mountpoint, own))) => CgroupMounts::V2(unified_at(mountpoint, own)),
            (false, unified) => {
                let beside = |(mountpoint, own)| Unified { mountpoint, own, controllers: Vec::new() };
                CgroupMounts::V1 { hierarchies, unified: unified.map(beside) }
            }
        })
    }

    /// Version 2 at /sys/fs/cgroup with these controllers, this process at `own`: for tests of planning.
    #[cfg(any(test, feature = "internals"))]
    pub fn v2_for_tests(own: &str, controllers: &[&str]) -> Self {
        CgroupMounts::V2(Unified { mountpoint: ROOT.into(), own: own.into(), controllers: strings(controllers) })
    }

    /// Version 1 below /sys/fs/cgroup, one hierarchy for each item (`cpu,cpuacct`, `name=systemd`), this process at `own`
    /// in each: for tests of planning.
    #[cfg(any(test, feature = "internals"))]
    pub fn v1_for_tests(own: &str, hierarchies: &[&str]) -> Self {
        let hierarchies = hierarchies
            .iter()
            .map(|names| Hierarchy {
                controllers: names.split(',').map(str::to_owned).collect(),
                mountpoint: Path::new(ROOT).join(names.trim_start_matches("name=")),
                own: own.into(),
            })
            .collect();
        CgroupMounts::V1 { hierarchies, unified: None }
    }

    /// The same with version 2 at /sys/fs/cgroup/unified beside it: for tests of planning.
    #[cfg(any(test, feature = "internals"))]
    pub fn hybrid_for_tests(own: &str, hierarchies: &[&str]) -> Self {
        let CgroupMounts::V1 { hierarchies, .. } = Self::v1_for_tests(own, hierarchies) else { unreachable!() };
        let mountpoint = Path::new(ROOT).join("unified");
        CgroupMounts::V1 {
            hierarchies,
            unified: Some(Unified { mountpoint, own: own.into(), controllers: Vec::new() }),
        }
    }
}

/// The cgroup of a process in the hierarchy of these controllers; none is version 2.
///
/// # Errors
/// There is no such process.
pub(crate) fn path_of_process(pid: i32, controllers: &[String]) -> Result<Option<PathBuf>> {
    let file = format!("/proc/{pid}/cgroup");
    let text = std::fs::read(&file).map_err(|error| Error::io(format!("read {file}"), &error))?;
    Ok(parse_proc_cgroup(&text).into_iter().find(|entry| entry.controllers == controllers).map(|entry| entry.path))
}

#[cfg(any(test, feature = "internals"))]
fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&item| item.to_owned()).collect()
}

fn file_system(path: &Path) -> Option<FsType> {
    statfs(path).ok().map(|found| found.filesystem_type())
}

fn unified_at(mountpoint: PathBuf, own: PathBuf) -> Unified {
    // A cgroup2 without cgroup.controllers does not exist (cgroups(7)); one that cannot be read offers nothing.
    let text = std::fs::read_to_string(mountpoint.join("cgroup.controllers")).unwrap_or_default();
    let controllers = text.split_whitespace().map(str::to_owned).collect();
    Unified { mountpoint, own, controllers }
}

/// A line of /proc/self/cgroup: `4:cpu,cpuacct:/a/b`; version 2 is `0::/a/b`.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    controllers: Vec<String>,
    path: PathBuf,
}

fn parse_proc_cgroup(text: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let names = String::from_utf8_lossy(names);
        // Other named hierarchies (`name=elogind`) are their manager's own; runc joins name=systemd alone, too.
        if names.starts_with("name=") && names != "name=systemd" {
            continue;
        }
        let controllers = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        entries.push(Entry { controllers, path: PathBuf::from(OsStr::from_bytes(path)) });
    }
    entries
}

impl Entry {
    /// Where the hierarchy is mounted, and the own cgroup as seen there.
    fn locate(&self, mountinfo: &mut LazyMountinfo) -> Result<Option<(PathBuf, PathBuf)>> {
        let (usual, magic) = if self.controllers.is_empty() {
            (Path::new(ROOT).join("unified"), CGROUP2_SUPER_MAGIC)
        } else {
            (Path::new(ROOT).join(self.controllers.join(",").trim_start_matches("name=")), CGROUP_SUPER_MAGIC)
        };
        let whole = || usual.metadata().is_ok_and(|found| found.ino() == HIERARCHY_ROOT_INODE);
        if file_system(&usual) == Some(magic) && (self.path == Path::new("/") || whole()) {
            return Ok(Some((usual, self.path.clone())));
        }
        let mount = mountinfo.get()?.iter().find(|mount| self.is_of(mount));
        Ok(mount.map(|mount| (mount.mount_point.clone(), below(&self.path, Path::new(&mount.root)))))
    }

    fn is_of(&self, mount: &MountInfo) -> bool {
        let has = |name: &String| match name.strip_prefix("name=") {
            Some(name) => mount.super_options.get("name").and_then(Option::as_deref) == Some(name),
            None => mount.super_options.contains_key(name),
        };
        match self.controllers.is_empty() {
            true => mount.fs_type == "cgroup2",
            false => mount.fs_type == "cgroup" && self.controllers.iter().all(has),
        }
    }
}

/// `own` as seen below a mount that shows the hierarchy from `root` on; the top where it lies outside.
fn below(own: &Path, root: &Path) -> PathBuf {
    Path::new("/").join(own.strip_prefix(root).unwrap_or(Path::new("")))
}

#[derive(Default)]
struct LazyMountinfo(Option<Vec<MountInfo>>);

impl LazyMountinfo {
    fn get(&mut self) -> Result<&[MountInfo]> {
        if self.0.is_none() {
            let read = Process::myself().and_then(|process| process.mountinfo());
            let mounts =
                read.map_err(|error| Error::new(crate::Kind::Host, format!("read /proc/self/mountinfo: {error}")))?;
            self.0 = Some(mounts.into_iter().collect());
        }
        Ok(self.0.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn co_mounted_controllers_are_one_hierarchy_and_foreign_named_ones_are_left_out() {
        let entries = parse_proc_cgroup(b"5:name=elogind:/x\n4:net_cls,net_prio:/a:b\n3:name=systemd:/\n0::/c\n");
        let expected = [("net_cls,net_prio", "/a:b"), ("name=systemd", "/"), ("", "/c")];
        let found: Vec<_> =
            entries.iter().map(|entry| (entry.controllers.join(","), entry.path.to_str().unwrap())).collect();
        assert_eq!(found, expected.map(|(names, path)| (names.to_owned(), path)));
    }

    #[test]
    fn the_own_cgroup_is_seen_from_the_root_of_the_mount() {
        assert_eq!(below(Path::new("/docker/a/b"), Path::new("/docker/a")), Path::new("/b"));
        assert_eq!(below(Path::new("/docker/a"), Path::new("/")), Path::new("/docker/a"));
        assert_eq!(below(Path::new("/elsewhere"), Path::new("/docker/a")), Path::new("/"));
    }

    #[test]
    fn a_hierarchy_is_recognised_by_its_super_options_wherever_it_is_mounted() {
        let line = "36 25 0:31 / /cg/x rw,relatime - cgroup cgroup rw,cpu,cpuacct";
        let mount = MountInfo::from_line(line).unwrap();
        let entry = |names: &str| parse_proc_cgroup(format!("1:{names}:/").as_bytes()).remove(0);
        assert!(entry("cpu,cpuacct").is_of(&mount));
        assert!(!entry("cpuset").is_of(&mount));
        let named = MountInfo::from_line("36 25 0:31 / /cg/s rw - cgroup cgroup rw,xattr,name=systemd").unwrap();
        assert!(entry("name=systemd").is_of(&named));
    }

    #[test]
    fn the_probe_finds_this_machines_own_cgroup() {
        match CgroupMounts::probe().unwrap() {
            CgroupMounts::None => assert!(file_system(Path::new(ROOT)) != Some(CGROUP2_SUPER_MAGIC)),
            CgroupMounts::V2(unified) => assert!(unified.mountpoint.join("cgroup.procs").exists()),
            CgroupMounts::V1 { hierarchies, .. } => {
                for hierarchy in hierarchies {
                    let own = hierarchy.own.strip_prefix("/").unwrap();
                    assert!(hierarchy.mountpoint.join(own).join("cgroup.procs").exists(), "{hierarchy:?}");
                }
            }
        }
    }
}
