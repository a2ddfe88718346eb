//! Real cgroups, as root, in each of the three modes: version 1 alone, hybrid, version 2 alone.
//!
//! A mode is a private mount namespace in which this program runs one of its ignored tests again; the machine's own mounts
//! and cgroups stay as they are.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use oci_spec::runtime::LinuxResources;
use runb_core::cgroup::{self, FreezerState, Made, MadeDir, Role};
use runb_core::host::cgroups::CgroupMounts;
use runb_core::plan::cgroup::{CgroupPlan, DirKind, plan};
use runb_core::{Errno, Kind};

const MODES: [(&str, &str); 3] = [
    ("v1", "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"),
    ("hybrid", ":"),
    ("v2", "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"),
];

/// Removes all directories of a cgroup, and what is below.
fn remove(plan: &CgroupPlan, deadline: Instant) -> runb_core::Result<()> {
    plan.dirs.iter().try_for_each(|dir| cgroup::remove_tree(&dir.path, deadline))
}

/// Runs the ignored test `name` in every mode.
fn in_each_mode(name: &str) {
    if !geteuid().is_root() {
        eprintln!("SKIPPED, needs root: {name}");
        return;
    }
    for (mode, mounts) in MODES {
        let script = format!("set -e; {mounts}; exec \"$0\" --ignored --exact --nocapture \"$1\"");
        let program = std::env::current_exe().unwrap();
        let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).arg(program).arg(name).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("1 passed"), "{mode}: {}\n{out}\n{err}", output.status);
    }
}

macro_rules! in_modes {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            in_each_mode(concat!("inside::", stringify!($name)));
        })*

        mod inside {
            $(#[test]
            #[ignore = "the test of the same name runs it in each mode"]
            fn $name() {
                super::bodies::$name();
            })*
        }
    };
}

