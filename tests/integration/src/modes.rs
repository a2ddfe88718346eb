//! The execution of a test in each of the sites where it is to run.

use std::any::type_name;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::host::Test;
use crate::report::{self, Skip};
use crate::runtime::Runtime;
use crate::site::{Mode, Site};
use crate::{leftovers, sample, wait};

/// For what has nothing to do with cgroups.
pub const LIFECYCLE: &[Mode] = &[Mode::V2, Mode::Hybrid];
/// For what has to do with cgroups.
pub const ALL: &[Mode] = &[Mode::V1, Mode::Hybrid, Mode::V2];
/// For what a single run of decides, or what takes long.
pub const V2: &[Mode] = &[Mode::V2];
/// For what needs the controllers of version 1.
pub const V1: &[Mode] = &[Mode::V1];
/// For what needs the machine as it is.
pub const HYBRID: &[Mode] = &[Mode::Hybrid];

/// The environment variables of a test's child.
const SITE: &str = "RUNB_TEST_SITE";
/// A part of every name that the test makes.
pub(crate) const TAG: &str = "RUNB_TEST_TAG";
/// What a child's line about a skip begins with.
const SKIP_LINE: &str = "runb-tests: skip: ";
/// How long one test may take in one site; and where nothing is left out.
const TEST_TIMES: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(86400)];

/// Runs `body` in each of `modes`; see the crate's documentation. To be called by a `#[test]` function with a closure,
/// whose name tells the test's own.
pub fn in_modes<F: Fn(&Test)>(modes: &[Mode], body: F) {
    let sites: Vec<_> = modes.iter().map(|&mode| Site::Private(mode)).collect();
    // Better in another mode than not at all.
    let others: Vec<_> = ALL.iter().map(|&mode| Site::Private(mode)).collect();
    in_sites(&sites, &others, body);
}

/// As [`in_modes`], and once more for each mode that a user finds, in a user namespace that somebody else has made, and with the
/// runtime called by a user without rights. Each site is one of its own.
pub fn for_anyone<F: Fn(&Test)>(modes: &[Mode], body: F) {
    let root = modes.iter().map(|&mode| Site::Private(mode));
    let others =
        modes.iter().filter(|mode| **mode != Mode::V1).flat_map(|&mode| [Site::Inside(mode), Site::User(mode)]);
    let sites: Vec<_> = root.chain(others).collect();
    in_sites(&sites, &[], body);
}

/// Runs `body` in each of `modes` with the runtime called by a user without rights.
pub fn as_user<F: Fn(&Test)>(modes: &[Mode], body: F) {
    let sites: Vec<_> = modes.iter().map(|&mode| Site::User(mode)).collect();
    in_sites(&sites, &[], body);
}

/// Runs `body` in each of `modes` in a user namespace that somebody else has made.
pub fn inside<F: Fn(&Test)>(modes: &[Mode], body: F) {
    let sites: Vec<_> = modes.iter().map(|&mode| Site::Inside(mode)).collect();
    in_sites(&sites, &[], body);
}

/// Runs `body` on the machine as it is, where systemd is its first process; as [`in_modes`] else.
pub fn under_systemd<F: Fn(&Test)>(body: F) {
    in_sites(&[Site::Systemd], &[], body);
}

