//! What a caller hands down, and what it cannot break: dispositions of signals, standard descriptors, files that are no files.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use runb_tests::*;

/// A call whose caller has ignored SIGCHLD and blocked what can be blocked.
fn deaf<const N: usize>(t: &Test, args: [&str; N]) -> Outcome {
    t.finish(t.wrapped(&["env", "--ignore-signal=CHLD", "--block-signal"], args))
}

#[test]
fn a_caller_that_ignores_its_children_learns_the_exit_status() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun cannot wait for its hooks then");
        }
        let bundle = t.bundle().sh("exit 7").hook("prestart", json!({"path": "/bin/true"}));
        let bundle = bundle.hook("poststop", json!({"path": "/bin/true"}));
        let outcome = deaf(t, ["run", "--bundle", bundle.write().dir().to_str().expect("text"), bundle.id()]);
        assert_eq!(outcome.code, 7, "{outcome:?}");
    });
}

#[test]
fn every_verb_works_for_a_caller_that_ignores_its_children_and_blocks_signals() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("runc hands blocked signals down, and crun cannot wait for its hooks");
        let bundle = t.bundle().sh("grep -E 'Sig(Blk|Ign)' /proc/self/status >/share/status; sleep 86400");
        let bundle = ["createRuntime", "startContainer", "poststart", "poststop"]
            .iter()
            .fold(bundle, |bundle, kind| bundle.hook(kind, json!({"path": "/bin/true"})));
        let mut status = t.fifo(&bundle, "status");
        let directory = bundle.write().dir().to_owned();
        let created = deaf(t, ["create", "--bundle", directory.to_str().expect("text"), bundle.id()]).ok();
        let container = bundle.container(created);
        deaf(t, ["start", container.id()]).ok();
        assert_eq!(status.line(), "SigBlk:\t0000000000000000");
        let ignored = status.line();
        let ignored = u64::from_str_radix(ignored.trim_start_matches("SigIgn:\t"), 16).expect("a set");
        assert_eq!(ignored & 1 << 16, 0, "SIGCHLD is ignored: {ignored:x}");
        assert_eq!(deaf(t, ["exec", container.id(), "sh", "-c", "exit 5"]).code, 5);
        deaf(t, ["delete", "--force", container.id()]).ok();
    });
}

/// Files that are none: one that nobody writes to, and one without an end.
fn no_files(t: &Test) -> [PathBuf; 2] {
    let fifo = t.dir().join(t.name("fifo"));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("make a fifo");
    [fifo, PathBuf::from("/dev/zero")]
}

#[test]
fn a_configuration_that_is_no_file_is_refused_by_name() {
    in_modes(V2, |t| {
        t.runb_only("the peers read it");
        for file in no_files(t) {
            let bundle = t.bundle();
            symlink(file, bundle.dir().join("config.json")).expect("link");
            let wrong = ["config.json", "it is no regular file"];
            t.finish(bundle.command("create", &[])).fails_with(&wrong);
            for verb in ["plan", "seccomp"] {
                let outcome = t.call([verb, "--bundle", bundle.dir().to_str().expect("text")]);
                outcome.fails_with(&wrong);
            }
        }
    });
}

#[test]
fn a_process_of_an_exec_that_is_no_file_is_refused_by_name() {
    in_modes(V2, |t| {
        t.runb_only("the peers read it");
        let container = t.bundle().idle().run_detached();
        for file in no_files(t) {
            let path = file.to_str().expect("text");
            let outcome = t.call(["exec", "--process", path, container.id()]);
            assert_eq!(outcome.code, 255, "{outcome:?}");
            assert!(outcome.message().contains(&format!("{path}: it is no regular file")), "{outcome:?}");
        }
        container.delete_force().ok();
    });
}

