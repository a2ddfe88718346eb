//! What the host leaves open: CVE-2024-21626, CVE-2016-9962.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless};

/// Puts the attacker where the container sees it.
pub fn armed(bundle: Bundle<'_>) -> Bundle<'_> {
    fs::copy(env!("CARGO_BIN_EXE_attacker"), bundle.share_dir().join("attacker")).expect("copy the attacker");
    bundle
}

/// A call by somebody who has a directory of the host open as descriptor 20.
pub fn careless_call(t: &Test, canary: &Canary, args: &[&str]) -> Outcome {
    let line = format!("exec 20<{}; exec \"$@\"", canary.dir().display());
    // dash has no descriptors above 9; bash has.
    t.finish(t.wrapped(&["bash", "-c", &line, "bash"], args))
}

/// `run`, called so.
fn run_by_a_careless_caller(t: &Test, canary: &Canary, bundle: &Bundle<'_>) -> Outcome {
    bundle.write();
    careless_call(t, canary, &["run", "--bundle", bundle.dir().to_str().expect("a path"), bundle.id()])
}

#[test]
fn the_workload_has_three_descriptors_and_no_more() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        for hooks in [json!([]), json!([{"path": "/bin/true"}])] {
            let bundle = armed(t.bundle().with_id(&t.name("x")).args(["/share/attacker", "descriptors"]));
            let bundle = bundle.spec(|spec| spec["hooks"] = json!({"createRuntime": hooks}));
            assert_eq!(run_by_a_careless_caller(t, &canary, &bundle).ok().stdout, "0 1 2\ndone\n");
        }
    });
}

#[test]
fn a_working_directory_in_a_leaked_descriptor_is_not_entered() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let mut places: Vec<String> = (0..24).map(|i| format!("/proc/self/fd/{i}")).collect();
        places.extend((3..12).map(|i| format!("/proc/1/fd/{i}")));
        places.extend(["/proc/self/cwd", "/proc/thread-self/fd/20/..", "/proc/self/root/..", "/w"].map(str::to_owned));
        let prepare = |root: &Path| symlink("/proc/self/fd/20", root.join("w")).expect("a link");
        for place in places {
            let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare);
            let bundle = bundle.set("/process/cwd", json!(place)).sh("ls -a; ls ..");
            let outcome = run_by_a_careless_caller(t, &canary, &bundle);
            assert!(!outcome.stdout.contains("canary") && !outcome.stdout.contains("ptmx"), "{place}: {outcome:?}");
            refused_or_harmless(&outcome);
            canary.is_unharmed(&place);
        }
        t.bundle().with_id(&t.name("x")).set("/process/cwd", json!("/tmp")).args(["true"]).run().ok();
    });
}

#[test]
fn a_program_of_the_host_is_not_executed_through_a_descriptor() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        for i in [3, 4, 5, 6, 7, 8, 20] {
            let program = format!("/proc/self/fd/{i}");
            let bundle = t.bundle().with_id(&t.name("x")).args([&program]);
            let outcome = run_by_a_careless_caller(t, &canary, &bundle);
            assert_eq!(outcome.code, 1, "{program}: {outcome:?}");
            canary.is_unharmed(&program);
        }
        t.bundle().args(["/bin/true"]).run().ok();
    });
}

#[test]
fn no_descriptor_root_or_working_directory_leads_to_the_host() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let mark = canary.file().display().to_string();
        let bundle = armed(t.bundle().args(["/share/attacker", "walk", &mark]));
        assert_eq!(run_by_a_careless_caller(t, &canary, &bundle).ok().stdout, "done\n");
        // The twin: the walk does find what it looks for.
        let bundle = armed(t.bundle().with_id(&t.name("x")).args(["/share/attacker", "walk", "/etc/passwd"]));
        assert!(run_by_a_careless_caller(t, &canary, &bundle).ok().stdout.contains("escaped: "));
    });
}
