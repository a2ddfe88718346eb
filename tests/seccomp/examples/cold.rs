//! What the compiler costs a launch: once in a fresh process, as a launch does it; and beside it what a cache of compiled
//! filters would cost at least: to hash the profile, and to read a file of the filter's size.
//!
//! `cargo run --release -p runb-seccomp-tests --example cold [PROCESSES]`

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use oci_spec::runtime::LinuxSeccomp;
use runb_core::plan::seccomp::{Kernel, Native, compile};
use runb_seccomp_tests::counting::{Counting, counted};
use runb_seccomp_tests::profiles;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NAMES: [&str; 7] =
    ["ns to compile", "page faults", "allocations", "bytes", "ns to hash", "ns to read a file", "page faults of both"];

/// Faults that needed no disk.
fn faults() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).expect("getrusage").minor_page_faults() as u64
}

/// Not a hash that could be trusted: one that is faster than those.
fn hash(profile: &LinuxSeccomp) -> u64 {
    let mut hasher = DefaultHasher::new();
    for rule in profile.syscalls().iter().flatten() {
        rule.names().hash(&mut hasher);
        rule.args().iter().flatten().for_each(|arg| (arg.index(), arg.value(), arg.value_two()).hash(&mut hasher));
    }
    hasher.finish()
}

/// One compilation, and one use of a cache in its stead.
fn once(cached: &Path) -> [u64; 7] {
    let profile = profiles::docker();
    let kernel = Kernel::of_release(6, 1);
    // The clock itself is mapped and warm.
    let (_, before) = (Instant::now().elapsed(), faults());
    let start = Instant::now();
    let hashed = hash(&profile);
    let to_hash = start.elapsed().as_nanos() as u64;
    let start = Instant::now();
    let read = std::fs::read(cached).unwrap_or_default();
    let to_read = start.elapsed().as_nanos() as u64;
    let of_cache = faults() - before;

    let before = faults();
    let start = Instant::now();
    let (filter, allocations, bytes) = counted(|| compile(&profile, Native::X86_64, &kernel).expect("compiles"));
    let time = start.elapsed().as_nanos() as u64;
    let page_faults = faults() - before;
    assert!(hashed != 0 && filter.instructions.len() * 8 == read.len());
    [time, page_faults, allocations, bytes, to_hash, to_read, of_cache]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [once_word, cached] = &arguments[..]
        && once_word == "once"
    {
        println!("{}", once(Path::new(cached)).map(|number| number.to_string()).join(" "));
        return;
    }
    let count: usize = arguments.first().map_or(201, |text| text.parse().expect("a number of processes"));
    let filter = compile(&profiles::docker(), Native::X86_64, &Kernel::of_release(6, 1)).expect("compiles");
    let cached = Path::new("/dev/shm").join(format!("runb-cold-{}", std::process::id()));
    std::fs::write(&cached, vec![0; filter.instructions.len() * 8]).expect("write");
    let program = std::env::current_exe().expect("own path");
    let results: Vec<Vec<u64>> = (0..count)
        .map(|_| {
            let output = Command::new(&program).arg("once").arg(&cached).output().expect("start");
            let text = String::from_utf8(output.stdout).expect("text");
            text.split_whitespace().map(|number| number.parse().expect("a number")).collect()
        })
        .collect();
    std::fs::remove_file(&cached).expect("unlink");
    for (i, name) in NAMES.iter().enumerate() {
        let mut column: Vec<u64> = results.iter().map(|result| result[i]).collect();
        column.sort_unstable();
        let at = |part: usize| column[(count - 1) * part / 100];
        println!("{name}: least {}, median {}, 99 of 100 {}, most {}", at(0), at(50), at(99), at(100));
    }
}