#[test]
fn an_invocation_log_that_is_no_file_is_neither_written_nor_read() {
    in_modes(V2, |t| {
        t.runb_only("the log is its own");
        for file in no_files(t) {
            let path = file.to_str().expect("text");
            t.call(["--invocation-log", path, "features"]).ok();
            t.call(["--invocation-log", path, "log"]).fails_with(&[path, "it is no regular file"]);
        }
    });
}

#[test]
fn a_configuration_without_an_end_is_refused() {
    in_modes(V2, |t| {
        t.runb_only("the peers read it");
        let bundle = t.bundle();
        let file = std::fs::File::create(bundle.dir().join("config.json")).expect("make a file");
        // It has holes alone.
        file.set_len(1 << 36).expect("a length");
        t.finish(bundle.command("create", &[])).fails_with(&["config.json", "it has more than 67108864 bytes"]);
    });
}

/// A call whose standard descriptors a shell has arranged by `redirections`.
fn arranged<const N: usize>(t: &Test, redirections: &str, args: [&str; N]) -> Outcome {
    t.finish(t.wrapped(&["bash", "-c", &format!("exec {redirections}; exec \"$@\""), "bash"], args))
}

#[test]
fn what_nobody_gets_is_not_printed_with_success() {
    in_modes(V2, |t| {
        t.runb_only("the peers print it nowhere");
        let container = t.bundle().idle().create();
        let bundle = container.bundle().dir().to_str().expect("text");
        // The last one cannot be written to.
        for (redirections, errno) in [(">/dev/full", "ENOSPC"), (">&-", "EBADF"), ("1</dev/null", "EBADF")] {
            arranged(t, redirections, ["state", container.id()]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["list"]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["list", "--format", "json"]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["features"]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["features", "--host"]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["plan", "--bundle", bundle]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["seccomp", "--bundle", bundle]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["log"]).fails_with(&["write to stdout", errno]);
            arranged(t, redirections, ["--version"]).fails_with(&["write to stdout", errno]);
        }
        container.delete_force().ok();
    });
}

#[test]
fn every_verb_works_whatever_the_standard_descriptors_are() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun gives the standard descriptors away, and finds none");
        }
        for redirections in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "</dev/full >/dev/full 2>&1", "</ >/dev/null"] {
            let bundle = t.bundle().sh("ls -l /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 >/share/open && exit 7");
            let directory = bundle.write().dir().to_str().expect("text").to_owned();
            let outcome = arranged(t, redirections, ["run", "--bundle", &directory, bundle.id()]);
            assert_eq!(outcome.code, 7, "{redirections}: {outcome:?}");
            let bundle = t.bundle().idle();
            let directory = bundle.write().dir().to_str().expect("text").to_owned();
            let created = arranged(t, redirections, ["create", "--bundle", &directory, bundle.id()]).ok();
            let container = bundle.container(created);
            arranged(t, redirections, ["start", container.id()]).ok();
            let outcome = arranged(t, redirections, ["exec", container.id(), "sh", "-c", "exit 5"]);
            assert_eq!(outcome.code, 5, "{redirections}: {outcome:?}");
            let pid = container.pid();
            arranged(t, redirections, ["kill", container.id(), "KILL"]).ok();
            container.reap(pid);
            arranged(t, redirections, ["delete", container.id()]).ok();
        }
    });
}

