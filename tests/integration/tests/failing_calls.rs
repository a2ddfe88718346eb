//! No system call that fails makes the runtime panic or hang: strace lets one call after another fail.

use std::collections::BTreeMap;
use std::fs;

use runb_tests::*;

/// What calls end in, by turns.
const ERRNOS: [&str; 4] = ["EIO", "EINTR", "ENOMEM", "EPERM"];
/// What cannot fail (getrandom(2) among it, which the standard library's maps begin with), or is the allocator's: a program
/// without memory ends, and says so. A close(2) that fails has closed all the same, but for strace's.
const NEVER: [&str; 11] = [
    "close",
    "getrandom",
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "mremap",
    "madvise",
    "execve",
    "exit_group",
    "rt_sigreturn",
];

/// The calls that the runtime's own code makes in a call of it, by name: from which one on, and how many in all. What comes
/// before its first call is the loader's.
fn calls<const N: usize>(t: &Test, args: [&str; N]) -> BTreeMap<String, (usize, usize)> {
    let file = t.dir().join(t.name("trace"));
    let trace = file.to_str().expect("text");
    t.finish(t.wrapped(&["strace", "-qq", "-o", trace], args));
    let text = fs::read_to_string(&file).expect("read the trace");
    let mut calls: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut own = false;
    for line in text.lines() {
        own |= line.starts_with("fcntl(0, F_GETFD)");
        let Some((name, _)) = line.split_once('(') else { continue };
        if !NEVER.contains(&name) {
            let (first, all) = calls.entry(name.to_owned()).or_default();
            *all += 1;
            *first += usize::from(!own);
        }
    }
    calls
}

/// Lets every call of a verb fail, each once; `before` makes what the verb works on, `after` takes it away.
fn each_call_fails<const N: usize>(t: &Test, args: [&str; N], before: impl Fn(), after: impl Fn()) {
    before();
    let calls = calls(t, args);
    after();
    let mut errnos = ERRNOS.iter().cycle();
    let mut failed = 0;
    for (name, (first, all)) in &calls {
        for number in first + 1..=*all {
            before();
            let inject = format!("inject={name}:error={}:when={number}", errnos.next().expect("an errno"));
            let outcome = t.finish(t.wrapped(&["strace", "-qq", "-o", "/dev/null", "-e", &inject], args));
            let told = outcome.stderr.clone() + &outcome.log;
            assert!(!told.contains("panicked") && !told.contains("fatal runtime error"), "{inject}: {outcome:?}");
            assert!(![101, 134, 139].contains(&outcome.code), "{inject}: {outcome:?}");
            failed += usize::from(outcome.code != 0);
            after();
        }
    }
    assert!(calls.len() > 5 && failed > 1, "{failed} failures of {calls:?}");
}

fn ready(t: &Test) {
    t.runb_only("it is a test of its own code");
    t.needs_program("strace");
}

#[test]
fn a_failing_call_of_state_list_and_kill_is_no_panic() {
    in_modes(V2, |t| {
        ready(t);
        let container = t.bundle().idle().run_detached();
        each_call_fails(t, ["state", container.id()], || (), || ());
        each_call_fails(t, ["list"], || (), || ());
        each_call_fails(t, ["kill", container.id(), "WINCH"], || (), || ());
        container.delete_force().ok();
    });
}

#[test]
fn a_failing_call_of_exec_is_no_panic() {
    in_modes(V2, |t| {
        ready(t);
        let container = t.bundle().idle().run_detached();
        each_call_fails(t, ["exec", container.id(), "true"], || (), || ());
        container.kill(&["KILL"]).ok();
        // An exec that failed at its end has left its command to this process; the pid namespace ends with the last of them.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::empty()) {}
        container.delete().ok();
    });
}

#[test]
fn a_failing_call_of_run_is_no_panic() {
    in_modes(V2, |t| {
        ready(t);
        let bundle = t.bundle().args(["true"]).hook("createRuntime", json!({"path": "/bin/true"}));
        let directory = bundle.write().dir().to_str().expect("text");
        // What could not be taken back is taken back now.
        let after = || drop(t.call(["delete", "--force", bundle.id()]).ok());
        each_call_fails(t, ["run", "--bundle", directory, bundle.id()], || (), after);
    });
}

#[test]
fn a_failing_call_of_delete_is_no_panic() {
    in_modes(V2, |t| {
        ready(t);
        let bundle = t.bundle().idle();
        bundle.write();
        let before = || {
            // Where the last delete has failed it is still there, or a part of it.
            t.call(["delete", "--force", bundle.id()]).ok();
            t.finish(bundle.command("create", &[])).ok();
        };
        each_call_fails(t, ["delete", "--force", bundle.id()], before, || ());
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}
