//! The runtime as a plain user, and in a user namespace that somebody else has made.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use runb_tests::user;
use runb_tests::*;

/// The lines of a map, without their padding.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// A call of runb by the user in `dir`, with no `--root` and the environment of a user who is logged in.
fn by_user(t: &Test, dir: &std::path::Path, args: &[&str]) -> Outcome {
    let mut command = user::calls(t.runtime().path());
    command
        .args(args)
        .current_dir(dir)
        .env("XDG_RUNTIME_DIR", user::runtime_dir(t.dir()))
        .env("HOME", user::home(t.dir()));
    for name in ["RUNB_LOG", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    t.finish(command)
}

#[test]
fn a_user_runs_what_spec_rootless_writes_with_state_and_log_in_folders_of_its_own() {
    as_user(LIFECYCLE, |t| {
        t.runb_only("the folders are runb's");
        let bundle = t.bundle();
        by_user(t, bundle.dir(), &["spec", "--rootless"]).ok();
        let file = bundle.dir().join("config.json");
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] =
            json!(["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; touch /sys/x"]);
        fs::write(&file, spec.to_string()).expect("write");
        let outcome = by_user(t, bundle.dir(), &["run", "c1"]);
        assert_eq!(lines(&outcome.stdout), ["0", &format!("0 {} 1", user::ID), "deny"]);
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
        assert!(fs::metadata(format!("{}/runb", user::runtime_dir(t.dir()))).expect("the state's folder").is_dir());
        let log = format!("{}/.local/state/runb/runb.log", user::home(t.dir()));
        assert_eq!(fs::metadata(&log).expect("the invocation log").uid(), user::ID);
        let _ = fs::remove_dir_all(user::home(t.dir()));
    });
}

#[test]
fn a_users_container_is_listed_joined_killed_and_deleted() {
    as_user(LIFECYCLE, |t| {
        let container = t.bundle().idle().create();
        assert_eq!(container.status(), "created");
        container.start().ok();
        assert_eq!(container.status(), "running");
        assert_eq!(t.call(["exec", container.id(), "id", "-u"]).ok().stdout, "0\n");
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        container.delete().ok();
    });
}

#[test]
fn several_ranges_with_gaps_are_mapped_by_newuidmap_and_are_seen_inside_and_outside() {
    as_user(V2, |t| {
        t.needs_program("newuidmap");
        let map = json!([
            {"containerID": 0, "hostID": user::ID, "size": 1},
            {"containerID": 1, "hostID": user::SUBORDINATE.0, "size": 1000},
            {"containerID": 5000, "hostID": user::SUBORDINATE.0 + 2000, "size": 1},
        ]);
        let expected = [
            format!("0 {} 1", user::ID),
            format!("1 {} 1000", user::SUBORDINATE.0),
            format!("5000 {} 1", user::SUBORDINATE.0 + 2000),
        ];
        let bundle = t.bundle().writable().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let container =
            bundle.sh("umask 0; echo x >/share/f; exec sleep 86400").set("/process/user", json!({"uid": 7, "gid": 8}));
        let container = container.run_detached();
        for file in ["uid_map", "gid_map"] {
            let inside = t.call(["exec", container.id(), "cat", &format!("/proc/self/{file}")]).ok();
            assert_eq!(lines(&inside.stdout), expected);
            let outside = fs::read_to_string(format!("/proc/{}/{file}", container.pid())).expect("read");
            assert_eq!(lines(&outside), expected);
        }
        let status = fs::metadata(format!("/proc/{}", container.pid())).expect("stat");
        assert_eq!((status.uid(), status.gid()), (user::SUBORDINATE.0 + 6, user::SUBORDINATE.0 + 7));
        let ids = t.call(["exec", "--user", "5000:3", "--additional-gids", "4", container.id(), "id", "-G"]);
        assert_eq!(ids.ok().stdout, "3 4\n");
        container.delete_force().ok();
    });
}

#[test]
fn what_a_user_lacks_for_more_ids_is_named() {
    as_user(V2, |t| {
        t.runb_only("runc says newuidmap's words alone");
        t.needs_program("newuidmap");
        let map = json!([{"containerID": 0, "hostID": user::ID, "size": 1}, {"containerID": 1, "hostID": 900_000, "size": 5}]);
        let bundle = || t.bundle().set("/linux/uidMappings", map.clone());
        bundle().try_create().fails_with(&[
            "linux.uidMappings",
            "newuidmap",
            "/etc/subuid has no entry that gives runbtest 900000 to 900004",
        ]);
        let bundle = bundle();
        let command = bundle.write().command("create", &[]);
        let program = Command::new("sh").args(["-c", "command -v setpriv"]).output().expect("sh").stdout;
        let mut by_path = Command::new(String::from_utf8(program).expect("a path").trim());
        by_path.args(command.get_args()).env("PATH", "/nowhere");
        t.finish(by_path).fails_with(&["linux.uidMappings: takes newuidmap, which is not in the search path"]);
    });
}

