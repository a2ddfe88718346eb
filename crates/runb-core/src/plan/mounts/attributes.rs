//! How attributes and propagation of a mount are changed: by mount_setattr(2), or by mount(2) where the kernel lacks it.
//!
//! mount(2) wants a path, and changes only what is attached. So there a mount is attached first and changed next, by the link
//! of init's own descriptor in a directory of procfs: that link leads to this very mount, whatever the image has at its
//! place, and to a file as well as to a directory. The directory is a detached mount, and all that it holds are init's own
//! descriptors; its path is never `/proc` of the container, which may be anything.

use nix::libc;

use super::options::{Attributes, Reach, classic};
use crate::host::Host;
use crate::host::mounts::MountCalls;
use crate::plan::program::{
    AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, Data, MountAttr, NULL, Number, O_DIRECTORY, O_PATH, OPEN_TREE_CLONE,
    Program, Slot, TreeFlags,
};

/// What a mount is to become.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::plan) struct Change {
    /// Attributes that are set and cleared.
    pub(in crate::plan) attributes: Attributes,
    /// The attributes that it has so far: mount(2) sets them all.
    pub(in crate::plan) had: u64,
    /// What is changed instead where the kernel says that one of the attributes is locked.
    pub(in crate::plan) beside_locked: Option<Attributes>,
    /// `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE`, `MS_UNBINDABLE`; 0 is no change.
    pub(in crate::plan) propagation: u64,
}

/// Changes mounts as the kernel can.
#[derive(Clone, Copy)]
pub(in crate::plan) enum Setter {
    /// mount_setattr(2), on what is detached as well.
    SetAttributes {
        /// "".
        empty: Data,
    },
    /// mount(2).
    Classic {
        /// The directory of init's own descriptors, once it is opened.
        descriptors: Slot,
        /// The descriptor of what is changed: its number is the name in that directory, so it is one and the same.
        number: i32,
    },
}

/// Whose procfs has the directory of init's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Procfs {
    /// The host's, while it is in sight.
    Hosts,
    /// A new one: of a process that came into its pid namespace when the host's was out of sight.
    New,
}

impl Setter {
    /// For this machine; the first calls of a program, so that the number that mount(2) needs is free.
    pub(in crate::plan) fn of(p: &mut Program, host: &Host) -> Self {
        if host.mounts >= MountCalls::SetAttributes {
            return Setter::SetAttributes { empty: p.text("") };
        }
        p.section("");
        // Beside the report and the fifo, and closed with what comes after them.
        let number = p.report() + 2;
        let report = p.report();
        p.dup3(report, number);
        Setter::Classic { descriptors: p.slot(), number }
    }

    /// Whether a mount can be changed before it is attached.
    pub(in crate::plan) fn reaches_detached(&self) -> bool {
        matches!(self, Setter::SetAttributes { .. })
    }

    /// Opens what [`Setter::change`] needs, in the process that changes mounts.
    pub(in crate::plan) fn open(&self, p: &mut Program, procfs: Procfs) {
        let Setter::Classic { descriptors, .. } = *self else { return };
        p.section("");
        p.doing("open init's own descriptors in procfs");
        match procfs {
            Procfs::Hosts => {
                p.open_tree(AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE).into_slot(descriptors);
            }
            Procfs::New => {
                let context = p.fsopen("proc").out();
                p.fsconfig_cmd_create(context);
                let procfs = p.fsmount(context, 0).out();
                p.openat(procfs, "self/fd", O_PATH | O_DIRECTORY).into_slot(descriptors);
            }
        }
    }

    /// Changes `tree`, and with [`Reach::Below`] the mounts below it as well; of these mount(2) changes only the propagation.
    pub(in crate::plan) fn change(&self, p: &mut Program, tree: Slot, reach: Reach, change: Change) {
        match *self {
            Setter::SetAttributes { empty } => set_attributes(p, tree, empty, AT_EMPTY_PATH, reach, change),
            Setter::Classic { descriptors, number } => {
                let name = p.text(number.to_string());
                p.dup3(tree, number);
                p.fchdir(descriptors);
                by_path(p, name, reach, change);
                p.chdir("/");
            }
        }
    }

    /// As [`Setter::change`], only if the last call that tolerates anything succeeded.
    pub(in crate::plan) fn change_after_success(&self, p: &mut Program, tree: Slot, reach: Reach, change: Change) {
        let first = p.calls().len();
        self.change(p, tree, reach, change);
        p.after_success_from(first);
    }

    /// Changes a directory that the working directory may become.
    pub(in crate::plan) fn change_from_inside(&self, p: &mut Program, tree: Slot, reach: Reach, change: Change) {
        match *self {
            Setter::SetAttributes { .. } => self.change(p, tree, reach, change),
            Setter::Classic { .. } => {
                let dot = p.text(".");
                p.fchdir(tree);
                by_path(p, dot, reach, change);
            }
        }
    }

    /// Changes the mount that is the process's root.
    pub(in crate::plan) fn change_root(&self, p: &mut Program, change: Change) {
        let slash = p.text("/");
        match self {
            Setter::SetAttributes { .. } => {
                set_attributes(p, AT_FDCWD, slash, TreeFlags::default(), Reach::Top, change)
            }
            Setter::Classic { .. } => by_path(p, slash, Reach::Top, change),
        }
    }
}

fn set_attributes(p: &mut Program, dir: impl Into<Number>, path: Data, flags: TreeFlags, reach: Reach, change: Change) {
    let flags = if reach == Reach::Below { flags | AT_RECURSIVE } else { flags };
    let dir = dir.into();
    let attr = |Attributes { set, clear }| MountAttr { set, clear, propagation: change.propagation };
    let call = p.mount_setattr(dir, path, flags, attr(change.attributes));
    if let Some(attributes) = change.beside_locked {
        call.tolerate(&[libc::EPERM]);
        p.mount_setattr(dir, path, flags, attr(attributes)).after(libc::EPERM);
    }
}

fn by_path(p: &mut Program, path: Data, reach: Reach, change: Change) {
    if change.propagation != 0 {
        let below = if reach == Reach::Below { libc::MS_REC } else { 0 };
        p.mount(NULL, path, NULL, change.propagation | below, NULL);
    }
    if !change.attributes.is_empty() {
        let flags = |attributes| libc::MS_REMOUNT | libc::MS_BIND | classic(change.had, attributes);
        let call = p.mount(NULL, path, NULL, flags(change.attributes), NULL);
        if let Some(attributes) = change.beside_locked {
            call.tolerate(&[libc::EPERM]);
            p.mount(NULL, path, NULL, flags(attributes), NULL).after(libc::EPERM);
        }
    }
}