#[test]
fn an_error_is_told_by_the_exit_code_where_stderr_is_full() {
    in_modes(V2, |t| {
        for redirections in ["2>&-", "2>/dev/full", ">/dev/full 2>&1"] {
            let outcome = arranged(t, redirections, ["state", "no-such-container"]);
            assert_eq!(outcome.code, 1, "{redirections}: {outcome:?}");
        }
    });
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    in_modes(V2, |t| {
        t.runb_only("the peers wait for a reader");
        let [fifo, _] = no_files(t);
        let path = fifo.to_str().expect("text");
        let outcome = t.call(["--log", path, "state", "no-such-container"]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("warning: state no-such-container: --log {path}")), "{outcome:?}");
        assert!(outcome.stderr.contains("container does not exist"), "{outcome:?}");
        t.call(["--log", path, "--debug", "features"]).ok();
    });
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_and_leaves_nothing() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers are killed by SIGXFSZ, or leave something");
        let bundle = t.bundle().args(["true"]);
        let directory = bundle.write().dir().to_str().expect("text").to_owned();
        // Its stderr is a pipe, which the limit does not concern.
        let script = "(ulimit -f 0; exec \"$@\" 2>&1) | cat >&2; exit ${PIPESTATUS[0]}";
        let limited = ["bash", "-c", script, "bash"];
        let outcome = t.finish(t.wrapped(&limited, ["create", "--bundle", &directory, bundle.id()]));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("intent.json: file too large (EFBIG)"), "{outcome:?}");
        // For the workload a write beyond the limit is what it always was.
        let bundle = t.bundle().writable().sh("ulimit -f 1; dd if=/dev/zero of=/tmp/x bs=1024 count=1000; echo $?");
        assert_eq!(bundle.run().ok().stdout, "153\n");
    });
}

/// A socket that takes connections until its queue is full, which it is; and who has filled it.
fn deaf_socket(path: &std::path::Path) -> (OwnedFd, Vec<OwnedFd>) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
    let address = SocketAddrUnix::new(path).expect("an address");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let new = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
    let deaf = new();
    bind(&deaf, &address).expect("bind");
    listen(&deaf, 0).expect("listen");
    let callers = std::iter::from_fn(|| {
        let caller = new();
        connect(&caller, &address).ok().map(|()| caller)
    });
    let callers = callers.collect();
    (deaf, callers)
}

#[test]
fn a_socket_that_takes_no_connection_is_given_up() {
    in_modes(V2, |t| {
        t.runb_only("the peers wait for ever");
        let path = t.dir().join(t.name("deaf"));
        let _deaf = deaf_socket(&path);
        let socket = path.to_str().expect("text");
        // Side by side, since each is waited for.
        let plain = t.bundle().args(["true"]);
        let terminal = t.bundle().args(["true"]).set("/process/terminal", json!(true));
        let listener = t.bundle().args(["true"]).set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
                "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}),
        );
        let commands = [
            (plain.write().command("create", &["--pidfd-socket", socket]), "--pidfd-socket"),
            (terminal.write().command("create", &["--console-socket", socket]), "--console-socket"),
            (listener.write().command("create", &[]), "linux.seccomp.listenerPath"),
        ];
        let children = commands.map(|(mut command, name)| {
            let command = command.stdout(Stdio::null()).stderr(Stdio::piped());
            (command.spawn().expect("start the runtime"), name)
        });
        for (child, name) in children {
            let output = child.wait_with_output().expect("wait");
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{name}: {text}");
            assert!(text.contains(name) && text.contains("ETIMEDOUT"), "{name}: {text}");
        }
    });
}

#[test]
fn a_namespace_that_is_a_fifo_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let [fifo, _] = no_files(t);
        if t.is(&[Kind::Runc, Kind::Crun]) {
            t.skip("the peers wait for a writer");
        }
        let bundle = t.bundle().args(["true"]).join_namespace("ipc", fifo.to_str().expect("text"));
        bundle.try_create().fails_with(&["linux.namespaces[5].path", "setns", "EINVAL"]);
    });
}

#[test]
fn an_init_that_is_frozen_when_its_launch_fails_is_not_waited_for_without_an_end() {
    in_modes(V1, |t| {
        t.runb_only("the peers wait otherwise");
        let Some(freezer) = t.controller_dir("freezer") else { t.skip("there is no freezer here") };
        let bundle = t.bundle().args(["true"]);
        let cgroup = freezer.join(bundle.id());
        let script = format!("echo FROZEN >{}/freezer.state; exit 9", cgroup.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        bundle.hook("createRuntime", hook).try_create().fails_with(&["hooks.createRuntime[0]", "exit status 9"]);
    });
}
