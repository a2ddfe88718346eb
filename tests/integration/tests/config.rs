//! config.json as the workload sees it: everything that the default configuration has, and the fields beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use runb_tests::*;

/// What `script` prints inside.
#[track_caller]
fn prints(bundle: Bundle<'_>, script: &str, expected: &str) {
    let outcome = bundle.sh(script).run();
    assert_eq!((outcome.code, outcome.stdout.trim_end()), (0, expected), "{script}: {outcome:?}");
}

#[test]
fn each_namespace_of_the_list_is_new_and_no_other_is() {
    in_modes(LIFECYCLE, |t| {
        let container = t.bundle().without_namespace("ipc").idle().create();
        let pid = container.pid();
        let is_new = |name: &str| {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("readlink");
            link("self") != link(&pid.to_string())
        };
        for name in ["pid", "net", "uts", "mnt", "cgroup"] {
            assert!(is_new(name), "{name}");
        }
        for name in ["ipc", "user", "time"] {
            assert!(!is_new(name), "{name}");
        }
        container.delete_force().ok();
    });
}

#[test]
fn namespaces_are_joined_by_path() {
    in_modes(LIFECYCLE, |t| {
        let first = t.bundle().idle().run_detached();
        let pid = first.pid();
        let mut second = t.bundle().idle();
        for (kind, name) in [("pid", "pid"), ("network", "net"), ("uts", "uts"), ("ipc", "ipc")] {
            second = second.join_namespace(kind, &format!("/proc/{pid}/ns/{name}"));
        }
        // The hostname is the first one's already.
        let second = second.run_detached();
        let other = second.pid();
        for name in ["pid", "net", "uts", "ipc"] {
            let link = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("readlink");
            assert_eq!(link(pid), link(other), "{name}");
        }
        // Reaped before the first one ends: a pid namespace's first process waits for all others to be gone.
        second.kill(&["9"]).ok();
        second.reap(other);
        second.delete().ok();
        assert_eq!(first.status(), "running");
        first.delete_force().ok();
    });
}

#[test]
fn the_workload_is_the_first_process_of_its_pid_namespace() {
    in_modes(LIFECYCLE, |t| prints(t.bundle(), "echo $$; cd /proc; echo [0-9]*", "1\n1"));
}

#[test]
fn the_default_mounts_are_there_in_their_order() {
    in_modes(LIFECYCLE, |t| {
        let outcome = t.bundle().args(["cat", "/proc/self/mountinfo"]).run().ok();
        let mut fields = Vec::new();
        for line in outcome.lines() {
            let (left, right) = line.split_once(" - ").expect("a separator");
            let left: Vec<_> = left.split(' ').collect();
            fields.push((left[4].to_owned(), left[5].to_owned(), right.split(' ').next().expect("a type").to_owned()));
        }
        let find = |path: &str| {
            let found = fields.iter().find(|(place, ..)| place == path);
            found.unwrap_or_else(|| panic!("{path}: {fields:?}")).clone()
        };
        for (path, kind, options) in [
            ("/proc", "proc", vec!["rw"]),
            ("/dev", "tmpfs", vec!["rw", "nosuid"]),
            ("/dev/pts", "devpts", vec!["nosuid", "noexec"]),
            ("/dev/shm", "tmpfs", vec!["nosuid", "nodev", "noexec"]),
            ("/dev/mqueue", "mqueue", vec!["nosuid", "nodev", "noexec"]),
            ("/sys", "sysfs", vec!["ro", "nosuid", "nodev", "noexec"]),
        ] {
            let (_, have, fs_type) = find(path);
            assert_eq!(fs_type, kind, "{path}");
            for option in options {
                assert!(have.split(',').any(|one| one == option), "{path}: {option} not in {have}");
            }
        }
        assert!(find("/").1.starts_with("ro"), "{:?}", find("/"));
        assert_eq!(fields[0].0, "/");
    });
}

