//! A program that embeds the library: `embedder ROOT BUNDLE NAME COUNT BUSY`. COUNT threads run a container each, while BUSY
//! others allocate and start programs, as servers do; it prints what became of each, and what descriptors it has kept. `embedder stats
//! ROOT ID` prints what a container uses.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use runb_core::container::{Container, Force};
use runb_core::options::{Meanwhile, Options};
use runb_core::stats::Stats;
use rustix::process::{WaitId, WaitIdOptions, waitid};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [stats, root, id] = &words[..]
        && stats == "stats"
    {
        return print_stats(Path::new(root), id);
    }
    let [root, bundle, name, count, busy] = &words[..] else {
        eprintln!("embedder ROOT BUNDLE NAME COUNT BUSY, or embedder stats ROOT ID");
        return ExitCode::from(2);
    };
    let options = |i: usize| Options::new(format!("{name}-{i}"), root, bundle);
    let before = descriptors();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..busy.parse().expect("a number") {
            scope.spawn(|| be_busy(&done));
        }
        let count: usize = count.parse().expect("a number");
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(move || run(&options(i)))).collect();
        for thread in threads {
            println!("{}", thread.join().expect("a thread").unwrap_or_else(|error| error.to_string()));
        }
        done.store(true, Ordering::Release);
    });
    println!("{} descriptors more", descriptors() - before);
    ExitCode::SUCCESS
}

/// As a program keeps them: what was written is what is read again.
fn print_stats(root: &Path, id: &str) -> ExitCode {
    let stats = Container::load(root, id).and_then(|container| container.stats()).expect("statistics");
    let text = serde_json::to_string(&stats).expect("JSON");
    assert_eq!(serde_json::from_str::<Stats>(&text).expect("statistics again"), stats);
    println!("{text}");
    ExitCode::SUCCESS
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc/self/fd").count()
}

/// What makes a fork of a program with threads dangerous: locks of the allocator are held at any moment.
fn be_busy(done: &AtomicBool) {
    while !done.load(Ordering::Acquire) {
        let some: Vec<Vec<u8>> = (0..100).map(|size| vec![1; size * 10]).collect();
        assert_eq!(some[99][989], 1);
        assert!(Command::new("true").status().is_ok_and(|status| status.success()));
    }
}

fn run(options: &Options) -> runb_core::Result<String> {
    let meanwhile = Arc::new(AtomicUsize::new(0));
    let mut options = options.clone();
    let times = Arc::clone(&meanwhile);
    options.meanwhile = Some(Meanwhile::new(move || {
        times.fetch_add(1, Ordering::Relaxed);
    }));
    let running = Container::run(&options)?;
    assert_eq!(meanwhile.load(Ordering::Relaxed), 1, "what the program had to do meanwhile");
    let ended = loop {
        match waitid(WaitId::PidFd(running.workload().pidfd().as_fd()), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result,
        }
    };
    running.container().delete(Force::No)?;
    let code = ended.ok().flatten().and_then(|status| status.exit_status());
    Ok(format!("exit {}", code.unwrap_or(-1)))
}
