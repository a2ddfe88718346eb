//! `exec`: what a process that joins a container inherits, what each flag changes, and what it never gets.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use runb_tests::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// `exec FLAGS ID COMMAND`, to its end.
fn exec(t: &Test, container: &Container<'_>, flags: &[&str], command: &[&str]) -> Outcome {
    t.finish(call(t, container, flags, command))
}

fn call(t: &Test, container: &Container<'_>, flags: &[&str], command: &[&str]) -> Command {
    t.command(
        std::iter::once("exec").chain(flags.iter().copied()).chain([container.id()]).chain(command.iter().copied()),
    )
}

/// What `command` prints.
#[track_caller]
fn prints(t: &Test, container: &Container<'_>, flags: &[&str], command: &[&str], expected: &str) {
    let outcome = exec(t, container, flags, command);
    assert_eq!((outcome.code, outcome.stdout.trim_end()), (0, expected), "{flags:?} {command:?}: {outcome:?}");
}

/// An exec that the runtime could not do: runc's 255, with each of `texts` in its message.
#[track_caller]
fn refused(t: &Test, outcome: Outcome, texts: &[&str]) {
    assert!(outcome.code == 255 || t.is(&[Kind::Crun]) && outcome.code != 0, "{outcome:?}");
    if t.is(&[Kind::Runb]) {
        let message = outcome.message();
        for text in texts {
            assert!(message.contains(text), "{text:?} is not in {message:?}");
        }
    }
}

/// A file with a process as JSON.
fn process_file(t: &Test, process: &Value) -> String {
    let file = t.dir().join(t.name("process"));
    fs::write(&file, process.to_string()).expect("write the process");
    file.to_str().expect("a path").to_owned()
}

fn process(args: &[&str]) -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/bin"]})
}

/// The lines of /proc/self/status with these names.
const STATUS: &str = "grep -E";

fn status(names: &str) -> [String; 3] {
    ["sh", "-c", &format!("{STATUS} '^({names}):' /proc/self/status | tr -s '\\t ' ' '")].map(str::to_owned)
}

#[track_caller]
fn status_is(t: &Test, container: &Container<'_>, flags: &[&str], names: &str, expected: &str) {
    let command = status(names);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let outcome = exec(t, container, flags, &command).ok();
    let lines: Vec<&str> = outcome.stdout.lines().map(str::trim_end).collect();
    assert_eq!(lines.join("; "), expected, "{flags:?}");
}

#[test]
fn the_exit_code_is_the_commands() {
    in_modes(ALL, |t| {
        let container = t.bundle().idle().run_detached();
        let outcome = exec(t, &container, &[], &["sh", "-c", "echo out; echo err >&2; exit 7"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "out\n"), "{outcome:?}");
        assert!(outcome.stderr.contains("err\n"), "{outcome:?}");
        container.delete_force().ok();
    });
}

#[test]
fn a_command_that_a_signal_ended_gives_128_and_the_signal() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        assert_eq!(exec(t, &container, &[], &["sh", "-c", "kill -9 $$"]).code, 137);
        container.delete_force().ok();
    });
}

#[test]
fn a_command_that_cannot_be_executed_is_said_in_the_engines_words() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun's words are its own");
        }
        let container = t.bundle().idle().run_detached();
        for (command, text) in [
            ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
            ("no-such", "exec: \"no-such\": executable file not found in $PATH"),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
            ("/etc", "exec: \"/etc\": is a directory"),
        ] {
            refused(t, exec(t, &container, &[], &[command]), &[text]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_command_is_needed() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let outcome = exec(t, &container, &[], &[]);
        assert_ne!(outcome.code, 0, "{outcome:?}");
        container.delete_force().ok();
    });
}

#[test]
fn a_created_container_takes_processes() {
    for_anyone(LIFECYCLE, |t| {
        let container = t.bundle().idle().create();
        prints(t, &container, &[], &["echo", "here"], "here");
        container.delete_force().ok();
    });
}

#[test]
fn a_stopped_container_and_one_that_is_not_there_take_none() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        refused(t, exec(t, &container, &[], &["true"]), &["cannot exec in a stopped container"]);
        container.delete().ok();
        refused(t, exec(t, &container, &[], &["true"]), &["does not exist"]);
    });
}

