//! Bad input gets a clear error, in the form that engines read, and leaves nothing behind.
//!
//! That nothing is left is not said in each test: the harness looks after every one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use runb_tests::*;

/// Creates, expects the failure with `texts`; the texts in `runb` are asked of runb alone.
#[track_caller]
fn refused(t: &Test, bundle: &Bundle<'_>, texts: &[&str], runb: &[&str]) {
    // crun's wording is its own.
    let texts = if t.is(&[Kind::Crun]) { &[] } else { texts };
    let outcome = t.finish(bundle.write().command("create", &[])).fails_with(texts);
    if t.is(&[Kind::Runb]) {
        let message = outcome.message();
        for text in runb {
            assert!(message.contains(text), "{text:?} is not in {message:?}");
        }
        assert!(!message.contains('\n'), "{message:?}");
    }
    // The same on stderr, as its last line.
    assert!(!outcome.stderr.trim().is_empty(), "{outcome:?}");
}

/// `create`, then `start` if that went well: where a runtime finds a bad command is its own choice.
#[track_caller]
fn refused_by_start(t: &Test, bundle: Bundle<'_>, texts: &[&str], runb: &[&str]) {
    let created = bundle.try_create();
    let outcome = if created.code == 0 {
        let container = bundle.container(created);
        let outcome = container.start();
        container.delete_force().ok();
        outcome
    } else {
        created
    };
    // crun's capitals are known not to be what engines look for.
    let outcome = outcome.fails_with(if t.is(&[Kind::Crun]) { &[] } else { texts });
    for text in if t.is(&[Kind::Runb]) { runb } else { &[] } {
        assert!(outcome.message().contains(text), "{text:?} is not in {:?}", outcome.message());
    }
}

#[test]
fn a_missing_configuration_is_named() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle();
        t.finish(bundle.command("create", &[])).fails_with(&["config.json"]);
    });
}

#[test]
fn a_missing_bundle_is_an_error() {
    in_modes(LIFECYCLE, |t| {
        let outcome = t.call(["create", "--bundle", "/no/such/bundle", &t.name("c")]);
        assert!(outcome.code == 1 && outcome.stderr.contains("/no/such/bundle"), "{outcome:?}");
    });
}

#[test]
fn a_truncated_configuration_is_refused_with_line_and_column() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle();
        fs::write(bundle.dir().join("config.json"), "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {")
            .expect("write");
        let outcome = t.finish(bundle.command("create", &[])).fails_with(&[]);
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["config.json", "line 3", "column"]);
        }
    });
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_field() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes a value of the wrong type for an absent one");
        }
        let bundle = t.bundle().set("/process/args", json!("sh"));
        refused(t, &bundle, &[], &["process", "args"]);
        let bundle = t.bundle().set("/mounts/2/destination", json!(7));
        refused(t, &bundle, &[], &["mounts", "2", "destination"]);
    });
}

#[test]
fn another_major_version_of_the_specification_is_refused() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("peers do not look at ociVersion");
        let bundle = t.bundle().set("/ociVersion", json!("2.0.0"));
        refused(t, &bundle, &["ociVersion", "2.0.0"], &[]);
        let bundle = t.bundle().set("/ociVersion", json!("99.0.0"));
        refused(t, &bundle, &["ociVersion", "99.0.0"], &[]);
    });
}

#[test]
fn a_newer_minor_version_of_the_specification_runs() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("Debian's crun knows no minor version after its own");
        }
        t.bundle().set("/ociVersion", json!("1.99.0")).args(["true"]).run().ok();
    });
}

#[test]
fn an_unknown_field_is_accepted() {
    in_modes(LIFECYCLE, |t| {
        t.bundle().set("/process/fromTheFuture", json!({"a": 1})).args(["true"]).run().ok();
    });
}

#[test]
fn a_configuration_without_root_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().spec(|spec| {
            spec.as_object_mut().expect("an object").remove("root");
        });
        refused(t, &bundle, &["oot"], &["root"]);
    });
}

