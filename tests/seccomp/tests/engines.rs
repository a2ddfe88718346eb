//! The profiles of the engines: every call gets the verdict that it gets under runc with libseccomp.

use oci_spec::runtime::LinuxSeccomp;
use runb_core::plan::seccomp::{Abi, Action, Kernel, Native, compile, run, verdict};
use runb_seccomp_tests::random::Random;
use runb_seccomp_tests::reference::{Layout, Reference, known_part};
use runb_seccomp_tests::{calls, profiles};

const KERNEL: Kernel = Kernel::of_release(5, 10);
const X86: [Abi; 3] = [Abi::X86_64, Abi::X32, Abi::X86];

/// clone, personality, socket, clone3, socketcall, ipc on the machine's architectures.
const BUSY: [u32; 11] = [56, 120, 220, 135, 136, 92, 41, 359, 198, 102, 117];

fn same_verdicts(profile: &LinuxSeccomp, native: Native, abis: &[Abi]) {
    let profile = known_part(profile);
    let filter = compile(&profile, native, &KERNEL).expect("compiles");
    let reference = Reference::compile(&profile, abis, Layout::Tree).expect("libseccomp compiles");
    let mut asked = 0;
    calls::each(&profile, &BUSY, 50, &mut Random::new(1), |call| {
        asked += 1;
        let ours = run(&filter.instructions, call).expect("runs").0;
        let theirs = reference.verdict(call);
        assert_eq!(ours, theirs, "{call:x?}: {ours} here, {theirs} with libseccomp");
    });
    assert!(asked > 10_000, "{asked} calls asked");
}

#[test]
fn dockers_profile_gives_every_call_libseccomps_verdict() {
    same_verdicts(&profiles::docker(), Native::X86_64, &X86);
}

#[test]
fn containerds_profile_gives_every_call_libseccomps_verdict() {
    same_verdicts(&profiles::containerd(), Native::X86_64, &X86);
}

#[test]
fn podmans_profile_gives_every_call_libseccomps_verdict() {
    same_verdicts(&profiles::podman(), Native::X86_64, &X86);
}

#[test]
fn each_set_of_sub_architectures_gives_libseccomps_verdicts() {
    use oci_spec::runtime::Arch;
    for (arches, abis) in [
        (None, vec![Abi::X86_64]),
        (Some(vec![Arch::ScmpArchX86]), vec![Abi::X86_64, Abi::X86]),
        (Some(vec![Arch::ScmpArchX86_64, Arch::ScmpArchX32]), vec![Abi::X86_64, Abi::X32]),
    ] {
        let mut profile = profiles::docker();
        profile.set_architectures(arches);
        same_verdicts(&profile, Native::X86_64, &abis);
    }
}

#[test]
fn on_aarch64_with_arm_every_call_gets_libseccomps_verdict() {
    use oci_spec::runtime::Arch;
    for profile in [profiles::docker(), profiles::containerd(), profiles::podman()] {
        let mut profile = profile;
        profile.set_architectures(Some(vec![Arch::ScmpArchArm]));
        same_verdicts(&profile, Native::Aarch64, &[Abi::Aarch64, Abi::Arm]);
    }
}

#[test]
fn a_call_newer_than_libseccomp_passes_where_the_profile_names_it() {
    let filter = compile(&profiles::docker(), Native::X86_64, &KERNEL).expect("compiles");
    for abi in X86 {
        for name in ["cachestat", "mseal", "statmount", "setxattrat"] {
            assert_eq!(verdict(&filter, abi, name, [0; 6]).expect("known").action, Action::ALLOW, "{name} {abi:?}");
        }
        let next = verdict(&filter, abi, "600", [0; 6]).expect("a number");
        assert_eq!(next.action, Action::ENOSYS, "{abi:?}");
    }
}
