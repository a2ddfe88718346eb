//! `linux.seccomp` as a workload meets it.

use std::fs;

use runb_tests::*;

/// A profile that lets everything pass but what `rules` say.
fn allowing_all_but(bundle: Bundle<'_>, rules: Value) -> Bundle<'_> {
    bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}))
}

/// Makes a directory, and says whether it could, and what it is guarded by.
const MAKE: &str = "mkdir /tmp/d 2>&1; grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status";

fn with_empty_tmp(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}))
}

/// The workload is the test's own program, by its ways of working.
fn with_caller<'t>(bundle: Bundle<'t>, way: &str) -> Bundle<'t> {
    fs::copy(env!("CARGO_BIN_EXE_caller"), bundle.share_dir().join("caller")).expect("copy the caller");
    with_empty_tmp(bundle).args(["/share/caller", way])
}

fn with_tmp(bundle: Bundle<'_>) -> Bundle<'_> {
    with_empty_tmp(bundle).sh(MAKE)
}

/// `mkdir` is made by either call.
fn no_mkdir(action: Value) -> Value {
    let mut rule = json!({"names": ["mkdir", "mkdirat"]});
    rule.as_object_mut().expect("an object").extend(action.as_object().expect("an object").clone());
    json!([rule])
}

#[test]
fn a_call_that_is_forbidden_gets_the_errno_of_its_rule() {
    in_modes(LIFECYCLE, |t| {
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let outcome = allowing_all_but(with_tmp(t.bundle()), rules).run().ok();
        assert!(outcome.stdout.contains("No space left on device"), "{outcome:?}");
        assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome:?}");
    });
}

#[test]
fn a_filter_is_loaded_without_no_new_privs_and_leaves_no_capability_behind() {
    in_modes(LIFECYCLE, |t| {
        let bundle = with_tmp(t.bundle())
            .set("/process/noNewPrivileges", json!(false))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let outcome = allowing_all_but(bundle, rules).run().ok();
        for line in ["NoNewPrivs:\t0", "Seccomp:\t2", "CapEff:\t0000000000000000"] {
            assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
        }
    });
}

#[test]
fn a_call_that_kills_ends_the_workload_with_sigsys() {
    in_modes(LIFECYCLE, |t| {
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            let bundle = t.bundle().sh("exec mkdir /tmp/d");
            let outcome = allowing_all_but(bundle, no_mkdir(json!({"action": action}))).run();
            assert_eq!(outcome.code, 128 + 31, "{action}: {outcome:?}");
        }
    });
}

#[test]
fn a_call_kills_its_thread_or_its_process_by_the_action() {
    in_modes(LIFECYCLE, |t| {
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD"] {
            let outcome =
                allowing_all_but(with_caller(t.bundle(), "thread"), no_mkdir(json!({"action": action}))).run();
            assert_eq!(outcome.ok().stdout, "the thread is gone\n", "{action}");
        }
        let rules = no_mkdir(json!({"action": "SCMP_ACT_KILL_PROCESS"}));
        let outcome = allowing_all_but(with_caller(t.bundle(), "thread"), rules).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (128 + 31, ""), "{outcome:?}");
    });
}

#[test]
fn a_call_that_traps_can_be_caught() {
    in_modes(LIFECYCLE, |t| {
        let rules = json!([{"names": ["kill"], "action": "SCMP_ACT_TRAP"}]);
        let bundle = t.bundle().sh("trap 'echo caught; exit 5' SYS; kill -0 $$; echo passes");
        let outcome = allowing_all_but(bundle, rules).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (5, "caught\n"), "{outcome:?}");
    });
}

#[test]
fn a_call_for_a_tracer_fails_with_enosys_without_one() {
    in_modes(LIFECYCLE, |t| {
        for more in [json!({"action": "SCMP_ACT_TRACE"}), json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7})] {
            let outcome = allowing_all_but(with_tmp(t.bundle()), no_mkdir(more)).run().ok();
            assert!(outcome.stdout.contains("Function not implemented"), "{outcome:?}");
        }
    });
}

