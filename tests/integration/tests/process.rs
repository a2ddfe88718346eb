//! `process` beyond the default configuration: scheduling, limits, labels, keys, users of a user namespace; and the standard
//! descriptors and the callers that a runtime must cope with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use runb_tests::*;

/// What the workload `args` prints.
#[track_caller]
fn prints<const N: usize>(bundle: Bundle<'_>, args: [&str; N], expected: &str) {
    let outcome = bundle.args(args).run();
    assert_eq!((outcome.code, outcome.stdout.trim_end()), (0, expected), "{args:?}: {outcome:?}");
}

/// Real-time priority and policy (proc_pid_stat(5)) of the process that prints them.
const SCHEDULE: [&str; 4] = ["cut", "-d ", "-f40,41", "/proc/self/stat"];
/// nice, real-time priority and policy.
const NICE: [&str; 4] = ["cut", "-d ", "-f19,40,41", "/proc/self/stat"];

/// Debian's peers are older than the field.
fn newer_than_peers(t: &Test, field: &str) {
    t.runb_only(&format!("Debian's peers do not know {field}"));
}

/// Takes away the mounts of the kernel's own filesystems, which a user namespace is not always allowed.
fn without_kernel_mounts(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| !["proc", "sysfs", "cgroup", "devpts"].iter().any(|typ| mount["type"] == *typ));
    })
}

/// Gives the container a user namespace whose root is the host's user 100000.
fn with_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    let share = bundle.share_dir();
    for path in [bundle.dir(), &bundle.rootfs(), &share] {
        std::os::unix::fs::chown(path, Some(100_000), Some(100_000)).expect("chown");
    }
    without_kernel_mounts(bundle).spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    })
}

#[test]
fn each_scheduling_policy_is_set_with_its_values() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        for (scheduler, fields, expected) in [
            (json!({"policy": "SCHED_OTHER", "nice": 5}), NICE, "5 0 0"),
            (json!({"policy": "SCHED_OTHER", "nice": -5}), NICE, "-5 0 0"),
            (json!({"policy": "SCHED_OTHER"}), NICE, "0 0 0"),
            (json!({"policy": "SCHED_FIFO", "priority": 7}), SCHEDULE, "7 1"),
            (json!({"policy": "SCHED_RR", "priority": 99}), SCHEDULE, "99 2"),
            (json!({"policy": "SCHED_BATCH", "nice": 3}), NICE, "3 0 3"),
            (json!({"policy": "SCHED_IDLE"}), SCHEDULE, "0 5"),
        ] {
            prints(t.bundle().set("/process/scheduler", scheduler), fields, expected);
        }
    });
}

#[test]
fn a_deadline_is_set_with_its_times() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 5_000_000, "deadline": 10_000_000,
            "period": 20_000_000, "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"]});
        prints(t.bundle().set("/process/scheduler", scheduler), SCHEDULE, "0 6");
    });
}

#[test]
fn a_policy_with_reset_on_fork_is_the_workloads_alone() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        let scheduler = json!({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        let script = "cut -d' ' -f40,41 /proc/$$/stat; cut -d' ' -f40,41 /proc/self/stat; :";
        prints(t.bundle().set("/process/scheduler", scheduler), ["sh", "-c", script], "7 1\n0 0");
    });
}

#[test]
fn a_scheduling_policy_that_needs_the_hosts_root_is_set_in_a_user_namespace() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        let scheduler = json!({"policy": "SCHED_RR", "priority": 4});
        let bundle = with_user_namespace(t.bundle()).set("/process/scheduler", scheduler);
        let container = bundle.writable().idle().create();
        let stat = fs::read_to_string(format!("/proc/{}/stat", container.pid())).expect("read stat");
        let fields: Vec<_> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        // The fields 40 and 41; the third one is the first after the name.
        assert_eq!(fields[37..39], ["4", "2"], "{stat}");
        container.delete_force().ok();
    });
}

#[test]
fn a_priority_that_the_policy_does_not_allow_is_refused_by_name() {
    for_anyone(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        let bundle = t.bundle().set("/process/scheduler", json!({"policy": "SCHED_RR", "priority": 100}));
        bundle.try_create().fails_with(&["process.scheduler.priority", "100 is not between 1 and 99"]);
        let bundle = t.bundle().set("/process/scheduler", json!({"policy": "SCHED_NONE"}));
        bundle.try_create().fails_with(&["process.scheduler.policy", "SCHED_NONE"]);
    });
}

