//! Mounts.

use nix::libc;

use crate::plan::program::flags::{Fsconfig, MoveFlags, OPEN_TREE_CLOEXEC, TreeFlags};
use crate::plan::program::values::{Number, Text};
use crate::plan::program::{Added, Hint, NULL, Program, Slot};

/// struct mount_attr without the user namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    /// The attributes to set.
    pub(crate) set: u64,
    /// The attributes to clear, before.
    pub(crate) clear: u64,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0.
    pub(crate) propagation: u64,
}

impl Program {
    /// mount(2).
    pub(crate) fn mount(
        &mut self,
        source: impl Text,
        target: impl Text,
        filesystem: impl Text,
        flags: u64,
        data: impl Text,
    ) -> Added<'_> {
        let (source, target, filesystem, data) =
            (source.lies(self), target.lies(self), filesystem.lies(self), data.lies(self));
        self.call(libc::SYS_mount, &[source.into(), target.into(), filesystem.into(), flags.into(), data.into()])
    }

    /// umount2(2), MNT_DETACH.
    pub(crate) fn umount_detach(&mut self, target: impl Text) -> Added<'_> {
        let target = target.lies(self);
        self.call(libc::SYS_umount2, &[target.into(), libc::MNT_DETACH.into()])
    }

    /// pivot_root(2).
    pub(crate) fn pivot_root(&mut self, new: impl Text, old: impl Text) -> Added<'_> {
        let (new, old) = (new.lies(self), old.lies(self));
        self.call(libc::SYS_pivot_root, &[new.into(), old.into()])
    }

    /// open_tree(2).
    pub(crate) fn open_tree(&mut self, dir: impl Into<Number>, path: impl Text, flags: TreeFlags) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_open_tree, &[dir.into().into(), path.into(), (flags | OPEN_TREE_CLOEXEC).into()])
    }

    /// move_mount(2).
    pub(crate) fn move_mount(
        &mut self,
        from: impl Into<Number>,
        from_path: impl Text,
        to: impl Into<Number>,
        to_path: impl Text,
        flags: MoveFlags,
    ) -> Added<'_> {
        let (from, from_path) = (from.into(), from_path.lies(self));
        let (to, to_path) = (to.into(), to_path.lies(self));
        let args = [from.into(), from_path.into(), to.into(), to_path.into(), flags.into()];
        self.call(libc::SYS_move_mount, &args)
    }

    /// mount_setattr(2).
    pub(crate) fn mount_setattr(
        &mut self,
        dir: impl Into<Number>,
        path: impl Text,
        flags: TreeFlags,
        attr: MountAttr,
    ) -> Added<'_> {
        let path = path.lies(self);
        let attr = self.longs(&[attr.set, attr.clear, attr.propagation, 0]);
        self.call(libc::SYS_mount_setattr, &[dir.into().into(), path.into(), flags.into(), attr.into(), 32.into()])
    }

    /// fsopen(2): the context of a new filesystem.
    pub(crate) fn fsopen(&mut self, filesystem: impl Text) -> Added<'_> {
        let filesystem = filesystem.lies(self);
        self.call(libc::SYS_fsopen, &[filesystem.into(), libc::FSOPEN_CLOEXEC.into()])
    }

    /// fsconfig(2), FSCONFIG_CMD_CREATE.
    pub(crate) fn fsconfig_cmd_create(&mut self, context: Slot) -> Added<'_> {
        self.fsconfig(context, Fsconfig::CmdCreate, NULL, NULL)
    }

    fn fsconfig(&mut self, context: Slot, command: Fsconfig, key: impl Text, value: impl Text) -> Added<'_> {
        let (key, value) = (key.lies(self), value.lies(self));
        let args = [context.into(), (command as u32).into(), key.into(), value.into(), 0.into()];
        self.call(libc::SYS_fsconfig, &args).hint(Hint::KernelLog)
    }

    /// fsmount(2): the filesystem of the context as a detached mount with these attributes.
    pub(crate) fn fsmount(&mut self, context: Slot, attributes: u64) -> Added<'_> {
        self.call(libc::SYS_fsmount, &[context.into(), libc::FSMOUNT_CLOEXEC.into(), attributes.into()])
            .hint(Hint::KernelLog)
    }
}
