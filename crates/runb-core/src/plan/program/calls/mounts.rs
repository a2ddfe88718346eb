//! Mounts.

use nix::libc;

use crate::plan::program::flags::{Fsconfig, MoveFlags, OPEN_TREE_CLOEXEC, TreeFlags};
use crate::plan::program::values::{Data, Number, Text};
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

    /// fspick(2): the context of the filesystem of a mount.
    pub(crate) fn fspick(&mut self, tree: Slot, empty: Data) -> Added<'_> {
        let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
        self.call(libc::SYS_fspick, &[tree.into(), empty.into(), flags.into()])
    }

    /// fsconfig(2), FSCONFIG_SET_FLAG.
    pub(crate) fn fsconfig_set_flag(&mut self, context: Slot, key: impl Text) -> Added<'_> {
        self.fsconfig(context, Fsconfig::SetFlag, key, NULL, 0.into())
    }

    /// fsconfig(2), FSCONFIG_SET_STRING.
    pub(crate) fn fsconfig_set_string(&mut self, context: Slot, key: impl Text, value: impl Text) -> Added<'_> {
        self.fsconfig(context, Fsconfig::SetString, key, value, 0.into())
    }

    /// fsconfig(2), FSCONFIG_SET_FD.
    pub(crate) fn fsconfig_set_fd(&mut self, context: Slot, key: impl Text, fd: impl Into<Number>) -> Added<'_> {
        self.fsconfig(context, Fsconfig::SetFd, key, NULL, fd.into())
    }

    /// fsconfig(2), FSCONFIG_CMD_CREATE.
    pub(crate) fn fsconfig_cmd_create(&mut self, context: Slot) -> Added<'_> {
        self.fsconfig(context, Fsconfig::CmdCreate, NULL, NULL, 0.into())
    }

    /// fsconfig(2), FSCONFIG_CMD_RECONFIGURE.
    pub(crate) fn fsconfig_cmd_reconfigure(&mut self, context: Slot) -> Added<'_> {
        self.fsconfig(context, Fsconfig::CmdReconfigure, NULL, NULL, 0.into())
    }

    fn fsconfig(
        &mut self,
        context: Slot,
        command: Fsconfig,
        key: impl Text,
        value: impl Text,
        aux: Number,
    ) -> Added<'_> {
        let (key, value) = (key.lies(self), value.lies(self));
        let args = [context.into(), (command as u32).into(), key.into(), value.into(), aux.into()];
        self.call(libc::SYS_fsconfig, &args).hint(Hint::KernelLog)
    }

    /// fsmount(2): the filesystem of the context as a detached mount with these attributes.
    pub(crate) fn fsmount(&mut self, context: Slot, attributes: u64) -> Added<'_> {
        self.call(libc::SYS_fsmount, &[context.into(), libc::FSMOUNT_CLOEXEC.into(), attributes.into()])
            .hint(Hint::KernelLog)
    }

    /// renameat2(2) without flags.
    pub(crate) fn renameat2(
        &mut self,
        dir: impl Into<Number>,
        path: impl Text,
        to_dir: impl Into<Number>,
        to_path: impl Text,
    ) -> Added<'_> {
        let (path, to_path) = (path.lies(self), to_path.lies(self));
        let args = [dir.into().into(), path.into(), to_dir.into().into(), to_path.into(), 0.into()];
        self.call(libc::SYS_renameat2, &args)
    }

    /// Room for the numbers of two mounts, which [`Program::compare_mounts`] may use again.
    pub(crate) fn mount_ids(&mut self) -> MountIds {
        let results = [self.bytes(&[0; STATX_SIZE]), self.bytes(&[0; STATX_SIZE])];
        let compared = (results[0].at(STATX_MNT_ID_AT), self.slot_in(results[1], STATX_MNT_ID_AT));
        MountIds { results, compared, empty: self.text("") }
    }

    /// statx(2) of both, and futex(2), FUTEX_CMP_REQUEUE, which compares a number in memory with an argument and has nobody to
    /// wake: fails with EAGAIN unless the path leads to the mount `tree`. A number is 32 bits long in the kernel (`mnt_id` in
    /// fs/mount.h), and no other mount has it while the descriptor is open.
    pub(crate) fn compare_mounts(&mut self, ids: &MountIds, tree: Slot, dir: impl Into<Number>, path: impl Text) {
        let path = path.lies(self);
        let flags = libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT;
        self.statx_mnt_id(tree.into(), ids.empty, flags | libc::AT_EMPTY_PATH, ids.results[0]);
        self.statx_mnt_id(dir.into(), path, flags, ids.results[1]);
        let (memory, number) = ids.compared;
        let futex = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
        let args = [memory.into(), futex.into(), 0.into(), 0.into(), ids.results[1].into(), number.into()];
        self.call(libc::SYS_futex, &args);
    }

    fn statx_mnt_id(&mut self, dir: Number, path: Data, flags: i32, result: Data) {
        let args = [dir.into(), path.into(), flags.into(), libc::STATX_MNT_ID.into(), result.into()];
        self.call(libc::SYS_statx, &args);
    }
}

/// The size of struct statx, and where `stx_mnt_id` lies in it (include/uapi/linux/stat.h).
const STATX_SIZE: usize = 256;
const STATX_MNT_ID_AT: usize = 0x90;

/// Where the numbers of two mounts are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MountIds {
    /// Two of struct statx.
    results: [Data; 2],
    /// `stx_mnt_id` in the first, and its lower half in the second as an argument.
    compared: (Data, Slot),
    empty: Data,
}