#[test]
fn ids_and_groups_that_are_not_mapped_are_told_so() {
    as_user(V2, |t| {
        t.runb_only("the peers have other words");
        let map = json!([{"containerID": 0, "hostID": user::ID, "size": 1}]);
        let bundle = || t.bundle().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map.clone());
        let stranger = bundle().set("/process/user", json!({"uid": 5, "gid": 0}));
        stranger.try_create().fails_with(&["process.user", "is not mapped"]);
        let groups = json!({"uid": 0, "gid": 0, "additionalGids": [0]});
        bundle()
            .with_id(&t.name("g"))
            .set("/process/user", groups)
            .try_create()
            .fails_with(&["process.user.additionalGids", "denies it"]);
    });
}

#[test]
fn a_user_without_a_user_namespace_is_told_to_have_one() {
    as_user(V2, |t| {
        t.runb_only("the peers have other words, or make one");
        let bundle = t.bundle().without_namespace("user").spec(|spec| {
            for field in ["uidMappings", "gidMappings"] {
                spec["linux"].as_object_mut().expect("linux").remove(field);
            }
        });
        bundle.try_create().fails_with(&["linux.namespaces", "needs one", "spec --rootless"]);
    });
}

#[test]
fn without_rights_to_cgroups_a_container_has_none_and_one_that_asks_for_a_limit_or_a_path_is_refused() {
    as_user(ALL, |t| {
        t.bundle().sh("cat /proc/self/cgroup").run().ok();
        if t.is(&[Kind::Runb]) {
            // The host's procfs is bound then.
            let outcome = t.bundle().without_namespace("pid").args(["cat", "/proc/self/comm"]).run().ok();
            assert_eq!(outcome.stdout, "cat\n");
            assert!(outcome.log.contains("strongly discouraged"), "{outcome:?}");
        }
        let limited = t.bundle().set("/linux/resources/pids", json!({"limit": 20}));
        match t.mode() {
            // Not every controller is there on every machine.
            Mode::V2
                if !fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").expect("controllers").contains("pids") =>
            {
                limited.try_create().fails_with(&["pids"])
            }
            _ => limited.try_create().fails_with(&["when no permission is granted for cgroups", "permission denied"]),
        };
        let path = format!("/{}", t.name("asked"));
        let named = t.bundle().set("/linux/cgroupsPath", json!(path));
        named.try_create().fails_with(&["when no permission is granted for cgroups", "permission denied"]);
        t.runb_only("runc fails only where the caller is root then");
        let mut command = t.command(["--rootless=false", "run", "--bundle"]);
        let bundle = t.bundle().args(["true"]);
        bundle.write();
        command.arg(bundle.dir()).arg(bundle.id());
        t.finish(command).fails_with(&["permission denied"]);
    });
}

#[test]
fn there_may_be_no_user_namespaces_and_the_error_names_the_sysctl() {
    as_user(V2, |t| {
        t.runb_only("the peers say ENOSPC");
        const MOST: &str = "/proc/sys/user/max_user_namespaces";
        // Of this user namespace alone, which is made for the test.
        let bundle = t.bundle().args(["true"]);
        let mut command = Command::new("setpriv");
        let id = user::ID.to_string();
        let script = format!("echo 0 >{MOST} && exec \"$@\"");
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--",
            "unshare",
            "--user",
            "--map-root-user",
            "--",
        ]);
        command.args(["sh", "-c", &script, "sh"]).arg(t.runtime().path()).arg("--root").arg(t.root());
        command
            .arg("--log")
            .arg(t.log())
            .args(["--log-format", "json", "create", "--bundle"])
            .arg(bundle.write().dir());
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        command.arg(bundle.write().id());
        t.finish(command).fails_with(&[MOST, "user.max_user_namespaces", "is 0"]);
    });
}