#[test]
fn nothing_of_the_hosts_mounts_is_seen() {
    in_modes(LIFECYCLE, |t| {
        let outcome = t.bundle().sh("cut -d' ' -f5 /proc/self/mountinfo").run().ok();
        let known = ["/", "/proc", "/dev", "/sys", "/share"];
        for line in outcome.lines() {
            let below =
                known.iter().any(|place| line == *place || *place != "/" && line.starts_with(&format!("{place}/")));
            assert!(below, "{line}: {outcome:?}");
        }
    });
}

#[test]
fn a_bind_mount_has_its_options() {
    in_modes(LIFECYCLE, |t| {
        let source = t.dir().join("source");
        fs::create_dir(&source).expect("make a directory");
        fs::write(source.join("file"), "content\n").expect("write");
        let mount =
            json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"]});
        prints(
            t.bundle().mount(mount),
            "cat /tmp/file; (: >/tmp/new) 2>/dev/null || echo read-only",
            "content\nread-only",
        );
        assert!(!source.join("new").exists());
    });
}

#[test]
fn a_file_is_bound_over_a_file() {
    in_modes(LIFECYCLE, |t| {
        let source = t.dir().join("passwd");
        fs::write(&source, "other\n").expect("write");
        let mount = json!({"destination": "/etc/passwd", "type": "bind", "source": source, "options": ["bind"]});
        prints(t.bundle().mount(mount), "cat /etc/passwd", "other");
    });
}

#[test]
fn mount_points_that_are_missing_are_made() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().writable();
        let rootfs = bundle.rootfs();
        let bundle = bundle.mount(json!({"destination": "/new/deep", "type": "tmpfs", "source": "tmpfs"}));
        let file = t.dir().join("file");
        fs::write(&file, "content\n").expect("write");
        let bundle =
            bundle.mount(json!({"destination": "/new2/file", "type": "bind", "source": file, "options": ["bind"]}));
        prints(bundle, "cat /new2/file; grep -c ' /new/deep ' /proc/self/mountinfo", "content\n1");
        assert!(rootfs.join("new/deep").is_dir() && rootfs.join("new2/file").is_file());
    });
}

#[test]
fn a_later_mount_covers_an_earlier_one() {
    in_modes(LIFECYCLE, |t| {
        let tmpfs = |size: &str| json!({"destination": "/tmp", "type": "tmpfs", "source": "t", "options": [size]});
        let bundle = t.bundle().mount(tmpfs("size=16k")).mount(tmpfs("size=32k"));
        prints(bundle, "grep ' /tmp ' /proc/self/mountinfo | grep -o 'size=[0-9]*k'", "size=16k\nsize=32k");
        let bundle = t.bundle().mount(tmpfs("size=16k")).mount(tmpfs("size=32k"));
        prints(bundle, "stat -f -c %b /tmp", "8");
    });
}

#[test]
fn a_destination_that_is_a_link_stays_inside() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().rootfs_with(|rootfs| {
            std::os::unix::fs::symlink("/tmp", rootfs.join("link")).expect("symlink");
        });
        let bundle = bundle.mount(json!({"destination": "/link", "type": "tmpfs", "source": "t"}));
        prints(bundle, "grep -c ' /tmp ' /proc/self/mountinfo", "1");
    });
}

#[test]
fn the_default_devices_and_links_are_there() {
    in_modes(LIFECYCLE, |t| {
        let script = "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %F %a %t:%T' $d; done; \
                      for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done; test -e core && echo core";
        let outcome = t.bundle().sh(script).run();
        let expected = "null character special file 666 1:3\nzero character special file 666 1:5\n\
                        full character special file 666 1:7\nrandom character special file 666 1:8\n\
                        urandom character special file 666 1:9\ntty character special file 666 5:0\n\
                        fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\n";
        let got = outcome.stdout.replace("ptmx /dev/pts/ptmx", "ptmx pts/ptmx");
        assert!(got.starts_with(&format!("{expected}ptmx pts/ptmx\n")), "{outcome:?}");
    });
}

#[test]
fn the_default_devices_work() {
    in_modes(ALL, |t| {
        let script = "echo x >/dev/null && head -c 3 /dev/zero | wc -c && head -c 3 /dev/urandom | wc -c && \
                      { echo x >/dev/full || echo full; } 2>/dev/null";
        prints(t.bundle(), script, "3\n3\nfull");
    });
}