#[test]
fn the_io_priority_is_set() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.ioPriority");
        for (class, expected) in [
            ("IOPRIO_CLASS_RT", "realtime: prio 3"),
            ("IOPRIO_CLASS_BE", "best-effort: prio 3"),
            ("IOPRIO_CLASS_IDLE", "idle"),
        ] {
            let priority = json!({"class": class, "priority": 3});
            prints(t.bundle().set("/process/ioPriority", priority), ["ionice"], expected);
        }
    });
}

#[test]
fn the_affinity_of_an_exec_does_not_change_init() {
    for_anyone(V2, |t| {
        newer_than_peers(t, "process.execCPUAffinity");
        let all = fs::read_to_string("/proc/self/status").expect("status");
        let all = all.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a line");
        let bundle = t.bundle().set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
        prints(bundle, ["grep", "^Cpus_allowed_list:", "/proc/self/status"], all);
        let bundle = t.bundle().set("/process/execCPUAffinity", json!({"initial": "9000"}));
        bundle.try_create().fails_with(&["process.execCPUAffinity.initial", "no kernel has a CPU 9000"]);
    });
}

/// The CPUs that a process may run on.
fn cpus(status: &str) -> &str {
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a line").trim()
}

#[test]
fn a_caller_that_is_pinned_to_one_cpu_pins_neither_the_container_nor_what_comes_later() {
    in_modes(ALL, |t| {
        t.runb_only("Debian's peers hand the caller's CPUs on");
        t.needs_program("taskset");
        let all = fs::read_to_string("/proc/self/status").expect("status");
        let all = cpus(&all);
        if all == "0" {
            t.skip("there is one CPU");
        }
        let pinned = ["taskset", "-c", "0"];
        let bundle = t.bundle().idle();
        let file = t.dir().join("hook");
        let hook =
            json!({"path": "/bin/sh", "args": ["sh", "-c", format!("cat /proc/self/status >{}", file.display())]});
        let bundle = bundle.hook("createContainer", hook);
        let dir = bundle.write().dir().to_str().expect("text").to_owned();
        let created = t.finish(t.wrapped(&pinned, ["run", "--detach", "--bundle", &dir, bundle.id()])).ok();
        let container = bundle.container(created);
        let of = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        assert_eq!(cpus(&of(container.pid())), all);
        assert_eq!(cpus(&fs::read_to_string(file).expect("the hook ran")), all);
        let later = t.wrapped(&pinned, ["exec", container.id(), "cat", "/proc/self/status"]);
        assert_eq!(cpus(&t.finish(later).ok().stdout), all);
        container.delete_force().ok();
    });
}

#[test]
fn a_deadline_is_set_for_a_workload_that_comes_into_its_pid_namespace_by_a_fork() {
    in_modes(V2, |t| {
        newer_than_peers(t, "process.scheduler");
        let scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 42_000, "deadline": 100_000, "period": 1_000_000,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        let policy = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("read stat");
            stat.rsplit(") ").next().expect("fields").split(' ').nth(38).expect("a policy").to_owned()
        };
        let bundle = with_user_namespace(t.bundle()).set("/process/scheduler", scheduler.clone());
        let container = bundle.writable().idle().create();
        assert_eq!(policy(container.pid()), "6");
        container.delete_force().ok();
        let first = t.bundle().idle().run_detached();
        let path = format!("/proc/{}/ns/pid", first.pid());
        let second = t.bundle().join_namespace("pid", &path).set("/process/scheduler", scheduler.clone());
        let second = second.idle().run_detached();
        let pid = second.pid();
        assert_eq!(policy(pid), "6");
        second.kill(&["9"]).ok();
        // A pid namespace's first process waits for all others to be reaped.
        second.reap(pid);
        second.delete().ok();
        let process = json!({"args": ["sleep", "86400"], "cwd": "/", "env": ["PATH=/bin"], "scheduler": scheduler});
        let (file, pid_file) = (t.dir().join("process.json"), t.dir().join("pid"));
        fs::write(&file, process.to_string()).expect("write");
        let (file, pid_file) = (file.to_str().expect("text"), pid_file.to_str().expect("text"));
        t.call(["exec", "--detach", "--process", file, "--pid-file", pid_file, first.id()]).ok();
        let pid = fs::read_to_string(pid_file).expect("a pid file").parse().expect("a pid");
        assert_eq!(policy(pid), "6");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("a pid"),
            rustix::process::Signal::KILL,
        )
        .expect("kill");
        first.reap(pid);
        first.delete_force().ok();
    });
}

