//! `checkpoint` and `restore`: what a container had is there again, and what fails leaves nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use runb_tests::*;

#[path = "checkpoint/lazy.rs"]
mod lazy;

/// One sleep after another: that which CRIU interrupts may come to its end (seen with CRIU 4.1 on Linux 6.12).
const IDLE: &str = "while :; do sleep 86400; done";

/// A line of shell whose descriptors are the container's own, as those of the test are files that CRIU does not know.
fn on_its_own(script: &str) -> String {
    format!("exec </dev/null >/share/out 2>&1; echo >/share/ready; {script}")
}

/// The container of `bundle`, which is known to have its own descriptors.
fn started<'t>(t: &Test, bundle: Bundle<'t>, script: &str) -> Container<'t> {
    let mut ready = t.fifo(&bundle, "ready");
    let container = bundle.sh(&on_its_own(script)).run_detached();
    ready.line();
    container
}

/// A loop that answers each line of the FIFO /share/in with a line in the FIFO /share/said, and counts them.
const ANSWERS: &str = "exec 3<>/share/in; n=0; while read line <&3; do n=$((n+1)); echo $line $n >/share/said; done";

/// Says `text` to a container of [`ANSWERS`], and returns the answer.
fn ask(said: &mut wait::Fifo, share: &Path, text: &str) -> String {
    let mut file = fs::File::options().write(true).open(share.join("in")).expect("open the fifo");
    writeln!(file, "{text}").expect("write to the fifo");
    drop(file);
    said.line()
}

#[test]
fn a_container_goes_on_where_it_was_and_is_like_any_other() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        let criu = t.criu();
        let bundle = t.bundle();
        let share = bundle.share_dir();
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        let container = started(t, bundle, ANSWERS);
        assert_eq!(ask(&mut said, &share, "a"), "a 1");
        for n in [2, 3] {
            criu.round_trip(t, &container, &["--manage-cgroups-mode", "ignore"]);
            assert_eq!(ask(&mut said, &share, "b"), format!("b {n}"));
        }
        let outcome = container.call("exec", &["sh", "-c", "echo $(cat /proc/1/comm)"]).ok();
        assert_eq!(outcome.stdout, "sh\n");
        container.call("pause", &[]).ok();
        assert_eq!(container.status(), "paused");
        container.call("resume", &[]).ok();
        if t.mode() != Mode::V2 {
            container.call("update", &["--pids-limit", "20"]).ok();
            assert_eq!(t.cgroup_file("pids", container.id(), "pids.max"), "20");
        }
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        assert_eq!(container.reap(pid), 137);
        container.delete().ok();
    });
}

#[test]
fn a_container_that_is_to_run_on_does_so() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let bundle = t.bundle();
        let share = bundle.share_dir();
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        let container = started(t, bundle, ANSWERS);
        let pid = container.pid();
        let images = t.dir().join("images");
        criu.checkpoint(t, container.id(), images.to_str().expect("text"), &["--leave-running"]).ok();
        assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
        assert_eq!(ask(&mut said, &share, "a"), "a 1");
        assert!(images.join("inventory.img").exists());
        if t.is(&[Kind::Runb]) {
            assert_eq!(images.metadata().expect("a folder").mode() & 0o777, 0o700);
        }
        container.delete_force().ok();
    });
}

#[test]
fn pipes_of_the_caller_are_those_of_who_restores() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let bundle = t.bundle().sh("while read line; do echo got $line; echo err $line >&2; done");
        bundle.write();
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let talk = |child: &mut std::process::Child| {
            let (mut out, mut err) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
            let mut text = [0; 8];
            out.read_exact(&mut text).expect("a line");
            assert_eq!(&text, b"got one\n");
            err.read_exact(&mut text).expect("a line");
            assert_eq!(&text, b"err one\n");
        };
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let mut command = bundle.command("run", &["--detach"]);
        let piped = command.stdin(read).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut first = piped.spawn().expect("start the runtime");
        assert!(first.wait().expect("the runtime's end").success());
        writeln!(write, "one").expect("a line");
        talk(&mut first);
        let pid = t.call(["state", bundle.id()]).ok().json()["pid"].as_i64().expect("a pid") as i32;
        criu.checkpoint(t, bundle.id(), images, &[]).ok();
        assert!(wait::process_end(pid, wait::deadline()));
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let command = bundle.command("restore", &["--detach", "--image-path", images]);
        let mut command = criu.found_by(command);
        let piped = command.stdin(read).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut second = piped.spawn().expect("start the runtime");
        assert!(second.wait().expect("the runtime's end").success());
        writeln!(write, "one").expect("a line");
        talk(&mut second);
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_container_whose_dump_fails_runs_on_and_the_logs_last_errors_are_told() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        t.runb_only("runc leaves the images that it has begun, and tells the log apart from its message");
        let criu = t.criu();
        // Its stdout is a file of the test, which is not in the container.
        let container = t.bundle().sh(IDLE).run_detached();
        let (images, work) = (t.dir().join("images"), t.dir().join("work"));
        let (images, work) = (images.to_str().expect("text"), work.to_str().expect("text"));
        let outcome = criu.checkpoint(t, container.id(), images, &["--work-path", work]);
        outcome.fails_with(&["CRIU failed", "dump.log ends with: Error (criu/", "Can't lookup mount"]);
        assert_eq!(container.status(), "running");
        assert!(!Path::new(images).exists(), "the folder was made for the images");
        assert_eq!(files(work), ["dump.log"]);
        // A folder that was there stays, and what was in it.
        fs::create_dir(images).expect("a folder");
        fs::write(Path::new(images).join("core-7.img"), "old").expect("a file");
        criu.checkpoint(t, container.id(), images, &[]).fails_with(&["Can't lookup mount"]);
        assert_eq!(files(images), ["core-7.img", "dump.log"]);
        container.call("exec", &["true"]).ok();
        container.delete_force().ok();
    });
}

