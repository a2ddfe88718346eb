//! Two verbs side by side on one id.
//!
//! The first verb is stopped before one of its system calls; the second runs to its end meanwhile, or until it waits for the
//! first one's lock; then both are finished. What came of it must be what comes of one of the two orders.
//!
//! Each ordered pair of [`VERBS`] is tried from each state that a container can be in ([`Standing`]). Of the first verb's
//! calls those count that others can see, or that see what others do (`Traced::touches`): between two of these nothing
//! changes for the other verb. Of those [`MOMENTS`] are taken for each pair, by a fixed seed that is another one for each
//! pair; with `RUNB_TESTS_ALL=1` each call of all is a moment, whether it counts or not.

use std::cell::Cell;
use std::process::Command;
use std::time::Instant;

use runb_tests::leftovers::Snapshot;
use runb_tests::traced::{Ran, Stop};
use runb_tests::*;

/// At how many calls the first verb of a pair is stopped.
const MOMENTS: usize = 3;

/// A verb with its arguments.
struct Verb {
    name: &'static str,
    words: fn(&Bundle<'_>) -> Vec<String>,
    does: Does,
}

/// What a verb does to a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It tells of it.
    Tells,
    /// It makes one.
    Makes,
    /// It changes it, or adds to it.
    Changes,
    /// It kills init: what another verb is doing may fail by that.
    Kills,
}

/// The verbs. A new one is one more line.
const VERBS: &[Verb] = &[
    verb("create", Does::Makes, |b| words(&["create", "--bundle", &b.dir().to_string_lossy(), b.id()])),
    verb("run -d", Does::Makes, |b| words(&["run", "--detach", "--bundle", &b.dir().to_string_lossy(), b.id()])),
    verb("start", Does::Changes, |b| words(&["start", b.id()])),
    verb("exec", Does::Changes, |b| words(&["exec", b.id(), "true"])),
    verb("kill", Does::Kills, |b| words(&["kill", b.id(), "KILL"])),
    verb("state", Does::Tells, |b| words(&["state", b.id()])),
    verb("list", Does::Tells, |_| words(&["list", "--format", "json"])),
    verb("delete", Does::Changes, |b| words(&["delete", b.id()])),
    verb("delete --force", Does::Kills, |b| words(&["delete", "--force", b.id()])),
];

const fn verb(name: &'static str, does: Does, words: fn(&Bundle<'_>) -> Vec<String>) -> Verb {
    Verb { name, words, does }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Where a container stands when nobody is at work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There is none.
    Nowhere,
    Created,
    Running,
    Stopped,
}

const STANDINGS: [Standing; 4] = [Standing::Nowhere, Standing::Created, Standing::Running, Standing::Stopped];

/// What a verb answers in a state, and where the container stands then.
type Answer = (i32, Standing);

/// The place of all the cases of a test: one bundle, one id, over and over.
struct Place<'t> {
    t: &'t Test,
    bundle: Bundle<'t>,
    before: Snapshot,
    /// The answer of each verb in each state, by itself.
    answers: Vec<[Answer; STANDINGS.len()]>,
    failures: Cell<Vec<String>>,
}

impl<'t> Place<'t> {
    fn new(t: &'t Test) -> Self {
        let bundle = t.bundle().idle();
        bundle.write();
        let before = Snapshot::take(t);
        let mut place = Place { t, bundle, before, answers: Vec::new(), failures: Cell::default() };
        place.answers = VERBS.iter().map(|verb| STANDINGS.map(|from| place.answer(verb, from))).collect();
        place
    }

    fn command(&self, verb: &Verb) -> Command {
        self.t.command((verb.words)(&self.bundle))
    }

    fn call(&self, verb: &str, rest: &[&str]) -> Outcome {
        self.t.call([&[verb], rest, &[self.bundle.id()]].concat())
    }

    /// Brings the container where it is to stand.
    fn set_up(&self, standing: Standing) {
        let bundle = self.bundle.dir().to_string_lossy();
        match standing {
            Standing::Nowhere => {}
            Standing::Created => drop(self.call("create", &["--bundle", &bundle]).ok()),
            Standing::Running | Standing::Stopped => drop(self.call("run", &["--detach", "--bundle", &bundle]).ok()),
        }
        if standing == Standing::Stopped {
            let (_, pid) = self.state().expect("a container");
            self.t.call(["kill", self.bundle.id(), "KILL"]).ok();
            assert!(wait::process_end(pid, Instant::now() + wait::DEADLINE), "init does not end");
        }
    }

    /// The status and init's process id.
    fn state(&self) -> Option<(String, i32)> {
        let state = self.call("state", &[]);
        if state.code != 0 {
            state.fails_with(&["does not exist"]);
            return None;
        }
        let state = state.json();
        let pid = state["pid"].as_i64().expect("a pid") as i32;
        Some((state["status"].as_str().expect("a status").to_owned(), pid))
    }

