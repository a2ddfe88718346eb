//! Bind mounts: which attributes they get.

use nix::libc;

use super::{Mounts, Planned, What};
use crate::error::{Error, Result};
use crate::host::mounts::MountCalls;
use crate::plan::mounts::attributes::Change;
use crate::plan::mounts::options::{Attributes, NOSYMFOLLOW, Reach, keeps_locked};
use crate::plan::program::{Program, Slot};

/// Whether the flags of what is bound are locked: in another user namespace than the one that it was mounted in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Locks {
    Locked,
    Free,
}

impl Mounts<'_> {
    /// A bind mount to which any flag is given has just those flags; without one it keeps those of its source.
    ///
    /// # Errors
    /// A flag of the source is locked.
    pub(super) fn bind_flags(&self, planned: &mut Planned<'_>, locks: Locks) -> Result<()> {
        let (options, had) = (&mut planned.options, planned.had);
        let locked = |text| {
            let place = format!("{}.options", planned.place);
            Error::spec(place, format!("{text} in a user namespace")).with_errno(nix::errno::Errno::EPERM)
        };
        if options.any {
            options.own = match locks {
                Locks::Locked => options.flags.on_locked(had).map_err(locked)?,
                Locks::Free => options.flags.exactly(),
            };
            if self.request.host.mounts == MountCalls::SetAttributes {
                // That kernel's call does not know it.
                options.own.clear &= !NOSYMFOLLOW;
            }
        }
        match locks {
            Locks::Locked => keeps_locked(had, options.attributes().on(had)).map_err(locked),
            Locks::Free => Ok(()),
        }
    }

    /// Gives the copy of a host's tree its attributes; it is a peer of what the host has, and must not stay it. As few calls as
    /// do: propagation with either of the attributes, where it reaches as far.
    pub(super) fn settle(&self, p: &mut Program, tree: Slot, planned: &Planned<'_>) {
        let Planned { options, had, .. } = planned;
        // Of a user namespace of the container's it was planned what is locked; that of the runtime has locks that the kernel
        // knows.
        let asks = options.any && self.request.host.standing.has_locks() && !self.user_namespace;
        let beside_locked = asks.then(|| options.flags.beside_locked());
        let mut set = |reach: Reach, attributes: Attributes, propagation: u64, beside_locked: Option<Attributes>| {
            let change = Change { attributes, had: *had, propagation, beside_locked };
            self.setter.change(p, tree, reach, change);
        };
        match (options.recursive_bind, options.recursive.is_empty()) {
            (false, _) => {
                let beside_locked = beside_locked.map(|attributes| attributes.then(options.recursive));
                set(Reach::Top, options.attributes(), libc::MS_SLAVE, beside_locked);
            }
            (true, false) => {
                if !options.own.is_empty() {
                    set(Reach::Top, options.own, 0, beside_locked);
                }
                set(Reach::Below, options.recursive, libc::MS_SLAVE, None);
            }
            (true, true) => {
                set(Reach::Below, Attributes::default(), libc::MS_SLAVE, None);
                if !options.own.is_empty() {
                    set(Reach::Top, options.own, 0, beside_locked);
                }
            }
        }
    }

    /// What could not be done to a detached mount.
    pub(super) fn settle_attached(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        if self.setter.reaches_detached() {
            return;
        }
        match planned.what {
            What::Tree(_) => self.settle(p, tree, planned),
            What::Made(_) if planned.attributes() & NOSYMFOLLOW != 0 => {
                // fsmount(2) has taken the others. What is made read-only later is not yet.
                let had = planned.attributes() & !super::filesystem::later(planned);
                let change = Change { attributes: Attributes::setting(NOSYMFOLLOW), had, ..Change::default() };
                self.setter.change(p, tree, Reach::Top, change);
            }
            What::CgroupCopy(_) => self.settle_copy(p, planned, tree),
            _ => {}
        }
    }
}
