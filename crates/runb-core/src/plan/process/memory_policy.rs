//! linux.memoryPolicy: on which memory nodes the process gets its memory. Sources: config-linux.md "Memory policy",
//! set_mempolicy(2), `mpol_new` and `sanitize_mpol_flags` in mm/mempolicy.c.

use nix::libc;
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Spec};

use super::mask::{Of, mask};
use crate::error::{Error, Result};
use crate::plan::program::{Hint, Program};

/// The place in config.json.
const PLACE: &str = "linux.memoryPolicy";

/// All modes of the specification, which are those of Linux 6.9; `features` tells them.
pub(crate) const MODES: [MemoryPolicyModeType; 7] = [
    MemoryPolicyModeType::MpolBind,
    MemoryPolicyModeType::MpolDefault,
    MemoryPolicyModeType::MpolInterleave,
    MemoryPolicyModeType::MpolLocal,
    MemoryPolicyModeType::MpolPreferred,
    MemoryPolicyModeType::MpolPreferredMany,
    MemoryPolicyModeType::MpolWeightedInterleave,
];

/// All flags of the specification; `features` tells them.
pub(crate) const FLAGS: [MemoryPolicyFlagType; 3] = [
    MemoryPolicyFlagType::MpolFNumaBalancing,
    MemoryPolicyFlagType::MpolFRelativeNodes,
    MemoryPolicyFlagType::MpolFStaticNodes,
];

fn number(mode: MemoryPolicyModeType) -> i32 {
    // include/uapi/linux/mempolicy.h: since Linux 5.15 (kernel commit b27abaccf8e8) and 6.9 (fa3bea4e1f82).
    const MPOL_PREFERRED_MANY: i32 = 5;
    const MPOL_WEIGHTED_INTERLEAVE: i32 = 6;
    match mode {
        MemoryPolicyModeType::MpolDefault => libc::MPOL_DEFAULT,
        MemoryPolicyModeType::MpolPreferred => libc::MPOL_PREFERRED,
        MemoryPolicyModeType::MpolBind => libc::MPOL_BIND,
        MemoryPolicyModeType::MpolInterleave => libc::MPOL_INTERLEAVE,
        MemoryPolicyModeType::MpolLocal => libc::MPOL_LOCAL,
        MemoryPolicyModeType::MpolPreferredMany => MPOL_PREFERRED_MANY,
        MemoryPolicyModeType::MpolWeightedInterleave => MPOL_WEIGHTED_INTERLEAVE,
    }
}

fn bit(flag: MemoryPolicyFlagType) -> i32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => libc::MPOL_F_NUMA_BALANCING,
        MemoryPolicyFlagType::MpolFRelativeNodes => libc::MPOL_F_RELATIVE_NODES,
        MemoryPolicyFlagType::MpolFStaticNodes => libc::MPOL_F_STATIC_NODES,
    }
}

/// linux.memoryPolicy as one call, which a fork and an execve hand on. The nodes are those of the cgroup's cpuset.
///
/// # Errors
/// The nodes are no list, the mode does not go with them, or two flags exclude each other.
pub(in crate::plan) fn set(p: &mut Program, spec: &Spec) -> Result<()> {
    let Some(policy) = of(spec) else { return Ok(()) };
    let nodes = nodes(policy)?;
    let flags = policy.flags().as_deref().unwrap_or_default();
    if [libc::MPOL_F_STATIC_NODES, libc::MPOL_F_RELATIVE_NODES].iter().all(|one| flags.iter().any(|f| bit(*f) == *one)) {
        let text = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        return Err(Error::spec(format!("{PLACE}.flags"), text));
    }
    let mode = flags.iter().fold(number(policy.mode()), |mode, flag| mode | bit(*flag));
    let names = flags.iter().map(|flag| format!("|{flag}")).collect::<String>();
    let list = policy.nodes().as_deref().filter(|_| !nodes.is_empty()).map(|list| format!(" nodes {list}"));
    p.section(PLACE);
    p.doing(format!("set_mempolicy {}{names}{}", policy.mode(), list.unwrap_or_default()));
    p.set_mempolicy(mode, &nodes).hint(Hint::MemoryPolicy);
    Ok(())
}

