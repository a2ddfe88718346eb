//! process.user and process.capabilities: who the workload is. Source: config.md "User", "Linux Process", capabilities(7).

use std::str::FromStr;

use nix::libc;
use oci_spec::runtime::{Capabilities, Process};

use crate::host::Host;
use crate::host::standing::Standing;
use crate::plan::namespaces::Namespaces;
use crate::plan::program::{Hint, Program, capability_name};

/// Whose user namespace a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum UserNamespace {
    /// The runtime's.
    Runtimes,
    /// The container's own, new or joined.
    Own,
}

impl UserNamespace {
    pub(in crate::plan) fn of(namespaces: &Namespaces) -> Self {
        Self::of_flags(namespaces.all())
    }

    /// By the `CLONE_NEW*` flags of the namespaces that are the container's own.
    pub(in crate::plan) fn of_flags(namespaces: u64) -> Self {
        if namespaces & libc::CLONE_NEWUSER as u64 != 0 { UserNamespace::Own } else { UserNamespace::Runtimes }
    }
}

/// Capabilities as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::plan) struct Sets {
    pub(in crate::plan) bounding: u64,
    pub(in crate::plan) effective: u64,
    pub(in crate::plan) permitted: u64,
    pub(in crate::plan) inheritable: u64,
    pub(in crate::plan) ambient: u64,
}

fn bits(set: &Option<Capabilities>) -> u64 {
    let index = |capability: &oci_spec::runtime::Capability| {
        let name = format!("CAP_{capability}");
        caps::Capability::from_str(&name).map(|capability| 1u64 << capability.index()).unwrap_or(0)
    };
    set.iter().flatten().map(index).fold(0, |all, bit| all | bit)
}

impl Sets {
    pub(in crate::plan) fn of(process: &Process) -> Self {
        let Some(sets) = process.capabilities() else { return Sets::default() };
        Sets {
            bounding: bits(sets.bounding()),
            effective: bits(sets.effective()),
            permitted: bits(sets.permitted()),
            inheritable: bits(sets.inheritable()),
            ambient: bits(sets.ambient()),
        }
    }

    /// Leaves out what cannot be granted, `have` being what there is to give; as warnings, as config.md demands.
    pub(in crate::plan) fn grant(&mut self, have: u64) -> Vec<String> {
        let names = |bits: u64| (0..64u8).filter(move |bit| bits >> bit & 1 == 1).map(capability_name);
        let all = self.bounding | self.effective | self.permitted | self.inheritable | self.ambient;
        for set in
            [&mut self.bounding, &mut self.effective, &mut self.permitted, &mut self.inheritable, &mut self.ambient]
        {
            *set &= have;
        }
        let absent =
            names(all & !have).map(|name| format!("process.capabilities: {name} is not available here, and left out"));
        let mut warnings: Vec<String> = absent.collect();
        // capabilities(7): what is not both permitted and inheritable cannot be ambient.
        let never = self.ambient & !(self.permitted & self.inheritable);
        self.ambient &= !never;
        warnings.extend(names(never).map(|name| {
            format!(
                "process.capabilities.ambient: can't raise ambient capability {name}: not both permitted and inheritable, \
                 it is left out"
            )
        }));
        warnings
    }
}

/// process.user.additionalGids, or none.
pub(super) fn groups(p: &mut Program, process: &Process, host: &Host, namespace: UserNamespace) {
    let list = process.user().additional_gids().as_deref().unwrap_or_default();
    p.section(if list.is_empty() { "process.user" } else { "process.user.additionalGids" });
    let call = p.setgroups(list).hint(Hint::Groups);
    // A user namespace may deny it (user_namespaces(7), /proc/PID/setgroups): nothing is to be set then, as in runc.
    if list.is_empty() && (namespace == UserNamespace::Own || host.standing != Standing::Machine) {
        call.tolerate(&[libc::EPERM]);
    }
}

/// The bounding set, the ids, then the other sets: in the order in which each still has the right to the next.
pub(super) fn credentials(p: &mut Program, process: &Process, host: &Host, sets: Sets) {
    p.section("process.capabilities");
    for bit in (0..=host.last_capability).filter(|bit| sets.bounding >> bit & 1 == 0) {
        p.prctl_capbset_drop(bit);
    }
    p.section("process.user");
    p.prctl_set_keepcaps();
    p.setresgid(process.user().gid()).hint(Hint::Unmapped);
    p.setresuid(process.user().uid()).hint(Hint::Unmapped);
    p.section("process.capabilities");
    capset(p, sets);
    for bit in (0..64u8).filter(|bit| sets.ambient >> bit & 1 == 1) {
        p.doing(format!("raise {} in the ambient set", capability_name(bit)));
        p.prctl_cap_ambient_raise(bit);
    }
}

pub(in crate::plan) fn capset(p: &mut Program, sets: Sets) {
    p.section("process.capabilities");
    p.capset(sets.effective, sets.permitted, sets.inheritable);
}
