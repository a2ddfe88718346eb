//! The namespaces of others: a filesystem of a namespace (sysfs, mqueue, procfs) is mounted by who has rights over that.

use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::host::standing::{Standing, has_rights_over};
use crate::sys::owner_of_namespace;

/// What filesystems are of.
const KINDS: [LinuxNamespaceType; 3] =
    [LinuxNamespaceType::Network, LinuxNamespaceType::Ipc, LinuxNamespaceType::Pid];

/// Whose a namespace of the container is.
#[derive(Clone, Copy)]
enum Whose<'a> {
    Runtimes,
    New,
    Joined(&'a Path),
}

/// `CLONE_NEW*` of those of the container over which its init will have no rights.
pub(super) fn foreign(spec: &Spec, standing: &Standing) -> u64 {
    let user = whose(spec, LinuxNamespaceType::User);
    if *standing == Standing::Machine && matches!(user, Whose::Runtimes) {
        return 0;
    }
    let is_foreign = |kind: &LinuxNamespaceType| match (user, whose(spec, *kind)) {
        (_, Whose::New) => false,
        (Whose::Runtimes, Whose::Runtimes) => standing.foreign() & *kind as u64 != 0,
        (Whose::Runtimes, Whose::Joined(path)) => owner_of_namespace(path).is_err(),
        // Nothing is a new user namespace's but what is made in it.
        (Whose::New, _) => true,
        (Whose::Joined(user), Whose::Joined(path)) => !has_rights_over(user, path),
        (Whose::Joined(_), Whose::Runtimes) => true,
    };
    KINDS.iter().filter(|kind| is_foreign(kind)).fold(0, |all, kind| all | *kind as u64)
}

fn whose(spec: &Spec, kind: LinuxNamespaceType) -> Whose<'_> {
    let mut list = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    match list.find(|namespace| namespace.typ() == kind).map(|namespace| namespace.path().as_deref()) {
        None => Whose::Runtimes,
        Some(None) => Whose::New,
        Some(Some(path)) if path.as_os_str().is_empty() => Whose::New,
        Some(Some(path)) => Whose::Joined(path),
    }
}