#[test]
fn the_personality_is_set() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Runc]) {
            t.skip("Debian's runc does not know it");
        }
        let of = |domain: &str| t.bundle().spec(|spec| spec["linux"]["personality"] = json!({"domain": domain}));
        prints(of("LINUX32"), ["cat", "/proc/self/personality"], "00000008");
        prints(of("LINUX"), ["cat", "/proc/self/personality"], "00000000");
    });
}

#[test]
fn flags_of_a_personality_are_refused() {
    for_anyone(V2, |t| {
        t.runb_only("the peers warn or say nothing");
        let personality = json!({"domain": "LINUX", "flags": ["X"]});
        let bundle = t.bundle().spec(|spec| spec["linux"]["personality"] = personality);
        bundle.try_create().fails_with(&["linux.personality.flags", "not supported"]);
    });
}

/// The lines of the session keyrings that the workload can see: rights and name.
const KEYRINGS: [&str; 3] =
    ["sh", "-c", "grep -o '[0-9a-f]* *[0-9]* *[0-9]* keyring .*_ses.*' /proc/keys | cut -d' ' -f1,5-"];

#[test]
fn the_session_keyring_is_the_containers_own_and_its_user_may_search_it() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun names its keyring otherwise");
        }
        let bundle = t.bundle().spec(|spec| spec["linux"]["maskedPaths"] = json!([])).args(KEYRINGS);
        let outcome = bundle.run().ok();
        let ours: Vec<_> =
            outcome.stdout.lines().filter(|line| line.contains(&format!("_ses.{}", bundle.id()))).collect();
        assert_eq!(ours.len(), 1, "{outcome:?}");
        assert!(ours[0].starts_with("3f1b0000 "), "{outcome:?}");
    });
}

#[test]
fn with_no_new_keyring_the_session_keyring_is_the_callers() {
    for_anyone(V2, |t| {
        let bundle = t.bundle().spec(|spec| spec["linux"]["maskedPaths"] = json!([])).args(KEYRINGS);
        let outcome = bundle.run_with(&["--no-new-keyring"]).ok();
        assert!(!outcome.stdout.contains(bundle.id()), "{outcome:?}");
    });
}

#[test]
fn a_limit_above_the_hard_one_names_the_limit_and_its_values() {
    for_anyone(V2, |t| {
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 5000}]);
        let bundle = t.bundle().set("/process/rlimits", limits).args(["true"]);
        let mut command = t.wrapped(
            &["sh", "-c", "ulimit -n 4000; exec setpriv --bounding-set -sys_resource -- \"$@\"", "sh"],
            ["run", "--bundle"],
        );
        bundle.write();
        command.arg(bundle.dir()).arg(bundle.id());
        let outcome = t.finish(command);
        if t.is(&[Kind::Runb]) {
            let text =
                "RLIMIT_NOFILE soft 100 hard 5000: the hard limit is 4000, and to raise it needs CAP_SYS_RESOURCE";
            outcome.fails_with(&["process.rlimits[0]", text, "EPERM"]);
        } else {
            assert_ne!(outcome.code, 0, "{outcome:?}");
        }
    });
}

#[test]
fn a_limit_is_raised_for_a_container_with_a_user_namespace() {
    in_modes(V2, |t| {
        const SYS_RESOURCE: u64 = 1 << 24;
        let status = fs::read_to_string("/proc/self/status").expect("status");
        let have = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a line");
        if u64::from_str_radix(have, 16).expect("a number") & SYS_RESOURCE == 0 {
            t.skip("CAP_SYS_RESOURCE is missing here");
        }
        let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 5000}]);
        let bundle = with_user_namespace(t.bundle()).writable().set("/process/rlimits", limits);
        let bundle = bundle.args(["sh", "-c", "ulimit -Sn; ulimit -Hn"]);
        let mut command = t.wrapped(&["sh", "-c", "ulimit -n 4000; exec \"$@\"", "sh"], ["run", "--bundle"]);
        bundle.write();
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "100\n5000\n");
    });
}

