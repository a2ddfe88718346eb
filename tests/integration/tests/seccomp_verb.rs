//! `runb seccomp`: the filter of a bundle for people, and what it answers to a call.

use std::process::Command;

use runb_tests::*;

/// A bundle whose profile knows every kind of answer, for one architecture.
fn asked<'t>(t: &'t Test) -> Bundle<'t> {
    t.runb_only("a verb of runb's own");
    let native = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    t.bundle().set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": [native],
            "listenerPath": "/no/such/listener",
            "syscalls": [
                {"names": ["read", "write", "recvfrom", "openat2"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS",
                    "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}]},
                {"names": ["ftruncate"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": 4_294_967_296_u64, "op": "SCMP_CMP_LT"}]},
                {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
                {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"},
                {"names": ["umount2"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
                {"names": ["unshare"], "action": "SCMP_ACT_TRAP"},
                {"names": ["setns"], "action": "SCMP_ACT_LOG"},
                {"names": ["reboot"], "action": "SCMP_ACT_KILL"},
            ],
        }),
    )
}

/// `runb seccomp --bundle DIR WORDS…`; nobody has to be root for it, and nothing is written but the bundle.
fn seccomp(t: &Test, bundle: &Bundle<'_>, words: &[&str]) -> Outcome {
    bundle.write();
    let mut command = t.command(["seccomp", "--bundle"]);
    command.arg(bundle.dir()).args(words);
    t.finish(command)
}

#[test]
fn a_question_about_a_call_is_answered_in_a_sentence() {
    in_modes(V2, |t| {
        let bundle = asked(t);
        for (words, answer) in [
            (&["read"][..], "read(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): passes"),
            (&["kill", "1", "0x9"], "kill(0x1, 0x9, 0x0, 0x0, 0x0, 0x0): the process is killed"),
            (&["kill", "1", "15"], "kill(0x1, 0xf, 0x0, 0x0, 0x0, 0x0): fails with EPERM"),
            (&["ftruncate", "3", "4294967295"], "ftruncate(0x3, 0xffffffff, 0x0, 0x0, 0x0, 0x0): passes"),
            (&["ftruncate", "3", "0x100000000"], "ftruncate(0x3, 0x100000000, 0x0, 0x0, 0x0, 0x0): fails with EPERM"),
            (&["mkdirat"], "mkdirat(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): fails with ENOSPC"),
            (&["mount"], "mount(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): the listener decides"),
            (&["umount2"], "umount2(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): a tracer decides (data 7); ENOSYS without one"),
            (&["unshare"], "unshare(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): SIGSYS, which the process may catch"),
            (&["setns"], "setns(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): passes, and the kernel logs it"),
            (&["reboot"], "reboot(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): the thread is killed"),
            // One that the profile leaves out, one that is newer than it, and one that has no name yet.
            (&["chroot"], "chroot(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): fails with EPERM"),
            (&["cachestat"], "cachestat(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): fails with ENOSYS"),
            (&["500"], "call 500(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): fails with ENOSYS"),
        ] {
            let outcome = seccomp(t, &bundle, words).ok();
            let native = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86_64" };
            assert_eq!(outcome.stdout, format!("{native} {answer}\n"));
        }
    });
}

#[test]
fn a_call_of_an_architecture_that_is_not_listed_is_killed() {
    in_modes(V2, |t| {
        let bundle = asked(t);
        let other = if cfg!(target_arch = "aarch64") { "arm" } else { "x86" };
        let outcome = seccomp(t, &bundle, &["--arch", other, "read"]).ok();
        assert_eq!(outcome.stdout, format!("{other} read(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): the thread is killed\n"));
    });
}

#[test]
fn the_listing_has_a_line_for_each_instruction_and_names_calls_and_actions() {
    in_modes(V2, |t| {
        let bundle = asked(t);
        let listing = seccomp(t, &bundle, &[]).ok();
        let whole = seccomp(t, &bundle, &["--json"]).ok().json();
        let lines: Vec<&str> = listing.lines();
        let numbered = lines.iter().filter(|line| !line.ends_with(':')).enumerate();
        for (number, line) in numbered {
            assert_eq!(line.split_whitespace().next(), Some(number.to_string().as_str()), "{line}");
        }
        for text in
            ["load arch", "load number", "(mkdirat)", "argument 1, upper word", "return ERRNO ENOSPC", "USER_NOTIF"]
        {
            assert!(listing.stdout.contains(text), "{text:?}: {}", listing.stdout);
        }
        assert_eq!(whole["listing"], json!(lines));
        let count = whole["instructions"].as_array().expect("instructions").len();
        assert_eq!(lines.iter().filter(|line| !line.ends_with(':')).count(), count);
        assert_eq!(whole["listener"], "/no/such/listener");
        assert_eq!(whole["architectures"].as_array().map(Vec::len), Some(1), "{whole}");
    });
}

#[test]
fn json_has_the_action_and_how_many_instructions_found_it() {
    in_modes(V2, |t| {
        let verdict = seccomp(t, &asked(t), &["--json", "mkdirat"]).ok().json();
        assert_eq!(verdict["action"], "ERRNO ENOSPC");
        assert!(verdict["instructions"].as_u64().is_some_and(|count| (4..20).contains(&count)), "{verdict}");
        assert!(verdict["verdict"].as_str().is_some_and(|text| text.ends_with("fails with ENOSPC")), "{verdict}");
    });
}

#[test]
fn without_a_profile_every_call_passes() {
    in_modes(V2, |t| {
        t.runb_only("a verb of runb's own");
        let bundle = t.bundle();
        for words in [&[][..], &["reboot"]] {
            let outcome = seccomp(t, &bundle, words).ok();
            assert_eq!(outcome.stdout, "linux.seccomp is not set: every system call passes\n");
        }
        assert_eq!(seccomp(t, &bundle, &["--json"]).ok().stdout, "null\n");
    });
}

#[test]
fn a_question_that_makes_no_sense_is_refused_with_what_is_wrong() {
    in_modes(V2, |t| {
        let bundle = asked(t);
        for (words, text) in [
            (&["no_such_call"][..], "has no system call no_such_call"),
            (&["kill", "one"], "\"one\" is no number, decimal or 0x…"),
            (&["kill", "0x1ffffffffffffffff"], "\"0x1ffffffffffffffff\" is no number"),
            (&["kill", "1", "2", "3", "4", "5", "6", "7"], "a system call has 6 arguments, not 7"),
            (&["--arch", "vax", "kill"], "\"vax\" is not an architecture"),
            (&["--arch", "arm"], "--arch is of a system call that is asked about; none is given"),
        ] {
            let outcome = seccomp(t, &bundle, words).fails_with(&[text]);
            assert_eq!(outcome.stdout, "");
        }
    });
}

#[test]
fn a_profile_that_create_would_refuse_is_refused_in_the_same_words() {
    in_modes(V2, |t| {
        let bundle = asked(t).set("/linux/seccomp/syscalls/3/action", json!("SCMP_ACT_ALLOW"));
        let create = bundle.try_create().message();
        let asked = seccomp(t, &bundle, &[]).message();
        assert!(asked.contains("linux.seccomp.syscalls[3].errnoRet: SCMP_ACT_ALLOW takes no errno"), "{asked}");
        assert_eq!(asked.split_once("linux.").map(|two| two.1), create.split_once("linux.").map(|two| two.1));
    });
}

#[test]
fn a_bundle_that_is_not_there_is_named() {
    in_modes(V2, |t| {
        t.runb_only("a verb of runb's own");
        t.call(["seccomp", "--bundle", "/no/such/bundle"])
            .fails_with(&["/no/such/bundle", "no such file or directory"]);
    });
}

#[test]
fn the_bundle_is_the_current_directory_unless_named_and_root_is_not_needed() {
    in_modes(V2, |t| {
        let bundle = asked(t);
        bundle.write();
        let mut command: Command = t.wrapped(
            &["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--bounding-set=-all", "--"],
            ["seccomp", "read"],
        );
        command.current_dir(bundle.dir()).env("RUNB_LOG", "off");
        let output = command.output().expect("start setpriv");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with(": passes\n"), "{output:?}");
    });
}