#[test]
fn a_call_that_is_logged_or_allowed_passes() {
    in_modes(LIFECYCLE, |t| {
        for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
            let bundle = with_empty_tmp(t.bundle()).sh("mkdir /tmp/d && ls /tmp");
            let outcome = allowing_all_but(bundle, no_mkdir(json!({"action": action}))).run().ok();
            assert_eq!(outcome.stdout, "d\n", "{action}");
        }
    });
}

#[test]
fn an_errno_is_eperm_unless_the_rule_says_another() {
    in_modes(LIFECYCLE, |t| {
        let outcome = allowing_all_but(with_tmp(t.bundle()), no_mkdir(json!({"action": "SCMP_ACT_ERRNO"}))).run().ok();
        assert!(outcome.stdout.contains("Operation not permitted"), "{outcome:?}");
    });
}

/// Calls that were there before Linux 4.12, enough for a runtime's init and a program that does little.
const OLD: [&str; 70] = [
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "clone",
    "close",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "fchdir",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "recvfrom",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "setgroups",
    "setresgid",
    "setresuid",
    "sigaltstack",
    "statx",
    "tgkill",
    "uname",
    "wait4",
    "write",
];

/// A profile that lets `names` pass, and answers everything else by its default.
fn forbidding_all_but<'t>(bundle: Bundle<'t>, names: &[&str], default: Value) -> Bundle<'t> {
    // Older runcs look for the newest call of listed architectures alone.
    let native = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": [native],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
    profile.as_object_mut().expect("an object").extend(default.as_object().expect("an object").clone());
    bundle.set("/linux/seccomp", profile)
}

#[test]
fn a_call_newer_than_the_profile_is_not_there_and_one_that_it_leaves_out_is_forbidden() {
    in_modes(LIFECYCLE, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun answers both by the default action");
        }
        for (default, mkdir) in [(json!({}), 1), (json!({"defaultErrnoRet": 28}), 28)] {
            let outcome = forbidding_all_but(with_caller(t.bundle(), "newer"), &OLD, default).run().ok();
            assert_eq!(outcome.stdout, format!("pidfd_open 38\nmkdir {mkdir}\n"));
        }
        // A profile that knows a later call knows this one, and forbids it.
        let names = [&OLD[..], &["close_range"]].concat();
        let outcome = forbidding_all_but(with_caller(t.bundle(), "newer"), &names, json!({})).run().ok();
        assert_eq!(outcome.stdout, "pidfd_open 1\nmkdir 1\n");
    });
}

#[test]
fn an_errno_beyond_eight_bits_is_not_taken_for_another() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the runc and crun of Debian end otherwise");
        // Of 256 nothing is left in eight bits, of 258 the ENOENT of a search that goes on.
        for errno in [256, 258, 524] {
            let rules = json!([{"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]);
            let outcome = allowing_all_but(t.bundle().args(["/bin/true"]), rules).run();
            outcome.fails_with(&["exec /bin/true: "]);
        }
        // The rights are given up below the filter.
        let rules = json!([{"names": ["capset"], "action": "SCMP_ACT_ERRNO", "errnoRet": 256}]);
        let bundle = t.bundle().args(["/bin/true"]).set("/process/noNewPrivileges", json!(false));
        allowing_all_but(bundle, rules).run().fails_with(&["capset"]);
    });
}

#[test]
fn a_name_that_nobody_knows_is_passed_over() {
    in_modes(LIFECYCLE, |t| {
        let rules = json!([{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]);
        allowing_all_but(t.bundle().sh("true"), rules).run().ok();
    });
}

#[test]
fn an_argument_decides_where_the_rule_says_so() {
    in_modes(LIFECYCLE, |t| {
        // kill -0 passes, any other signal is refused.
        let rules = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_NE"}]}]);
        let bundle = t.bundle().sh("kill -0 $$ && echo passes; kill -CONT $$ 2>&1 || echo refused");
        let outcome = allowing_all_but(bundle, rules).run().ok();
        assert!(outcome.stdout.contains("passes") && outcome.stdout.contains("refused"), "{outcome:?}");
    });
}

#[test]
fn the_filter_of_the_container_holds_for_exec() {
    in_modes(LIFECYCLE, |t| {
        let rules = no_mkdir(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28}));
        let container = allowing_all_but(t.bundle().idle(), rules).run_detached();
        let outcome = container.call("exec", &["grep", "Seccomp:", "/proc/self/status"]).ok();
        assert!(outcome.stdout.contains("Seccomp:\t2"), "{outcome:?}");
        container.delete_force().ok();
    });
}

