//! linux.memoryPolicy: every mode and flag as the kernel shows it, and who has the policy.

use runb_tests::*;

/// The policy of the process that prints it (numa(7), "/proc/pid/numa_maps").
const SHOW: &str = "head -n1 /proc/self/numa_maps | cut -d' ' -f2";

fn with_policy(t: &Test, policy: Value) -> Bundle<'_> {
    t.runb_only("Debian's peers do not know linux.memoryPolicy");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        t.skip("a kernel without NUMA");
    }
    t.bundle().set("/linux/memoryPolicy", policy)
}

#[track_caller]
fn shows(bundle: Bundle<'_>, expected: &str) {
    let outcome = bundle.sh(SHOW).run();
    assert_eq!((outcome.code, outcome.stdout.trim_end()), (0, expected), "{outcome:?}");
}

#[test]
fn each_mode_is_set_with_its_nodes() {
    in_modes(V2, |t| {
        for (policy, expected) in [
            (json!({"mode": "MPOL_DEFAULT"}), "default"),
            (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
            (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-0", "flags": []}), "interleave:0"),
            (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
            (json!({"mode": "MPOL_PREFERRED"}), "local"),
            (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}), "prefer"),
            (json!({"mode": "MPOL_LOCAL", "nodes": ""}), "local"),
        ] {
            shows(with_policy(t, policy), expected);
        }
    });
}

#[test]
fn weighted_interleave_is_set_or_the_kernel_is_said_to_lack_it() {
    in_modes(V2, |t| {
        let outcome =
            with_policy(t, json!({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"})).args(["sh", "-c", SHOW]).run();
        if outcome.code == 0 {
            assert_eq!(outcome.stdout.trim_end(), "weighted");
        } else {
            outcome.fails_with(&["linux.memoryPolicy: this kernel does not have the mode", "MPOL_WEIGHTED_INTERLEAVE"]);
        }
    });
}

#[test]
fn each_flag_is_set_beside_the_mode() {
    in_modes(V2, |t| {
        for (flags, expected) in [
            (json!(["MPOL_F_STATIC_NODES"]), "bind=static:0"),
            (json!(["MPOL_F_RELATIVE_NODES"]), "bind=relative:0"),
            (json!(["MPOL_F_NUMA_BALANCING"]), "bind=balancing:0"),
            (json!(["MPOL_F_NUMA_BALANCING", "MPOL_F_STATIC_NODES"]), "bind=static|balancing:0"),
        ] {
            let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": flags});
            let outcome = with_policy(t, policy).sh(SHOW).run();
            // Kernels put the flags in an order and between signs of their own.
            let same = |text: &str| {
                let mut words: Vec<_> = text.trim_end().split(['=', '|', '+', ':']).map(str::to_owned).collect();
                words.sort();
                words
            };
            assert_eq!(same(&outcome.stdout), same(expected), "{outcome:?}");
        }
    });
}

#[test]
fn an_exec_and_a_start_container_hook_have_the_containers_policy() {
    in_modes(LIFECYCLE, |t| {
        let policy = json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]});
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("{SHOW} >/share/hook")]});
        let bundle = with_policy(t, policy).hook("startContainer", hook);
        let share = bundle.share_dir();
        let container = bundle.idle().create();
        container.start().ok();
        let outcome = t.call(["exec", container.id(), "sh", "-c", SHOW]).ok();
        assert_eq!(outcome.stdout.trim_end(), "prefer=relative:0");
        assert_eq!(std::fs::read_to_string(share.join("hook")).expect("the hook ran").trim_end(), "prefer=relative:0");
        container.delete_force().ok();
    });
}

#[test]
fn a_process_that_comes_into_the_pid_namespace_of_others_has_the_policy() {
    in_modes(V2, |t| {
        let holder = with_policy(t, json!({"mode": "MPOL_DEFAULT"})).idle().create();
        let path = format!("/proc/{}/ns/pid", holder.pid());
        let bundle = with_policy(t, json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"})).spec(|spec| {
            let list = spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
            list.iter_mut().find(|entry| entry["type"] == "pid").expect("a pid namespace")["path"] = json!(path);
        });
        shows(bundle, "interleave:0");
        holder.delete_force().ok();
    });
}

#[test]
fn the_nodes_are_those_of_the_cgroups_cpuset() {
    in_modes(&[Mode::V1, Mode::V2], |t| {
        let policy = json!({"mode": "MPOL_BIND", "nodes": "0"});
        let bundle = with_policy(t, policy).set("/linux/resources/cpu", json!({"mems": "0"}));
        let outcome = bundle.sh(SHOW).run();
        if outcome.code != 0 && outcome.stderr.contains("cpuset") {
            t.skip("no cpuset controller");
        }
        assert_eq!(outcome.stdout.trim_end(), "bind:0", "{outcome:?}");
    });
}

#[test]
fn what_the_kernel_does_not_take_is_refused_with_its_place_and_its_reason() {
    in_modes(V2, |t| {
        let refused = |policy: Value, texts: &[&str]| {
            with_policy(t, policy).try_create().fails_with(texts);
        };
        // No node of the list is there.
        refused(
            json!({"mode": "MPOL_BIND", "nodes": "1023"}),
            &["linux.memoryPolicy: this kernel", "set_mempolicy MPOL_BIND nodes 1023", "EINVAL"],
        );
        refused(
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}),
            &["linux.memoryPolicy: ", "set_mempolicy MPOL_INTERLEAVE|MPOL_F_NUMA_BALANCING nodes 0", "EINVAL"],
        );
        refused(json!({}), &["linux.memoryPolicy: invalid memory policy mode", "missing field `mode`"]);
        refused(json!({"mode": "BIND", "nodes": "0"}), &["linux.memoryPolicy.mode: invalid memory policy mode"]);
        let flags = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "bad"]});
        refused(flags, &["linux.memoryPolicy.flags[1]: invalid memory policy flag"]);
        refused(json!({"mode": "MPOL_BIND"}), &["linux.memoryPolicy.nodes: memory policy mode requires at least one"]);
    });
}