#[test]
fn a_paused_container_takes_processes_only_if_that_is_ignored() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun inherits, and knows, a part of it");
        }
        let container = t.bundle().idle().run_detached();
        let freeze = format!("/sys/fs/cgroup/{}/cgroup.freeze", container.id());
        fs::write(&freeze, "1").expect("freeze");
        let events = format!("/sys/fs/cgroup/{}/cgroup.events", container.id());
        while !fs::read_to_string(&events).expect("events").contains("frozen 1") {
            std::thread::yield_now();
        }
        refused(t, exec(t, &container, &[], &["true"]), &["paused"]);
        if !t.is(&[Kind::Crun]) {
            let mut command = call(t, &container, &["--ignore-paused"], &["true"]);
            let mut child = command.stdin(Stdio::null()).spawn().expect("start the runtime");
            fs::write(&freeze, "0").expect("thaw");
            assert_eq!(end(&mut child), 0);
        }
        fs::write(&freeze, "0").expect("thaw");
        container.delete_force().ok();
    });
}

/// Waits for the end of a call; its exit code.
#[track_caller]
fn end(child: &mut Child) -> i32 {
    assert!(wait::process_end(child.id() as i32, wait::deadline()), "exec hangs");
    child.wait().expect("wait").code().expect("an exit code")
}

#[test]
fn what_no_flag_gives_is_the_containers_own() {
    for_anyone(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun inherits, and knows, a part of it");
        }
        let bundle = t.bundle().idle().spec(|spec| {
            let process = &mut spec["process"];
            process["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o77});
            process["cwd"] = json!("/tmp");
            process["env"] = json!(["PATH=/bin", "NAME=value"]);
            process["oomScoreAdj"] = json!(77);
            process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        });
        let container = bundle.run_detached();
        status_is(
            t,
            &container,
            &[],
            "Uid|Gid|Groups",
            "Uid: 1000 1000 1000 1000; Gid: 1000 1000 1000 1000; Groups: 5 6",
        );
        prints(t, &container, &[], &["sh", "-c", "echo $NAME $HOME"], "value /tmp");
        if !t.is(&[Kind::Crun]) {
            prints(t, &container, &[], &["pwd"], "/tmp");
            // In runc 1.1 Go's start-up may raise the soft limit again.
            if t.is(&[Kind::Runb]) {
                prints(t, &container, &[], &["sh", "-c", "ulimit -Sn"], "100");
            }
            prints(t, &container, &[], &["sh", "-c", "ulimit -Hn"], "200");
            prints(t, &container, &[], &["cat", "/proc/self/oom_score_adj"], "77");
            status_is(t, &container, &[], "NoNewPrivs", "NoNewPrivs: 1");
        }
        if t.is(&[Kind::Runb]) {
            prints(t, &container, &[], &["sh", "-c", "umask"], "0077");
        }
        let bounding = "CapBnd: 0000000020000420";
        status_is(
            t,
            &container,
            &[],
            "CapInh|CapPrm|CapEff|CapBnd",
            &format!("CapInh: 0000000000000000; CapPrm: 0000000000000000; CapEff: 0000000000000000; {bounding}"),
        );
        container.delete_force().ok();
    });
}

#[test]
fn scheduling_and_io_priority_are_the_containers() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers do not know process.scheduler");
        let bundle = t.bundle().idle().spec(|spec| {
            spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 3});
            spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
        });
        let container = bundle.run_detached();
        prints(t, &container, &[], &["cut", "-d ", "-f19,40,41", "/proc/self/stat"], "3 0 3");
        prints(t, &container, &[], &["ionice"], "idle");
        container.delete_force().ok();
    });
}

#[test]
fn the_namespaces_the_root_and_the_cgroup_are_the_containers() {
    in_modes(ALL, |t| {
        let container = t.bundle().idle().run_detached();
        let links = |of: &str| format!("for n in cgroup ipc mnt net pid uts; do readlink /proc/{of}/ns/$n; done");
        let outcome = exec(t, &container, &[], &["sh", "-c", &links("self")]).ok();
        let pid = container.pid();
        let own: Vec<String> = ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
            .iter()
            .map(|name| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace").display().to_string())
            .collect();
        assert_eq!(outcome.lines(), own);
        let cgroups = exec(t, &container, &[], &["sh", "-c", "cat /proc/self/cgroup; echo; cat /proc/1/cgroup"]).ok();
        let (of_exec, of_init) = cgroups.stdout.split_once("\n\n").expect("two lists");
        assert_eq!(of_exec, of_init.trim_end());
        container.delete_force().ok();
    });
}

#[test]
fn a_container_in_the_hosts_pid_namespace_takes_processes() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().without_namespace("pid").run_detached();
        assert_eq!(exec(t, &container, &[], &["sh", "-c", "exit 5"]).code, 5);
        container.delete_force().ok();
    });
}

