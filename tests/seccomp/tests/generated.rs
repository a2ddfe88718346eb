//! Generated profiles: the same verdicts as libseccomp, the same refusals, programs that the kernel takes.

use oci_spec::runtime::{Arch, LinuxSeccomp};
use runb_core::plan::seccomp::{Abi, Call, Filter, Kernel, Native, compile, run};
use runb_seccomp_tests::random::Random;
use runb_seccomp_tests::reference::{Layout, Reference, known_part};
use runb_seccomp_tests::{calls, generated, kernel};

const KERNEL: Kernel = Kernel::of_release(5, 10);
/// About ten seconds.
const PROFILES: u64 = 400;

fn abis(profile: &LinuxSeccomp) -> Vec<Abi> {
    let listed = |arch: Arch| profile.architectures().iter().flatten().any(|&one| one == arch);
    let mut abis = vec![Abi::X86_64];
    abis.extend(listed(Arch::ScmpArchX32).then_some(Abi::X32));
    abis.extend(listed(Arch::ScmpArchX86).then_some(Abi::X86));
    abis
}

/// The calls that have conditions, by number, on any ABI.
fn busy(profile: &LinuxSeccomp) -> Vec<u32> {
    let mut numbers = vec![102, 117];
    for rule in profile.syscalls().iter().flatten().filter(|rule| rule.args().is_some()) {
        for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
            let call = rule.names().iter().filter_map(|name| Call::new(abi, name, [0; 6]).ok());
            numbers.extend(call.map(|call| call.number & !0x4000_0000));
        }
    }
    numbers
}

fn compare(seed: u64, profile: &LinuxSeccomp, filter: &Filter, reference: &Reference) {
    let mut random = Random::new(seed ^ 0x5eed);
    calls::each(profile, &busy(profile), 60, &mut random, |call| {
        let ours = run(&filter.instructions, call).expect("runs").0;
        let theirs = reference.verdict(call);
        if ours != theirs {
            let name = profile.syscalls().iter().flatten().filter(|rule| {
                rule.names().iter().any(|name| {
                    [Abi::X86_64, Abi::X32, Abi::X86]
                        .iter()
                        .any(|&abi| Call::new(abi, name, [0; 6]).is_ok_and(|one| one.arch == call.arch && one.number == call.number))
                })
            });
            let rules: Vec<String> = name.map(|rule| serde_json::to_string(rule).expect("JSON")).collect();
            panic!("seed {seed}: {call:x?}: {ours} here, {theirs} with libseccomp\n{}", rules.join("\n"));
        }
    });
}

#[test]
fn generated_profiles_give_every_call_libseccomps_verdict_or_are_refused_by_both() {
    let (mut compared, mut refused) = (0, 0);
    for seed in 1..=PROFILES {
        let profile = known_part(&generated::profile(&mut Random::new(seed)));
        let ours = compile(&profile, Native::X86_64, &KERNEL);
        let layout = if seed % 2 == 0 { Layout::Tree } else { Layout::Linear };
        match (ours, Reference::compile(&profile, &abis(&profile), layout)) {
            (Ok(filter), Ok(reference)) => {
                compare(seed, &profile, &filter, &reference);
                compared += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (ours, theirs) => panic!("seed {seed}: {:?} here, {:?} with libseccomp", ours.err(), theirs.err()),
        }
    }
    assert!(compared > PROFILES / 2 && refused > 0, "{compared} compared, {refused} refused");
}

#[test]
fn the_kernel_takes_every_generated_filter() {
    for seed in 1..=PROFILES {
        let profile = generated::profile(&mut Random::new(seed));
        if let Ok(filter) = compile(&profile, Native::X86_64, &KERNEL) {
            kernel::takes(&filter).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}
