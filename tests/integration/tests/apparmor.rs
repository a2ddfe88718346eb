//! AppArmor: which profile the workload and an exec have, and what becomes of one that cannot be had.

use runb_tests::*;

const CURRENT: &str = "/proc/self/attr/current";

const NO_GROUP: &str = "deny /etc/group r,";
const NO_PASSWD: &str = "deny /etc/passwd r,";

/// Prints the profile, and which of two files cannot be read.
const TELL: &str =
    "cat /proc/self/attr/current; for file in passwd group; do cat /etc/$file >/dev/null 2>&1 || echo no $file; done";

fn confined<'t>(t: &'t Test, profile: &str) -> Bundle<'t> {
    t.bundle().set("/process/apparmorProfile", json!(profile)).sh(TELL)
}

#[track_caller]
fn tells(outcome: Outcome, lines: &[&str]) {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(outcome.lines(), lines, "{outcome:?}");
}

#[test]
fn a_workload_is_denied_what_its_profile_denies() {
    in_modes(V2, |t| {
        let profile = Profile::load(t, NO_GROUP);
        for no_new_privileges in [true, false] {
            let bundle = confined(t, &profile.name).set("/process/noNewPrivileges", json!(no_new_privileges));
            tells(bundle.run(), &[&profile.enforced(), "no group"]);
        }
    });
}

#[test]
fn an_unconfined_workload_is_denied_nothing() {
    in_modes(V2, |t| {
        let _ = Profile::load(t, "");
        tells(confined(t, "unconfined").run(), &["unconfined"]);
    });
}

#[test]
fn a_profile_that_is_not_loaded_is_refused() {
    in_modes(V2, |t| {
        let _ = Profile::load(t, "");
        let outcome = confined(t, "no-such-profile").try_create();
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["process.apparmorProfile", "no-such-profile", "is not loaded", "ENOENT"]);
        } else {
            outcome.fails_with(&[]);
        }
    });
}

#[test]
fn an_exec_has_the_containers_profile_or_the_one_that_is_named() {
    in_modes(V2, |t| {
        let (own, other) = (Profile::load(t, NO_GROUP), Profile::load(t, NO_PASSWD));
        let container = confined(t, &own.name).idle().run_detached();
        let exec =
            |flags: &[&str]| t.call(["exec"].iter().chain(flags).chain(&[container.id(), "sh", "-c", TELL]).copied());
        tells(exec(&[]), &[&own.enforced(), "no group"]);
        tells(exec(&["--apparmor", &other.name]), &[&other.enforced(), "no passwd"]);
        tells(exec(&["--apparmor", &other.name, "--no-new-privs"]), &[&other.enforced(), "no passwd"]);
        // crun leaves a process behind.
        if !t.is(&[Kind::Crun]) {
            let outcome = exec(&["--apparmor", "no-such-profile"]);
            assert_eq!(outcome.code, 255, "{outcome:?}");
        }
        container.delete_force().ok();
    });
}

#[test]
fn of_two_stacked_profiles_both_deny() {
    in_modes(V2, |t| {
        let (one, other) = (Profile::load(t, NO_GROUP), Profile::load(t, NO_PASSWD));
        let outcome = confined(t, &format!("{}//&{}", one.name, other.name)).run().ok();
        assert_eq!(outcome.lines()[1..], ["no passwd", "no group"], "{outcome:?}");
        let outcome = confined(t, &format!("&{}", one.name)).run().ok();
        assert_eq!(outcome.lines()[1..], ["no group"], "{outcome:?}");
        assert!(outcome.lines()[0].contains(&one.name), "{outcome:?}");
    });
}

#[test]
fn a_profile_decides_on_what_the_workload_executes_and_not_on_the_workload() {
    in_modes(V2, |t| {
        let profile = Profile::load(t, "deny /bin/busybox x,");
        let outcome = confined(t, &profile.name).sh(&format!("read line <{CURRENT}; echo $line; /bin/true")).run();
        assert_eq!(outcome.stdout.trim_end(), profile.enforced(), "{outcome:?}");
        assert!(outcome.code == 126 && outcome.stderr.contains("Permission denied"), "{outcome:?}");
    });
}

#[test]
fn a_runtime_that_may_not_change_the_profile_starts_nothing() {
    in_modes(V2, |t| {
        t.needs_program("aa-exec");
        let (own, wanted) = (Profile::load(t, ""), Profile::load(t, NO_GROUP));
        let bundle = confined(t, &wanted.name);
        bundle.write();
        let mut command = t.wrapped(&["aa-exec", "-p", &own.name, "--"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let outcome = t.finish(command);
        assert_eq!(outcome.stdout, "", "{outcome:?}");
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["process.apparmorProfile", &wanted.name, "EACCES"]);
        } else {
            outcome.fails_with(&[]);
        }
    });
}