#[test]
fn cwd_env_and_additional_gids_come_from_their_flags() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun inherits, and knows, a part of it");
        }
        let container = t
            .bundle()
            .idle()
            .spec(|spec| {
                spec["process"]["env"] = json!(["PATH=/bin", "A=old", "B=kept"]);
                spec["process"]["user"]["additionalGids"] = json!([5]);
            })
            .run_detached();
        prints(t, &container, &["--cwd", "/tmp"], &["pwd"], "/tmp");
        prints(t, &container, &["-e", "A=new", "-e", "C=more"], &["sh", "-c", "echo $A $B $C"], "new kept more");
        if !t.is(&[Kind::Crun]) {
            status_is(t, &container, &["-g", "7", "-g", "8"], "Groups", "Groups: 5 7 8");
        }
        refused(
            t,
            exec(t, &container, &["--cwd", "/nowhere"], &["true"]),
            &["chdir \"/nowhere\": no such file or directory"],
        );
        if t.is(&[Kind::Runb]) {
            refused(
                t,
                exec(t, &container, &["--cwd", "tmp"], &["true"]),
                &["process.cwd: \"tmp\" is not an absolute path"],
            );
            refused(t, exec(t, &container, &["-e", "NAME"], &["true"]), &["NAME=VALUE"]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_user_is_exactly_the_numbers_that_were_given() {
    in_modes(V2, |t| {
        let bundle = t.bundle().idle().set("/process/user", json!({"uid": 0, "gid": 3}));
        let bundle = bundle.rootfs_with(|rootfs| {
            fs::write(rootfs.join("etc/passwd"), "1000:x:0:0::/:/bin/sh\nroot:x:0:0::/root:/bin/sh\n").expect("passwd");
        });
        let container = bundle.run_detached();
        // crun does not keep the group.
        let gid = if t.is(&[Kind::Crun]) { 0 } else { 3 };
        for (user, uid, gid) in
            [("0", 0, gid), ("1", 1, gid), ("1:2", 1, 2), ("1000", 1000, gid), ("65534", 65534u32, gid)]
        {
            let ids = format!("Uid: {uid} {uid} {uid} {uid}; Gid: {gid} {gid} {gid} {gid}");
            status_is(t, &container, &["--user", user], "Uid|Gid", &ids);
        }
        if t.is(&[Kind::Runb]) {
            // runc stops at 2147483647.
            status_is(t, &container, &["--user", "4294967294:3"], "Gid", "Gid: 3 3 3 3");
            for user in ["4294967295", "4294967296", "-1", "1:", ":1", " 1", "0x1", "1e3", "1:2:3", "root", "+1"] {
                refused(t, exec(t, &container, &[&format!("--user={user}")], &["true"]), &["is not UID or UID:GID"]);
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn home_is_that_of_the_user_by_the_containers_passwd() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun inherits, and knows, a part of it");
        }
        let container = t.bundle().idle().run_detached();
        for (flags, home) in
            [(vec![], "/root"), (vec!["-u", "1000"], "/tmp"), (vec!["-u", "7"], "/"), (vec!["-e", "HOME=/x"], "/x")]
        {
            prints(t, &container, &flags, &["sh", "-c", "echo $HOME"], home);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_passwd_that_is_a_fifo_holds_nobody_up() {
    for_anyone(V2, |t| {
        t.runb_only("peers wait for a writer");
        let bundle = t.bundle().idle().rootfs_with(|rootfs| {
            fs::remove_file(rootfs.join("etc/passwd")).expect("remove");
            let path = rootfs.join("etc/passwd");
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).expect("mkfifo");
        });
        let container = bundle.run_detached();
        prints(t, &container, &[], &["sh", "-c", "echo $HOME"], "/");
        container.delete_force().ok();
    });
}

#[test]
fn capabilities_are_added_but_never_inheritable_or_ambient() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        // crun has --cap in place of the container's sets.
        let kept = if t.is(&[Kind::Crun]) { "0000000000200000" } else { "0000000020200420" };
        let sets = |bounding: &str, effective: &str| {
            format!("CapInh: 0000000000000000; CapPrm: {effective}; CapEff: {effective}; CapBnd: {bounding}")
        };
        let names = "CapInh|CapPrm|CapEff|CapBnd";
        status_is(t, &container, &["--cap", "CAP_SYS_ADMIN"], names, &sets(kept, kept));
        status_is(t, &container, &["--cap", "CAP_SYS_ADMIN", "-u", "1000"], names, &sets(kept, "0000000000000000"));
        status_is(t, &container, &["--cap", "CAP_SYS_ADMIN", "-u", "1000"], "CapAmb", "CapAmb: 0000000000000000");
        if t.is(&[Kind::Runb]) {
            refused(t, exec(t, &container, &["--cap", "CAP_NONE"], &["true"]), &["unknown capability \"CAP_NONE\""]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_capability_that_the_containers_process_may_inherit_is_added_to_the_ambient_set_too() {
    for_anyone(V2, |t| {
        t.runb_only("Debian's peers are older than that");
        let bundle = t.bundle().idle().set(
            "/process/capabilities",
            json!({"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"], "ambient": ["CAP_CHOWN"]}),
        );
        let container = bundle.run_detached();
        let names = "CapInh|CapAmb";
        status_is(t, &container, &[], names, "CapInh: 0000000400000001; CapAmb: 0000000000000001");
        status_is(t, &container, &["--cap", "CAP_SYSLOG"], names, "CapInh: 0000000400000001; CapAmb: 0000000400000001");
        status_is(t, &container, &["--cap", "CAP_FOWNER"], names, "CapInh: 0000000400000001; CapAmb: 0000000000000001");
        container.delete_force().ok();
    });
}

#[test]
fn a_process_may_come_by_a_pipe_of_the_caller() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun wants a file");
        }
        let container = t.bundle().idle().run_detached();
        let script = r#"exec "$@" --process <(cat "$FILE") "$ID""#;
        let mut command = t.wrapped(&["bash", "-c", script, "bash"], ["exec"]);
        let process = json!({"args": ["echo", "by a pipe"], "cwd": "/", "env": ["PATH=/bin"]});
        command.env("FILE", process_file(t, &process)).env("ID", container.id());
        assert_eq!(t.finish(command).ok().stdout, "by a pipe\n");
        container.delete_force().ok();
    });
}

#[test]
fn no_new_privs_is_set_by_its_flag() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().set("/process/noNewPrivileges", json!(false)).run_detached();
        status_is(t, &container, &[], "NoNewPrivs", "NoNewPrivs: 0");
        status_is(t, &container, &["--no-new-privs"], "NoNewPrivs", "NoNewPrivs: 1");
        container.delete_force().ok();
    });
}

