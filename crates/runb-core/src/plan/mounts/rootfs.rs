//! The root filesystem: opened, attached, made `/`. Source: config.md "Root", pivot_root(2).

use nix::libc;

use super::attributes::{Change, Setter};
use super::options::{Attributes, RDONLY, Reach, of_statfs, propagation};
use crate::error::{Error, Result};
use crate::options::RootEntry;
use crate::plan::program::{
    AT_FDCWD, AT_RECURSIVE, Data, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS, NULL, O_DIRECTORY, O_PATH,
    OPEN_TREE_CLONE, Program, Slot,
};
use crate::plan::request::Request;
use crate::survey::Reader;

/// The container's root filesystem, as a detached mount until it is attached.
pub(in crate::plan) struct Root {
    tree: Slot,
    /// The host's root, the way back out of the chroot in which hooks find the mounts made.
    old: Option<Slot>,
    path: Data,
    empty: Data,
    reader: Reader,
    setter: Setter,
    mounts: Whose,
}

/// Whose mount namespace init is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Whose {
    /// The container's own, new or joined.
    Own,
    /// The runtime's: nothing of it is changed but that the root filesystem is mounted at its path, and entered by a chroot.
    Runtimes,
}

/// Where the root lies until it becomes `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Site {
    /// On top of the old root.
    OnRoot,
    /// At its path on the host, where hooks look for it; init is in a chroot there while it mounts.
    AtPath,
}

impl Root {
    /// Opens it while the host's paths are at hand.
    pub(in crate::plan) fn open(p: &mut Program, request: &Request<'_>, setter: Setter, mounts: Whose) -> Result<Self> {
        p.section("root.path");
        let given = request.spec.linux().iter().find_map(|linux| linux.rootfs_propagation().as_deref());
        if let Some(word) = given.filter(|word| !word.is_empty() && propagation(word).is_none()) {
            return Err(Error::spec("linux.rootfsPropagation", format!("{word:?} is no propagation")));
        }
        let root = request.spec.root().as_ref().map(|root| request.bundle.join(root.path())).unwrap_or_default();
        let path = p.text(root.as_os_str().as_encoded_bytes());
        let empty = p.text("");
        let root = Root { tree: p.slot(), old: None, path, empty, reader: request.survey.reader, setter, mounts };
        root.open_as(p, Reader::Runtime);
        Ok(root)
    }

    /// Opens it if it is for this reader to do: the runtime's equal, or the root of the container's user namespace, which is in
    /// a mount namespace of its own, and still has the host's paths at hand.
    pub(in crate::plan) fn open_as(&self, p: &mut Program, reader: Reader) {
        if self.reader == reader {
            p.section("root.path");
            p.open_tree(AT_FDCWD, self.path, OPEN_TREE_CLONE | AT_RECURSIVE).into_slot(self.tree);
        }
    }

    /// Nothing that is mounted from here on may reach the host; what the host mounts does arrive, if it is a slave. The runtime's
    /// own mount namespace is left as it is.
    pub(in crate::plan) fn seclude(&self, p: &mut Program, request: &Request<'_>) {
        if self.mounts == Whose::Runtimes {
            return;
        }
        p.section("linux.rootfsPropagation");
        let old = if given(request) & libc::MS_PRIVATE != 0 { libc::MS_PRIVATE } else { libc::MS_SLAVE };
        p.mount(NULL, "/", NULL, libc::MS_REC | old, NULL);
    }

