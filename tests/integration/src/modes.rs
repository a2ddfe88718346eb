//! The cgroup modes, and the execution of a test in each of them.

use std::any::type_name;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, MemfdFlags, memfd_create};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount};

use crate::host::Test;
use crate::runtime::{Kind, Runtime};
use crate::{leftovers, sample, wait};

/// How the controllers are laid out below `/sys/fs/cgroup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One hierarchy per controller.
    V1,
    /// As [`Mode::V1`], with a cgroup2 hierarchy at `/sys/fs/cgroup/unified` beside them.
    Hybrid,
    /// The unified hierarchy alone.
    V2,
}

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
const MODE: &str = "RUNB_TEST_MODE";
/// A part of every name that the test makes.
const TAG: &str = "RUNB_TEST_TAG";
/// What a child's line about a skip begins with.
const SKIP_LINE: &str = "runb-tests: skip: ";
/// How long one test may take in one mode; and where nothing is left out.
const TEST_DEADLINES: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(86400)];
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// The payload of the unwinding by which a test ends that cannot run here.
pub(crate) struct Skip(pub String);

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::V1 => "v1",
            Mode::Hybrid => "hybrid",
            Mode::V2 => "v2",
        }
    }

    fn from_name(name: &str) -> Mode {
        *ALL.iter().find(|mode| mode.name() == name).expect("a mode's name")
    }

    /// Why this machine cannot offer the mode to the runtime of this `kind`, if so.
    fn unavailable(self, kind: Kind) -> Option<String> {
        const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
        let magic = rustix::fs::statfs(CGROUP_ROOT).expect("statfs of the cgroup root").f_type;
        let hybrid = std::path::Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists();
        match self {
            Mode::V1 | Mode::Hybrid if magic == CGROUP2_SUPER_MAGIC => Some("the machine has cgroup v2 alone".into()),
            Mode::Hybrid if !hybrid => Some("the machine has no unified hierarchy beside those of v1".into()),
            Mode::Hybrid if kind == Kind::Crun => Some("crun refuses the hybrid mode".into()),
            Mode::V2 if kind == Kind::Crun && !can_raise_limits() => {
                Some("crun raises RLIMIT_MEMLOCK for its device program, and CAP_SYS_RESOURCE is missing".into())
            }
            _ => None,
        }
    }

    /// Lays `/sys/fs/cgroup` out in the private mount namespace of this process.
    fn enter(self) {
        match self {
            Mode::Hybrid => {}
            Mode::V1 => {
                // A tmpfs of its own: a runtime that takes `unified` for a hierarchy makes its directories there.
                let mut hierarchies = Vec::new();
                for entry in fs::read_dir(CGROUP_ROOT).expect("the cgroup root").filter_map(Result::ok) {
                    if entry.file_name() == "unified" || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        continue;
                    }
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    let tree = open_tree(CWD, entry.path(), flags).expect("open_tree of a hierarchy");
                    hierarchies.push((tree, entry.path()));
                }
                unmount(CGROUP_ROOT, UnmountFlags::DETACH).expect("umount the cgroup root");
                mount("tmpfs", CGROUP_ROOT, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
                for (tree, path) in hierarchies {
                    fs::create_dir(&path).expect("make a mount point");
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                    move_mount(tree, "", CWD, &path, flags).expect("move_mount of a hierarchy");
                }
            }
            Mode::V2 => {
                unmount(CGROUP_ROOT, UnmountFlags::DETACH).expect("umount the cgroup root");
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                mount("none", CGROUP_ROOT, "cgroup2", flags, None).expect("mount cgroup2");
            }
        }
    }
}

/// Whether this process may raise its own hard limits.
pub fn can_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    u64::from_str_radix(line.trim(), 16).expect("a mask") >> CAP_SYS_RESOURCE & 1 == 1
}

