//! How long the filters are, how long they take to make, and how long calls take in them: runb and libseccomp.
//!
//! `cargo run --release -p runb-seccomp-tests --example figures`

use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxSeccomp;
use runb_core::plan::seccomp::{Abi, Call, Instruction, Kernel, Native, compile, run};
use runb_seccomp_tests::profiles;
use runb_seccomp_tests::reference::{Layout, Reference, known_part};

const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X32, Abi::X86];
const HOT: [&str; 8] = ["read", "write", "futex", "epoll_wait", "openat", "close", "clone", "socket"];

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(rounds: usize, mut work: impl FnMut()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    median((0..rounds).map(round).collect())
}

fn steps(program: &[Instruction]) -> String {
    let count = |name: &&str| {
        let call = Call::new(Abi::X86_64, name, [0; 6]).expect("known");
        format!("{name} {}", run(program, &call).expect("runs").1)
    };
    HOT.iter().map(count).collect::<Vec<_>>().join(", ")
}

fn figures(name: &str, profile: &LinuxSeccomp) {
    let kernel = Kernel::of_release(5, 10);
    let start = Instant::now();
    let ours = compile(profile, Native::X86_64, &kernel).expect("compiles");
    let first = start.elapsed();
    let time = timed(2001, || drop(compile(profile, Native::X86_64, &kernel)));
    let known = known_part(profile);
    let tree = Reference::compile(&known, &ABIS, Layout::Tree).expect("libseccomp");
    let linear = Reference::compile(&known, &ABIS, Layout::Linear).expect("libseccomp");
    let theirs = timed(101, || drop(Reference::compile(&known, &ABIS, Layout::Tree)));
    println!("{name}: runb {} instructions in {time:?} ({first:?} the first time)", ours.instructions.len());
    println!(
        "  libseccomp: {} (tree) or {} (linear) instructions in {theirs:?}",
        tree.instructions.len(),
        linear.instructions.len()
    );
    println!("  instructions for a call, runb: {}", steps(&ours.instructions));
    println!("  libseccomp's tree:             {}", steps(&tree.instructions));
    println!("  libseccomp, linear:            {}", steps(&linear.instructions));
}

fn main() {
    figures("Docker's profile", &profiles::docker());
    figures("containerd's profile", &profiles::containerd());
    figures("Podman's profile", &profiles::podman());
}
