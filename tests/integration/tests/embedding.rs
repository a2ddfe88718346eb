//! The library in another program.

use std::process::Command;

use runb_tests::*;

/// Each container has a cgroup of its own, by its id.
fn of_many(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        spec["linux"].as_object_mut().expect("linux").remove("cgroupsPath");
    })
}

#[test]
fn threads_of_a_busy_program_run_containers_side_by_side() {
    in_modes(ALL, |t| {
        t.runb_only("the library");
        let bundle = of_many(t.bundle().sh("exit 7"));
        bundle.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedder"));
        command.arg(t.root()).arg(bundle.dir()).arg(t.name("embedded")).arg("8");
        let mut lines = vec!["exit 7"; 8];
        lines.push("0 descriptors more");
        assert_eq!(t.finish(command).ok().lines(), lines);
    });
}

#[test]
fn an_error_reaches_the_thread_that_made_it_and_the_others_go_on() {
    in_modes(V2, |t| {
        t.runb_only("the library");
        let bundle = of_many(t.bundle().args(["/no/such/command"]));
        bundle.write();
        let mut command = Command::new(env!("CARGO_BIN_EXE_embedder"));
        command.arg(t.root()).arg(bundle.dir()).arg(t.name("embedded")).arg("4");
        let outcome = t.finish(command).ok();
        let [errors @ .., descriptors] = &outcome.lines()[..] else { panic!("{outcome:?}") };
        assert_eq!((errors.len(), *descriptors), (4, "0 descriptors more"));
        for error in errors {
            assert!(error.contains("stat /no/such/command: no such file or directory"), "{error}");
        }
    });
}
