//! With which rights a hook runs: whose code it is decides.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use runb_tests::*;

use super::sh;

/// What a process is and may do, and what it tries: each line of it must be the same for the container's process and for a hook
/// of its image.
const PROBE: &str = r#"
{
    grep -E '^(Umask|Uid|Gid|Groups|Cap[A-Za-z]*|NoNewPrivs|Seccomp):' /proc/$$/status
    tail -n +2 /proc/$$/limits
    cat /proc/$$/cgroup /proc/$$/oom_score_adj; cat /proc/$$/attr/current 2>/dev/null
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
fn a_process_of_exec_has_exactly_what_the_containers_process_has() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun executes as root where no process is given");
        }
        let script = format!("{PROBE}\ntouch /share/done; exec sleep 86400");
        let bundle = particular(t.bundle()).args(["/bin/sh", "-c", &script, "sh", "process"]);
        let share = bundle.share_dir();
        let container = bundle.run_detached();
        wait::change_in(&share, "the process has probed itself", || share.join("done").exists());
        t.call(["exec", container.id(), "/bin/sh", "-c", PROBE, "sh", "exec"]).ok();
        let read = |name| fs::read_to_string(share.join(name)).expect("it was probed");
        let (exec, mut process) = (read("exec"), read("process"));
        if t.is(&[Kind::Runc]) {
            // runc 1.1 gives it the umask that is the default.
            process = process.replace("Umask:\t0027", "Umask:\t0022");
        }
        assert_eq!(exec, process);
        container.delete_force().ok();
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

/// A hook of the host that says what it is into `file`.
fn told(file: &Path) -> Value {
    sh(&format!(
        "{{ grep -E '^(Uid|Gid|Groups|CapEff|NoNewPrivs|Seccomp):' /proc/self/status; pwd; \
            for ns in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$ns; done; \
            sed 's/^/cgroup /' /proc/self/cgroup; \
            mkdir -p dev/m; mount -t tmpfs tmpfs dev/m && echo mounted; \
            mknod dev/disk b 7 0 && echo made; dd if=dev/disk of=/dev/null bs=1 count=1 && echo read; \
            number=$(cat /proc/sys/vm/swappiness); echo $number >/proc/sys/vm/swappiness && echo written; \
            cd /sys/fs/cgroup; for file in $(ls cgroup.procs 2>/dev/null || ls */cgroup.procs); do echo $$ >$file && echo left; done; cd - >/dev/null; stat -c 'at %d:%i' .; }} >{} 2>&1",
        file.display()
    ))
}

/// With a user namespace of its own, whose root is nobody of the host's.
fn mapped(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    })
}

#[test]
fn a_create_container_hook_begins_in_the_root_filesystem_and_in_the_containers_cgroup() {
    in_modes(ALL, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun begins in the bundle");
        }
        let file = t.dir().join("told");
        let bundle = t.bundle().idle().hook("createContainer", told(&file));
        let rootfs = bundle.rootfs();
        let container = bundle.create();
        let said = fs::read_to_string(&file).expect("the hook ran");
        assert!(said.lines().any(|line| Path::new(line) == rootfs), "{said}");
        let meta = fs::metadata(&rootfs).expect("stat");
        assert!(said.contains(&format!("at {}:{}\n", meta.dev(), meta.ino())), "{said}");
        // As root of the host, which it is: the file is the host's.
        for expected in ["Uid:\t0\t0", "NoNewPrivs:\t0", "Seccomp:\t0"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        // What it mounts is the container's, and so are the devices that it may open.
        assert!(said.contains("mounted") && said.contains("made"), "{said}");
        assert!(said.contains("Operation not permitted") && !said.contains("\nread\n"), "{said}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains("/dev/m "), "{mounts}");
        let cgroups = said.lines().filter_map(|line| line.strip_prefix("cgroup "));
        let outside = cgroups.filter(|line| line.contains("..")).count();
        assert_eq!(outside, 0, "{said}");
        container.delete_force().ok();
    });
}

#[test]
fn in_a_user_namespace_a_create_container_hook_is_its_root() {
    in_modes(V2, |t| {
        let file = t.dir().join("share").join("told");
        fs::create_dir(t.dir().join("share")).expect("mkdir");
        rustix::fs::chmod(t.dir().join("share"), rustix::fs::Mode::from_raw_mode(0o777)).expect("chmod");
        let container = mapped(t.bundle()).idle().hook("createContainer", told(&file)).create();
        let said = fs::read_to_string(&file).expect("the hook ran");
        let user = fs::read_link(format!("/proc/{}/ns/user", container.pid())).expect("readlink");
        assert!(said.contains(user.to_str().expect("text")), "{said}");
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("a number");
        let all = (2u64 << last.trim().parse::<u32>().expect("a number")) - 1;
        for expected in ["Uid:\t0\t0", "Gid:\t0\t0", &format!("CapEff:\t{all:016x}")] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        for line in ["made", "read", "written", "left"] {
            assert!(!said.lines().any(|said| said == line), "{line}: {said}");
        }
        container.delete_force().ok();
    });
}

#[test]
fn in_a_user_namespace_a_start_container_hook_is_the_containers_process() {
    in_modes(V2, |t| {
        let (hook, process) = probed(mapped(particular(t.bundle())));
        assert_eq!(hook, process);
        assert!(hook.contains("Uid:\t1000\t1000"), "{hook}");
    });
}
