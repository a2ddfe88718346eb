//! When the order of a launch has to make room for hooks.

use oci_spec::runtime::Spec;

use super::check::kinds;

/// Whether a hook wants to see the mounts before the root is changed.
pub(super) fn before_pivot(spec: &Spec) -> bool {
    let early = ["prestart", "createRuntime", "createContainer"];
    let some = |(kind, list): (&str, &Option<Vec<_>>)| {
        early.contains(&kind) && list.as_ref().is_some_and(|list| !list.is_empty())
    };
    spec.hooks().iter().flat_map(kinds).any(some)
}