#[test]
fn in_the_hosts_network_and_ipc_namespaces_the_hosts_sys_and_mqueue_are_bound_and_a_warning_tells() {
    as_user(V2, |t| {
        t.runb_only("runc fails here");
        let mqueue = Path::new("/dev/mqueue").exists();
        let bundle = t.bundle().without_namespace("network");
        let bundle = if mqueue { bundle.without_namespace("ipc") } else { bundle };
        let outcome = bundle.sh("ls /sys/class/net; touch /sys/kernel/x").run();
        assert!(outcome.stdout.starts_with("lo") || outcome.stdout.contains("\nlo\n"), "{outcome:?}");
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
        for (typ, path) in [("sysfs", "/sys"), ("mqueue", "/dev/mqueue")].into_iter().take(1 + usize::from(mqueue)) {
            let told =
                |line: &&str| line.contains(typ) && line.contains(&format!("the host's {path} is bound in its place"));
            assert!(outcome.log.lines().chain(outcome.stderr.lines()).any(|line| told(&line)), "{typ}: {outcome:?}");
        }
    });
}

#[test]
fn where_the_host_has_no_mqueue_that_could_be_bound_the_error_says_so() {
    as_user(V2, |t| {
        t.runb_only("runc fails with the kernel's EPERM");
        if Path::new("/dev/mqueue").exists() {
            t.skip("this machine has one");
        }
        let outcome = t.bundle().without_namespace("ipc").args(["true"]).run();
        outcome.fails_with(&[
            "(/dev/mqueue): bind source /dev/mqueue, the host's, as the container can mount no mqueue: no such file or directory",
        ]);
    });
}

#[test]
fn a_procfs_that_is_masked_is_named_with_the_flag_that_helps() {
    as_user(V2, |t| {
        t.runb_only("the peers say EPERM");
        let mounted = Command::new("mount").args(["--bind", "/dev/null", "/proc/version"]).status().expect("mount");
        assert!(mounted.success());
        let outcome = t.bundle().args(["true"]).run();
        let unmounted = Command::new("umount").arg("/proc/version").status().expect("umount");
        assert!(unmounted.success());
        outcome.fails_with(&["mounts[0] (/proc)", "/proc/version", "covered", "--security-opt unmask=ALL"]);
    });
}

#[test]
fn an_oom_score_below_the_own_takes_a_right_and_stays_as_it_is() {
    for_anyone(V2, |t| {
        t.runb_only("runc fails");
        if matches!(t.site(), Site::Private(_)) {
            t.skip("root has the right");
        }
        let outcome =
            t.bundle().set("/process/oomScoreAdj", json!(-500)).args(["cat", "/proc/self/oom_score_adj"]).run().ok();
        let own = fs::read_to_string("/proc/self/oom_score_adj").expect("read");
        assert_eq!(outcome.stdout, own);
    });
}

#[test]
fn tmpcopyup_copies_what_is_the_users_own_and_names_what_is_not() {
    for_anyone(V2, |t| {
        let fill = |root: &Path| {
            fs::create_dir_all(root.join("data/sub")).expect("make directories");
            fs::write(root.join("data/sub/file"), "content\n").expect("write");
            if matches!(t.site(), Site::User(_)) {
                user::own(&root.join("data"));
            }
            for (path, mode) in [("data", 0o755), ("data/sub", 0o2755)] {
                fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).expect("chmod");
            }
        };
        let mount = json!({"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]});
        let bundle = t.bundle().rootfs_with(fill).mount(mount);
        let script = "cat /data/sub/file; stat -c '%a %u:%g' /data /data/sub; : >/data/new; stat -fc %T /data";
        let bundle = bundle.sh(script);
        assert_eq!(bundle.run().ok().stdout, "content\n755 0:0\n2755 0:0\ntmpfs\n");
        if t.is(&[Kind::Runb]) && matches!(t.site(), Site::User(_)) {
            let bundle = bundle.with_id(&t.name("o")).rootfs_with(|root| {
                std::os::unix::fs::chown(root.join("data/sub/file"), Some(0), Some(0)).expect("chown");
            });
            bundle.run().fails_with(&["(/data): tmpcopyup: copy /data/sub/file", "(EPERM)"]);
        }
    });
}

#[test]
fn devices_are_the_hosts_where_none_can_be_made() {
    for_anyone(V2, |t| {
        let outcome =
            t.bundle().sh("echo x >/dev/null && head -c 4 /dev/zero | wc -c; stat -c %t:%T /dev/full").run().ok();
        assert_eq!(outcome.stdout, "4\n1:7\n");
    });
}