#[test]
fn a_rootfs_that_is_not_there_is_named() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().set("/root/path", json!("no-such-rootfs"));
        refused(t, &bundle, &[], &["no-such-rootfs", "ENOENT"]);
    });
}

#[test]
fn a_rootfs_that_is_a_file_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().set("/root/path", json!("file"));
        fs::write(bundle.dir().join("file"), "").expect("write");
        refused(t, &bundle, &[], &["file", "ENOTDIR"]);
    });
}

#[test]
fn an_id_that_is_no_file_name_is_refused() {
    in_modes(V2, |t| {
        let long = "x".repeat(256);
        for id in ["", "..", ".", "a/b", "../x", "a b", &long] {
            if t.is(&[Kind::Runc, Kind::Crun]) && ["a b", ".", ""].contains(&id) {
                // crun accepts a space; Debian's runc takes a dot for a container of the root itself.
                continue;
            }
            let bundle = t.bundle().idle().with_id(id);
            let outcome = t.finish(bundle.write().command("create", &[]));
            assert_eq!(outcome.code, 1, "{id:?}: {outcome:?}");
        }
    });
}

#[test]
fn a_bad_id_of_another_verb_is_refused() {
    in_modes(V2, |t| {
        for verb in ["start", "state", "kill", "delete"] {
            t.call([verb, "../x"]).fails_with(&[]);
        }
        assert!(!t.is(&[Kind::Runb]) || t.call(["delete", "--force", "../x"]).code == 1);
    });
}

#[test]
fn a_missing_command_by_path_is_named_as_engines_expect() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().args(["/no/such"]);
        refused_by_start(t, bundle, &["exec: \"/no/such\": stat /no/such: no such file or directory"], &[]);
    });
}

#[test]
fn a_missing_command_by_name_is_not_found_in_path() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().args(["no-such"]);
        refused_by_start(t, bundle, &["exec: \"no-such\": executable file not found in $PATH"], &[]);
    });
}

#[test]
fn a_command_that_may_not_be_executed_is_permission_denied() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().args(["/etc/passwd"]);
        refused_by_start(t, bundle, &["exec: \"/etc/passwd\": permission denied"], &[]);
    });
}

#[test]
fn a_command_that_is_a_directory_is_refused() {
    in_modes(LIFECYCLE, |t| {
        // runc 1.1 takes every directory for a lack of permission.
        let text = if t.is(&[Kind::Runb]) { "is a directory" } else { "/etc" };
        refused_by_start(t, t.bundle().args(["/etc"]), &[text], &[]);
    });
}

#[test]
fn a_command_with_a_missing_interpreter_is_no_such_file_or_directory() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the start of the peers does not wait for the execve");
        let bundle = t.bundle().args(["/etc/script"]).rootfs_with(|rootfs| {
            fs::write(rootfs.join("etc/script"), "#!/no/such/interpreter\n").expect("write");
            fs::set_permissions(rootfs.join("etc/script"), fs::Permissions::from_mode(0o755)).expect("chmod");
        });
        refused_by_start(t, bundle, &["no such file or directory"], &["/etc/script", "interpreter"]);
    });
}

#[test]
fn a_command_in_path_that_the_kernel_refuses_to_execute_is_permission_denied() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the start of the peers does not wait for the execve");
        // access(2) allows it: as with a security module, only the execve knows better.
        let bundle = t.bundle().args(["refused"]).rootfs_with(|rootfs| {
            fs::write(rootfs.join("bin/refused"), "#!/etc/passwd\n").expect("write");
            fs::set_permissions(rootfs.join("bin/refused"), fs::Permissions::from_mode(0o755)).expect("chmod");
        });
        refused_by_start(t, bundle, &["permission denied"], &["exec /bin/refused: permission denied", "EACCES"]);
    });
}

#[test]
fn a_command_of_an_unknown_format_is_refused() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the start of the peers does not wait for the execve");
        let bundle = t.bundle().args(["/etc/data"]).rootfs_with(|rootfs| {
            fs::write(rootfs.join("etc/data"), [0u8, 1, 2, 3]).expect("write");
            fs::set_permissions(rootfs.join("etc/data"), fs::Permissions::from_mode(0o755)).expect("chmod");
        });
        refused_by_start(t, bundle, &["exec format error"], &["ENOEXEC"]);
    });
}

