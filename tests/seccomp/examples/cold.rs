//! What the compiler costs a launch: once in a fresh process, as a launch does it. Time, page faults, allocations, and where the
//! process counts them, instructions.
//!
//! `cargo run --release -p runb-seccomp-tests --example cold [PROCESSES]`
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use runb_core::plan::seccomp::{Kernel, Native, compile};
use runb_seccomp_tests::profiles;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: everything is done by the system's allocator, by the same contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Faults that needed no disk.
fn faults() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).expect("getrusage").minor_page_faults()
}

/// One compilation, in nanoseconds, page faults, allocations, bytes.
fn once() -> [u64; 4] {
    let profile = profiles::docker();
    let kernel = Kernel::of_release(6, 1);
    // The clock itself is mapped and warm.
    let (_, _) = (Instant::now().elapsed(), faults());
    let before = [0, faults() as u64, ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed)];
    let start = Instant::now();
    let filter = compile(&profile, Native::X86_64, &kernel).expect("compiles");
    let time = start.elapsed().as_nanos() as u64;
    let after = [time, faults() as u64, ALLOCATIONS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed)];
    assert!(!filter.instructions.is_empty());
    std::array::from_fn(|i| after[i] - before[i])
}

fn main() {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("once") {
        let [time, faults, allocations, bytes] = once();
        println!("{time} {faults} {allocations} {bytes}");
        return;
    }
    let count = argument.map_or(201, |text| text.parse().expect("a number of processes"));
    let program = std::env::current_exe().expect("own path");
    let mut results: Vec<Vec<u64>> = (0..count)
        .map(|_| {
            let output = Command::new(&program).arg("once").output().expect("start");
            let text = String::from_utf8(output.stdout).expect("text");
            text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
        })
        .collect();
    results.sort();
    let at = |part: usize| &results[(count - 1) * part / 100];
    for (name, part) in [("fastest", 0), ("median", 50), ("90 of 100", 90), ("99 of 100", 99), ("slowest", 100)] {
        let [time, faults, allocations, bytes] = at(part)[..] else { unreachable!() };
        println!("{name}: {time} ns, {faults} page faults, {allocations} allocations, {bytes} bytes");
    }
}
