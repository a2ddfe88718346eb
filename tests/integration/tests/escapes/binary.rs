//! The programs of the host: CVE-2019-5736, and CVE-2016-9962 as far as it needs a process that enters.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use runb_tests::*;

use super::canary::Canary;
use super::exchange::rounds;

#[test]
fn a_command_that_is_the_runtime_itself_runs_nothing_of_it() {
    in_modes(ALL, |t| {
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
pub fn privileged(bundle: Bundle<'_>) -> Bundle<'_> {
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

/// A container whose workload attacks whoever enters its pid namespace.
pub struct Besieger<'t> {
    watcher: Container<'t>,
    pub pid: i32,
}

impl<'t> Besieger<'t> {
    /// It looks for `mark`, a path of the host, wherever it can.
    pub fn of(t: &'t Test, mark: &Path, arm: impl Fn(Bundle<'t>) -> Bundle<'t>) -> Self {
        let bundle = arm(t.bundle().with_id(&t.name("w")));
        fs::copy(env!("CARGO_BIN_EXE_attacker"), bundle.share_dir().join("attacker")).expect("copy the attacker");
        let mark = mark.display().to_string();
        let watcher = bundle.args(["/share/attacker", "watch", "/share/stop", &mark]).run_detached();
        let pid = watcher.pid();
        Besieger { watcher, pid }
    }

    /// Ends the attack. What the attacker says of it.
    pub fn end(self) -> String {
        let Besieger { watcher, pid } = self;
        fs::write(watcher.bundle().share_dir().join("stop"), "").expect("write");
        assert!(wait::process_end(pid, wait::deadline()), "the attacker does not end");
        watcher.reap(pid);
        let said = watcher.stdout();
        watcher.delete().ok();
        assert!(said.contains("looked at") && !said.contains("looked at 0 processes"), "{said}");
        said
    }
}

/// Containers are made that join the attacker's pid namespace.
fn joined(t: &Test, arm: impl Fn(Bundle<'_>) -> Bundle<'_>) {
    let canary = Canary::new(t);
    let besieger = Besieger::of(t, &canary.file(), arm);
    for _ in rounds(t) {
        let bundle = t.bundle().with_id(&t.name("v")).join_namespace("pid", &format!("/proc/{}/ns/pid", besieger.pid));
        let container = bundle.idle().create();
        let init = container.pid();
        container.start().ok();
        container.kill(&["9"]).ok();
        // The first process of a pid namespace cannot end before all others are reaped.
        container.reap(init);
        container.delete().ok();
    }
    let said = besieger.end();
    assert!(!said.contains("escaped"), "{said}");
    canary.is_unharmed("the watch");
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_container_that_others_join() {
    in_modes(ALL, |t| joined(t, |bundle| bundle));
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_privileged_container_that_others_join() {
    in_modes(ALL, |t| {
        t.runb_only("the peers enter with the host's root in sight");
        joined(t, privileged);
    });
}

/// Processes are executed in the attacker's container.
fn executed(t: &Test, arm: impl Fn(Bundle<'_>) -> Bundle<'_>) {
    let canary = Canary::new(t);
    let besieger = Besieger::of(t, &canary.file(), arm);
    for _ in rounds(t) {
        t.call(["exec", besieger.watcher.id(), "true"]).ok();
    }
    let said = besieger.end();
    assert!(!said.contains("escaped"), "{said}");
    canary.is_unharmed("the watch");
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_container_that_processes_are_executed_in() {
    in_modes(ALL, |t| executed(t, |bundle| bundle));
}

#[test]
fn the_runtimes_programs_cannot_be_written_from_a_privileged_container_that_processes_are_executed_in() {
    in_modes(ALL, |t| {
        t.runb_only("the peers enter with the host's rights");
        executed(t, privileged);
    });
}

/// What nsenter(1) does is what the runtime must not do.
#[test]
fn who_enters_a_pid_namespace_with_the_hosts_root_is_found_by_the_same_watch() {
    in_modes(V2, |t| {
        t.needs_program("nsenter");
        let canary = Canary::new(t);
        let besieger = Besieger::of(t, &canary.file(), privileged);
        let pid = besieger.pid;
        let (input, held) = std::io::pipe().expect("a pipe");
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--pid", "sh", "-c", "read end"]).stdin(input);
        let mut careless = command.spawn().expect("start nsenter");
        // A pipe that it reads from keeps it there.
        let escaped = || besieger.watcher.stdout().contains("escaped: ");
        wait::change_in(t.dir(), "the attacker finds the host's root", escaped);
        drop((held, command));
        careless.wait().expect("wait");
        besieger.end();
        canary.is_unharmed("a look");
    });
}