#[test]
fn an_empty_list_of_arguments_is_refused() {
    in_modes(LIFECYCLE, |t| {
        refused(t, &t.bundle().set("/process/args", json!([])), &["args"], &["process.args"]);
    });
}

#[test]
fn a_cwd_that_is_not_absolute_is_refused() {
    in_modes(LIFECYCLE, |t| {
        // crun goes there from the root.
        if t.is(&[Kind::Crun]) {
            t.skip("crun accepts a relative cwd");
        }
        refused(t, &t.bundle().set("/process/cwd", json!("tmp")), &["wd"], &["process.cwd"]);
    });
}

#[test]
fn a_bind_source_that_is_not_there_is_named_with_its_mount() {
    in_modes(LIFECYCLE, |t| {
        let mount = json!({"destination": "/tmp", "type": "bind", "source": "/no/such/src", "options": ["rbind"]});
        refused(t, &t.bundle().mount(mount), &["/no/such/src"], &["mounts[8] (/tmp)", "ENOENT"]);
    });
}

#[test]
fn an_unknown_file_system_is_named_with_its_mount() {
    in_modes(LIFECYCLE, |t| {
        let mount = json!({"destination": "/tmp", "type": "nosuchfs", "source": "x"});
        refused(t, &t.bundle().mount(mount), &["/tmp"], &["mounts[8] (/tmp)", "nosuchfs", "ENODEV"]);
    });
}

#[test]
fn an_unknown_mount_option_is_named_with_its_mount() {
    in_modes(LIFECYCLE, |t| {
        let mount = json!({"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["mode=0755", "sizze=5"]});
        refused(t, &t.bundle().mount(mount), &[], &["mounts[8] (/tmp)", "sizze", "EINVAL"]);
    });
}

#[test]
fn a_duplicate_namespace_is_refused() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("Debian's crun accepts it");
        }
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "uts"}));
        });
        refused(t, &bundle, &["uts"], &["linux.namespaces"]);
    });
}

#[test]
fn a_duplicate_rlimit_is_refused_by_its_name() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("peers take the last one");
        let limit = json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 10});
        let bundle = t.bundle().set("/process/rlimits", json!([limit, limit]));
        refused(t, &bundle, &["process.rlimits[1]", "RLIMIT_NOFILE"], &[]);
    });
}

/// setresuid(2) takes it for "as it is".
#[test]
fn the_highest_number_is_no_id_and_never_root() {
    in_modes(LIFECYCLE, |t| {
        for (field, user) in [("uid", json!({"uid": u32::MAX, "gid": 5})), ("gid", json!({"uid": 5, "gid": u32::MAX}))]
        {
            let bundle = t.bundle().with_id(&t.name("u")).set("/process/user", user);
            refused(t, &bundle, &[], &[&format!("process.user.{field}: 4294967295 is no id")]);
            let mut device = json!({"path": "/dev/fifo", "type": "p"});
            device[field] = json!(u32::MAX);
            let bundle = t.bundle().with_id(&t.name("d")).set("/linux/devices", json!([device]));
            refused(t, &bundle, &[], &[&format!("linux.devices[0].{field} (/dev/fifo): 4294967295 is no id")]);
        }
    });
}

#[test]
fn an_unknown_rlimit_is_refused_by_its_name() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().set("/process/rlimits", json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]));
        refused(t, &bundle, &["RLIMIT_NOSUCH"], &["process.rlimits[0]"]);
    });
}

#[test]
fn a_namespace_path_that_is_not_there_is_named() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().join_namespace("network", "/run/netns/nope");
        refused(t, &bundle, &["/run/netns/nope"], &["linux.namespaces[5]", "ENOENT"]);
    });
}

