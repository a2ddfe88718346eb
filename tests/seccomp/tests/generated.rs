//! Generated profiles: the same verdicts as libseccomp, the same refusals, programs that the kernel takes.

use oci_spec::runtime::{Arch, LinuxSeccomp};
use runb_core::plan::seccomp::{Abi, Action, Call, Filter, Kernel, Native, compile, run};
use runb_seccomp_tests::literal::{Libseccomp, Literal};
use runb_seccomp_tests::random::Random;
use runb_seccomp_tests::reference::{Layout, Reference, known_part};
use runb_seccomp_tests::{calls, generated, kernel};

const KERNEL: Kernel = Kernel::of_release(5, 10);
/// libseccomp does not end on some of these profiles (2376 is the first).
const PROFILES: u64 = 250;

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

/// The rules that name `call`, as JSON.
fn rules_of(profile: &LinuxSeccomp, call: &Call) -> String {
    let is_it = |name: &String, abi| {
        Call::new(abi, name, [0; 6]).is_ok_and(|one| one.arch == call.arch && one.number == call.number)
    };
    let rules = profile.syscalls().iter().flatten();
    let rules = rules.filter(|rule| rule.names().iter().any(|name| Abi::ALL.iter().any(|&abi| is_it(name, abi))));
    rules.map(|rule| serde_json::to_string(rule).expect("JSON") + "\n").collect()
}

/// How many verdicts libseccomp got wrong. Without a reference only the calls with rules are compared.
fn compare(seed: u64, profile: &LinuxSeccomp, filter: &Filter, reference: Option<&Reference>) -> usize {
    let literal = Literal::read(profile, &abis(profile));
    let mut astray = 0;
    calls::each(profile, &busy(profile), 60, &mut Random::new(seed ^ 0x5eed), |call| {
        let ours = run(&filter.instructions, call).expect("runs").0;
        let theirs = reference.map_or(ours, |reference| reference.verdict(call));
        let context =
            || format!("seed {seed}: {call:x?}: {ours} here, {theirs} with libseccomp\n{}", rules_of(profile, call));
        let (said, libseccomp) = literal.verdicts(call).unwrap_or((vec![theirs], Libseccomp::Exact));
        let default = Action(profile.default_action().as_u32(profile.default_errno_ret()));
        let is_said = if said.is_empty() { ours == default } else { said.contains(&ours) };
        assert!(is_said, "the rules say {said:x?}: {}", context());
        match libseccomp {
            Libseccomp::Exact => assert_eq!(ours, theirs, "{}", context()),
            Libseccomp::Astray => astray += usize::from(ours != theirs),
        }
    });
    astray
}

#[test]
fn generated_profiles_give_every_call_the_verdict_of_their_rules_and_of_libseccomp() {
    let (mut compared, mut refused, mut alone, mut astray) = (0, 0, 0, 0);
    for seed in 1..=PROFILES {
        let profile = known_part(&generated::profile(&mut Random::new(seed)));
        let ours = compile(&profile, Native::X86_64, &KERNEL);
        match (ours, Reference::compile(&profile, &abis(&profile), Layout::Tree)) {
            (Ok(filter), Ok(reference)) => {
                astray += compare(seed, &profile, &filter, Some(&reference));
                compared += 1;
            }
            // It weighs rules of calls that an ABI does not have, under numbers of its own.
            (Ok(filter), Err(_)) => {
                compare(seed, &profile, &filter, None);
                alone += 1;
            }
            (Err(_), Err(_)) => refused += 1,
            (Err(error), Ok(_)) => panic!("seed {seed}: {error} here, libseccomp takes it"),
        }
    }
    println!(
        "{compared} compared, {refused} refused by both, {alone} by libseccomp, {astray} verdicts that it gets wrong"
    );
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