#[test]
fn a_device_of_the_list_is_made_with_its_mode_and_owner() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["devices"] = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 5,
                "fileMode": 0o640, "uid": 1000, "gid": 5}]);
            let rules = spec["linux"]["resources"]["devices"].as_array_mut().expect("rules");
            rules.push(json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rw"}));
        });
        prints(bundle, "stat -c '%F %a %u:%g %t:%T' /dev/mine", "character special file 640 1000:5 1:5");
    });
}

#[test]
fn masked_paths_are_empty_and_cannot_be_written() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["maskedPaths"] = json!(["/proc/cmdline", "/proc/fs", "/proc/no-such-path"]);
        });
        prints(bundle, "wc -c </proc/cmdline; ls /proc/fs | wc -l; (: >/proc/fs/x) 2>/dev/null || echo no", "0\n0\nno");
    });
}

#[test]
fn read_only_paths_cannot_be_written() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["readonlyPaths"] = json!(["/proc/sys", "/dev/shm", "/proc/no-such-path"]);
        });
        let script = "(echo x >/proc/sys/kernel/domainname) 2>/dev/null || echo no; \
                      (: >/dev/shm/x) 2>/dev/null || echo no; (: >/dev/mqueue/x) && echo yes";
        prints(bundle, script, "no\nno\nyes");
    });
}

#[test]
fn the_root_is_read_only_where_so_configured() {
    in_modes(LIFECYCLE, |t| {
        prints(t.bundle(), "(: >/new) 2>/dev/null || echo no", "no");
        prints(t.bundle().writable(), "(: >/new) && echo yes", "yes");
    });
}

#[test]
fn the_hostname_is_set() {
    in_modes(LIFECYCLE, |t| prints(t.bundle().set("/hostname", json!("box")), "hostname", "box"));
}

#[test]
fn the_domainname_is_set() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Runc, Kind::Crun]) {
            t.skip("Debian's peers do not know it yet");
        }
        prints(t.bundle().set("/domainname", json!("example.org")), "cat /proc/sys/kernel/domainname", "example.org");
    });
}

#[test]
fn capabilities_are_set_in_their_five_sets() {
    in_modes(LIFECYCLE, |t| {
        // CHOWN is 0, KILL 5, NET_BIND_SERVICE 10.
        let bundle = t.bundle().set(
            "/process/capabilities",
            json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL"],
            }),
        );
        // An execve by root without SECBIT_NOROOT raises permitted and effective; so look at a plain user.
        let bundle = bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let outcome = bundle.sh("grep ^Cap /proc/self/status").run().ok();
        let expected = "CapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\n\
                        CapBnd:\t0000000000000421\nCapAmb:\t0000000000000020\n";
        assert_eq!(outcome.stdout, expected);
    });
}

#[test]
fn root_has_the_capabilities_of_its_bounding_set_and_none_to_inherit() {
    in_modes(LIFECYCLE, |t| {
        let all = json!(["CAP_KILL"]);
        let sets = json!({"bounding": all, "permitted": all, "effective": all});
        let outcome = t.bundle().set("/process/capabilities", sets).sh("grep ^Cap /proc/self/status").run().ok();
        let expected = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\n\
                        CapBnd:\t0000000000000020\nCapAmb:\t0000000000000000\n";
        assert_eq!(outcome.stdout, expected);
    });
}

#[test]
fn without_capabilities_the_workload_has_none() {
    in_modes(LIFECYCLE, |t| {
        let empty = json!([]);
        let sets =
            json!({"bounding": empty, "permitted": empty, "effective": empty, "inheritable": empty, "ambient": empty});
        prints(
            t.bundle().set("/process/capabilities", sets),
            "grep ^Cap /proc/self/status | cut -f2 | sort -u",
            "0000000000000000",
        );
    });
}