#[test]
fn labels_of_modules_that_the_host_lacks_are_refused() {
    for_anyone(V2, |t| {
        t.runb_only("peers run without the label");
        if fs::exists("/sys/fs/selinux/enforce").expect("stat")
            || fs::exists("/sys/kernel/security/apparmor").expect("stat")
        {
            t.skip("the host has a security module with labels");
        }
        let container = t.bundle().idle().run_detached();
        let outcome = exec(t, &container, &["--process-label", "a:b:c:s0"], &["true"]);
        refused(t, outcome, &["process.selinuxLabel: SELinux is not enabled"]);
        let outcome = exec(t, &container, &["--apparmor", "docker-default"], &["true"]);
        refused(t, outcome, &["process.apparmorProfile: AppArmor is not enabled"]);
        container.delete_force().ok();
    });
}

#[test]
fn the_containers_seccomp_filter_holds_for_the_process() {
    for_anyone(V2, |t| {
        for nnp in [true, false] {
            let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
            let bundle = t.bundle().idle().set("/linux/seccomp", seccomp).set("/process/noNewPrivileges", json!(nnp));
            let container = bundle.run_detached();
            status_is(t, &container, &[], "Seccomp", "Seccomp: 2");
            let outcome = exec(t, &container, &[], &["mkdir", "/tmp/x"]);
            assert!(outcome.code == 1 && outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
            // What loading the filter takes is not left to the process.
            status_is(t, &container, &[], "CapEff|CapPrm", "CapPrm: 0000000020000420; CapEff: 0000000020000420");
            container.delete_force().ok();
        }
    });
}

#[test]
fn a_process_file_stands_for_all_flags() {
    for_anyone(LIFECYCLE, |t| {
        let bundle = t.bundle().idle().spec(|spec| {
            spec["process"]["oomScoreAdj"] = json!(77);
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
            spec["process"]["env"] = json!(["PATH=/bin", "NAME=value"]);
        });
        let container = bundle.run_detached();
        let run = |process: Value| exec(t, &container, &["--process", &process_file(t, &process)], &[]).ok();
        let script = "id -u; id -G; pwd; echo $NAME.$OTHER; cat /proc/self/oom_score_adj; ulimit -n";
        let mut whole = process(&["sh", "-c", script]);
        whole["user"] = json!({"uid": 12, "gid": 13, "additionalGids": [14]});
        whole["env"] = json!(["PATH=/bin", "OTHER=here"]);
        whole["cwd"] = json!("/tmp");
        whole["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]);
        // crun has neither from the container.
        let oom = if t.is(&[Kind::Crun]) { "0" } else { "77" };
        assert_eq!(run(whole).lines(), ["12", "13 14", "/tmp", ".here", oom, "99"]);
        container.delete_force().ok();
    });
}

#[test]
fn capabilities_that_a_process_file_leaves_out_are_the_containers() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun does not inherit");
        }
        let container = t.bundle().idle().run_detached();
        let script = "ulimit -n; grep CapBnd /proc/self/status | cut -f2; grep NoNew /proc/self/status | cut -f2";
        let file = process_file(t, &process(&["sh", "-c", script]));
        let outcome = exec(t, &container, &["--process", &file], &[]).ok();
        let ours = Command::new("sh").args(["-c", "ulimit -n"]).output().expect("sh").stdout;
        let ours = String::from_utf8(ours).expect("a number");
        // Limits are the caller's, and noNewPrivileges is off: an engine's file says all of these that it wants.
        assert_eq!(outcome.lines(), [ours.trim(), "0000000020000420", "0"]);
        container.delete_force().ok();
    });
}

