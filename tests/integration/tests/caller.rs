//! What a caller hands down, and what it cannot break: dispositions of signals, standard descriptors, files that are no files.

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
