//! Launches of a user, whose init is for the user's other processes to look into: docs/security.md, "What a user's launch shows".

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use runb_tests::*;

use super::binary::Besieger;
use super::exchange::rounds;

/// Makes, joins and removes containers of the user, while somebody watches.
fn launch_some(t: &Test) {
    for _ in rounds(t) {
        let container = t.bundle().with_id(&t.name("v")).idle().create();
        let init = container.pid();
        container.start().ok();
        t.call(["exec", container.id(), "true"]).ok();
        container.kill(&["KILL"]).ok();
        container.reap(init);
        container.delete().ok();
    }
}

/// A file that no container has.
fn mark(t: &Test) -> std::path::PathBuf {
    let mark = t.dir().join("a-file-of-nobody-else");
    fs::write(&mark, "").expect("write");
    mark
}

#[test]
fn a_container_of_the_same_user_that_sees_the_processes_of_the_host_reaches_nothing_through_a_launch() {
    as_user(V2, |t| {
        t.runb_only("runc has no procfs for a user's container in the host's pid namespace");
        let besieger = Besieger::of(t, &mark(t), |bundle| bundle.without_namespace("pid"));
        launch_some(t);
        let said = besieger.end();
        assert!(!said.contains("escaped"), "{said}");
    });
}

/// The attacker as a process of the user's, in no container.
fn watch_outside(mark: &Path, stop: &Path) -> Child {
    let mut command = user::calls(Path::new(env!("CARGO_BIN_EXE_attacker")));
    command.arg("watch").arg(stop).arg(mark).stdout(Stdio::piped()).spawn().expect("start the attacker")
}

#[test]
fn the_same_watch_by_the_user_outside_of_containers_finds_a_launch() {
    as_user(V2, |t| {
        t.runb_only("the twin of what is runb's own");
        let stop = t.dir().join("stop");
        let watcher = watch_outside(&mark(t), &stop);
        launch_some(t);
        fs::write(&stop, "").expect("write");
        let output = watcher.wait_with_output().expect("wait");
        fs::remove_file(&stop).expect("remove");
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.contains("escaped"), "{said}");
    });
}