#[test]
fn additional_groups_are_set_in_a_user_namespace() {
    in_modes(V2, |t| {
        t.runb_only("the peers need the container's /proc");
        let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 20]});
        let bundle = with_user_namespace(t.bundle()).writable().set("/process/user", user);
        prints(bundle, ["id"], "uid=1000(user) gid=1001 groups=5,20");
    });
}

/// A process in a user namespace where setgroups(2) is denied, and its namespace's path.
fn denying(t: &Test) -> (std::process::Child, String) {
    t.needs_program("unshare");
    let fifo = t.dir().join(t.name("up"));
    let mut up = wait::Fifo::new(&fifo);
    // As the host's root, so that the namespace's root owns what the test makes.
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--", "sh", "-c", "echo up >\"$0\"; exec cat"]).arg(&fifo);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("start unshare");
    assert_eq!(up.line(), "up");
    fs::remove_file(&fifo).expect("remove the fifo");
    let path = format!("/proc/{}/ns/user", child.id());
    (child, path)
}

#[test]
fn a_user_namespace_that_denies_setgroups_takes_a_workload_without_additional_groups() {
    in_modes(V2, |t| {
        t.runb_only("the peers want mappings for a user namespace that is joined, too");
        let (mut holder, path) = denying(t);
        let bundle = without_kernel_mounts(t.bundle()).writable().join_namespace("user", &path).sh("id -u");
        assert_eq!(bundle.run().ok().stdout, "0\n");
        let user = json!({"uid": 0, "gid": 0, "additionalGids": [0]});
        let bundle =
            without_kernel_mounts(t.bundle()).writable().join_namespace("user", &path).set("/process/user", user);
        bundle.try_create().fails_with(&["process.user.additionalGids", "setgroups", "EPERM"]);
        drop(holder.stdin.take());
        holder.wait().expect("wait");
    });
}

#[test]
fn home_is_that_of_the_containers_passwd() {
    for_anyone(V2, |t| {
        let home = ["sh", "-c", "echo $HOME"];
        // Debian's runc is older than that.
        if t.is(&[Kind::Runb]) {
            let empty = json!(["PATH=/bin", "HOME=/mine", "HOME="]);
            prints(t.bundle().set("/process/env", empty), home, "/root");
            let env = json!(["PATH=/bin", "HOME="]);
            prints(t.bundle().set("/process/env", env), ["sh", "-c", "env | grep -c ^HOME="], "1");
        }
        prints(t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000})), home, "/tmp");
        prints(t.bundle().set("/process/user", json!({"uid": 77, "gid": 77})), home, "/");
        prints(t.bundle().set("/process/env", json!(["PATH=/bin", "HOME=/mine"])), home, "/mine");
        let passwd = t.dir().join("passwd");
        fs::write(&passwd, "root:x:0:0::/bound:/bin/sh\n").expect("write");
        let mount = json!({"destination": "/etc/passwd", "type": "bind", "source": passwd, "options": ["bind"]});
        prints(t.bundle().mount(mount), home, "/bound");
    });
}

#[test]
fn a_capability_that_cannot_be_ambient_is_warned_about_and_left_out() {
    for_anyone(V2, |t| {
        let sets = json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]});
        let bundle = t.bundle().set("/process/capabilities", sets).args(["grep", "^CapAmb", "/proc/self/status"]);
        let outcome = bundle.run().ok();
        assert_eq!(outcome.stdout, "CapAmb:\t0000000000000000\n");
        if t.is(&[Kind::Runb]) {
            assert!(outcome.log.contains("raise ambient capability CAP_KILL"), "{outcome:?}");
        }
    });
}