    /// Where the container stands; if init `was_killed`, when it has ended.
    fn standing(&self, was_killed: bool) -> Result<Standing, String> {
        let mut state = self.state();
        if let Some((_, pid)) = state.as_ref().filter(|(_, pid)| was_killed && *pid > 0) {
            wait::process_end(*pid, Instant::now() + leftovers::DYING);
            state = self.state();
        }
        let standing = match state.as_ref().map(|(status, _)| status.as_str()) {
            None => Standing::Nowhere,
            Some("created") => Standing::Created,
            Some("running") => Standing::Running,
            Some("stopped") => Standing::Stopped,
            Some(other) => return Err(format!("its status is {other}")),
        };
        let init = state.map_or(0, |(_, pid)| pid);
        match leftovers::processes_but(init).as_slice() {
            [] => Ok(standing),
            others => Err(format!("{standing:?}, and there are {others:?}")),
        }
    }

    /// Ends the case; what is left of it is a fault.
    fn clear(&self) -> Result<(), String> {
        let delete = self.call("delete", &["--force"]);
        if delete.code != 0 {
            return Err(format!("delete --force: {delete:?}"));
        }
        let left = self.before.leftovers(self.t);
        let _ = std::fs::remove_file(self.t.log());
        if left.is_empty() { Ok(()) } else { Err(format!("left: {}", left.join(", "))) }
    }

    /// What a verb answers by itself.
    fn answer(&self, verb: &Verb, from: Standing) -> Answer {
        self.set_up(from);
        let code = self.t.finish(self.command(verb)).code;
        let standing = self.standing(verb.does == Does::Kills && code == 0);
        let standing = standing.unwrap_or_else(|error| panic!("{} of a {from:?} one: {error}", verb.name));
        self.clear().unwrap_or_else(|error| panic!("{} of a {from:?} one: {error}", verb.name));
        (code, standing)
    }

    /// The calls of the verb that may be moments.
    fn moments(&self, verb: &Verb, from: Standing) -> Vec<usize> {
        self.set_up(from);
        let mut traced = Traced::start(self.t, env!("CARGO_BIN_EXE_traceable"), &self.command(verb));
        let (root, mut moments) = (self.t.root(), Vec::new());
        let names = [self.bundle.id(), root.to_str().expect("text")];
        for index in 0.. {
            match traced.step() {
                Stop::Call(call) if sample::all() || traced.touches(&call, &names) => moments.push(index),
                Stop::Call(_) => {}
                Stop::Ended(code) => {
                    traced.ended(code);
                    break;
                }
            }
        }
        self.clear().unwrap_or_else(|error| panic!("{} of a {from:?} one, step by step: {error}", verb.name));
        moments
    }

    /// What comes of one verb after the other: the codes in that order, and where the container stands then.
    fn sequence(&self, [first, second]: [usize; 2], from: Standing) -> ([i32; 2], Standing) {
        let (one, between) = self.answers[first][from as usize];
        let (two, then) = self.answers[second][between as usize];
        ([one, two], then)
    }

    /// Whether this may come of the two, the one stopped, the other running meanwhile.
    fn is_allowed(&self, [first, second]: [usize; 2], from: Standing, codes: [i32; 2], then: Standing) -> bool {
        let (straight, swapped) = (self.sequence([first, second], from), self.sequence([second, first], from));
        let swapped = ([swapped.0[1], swapped.0[0]], swapped.1);
        if [straight, swapped].contains(&(codes, then)) {
            return true;
        }
        // What is at work on an init that is killed may fail; a launch takes itself back then.
        let failed_by = |killer: usize, other: usize, [killed, code]: [i32; 2], after: Standing| {
            VERBS[killer].does == Does::Kills
                && VERBS[other].does != Does::Tells
                && killed == 0
                && code != 0
                && (then == after || VERBS[other].does == Does::Makes && then == Standing::Nowhere)
        };
        failed_by(second, first, [codes[1], codes[0]], straight.1) || failed_by(first, second, codes, swapped.1)
    }

