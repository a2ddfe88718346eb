//! With which rights a hook runs: whose code it is decides.

use std::fs;

use runb_tests::*;

/// What a process is and may do, and what it tries: each line of it must be the same for the container's process and for a hook
/// of its image.
const PROBE: &str = r#"
{
    grep -E '^(Umask|Uid|Gid|Groups|Cap[A-Za-z]*|NoNewPrivs|Seccomp):' /proc/$$/status
    tail -n +2 /proc/$$/limits
    cat /proc/$$/cgroup /proc/$$/oom_score_adj
    for ns in cgroup ipc mnt net pid user uts; do readlink /proc/$$/ns/$ns; done
    ionice -p $$; env | sort; pwd
    try() { "$@" 2>/dev/null; echo "$1: $?"; }
    try mount -t tmpfs tmpfs /dev/shm
    rm -f /dev/disk; try mknod /dev/disk b 7 0
    try dd if=/dev/disk of=/dev/null bs=1 count=1
    try sysctl -w net.ipv4.ip_forward=1
    try mkdir /tmp/forbidden
    for file in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ 2>/dev/null >$file; done; cat /proc/$$/cgroup
    cd /proc/$$/fd && echo *
} >/share/$1 2>&1
"#;

/// Makes `bundle` probe itself as a hook and as the process; what both have found.
fn probed(bundle: Bundle<'_>) -> (String, String) {
    let share = bundle.share_dir();
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", PROBE, "sh", "hook"]});
    let bundle = bundle.hook("startContainer", hook).args(["/bin/sh", "-c", PROBE, "sh", "process"]);
    bundle.run().ok();
    let read = |name| fs::read_to_string(share.join(name)).expect("it was probed");
    (read("hook"), read("process"))
}

/// A process with something of everything.
fn particular(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        let process = &mut spec["process"];
        process["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8], "umask": 0o27});
        process["cwd"] = json!("/tmp");
        process["oomScoreAdj"] = json!(123);
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        let sets = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_MKNOD"]);
        for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            process["capabilities"][set] = sets.clone();
        }
        process["rlimits"].as_array_mut().expect("rlimits").push(json!({"type": "RLIMIT_CORE", "hard": 7, "soft": 5}));
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule});
    })
}

#[test]
fn a_start_container_hook_has_exactly_what_the_containers_process_has() {
    in_modes(ALL, |t| {
        let (hook, process) = probed(particular(t.bundle()));
        assert_eq!(hook, process);
        for expected in ["Uid:\t1000", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000008000420", "mkdir: 1"] {
            assert!(process.contains(expected), "{expected}: {process}");
        }
    });
}

#[test]
fn a_start_container_hook_of_root_neither_mounts_nor_reads_a_device_nor_changes_the_host() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().spec(|spec| {
            for set in ["bounding", "effective", "permitted"] {
                spec["process"]["capabilities"][set] = json!(["CAP_KILL", "CAP_MKNOD"]);
            }
            spec["process"]["noNewPrivileges"] = json!(false);
        });
        let (hook, process) = probed(bundle);
        assert_eq!(hook, process);
        // The node may be made, and is of no use.
        for expected in ["mount: 1", "mknod: 0", "dd: 1", "sysctl: 1"] {
            assert!(hook.contains(expected), "{expected}: {hook}");
        }
    });
}
