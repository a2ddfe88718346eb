//! The programs of the host: CVE-2019-5736, and CVE-2016-9962 as far as it needs a process that enters.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use runb_tests::*;

use super::canary::Canary;

#[test]
fn a_command_that_is_the_runtime_itself_runs_nothing_of_it() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let prepare = |root: &Path| {
            symlink("/proc/self/exe", root.join("link")).expect("a link");
            fs::write(root.join("script"), "#!/proc/self/exe\n").expect("write");
            fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).expect("chmod");
        };
        for program in ["/proc/self/exe", "/link", "/script"] {
            let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(prepare);
            let outcome = bundle.args([program, "--version"]).run();
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{program}: {outcome:?}");
            canary.is_unharmed(program);
        }
        t.bundle().args(["/bin/true"]).run().ok();
    });
}

/// All capabilities, no masks, all devices.
fn privileged(bundle: Bundle<'_>) -> Bundle<'_> {
    let numbers = fs::read_to_string("/proc/self/status").expect("status");
    let held = numbers.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let held = u64::from_str_radix(held.trim(), 16).expect("a mask");
    let names = [
        (21, "CAP_SYS_ADMIN"),
        (19, "CAP_SYS_PTRACE"),
        (1, "CAP_DAC_OVERRIDE"),
        (2, "CAP_DAC_READ_SEARCH"),
        (3, "CAP_FOWNER"),
    ];
    let names: Vec<_> = names.iter().filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, name)| *name).collect();
    bundle.spec(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(names);
        }
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    })
}

/// A container whose workload attacks whoever enters its pid namespace, while `rounds` containers are made that join it.
fn besieged(t: &Test, canary: &Canary, arm: impl Fn(Bundle<'_>) -> Bundle<'_>, rounds: u32) -> String {
    let bundle = arm(t.bundle().with_id(&t.name("w")));
    let (share, attacker) = (bundle.share_dir(), bundle.share_dir().join("attacker"));
    fs::copy(env!("CARGO_BIN_EXE_attacker"), attacker).expect("copy the attacker");
    let mark = canary.file().display().to_string();
    let watcher = bundle.args(["/share/attacker", "watch", "/share/stop", &mark]).run_detached();
    let pid = watcher.pid();
    for _ in 0..rounds {
        let bundle = t.bundle().with_id(&t.name("v")).join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
        let container = bundle.idle().create();
        let init = container.pid();
        container.start().ok();
        container.kill(&["9"]).ok();
        // The first process of a pid namespace cannot end before all others are reaped.
        container.reap(init);
        container.delete().ok();
    }
    fs::write(share.join("stop"), "").expect("write");
    assert!(wait::process_end(pid, Instant::now() + wait::DEADLINE), "the attacker does not end");
    watcher.reap(pid);
    let said = watcher.stdout();
    watcher.delete().ok();
    said
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_container_that_others_join() {
    in_modes(V2, |t| {
        let canary = Canary::new(t);
        let said = besieged(t, &canary, |bundle| bundle, 100);
        assert!(said.contains("looked at") && !said.contains("escaped"), "{said}");
        assert!(!said.contains("looked at 0 processes"), "{said}");
        canary.is_unharmed("the watch");
    });
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_privileged_container_that_others_join() {
    in_modes(V2, |t| {
        t.runb_only("the peers enter with the host's root in sight");
        let canary = Canary::new(t);
        let said = besieged(t, &canary, privileged, 100);
        assert!(said.contains("looked at") && !said.contains("escaped"), "{said}");
        assert!(!said.contains("looked at 0 processes"), "{said}");
        canary.is_unharmed("the watch");
    });
}
