//! What joins a container, looked into and imitated: CVE-2016-9962 beyond descriptors. And what an exec or a signal is for, once
//! init has ended and its number is another's.

use std::fs;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use runb_tests::*;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::canary::Canary;
use super::descriptors::armed;
use super::exchange::rounds;

/// Somebody who has nothing to do with any container.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Bystander(Command::new("sleep").arg("86400").spawn().expect("start a process"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// It runs, and ends by the test alone.
    #[track_caller]
    fn is_unharmed(&mut self, what: &str) {
        assert_eq!(self.0.try_wait().expect("wait"), None, "{what}: a process of the host has ended");
    }

    fn end(mut self) {
        self.is_unharmed("at the end");
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

/// A container whose workload takes over the sockets of those that join it, if the kernel lets it.
fn imitator<'t>(t: &'t Test, bystander: &Bystander, hold: &str) -> Container<'t> {
    let twin = bystander.pid().to_string();
    let sets = json!(["CAP_SYS_PTRACE"]);
    let bundle =
        armed(t.bundle().with_id(&t.name("i")).args(["/share/attacker", "imitate", "/share/stop", &twin, hold]));
    let sets = json!({"bounding": sets, "effective": sets, "permitted": sets});
    bundle.set("/process/capabilities", sets).run_detached()
}

/// Takes away the ended children of this process, the first of its pid namespace, but for `known`. What is left, for a message.
fn reap_orphans(known: &[i32]) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if known.contains(&pid) || stat.is_empty() || pid == 1 {
            continue;
        }
        match stat.contains(") Z 1 ") {
            true => drop(waitpid(Pid::from_raw(pid), WaitOptions::NOHANG)),
            false => left.push(stat),
        }
    }
    left
}

/// Ends the imitator; how many processes it has spoken for.
#[track_caller]
fn imitated(container: Container<'_>, bystander: &Bystander) -> u32 {
    let pid = container.pid();
    fs::write(container.bundle().share_dir().join("stop"), "").expect("stop the imitator");
    // What joined and was given up is an orphan: init cannot end before it is reaped, as the machine's first process does.
    let deadline = wait::deadline();
    while !wait::process_end(pid, Instant::now() + Duration::from_millis(50)) {
        let left = reap_orphans(&[pid, bystander.pid()]);
        assert!(Instant::now() < deadline, "the imitator does not end: {left:?}");
    }
    container.reap(pid);
    let said = container.stdout();
    let number = said.split("imitated ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    container.delete().ok();
    number.unwrap_or_else(|| panic!("{said}"))
}

#[test]
fn what_another_says_in_the_place_of_a_process_that_joins_ends_that_exec_and_nothing_else() {
    in_modes(ALL, |t| {
        t.runb_only("the lies are in its own words");
        let canary = Canary::new(t);
        let mut bystander = Bystander::start();
        let container = imitator(t, &bystander, "let go");
        for _ in rounds(t) {
            let outcome = t.call(["exec", container.id(), "true"]);
            assert!([0, 255, 137].contains(&outcome.code), "{outcome:?}");
            bystander.is_unharmed("exec");
        }
        assert_eq!(container.status(), "running");
        assert!(imitated(container, &bystander) > 0, "nobody was imitated");
        bystander.end();
        canary.is_unharmed("lies");
    });
}

#[test]
fn what_another_says_in_the_place_of_an_init_that_joins_harms_nobody_else() {
    in_modes(ALL, |t| {
        t.runb_only("the lies are in its own words");
        let canary = Canary::new(t);
        let mut bystander = Bystander::start();
        let container = imitator(t, &bystander, "let go");
        let path = format!("/proc/{}/ns/pid", container.pid());
        for _ in rounds(t) {
            let bundle = t.bundle().with_id(&t.name("v")).join_namespace("pid", &path).args(["true"]);
            let outcome = bundle.run();
            assert!([0, 1, 137].contains(&outcome.code), "{outcome:?}");
            bystander.is_unharmed("run");
            let _ = t.call(["delete", "--force", bundle.id()]);
            bystander.is_unharmed("delete");
        }
        assert!(imitated(container, &bystander) > 0, "nobody was imitated");
        bystander.end();
        canary.is_unharmed("lies");
    });
}

#[test]
fn who_keeps_the_socket_of_a_process_that_joined_does_not_keep_the_exec() {
    in_modes(ALL, |t| {
        t.runb_only("the peers have other sockets");
        let bystander = Bystander::start();
        let container = imitator(t, &bystander, "hold");
        for _ in rounds(t) {
            let outcome = t.call(["exec", container.id(), "sh", "-c", "exit 7"]);
            assert_eq!(outcome.code, 7, "{outcome:?}");
        }
        assert!(imitated(container, &bystander) > 0, "no socket was kept");
        bystander.end();
    });
}

/// The next process gets the number `pid`: nobody else starts any in the test's pid namespace.
fn with_number(pid: i32) -> Child {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("write ns_last_pid");
    Command::new("sleep").arg("86400").spawn().expect("start a process")
}

/// When a process began, in clock ticks.
fn start_time(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(19)).expect("a start time").to_owned()
}

#[test]
fn a_process_that_has_the_number_of_an_init_that_ended_is_not_taken_for_it() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        let began = start_time(pid);
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        let mut other = Bystander(with_number(pid));
        // Numbers come round in more than a tick of the clock, unless one does as above.
        while start_time(other.pid()) == began {
            other.end();
            other = Bystander(with_number(pid));
        }
        if other.pid() != pid {
            other.end();
            container.delete().ok();
            t.skip("the number could not be had again");
        }
        assert_eq!(container.status(), "stopped");
        for args in [&["exec", container.id(), "true"][..], &["kill", container.id(), "KILL"]] {
            let outcome = t.call(args);
            assert_ne!(outcome.code, 0, "{args:?}: {outcome:?}");
            other.is_unharmed(args[0]);
        }
        container.delete().ok();
        other.end();
        canary.is_unharmed("another process");
    });
}
