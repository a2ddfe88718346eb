//! A user's systemd.

use std::process::Command;

use super::*;

/// A user of the machine that has a systemd of its own, and what is called as that user.
struct User {
    ids: (u32, u32),
}

impl User {
    /// The machine's; skips the test where there is none.
    fn of_the_machine(t: &Test) -> User {
        let passwd = fs::read_to_string("/etc/passwd").expect("passwd");
        let mut users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':').skip(2).map(str::parse::<u32>);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        });
        match users.find(|(uid, _)| Path::new(&format!("/run/user/{uid}/systemd/private")).exists()) {
            Some(ids) => User { ids },
            None => t.skip("no user has a systemd of its own here"),
        }
    }

    /// A call as the user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        let (uid, gid) = (self.ids.0.to_string(), self.ids.1.to_string());
        command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups", program]);
        command
            .env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .current_dir("/");
        command
    }

    /// A call of the runtime as root of a user namespace of the user's with subordinate ids, as rootless engines do.
    fn runtime(&self, t: &Test, args: &[&str]) -> Outcome {
        let mut command = self.command("unshare");
        command.args(["--user", "--map-root-user", "--map-auto", "--mount", "--propagation", "private", "--"]);
        command.arg(t.runtime().path()).arg("--root").arg(t.root()).arg("--systemd-cgroup").args(args);
        t.finish(command)
    }

    /// A call in the user namespace of `pid` and from a scope of the user's systemd, as Podman's are: so what is above both cgroups
    /// is the user's.
    fn runtime_beside(&self, t: &Test, pid: i32, args: &[&str]) -> Outcome {
        let mut command = self.command("systemd-run");
        command.args(["--user", "--scope", "--quiet", "--collect", "nsenter", "--user", "--target", &pid.to_string()]);
        command.arg(t.runtime().path()).arg("--root").arg(t.root()).args(args);
        t.finish(command)
    }

    /// A call in the user namespace of `pid` and from a cgroup that is not below the user's systemd, as out of a login session: so
    /// what is above both is root's.
    fn runtime_elsewhere(&self, t: &Test, pid: i32, args: &[&str]) -> Outcome {
        let mut command = self.command("nsenter");
        command.args(["--user", "--target", &pid.to_string()]);
        command.arg(t.runtime().path()).arg("--root").arg(t.root()).args(args);
        t.finish(command)
    }

    fn property(&self, unit: &str, name: &str) -> String {
        let mut command = self.command("systemctl");
        let output = command.args(["--user", "show", "--property", name, "--value", unit]).output().expect("systemctl");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

#[test]
fn a_users_systemd_makes_the_cgroups_of_a_users_container() {
    under_systemd(|t| {
        if t.mode() != Mode::V2 {
            t.skip("a user's systemd makes no cgroups of version 1");
        }
        let user = User::of_the_machine(t);
        fs::create_dir(t.root()).expect("make a directory");
        std::os::unix::fs::chown(t.root(), Some(user.ids.0), Some(user.ids.1)).expect("chown");
        let of_hook = t.root().join("of-hook");
        // What an unprivileged user may mount, and no device node.
        let bundle = with_limits(t.bundle().idle()).spec(|spec| {
            let bind = |path: &str| json!({"destination": path, "type": "bind", "source": path, "options": ["rbind"]});
            spec["mounts"] = json!([bind("/dev"), bind("/proc")]);
            spec["linux"]["cgroupsPath"] = json!(":u:c");
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
            spec["process"]["capabilities"] = json!({});
            // In the container's cgroup, too.
            let script = format!("cat /proc/self/cgroup >{}", of_hook.display());
            spec["hooks"] = json!({"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
        });
        bundle.write();
        let dir = bundle.dir().display().to_string();
        user.runtime(t, &["create", "--bundle", &dir, bundle.id()]).ok();
        let pid = user.runtime(t, &["state", bundle.id()]).ok().json()["pid"].as_i64().expect("a pid") as i32;
        let cgroup = cgroup_dir(t, pid, "");
        assert!(cgroup.ends_with(format!("user@{}.service/user.slice/u-c.scope", user.ids.0)), "{cgroup:?}");
        let seen = fs::read_to_string(&of_hook).expect("what the hook has seen");
        assert!(seen.contains("0::/\n") || seen.contains("/u-c.scope\n"), "{seen:?}");
        fs::remove_file(&of_hook).expect("remove");
        for (file, value) in
            [("memory.max", "67108864"), ("pids.max", "33"), ("cpu.max", "16000 100000"), ("cpuset.cpus", "0")]
        {
            assert_eq!(fs::read_to_string(cgroup.join(file)).expect(file).trim(), value, "{file}");
        }
        for (name, value) in
            [("MemoryMax", "67108864"), ("TasksMax", "33"), ("CPUQuotaPerSecUSec", "160ms"), ("AllowedCPUs", "0")]
        {
            assert_eq!(user.property("u-c.scope", name), value, "{name}");
        }
        user.runtime(t, &["start", bundle.id()]).ok();
        let inside = user.runtime_beside(t, pid, &["exec", bundle.id(), "cat", "/proc/self/cgroup"]).ok();
        assert!(inside.stdout.contains("0::/\n"), "{inside:?}");
        // systemd moves it in; a cgroup below it that is not there is named.
        let inside = user.runtime_elsewhere(t, pid, &["exec", bundle.id(), "cat", "/proc/self/cgroup"]).ok();
        assert!(inside.stdout.contains("0::/\n"), "{inside:?}");
        let missing = ["exec", "--cgroup", "nobodys", bundle.id(), "true"];
        let outcome = user.runtime_elsewhere(t, pid, &missing);
        assert!(outcome.code == 255 && outcome.stderr.contains("u-c.scope/nobodys: no such file"), "{outcome:?}");
        user.runtime(t, &["update", "--pids-limit", "44", bundle.id()]).ok();
        assert_eq!(fs::read_to_string(cgroup.join("pids.max")).expect("pids.max").trim(), "44");
        assert_eq!(user.property("u-c.scope", "TasksMax"), "44");
        user.runtime(t, &["delete", "--force", bundle.id()]).ok();
        assert_eq!(user.property("u-c.scope", "ActiveState"), "inactive");
        assert!(!cgroup.exists());
    });
}
