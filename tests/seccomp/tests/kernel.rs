//! The kernel's word on the engines' profiles, and on the flags.

use oci_spec::runtime::LinuxSeccompFilterFlag;
use runb_core::plan::seccomp::{FilterFlags, Instruction, Kernel, MOST_INSTRUCTIONS, Native, compile};
use runb_seccomp_tests::{kernel, profiles};
use serde_json::json;

const KERNEL: Kernel = Kernel::of_release(5, 10);

#[test]
fn the_kernel_takes_the_profiles_of_the_engines() {
    for profile in [profiles::docker(), profiles::containerd(), profiles::podman()] {
        let filter = compile(&profile, Native::X86_64, &KERNEL).expect("compiles");
        assert!(filter.flags.has(FilterFlags::SPEC_ALLOW), "the default where no flags are given");
        kernel::takes(&filter).expect("the kernel takes it");
    }
}

#[test]
fn the_kernel_takes_each_flag() {
    let mut flags = vec![LinuxSeccompFilterFlag::SeccompFilterFlagLog];
    flags.push(LinuxSeccompFilterFlag::SeccompFilterFlagTsync);
    flags.push(LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow);
    flags.push(LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv);
    for count in 0..=flags.len() {
        let mut profile = profiles::docker();
        profile.set_flags(Some(flags[..count].to_vec()));
        let filter = compile(&profile, Native::X86_64, &Kernel::of_release(5, 19)).expect("compiles");
        kernel::takes(&filter).expect("the kernel takes it");
    }
}

#[test]
fn the_kernel_takes_a_filter_with_a_listener_and_all_flags() {
    let mut flags = vec!["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
    let mut release = Kernel::of_release(5, 10);
    if running_release() >= (5, 19) {
        flags.push("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
        release = Kernel::of_release(5, 19);
    }
    let profile = profiles::read(json!({
        "defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "listenerPath": "/run/agent.sock",
        "syscalls": [{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }],
    }));
    let filter = compile(&profile, Native::X86_64, &release).expect("compiles");
    assert!(filter.flags.has(FilterFlags::NEW_LISTENER));
    kernel::takes(&filter).expect("the kernel takes it");
}

fn running_release() -> (u32, u32) {
    let name = nix::sys::utsname::uname().expect("uname");
    let mut numbers = name.release().to_str().expect("digits").split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|one| one.parse().ok()).expect("a number");
    (next(), next())
}

#[test]
fn the_kernel_refuses_a_program_without_an_end() {
    let mut filter = compile(&profiles::docker(), Native::X86_64, &KERNEL).expect("compiles");
    filter.instructions.truncate(1);
    assert!(kernel::takes(&filter).is_err(), "the test can tell");
    filter.instructions = vec![Instruction(0x06); MOST_INSTRUCTIONS + 1];
    assert!(kernel::takes(&filter).is_err(), "too long");
    filter.instructions.truncate(MOST_INSTRUCTIONS);
    kernel::takes(&filter).expect("the longest program that there can be");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn under_dockers_profile_real_calls_end_as_the_filter_says() {
    let filter = compile(&profiles::docker(), Native::X86_64, &KERNEL).expect("compiles");
    let (eperm, enosys, eafnosupport) = (-1, -38, -97);
    let results = kernel::results(
        &filter,
        &[
            // personality: asking is allowed, STICKY_TIMEOUTS is not, nor is asking with an upper word.
            (135, [0xffff_ffff, 0, 0]),
            (135, [0x400_0000, 0, 0]),
            (135, [0x1_ffff_ffff, 0, 0]),
            // socket: an address family that no kernel has, AF_ALG (38), AF_VSOCK (40).
            (41, [200, 1, 0]),
            (41, [38, 5, 0]),
            (41, [40, 1, 0]),
            // clone3, add_key, a call of the future, clone(CLONE_NEWUSER) without a stack.
            (435, [0, 0, 0]),
            (248, [0, 0, 0]),
            (1000, [0, 0, 0]),
            (56, [0x1000_0000, 0, 0]),
        ],
    );
    assert_eq!(results, [0, eperm, eperm, eafnosupport, eperm, eperm, enosys, eperm, enosys, eperm]);
}