#[test]
fn a_process_file_that_is_wrong_is_named_with_its_place() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes a relative cwd");
        }
        let container = t.bundle().idle().run_detached();
        let mut relative = process(&["true"]);
        relative["cwd"] = json!("tmp");
        for (process, text) in [
            (json!("{"), "invalid type"),
            (process(&[]), "process.args: is empty"),
            (relative, "process.cwd: \"tmp\" is not an absolute path"),
        ] {
            refused(t, exec(t, &container, &["--process", &process_file(t, &process)], &[]), &[text]);
        }
        refused(t, exec(t, &container, &["--process", "/no/such"], &[]), &["/no/such: no such file or directory"]);
        container.delete_force().ok();
    });
}

#[test]
fn a_detached_process_is_left_to_the_caller_with_its_pid() {
    for_anyone(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        let file = t.dir().join(t.name("pid"));
        let flags = ["--detach", "--pid-file", file.to_str().expect("a path")];
        assert_eq!(exec(t, &container, &flags, &["sh", "-c", "exit 9"]).code, 0);
        let text = fs::read_to_string(&file).expect("a pid file");
        let pid: i32 = text.parse().expect("a number and nothing else");
        assert_eq!(container.reap(pid), 9);
        container.delete_force().ok();
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_ends_the_process() {
    in_modes(V2, |t| {
        t.runb_only("peers leave theirs");
        let container = t.bundle().idle().run_detached();
        let outcome = exec(t, &container, &["--detach", "--pid-file", "/no/such/pid"], &["sleep", "86400"]);
        refused(t, outcome, &["--pid-file: write /no/such/pid: no such file or directory"]);
        let left = fs::read_to_string(format!("/sys/fs/cgroup/{}/cgroup.procs", container.id())).expect("procs");
        assert_eq!(left.lines().count(), 1, "{left}");
        container.delete_force().ok();
    });
}

/// The one descriptor that somebody sends to `listener`.
fn received(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().expect("a connection");
    let mut space = [std::mem::MaybeUninit::uninit(); 64];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 16];
    let mut parts = [std::io::IoSliceMut::new(&mut text)];
    recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("recvmsg");
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let [descriptor] = <[OwnedFd; 1]>::try_from(rights.expect("descriptors")).expect("one descriptor");
    descriptor
}

/// The process of a pidfd.
fn pid_of(pidfd: &OwnedFd) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("fdinfo");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:\t")).expect("a pid");
    pid.parse().expect("a number")
}