#[test]
fn an_unknown_capability_is_no_error() {
    in_modes(V2, |t| {
        t.bundle()
            .set("/process/capabilities/bounding", json!(["CAP_KILL", "CAP_NOSUCH"]))
            .set("/process/capabilities/ambient", json!([]))
            .args(["true"])
            .run()
            .ok();
    });
}

#[test]
fn rlimits_are_set() {
    in_modes(LIFECYCLE, |t| {
        let limits = json!([
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
        ]);
        let outcome = t.bundle().set("/process/rlimits", limits).args(["cat", "/proc/self/limits"]).run().ok();
        let line = |name: &str| {
            let line = outcome.stdout.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
            line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(line("Max open files"), ["100", "200"]);
        assert_eq!(line("Max core file size"), ["0", "4096"]);
    });
}

#[test]
fn no_new_privileges_is_as_configured() {
    in_modes(LIFECYCLE, |t| {
        let script = "grep NoNewPrivs /proc/self/status | cut -f2";
        prints(t.bundle(), script, "1");
        prints(t.bundle().set("/process/noNewPrivileges", json!(false)), script, "0");
    });
}

#[test]
fn user_groups_and_umask_are_set() {
    in_modes(LIFECYCLE, |t| {
        let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 20], "umask": 0o027});
        prints(
            t.bundle().set("/process/user", user),
            "id -u; id -g; grep ^Groups: /proc/self/status | cut -f2; umask",
            "1000\n1001\n5 20 \n0027",
        );
    });
}

#[test]
fn without_additional_groups_the_callers_are_dropped() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().args(["grep", "^Groups:", "/proc/self/status"]);
        bundle.write();
        let mut command = t.wrapped(&["setpriv", "--groups", "7,8", "--"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let outcome = t.finish(command).ok();
        assert!(!outcome.stdout.contains('7') && !outcome.stdout.contains('8'), "{outcome:?}");
    });
}

#[test]
fn the_environment_keeps_its_order_and_of_a_variable_that_is_given_twice_the_last() {
    in_modes(LIFECYCLE, |t| {
        let env = json!(["PATH=/bin", "Z=1", "A=2", "Z=3", "EMPTY=", "LINES=a\nb"]);
        let bundle = t.bundle().set("/process/env", env).args(["/bin/cat", "/proc/self/environ"]);
        let outcome = bundle.run().ok();
        let text = outcome.stdout.trim_end_matches('\0');
        // Debian's peers are older than that.
        if t.is(&[Kind::Runc, Kind::Crun]) {
            assert!(text.contains("Z=3") && text.contains("EMPTY="), "{text:?}");
            return;
        }
        let lines: Vec<_> = text.split('\0').filter(|line| !line.starts_with("HOME=")).collect();
        assert_eq!(lines, ["PATH=/bin", "A=2", "Z=3", "EMPTY=", "LINES=a\nb"]);
        let odd = t.bundle().set("/process/env", json!(["PATH=/bin", "secret"])).try_create();
        let outcome = odd.fails_with(&["process.env[1]", "NAME=VALUE"]);
        assert!(!outcome.message().contains("secret"), "{outcome:?}");
    });
}

#[test]
fn nothing_of_the_callers_environment_reaches_the_workload() {
    in_modes(V2, |t| {
        let bundle = t.bundle().args(["/bin/cat", "/proc/self/environ"]);
        let mut command = bundle.write().command("run", &[]);
        command.env("LEAK", "1").env("LD_LIBRARY_PATH", "/opt/containerd/lib");
        let outcome = t.finish(command).ok();
        assert!(!outcome.stdout.contains("LEAK") && !outcome.stdout.contains("LD_LIBRARY"), "{outcome:?}");
    });
}

#[test]
fn arguments_are_passed_as_given() {
    in_modes(V2, |t| {
        let bundle = t.bundle().args(["printf", "%s|", "", "two words", "new\nline", "ünïcode", "$HOME"]);
        assert_eq!(bundle.run().ok().stdout, "|two words|new\nline|ünïcode|$HOME|");
    });
}

