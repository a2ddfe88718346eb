//! What a caller hands down, and what it cannot break: dispositions of signals, standard descriptors, files that are no files.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use runb_tests::*;

/// A call whose caller has ignored SIGCHLD and blocked what can be blocked.
fn deaf<const N: usize>(t: &Test, args: [&str; N]) -> Outcome {
    t.finish(t.wrapped(&["env", "--ignore-signal=CHLD", "--block-signal"], args))
}

#[test]
fn a_caller_that_ignores_its_children_learns_the_exit_status() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh("exit 7").hook("prestart", json!({"path": "/bin/true"}));
        let bundle = bundle.hook("poststop", json!({"path": "/bin/true"}));
        let outcome = deaf(t, ["run", "--bundle", bundle.write().dir().to_str().expect("text"), bundle.id()]);
        assert_eq!(outcome.code, 7, "{outcome:?}");
    });
}

#[test]
fn every_verb_works_for_a_caller_that_ignores_its_children_and_blocks_signals() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun hands SIGCHLD down as it is");
        }
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
            t.call(["--invocation-log", path, "list"]).ok();
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