#[test]
fn a_pidfd_socket_receives_a_pidfd_of_the_process() {
    for_anyone(V2, |t| {
        t.runb_only("Debian's peers do not know --pidfd-socket");
        let container = t.bundle().idle().run_detached();
        let path = t.dir().join(t.name("socket"));
        let listener = UnixListener::bind(&path).expect("bind");
        let file = t.dir().join(t.name("pid"));
        let flags = [
            "--detach",
            "--pidfd-socket",
            path.to_str().expect("a path"),
            "--pid-file",
            file.to_str().expect("a path"),
        ];
        exec(t, &container, &flags, &["sh", "-c", "exit 4"]).ok();
        let pidfd = received(&listener);
        assert!(wait::readable(pidfd.as_fd(), wait::deadline()), "the pidfd does not tell of the end");
        let pid = fs::read_to_string(&file).expect("a pid file").parse().expect("a pid");
        assert_eq!(pid_of(&pidfd), pid);
        assert_eq!(container.reap(pid), 4);
        container.delete_force().ok();
    });
}

#[test]
fn exactly_the_preserved_descriptors_are_handed_on() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let shell = ["sh", "-c", "exec 3</etc/passwd 4</etc/group 9</; exec \"$@\"", "sh"];
        let list = ["sh", "-c", "for n in /proc/self/fd/*; do test -e $n && echo ${n##*/}; done; true"];
        for (flags, expected) in [(vec![], "0 1 2"), (vec!["--preserve-fds", "2"], "0 1 2 3 4")] {
            let args: Vec<&str> =
                std::iter::once("exec").chain(flags.clone()).chain([container.id()]).chain(list).collect();
            let outcome = t.finish(t.wrapped(&shell, args)).ok();
            let mut found = outcome.lines();
            // The shell's own descriptor of the directory that it lists.
            found.retain(|number| number.len() == 1 && expected.contains(number));
            assert_eq!(found.join(" "), expected, "{outcome:?}");
            assert!(!outcome.lines().contains(&"9"), "{outcome:?}");
        }
        if t.is(&[Kind::Runb]) {
            let outcome = exec(t, &container, &["--preserve-fds", "9"], &["true"]);
            refused(t, outcome, &["9 descriptors are to be preserved"]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_cwd_in_a_descriptor_of_the_runtime_is_refused() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun enters what lies in the container's root");
        }
        let container = t.bundle().idle().run_detached();
        let shell = ["sh", "-c", "exec 9</; exec \"$@\"", "sh"];
        for number in 0..16 {
            for process in ["self", "1", "thread-self"] {
                let cwd = format!("/proc/{process}/fd/{number}");
                let args =
                    ["exec", "--cwd", &cwd, container.id(), "sh", "-c", "test -e /share && readlink /proc/self/cwd"];
                let outcome = t.finish(t.wrapped(&shell, args));
                refused(t, outcome, &["process.cwd: chdir"]);
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_cgroup_below_the_containers_is_joined_and_none_beside_it() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes another form");
        }
        let container = t.bundle().idle().run_detached();
        let own = format!("/sys/fs/cgroup/{}", container.id());
        fs::create_dir(format!("{own}/sub")).expect("make a cgroup");
        prints(t, &container, &["--cgroup", "sub"], &["grep", "^0::", "/proc/self/cgroup"], "0::/sub");
        prints(t, &container, &["--cgroup", "/"], &["grep", "^0::", "/proc/self/cgroup"], "0::/");
        refused(t, exec(t, &container, &["--cgroup", "../x"], &["true"]), &["out of the container's cgroup"]);
        refused(t, exec(t, &container, &["--cgroup", "none"], &["true"]), &["/none: no such file or directory"]);
        if t.is(&[Kind::Runb]) {
            refused(t, exec(t, &container, &["--cgroup", "pids:sub"], &["true"]), &["version 2"]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_cgroup_of_one_controller_is_joined_on_version_1() {
    in_modes(V1, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes another form");
        }
        t.needs_controller("pids");
        let container = t.bundle().idle().run_detached();
        let own = t.controller_dir("pids").expect("a hierarchy").join(container.id());
        fs::create_dir(own.join("sub")).expect("make a cgroup");
        let line = ["sh", "-c", "grep -E '[:,](pids|memory)[:,]' /proc/self/cgroup | cut -d: -f3 | sort"];
        prints(t, &container, &["--cgroup", "pids:sub"], &line, "/\n/sub");
        refused(t, exec(t, &container, &["--cgroup", "none:sub"], &["true"]), &["unknown controller \"none\""]);
        container.delete_force().ok();
    });
}

#[test]
fn where_the_containers_cgroup_takes_no_process_that_of_its_init_does() {
    in_modes(V2, |t| {
        t.needs_controller("hugetlb");
        let container = t.bundle().idle().run_detached();
        let own = format!("/sys/fs/cgroup/{}", container.id());
        fs::create_dir(format!("{own}/init")).expect("make a cgroup");
        fs::write(format!("{own}/init/cgroup.procs"), container.pid().to_string()).expect("move init");
        fs::write(format!("{own}/cgroup.subtree_control"), "+hugetlb").expect("give the controller on");
        prints(t, &container, &[], &["grep", "^0::", "/proc/self/cgroup"], "0::/init");
        if !t.is(&[Kind::Crun]) {
            let outcome = exec(t, &container, &["--cgroup", "/"], &["true"]);
            refused(t, outcome, &["device or resource busy"]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn where_the_containers_cgroup_is_gone_that_of_its_init_is_joined() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun, Kind::Runc]) {
            t.skip("Debian's peers know the container's alone");
        }
        let container = t.bundle().without_namespace("cgroup").idle().run_detached();
        let other = format!("/sys/fs/cgroup/{}-moved", container.id());
        fs::create_dir(&other).expect("make a cgroup");
        fs::write(format!("{other}/cgroup.procs"), container.pid().to_string()).expect("move init");
        fs::remove_dir(format!("/sys/fs/cgroup/{}", container.id())).expect("remove the container's");
        let expected = format!("0::/{}-moved", container.id());
        prints(t, &container, &[], &["grep", "^0::", "/proc/self/cgroup"], &expected);
        container.delete_force().ok();
        fs::remove_dir(other).expect("nobody is in it");
    });
}

#[test]
fn signals_are_passed_on_to_the_command() {
    for_anyone(V2, |t| {
        let bundle = t.bundle().idle();
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.run_detached();
        let script = "trap 'exit 33' TERM; echo ready >/share/events; while :; do sleep 1; done";
        let mut child = call(t, &container, &[], &["sh", "-c", script]).stdin(Stdio::null()).spawn().expect("start");
        assert_eq!(events.line(), "ready");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        assert_eq!(end(&mut child), 33);
        container.delete_force().ok();
    });
}

#[test]
fn a_command_that_closes_its_pipes_early_is_waited_for() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let script = "exec <&- >&- 2>&-; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3";
        let mut command = call(t, &container, &[], &["sh", "-c", script]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
        assert_eq!(end(&mut child), 3);
        container.delete_force().ok();
    });
}