#[test]
fn the_command_is_searched_in_the_path_of_process_env() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().set("/process/env", json!(["PATH=/nowhere:/etc/own:/bin"])).rootfs_with(|rootfs| {
            fs::create_dir(rootfs.join("etc/own")).expect("make a directory");
            fs::write(rootfs.join("etc/own/mine"), "#!/bin/sh\necho own\n").expect("write");
            fs::set_permissions(rootfs.join("etc/own/mine"), fs::Permissions::from_mode(0o755)).expect("chmod");
        });
        assert_eq!(bundle.args(["mine"]).run().ok().stdout, "own\n");
    });
}

#[test]
fn the_working_directory_is_set() {
    in_modes(LIFECYCLE, |t| prints(t.bundle().set("/process/cwd", json!("/etc")), "pwd; ls passwd", "/etc\npasswd"));
}

#[test]
fn a_working_directory_of_another_user_works_with_the_users_own_rights() {
    in_modes(V2, |t| {
        let bundle =
            t.bundle().set("/process/user", json!({"uid": 1000, "gid": 1000})).set("/process/cwd", json!("/tmp"));
        prints(bundle, "pwd", "/tmp");
    });
}

#[test]
fn oom_score_adj_is_set() {
    in_modes(LIFECYCLE, |t| {
        prints(t.bundle().set("/process/oomScoreAdj", json!(77)), "cat /proc/self/oom_score_adj", "77");
    });
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
        });
        prints(bundle, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced", "1\n1");
    });
}

#[test]
fn the_roots_propagation_is_as_configured() {
    in_modes(LIFECYCLE, |t| {
        let script = "head -n 1 /proc/self/mountinfo | grep -o 'shared:\\|master:\\|unbindable' || echo private";
        if t.is(&[Kind::Runc]) {
            t.skip("runc 1.1 makes the root private whatever is configured");
        }
        for (propagation, expected) in [("private", "private"), ("shared", "shared:"), ("unbindable", "unbindable")] {
            let bundle = t.bundle().spec(|spec| spec["linux"]["rootfsPropagation"] = json!(propagation));
            prints(bundle, script, expected);
        }
    });
}

#[test]
fn without_pivot_root_the_container_sees_its_root_alone() {
    in_modes(LIFECYCLE, |t| {
        let outcome =
            t.bundle().sh("ls -d /bin /home 2>/dev/null; cat /etc/passwd | head -n 1").run_with(&["--no-pivot"]);
        assert_eq!(outcome.ok().stdout, "/bin\nroot:x:0:0:root:/root:/bin/sh\n");
    });
}

/// Lists the descriptors of a shell; the last one is the listing's own.
const DESCRIPTORS: &str = "cd /proc/self/fd; echo *";

#[test]
fn the_workload_gets_the_three_standard_descriptors_alone() {
    in_modes(LIFECYCLE, |t| prints(t.bundle(), DESCRIPTORS, "0 1 2 3"));
}

#[test]
fn stray_descriptors_of_the_caller_do_not_reach_the_workload() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh(DESCRIPTORS);
        bundle.write();
        let opened = "exec 3</etc/passwd 4</etc 10</etc/group 251</proc/self/mountinfo 9>/dev/null; exec \"$@\"";
        let mut command = t.wrapped(&["bash", "-c", opened, "bash"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "0 1 2 3\n");
    });
}

#[test]
fn preserve_fds_passes_so_many_and_no_more() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh("head -n 1 <&3; cat <&4; cd /proc/self/fd; echo *");
        bundle.write();
        fs::write(t.dir().join("four"), "four\n").expect("write");
        let opened =
            format!("exec 3</proc/mounts 3<{0} 4<{0} 5<{0} 6<{0}; exec \"$@\"", t.dir().join("four").display());
        let mut command = t.wrapped(&["bash", "-c", &opened, "bash"], ["run", "--preserve-fds", "2", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "four\nfour\n0 1 2 3 4 5\n");
    });
}

