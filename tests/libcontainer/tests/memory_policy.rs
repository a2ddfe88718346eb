//! `process::memory_policy`: the reference of what runb plans, and where the kernel knows better.

use libcontainer::process::memory_policy::setup_memory_policy;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::syscall::test::TestHelperSyscall;
use oci_spec::runtime::{LinuxMemoryPolicy, Spec};
use serde_json::{Value, json};

const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];
const NODES: [&str; 9] = ["", "0", "0-3,7", "1,,3", " 2 - 3", "63", "64", "3-1", "x"];

fn flags() -> Vec<Value> {
    let all = ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES", "MPOL_F_NUMA_BALANCING"];
    let set = |bits: usize| {
        json!(all.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, flag)| flag).collect::<Vec<_>>())
    };
    (0..8).map(set).collect()
}

/// Mode with flags, mask and number of bits, or none where it is refused.
type Call = Option<(i64, Vec<u64>, u64)>;

fn libcontainers(policy: &LinuxMemoryPolicy) -> Call {
    let syscall = TestHelperSyscall::default();
    setup_memory_policy(&Some(policy.clone()), &syscall).ok()?;
    let [call] = &syscall.get_mempolicy_args()[..] else { panic!("one call") };
    Some((call.mode.into(), call.nodemask.clone(), call.maxnode))
}

fn runbs(policy: &Value) -> Call {
    let process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"]});
    let linux = json!({"namespaces": [{"type": "mount"}], "memoryPolicy": policy});
    let spec = json!({"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": process, "linux": linux});
    let spec: Spec = serde_json::from_value(spec).expect("a spec");
    let (host, survey) = (runb_core::host::Host::plain(), runb_core::survey::Survey::default());
    let options = runb_core::options::Options::new("web1", "/run/runb", "/bundle");
    let request = runb_core::plan::Request {
        spec: &spec,
        host: &host,
        survey: &survey,
        options: &options,
        bundle: std::path::Path::new("/bundle"),
        ending: runb_core::plan::Ending::Fifo,
    };
    let plan = runb_core::plan::create(&request).ok()?;
    let calls = plan.program.calls();
    let call = calls.iter().find(|call| libc::c_long::from(call.nr) == libc::SYS_set_mempolicy).expect("a call");
    let words = (call.args[2] / 64) as usize;
    let mask = (0..words).map(|i| {
        let bytes = plan.program.bytes_at(call.args[1] + 8 * i as u64, 8).expect("a mask");
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes"))
    });
    Some((call.args[0] as i64, mask.collect(), call.args[2]))
}

#[test]
fn runb_plans_what_libcontainer_would_call_but_for_what_is_said_below() {
    let mut compared = 0;
    for mode in MODES {
        for nodes in NODES {
            for flags in flags() {
                let json = json!({"mode": mode, "nodes": nodes, "flags": flags});
                let policy: LinuxMemoryPolicy = serde_json::from_value(json.clone()).expect("a policy");
                let (mine, its) = (runbs(&json), libcontainers(&policy));
                let has = |flag: &str| flags.as_array().expect("flags").iter().any(|one| one == flag);
                let with_spaces = nodes == " 2 - 3";
                match (&mine, &its) {
                    // One more bit, since the kernel takes one less: the next test.
                    (Some(mine), Some(its)) => {
                        assert_eq!((mine.0, &mine.1), (its.0, &its.1), "{json}");
                        assert_eq!(mine.2, if its.2 == 0 { 0 } else { its.2 + 1 }, "{json}");
                        compared += 1;
                    }
                    (None, None) => {}
                    // What the kernel decides, runb leaves to it.
                    (Some(_), None) => assert!(
                        has("MPOL_F_NUMA_BALANCING")
                            || ["MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"].contains(&mode),
                        "{json}"
                    ),
                    // runc takes no spaces inside of a range.
                    (None, Some(_)) => assert!(with_spaces, "{json}"),
                }
            }
        }
    }
    assert!(compared > 90, "{compared}");
}

/// The nodes that the kernel has kept for the calling thread: of a policy with MPOL_F_STATIC_NODES, as they were given.
fn kept() -> Vec<u64> {
    let mut mask = vec![0u64; 16];
    let bits = mask.len() as u64 * 64;
    let (null, mode) = (std::ptr::null_mut::<libc::c_void>(), std::ptr::null_mut::<i32>());
    // SAFETY: the mask has room for as many bits as are told; no mode and no address are asked for.
    let result = unsafe { libc::syscall(libc::SYS_get_mempolicy, mode, mask.as_mut_ptr(), bits, null, 0) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    mask
}

#[test]
fn it_fails_the_last_node_of_a_word_is_lost_on_the_way_to_the_kernel() {
    let json = json!({"mode": "MPOL_BIND", "nodes": "0,63", "flags": ["MPOL_F_STATIC_NODES"]});
    let policy: LinuxMemoryPolicy = serde_json::from_value(json.clone()).expect("a policy");
    setup_memory_policy(&Some(policy), create_syscall().as_ref()).expect("the kernel takes it");
    assert_eq!(kept()[0], 1, "with node 63: libcontainer has learnt that the kernel counts one less");
    let (mode, mask, bits) = runbs(&json).expect("planned");
    // SAFETY: the mask has as many words as the number of bits says.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.as_ptr(), bits) };
    assert_eq!((result, kept()[0]), (0, 1 | 1 << 63));
}

#[test]
fn it_fails_numa_balancing_of_preferred_nodes_is_refused_which_the_kernel_takes() {
    let json = json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]});
    let policy: LinuxMemoryPolicy = serde_json::from_value(json.clone()).expect("a policy");
    let error = setup_memory_policy(&Some(policy), create_syscall().as_ref()).expect_err("it is refused");
    assert!(error.to_string().contains("MPOL_F_NUMA_BALANCING can only be used with MPOL_BIND"), "{error}");
    let (mode, mask, bits) = runbs(&json).expect("planned");
    // SAFETY: as above.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask.as_ptr(), bits) };
    assert_eq!(result, 0, "since Linux 6.9 or so: {}", std::io::Error::last_os_error());
}
