//! What the seccomp compiler accepts, refuses and says. That its verdicts are libseccomp's is shown in tests/seccomp.

use oci_spec::runtime::LinuxSeccomp;
use runb_core::Kind;
use runb_core::plan::seccomp::{Abi, Action, Filter, FilterFlags, Kernel, Native, compile, explain, verdict};
use serde_json::{Value, json};

const KERNEL: Kernel = Kernel::of_release(5, 10);

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn filter(value: Value) -> Filter {
    compile(&profile(value), Native::X86_64, &KERNEL).unwrap()
}

/// The message of the refusal, with its place.
fn refusal(value: Value) -> String {
    let error = compile(&profile(value), Native::X86_64, &KERNEL).unwrap_err();
    assert_eq!(error.kind(), Kind::Spec);
    error.to_string()
}

/// A profile that allows everything but what `rules` say.
fn allowing(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

fn action(filter: &Filter, name: &str, arguments: [u64; 6]) -> Action {
    verdict(filter, Abi::X86_64, name, arguments).unwrap().action
}

const EPERM: Action = Action(0x0005_0001);

#[test]
fn an_errno_beside_an_action_without_one_is_refused() {
    let rules = json!([{ "names": ["read"], "action": "SCMP_ACT_LOG" }, { "names": ["write"], "action": "SCMP_ACT_TRAP", "errnoRet": 5 }]);
    assert_eq!(
        refusal(allowing(rules)),
        "linux.seccomp.syscalls[1].errnoRet: SCMP_ACT_TRAP takes no errno, 5 is given"
    );
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1 })),
        "linux.seccomp.defaultErrnoRet: SCMP_ACT_ALLOW takes no errno, 1 is given"
    );
}

#[test]
fn an_errno_that_the_kernel_would_cut_is_refused() {
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096 })),
        "linux.seccomp.defaultErrnoRet: 4096 is more than SCMP_ACT_ERRNO can return, 4095"
    );
}

#[test]
fn a_seventh_argument_is_refused() {
    let args =
        json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }, { "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }]);
    assert_eq!(
        refusal(allowing(json!([{ "names": ["read"], "action": "SCMP_ACT_KILL", "args": args }]))),
        "linux.seccomp.syscalls[0].args[1].index: a system call has 6 arguments, this would be argument 6"
    );
}

#[test]
fn a_second_operand_of_a_comparison_with_one_is_refused() {
    let args = json!([{ "index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_GE" }]);
    assert_eq!(
        refusal(allowing(json!([{ "names": ["read"], "action": "SCMP_ACT_KILL", "args": args }]))),
        "linux.seccomp.syscalls[0].args[0].valueTwo: SCMP_CMP_GE has one operand, 2 would be a second one"
    );
}

#[test]
fn a_rule_without_a_name_is_refused() {
    assert_eq!(
        refusal(allowing(json!([{ "names": [], "action": "SCMP_ACT_KILL" }]))),
        "linux.seccomp.syscalls[0].names: must hold at least one name"
    );
    assert_eq!(
        refusal(allowing(json!([{ "names": ["read", ""], "action": "SCMP_ACT_KILL" }]))),
        "linux.seccomp.syscalls[0].names[1]: an empty name"
    );
}