#[test]
fn listen_fds_passes_the_sockets_and_their_number() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().sh("echo $LISTEN_FDS $LISTEN_PID; cd /proc/self/fd; echo *");
        bundle.write();
        let opened = "exec 3</dev/null 4</dev/null 5</dev/null; export LISTEN_FDS=2; LISTEN_PID=$$ exec \"$@\"";
        let mut command = t.wrapped(&["bash", "-c", opened, "bash"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        // crun passes the descriptors and leaves LISTEN_FDS out.
        let number = if t.is(&[Kind::Crun]) { "" } else { "2 " };
        assert_eq!(t.finish(command).ok().stdout, format!("{number}1\n0 1 2 3 4 5\n"));
    });
}

#[test]
fn listen_fds_of_another_process_are_nothing() {
    in_modes(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun does not look at LISTEN_PID");
        }
        let bundle = t.bundle().sh("echo $LISTEN_FDS $LISTEN_PID; cd /proc/self/fd; echo *");
        let mut command = bundle.write().command("run", &[]);
        command.env("LISTEN_FDS", "2").env("LISTEN_PID", "1");
        assert_eq!(t.finish(command).ok().stdout, "\n0 1 2 3\n");
    });
}

#[test]
fn more_descriptors_than_there_are_cannot_be_preserved() {
    in_modes(V2, |t| {
        t.runb_only("the texts are its own");
        let bundle = t.bundle().args(["true"]);
        bundle.write();
        let running = t.bundle().idle().run_detached();
        let most = u32::MAX.to_string();
        // Together the last two do not fit into a number of 32 bits.
        for (count, sockets) in
            [("1", "0"), ("2147483645", "0"), ("4294967293", "0"), (most.as_str(), "0"), (&most, "2"), ("0", &most)]
        {
            let shell = format!("exec 3<&-; export LISTEN_FDS={sockets}; LISTEN_PID=$$ exec \"$@\"");
            let mut run = t.wrapped(&["bash", "-c", &shell, "bash"], ["run", "--preserve-fds", count, "--bundle"]);
            run.arg(bundle.dir()).arg(bundle.id());
            t.finish(run).fails_with(&["to be preserved", "descriptor 3 is not open", "EBADF"]);
        }
        let exec = ["exec", "--preserve-fds", &most, running.id(), "true"];
        let outcome = t.finish(t.wrapped(&["bash", "-c", "exec 3<&-; exec \"$@\"", "bash"], exec));
        assert_eq!(outcome.code, 255, "{outcome:?}");
        assert!(outcome.message().contains("descriptor 3 is not open"), "{outcome:?}");
        running.delete_force().ok();
    });
}

#[test]
fn a_workload_reports_its_readiness_to_the_callers_notify_socket() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("Debian's crun hangs in the foreground");
        }
        let path = t.dir().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bind the socket");
        socket.set_nonblocking(true).expect("set O_NONBLOCK");
        // The mount point of the socket is made in the rootfs.
        let bundle = t.bundle().writable().args(["/share/ready"]);
        fs::copy(env!("CARGO_BIN_EXE_ready"), bundle.share_dir().join("ready")).expect("copy the workload");
        let mut command = bundle.write().command("run", &[]);
        command.env("NOTIFY_SOCKET", &path);
        t.finish(command).ok();
        let mut message = [0; 64];
        let length = socket.recv(&mut message).expect("a message came");
        assert_eq!(String::from_utf8_lossy(&message[..length]).trim_end(), "READY=1");
    });
}

#[test]
fn stdin_reaches_the_workload() {
    in_modes(V2, |t| {
        let bundle = t.bundle().args(["cat"]);
        bundle.write();
        let mut command = t.wrapped(&["sh", "-c", "echo input | \"$@\"", "sh"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "input\n");
    });
}

#[test]
fn a_configuration_without_the_linux_part_of_the_default_runs() {
    in_modes(V2, |t| {
        let bundle = t.bundle().args(["true"]).spec(|spec| {
            let id = spec["linux"]["cgroupsPath"].clone();
            spec["linux"] = json!({"cgroupsPath": id, "namespaces": [{"type": "mount"}]});
            spec.as_object_mut().expect("an object").remove("hostname");
        });
        bundle.run().ok();
    });
}