#[test]
fn a_namespace_path_of_another_kind_is_refused() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Runc]) {
            t.skip("runc 1.1 leaves the cgroup now and then");
        }
        let bundle = t.bundle().join_namespace("network", "/proc/self/ns/uts");
        refused(t, &bundle, &[], &["linux.namespaces[5]", "/proc/self/ns/uts"]);
    });
}

#[test]
fn a_sysctl_of_the_host_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t.bundle().spec(|spec| spec["linux"]["sysctl"] = json!({"vm.swappiness": "10"}));
        refused(t, &bundle, &["vm.swappiness"], &["linux.sysctl"]);
    });
}

#[test]
fn a_sysctl_of_a_namespace_that_is_not_the_containers_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let bundle = t
            .bundle()
            .without_namespace("network")
            .spec(|spec| spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
        refused(t, &bundle, &["net.ipv4.ip_forward"], &["linux.sysctl"]);
    });
}

#[test]
fn a_hostname_without_a_uts_namespace_is_refused() {
    in_modes(LIFECYCLE, |t| {
        let before = fs::read_to_string("/proc/sys/kernel/hostname").expect("the hostname");
        refused(t, &t.bundle().without_namespace("uts"), &["ostname"], &["hostname"]);
        assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").expect("the hostname"), before);
    });
}

#[test]
fn a_terminal_without_a_console_socket_is_refused_by_create() {
    in_modes(V2, |t| {
        refused(t, &t.bundle().set("/process/terminal", json!(true)), &[], &["terminal"]);
    });
}

#[test]
fn an_oom_kill_at_start_is_told_with_the_limit() {
    in_modes(V1, |t| {
        t.needs_controller("memory");
        let limit = json!({"limit": 8192, "swap": 8192});
        let bundle = t.bundle().spec(|spec| spec["linux"]["resources"]["memory"] = limit);
        let outcome = t.finish(bundle.write().command("create", &[]));
        if outcome.code == 0 {
            // A runtime may be frugal enough to pass: then it is the workload that dies.
            let container = bundle.container(outcome);
            let started = container.start();
            container.delete_force().ok();
            assert!(t.is(&[Kind::Runb]) && (started.code == 0 || started.message().contains("limit")), "{started:?}");
            return;
        }
        let outcome = outcome.fails_with(&[]);
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["out of memory", "limit", "8192"]);
        }
    });
}

#[test]
fn the_log_has_one_error_with_level_msg_and_time() {
    in_modes(V2, |t| {
        let bundle = t.bundle().set("/root/path", json!("no-such-rootfs"));
        let outcome = bundle.try_create().fails_with(&[]);
        let errors: Vec<Value> = outcome
            .log
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .filter(|line: &Value| line["level"] == "error")
            .collect();
        let [error] = errors.as_slice() else { panic!("not one error: {outcome:?}") };
        let time = error["time"].as_str().expect("a time");
        assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "not RFC 3339: {time}");
        let message = error["msg"].as_str().expect("msg");
        assert!(outcome.stderr.contains(message), "stderr says something else: {outcome:?}");
    });
}

#[test]
fn without_a_log_the_error_is_on_stderr() {
    in_modes(V2, |t| {
        let mut command = std::process::Command::new(t.runtime().path());
        command.arg("--root").arg(t.root()).args(["state", &t.name("gone")]);
        let outcome = t.finish(command);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let texts = ["does not exist", "No such file"];
        assert!(texts.iter().any(|text| outcome.stderr.contains(text)), "{outcome:?}");
        assert!(!t.is(&[Kind::Runb]) || outcome.stderr.lines().count() == 1, "{outcome:?}");
    });
}

#[test]
fn an_unknown_verb_or_flag_is_a_usage_error() {
    in_modes(V2, |t| {
        for args in [["nosuchverb", "x"], ["state", "--nosuchflag"]] {
            let outcome = t.call(args);
            assert_ne!(outcome.code, 0, "{args:?}: {outcome:?}");
            assert!(t.is(&[Kind::Crun, Kind::Runc]) || outcome.stderr.contains("nosuch"), "{outcome:?}");
        }
    });
}