    /// Stops the verb `first` before its call number `moment`, and lets the verb `second` run meanwhile.
    fn case(&self, pair: [usize; 2], from: Standing, moment: usize) -> Result<(), String> {
        let [first, second] = pair.map(|verb| self.command(&VERBS[verb]));
        let traceable = env!("CARGO_BIN_EXE_traceable");
        self.set_up(from);
        let mut one = Traced::start(self.t, traceable, &first);
        let (one, two) = match one.step_to(moment) {
            Some(code) => (one.ended(code), self.t.finish(second)),
            None => {
                let mut two = Traced::start(self.t, traceable, &second);
                match two.run_or_wait() {
                    Ran::ToItsEnd(code) => {
                        let two = two.ended(code);
                        (one.finish(), two)
                    }
                    Ran::UntilItWaits => {
                        let (one, two) = (one.let_go(), two.let_go());
                        (one.finish(), two.finish())
                    }
                }
            }
        };
        let codes = [one.code, two.code];
        let was_killed = [0, 1].iter().any(|&i| VERBS[pair[i]].does == Does::Kills && codes[i] == 0);
        let words = |outcome: &Outcome| outcome.stderr.trim().to_owned();
        let said = format!("{codes:?} ({:?}, {:?})", words(&one), words(&two));
        let then = self.standing(was_killed).map_err(|error| format!("{said}: {error}"))?;
        if !self.is_allowed(pair, from, codes, then) {
            return Err(format!("{said}: {then:?}"));
        }
        for outcome in [&one, &two] {
            if ["damaged", "internal"].iter().any(|word| outcome.stderr.contains(word) || outcome.log.contains(word)) {
                return Err(format!("{outcome:?}"));
            }
        }
        for (verb, outcome) in pair.into_iter().zip([&one, &two]) {
            self.tells_the_truth(pair, &VERBS[verb], from, outcome)?;
        }
        Ok(())
    }

    /// The status that `state` and `list` tell is one that the container has at some moment.
    fn tells_the_truth(&self, pair: [usize; 2], verb: &Verb, from: Standing, said: &Outcome) -> Result<(), String> {
        if verb.does != Does::Tells || said.code != 0 {
            return Ok(());
        }
        let told = said.json();
        let told = told.get(0).unwrap_or(&told);
        let other = pair.into_iter().find(|&other| VERBS[other].does != Does::Tells);
        let Some(other) = other else { return Ok(()) };
        let name = |standing: Standing| match standing {
            Standing::Nowhere => Value::Null,
            other => json!(format!("{other:?}").to_lowercase()),
        };
        let mut truth = vec![name(from), name(self.answers[other][from as usize].1)];
        match VERBS[other].does {
            // On the way.
            Does::Makes if from == Standing::Nowhere => truth.extend([json!("creating"), json!("created")]),
            Does::Kills | Does::Changes => truth.push(json!("stopped")),
            _ => {}
        }
        let status = told.get("status").unwrap_or(&Value::Null);
        if truth.contains(status) { Ok(()) } else { Err(format!("{} tells {status}, of {truth:?}", verb.name)) }
    }

    /// All pairs from one state.
    fn pairs(&self, from: Standing) {
        let (begin, mut cases) = (Instant::now(), 0);
        for (first, verb) in VERBS.iter().enumerate() {
            let moments = self.moments(verb, from);
            for (second, other) in VERBS.iter().enumerate() {
                if !matters(verb, other, from) {
                    continue;
                }
                let seed = (from as usize * VERBS.len() + first) * VERBS.len() + second;
                for moment in sample::of(&moments, MOMENTS, seed as u64 + 1) {
                    cases += 1;
                    let result = self.case([first, second], from, moment);
                    let result = result.and_then(|()| self.clear()).or_else(|error| {
                        self.fail(format!("{from:?}: {} stopped at call {moment}, {}: {error}", verb.name, other.name));
                        self.clear()
                    });
                    result.unwrap_or_else(|error| self.fail(format!("  and then {error}")));
                }
            }
        }
        println!("{from:?}: {cases} cases in {:?}", begin.elapsed());
        let failures = self.failures.take();
        assert!(failures.is_empty(), "{} of {cases}:\n{}", failures.len(), failures.join("\n"));
    }

    fn fail(&self, failure: String) {
        let mut failures = self.failures.take();
        failures.push(failure);
        self.failures.set(failures);
    }
}

/// Whether one of the two changes anything, so that there is something to be seen.
fn matters(first: &Verb, second: &Verb, from: Standing) -> bool {
    let both = [first.does, second.does];
    match from {
        Standing::Nowhere => both.contains(&Does::Makes),
        _ => both.iter().any(|does| *does != Does::Tells),
    }
}

fn pairs_from(t: &Test, from: Standing) {
    t.runb_only("the peers have no lock");
    Place::new(t).pairs(from);
}

#[test]
fn two_verbs_side_by_side_where_there_is_no_container() {
    in_modes(V2, |t| pairs_from(t, Standing::Nowhere));
}

#[test]
fn two_verbs_side_by_side_on_a_created_container() {
    in_modes(V2, |t| pairs_from(t, Standing::Created));
}

#[test]
fn two_verbs_side_by_side_on_a_running_container() {
    in_modes(V2, |t| pairs_from(t, Standing::Running));
}

#[test]
fn two_verbs_side_by_side_on_a_stopped_container() {
    in_modes(V2, |t| pairs_from(t, Standing::Stopped));
}