#[test]
fn a_command_whose_reader_goes_away_ends_by_sigpipe() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let mut child = call(t, &container, &[], &["yes"]).stdout(Stdio::piped()).spawn().expect("start");
        let mut byte = [0];
        child.stdout.take().expect("a pipe").read_exact(&mut byte).expect("read");
        assert_eq!(end(&mut child), 141);
        container.delete_force().ok();
    });
}

#[test]
fn output_is_whole_for_a_slow_reader() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let mut command = call(t, &container, &[], &["head", "-c", "300000", "/dev/zero"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start");
        let mut stdout = child.stdout.take().expect("a pipe");
        let mut total = 0;
        let mut piece = [0; 11];
        loop {
            match stdout.read(&mut piece).expect("read") {
                0 => break,
                count => total += count,
            }
        }
        assert_eq!((total, end(&mut child)), (300_000, 0));
        container.delete_force().ok();
    });
}

#[test]
fn a_command_that_reads_its_stdin_gets_all_of_it() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let mut command = call(t, &container, &[], &["wc", "-c"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, &[b'x'; 200_000]).expect("write");
        drop(stdin);
        assert_eq!(end(&mut child), 0);
        let mut text = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("read");
        assert_eq!(text.trim(), "200000");
        container.delete_force().ok();
    });
}

