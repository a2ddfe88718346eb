//! Why the kernel maps the ids of a mount not (can_idmap_mount in fs/namespace.c).

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::statfs::{self, FsType, fstatfs};

/// In words, of the mount `tree`.
pub(super) fn why(tree: impl AsFd, errno: Errno) -> String {
    let name = fstatfs(tree).map_or_else(|_| "it".to_owned(), |found| name(found.filesystem_type()));
    match errno {
        Errno::EINVAL => {
            format!("the filesystem, {name}, has no id mapped mounts on this kernel (FS_ALLOW_IDMAP), or is mapped so by itself")
        }
        Errno::EPERM => format!("the filesystem, {name}, was mounted in another user namespace, or the mount has a mapping already"),
        _ => format!("the filesystem is {name}"),
    }
}

/// The name of a filesystem by its number in statfs(2).
fn name(found: FsType) -> String {
    const NAMES: [(FsType, &str); 15] = [
        (statfs::TMPFS_MAGIC, "tmpfs"),
        (statfs::EXT4_SUPER_MAGIC, "ext2, ext3 or ext4"),
        (statfs::OVERLAYFS_SUPER_MAGIC, "overlay"),
        (statfs::FUSE_SUPER_MAGIC, "fuse"),
        (statfs::NFS_SUPER_MAGIC, "nfs"),
        (statfs::PROC_SUPER_MAGIC, "proc"),
        (statfs::SYSFS_MAGIC, "sysfs"),
        (statfs::CGROUP2_SUPER_MAGIC, "cgroup2"),
        (statfs::CGROUP_SUPER_MAGIC, "cgroup"),
        (statfs::BTRFS_SUPER_MAGIC, "btrfs"),
        (statfs::XFS_SUPER_MAGIC, "xfs"),
        (statfs::MSDOS_SUPER_MAGIC, "vfat"),
        (statfs::ISOFS_SUPER_MAGIC, "iso9660"),
        (FsType(0x0102_1997), "9p"),
        (FsType(0x7371_7368), "squashfs"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == found).map(|(_, name)| (*name).to_owned());
    known.unwrap_or_else(|| format!("of the number {:#x} in statfs(2)", found.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filesystem_is_named() {
        let procfs = std::fs::File::open("/proc/self/status").expect("procfs");
        assert!(why(&procfs, Errno::EINVAL).starts_with("the filesystem, proc, has no id mapped mounts"));
    }
}
