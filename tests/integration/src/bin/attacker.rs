//! A workload that tries to get out. What it gets hold of it prints, one `escaped: …` each; last comes `done`.
//!
//! `attacker descriptors`: what is open.
//! `attacker walk MARK`: looks for the file MARK, a path of the host, through everything in /proc.
//! `attacker watch STOP MARK`: until the file STOP is there, attacks every process that comes into its pid namespace.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const O_PATH: i32 = 0o10_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["descriptors"] => descriptors(),
        ["walk", mark] => processes().iter().for_each(|process| walk(process, mark)),
        ["watch", stop, mark] => watch(Path::new(stop), mark),
        _ => panic!("descriptors, walk MARK, watch STOP MARK"),
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