#[test]
fn rules_that_contradict_each_other_are_refused_with_both_places() {
    let args = json!([{ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let rules = json!([
        { "names": ["read"], "action": "SCMP_ACT_KILL", "args": args },
        { "names": ["write", "read"], "action": "SCMP_ACT_ERRNO", "args": args },
    ]);
    assert_eq!(
        refusal(allowing(rules)),
        "linux.seccomp.syscalls[1]: names a call under conditions for which linux.seccomp.syscalls[0] demands another action"
    );
}

#[test]
fn a_listener_must_be_named_where_one_is_needed_and_only_there() {
    let notify = json!([{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }]);
    assert_eq!(
        refusal(allowing(notify.clone())),
        "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath"
    );
    assert_eq!(
        refusal(json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" })),
        "linux.seccomp.listenerMetadata: must not be set where listenerPath is not"
    );
    let with = filter(
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a", "listenerMetadata": "m", "syscalls": notify }),
    );
    let listener = with.listener.unwrap();
    assert_eq!((listener.path.to_str(), listener.metadata.as_deref()), (Some("/run/a"), Some("m")));
    assert!(with.flags.has(FilterFlags::NEW_LISTENER));
    let without = filter(json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/a" }));
    assert!(without.listener.is_none() && !without.flags.has(FilterFlags::NEW_LISTENER));
}

#[test]
fn notify_is_refused_where_the_listener_could_never_be_reached() {
    let profile = json!({ "defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/a" });
    assert_eq!(refusal(profile), "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action");
    let rules = json!([{ "names": ["write"], "action": "SCMP_ACT_NOTIFY" }]);
    assert_eq!(
        refusal(allowing(rules)),
        "linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall, by which the listener is handed over"
    );
}

#[test]
fn flags_are_those_given_and_spec_allow_where_there_is_no_list() {
    let with = |flags: Value| filter(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags })).flags;
    assert_eq!(filter(json!({ "defaultAction": "SCMP_ACT_ALLOW" })).flags, FilterFlags::SPEC_ALLOW);
    assert_eq!(with(json!([])), FilterFlags::default());
    assert_eq!(with(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])), FilterFlags::LOG);
}

#[test]
fn a_flag_that_the_kernel_lacks_is_refused() {
    let flags = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] });
    assert_eq!(
        refusal(flags.clone()),
        "linux.seccomp.flags[1]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19"
    );
    assert!(compile(&profile(flags), Native::X86_64, &Kernel::of_release(6, 1)).is_ok());
}

#[test]
fn an_architecture_without_a_name_is_refused_and_a_foreign_one_has_no_effect() {
    let with = |arch: &str| json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", arch] });
    assert!(refusal(with("SCMP_ARCH_NATIVE")).starts_with("linux.seccomp.architectures[1]: SCMP_ARCH_NATIVE"));
    assert_eq!(filter(with("SCMP_ARCH_S390X")).abis, [Abi::X86_64, Abi::X86]);
    assert_eq!(filter(with("SCMP_ARCH_AARCH64")), filter(with("SCMP_ARCH_X86")));
}

#[test]
fn names_that_no_architecture_has_are_skipped() {
    let known = json!([{ "names": ["read"], "action": "SCMP_ACT_KILL" }]);
    let unknown = json!([{ "names": ["read", "call_of_2040"], "action": "SCMP_ACT_KILL" }]);
    assert_eq!(filter(allowing(known)), filter(allowing(unknown)));
}

#[test]
fn a_filter_too_long_for_the_kernel_is_refused() {
    let rule = |i: u64| {
        let args: Vec<Value> =
            (0..6).map(|index| json!({ "index": index, "value": i << 32 | 7, "op": "SCMP_CMP_GT" })).collect();
        json!({ "names": ["ioctl"], "action": "SCMP_ACT_KILL", "args": args })
    };
    let rules: Vec<Value> = (0..200).map(rule).collect();
    let message = refusal(allowing(rules.into()));
    assert!(
        message.starts_with("linux.seccomp: takes ") && message.ends_with("BPF instructions, the kernel allows 4096"),
        "{message}"
    );
}

#[test]
fn jumps_longer_than_a_byte_arrive() {
    // Some thousand instructions of conditions between the dispatch and its ends.
    let rule = |i: u64| {
        let args: Vec<Value> =
            (0..6).map(|index| json!({ "index": index, "value": i << 32 | 7, "op": "SCMP_CMP_GT" })).collect();
        json!({ "names": ["ioctl"], "action": "SCMP_ACT_KILL", "args": args })
    };
    let mut rules: Vec<Value> = (0..120).map(rule).collect();
    rules.push(json!({ "names": ["read", "write", "mseal"], "action": "SCMP_ACT_ERRNO" }));
    let filter = filter(allowing(rules.into()));
    assert!(filter.instructions.len() > 1500, "{}", filter.instructions.len());
    assert_eq!(action(&filter, "ioctl", [8; 6]), Action::KILL_THREAD);
    assert_eq!(action(&filter, "ioctl", [7; 6]), Action::ALLOW);
    assert_eq!(action(&filter, "mseal", [0; 6]), EPERM);
    assert_eq!(action(&filter, "read", [0; 6]), EPERM);
    assert_eq!(action(&filter, "close", [0; 6]), Action::ALLOW);
}

