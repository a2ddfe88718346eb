//! What containers are on older kernels, as far as a filter of system calls can pretend one: what came later is planned
//! otherwise, or refused by name. A cgroup without cgroup.kill and the like are beyond it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use runb_tests::*;

/// The first kernel that is supported, the last without mount_setattr(2), and one of a distribution.
const KERNELS: [&str; 3] = ["5.10", "5.11", "6.1"];

fn older(t: &Test, kernel: &str, args: &[&str]) -> Command {
    t.wrapped(&[env!("CARGO_BIN_EXE_older_kernel"), kernel], args)
}

/// `run` of `bundle` on `kernel`.
fn run(t: &Test, kernel: &str, bundle: &Bundle<'_>, flags: &[&str]) -> Outcome {
    t.runb_only("the peers' floors are other kernels");
    bundle.write();
    let mut command = older(t, kernel, &["run", "--bundle"]);
    command.arg(bundle.dir()).args(flags).arg(bundle.id());
    t.finish(command)
}

/// What is done to mounts, in all the ways that a configuration has: what the workload prints is the same everywhere.
fn of_every_kind<'t>(t: &'t Test, bundle: Bundle<'t>) -> Bundle<'t> {
    let source = t.dir().join(t.name("source"));
    fs::create_dir(&source).expect("make a directory");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(source.join("file"), "of the host\n").expect("write");
    let mount = |place: &str, source: &Path, options: &[&str]| json!({"destination": place, "type": "bind", "source": source, "options": options});
    bundle
        .mount(mount("/tmp/ro", &source, &["bind", "ro", "noexec"]))
        .mount(mount("/tmp/rw", &source, &["rbind", "rw", "nosuid"]))
        .mount(mount("/tmp/file", &source.join("file"), &["bind", "ro", "noatime"]))
        .mount(mount("/tmp/again", &source, &["bind"]))
        .mount(json!({"destination": "/tmp/again", "options": ["bind", "remount", "ro"]}))
        .mount(json!({"destination": "/tmp/t", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "noexec", "size=64k"]}))
        .mount(json!({"destination": "/tmp/t/below", "type": "tmpfs", "source": "tmpfs", "options": ["rprivate"]}))
}

const SCRIPT: &str = "cat /tmp/file
for place in /tmp/ro/x /tmp/file /tmp/again/x /tmp/t/x /proc/sys/kernel/hostname /x; do
    (echo x >$place) 2>/dev/null && echo $place is writable
done
(echo x >/tmp/rw/x && echo x >/tmp/t/below/x) || echo not writable
cat /proc/kcore /proc/keys 2>/dev/null; ls /sys/firmware
grep -E ' /tmp/| / ' /proc/self/mountinfo | grep -o 'shared:' | head -n 1
awk '$5 ~ \"^/tmp/(ro|rw|file|t)$\" {print $5, $6}' /proc/self/mountinfo";

const PRINTED: &str = "of the host
/tmp/ro ro,noexec,relatime
/tmp/rw rw,nosuid,relatime
/tmp/file ro,noatime
/tmp/t ro,noexec,relatime
";

/// A user namespace keeps what the sources' mount is mounted with.
const PRINTED_LOCKED: &str = "of the host
/tmp/ro ro,nosuid,nodev,noexec,relatime
/tmp/rw rw,nosuid,nodev,relatime
/tmp/file ro,nosuid,nodev,relatime
/tmp/t ro,noexec,relatime
";

/// In a writable root filesystem destinations are made; it is read-only afterwards.
fn readonly_root(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.writable().set("/root/readonly", json!(true))
}

#[test]
fn mounts_masks_and_read_only_paths_are_what_they_are_on_a_new_kernel() {
    in_modes(LIFECYCLE, |t| {
        for kernel in KERNELS {
            let bundle = of_every_kind(t, readonly_root(t.bundle().with_id(&t.name("k")))).sh(SCRIPT);
            assert_eq!(run(t, kernel, &bundle, &[]).ok().stdout, PRINTED, "{kernel}");
            assert_eq!(bundle.run().ok().stdout, PRINTED, "this kernel");
        }
    });
}

#[test]
fn a_root_entered_without_pivot_and_one_with_hooks_are_the_same() {
    in_modes(LIFECYCLE, |t| {
        for kernel in KERNELS {
            let bundle = of_every_kind(t, readonly_root(t.bundle().with_id(&t.name("k")))).sh(SCRIPT);
            assert_eq!(run(t, kernel, &bundle, &["--no-pivot"]).ok().stdout, PRINTED, "{kernel}");
            let bundle = of_every_kind(t, readonly_root(t.bundle().with_id(&t.name("k")))).sh(SCRIPT);
            let bundle =
                bundle.hook("createContainer", json!({"path": "/bin/sh", "args": ["sh", "-c", "test -d /proc/1"]}));
            assert_eq!(run(t, kernel, &bundle, &[]).ok().stdout, PRINTED, "{kernel}");
        }
    });
}

