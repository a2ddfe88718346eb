//! What the kernel can do to mounts, by its own answers and not by its version: a filter may take calls away, and a
//! distribution may have brought them to an older kernel.

use nix::errno::Errno;

use crate::sys;

/// The calls on mounts that came after Linux 5.10. Each step has those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountCalls {
    /// fsopen(2), open_tree(2), move_mount(2). What is attached is changed by mount(2).
    Classic,
    /// mount_setattr(2): Linux 5.12, commit 2a1867219c7b.
    SetAttributes,
    /// `MOUNT_ATTR_NOSYMFOLLOW`: Linux 5.14, commit dd8b477f9a3d.
    NoSymFollow,
    /// open_tree(2) copies a detached mount: Linux 6.15, commit c5c12f871a30. open_tree_attr(2), by which it is known, came with
    /// it.
    CopyDetached,
}

impl MountCalls {
    /// Asks the kernel: one call where it is new, two where it is not, and neither does anything.
    pub(super) fn probe() -> Self {
        if sys::answer_of_open_tree_attr() != Errno::ENOSYS {
            return MountCalls::CopyDetached;
        }
        match sys::answer_of_mount_setattr(NOSYMFOLLOW) {
            Errno::ENOSYS => MountCalls::Classic,
            Errno::EINVAL => MountCalls::SetAttributes,
            _ => MountCalls::NoSymFollow,
        }
    }
}

/// `MOUNT_ATTR_NOSYMFOLLOW`.
const NOSYMFOLLOW: u64 = 0x20_0000;
