//! Where calls come from, and what is known of them when they are planned.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

/// What a failure of a call means, where its errno alone does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hint {
    /// The kernel has more to say, in the log of the filesystem context that is the first argument.
    KernelLog,
    /// EPERM: the hard limit of this resource is lower.
    HardLimit(u32),
    /// ENOENT: the AppArmor profile is not loaded.
    ProfileMissing,
    /// ENOENT: the file is there, so that it is its interpreter that is not.
    InterpreterMissing,
    /// EPERM: a user namespace may deny setgroups(2); EINVAL: an id is not mapped.
    Groups,
    /// EINVAL: an id is not mapped in the user namespace.
    Unmapped,
    /// EPERM, ENOSPC, EUSERS: there may be no more user namespaces, or none at all.
    UserNamespace,
    /// EPERM: another user namespace has made this one.
    Foreign,
    /// EPERM: of this filesystem there is none in sight that is whole.
    Hidden,
    /// EINVAL: what is mounted below must stay there in a user namespace.
    MountedBelow,
    /// EINVAL: a directory goes onto a directory, and a file onto none; whether this is one.
    Onto { directory: bool },
    /// EPERM: a deadline task has the right to be one, and all CPUs of its root domain (sched_setattr(2)).
    Deadline,
    /// EINVAL: the kernel does not know the mode, takes it not with these flags, or none of the nodes is allowed.
    MemoryPolicy,
}

/// A call that whoever runs the program looks for; there is at most one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The wait at the exec fifo.
    Wait,
    /// The load of the seccomp filter.
    Filter,
    /// The clone that makes the twin.
    Twin,
}

/// Where a call comes from: the place in config.json, and what it does as one sentence where the call alone does not say it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) place: Rc<str>,
    pub(super) what: Option<Rc<str>>,
    pub(super) hint: Option<Hint>,
    pub(super) mark: Option<Mark>,
}