#[test]
fn a_user_namespace_has_the_same_mounts() {
    in_modes(LIFECYCLE, |t| {
        for kernel in KERNELS {
            for more in [vec![], vec!["pid"]] {
                let mut bundle = of_every_kind(t, readonly_root(t.bundle().with_id(&t.name("u"))));
                fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
                let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                bundle = bundle.spec(|spec| {
                    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
                    spec["linux"]["uidMappings"] = map.clone();
                    spec["linux"]["gidMappings"] = map.clone();
                    // Access times are locked.
                    let mounts = spec["mounts"].as_array_mut().expect("mounts");
                    let file = mounts.iter_mut().find(|mount| mount["destination"] == "/tmp/file").expect("one");
                    file["options"] = json!(["bind", "ro"]);
                });
                for kind in more {
                    // procfs of the pid namespace of others is bound.
                    bundle = bundle.without_namespace(kind).spec(|spec| {
                        spec["mounts"][0] = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
                    });
                }
                assert_eq!(run(t, kernel, &bundle.sh(SCRIPT), &[]).ok().stdout, PRINTED_LOCKED, "{kernel}");
            }
        }
    });
}

#[test]
fn a_joined_pid_namespace_has_the_same_mounts() {
    in_modes(LIFECYCLE, |t| {
        for kernel in KERNELS {
            let other = t.bundle().with_id(&t.name("o")).idle().run_detached();
            let path = format!("/proc/{}/ns/pid", other.pid());
            let bundle = of_every_kind(t, readonly_root(t.bundle().with_id(&t.name("j")))).join_namespace("pid", &path);
            assert_eq!(run(t, kernel, &bundle.sh(SCRIPT), &[]).ok().stdout, PRINTED, "{kernel}");
            other.delete_force().ok();
        }
    });
}

#[test]
fn a_terminal_and_an_exec_work() {
    in_modes(LIFECYCLE, |t| {
        for kernel in KERNELS {
            let socket = ConsoleSocket::at(t.dir().join(t.name("s")));
            let bundle = t.bundle().with_id(&t.name("k")).set("/process/terminal", json!(true)).sh("read end");
            let created = run(t, kernel, &bundle, &["--detach", "--console-socket", socket.path()]).ok();
            let screen = socket.receive();
            let container = bundle.container(created);
            let outcome = t.finish(older(t, kernel, &["exec", container.id(), "cat", "/proc/1/comm"])).ok();
            assert_eq!(outcome.stdout, "sh\n");
            container.delete_force().ok();
            drop(screen);
        }
    });
}

#[test]
fn a_time_namespace_is_entered_without_an_execve() {
    in_modes(V2, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "time"}));
            spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
        });
        let bundle = bundle.sh("test $(cut -d. -f1 /proc/uptime) -gt 1000000000 && readlink /proc/self/ns/time");
        let lines = run(t, "6.1", &bundle, &[]).ok().stdout;
        let hosts = fs::read_link("/proc/self/ns/time").expect("a link");
        assert_ne!(lines.trim(), hosts.to_str().expect("text"));
    });
}

#[test]
fn what_an_older_kernel_cannot_do_is_refused_by_its_name() {
    in_modes(V2, |t| {
        let refused = |kernel: &str, mount: Value, texts: &[&str]| {
            let bundle = t.bundle().with_id(&t.name("r")).writable().mount(mount);
            run(t, kernel, &bundle, &[]).fails_with(texts);
        };
        let bind =
            |options: &[&str]| json!({"destination": "/tmp", "type": "bind", "source": "/tmp", "options": options});
        for kernel in ["5.10", "5.11"] {
            let setattr = "mount_setattr(2) of Linux 5.12";
            refused(kernel, bind(&["rbind", "rro"]), &["mounts[8].options (/tmp)", "\"rro\"", setattr]);
            refused(
                kernel,
                bind(&["remount", "bind", "rnosuid"]),
                &["mounts[8].options (/tmp)", "\"rnosuid\"", setattr],
            );
            let mut mapped = bind(&["bind"]);
            let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
            (mapped["uidMappings"], mapped["gidMappings"]) = (map.clone(), map);
            refused(kernel, mapped, &["mounts[8].uidMappings (/tmp)", setattr]);
        }
    });
}

#[test]
fn options_with_an_r_on_what_has_nothing_below_and_nosymfollow_need_no_newer_kernel() {
    in_modes(V2, |t| {
        let mount = |place: &str, kind: &str, options: &[&str]| json!({"destination": place, "type": kind, "source": "/tmp", "options": options});
        let bundle = t.bundle().writable().mount(mount("/m/a", "tmpfs", &["rro", "nosymfollow"])).mount(mount(
            "/m/b",
            "bind",
            &["bind", "rro", "rnosymfollow"],
        ));
        let bundle = bundle.sh("awk '$5 ~ \"^/m/\" {print $6}' /proc/self/mountinfo");
        for kernel in ["5.10", "5.11"] {
            let lines = run(t, kernel, &bundle, &[]).ok().stdout;
            let all = |line: &str| line.starts_with("ro") && line.contains("nosymfollow");
            assert!(lines.lines().count() == 2 && lines.lines().all(all), "{kernel}: {lines}");
        }
    });
}