in_modes! {
    a_cgroup_is_made_as_announced_and_taken_back_whole
    a_payload_is_listed_killed_and_gone
    a_cgroup_with_a_process_is_not_taken_over
    an_empty_cgroup_is_taken_over
    limits_are_in_the_files
    only_the_allowed_devices_can_be_opened
    a_privileged_container_is_given_every_device
    a_frozen_payload_stands_still_and_can_be_killed
    what_the_payload_made_below_goes_too
    removal_waits_for_the_last_process_to_end
    an_out_of_memory_kill_is_reported
    a_failing_make_leaves_nothing
    a_cgroup_that_is_made_after_the_claim_is_its_makers
    two_launches_do_not_take_the_same_empty_cgroup
    what_a_half_made_container_finds_in_use_is_left_alone
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn v2_alone() -> bool {
    matches!(CgroupMounts::probe().unwrap(), CgroupMounts::V2(_))
}

/// A cgroup of this test's own, removed whatever happens.
struct Trial {
    plan: CgroupPlan,
    announced: Vec<MadeDir>,
    made: Option<Made>,
}

impl Drop for Trial {
    fn drop(&mut self) {
        let Some(made) = &self.made else { return };
        let result = made.cgroup.kill(soon()).and_then(|()| undo(&self.announced));
        if !std::thread::panicking() {
            result.unwrap();
            for dir in &self.announced {
                assert!(!dir.path.exists(), "{} is left", dir.path.display());
            }
        }
    }
}

fn undo(dirs: &[MadeDir]) -> Result<(), runb_core::Error> {
    dirs.iter().rev().try_for_each(|dir| cgroup::undo(dir, cgroup::Own::Used, soon()))
}

impl Trial {
    fn planned(name: &str, json: &str) -> Trial {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let path = PathBuf::from(format!("/runb-test-{}/{name}", std::process::id()));
        let mounts = CgroupMounts::probe().unwrap();
        let plan = plan(Some(&resources), Some(&path), name, None, &mounts).unwrap();
        let announced = cgroup::claim(&plan).unwrap().dirs;
        Trial { plan, announced, made: None }
    }

    fn new(name: &str, json: &str) -> Trial {
        let mut trial = Trial::planned(name, json);
        let claim = cgroup::claim(&trial.plan).unwrap();
        trial.made = Some(cgroup::make(&trial.plan, &claim).unwrap());
        trial.made().apply(&trial.plan).unwrap();
        trial
    }

    fn made(&self) -> &Made {
        self.made.as_ref().unwrap()
    }

    /// A shell that joins the cgroups as init does, says so, and runs `script`, whose stdin ends when the payload is dropped.
    fn payload(&self, script: &str) -> Payload {
        let unified = self.made().cgroup.unified.iter().map(|path| path.join("cgroup.procs"));
        let procs: Vec<PathBuf> = self.plan.join.procs.iter().map(|(_, path)| path.clone()).chain(unified).collect();
        let script = format!("for procs; do echo 0 > $procs || exit 99; done; echo joined; {script}");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(procs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A payload that a failing test leaves must not hold the test's own output open.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut payload = Payload { lines: BufReader::new(child.stdout.take().unwrap()), child, stdin };
        assert_eq!(payload.line(), "joined");
        payload
    }
}

struct Payload {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<std::process::ChildStdout>,
}

impl Payload {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

mod bodies {
    use super::*;

    pub fn a_cgroup_is_made_as_announced_and_taken_back_whole() {
        let trial = Trial::new("made", "{}");
        assert_eq!(trial.made().dirs, trial.announced);
        assert_eq!(trial.announced.len(), 2 * trial.plan.dirs.len());
        assert!(trial.announced.iter().all(|dir| dir.path.is_dir()));
        assert!(trial.made().cgroup.procs().unwrap().is_empty());
        // A second record of the same, as a crash leaves it, has nothing left to do.
        undo(&trial.announced).unwrap();
        assert!(trial.announced.iter().all(|dir| !dir.path.exists()));
        undo(&trial.announced).unwrap();
    }

    pub fn a_payload_is_listed_killed_and_gone() {
        let trial = Trial::new("killed", "{}");
        let cgroup = &trial.made().cgroup;
        let mut payload = trial.payload("exec 3<&0; cat <&3 & cat <&3 & echo ready; exec cat");
        assert_eq!(payload.line(), "ready");
        let procs = cgroup.procs().unwrap();
        assert!(procs.len() == 3 && procs.contains(&payload.pid()), "{procs:?}");
        cgroup.kill(soon()).unwrap();
        assert!(cgroup.procs().unwrap().is_empty());
        assert!(!payload.child.wait().unwrap().success());
        remove(&trial.plan, soon()).unwrap();
        cgroup.kill(soon()).unwrap();
        assert!(cgroup.procs().unwrap().is_empty());
        remove(&trial.plan, soon()).unwrap();
    }

    pub fn a_cgroup_with_a_process_is_not_taken_over() {
        let trial = Trial::new("taken", "{}");
        let _payload = trial.payload("exec cat");
        let error = cgroup::claim(&trial.plan).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (Kind::Exists, Some("linux.cgroupsPath")), "{error}");
        assert!(!trial.made().cgroup.procs().unwrap().is_empty());
    }

    pub fn an_empty_cgroup_is_taken_over() {
        let trial = Trial::new("empty", "{}");
        let again = cgroup::make(&trial.plan, &cgroup::claim(&trial.plan).unwrap()).unwrap();
        assert!(again.dirs.iter().all(|dir| dir.role == Role::Own));
        assert_eq!(again.dirs.len(), trial.plan.dirs.len());
    }

    pub fn limits_are_in_the_files() {
        let json = match v2_alone() {
            true => r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],"unified":{"cgroup.max.depth":"3"}}"#,
            false => {
                r#"{"memory":{"limit":33554432,"swap":67108864},"pids":{"limit":42},
                    "cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#
            }
        };
        let trial = Trial::new("limits", json);
        let limits = trial.plan.limits.writes.iter().filter(|write| !write.file.starts_with("devices."));
        let mut checked = 0;
        for write in limits {
            let path = write.dir.join(&write.file);
            assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), write.value, "{}", path.display());
            checked += 1;
        }
        assert!(checked >= 3);
    }

    pub fn only_the_allowed_devices_can_be_opened() {
        let folder = std::env::temp_dir().join(format!("runb-test-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let node = folder.join("full");
        // /dev/full's number is free to all; the one of the loop control device is not.
        for (name, minor) in [("full", "7"), ("zero", "5")] {
            assert!(Command::new("mknod").arg(folder.join(name)).args(["c", "1", minor]).status().unwrap().success());
        }
        let control = folder.join("control");
        assert!(Command::new("mknod").arg(&control).args(["c", "1", "11"]).status().unwrap().success());
        assert!(node.metadata().unwrap().file_type().is_char_device());
        let script = format!(
            "cd {}; for n in full zero control; do (: < $n) 2>/dev/null && echo $n; done; echo end",
            folder.display()
        );
        let opened = |lines: &mut dyn FnMut() -> String| -> Vec<String> {
            std::iter::from_fn(|| Some(lines()).filter(|line| line != "end")).collect()
        };
        let outside = Command::new("sh").args(["-c", &script]).output().unwrap();
        let trial = Trial::new("devices", r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
        let mut payload = trial.payload(&script);
        let inside = opened(&mut || payload.line());
        payload.child.wait().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(String::from_utf8_lossy(&outside.stdout), "full\nzero\ncontrol\nend\n");
        assert_eq!(inside, ["full", "zero"]);
    }

    pub fn a_privileged_container_is_given_every_device() {
        let node = std::env::temp_dir().join(format!("runb-test-{}", std::process::id()));
        assert!(Command::new("mknod").arg(&node).args(["c", "1", "11"]).status().unwrap().success());
        let trial =
            Trial::new("privileged", r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}]}"#);
        let mut payload = trial.payload(&format!("(: < {}) && echo opened", node.display()));
        let line = payload.line();
        payload.child.wait().unwrap();
        std::fs::remove_file(&node).unwrap();
        assert_eq!(line, "opened");
    }

    pub fn a_frozen_payload_stands_still_and_can_be_killed() {
        let trial = Trial::new("frozen", "{}");
        let cgroup = &trial.made().cgroup;
        let mut payload = trial.payload("while read line; do echo got $line; done");
        assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
        cgroup.freeze(soon()).unwrap();
        assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Frozen);
        cgroup.thaw().unwrap();
        assert_eq!(cgroup.freezer_state().unwrap(), FreezerState::Thawed);
        payload.stdin.as_mut().unwrap().write_all(b"it\n").unwrap();
        assert_eq!(payload.line(), "got it");
        cgroup.freeze(soon()).unwrap();
        let error = cgroup::claim(&trial.plan).unwrap_err();
        assert_eq!(error.kind(), Kind::Exists);
        cgroup.kill(soon()).unwrap();
        assert!(!payload.child.wait().unwrap().success());
    }

    pub fn what_the_payload_made_below_goes_too() {
        let trial = Trial::new("below", "{}");
        for dir in &trial.plan.dirs {
            let mut deep = dir.path.clone();
            for name in 0..40 {
                deep.push(name.to_string());
            }
            std::fs::create_dir_all(deep).unwrap();
            for wide in 100..140 {
                std::fs::create_dir(dir.path.join(wide.to_string())).unwrap();
            }
        }
        remove(&trial.plan, soon()).unwrap();
        assert!(trial.plan.dirs.iter().all(|dir| !dir.path.exists()));
    }

    pub fn removal_waits_for_the_last_process_to_end() {
        let trial = Trial::new("busy", "{}");
        let mut payload = trial.payload("exec cat");
        let error = remove(&trial.plan, Instant::now()).unwrap_err();
        assert_eq!(error.errno().map(Errno::number), Some(nix::libc::EBUSY), "{error}");
        drop(payload.stdin.take());
        remove(&trial.plan, soon()).unwrap();
        assert!(trial.plan.dirs.iter().all(|dir| !dir.path.exists()));
        assert!(payload.child.wait().unwrap().success());
    }

    pub fn an_out_of_memory_kill_is_reported() {
        if v2_alone() {
            // The memory controller belongs to version 1 on such a machine.
            if !Path::new("/sys/fs/cgroup/cgroup.controllers").metadata().is_ok_and(|_| has_memory()) {
                eprintln!("SKIPPED, version 2 has no memory controller here");
                let trial = Trial::new("oom", "{}");
                assert_eq!(trial.made().cgroup.oom(), None);
                return;
            }
        }
        let trial = Trial::new("oom", r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
        let mut payload = trial.payload("head -c 64M /dev/zero | tail > /dev/null; echo end; exec cat");
        assert_eq!(payload.line(), "end");
        let report = trial.made().cgroup.oom().unwrap();
        assert!(report.kills >= 1, "{report:?}");
        assert_eq!(report.limit, Some(8_388_608));
        assert!(report.peak.is_some_and(|peak| peak > 7_000_000), "{report:?}");
    }

    fn has_memory() -> bool {
        std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap().contains("memory")
    }

    pub fn a_failing_make_leaves_nothing() {
        let mut trial = Trial::planned("failing", "{}");
        let last = trial.plan.dirs.last_mut().unwrap();
        // No cgroup file system lets a name have a newline.
        last.path = last.path.join("a\nb");
        assert!(matches!(last.kind, DirKind::V1 { .. } | DirKind::Unified { .. }));
        let claim = cgroup::claim(&trial.plan).unwrap();
        cgroup::make(&trial.plan, &claim).unwrap_err();
        assert!(claim.dirs.iter().all(|dir| !dir.path.exists()));
    }

    pub fn a_cgroup_that_is_made_after_the_claim_is_its_makers() {
        let trial = Trial::planned("raced", "{}");
        let late = cgroup::claim(&trial.plan).unwrap();
        let first = Trial::new("raced", "{}");
        let error = cgroup::make(&trial.plan, &late).unwrap_err();
        assert_eq!((error.kind(), error.origin()), (Kind::Exists, Some("linux.cgroupsPath")), "{error}");
        assert!(first.plan.dirs.iter().all(|dir| dir.path.is_dir()));
    }

    pub fn two_launches_do_not_take_the_same_empty_cgroup() {
        let trial = Trial::new("twice", "{}");
        let first = cgroup::claim(&trial.plan).unwrap();
        assert_eq!(cgroup::claim(&trial.plan).unwrap_err().kind(), Kind::Exists);
        drop(first);
        cgroup::claim(&trial.plan).unwrap();
    }

    pub fn what_a_half_made_container_finds_in_use_is_left_alone() {
        let trial = Trial::new("in-use", "{}");
        let mut payload = trial.payload("exec cat");
        for dir in &trial.announced {
            cgroup::undo(dir, cgroup::Own::Unused, soon()).unwrap();
        }
        assert!(trial.made().cgroup.procs().unwrap().contains(&payload.pid()));
        drop(payload.stdin.take());
        assert!(payload.child.wait().unwrap().success());
    }
}
