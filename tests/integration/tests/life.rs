//! The life of a container: one truth about it, one verb at a time, and nobody else harmed.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runb_tests::*;

/// The tops of the hierarchies that a container gets a cgroup in.
fn hierarchies(t: &Test) -> Vec<PathBuf> {
    if t.mode() == Mode::V2 {
        return vec!["/sys/fs/cgroup".into()];
    }
    let entries = fs::read_dir("/sys/fs/cgroup").expect("the cgroup root").map(|entry| entry.expect("an entry"));
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The hierarchy with a freezer.
fn freezer(t: &Test) -> PathBuf {
    t.controller_dir("freezer").unwrap_or_else(|| "/sys/fs/cgroup".into())
}

/// Somebody else's process in a cgroup of its own, with the cgroup.
struct Stranger {
    child: Child,
    cgroup: PathBuf,
}

impl Stranger {
    fn in_cgroup(cgroup: PathBuf) -> Stranger {
        fs::create_dir_all(&cgroup).expect("make a cgroup");
        let child = Command::new("sleep").arg("86400").spawn().expect("start sleep");
        fs::write(cgroup.join("cgroup.procs"), child.id().to_string()).expect("join");
        Stranger { child, cgroup }
    }

    #[track_caller]
    fn is_unharmed(&mut self) {
        assert!(self.child.try_wait().expect("wait").is_none(), "the stranger was killed");
        let procs = fs::read_to_string(self.cgroup.join("cgroup.procs")).expect("the stranger's cgroup");
        assert!(procs.lines().any(|pid| pid == self.child.id().to_string()), "moved out of its cgroup");
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Removes a cgroup that a test has made.
#[track_caller]
fn remove(cgroup: &PathBuf) {
    let deadline = wait::deadline();
    // The process was reaped; the kernel lets go of the cgroup a moment later.
    while let Err(error) = fs::remove_dir(cgroup) {
        assert!(error.raw_os_error() == Some(16) && Instant::now() < deadline, "rmdir {cgroup:?}: {error}");
        std::thread::yield_now();
    }
}

#[test]
fn a_cgroup_of_another_container_is_refused_and_that_one_goes_on() {
    in_modes(ALL, |t| {
        let shared = json!(format!("/{}", t.name("shared")));
        let first = t.bundle().idle().set("/linux/cgroupsPath", shared.clone()).run_detached();
        let second = t.bundle().idle().set("/linux/cgroupsPath", shared);
        let refused = second.try_create();
        refused.fails_with(&["container's cgroup is not empty: 1 process(es) found"]);
        t.call(["delete", "--force", second.id()]).ok();
        assert_eq!(first.status(), "running");
        first.call("exec", &["true"]).ok();
        first.delete_force().ok();
    });
}

#[test]
fn somebody_elses_process_in_any_hierarchy_or_below_is_found_at_once_and_lives_on() {
    in_modes(ALL, |t| {
        t.runb_only("runc looks into one hierarchy");
        for top in hierarchies(t) {
            // A cpuset without processors takes no process.
            if top.ends_with("cpuset") {
                continue;
            }
            for below in ["", "below/it"] {
                let name = t.name("strange");
                let mut stranger = Stranger::in_cgroup(top.join(&name).join(below));
                let bundle = t.bundle().idle().set("/linux/cgroupsPath", json!(format!("/{name}")));
                let begin = Instant::now();
                for verb in ["create", "run"] {
                    let outcome = t.finish(bundle.write().command(verb, &[]));
                    outcome.fails_with(&["container's cgroup is not empty", "linux.cgroupsPath"]);
                }
                t.call(["delete", "--force", bundle.id()]).ok();
                assert!(begin.elapsed() < wait::slowly(Duration::from_secs(5)), "{:?}", begin.elapsed());
                stranger.is_unharmed();
                for other in hierarchies(t).iter().filter(|other| **other != top) {
                    assert!(!other.join(&name).exists(), "a cgroup was made in {other:?}");
                }
                let cgroup = stranger.cgroup.clone();
                drop(stranger);
                remove(&cgroup);
                let mut parents =
                    cgroup.ancestors().skip(1).take(below.split('/').filter(|part| !part.is_empty()).count());
                parents.by_ref().for_each(|parent| remove(&parent.to_owned()));
            }
        }
    });
}

#[test]
fn a_frozen_cgroup_is_refused_again_and_again_and_stays_frozen() {
    in_modes(ALL, |t| {
        let name = t.name("frozen");
        let cgroup = freezer(t).join(&name);
        fs::create_dir(&cgroup).expect("make a cgroup");
        let (file, value) = if t.mode() == Mode::V2 { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        fs::write(cgroup.join(file), value).expect("freeze it");
        let bundle = t.bundle().idle().set("/linux/cgroupsPath", json!(format!("/{name}")));
        for _ in 0..2 {
            bundle.try_create().fails_with(&["container's cgroup unexpectedly frozen"]);
        }
        assert_eq!(fs::read_to_string(cgroup.join(file)).expect("still there").trim(), value);
        remove(&cgroup);
    });
}

#[test]
fn the_callers_own_cgroup_and_the_root_are_refused() {
    in_modes(ALL, |t| {
        for path in ["/", "/."] {
            t.bundle().idle().set("/linux/cgroupsPath", json!(path)).try_create().fails_with(&["linux.cgroupsPath"]);
        }
        let name = t.name("own");
        let cgroup = freezer(t).join(&name);
        fs::create_dir(&cgroup).expect("make a cgroup");
        let bundle = t.bundle().idle().set("/linux/cgroupsPath", json!(format!("/{name}")));
        let script = "echo $$ >$0; \"$@\"; status=$?; echo $$ >$(dirname $(dirname $0))/cgroup.procs; exit $status";
        let procs = cgroup.join("cgroup.procs");
        let mut command = t.wrapped(&["sh", "-c", script, procs.to_str().expect("text")], ["create", "--bundle"]);
        bundle.write();
        command.arg(bundle.dir()).arg(bundle.id());
        t.finish(command).fails_with(&["container's cgroup is not empty"]);
        remove(&cgroup);
    });
}

#[test]
fn an_empty_cgroup_that_was_there_becomes_the_containers() {
    in_modes(ALL, |t| {
        let name = t.name("empty");
        let cgroup = freezer(t).join(&name);
        fs::create_dir(&cgroup).expect("make a cgroup");
        let container = t.bundle().idle().set("/linux/cgroupsPath", json!(format!("/{name}"))).run_detached();
        container.delete_force().ok();
        assert!(!cgroup.exists());
    });
}

#[test]
fn a_pid_file_of_somebody_else_outlives_a_launch_that_fails_before_it_writes_one() {
    in_modes(V2, |t| {
        let file = t.dir().join("pid");
        fs::write(&file, "another's").expect("write");
        let bundle = t.bundle().args(["/none"]);
        bundle.write();
        let flags = ["--pid-file", file.to_str().expect("text")];
        t.finish(bundle.command("create", &flags)).fails_with(&["/none"]);
        assert_eq!(fs::read_to_string(&file).expect("read"), "another's");
    });
}

#[test]
fn a_pid_file_of_a_launch_that_fails_later_is_taken_back() {
    in_modes(V2, |t| {
        t.runb_only("where the peers write it is their own affair");
        let file = t.dir().join("pid");
        let hook = json!({"path": "/bin/false"});
        let bundle = t.bundle().idle().hook("startContainer", hook);
        bundle.write();
        let flags = ["--detach", "--pid-file", file.to_str().expect("text")];
        t.finish(bundle.command("run", &flags)).fails_with(&["startContainer"]);
        assert!(!file.exists());
    });
}

/// A bundle whose create stands still in a hook; the hook says so to `events`, and goes on when `go` is written to.
fn held_up<'t>(t: &'t Test, kind: &str) -> (Bundle<'t>, wait::Fifo, PathBuf) {
    let bundle = t.bundle().idle();
    let (events, go) = (bundle.share_dir().join("events"), bundle.share_dir().join("go"));
    let fifo = t.fifo(&bundle, "events");
    rustix::fs::mknodat(rustix::fs::CWD, &go, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("mkfifo");
    let script = format!("echo here >{}; read line <{}", events.display(), go.display());
    (bundle.hook(kind, json!({"path": "/bin/sh", "args": ["sh", "-c", script]})), fifo, go)
}

#[track_caller]
fn ends(child: &mut Child) -> Option<i32> {
    assert!(wait::process_end(child.id() as i32, wait::deadline()), "it does not end");
    child.wait().expect("wait").code()
}

#[test]
fn a_container_that_is_being_made_is_creating_and_takes_no_exec_start_or_kill() {
    in_modes(V2, |t| {
        t.runb_only("runc joins the half-made container");
        let (bundle, mut events, go) = held_up(t, "createRuntime");
        let mut create = bundle.write().command("create", &[]).stdin(Stdio::null()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "here");
        let state = t.call(["state", bundle.id()]).ok().json();
        assert_eq!(state["status"], "creating");
        let exec = t.call(["exec", bundle.id(), "true"]);
        assert!(exec.code == 255 && exec.message().contains("creating"), "{exec:?}");
        t.call(["kill", bundle.id(), "KILL"]).fails_with(&["container not running"]);
        fs::write(&go, "on\n").expect("let the hook go on");
        assert_eq!(ends(&mut create), Some(0));
        assert_eq!(t.call(["state", bundle.id()]).ok().json()["status"], "created");
        t.call(["exec", bundle.id(), "true"]).ok();
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_delete_that_waits_for_a_run_sees_what_came_of_it() {
    in_modes(V2, |t| {
        t.runb_only("the peers have no lock");
        let (bundle, mut events, go) = held_up(t, "createRuntime");
        let mut run = bundle.write().command("run", &["--detach"]).stdin(Stdio::null()).spawn().expect("start");
        assert_eq!(events.line(), "here");
        let mut delete = t.command(["delete", bundle.id()]).spawn().expect("start the runtime");
        fs::write(&go, "on\n").expect("let the hook go on");
        assert_eq!(ends(&mut run), Some(0));
        assert_eq!(ends(&mut delete), Some(1));
        assert_eq!(t.call(["state", bundle.id()]).ok().json()["status"], "running");
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_container_whose_cgroup_another_one_has_taken_over_is_deleted_without_harm_to_that_one() {
    in_modes(ALL, |t| {
        t.runb_only("runc fails to delete it");
        let shared = json!(format!("/{}", t.name("shared")));
        for flags in [&["--force"][..], &[]] {
            let first = t.bundle().idle().set("/linux/cgroupsPath", shared.clone()).run_detached();
            let pid = first.pid();
            first.kill(&["KILL"]).ok();
            first.reap(pid);
            let second = t.bundle().idle().set("/linux/cgroupsPath", shared.clone()).run_detached();
            for signal in ["TERM", "KILL"] {
                t.call(["kill", "--all", first.id(), signal]).ok();
            }
            t.call([&["delete"], flags, &[first.id()]].concat()).ok();
            assert_eq!(second.status(), "running");
            second.call("exec", &["true"]).ok();
            second.delete_force().ok();
        }
    });
}

/// Damages a container's files by `change`, and tells what `delete --force` makes of it.
fn delete_of_damaged(t: &Test, damage: impl Fn(&std::path::Path)) -> (Container<'_>, Outcome, i32) {
    let container = t.bundle().idle().run_detached();
    let pid = container.pid();
    damage(&t.root().join(container.id()));
    t.call(["state", container.id()]).fails_with(&["damaged"]);
    container.delete().fails_with(&["damaged"]);
    let outcome = container.delete_force();
    (container, outcome, pid)
}

#[test]
fn a_container_whose_state_is_empty_or_cut_is_ended_by_its_intent() {
    in_modes(ALL, |t| {
        t.runb_only("runc forgets such a container");
        for keep in [0, 1, 40, 200] {
            let cut = |folder: &std::path::Path| {
                let file = folder.join("state.json");
                let text = fs::read(&file).expect("state.json");
                fs::write(&file, &text[..keep]).expect("cut it");
            };
            let (container, outcome, pid) = delete_of_damaged(t, cut);
            outcome.ok();
            assert_eq!(container.reap(pid), 137);
            assert!(!t.root().join(container.id()).exists());
        }
    });
}

#[test]
fn where_neither_state_nor_intent_tells_what_is_to_be_ended_nothing_is_removed() {
    in_modes(V2, |t| {
        t.runb_only("runc forgets such a container");
        let saved = t.dir().join("saved");
        let ruin = |folder: &std::path::Path| {
            fs::copy(folder.join("state.json"), &saved).expect("keep a copy");
            for name in ["state.json", "intent.json"] {
                fs::write(folder.join(name), "").expect("empty it");
            }
        };
        let (container, outcome, _) = delete_of_damaged(t, ruin);
        outcome.fails_with(&["damaged", "nothing was removed"]);
        fs::copy(&saved, t.root().join(container.id()).join("state.json")).expect("restore it");
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

#[test]
fn a_full_disk_leaves_no_container_behind_and_harms_none() {
    in_modes(V2, |t| {
        t.runb_only("counts on the order of runb's writes");
        t.needs_program("strace");
        // Each write of the launch fails once, wherever it goes.
        for moment in 1..40 {
            let bundle = t.bundle().idle();
            bundle.write();
            let inject = format!("inject=write,pwrite64:error=ENOSPC:when={moment}");
            let mut command = t.wrapped(&["strace", "-qq", "-o", "/dev/null", "-e", &inject], ["create", "--bundle"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let outcome = t.finish(command);
            if outcome.code == 0 {
                t.call(["delete", "--force", bundle.id()]).ok();
            } else {
                assert!(!t.root().join(bundle.id()).exists(), "write {moment}: {outcome:?}");
            }
        }
    });
}

#[test]
fn a_list_shows_the_others_and_tells_of_a_damaged_one() {
    in_modes(V2, |t| {
        t.runb_only("words of runb's own");
        let [good, bad] = [t.bundle().idle().create(), t.bundle().idle().create()];
        let file = t.root().join(bad.id()).join("state.json");
        fs::write(&file, "{").expect("damage it");
        let list = t.call(["list", "--quiet"]).ok();
        assert_eq!(list.lines(), [good.id()]);
        assert!(list.log.contains(bad.id()) && list.log.contains("damaged"), "{list:?}");
        good.delete_force().ok();
        bad.delete_force().ok();
    });
}

#[test]
fn a_folder_that_a_create_has_left_before_it_began_is_no_container_and_holds_no_id() {
    in_modes(V2, |t| {
        t.runb_only("the folder's content is runb's own");
        let bundle = t.bundle().idle();
        fs::create_dir_all(t.root().join(bundle.id())).expect("make the folder");
        t.call(["state", bundle.id()]).fails_with(&["does not exist"]);
        assert!(t.call(["list", "--quiet"]).ok().stdout.is_empty());
        let container = bundle.create();
        container.delete_force().ok();
    });
}

#[test]
fn delete_force_ends_a_create_that_a_hook_holds_up() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers have no lock");
        let (bundle, mut events, _go) = held_up(t, "createRuntime");
        let mut create = bundle.write().command("create", &[]).stdin(Stdio::null()).spawn().expect("start");
        assert_eq!(events.line(), "here");
        t.call(["delete", "--force", bundle.id()]).ok();
        assert_eq!(ends(&mut create), Some(1));
        t.call(["state", bundle.id()]).fails_with(&["does not exist"]);
    });
}

#[test]
fn a_hook_that_deletes_its_own_container_does_not_hang() {
    in_modes(V2, |t| {
        t.runb_only("the peers have no lock");
        for kind in ["createRuntime", "poststart", "poststop"] {
            let bundle = t.bundle().idle();
            let runtime = t.runtime().path().to_str().expect("text").to_owned();
            let script = format!("{runtime} --root {} delete --force {}", t.root().display(), bundle.id());
            let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["RUNB_LOG=off"]});
            let bundle = bundle.hook(kind, hook);
            let mut run = bundle.write().command("run", &["--detach"]).stdin(Stdio::null()).spawn().expect("start");
            let code = ends(&mut run);
            assert_eq!(code, Some(if kind == "poststop" { 0 } else { 1 }), "{kind}");
            let mut delete = t.command(["delete", "--force", bundle.id()]).spawn().expect("start the runtime");
            assert_eq!(ends(&mut delete), Some(0), "{kind}");
        }
    });
}