#[test]
fn the_workload_sees_nothing_of_the_fall_back() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().args(["ls", "-l", "/proc/self/fd"]);
        let outcome = run(t, "5.10", &bundle, &[]).ok();
        // That of ls itself is gone when it is looked at.
        assert_eq!(outcome.lines().iter().filter(|line| line.contains(" -> ")).count(), 3, "{outcome:?}");
    });
}

#[test]
fn a_read_only_path_is_read_only_with_what_the_configuration_mounts_below_it() {
    in_modes(V2, |t| {
        let tmpfs = |place: &str| json!({"destination": place, "type": "tmpfs", "source": "tmpfs"});
        let bundle = t
            .bundle()
            .mount(tmpfs("/tmp"))
            .mount(tmpfs("/tmp/c/d"))
            .mount(tmpfs("/tmp/c"))
            .mount(tmpfs("/tmp/a"))
            .mount(tmpfs("/tmp/a/b"));
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/tmp/a", "/tmp/c", "/tmp/none"]));
        let bundle = bundle.sh(
            "for place in /tmp /tmp/a /tmp/a/b /tmp/c; do (echo x >$place/x) 2>/dev/null && echo $place; done; true",
        );
        for kernel in KERNELS {
            assert_eq!(run(t, kernel, &bundle, &[]).ok().stdout, "/tmp\n", "{kernel}");
        }
    });
}

#[test]
fn the_procfs_of_a_joined_mount_namespace_is_not_trusted() {
    in_modes(V2, |t| {
        // What is at /proc there has no descriptors, or would lead elsewhere.
        let script = "mount -t tmpfs none /proc && mkdir -p /proc/self/fd && echo ready >$1 && read end <$2";
        let [ready, end] = ["ready", "end"].map(|name| t.dir().join(name));
        let (mut line, _end) = (wait::Fifo::new(&ready), wait::Fifo::new(&end));
        let mut other = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .args([&ready, &end])
            .spawn()
            .expect("start unshare(1)");
        assert_eq!(line.line(), "ready");
        let path = format!("/proc/{}/ns/mnt", other.id());
        let bundle = of_every_kind(t, readonly_root(t.bundle())).join_namespace("mount", &path);
        let outcome = run(t, "5.10", &bundle.sh(SCRIPT), &[]);
        other.kill().expect("kill");
        other.wait().expect("wait");
        assert_eq!(outcome.ok().stdout, PRINTED);
    });
}

/// Before Linux 6.17 a procfs shows the pid namespace of who makes it.
#[test]
fn the_procfs_of_a_joined_pid_namespace_shows_who_is_there() {
    in_modes(LIFECYCLE, |t| {
        let first = t.bundle().with_id(&t.name("f")).idle().run_detached();
        let path = format!("/proc/{}/ns/pid", first.pid());
        let script = "tr '\\0' ' ' </proc/1/cmdline; test $$ -gt 1 && test -d /proc/$$ && readlink /proc/self/ns/pid; \
            awk '$5 == \"/proc\" {print $6}' /proc/self/mountinfo; echo >/dev/tty && ps -o sid,pid | grep -c \"^ *$$ *$$\"";
        let namespace = fs::read_link(&path).expect("readlink");
        let expected = format!("sleep 86400 {}\nro,nosuid,relatime\n\n1\n", namespace.display());
        let hook = json!({"path": "/bin/true"});
        for kernel in KERNELS.into_iter().chain(["6.16", "6.18"]) {
            for hooks in [false, true] {
                let bundle = t.bundle().with_id(&t.name("s")).join_namespace("pid", &path).sh(script).spec(|spec| {
                    spec["process"]["terminal"] = json!(true);
                    spec["mounts"][0]["options"] = json!(["nosuid", "ro"]);
                    if hooks {
                        spec["hooks"]["createContainer"] = json!([hook]);
                    }
                });
                let outcome = run(t, kernel, &bundle, &[]).ok();
                assert_eq!(outcome.stdout.replace('\r', ""), expected, "{kernel}, hooks: {hooks}");
            }
        }
        first.delete_force().ok();
    });
}

#[test]
fn a_pid_namespace_is_joined_with_the_user_namespace_that_owns_it() {
    in_modes(V2, |t| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        let first = t.bundle().with_id(&t.name("f")).idle().spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        });
        let first = first.run_detached();
        let path = |kind: &str| format!("/proc/{}/ns/{kind}", first.pid());
        for kernel in ["6.16", "6.18"] {
            let bundle = t.bundle().with_id(&t.name("s")).join_namespace("pid", &path("pid"));
            let bundle = bundle.join_namespace("user", &path("user"));
            let bundle = bundle.sh("tr '\\0' ' ' </proc/1/cmdline; cat /proc/self/uid_map");
            let outcome = run(t, kernel, &bundle, &[]).ok();
            let words: Vec<&str> = outcome.stdout.split_whitespace().collect();
            assert_eq!(words, ["sleep", "86400", "0", "100000", "65536"], "{kernel}");
        }
        first.delete_force().ok();
    });
}
