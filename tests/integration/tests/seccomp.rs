//! `linux.seccomp` as a workload meets it.

use runb_tests::*;

/// A profile that lets everything pass but what `rules` say.
fn allowing_all_but(bundle: Bundle<'_>, rules: Value) -> Bundle<'_> {
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
}

/// Makes a directory, and says whether it could, and what it is guarded by.
const MAKE: &str = "mkdir /tmp/d 2>&1; grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status";

fn with_tmp(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})).sh(MAKE)
}

/// `mkdir` is made by either call.
fn no_mkdir(action: Value) -> Value {
    let mut rule = json!({"names": ["mkdir", "mkdirat"]});
    rule.as_object_mut().expect("an object").extend(action.as_object().expect("an object").clone());
    json!([rule])
}

#[test]
fn a_call_that_is_forbidden_gets_the_errno_of_its_rule() {
    in_modes(LIFECYCLE, |t| {
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let outcome = allowing_all_but(with_tmp(t.bundle()), rules).run().ok();
        assert!(outcome.stdout.contains("No space left on device"), "{outcome:?}");
        assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome:?}");
    });
}

#[test]
fn a_filter_is_loaded_without_no_new_privs_and_leaves_no_capability_behind() {
    in_modes(LIFECYCLE, |t| {
        let bundle = with_tmp(t.bundle())
            .set("/process/noNewPrivileges", json!(false))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let outcome = allowing_all_but(bundle, rules).run().ok();
        for line in ["NoNewPrivs:\t0", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
            assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
        }
    });
}

#[test]
fn a_call_that_kills_ends_the_workload_with_sigsys() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh("exec mkdir /tmp/d");
        let outcome = allowing_all_but(bundle, no_mkdir(json!({"action": "SCMP_ACT_KILL_PROCESS"}))).run();
        assert_eq!(outcome.code, 128 + 31, "{outcome:?}");
    });
}

#[test]
fn a_name_that_nobody_knows_is_passed_over() {
    in_modes(LIFECYCLE, |t| {
        let rules = json!([{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
        allowing_all_but(t.bundle().sh("true"), rules).run().ok();
    });
}

#[test]
fn an_argument_decides_where_the_rule_says_so() {
    in_modes(LIFECYCLE, |t| {
        // kill -0 passes, any other signal is refused.
        let rules = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}]}]);
        let bundle = t.bundle().sh("kill -0 $$ && echo passes; kill -CONT $$ 2>&1 || echo refused");
        let outcome = allowing_all_but(bundle, rules).run().ok();
        assert!(outcome.stdout.contains("passes") && outcome.stdout.contains("refused"), "{outcome:?}");
    });
}

#[test]
fn the_filter_of_the_container_holds_for_exec() {
    in_modes(LIFECYCLE, |t| {
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let container = allowing_all_but(t.bundle().idle(), rules).run_detached();
        let outcome = container.call("exec", &["grep", "Seccomp:", "/proc/self/status"]).ok();
        assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome:?}");
        container.delete_force().ok();
    });
}
