//! What the compiler takes: counts, which are the same on every machine.

use runb_core::plan::seccomp::{Kernel, Native, compile};
use runb_seccomp_tests::counting::{Counting, counted};
use runb_seccomp_tests::profiles;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A fifth more than Docker's profile takes: see docs/decisions/seccomp-no-cache.md.
const MOST_ALLOCATIONS: u64 = 300;
const MOST_BYTES: u64 = 96 << 10;

#[test]
fn an_engines_profile_is_compiled_in_little_memory() {
    for (name, profile) in
        [("Docker", profiles::docker()), ("containerd", profiles::containerd()), ("Podman", profiles::podman())]
    {
        let kernel = Kernel::of_release(5, 10);
        let (filter, allocations, bytes) = counted(|| compile(&profile, Native::X86_64, &kernel).expect("compiles"));
        assert!(filter.instructions.len() > 200, "{name}");
        // Each page that a fresh process touches costs a fault.
        assert!(
            allocations <= MOST_ALLOCATIONS && bytes <= MOST_BYTES,
            "{name}: {allocations} allocations, {bytes} bytes"
        );
    }
}