#[test]
fn bits_of_an_argument_decide_by_a_mask() {
    in_modes(LIFECYCLE, |t| {
        // The set-user-id bit, and no other bit of the mode.
        let args = json!([{"index": 1, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"}]);
        let rules = json!([{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
        let script =
            "touch /tmp/f; for mode in 755 2777 4755 7000; do chmod $mode /tmp/f 2>/dev/null && echo $mode; done; true";
        let outcome = allowing_all_but(with_empty_tmp(t.bundle()).sh(script), rules).run().ok();
        assert_eq!(outcome.stdout, "755\n2777\n");
    });
}

#[test]
fn both_words_of_an_argument_are_compared() {
    in_modes(LIFECYCLE, |t| {
        const FOUR_GIB: u64 = 1 << 32;
        // Sizes of files: the argument that a filter sees in two words.
        let passing = |op: &str, value: u64| {
            let args = json!([{"index": 1, "value": value, "op": op}]);
            let rules = json!([{"names": ["ftruncate"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": args}]);
            let script = "for size in 5 4294967295 4294967296 4294967301 8589934592; do \
                truncate -s $size /tmp/f 2>/dev/null && echo $size; done; true";
            let outcome = allowing_all_but(with_empty_tmp(t.bundle()).sh(script), rules).run().ok();
            outcome.stdout.split_whitespace().map(|size| size.parse().expect("a size")).collect::<Vec<u64>>()
        };
        assert_eq!(passing("SCMP_CMP_GE", FOUR_GIB), [5, FOUR_GIB - 1]);
        assert_eq!(passing("SCMP_CMP_GT", FOUR_GIB), [5, FOUR_GIB - 1, FOUR_GIB]);
        assert_eq!(passing("SCMP_CMP_LT", FOUR_GIB + 5), [FOUR_GIB + 5, 2 * FOUR_GIB]);
        assert_eq!(passing("SCMP_CMP_LE", FOUR_GIB), [FOUR_GIB + 5, 2 * FOUR_GIB]);
        assert_eq!(passing("SCMP_CMP_EQ", 5), [FOUR_GIB - 1, FOUR_GIB, FOUR_GIB + 5, 2 * FOUR_GIB]);
        assert_eq!(passing("SCMP_CMP_NE", FOUR_GIB + 5), [FOUR_GIB + 5]);
    });
}

/// The flags of the last seccomp(2) that loads a filter, as strace has them.
fn loaded_flags(t: &Test, bundle: &Bundle<'_>) -> String {
    let output = t.dir().join(t.name("strace"));
    let file = output.to_str().expect("a path");
    let options = ["strace", "-f", "-qq", "-e", "trace=seccomp", "-e", "signal=none", "-o", file];
    bundle.write();
    let mut command = t.wrapped(&options, ["run", "--bundle"]);
    command.arg(bundle.dir()).arg(bundle.id());
    t.finish(command).ok();
    let text = fs::read_to_string(&output).expect("strace's output");
    // Calls with a null pointer, and those that fail, only ask what the kernel knows.
    let mut loads = text.lines().filter_map(|line| {
        let (_, arguments) = line.split_once("seccomp(SECCOMP_SET_MODE_FILTER, ")?;
        let (flags, rest) = arguments.split_once(", ")?;
        rest.starts_with("{len=").then(|| flags.to_owned())
    });
    loads.next_back().unwrap_or_else(|| panic!("no filter is loaded:\n{text}"))
}

#[test]
fn the_flags_are_those_of_the_profile_and_spec_allow_where_it_has_no_list() {
    in_modes(V2, |t| {
        t.needs_program("strace");
        if t.is(&[Kind::Runc]) {
            t.skip("strace does not follow runc's init up to the filter; older ones know no flags");
        }
        let flags = |flags: Option<Value>| {
            let bundle = allowing_all_but(t.bundle().sh("true"), no_mkdir(json!({"action": "SCMP_ACT_ERRNO"})));
            let bundle = match flags {
                Some(flags) => bundle.set("/linux/seccomp/flags", flags),
                None => bundle,
            };
            let text = loaded_flags(t, &bundle);
            let mut names: Vec<String> =
                text.split('|').map(|flag| flag.trim_start_matches("SECCOMP_FILTER_FLAG_").to_owned()).collect();
            names.retain(|name| name != "0");
            names.sort();
            names.join(" ")
        };
        assert_eq!(flags(None), "SPEC_ALLOW");
        assert_eq!(flags(Some(json!([]))), "");
        assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_LOG"]))), "LOG");
        assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))), "SPEC_ALLOW");
        // One thread loads it, and has it: some pass this flag on nevertheless.
        let expected = if t.is(&[Kind::Runb]) { "" } else { "TSYNC" };
        assert_eq!(flags(Some(json!(["SECCOMP_FILTER_FLAG_TSYNC"]))), expected);
    });
}

#[test]
fn the_mitigation_of_speculative_store_bypass_stays_off_unless_the_profile_has_flags() {
    in_modes(V2, |t| {
        let line = |flags: Option<Value>| {
            let bundle = t.bundle().sh("grep Speculation_Store_Bypass /proc/self/status");
            let bundle = allowing_all_but(bundle, no_mkdir(json!({"action": "SCMP_ACT_ERRNO"})));
            match flags {
                Some(flags) => bundle.set("/linux/seccomp/flags", flags).run().ok().stdout,
                None => bundle.run().ok().stdout,
            }
        };
        if !line(None).contains("thread ") {
            t.skip(format!("this kernel does not switch it for each thread: {}", line(None).trim()));
        }
        assert!(line(None).contains("thread vulnerable"));
        // Linux before 5.16 mitigates for every filter; later ones only where they were told to (spec_store_bypass_disable=).
        let flags = line(Some(json!([])));
        assert!(flags.contains("thread force mitigated") || flags.contains("thread vulnerable"), "{flags}");
    });
}

#[test]
fn wait_killable_recv_is_taken_with_and_without_a_listener() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers do not know the flag");
        let bundle = allowing_all_but(t.bundle().sh("true"), no_mkdir(json!({"action": "SCMP_ACT_ERRNO"})));
        let flags = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"]);
        let bundle = bundle.set("/linux/seccomp/flags", flags);
        bundle.run().ok();
        let path = bundle.dir().join("listener");
        let agent = Agent::bind(&path).answers(&[("mkdir", Answer::Errno(28))]);
        let bundle = bundle.set("/linux/seccomp/listenerPath", json!(path));
        let bundle = bundle.set("/linux/seccomp/syscalls", no_mkdir(json!({"action": "SCMP_ACT_NOTIFY"})));
        let outcome = with_tmp(bundle).run().ok();
        assert!(outcome.stdout.contains("No space left on device"), "{outcome:?}");
        agent.join().expect("the agent");
    });
}

#[test]
fn a_flag_or_an_action_that_nobody_knows_is_refused_by_name() {
    in_modes(V2, |t| {
        let bundle = || allowing_all_but(t.bundle().sh("true"), no_mkdir(json!({"action": "SCMP_ACT_ERRNO"})));
        let flag = bundle().set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_NOTHING"])).run();
        let old_runc = flag.stderr.contains("seccomp flags are not yet supported");
        assert!(flag.code != 0 && (old_runc || flag.stderr.contains("SECCOMP_FILTER_FLAG_NOTHING")), "{flag:?}");
        let action = bundle().set("/linux/seccomp/defaultAction", json!("SCMP_ACT_NOTHING")).run();
        assert!(action.code != 0 && action.stderr.contains("SCMP_ACT_NOTHING"), "{action:?}");
        if t.is(&[Kind::Runb]) {
            assert!(flag.stderr.contains("linux.seccomp.flags[0]"), "{flag:?}");
            assert!(action.stderr.contains("linux.seccomp.defaultAction"), "{action:?}");
        }
    });
}
