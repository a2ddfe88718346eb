//! A container that a test brings to a state and clears away, over and over: one bundle, one id.

use std::cell::RefCell;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::bundle::Bundle;
use crate::host::Test;
use crate::leftovers::{DYING, Snapshot, processes_but};
use crate::runtime::Outcome;
use crate::traced::{Stop, Traced};
use crate::{sample, wait};

/// Where a container stands when nobody is at work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Nowhere,
    /// Init waits for `start`.
    Created,
    /// The workload runs.
    Running,
    /// It was killed.
    Stopped,
}

impl Standing {
    /// All of them.
    pub const ALL: [Standing; 4] = [Standing::Nowhere, Standing::Created, Standing::Running, Standing::Stopped];
}

/// How long a `delete --force` may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The moment before a system call.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Which one it is, counted from 0.
    pub index: usize,
    /// The call's name.
    pub name: &'static str,
    /// Whether it touches something that others see (see [`Traced::touches`]).
    pub touches: bool,
}

/// The place of many cases.
pub struct Place<'t> {
    /// The test.
    pub t: &'t Test,
    /// What each container is made from.
    pub bundle: Bundle<'t>,
    traceable: &'static str,
    before: Snapshot,
    failures: RefCell<Vec<String>>,
}

impl<'t> Place<'t> {
    /// For the containers of `bundle`, whose workload ends only when it is killed; `traceable` is the program of that name.
    pub fn new(t: &'t Test, bundle: Bundle<'t>, traceable: &'static str) -> Self {
        bundle.write();
        Place { t, bundle, traceable, before: Snapshot::take(t), failures: RefCell::default() }
    }

    /// `VERB FLAGS… ID`, to its end.
    pub fn call(&self, verb: &str, flags: &[&str]) -> Outcome {
        self.t.call([&[verb], flags, &[self.bundle.id()]].concat())
    }

    /// Starts `command`, which stands still before its first call.
    pub fn trace(&self, command: &Command) -> Traced {
        Traced::start(self.t, self.traceable, command)
    }

    /// Brings the container where it is to stand; there is none before.
    pub fn set_up(&self, standing: Standing) {
        let bundle = self.bundle.dir().to_string_lossy();
        match standing {
            Standing::Nowhere => {}
            Standing::Created => drop(self.call("create", &["--bundle", &bundle]).ok()),
            Standing::Running | Standing::Stopped => drop(self.call("run", &["--detach", "--bundle", &bundle]).ok()),
        }
        if standing == Standing::Stopped {
            let (_, pid) = self.state().expect("a container");
            self.t.call(["kill", self.bundle.id(), "KILL"]).ok();
            assert!(wait::process_end(pid, wait::deadline()), "init does not end");
        }
    }

    /// The status and init's process id.
    pub fn state(&self) -> Option<(String, i32)> {
        let state = self.call("state", &[]);
        if state.code != 0 {
            state.fails_with(&["does not exist"]);
            return None;
        }
        let state = state.json();
        let pid = state["pid"].as_i64().expect("a pid") as i32;
        Some((state["status"].as_str().expect("a status").to_owned(), pid))
    }

    /// Where the container stands; nobody but its init lives.
    ///
    /// # Errors
    /// Another status, or other processes.
    pub fn standing(&self) -> Result<Standing, String> {
        let (standing, others) = self.standing_and_others()?;
        if others.is_empty() { Ok(standing) } else { Err(format!("{standing:?}, and there are {others:?}")) }
    }

    /// Where the container stands, and who lives beside its init.
    ///
    /// # Errors
    /// Another status.
    pub fn standing_and_others(&self) -> Result<(Standing, Vec<String>), String> {
        let state = self.state();
        let standing = match state.as_ref().map(|(status, _)| status.as_str()) {
            None => Standing::Nowhere,
            Some("created") => Standing::Created,
            Some("running") => Standing::Running,
            Some("stopped") => Standing::Stopped,
            Some(other) => return Err(format!("its status is {other}")),
        };
        Ok((standing, processes_but(self.t.site(), state.map_or(0, |(_, pid)| pid))))
    }

    /// The same after init was killed: it may take a moment to end.
    ///
    /// # Errors
    /// As [`Place::standing`].
    pub fn standing_after_kill(&self) -> Result<Standing, String> {
        if let Some((_, pid)) = self.state().filter(|(_, pid)| *pid > 0) {
            wait::process_end(pid, Instant::now() + wait::slowly(DYING));
        }
        self.standing()
    }

    /// Ends a case by `delete --force`.
    ///
    /// # Errors
    /// What is left of it; or it takes long.
    pub fn clear(&self) -> Result<(), String> {
        let begin = Instant::now();
        let delete = self.call("delete", &["--force"]);
        if delete.code != 0 || begin.elapsed() > wait::slowly(PATIENCE) {
            return Err(format!("delete --force, {:?}: {delete:?}", begin.elapsed()));
        }
        let left = self.left();
        let _ = fs::remove_file(self.t.log());
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join(", "))) }
    }

    /// What is there that was not at the begin.
    pub fn left(&self) -> Vec<String> {
        self.before.leftovers(self.t)
    }

    /// The calls that `command` makes of a container that stands there, in order.
    pub fn calls(&self, command: &Command, from: Standing) -> Vec<Moment> {
        self.set_up(from);
        let mut traced = self.trace(command);
        let (root, mut calls) = (self.t.root(), Vec::new());
        let names = [self.bundle.id(), root.to_str().expect("text")];
        let code = loop {
            match traced.step() {
                Stop::Call(call) => {
                    calls.push(Moment {
                        index: calls.len(),
                        name: call.name(),
                        touches: traced.touches(&call, &names),
                    });
                }
                Stop::Ended(code) => break code,
            }
        };
        traced.ended(code);
        self.clear().unwrap_or_else(|error| panic!("{command:?} of a {from:?} one, step by step: {error}"));
        calls
    }

    /// Those of them that count: the ones that touch something that others see; each one if [`sample::every_call`].
    pub fn moments(&self, command: &Command, from: Standing) -> Vec<Moment> {
        let mut calls = self.calls(command, from);
        calls.retain(|call| call.touches || sample::every_call());
        calls
    }

    /// Ends the case `what`, which came to `result`; what is wrong is kept for [`Place::report`].
    pub fn finish(&self, what: &str, result: Result<(), String>) {
        let cleared = self.clear();
        let goes_on = cleared.is_ok();
        for error in [result, cleared].into_iter().filter_map(Result::err) {
            self.failures.borrow_mut().push(format!("{what}: {error}"));
        }
        if !goes_on {
            self.report(0);
        }
    }

    /// Fails with all that was wrong in `cases` cases.
    pub fn report(&self, cases: usize) {
        let failures = self.failures.borrow();
        assert!(failures.is_empty(), "{} of {cases} cases:\n{}", failures.len(), failures.join("\n"));
    }
}
