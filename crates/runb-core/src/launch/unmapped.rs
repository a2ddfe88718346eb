//! Why the kernel maps the ids of a mount not (can_idmap_mount in fs/namespace.c).

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{fstat, major, minor};
use nix::sys::statfs::{self, FsType, fstatfs};
use procfs::process::Process;

/// In words, of the mount `tree`.
pub(super) fn why(tree: impl AsFd, errno: Errno) -> String {
    let name = name(tree);
    match errno {
        Errno::EINVAL => {
            format!("the filesystem, {name}, has no id mapped mounts on this kernel (FS_ALLOW_IDMAP), or is mapped so by itself")
        }
        Errno::EPERM => format!("the filesystem, {name}, was mounted in another user namespace, or the mount has a mapping already"),
        _ => format!("the filesystem is {name}"),
    }
}

/// The type of a mount's filesystem: as the table of mounts has it, where some mount of the same device is, else by its number in
/// statfs(2).
fn name(tree: impl AsFd) -> String {
    in_table(&tree).unwrap_or_else(|| fstatfs(tree).map_or_else(|_| "it".to_owned(), |found| of_number(found.filesystem_type())))
}

/// The table has the type's own name, which others share the number of: ext2, devtmpfs. btrfs gives each subvolume a device.
fn in_table(tree: impl AsFd) -> Option<String> {
    let device = fstat(tree).ok()?.st_dev;
    let device = format!("{}:{}", major(device), minor(device));
    let mounts = Process::myself().and_then(|this| this.mountinfo()).ok()?;
    mounts.into_iter().find(|mount| mount.majmin == device).map(|mount| mount.fs_type)
}

fn of_number(found: FsType) -> String {
    const NAMES: [(FsType, &str); 6] = [
        (statfs::TMPFS_MAGIC, "tmpfs"),
        (statfs::EXT4_SUPER_MAGIC, "ext2, ext3 or ext4"),
        (statfs::OVERLAYFS_SUPER_MAGIC, "overlay"),
        (statfs::FUSE_SUPER_MAGIC, "fuse"),
        (statfs::NFS_SUPER_MAGIC, "nfs"),
        (statfs::BTRFS_SUPER_MAGIC, "btrfs"),
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
        // Of a pipe there is no mount in sight.
        let (pipe, _other) = nix::unistd::pipe().expect("a pipe");
        assert_eq!(why(&pipe, Errno::ENOMEM), "the filesystem is of the number 0x50495045 in statfs(2)");
        assert_eq!(of_number(statfs::OVERLAYFS_SUPER_MAGIC), "overlay");
    }
}
