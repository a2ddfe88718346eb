//! An engine: Debian's Podman, with storage of its own, where systemd makes the cgroups.

use std::process::Command;

use runb_tests::*;

/// Podman as root, with the runtime under test.
struct Podman<'t> {
    test: &'t Test,
}

impl<'t> Podman<'t> {
    /// Skips the test where there is none.
    fn of(test: &'t Test) -> Self {
        test.needs_program("podman");
        test.needs_program("conmon");
        Podman { test }
    }

    /// A copy that may be changed: Podman makes files in it.
    fn rootfs(&self) -> String {
        let (bundle, copy) = (self.test.bundle(), self.test.dir().join("rootfs"));
        let copied = Command::new("cp").arg("-a").arg(bundle.write().rootfs()).arg(&copy).status().expect("start cp");
        assert!(copied.success(), "cp: {copied}");
        copy.display().to_string()
    }

    fn call(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new("podman");
        for (flag, dir) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(flag).arg(self.test.dir().join(dir));
        }
        command.args(["--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "systemd"]);
        command.arg("--runtime").arg(self.test.runtime().path()).args(args);
        self.test.finish(command)
    }
}

#[test]
fn podman_runs_updates_and_removes_containers_whose_cgroups_systemd_makes() {
    under_systemd(|t| {
        let podman = Podman::of(t);
        let rootfs = podman.rootfs();
        let name = t.name("p");
        let flags =
            ["run", "--detach", "--name", &name, "--network", "none", "--cgroups", "enabled", "--memory", "64m"];
        let id =
            podman.call(&[&flags[..], &["--pids-limit", "33", "--rootfs", &rootfs, "sleep", "86400"]].concat()).ok();
        let unit = format!("libpod-{}.scope", id.stdout.trim());
        let limit = if t.mode() == Mode::V2 { "MemoryMax" } else { "MemoryLimit" };
        for (name, value) in
            [("ActiveState", "active"), ("Slice", "machine.slice"), (limit, "67108864"), ("TasksMax", "33")]
        {
            assert_eq!(systemd::property(&unit, name), value, "{name}");
        }
        let inside = podman.call(&["exec", &name, "sh", "-c", "echo here"]).ok();
        assert_eq!(inside.stdout, "here\n");
        podman.call(&["pause", &name]).ok();
        podman.call(&["unpause", &name]).ok();
        podman.call(&["update", "--memory", "96m", &name]).ok();
        assert_eq!(systemd::property(&unit, limit), "100663296");
        podman.call(&["stop", "--time", "0", &name]).ok();
        podman.call(&["rm", &name]).ok();
        assert_eq!(systemd::units(&unit), [""; 0]);
        let script = "cat /proc/self/cgroup; exit 6";
        let flags = ["run", "--rm", "--network", "none", "--cgroupns", "host", "--rootfs", &rootfs, "sh", "-c", script];
        let outcome = podman.call(&flags);
        assert_eq!(outcome.code, 6, "{outcome:?}");
        assert!(outcome.stdout.contains("/machine.slice/libpod-"), "{outcome:?}");
    });
}
