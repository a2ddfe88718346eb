//! The device rules as systemd has them: a policy, and a list of what is allowed.

use zbus::{Array, Signature, Structure, Variant};

use super::Property;
use crate::plan::cgroup::devices::{MKNOD, Match, Node, READ, Rule, Verdict, WRITE, deciding};

const ORIGIN: &str = "linux.resources.devices";

/// The properties, and what is odd.
///
/// On version 2 systemd has a program of its own beside the runtime's, and a device is allowed if both allow it: so systemd's
/// list has all that the rules allow at all, and where it cannot name that, no list. On version 1 systemd writes its list into
/// the cgroup again whenever it is reloaded, and "no list" would open every device: there, what it cannot name is left out.
pub(super) fn properties(rules: &[Rule], v1: bool) -> (Vec<Property>, Vec<String>) {
    let (kept, default) = deciding(rules);
    let lost = |what: &str| {
        vec![format!("{ORIGIN}: systemd cannot be told of {what}: on cgroup version 1 a daemon-reload takes it away")]
    };
    match default {
        Verdict::Allow if kept.is_empty() => (policy("auto", &[]), Vec::new()),
        Verdict::Allow if v1 => (policy("strict", &[]), lost("all devices but some")),
        Verdict::Allow => (policy("auto", &[]), Vec::new()),
        Verdict::Deny => {
            let allowed: Vec<&&Rule> = kept.iter().rev().filter(|rule| rule.verdict == Verdict::Allow).collect();
            let unnamed = allowed.iter().any(|rule| entries(rule).is_none());
            let list: Vec<_> = allowed.iter().filter_map(|rule| entries(rule)).flatten().collect();
            match (unnamed, v1) {
                (false, _) => (policy("strict", &list), Vec::new()),
                (true, true) => (policy("strict", &list), lost("a minor number without its major")),
                (true, false) => (policy("auto", &[]), Vec::new()),
            }
        }
    }
}

/// An empty list of devices.
pub(super) fn no_list() -> Property {
    Property::new("DeviceAllow", Variant::Array(empty())).at(ORIGIN)
}

fn empty() -> Array<'static> {
    Array::new(&Signature::structure([Signature::Str, Signature::Str]))
}

fn policy(policy: &'static str, allowed: &[(String, String)]) -> Vec<Property> {
    let mut list = empty();
    for (path, access) in allowed {
        let pair = Variant::Structure(Structure::from((path.clone(), access.clone())));
        list.append(pair).expect("an element of the array's own type");
    }
    let list = Property::new("DeviceAllow", Variant::Array(list)).at(ORIGIN);
    vec![Property::new("DevicePolicy", policy).at(ORIGIN), list]
}

/// The names that systemd has for a rule's devices, with the access; none if it has none.
fn entries(rule: &Rule) -> Option<Vec<(String, String)>> {
    let nodes = rule.devices.node.map_or(vec![Node::Block, Node::Char], |node| vec![node]);
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let access: String = letters.iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| letter).collect();
    let name = |node: Node| {
        let class = match node {
            Node::Block => "block",
            Node::Char => "char",
        };
        let Match { major, minor, .. } = rule.devices;
        Some(match (major, minor) {
            (Some(major), Some(minor)) => format!("/dev/{class}/{major}:{minor}"),
            (Some(major), None) => format!("{class}-{major}"),
            (None, None) => format!("{class}-*"),
            (None, Some(_)) => return None,
        })
    };
    nodes.into_iter().map(|node| Some((name(node)?, access.clone()))).collect()
}