/// The names in a folder, in order.
fn files(folder: &str) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_a_container_that_runs_is_saved() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let container = t.bundle().idle().create();
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        criu.checkpoint(t, container.id(), images, &[]).fails_with(&["cannot be checkpointed in created state"]);
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        criu.checkpoint(t, container.id(), images, &[]).fails_with(&["cannot be checkpointed in stopped state"]);
        container.delete().ok();
        criu.checkpoint(t, container.id(), images, &[]).fails_with(&["does not exist"]);
        if t.is(&[Kind::Runb]) {
            assert!(!Path::new(images).exists());
        }
    });
}

#[test]
fn what_cannot_be_asked_for_is_refused_by_its_flag_and_the_container_runs_on() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        t.runb_only("the texts are runb's");
        let criu = t.criu();
        let container = t.bundle().idle().run_detached();
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        for (flags, told) in [
            (
                &["--manage-cgroups-mode", "hard"][..],
                "--manage-cgroups-mode: \"hard\" is not soft, full, strict or ignore",
            ),
            (&["--network-lock", "none"], "--network-lock: \"none\" is not iptables, nftables or skip"),
            (&["--page-server", "0.0.0.0"], "--page-server: \"0.0.0.0\" is not ADDRESS:PORT"),
            (&["--empty-ns", "ipc"], "--empty-ns: namespace \"ipc\" is not supported"),
            (&["--status-fd", "77"], "--status-fd: descriptor 77: no such file or directory (ENOENT)"),
            (&["--status-fd", "0"], "--status-fd: descriptor 0 is not open for writing"),
            (&["--parent-path", "/"], "--parent-path: it must be relative"),
            (&["--parent-path", "../none"], "--parent-path: stat "),
        ] {
            criu.checkpoint(t, container.id(), images, flags).fails_with(&[told]);
        }
        let mut command = t.command(["checkpoint", "--image-path", images, container.id()]);
        command.env("PATH", "/nowhere");
        t.finish(command).fails_with(&["there is no criu in the search path"]);
        assert!(!Path::new(images).exists());
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn a_container_with_an_id_mapped_mount_is_not_saved_and_runs_on() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        t.runb_only("runc saves it, and the mapping is lost");
        let criu = t.criu();
        let source = t.dir().join("source");
        fs::create_dir(&source).expect("a folder");
        let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        let mount = json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map});
        let container = t.bundle().mount(mount).idle().run_detached();
        let images = t.dir().join("images");
        let outcome = criu.checkpoint(t, container.id(), images.to_str().expect("text"), &[]);
        outcome.fails_with(&["mounts[", "(/tmp): an id-mapped mount cannot be checkpointed"]);
        assert!(!images.exists());
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        let criu = t.criu();
        let container = started(t, t.bundle(), IDLE);
        let images = t.dir().join("images");
        let text = images.to_str().expect("text");
        let restore = |flags: &[&str]| criu.restore(t, container.bundle(), text, flags);
        if t.is(&[Kind::Runb]) {
            restore(&[]).fails_with(&["--image-path: open ", "images"]);
        }
        let pid = container.pid();
        criu.checkpoint(t, container.id(), text, &["--leave-running"]).ok();
        restore(&[]).fails_with(&["already exists"]);
        assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
        container.delete_force().ok();
        container.reap(pid);
        // Without the memory of its first process; harness looks for what is left.
        fs::rename(images.join("pages-1.img"), images.join("gone")).expect("rename");
        let outcome = restore(&["--pid-file", t.dir().join("pid").to_str().expect("text")]);
        assert_ne!(outcome.code, 0);
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["CRIU failed", "restore.log ends with: Error (criu/"]);
        }
        assert!(!t.dir().join("pid").exists());
        t.call(["state", container.id()]).fails_with(&["does not exist"]);
        fs::rename(images.join("gone"), images.join("pages-1.img")).expect("rename");
        restore(&[]).ok();
        container.delete_force().ok();
    });
}

#[test]
fn a_bundle_that_a_hook_refuses_is_not_restored() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        t.runb_only("runc tells no more than that CRIU has failed");
        let criu = t.criu();
        let (seen, share) = (t.dir().join("seen"), t.dir().join("go"));
        let line = format!("cat >{}; test -e {}", seen.display(), share.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", line]});
        fs::write(&share, "").expect("a file");
        let container = started(t, t.bundle().hook("createRuntime", hook), IDLE);
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        fs::remove_file(&share).expect("removed");
        let outcome = criu.restore(t, container.bundle(), images, &[]);
        outcome.fails_with(&["error running createRuntime hook #0", "hooks.createRuntime[0]", "exit status 1"]);
        fs::write(&share, "").expect("a file");
        criu.restore(t, container.bundle(), images, &[]).ok();
        let state: Value = serde_json::from_slice(&fs::read(seen).expect("the hook ran")).expect("a state");
        assert_eq!((state["status"].as_str(), state["pid"].as_i64()), (Some("creating"), Some(container.pid().into())));
        container.delete_force().ok();
    });
}