    /// Puts it into the mount namespace. Before hooks it lies at its path on the host, where they look for it, and init
    /// works below it by a chroot that it can leave.
    pub(in crate::plan) fn attach(&mut self, p: &mut Program, request: &Request<'_>, site: Site) {
        p.section("linux.rootfsPropagation");
        let slash = p.text("/");
        // A peer group of its own, and an unbindable mount, have no master, as with runc.
        let own = if given(request) & libc::MS_SLAVE != 0 { libc::MS_SLAVE } else { libc::MS_PRIVATE };
        let slave = Change { propagation: own, ..Change::default() };
        if self.setter.reaches_detached() {
            self.setter.change(p, self.tree, Reach::Below, slave);
        }
        p.section("root.path");
        let target = if site == Site::AtPath { self.path } else { slash };
        p.move_mount(self.tree, self.empty, AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
        match self.mounts {
            Whose::Own if self.setter.reaches_detached() => {}
            Whose::Own => self.setter.change_from_inside(p, self.tree, Reach::Below, slave),
            // What is mounted on a shared mount is shared again.
            Whose::Runtimes => {
                let private = Change { propagation: libc::MS_PRIVATE, ..Change::default() };
                self.setter.change_from_inside(p, self.tree, Reach::Below, private);
            }
        }
        if site == Site::AtPath {
            // Of this mount namespace, so not before it is made.
            self.old = Some(p.openat(AT_FDCWD, slash, O_PATH | O_DIRECTORY).out());
            p.fchdir(self.tree);
            p.chroot(".");
        }
    }

    /// Leaves the chroot of [`Root::attach`].
    pub(in crate::plan) fn leave(&self, p: &mut Program) {
        let Some(old) = self.old else { return };
        p.section("root.path");
        p.fchdir(old);
        p.chroot(".");
        p.close(old);
    }

    /// Makes it `/`.
    pub(in crate::plan) fn pivot(&self, p: &mut Program, request: &Request<'_>, site: Site) {
        p.section("root.path");
        let dot = p.text(".");
        let slash = p.text("/");
        p.fchdir(self.tree);
        match request.options.root_entry {
            _ if self.mounts == Whose::Runtimes => {
                p.chroot(dot);
            }
            RootEntry::Pivot => {
                // The old root comes to lie on the new one, and is taken from there (pivot_root(2), "pivot_root(".", ".")").
                p.pivot_root(dot, dot);
                p.umount_detach(dot);
            }
            RootEntry::NoPivot => {
                self.uncover(p, request);
                if site == Site::AtPath {
                    p.mount(dot, slash, NULL, libc::MS_MOVE, NULL);
                }
                p.chroot(dot);
            }
        }
        p.chdir(slash);
        p.close(self.tree);
    }

    /// Without a pivot the host's mounts stay in the namespace: a whole procfs there would let a nested user namespace
    /// mount one without masks (mount_too_revealing in the kernel). They are unmounted, or covered where that is forbidden.
    fn uncover(&self, p: &mut Program, request: &Request<'_>) {
        for path in &request.survey.kernel_filesystems {
            let (target, tmpfs) = (p.text(path.as_os_str().as_encoded_bytes()), p.text("tmpfs"));
            p.umount_detach(target).tolerate(&[libc::EINVAL, libc::EPERM, libc::ENOENT]);
            p.mount(tmpfs, target, tmpfs, 0, NULL).after(libc::EPERM);
        }
    }

    /// What comes when all is mounted: read-only, and the propagation that the configuration wants.
    pub(in crate::plan) fn finish(&self, p: &mut Program, request: &Request<'_>) {
        let spec = request.spec;
        let slash = p.text("/");
        if spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
            p.section("root.readonly");
            let had = of_statfs(request.survey.mount_flags.root);
            self.setter.change_root(p, Change { attributes: Attributes::setting(RDONLY), had, ..Change::default() });
        }
        let given = spec.linux().iter().find_map(|linux| linux.rootfs_propagation().as_deref());
        if let Some(flags) = given.and_then(propagation)
            && flags & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0
        {
            p.section("linux.rootfsPropagation");
            p.mount(NULL, slash, NULL, flags, NULL);
        }
    }
}

/// linux.rootfsPropagation as MS_* flags.
fn given(request: &Request<'_>) -> u64 {
    let given = request.spec.linux().iter().find_map(|linux| linux.rootfs_propagation().as_deref());
    given.and_then(propagation).unwrap_or(libc::MS_SLAVE)
}
