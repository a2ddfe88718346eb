//! Who may look into init while it works (ptrace(2), "Ptrace access mode checking").

use nix::libc;

use super::Namespaces;
use crate::host::Host;
use crate::plan::program::Program;

/// Who may look into init while it works. A user could neither map the ids of a process that it may not look into, nor take a
/// descriptor of it; and such a process may not write to its own files in procfs, which are root's then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Sight {
    /// Nobody but the machine's root.
    Nobodys,
    /// Its user as well, whose rights are init's. Nobody but init is in the user namespace that it makes.
    Users,
    /// Its user, until it joins a user namespace: who is there may be anybody.
    UsersOutside,
}

impl Sight {
    /// Of an init of this host with these namespaces.
    pub(in crate::plan) fn of(host: &Host, namespaces: &Namespaces) -> Self {
        match (host.standing.may_mount(), namespaces.makes(libc::CLONE_NEWUSER as u64)) {
            (true, _) => Sight::Nobodys,
            (false, true) => Sight::Users,
            (false, false) => Sight::UsersOutside,
        }
    }

    /// At the begin.
    pub(in crate::plan) fn begin(self, p: &mut Program) {
        if self == Sight::Nobodys {
            p.prctl_set_undumpable();
        }
    }

    /// Before a user namespace of others is joined.
    pub(super) fn before_others(self, p: &mut Program) {
        if self == Sight::UsersOutside {
            p.prctl_set_undumpable();
        }
    }

    /// After a change of ids, which takes the user's sight away (commit_creds in the kernel).
    pub(super) fn keep(self, p: &mut Program) {
        if self == Sight::Users {
            p.prctl_set_dumpable();
        }
    }

    /// At the end, where nothing is to be seen but what the workload has: the user's other processes join the container by
    /// looking at its init.
    pub(in crate::plan) fn end(self, p: &mut Program) {
        if self != Sight::Nobodys {
            p.prctl_set_dumpable();
        }
    }
}