#[test]
fn a_thousand_execs_eight_at_a_time_leave_nothing() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        let of_init = || fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
        let before = of_init();
        let start = |number: usize| {
            let mut command = call(t, &container, &[], &["sh", "-c", &format!("exit {}", number % 100)]);
            (number, command.stdin(Stdio::null()).spawn().expect("start the runtime"))
        };
        let mut running = std::collections::VecDeque::new();
        for number in 0..1000 {
            if running.len() == 8 {
                let (number, mut child): (usize, Child) = running.pop_front().expect("eight");
                assert_eq!(end(&mut child), number as i32 % 100);
            }
            running.push_back(start(number));
        }
        for (number, mut child) in running {
            assert_eq!(end(&mut child), number as i32 % 100);
        }
        // The init of runc may still have been on its way.
        if t.is(&[Kind::Runb]) {
            assert_eq!(of_init(), before);
        }
        let base = match t.mode() {
            Mode::V2 => "/sys/fs/cgroup".into(),
            Mode::Hybrid => "/sys/fs/cgroup/unified".into(),
            Mode::V1 => t.controller_dir("pids").expect("a hierarchy"),
        };
        let path = base.join(container.id());
        let procs = fs::read_to_string(path.join("cgroup.procs")).expect("procs");
        assert_eq!(procs.lines().collect::<Vec<_>>(), [pid.to_string()]);
        let below = fs::read_dir(&path).expect("the cgroup").filter_map(Result::ok);
        assert_eq!(below.filter(|entry| entry.path().is_dir()).count(), 0);
        container.delete_force().ok();
    });
}

/// What a process of the container sees of 300 others that join it.
fn seen(t: &Test, capabilities: &[&str]) -> Vec<String> {
    let sets = json!(capabilities);
    let bundle = t.bundle().args(["/bin/watcher"]).rootfs_with(|rootfs| {
        fs::copy(env!("CARGO_BIN_EXE_watcher"), rootfs.join("bin/watcher")).expect("copy the watcher");
    });
    let bundle = bundle.set("/process/capabilities", json!({"bounding": sets, "effective": sets, "permitted": sets}));
    let container = bundle.run_detached();
    let pid = container.pid();
    for _ in 0..wait::tries(300) {
        let mut command = call(t, &container, &[], &["true"]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        assert_eq!(end(&mut child), 0);
    }
    fs::write(container.bundle().share_dir().join("stop"), "").expect("stop the watcher");
    assert_eq!(container.reap(pid), 0);
    let text = container.stdout();
    container.delete().ok();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_process_is_never_seen_inside_with_more_rights_than_the_workload_has() {
    for_anyone(V2, |t| {
        t.runb_only("peers drop their rights inside");
        for line in seen(t, &["CAP_KILL"]) {
            let known =
                ["watching", "CapEff:\t0000000000000020", "exe /bin/busybox", "cwd /", "root /", "fd /dev/null"];
            assert!(known.contains(&line.as_str()), "{line}");
        }
    });
}

#[test]
fn who_may_trace_finds_nothing_of_the_host_in_a_process_that_joins() {
    for_anyone(V2, |t| {
        t.runb_only("peers drop their rights inside");
        let lines = seen(t, &["CAP_SYS_PTRACE"]);
        for line in &lines {
            let known = [
                "watching",
                "CapEff:\t0000000000080000",
                "exe /bin/busybox",
                "exe /memfd:runb-init (deleted)",
                "cwd /",
                "root /",
                "fd /dev/null",
                // The report's: the runtime at its other end believes it nothing but a failure.
                "fd socket:",
            ];
            assert!(known.contains(&line.as_str()), "{line}");
        }
        assert!(lines.iter().any(|line| line == "exe /bin/busybox"), "it sees nothing at all: {lines:?}");
    });
}

#[test]
fn a_pidfd_socket_of_create_receives_a_pidfd_of_init() {
    for_anyone(V2, |t| {
        t.runb_only("Debian's peers do not know --pidfd-socket");
        let path = t.dir().join(t.name("socket"));
        let listener = UnixListener::bind(&path).expect("bind");
        let container = t.bundle().idle().create_with(&["--pidfd-socket", path.to_str().expect("a path")]);
        assert_eq!(pid_of(&received(&listener)), container.pid());
        container.delete_force().ok();
    });
}