/// Runs `body` in each of `sites`, and where none of them can be had in one of `others`.
fn in_sites<F: Fn(&Test)>(sites: &[Site], others: &[Site], body: F) {
    if let Ok(site) = std::env::var(SITE) {
        return run_here(Site::from_name(&site), body);
    }
    let name = type_name::<F>().split("::{{closure}}").next().expect("a first part");
    let runtime = Runtime::under_test();
    let mut failures = Vec::new();
    let unavailable = |site: Site| site.unavailable(runtime.kind());
    for &site in sites.iter().filter(|site| site.is_wanted()) {
        match unavailable(site) {
            Some(reason) => report::skipped(name, site, &reason),
            None => failures.extend(run_in_child(name, site, runtime)),
        }
    }
    if sites.iter().all(|&site| site.is_wanted() && unavailable(site).is_some()) {
        let other = others.iter().find(|&&site| site.is_wanted() && unavailable(site).is_none());
        failures.extend(other.and_then(|&site| run_in_child(name, site, runtime)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Executes the test `name`, which begins with its crate's, again in namespaces of its own. Returns what failed.
fn run_in_child(name: &str, site: Site, runtime: &Runtime) -> Option<String> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let tag = format!("rt{}x{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(&tag);
    fs::create_dir(&dir).expect("make the test's directory");
    let mut output = File::from(memfd_create("output", MemfdFlags::CLOEXEC).expect("memfd_create"));
    let holder = matches!(site, Site::Inside(_)).then(Holder::new);
    let child = holder
        .as_ref()
        .map_or_else(|| Command::new("unshare"), Holder::unshare)
        .args(site.namespaces())
        .arg("--")
        // Who has started the tests may ignore signals (nohup(1), a shell's background), and so would all that they start.
        .args(["env", "--default-signal=HUP,INT,QUIT,ABRT,TERM"])
        .arg(std::env::current_exe().expect("own path"))
        .arg(name.split_once("::").expect("a crate's name").1)
        .args(["--exact", "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(SITE, site.name())
        .env(TAG, &tag)
        .env("RUST_BACKTRACE", "0")
        .env("RUNB_UNDER_TEST", runtime.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("dup"))
        .stderr(output.try_clone().expect("dup"))
        .spawn();
    let mut child = child.expect("start unshare(1)");
    let ended =
        wait::process_end(child.id() as i32, Instant::now() + wait::slowly(TEST_TIMES[usize::from(sample::all())]));
    if !ended {
        child.kill().expect("kill the test");
    }
    let status = child.wait().expect("wait for the test");
    output.rewind().expect("rewind");
    let mut text = String::new();
    output.read_to_string(&mut text).expect("read the test's output");
    let mut left = leftovers::on_the_host(site, &tag);
    if let Err(error) = fs::remove_dir(&dir) {
        left.push(format!("the directory {dir:?} stays: {error}"));
        let _ = fs::remove_dir_all(&dir);
    }
    let mut failure = format!("[{}] {status}{}\n", site.name(), if ended { "" } else { ": took too long, killed" });
    if status.success() && !text.contains("1 passed") {
        left.push("the test did not run".into());
    }
    if status.success() && left.is_empty() {
        match text.lines().find_map(|line| Some(line.split_once(SKIP_LINE)?.1)) {
            Some(reason) => report::skipped(name, site, reason),
            None => report::ran(name, site),
        }
        return None;
    }
    failure.push_str(&text);
    left.iter().for_each(|line| failure.push_str(&format!("left on the host: {line}\n")));
    Some(failure)
}

/// A user namespace that the test is to be root of. The processes of the test keep it when this is gone.
struct Holder(Child);

impl Holder {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--user", "--", "sh", "-c", "echo; read x"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare(1)");
        // A byte tells that the namespace is made.
        child.stdout.take().expect("a pipe").read_exact(&mut [0]).expect("a user namespace");
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", child.id()), "0 100000 65536").expect("map ids");
        }
        Holder(child)
    }

    fn unshare(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--user=/proc/{}/ns/user", self.0.id()))
            .args(["--setuid", "0", "--setgid", "0", "--", "unshare"]);
        command
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Its stdin ends, and so does it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The child's side.
fn run_here(site: Site, body: impl Fn(&Test)) {
    let tag = std::env::var(TAG).expect("the test's tag");
    let mode = site.enter();
    if matches!(site, Site::User(_)) {
        // The user connects to sockets of the test.
        rustix::process::umask(rustix::fs::Mode::empty());
    }
    let test = Test::new(site, mode, &tag);
    let before = leftovers::Snapshot::take(&test);
    let result = catch_unwind(AssertUnwindSafe(|| body(&test)));
    if let Err(payload) = result {
        let Some(Skip(reason)) = payload.downcast_ref() else { resume_unwind(payload) };
        println!("\n{SKIP_LINE}{reason}");
    }
    let left = before.leftovers(&test);
    assert!(left.is_empty(), "the test passed, and left behind:\n  {}", left.join("\n  "));
}
