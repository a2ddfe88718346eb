//! A workload that makes calls which a seccomp filter may forbid, and says what came of them.
//!
//! `caller newer`: pidfd_open(2), which is of Linux 5.3, and mkdir(2), which every profile knows.
//! `caller thread`: a thread makes a directory; says whether it lived on.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{PidfdFlags, getpid, pidfd_open};

const DIRECTORY: &str = "/tmp/of-caller";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("newer") => newer(),
        Some("thread") => thread(),
        _ => panic!("newer, thread"),
    }
}

fn newer() {
    let opened = pidfd_open(getpid(), PidfdFlags::empty()).map(drop);
    println!("pidfd_open {}", opened.map_or_else(|errno| errno.raw_os_error(), |()| 0));
    let made = fs::create_dir(DIRECTORY);
    println!("mkdir {}", made.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |()| 0));
}

fn thread() {
    static LIVES: AtomicBool = AtomicBool::new(false);
    let thread = std::thread::spawn(|| {
        let _ = fs::create_dir(DIRECTORY);
        LIVES.store(true, Ordering::Release);
    });
    let tasks = Path::new("/proc/self/task");
    let count = || fs::read_dir(tasks).expect("/proc/self/task").count();
    while count() > 1 && !LIVES.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    println!("{}", if LIVES.load(Ordering::Acquire) { "the thread lives" } else { "the thread is gone" });
    // Nobody can join a thread that was killed.
    std::mem::forget(thread);
}
