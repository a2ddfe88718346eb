//! The calls to ask about: every number, and the arguments that a profile could tell apart.

use oci_spec::runtime::LinuxSeccomp;
use runb_core::plan::seccomp::{Abi, Call};

use crate::random::Random;
use crate::reference::audit;

/// Every number that an architecture has or could have soon, x32's, and the edges of the rest.
pub fn numbers() -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..=600).collect();
    numbers.extend((0..=600).map(|number| 0x4000_0000 | number));
    for edge in
        [1024, 0xffff, 0x0f_0000, 0x0f_0006, 0x10_0000, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xc000_0000]
    {
        numbers.extend((0..=6).map(|i| edge + i));
    }
    numbers.extend((0..20).map(|i| u32::MAX - i));
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// The architectures, and values that are none of them.
pub fn architectures() -> Vec<u32> {
    let mut all: Vec<u32> = [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm].into_iter().map(audit).collect();
    // AUDIT_ARCH_PPC64LE, and no architecture.
    all.extend([0xc000_0015, 0]);
    all
}

/// Values around those that `profile` compares with, in either word.
pub fn values(profile: &LinuxSeccomp) -> Vec<u64> {
    let mut values = vec![0, 1, 2, u64::from(u32::MAX), 1 << 32, u64::MAX];
    let args = profile.syscalls().iter().flatten().flat_map(|rule| rule.args().iter().flatten());
    for value in args.flat_map(|arg| [arg.value(), arg.value_two().unwrap_or(0)]) {
        values.extend([value, value.wrapping_sub(1), value.wrapping_add(1), !value]);
        values.extend([value ^ (1 << 32), value.wrapping_add(1 << 32), value.wrapping_sub(1 << 32)]);
        values.extend([value & 0xffff_ffff, value >> 32, value << 32, value | 0xffff_ffff]);
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// At most so many values are tried in each place.
const MOST_VALUES: usize = 40;

/// Calls `check` with every number of every architecture, each with several lists of arguments; for a number of `busy`, with
/// values in each place, and with `tries` random lists.
pub fn each(profile: &LinuxSeccomp, busy: &[u32], tries: usize, random: &mut Random, mut check: impl FnMut(&Call)) {
    let mut values = values(profile);
    while values.len() > MOST_VALUES {
        values.swap_remove(random.below(values.len()));
    }
    let pick = |random: &mut Random| values[random.below(values.len())];
    for arch in architectures() {
        for number in numbers() {
            check(&Call { arch, number, arguments: [0; 6] });
            let arguments = [(); 6].map(|()| pick(random));
            check(&Call { arch, number, arguments });
            if !busy.contains(&(number & !0x4000_0000)) {
                continue;
            }
            for place in 0..6 {
                for &value in &values {
                    let mut arguments = [0; 6];
                    arguments[place] = value;
                    check(&Call { arch, number, arguments });
                }
            }
            for _ in 0..tries {
                let arguments = [(); 6].map(|()| pick(random));
                check(&Call { arch, number, arguments });
            }
        }
    }
}
