//! Who is in a pid namespace that a container joins, and may look into any process there: CVE-2016-9962 to its end. The
//! launch shows it no file of the host, whatever makes it longer, and no right that the container will not have.

use std::fs;
use std::path::Path;

use runb_tests::*;

use super::binary::{Besieger, privileged};
use super::canary::Canary;
use super::exchange::rounds;

/// This kernel, and the last on which a procfs is always that of who makes it.
const KERNELS: [Option<&str>; 2] = [None, Some("6.16")];

/// Makes containers in the neighbour's pid namespace, while it looks for `mark`. What it says.
fn looked_at(t: &Test, mark: &Path, kernel: Option<&str>, arm: impl Fn(Bundle<'_>) -> Bundle<'_>) -> String {
    let besieger = Besieger::of(t, mark, |bundle| privileged(bundle.with_id(&t.name("n"))));
    for _ in rounds(t) {
        let bundle = t.bundle().with_id(&t.name("v")).join_namespace("pid", &format!("/proc/{}/ns/pid", besieger.pid));
        let bundle = arm(bundle).idle();
        bundle.write();
        let create = ["create", "--bundle", bundle.dir().to_str().expect("a path"), bundle.id()];
        let command = match kernel {
            None => t.command(create),
            Some(kernel) => t.wrapped(&[env!("CARGO_BIN_EXE_older_kernel"), kernel], create),
        };
        let created = t.finish(command).ok();
        let container = bundle.container(created);
        let init = container.pid();
        container.start().ok();
        container.kill(&["9"]).ok();
        // The first process of a pid namespace cannot end before all others are reaped.
        container.reap(init);
        container.delete().ok();
    }
    besieger.end()
}

/// Hooks of the host that take their time.
fn with_slow_hooks(bundle: Bundle<'_>) -> Bundle<'_> {
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done";
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    bundle.hook("createRuntime", hook.clone()).hook("createContainer", hook)
}

#[test]
fn a_neighbour_with_all_rights_sees_no_root_of_the_host_while_hooks_run() {
    in_modes(V2, |t| {
        t.runb_only("the peers enter with the host's root in sight");
        let canary = Canary::new(t);
        for kernel in KERNELS {
            let said = looked_at(t, &canary.file(), kernel, with_slow_hooks);
            assert!(!said.contains("escaped"), "{kernel:?}: {said}");
        }
        canary.is_unharmed("the watch");
    });
}

#[test]
fn a_neighbour_with_all_rights_reaches_no_bind_source_through_the_descriptors_of_an_init() {
    in_modes(V2, |t| {
        t.runb_only("the peers enter with the host's root in sight");
        let source = t.dir().join("bound");
        fs::create_dir_all(source.join("below")).expect("make directories");
        fs::write(source.join("a-file-of-nobody-else"), "").expect("write");
        let mark = Path::new("/a-file-of-nobody-else");
        // Many, so that init has them for a while.
        let mount =
            |i| json!({"destination": format!("/share/{i}"), "type": "bind", "source": source, "options": ["bind"]});
        for kernel in KERNELS {
            let said = looked_at(t, mark, kernel, |bundle| {
                (0..40).map(mount).fold(with_slow_hooks(bundle), |bundle, mount| bundle.mount(mount))
            });
            assert!(!said.contains("escaped"), "{kernel:?}: {said}");
        }
    });
}

#[test]
fn a_neighbour_with_all_rights_finds_no_right_that_the_container_will_not_have() {
    in_modes(V2, |t| {
        t.runb_only("the peers enter with the runtime's rights");
        for no_new_privileges in [true, false] {
            let watcher = privileged(t.bundle().with_id(&t.name("n")));
            let share = watcher.share_dir();
            fs::copy(env!("CARGO_BIN_EXE_watcher"), share.join("watcher")).expect("copy the watcher");
            let watcher = watcher.args(["/share/watcher"]).run_detached();
            let pid = watcher.pid();
            for _ in 0..wait::tries(20) {
                let bundle = t.bundle().with_id(&t.name("v")).join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
                let bundle = with_slow_hooks(bundle).idle().spec(|spec| {
                    spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
                    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                        {"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]});
                });
                let container = bundle.create();
                let init = container.pid();
                container.start().ok();
                container.kill(&["9"]).ok();
                container.reap(init);
                container.delete().ok();
            }
            fs::write(share.join("stop"), "").expect("write");
            watcher.reap(pid);
            let said = watcher.stdout();
            let rights: Vec<&str> = said.lines().filter(|line| line.starts_with("CapEff:")).collect();
            // CAP_AUDIT_WRITE, CAP_KILL, CAP_NET_BIND_SERVICE.
            assert_eq!(rights, ["CapEff:\t0000000020000420"], "{no_new_privileges}: {said}");
            watcher.delete().ok();
        }
    });
}