#[test]
fn a_capability_over_files_lets_a_user_execute_what_only_root_may() {
    in_modes(V2, |t| {
        // A copy, so that no other bundle's mode changes.
        let bundle = || {
            t.bundle().set("/process/user", json!({"uid": 1000, "gid": 100})).rootfs_with(|rootfs| {
                fs::copy(rootfs.join("bin/busybox"), rootfs.join("bin/roots")).expect("copy");
                fs::set_permissions(rootfs.join("bin/roots"), fs::Permissions::from_mode(0o744)).expect("chmod");
            })
        };
        for command in ["roots", "/bin/roots"] {
            assert_ne!(bundle().args([command, "true"]).run().code, 0, "{command}");
            let sets = ["bounding", "effective", "permitted", "inheritable", "ambient"];
            let sets: serde_json::Map<_, _> =
                sets.into_iter().map(|set| (set.to_owned(), json!(["CAP_DAC_OVERRIDE"]))).collect();
            let outcome = bundle().set("/process/capabilities", sets.into()).args([command, "true"]).run();
            // busybox has no applet of that name, and says so: it was executed.
            assert!(outcome.stderr.contains("applet not found"), "{command}: {outcome:?}");
        }
    });
}

#[test]
fn a_label_of_a_module_that_the_host_lacks_is_refused() {
    for_anyone(V2, |t| {
        t.runb_only("the peers start without it, or tell of a failed write");
        for (pointer, place, module, file) in [
            (
                "/process/apparmorProfile",
                "process.apparmorProfile",
                "AppArmor",
                "/sys/module/apparmor/parameters/enabled",
            ),
            ("/process/selinuxLabel", "process.selinuxLabel", "SELinux", "/sys/fs/selinux/enforce"),
            ("/linux/mountLabel", "linux.mountLabel", "SELinux", "/sys/fs/selinux/enforce"),
        ] {
            if fs::exists(file).expect("stat") {
                t.skip(format!("{module} is there"));
            }
            let bundle = t.bundle().set(pointer, json!("label")).args(["true"]);
            bundle.try_create().fails_with(&[place, &format!("{module} is not enabled on this host")]);
            prints(t.bundle().set(pointer, json!("")), ["echo", "runs"], "runs");
        }
    });
}