/// linux.memoryPolicy, if there is one.
pub(in crate::plan) fn of(spec: &Spec) -> Option<&LinuxMemoryPolicy> {
    spec.linux().as_ref()?.memory_policy().as_ref()
}

/// The mask of linux.memoryPolicy.nodes, in the number that the mode demands.
fn nodes(policy: &LinuxMemoryPolicy) -> Result<Vec<u64>> {
    let place = format!("{PLACE}.nodes");
    let list = policy.nodes().as_deref().filter(|list| !list.is_empty());
    let mask = list.map(|list| mask(list, Of::Nodes)).transpose();
    let mask = mask.map_err(|text| Error::spec(&place, format!("invalid memory policy nodes {text}")))?.unwrap_or_default();
    let count: u32 = mask.iter().map(|word| word.count_ones()).sum();
    let mode = policy.mode();
    match mode {
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal if count != 0 => {
            Err(Error::spec(place, format!("memory policy mode requires 0 nodes but got {count} ({mode})")))
        }
        MemoryPolicyModeType::MpolDefault | MemoryPolicyModeType::MpolLocal | MemoryPolicyModeType::MpolPreferred => Ok(mask),
        _ if count == 0 => {
            Err(Error::spec(place, format!("memory policy mode requires at least one node but got 0 ({mode})")))
        }
        _ => Ok(mask),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn planned(policy: serde_json::Value) -> Result<Program> {
        let spec = json!({"ociVersion": "1.3.0", "linux": {"memoryPolicy": policy}});
        let mut p = Program::new(3);
        set(&mut p, &serde_json::from_value(spec).expect("a spec"))?;
        Ok(p)
    }

    #[test]
    fn a_policy_becomes_one_call_with_all_its_nodes() {
        let flags = ["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"];
        let p = planned(json!({"mode": "MPOL_BIND", "nodes": "0-1,63-64", "flags": flags})).expect("planned");
        assert_eq!(p.what(0), "set_mempolicy MPOL_BIND|MPOL_F_STATIC_NODES|MPOL_F_NUMA_BALANCING nodes 0-1,63-64");
        let [call] = p.calls() else { panic!("one call") };
        // The kernel takes one less for the number of bits, so that the last one of the words counts.
        assert_eq!((call.args[0], call.args[2]), (2 | 1 << 15 | 1 << 13, 129));
        let mask = p.bytes_at(call.args[1], 16).expect("a mask");
        let words = [0, 8].map(|at| u64::from_ne_bytes(mask[at..at + 8].try_into().expect("eight bytes")));
        assert_eq!(words, [3 | 1 << 63, 1]);
    }

    #[test]
    fn a_policy_without_nodes_has_no_mask() {
        for (mode, number) in [("MPOL_DEFAULT", 0), ("MPOL_LOCAL", 4), ("MPOL_PREFERRED", 1)] {
            for policy in [json!({"mode": mode}), json!({"mode": mode, "nodes": ""})] {
                let p = planned(policy).expect("planned");
                assert_eq!(p.calls()[0].args[..3], [number, 0, 0]);
                assert_eq!(p.what(0), format!("set_mempolicy {mode}"));
            }
        }
    }

    #[test]
    fn what_cannot_be_a_policy_is_refused_with_its_reason() {
        let refused = |policy| planned(policy).map(drop).expect_err("it is refused").to_string();
        let none = "linux.memoryPolicy.nodes: memory policy mode requires 0 nodes but got 8";
        assert!(refused(json!({"mode": "MPOL_DEFAULT", "nodes": "0-7"})).starts_with(none));
        assert!(refused(json!({"mode": "MPOL_LOCAL", "nodes": "1"})).contains("requires 0 nodes but got 1 (MPOL_LOCAL)"));
        for mode in ["MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"] {
            assert!(refused(json!({"mode": mode})).contains("requires at least one node but got 0"));
        }
        let large = "linux.memoryPolicy.nodes: invalid memory policy nodes \"0-9876543210\": no kernel has a memory node";
        assert!(refused(json!({"mode": "MPOL_BIND", "nodes": "0-9876543210"})).starts_with(large));
        let both = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"];
        let text = refused(json!({"mode": "MPOL_BIND", "nodes": "0", "flags": both}));
        assert!(text.starts_with("linux.memoryPolicy.flags: ") && text.ends_with("exclude each other"), "{text}");
    }
}