#[test]
fn the_first_rule_without_conditions_wins_over_all_others() {
    let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let filter = filter(allowing(json!([
        { "names": ["read"], "action": "SCMP_ACT_TRAP", "args": args },
        { "names": ["read"], "action": "SCMP_ACT_ERRNO" },
        { "names": ["read"], "action": "SCMP_ACT_KILL" },
    ])));
    assert_eq!(action(&filter, "read", [1, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(action(&filter, "read", [0; 6]), EPERM);
}

#[test]
fn a_rule_with_the_default_action_changes_nothing() {
    let args = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }]);
    let filter = filter(allowing(json!([
        { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args },
        { "names": ["read"], "action": "SCMP_ACT_ERRNO" },
    ])));
    assert_eq!(action(&filter, "read", [1, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn calls_newer_than_the_profile_get_enosys_unless_the_default_lets_them_pass() {
    let newer = |default: &str| {
        let filter = filter(
            json!({ "defaultAction": default, "syscalls": [{ "names": ["read", "statx"], "action": "SCMP_ACT_LOG" }] }),
        );
        (action(&filter, "333", [0; 6]), action(&filter, "331", [0; 6]))
    };
    for (default, older) in [
        ("SCMP_ACT_ERRNO", EPERM),
        ("SCMP_ACT_KILL_PROCESS", Action::KILL_PROCESS),
        ("SCMP_ACT_TRAP", Action(0x0003_0000)),
    ] {
        assert_eq!(newer(default), (Action::ENOSYS, older), "{default}");
    }
    assert_eq!(newer("SCMP_ACT_ALLOW").0, Action::ALLOW);
    assert_eq!(newer("SCMP_ACT_TRACE").0, Action(0x7ff0_0001));
}

#[test]
fn calls_of_an_unlisted_architecture_are_killed() {
    let filter = filter(allowing(json!([])));
    for abi in [Abi::X86, Abi::X32, Abi::Aarch64] {
        assert_eq!(verdict(&filter, abi, "read", [0; 6]).unwrap().action, Action::KILL_THREAD, "{abi:?}");
    }
    assert_eq!(action(&filter, "read", [0; 6]), Action::ALLOW);
}

#[test]
fn a_filter_that_kills_everything_is_one_instruction() {
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_KILL" }));
    assert_eq!(explain(&filter), "    0  return KILL_THREAD\n");
    assert_eq!(action(&filter, "read", [0; 6]), Action::KILL_THREAD);
}

#[test]
fn the_verdict_is_a_sentence() {
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        { "names": ["read", "statx"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
    ] }));
    let says =
        |name: &str, first: u64| verdict(&filter, Abi::X86_64, name, [first, 0, 0, 0, 0, 0]).unwrap().to_string();
    assert_eq!(says("personality", 8), "x86_64 personality(0x8, 0x0, 0x0, 0x0, 0x0, 0x0): passes");
    assert_eq!(says("135", 9), "x86_64 personality(0x9, 0x0, 0x0, 0x0, 0x0, 0x0): fails with EPERM");
    assert_eq!(says("999", 0), "x86_64 call 999(0x0, 0x0, 0x0, 0x0, 0x0, 0x0): fails with ENOSYS");
    let error = verdict(&filter, Abi::X86_64, "socketcall", [0; 6]).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Usage, "x86_64 has no system call socketcall"));
}

#[test]
fn the_listing_names_calls_arguments_and_actions() {
    let filter = filter(json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
        { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        { "names": ["statx"], "action": "SCMP_ACT_ALLOW" },
    ] }));
    let listing = explain(&filter);
    assert!(listing == LISTING, "the listing is\n{listing}");
}

const LISTING: &str = "    0  load arch
    1  == x86_64 ? 3 : 2
    2  == x86 ? 16 : 11
x86_64:
    3  load number
    4  >= 0x40000000 ? 8 : 5
    5  >= 332 (statx) ? 7 : 6
    6  == 135 (personality) ? 12 : 23
    7  >= 333 (io_pgetevents) ? 20 : 24
    8  >= 0xc0000000 ? 10 : 9
    9  >= 0x80000000 ? 20 : 11
   10  >= 0xffffffff ? 23 : 11
   11  return KILL_THREAD
   12  load argument 0, upper word
   13  == 0x0 ? 14 : 23
   14  load argument 0, lower word
   15  == 0x8 ? 24 : 23
x86:
   16  load number
   17  >= 383 (statx) ? 19 : 18
   18  == 136 (personality) ? 21 : 23
   19  >= 384 (arch_prctl) ? 20 : 24
   20  return ERRNO ENOSYS
   21  load argument 0, lower word
   22  == 0x8 ? 24 : 23
   23  return ERRNO EPERM
   24  return ALLOW
";