#[test]
fn a_caller_without_standard_descriptors_gets_a_container_that_runs() {
    for_anyone(V2, |t| {
        t.runb_only("Go programs open /dev/null in their place");
        let script = "ls -l /proc/self/fd | grep -c ' [012] -> '; echo done >/share/done";
        let bundle = t.bundle().sh(script);
        bundle.write();
        let mut command = t.wrapped(&["sh", "-c", "exec <&- >&- 2>&-; exec \"$@\"", "sh"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        t.finish(command).ok();
        assert_eq!(fs::read_to_string(bundle.share_dir().join("done")).expect("it ran"), "done\n");
    });
}

#[test]
fn run_with_a_closed_stdin_gives_the_workload_no_input() {
    for_anyone(V2, |t| {
        let bundle = t.bundle().sh("cat; echo $?");
        bundle.write();
        let mut command = t.wrapped(&["sh", "-c", "exec <&-; exec \"$@\"", "sh"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "0\n");
    });
}

#[test]
fn a_reader_of_creates_stdout_sees_its_end_when_the_workload_ends() {
    for_anyone(V2, |t| {
        let bundle = t.bundle().sh("echo from the workload");
        let mut command = bundle.write().command("create", &[]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("start the runtime");
        assert!(child.wait().expect("wait").success());
        let mut reader = child.stdout.take().expect("a pipe");
        t.call(["start", bundle.id()]).ok();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).expect("read to the end");
        assert_eq!(text, "from the workload\n");
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_container_outlives_the_parent_that_created_it() {
    in_modes(V2, |t| {
        let bundle = t.bundle().sh("echo started >/share/events; exec sleep 86400");
        let mut events = t.fifo(&bundle, "events");
        bundle.write();
        // The parent is the leader of a session of its own, which ends with it.
        let mut command = t.wrapped(&["setsid", "sh", "-c", "\"$@\"; exit $?", "sh"], ["create", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        t.finish(command).ok();
        assert_eq!(t.call(["state", bundle.id()]).ok().json()["status"], "created");
        t.call(["start", bundle.id()]).ok();
        assert_eq!(events.line(), "started");
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

/// A bundle whose workload reports that it is ready, after it was let go through `go`.
fn reporting<'t>(t: &'t Test, script: &str) -> (Bundle<'t>, std::os::unix::net::UnixDatagram, std::path::PathBuf) {
    let path = t.dir().join(t.name("n"));
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bind the socket");
    socket.set_nonblocking(true).expect("set O_NONBLOCK");
    let bundle = t.bundle().writable().sh(script);
    fs::copy(env!("CARGO_BIN_EXE_ready"), bundle.share_dir().join("ready")).expect("copy the workload");
    (bundle, socket, path)
}

/// What the caller's socket has received.
fn received(socket: &std::os::unix::net::UnixDatagram) -> String {
    let mut all = String::new();
    let mut message = [0; 256];
    while let Ok(length) = socket.recv(&mut message) {
        all.push_str(&String::from_utf8_lossy(&message[..length]));
    }
    all
}

#[test]
fn run_detached_returns_when_the_workload_is_ready_and_tells_its_process_id() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun tells no process id");
        }
        let (bundle, socket, path) = reporting(t, "/share/ready && exec sleep 86400");
        let mut command = bundle.write().command("run", &["--detach"]);
        command.env("NOTIFY_SOCKET", &path);
        let container = bundle.container(t.finish(command).ok());
        let text = received(&socket);
        assert!(text.contains("READY=1\n") && text.contains(&format!("MAINPID={}", container.pid())), "{text:?}");
        container.delete_force().ok();
    });
}

#[test]
fn start_returns_when_the_workload_is_ready() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun tells no process id");
        }
        let (bundle, socket, path) = reporting(t, "/share/ready && exec sleep 86400");
        let mut command = bundle.write().command("create", &[]);
        command.env("NOTIFY_SOCKET", &path);
        let container = bundle.container(t.finish(command).ok());
        assert_eq!(received(&socket), "");
        let mut command = t.command(["start", container.id()]);
        command.env("NOTIFY_SOCKET", &path);
        t.finish(command).ok();
        let text = received(&socket);
        assert!(text.contains("READY=1\n") && text.contains(&format!("MAINPID={}", container.pid())), "{text:?}");
        container.delete_force().ok();
    });
}

#[test]
fn a_workload_that_ends_without_being_ready_is_not_waited_for() {
    for_anyone(V2, |t| {
        t.runb_only("the peers wait for ever");
        let (bundle, socket, path) = reporting(t, "exit 3");
        let mut command = bundle.write().command("run", &["--detach"]);
        command.env("NOTIFY_SOCKET", &path);
        let container = bundle.container(t.finish(command).ok());
        assert_eq!(received(&socket), "");
        container.delete_force().ok();
    });
}

#[test]
fn a_notify_socket_that_nobody_listens_to_is_an_error_and_leaves_nothing() {
    for_anyone(V2, |t| {
        t.runb_only("runc notices when there is something to send");
        let bundle = t.bundle().writable().args(["true"]);
        let mut command = bundle.write().command("run", &["--detach"]);
        command.env("NOTIFY_SOCKET", t.dir().join("nobody"));
        t.finish(command).fails_with(&["NOTIFY_SOCKET", "nobody", "ENOENT"]);
    });
}

#[test]
fn a_workload_that_is_stopped_and_goes_on_is_waited_for_to_its_end() {
    in_modes(V2, |t| {
        let bundle = t.bundle().sh("echo up >/share/events; read line </share/go; exit 4");
        let (mut events, _go) = (t.fifo(&bundle, "events"), t.fifo(&bundle, "go"));
        let mut child = bundle.write().command("run", &[]).stdin(Stdio::null()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "up");
        t.call(["kill", bundle.id(), "STOP"]).ok();
        assert!(child.try_wait().expect("wait").is_none());
        t.call(["kill", bundle.id(), "CONT"]).ok();
        fs::write(bundle.share_dir().join("go"), "go\n").expect("write into the fifo");
        assert_eq!(child.wait().expect("wait").code(), Some(4));
    });
}

#[test]
fn a_container_whose_foreground_was_killed_can_be_deleted() {
    for_anyone(V2, |t| {
        let bundle = t.bundle().sh("echo up >/share/events; exec sleep 86400");
        let mut events = t.fifo(&bundle, "events");
        let mut child = bundle.write().command("run", &[]).stdin(Stdio::null()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "up");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(t.call(["state", bundle.id()]).ok().json()["status"], "running");
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_user_without_rights_may_open_its_stdout_again() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let child = bundle.sh("echo here > /dev/stdout").write().command("run", &[]).stdout(Stdio::piped()).spawn();
        let output = child.and_then(std::process::Child::wait_with_output).expect("a run");
        assert_eq!((output.status.code(), output.stdout.trim_ascii_end()), (Some(0), &b"here"[..]), "{output:?}");
    });
}