/// Runs `body` in each of `modes`; see the crate's documentation. To be called by a `#[test]` function with a closure,
/// whose name tells the test's own.
pub fn in_modes<F: Fn(&Test)>(modes: &[Mode], body: F) {
    if let Ok(mode) = std::env::var(MODE) {
        return run_here(Mode::from_name(&mode), body);
    }
    let name = test_name::<F>();
    let runtime = Runtime::under_test();
    let mut failures = Vec::new();
    let unavailable = |mode: Mode| mode.unavailable(runtime.kind());
    for &mode in modes {
        match unavailable(mode) {
            Some(reason) => report_skip(&name, mode, &reason),
            None => failures.extend(run_in_child(&name, mode, runtime)),
        }
    }
    if modes.iter().all(|&mode| unavailable(mode).is_some()) {
        // Better in another mode than not at all.
        let other = ALL.iter().find(|&&mode| unavailable(mode).is_none());
        failures.extend(other.and_then(|&mode| run_in_child(&name, mode, runtime)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// libtest's name of the test whose closure is of type `F`: `file::module::test::{{closure}}` without both ends.
fn test_name<F>() -> String {
    let path = type_name::<F>();
    let path = path.split("::{{closure}}").next().expect("a first part");
    path.split_once("::").expect("a crate's name").1.to_owned()
}

/// Prints a skip past libtest's capture, and counts it.
fn report_skip(name: &str, mode: Mode, reason: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("skipped {count}: {name} [{}]: {reason}\n", mode.name());
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os("RUNB_TESTS_SKIPPED") {
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("write the list of skipped tests");
    }
}

/// Executes the test `name` again in namespaces of its own. Returns what failed.
fn run_in_child(name: &str, mode: Mode, runtime: &Runtime) -> Option<String> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let tag = format!("rt{}x{}", std::process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(&tag);
    fs::create_dir(&dir).expect("make the test's directory");
    let mut output = File::from(memfd_create("output", MemfdFlags::CLOEXEC).expect("memfd_create"));
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().expect("own path"))
        .args([name, "--exact", "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(MODE, mode.name())
        .env(TAG, &tag)
        .env("RUST_BACKTRACE", "0")
        .env("RUNB_UNDER_TEST", runtime.path())
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("dup"))
        .stderr(output.try_clone().expect("dup"))
        .spawn();
    let mut child = child.expect("start unshare(1)");
    let ended = wait::process_end(child.id() as i32, Instant::now() + TEST_DEADLINES[usize::from(sample::all())]);
    if !ended {
        child.kill().expect("kill the test");
    }
    let status = child.wait().expect("wait for the test");
    output.rewind().expect("rewind");
    let mut text = String::new();
    output.read_to_string(&mut text).expect("read the test's output");
    let mut left = leftovers::on_the_host(&tag);
    if let Err(error) = fs::remove_dir(&dir) {
        left.push(format!("the directory {dir:?} stays: {error}"));
        let _ = fs::remove_dir_all(&dir);
    }
    for reason in text.lines().filter_map(|line| line.split_once(SKIP_LINE)).map(|(_, reason)| reason) {
        report_skip(name, mode, reason);
    }
    let mut failure = format!("[{}] {status}{}\n", mode.name(), if ended { "" } else { ": took too long, killed" });
    if status.success() && !text.contains("1 passed") {
        left.push("the test did not run".into());
    }
    if status.success() && left.is_empty() {
        return None;
    }
    failure.push_str(&text);
    left.iter().for_each(|line| failure.push_str(&format!("left on the host: {line}\n")));
    Some(failure)
}

/// The child's side.
fn run_here(mode: Mode, body: impl Fn(&Test)) {
    let tag = std::env::var(TAG).expect("the test's tag");
    mode.enter();
    let test = Test::new(mode, &tag);
    let before = leftovers::Snapshot::take(&test);
    let result = catch_unwind(AssertUnwindSafe(|| body(&test)));
    if let Err(payload) = result {
        let Some(Skip(reason)) = payload.downcast_ref() else { resume_unwind(payload) };
        println!("\n{SKIP_LINE}{reason}");
    }
    let left = before.leftovers(&test);
    assert!(left.is_empty(), "the test passed, and left behind:\n  {}", left.join("\n  "));
}
