//! Two verbs side by side on one id.
//!
//! The first verb is stopped before one of its system calls; the second runs to its end meanwhile, or until it waits for the
//! first one; then both are finished. What came of it must be what comes of one of the two orders, and nothing may be left
//! after a `delete --force`.
//!
//! Each ordered pair of [`VERBS`] is tried from each state that a container can be in ([`Standing`]), where one of the two
//! changes anything. Of the first verb's calls those count that others can see, or that see what others do
//! (`Traced::touches`): between two of these nothing changes for the other verb. Of those [`MOMENTS`] are taken for each
//! pair, by a fixed seed that is another one for each pair. `RUNB_TESTS_ALL=1` takes all of them, and `RUNB_TESTS_ALL=calls`
//! those that do not count as well.

use std::process::Command;
use std::time::Instant;

use runb_tests::traced::Ran;
use runb_tests::*;

/// At how many calls the first verb of a pair is stopped.
const MOMENTS: usize = 3;

/// A verb with its arguments.
struct Verb {
    name: &'static str,
    does: Does,
    words: fn(&Bundle<'_>) -> Vec<String>,
}

/// What a verb does to a container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It tells where it stands.
    Tells,
    /// It tells what the kernel knows of it.
    Reads,
    /// It makes one.
    Makes,
    /// It changes it.
    Changes,
    /// It adds a process.
    Adds,
    /// It kills init.
    Kills,
    /// It kills the init of a created one, and takes it away.
    Removes,
}

/// The verbs. A new one is one more line.
const VERBS: &[Verb] = &[
    verb("create", Does::Makes, |b| words(&["create", "--bundle", &b.dir().to_string_lossy(), b.id()])),
    verb("run -d", Does::Makes, |b| words(&["run", "--detach", "--bundle", &b.dir().to_string_lossy(), b.id()])),
    verb("start", Does::Changes, |b| words(&["start", b.id()])),
    verb("exec", Does::Adds, |b| words(&["exec", b.id(), "true"])),
    verb("kill", Does::Kills, |b| words(&["kill", b.id(), "KILL"])),
    verb("state", Does::Tells, |b| words(&["state", b.id()])),
    verb("ps", Does::Reads, |b| words(&["ps", "--format", "json", b.id()])),
    verb("events", Does::Reads, |b| words(&["events", "--stats", b.id()])),
    verb("update", Does::Changes, |b| words(&["update", "--resources", &resources(b), b.id()])),
    verb("list", Does::Tells, |_| words(&["list", "--format", "json"])),
    verb("delete", Does::Removes, |b| words(&["delete", b.id()])),
    verb("delete --force", Does::Kills, |b| words(&["delete", "--force", b.id()])),
];

/// A file with a limit, beside config.json.
fn resources(bundle: &Bundle<'_>) -> String {
    let path = bundle.dir().join("resources.json");
    std::fs::write(&path, r#"{"unified":{"cgroup.max.depth":"7"}}"#).expect("write the resources");
    path.to_string_lossy().into_owned()
}

const fn verb(name: &'static str, does: Does, words: fn(&Bundle<'_>) -> Vec<String>) -> Verb {
    Verb { name, does, words }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Verb {
    fn kills(&self, from: Standing) -> bool {
        self.does == Does::Kills || self.does == Does::Removes && from == Standing::Created
    }
}

/// What a verb answers in a state, and where the container stands then.
type Answer = (i32, Standing);

/// What came of two verbs: their exit codes, and where the container stands then.
type Both = ([i32; 2], Standing);

/// All the pairs of a test.
struct Pairs<'t> {
    place: Place<'t>,
    /// The answer of each verb in each state, by itself.
    answers: Vec<[Answer; Standing::ALL.len()]>,
}

impl<'t> Pairs<'t> {
    fn new(t: &'t Test) -> Self {
        let place = Place::new(t, t.bundle().idle(), env!("CARGO_BIN_EXE_traceable"));
        let mut pairs = Pairs { place, answers: Vec::new() };
        pairs.answers = VERBS.iter().map(|verb| Standing::ALL.map(|from| pairs.answer(verb, from))).collect();
        pairs
    }

    fn command(&self, verb: &Verb) -> Command {
        self.place.t.command((verb.words)(&self.place.bundle))
    }

    /// What a verb answers by itself.
    fn answer(&self, verb: &Verb, from: Standing) -> Answer {
        self.place.set_up(from);
        let code = self.place.t.finish(self.command(verb)).code;
        let standing = match code {
            0 if verb.kills(from) => self.place.standing_after_kill(),
            _ => self.place.standing(),
        };
        let cleared = standing.and_then(|standing| self.place.clear().map(|()| standing));
        (code, cleared.unwrap_or_else(|error| panic!("{} of a {from:?} one: {error}", verb.name)))
    }

    /// What comes of one verb after the other: the codes in that order, and where the container stands then.
    fn sequence(&self, [first, second]: [usize; 2], from: Standing) -> Both {
        let (one, between) = self.answers[first][from as usize];
        let (two, then) = self.answers[second][between as usize];
        ([one, two], then)
    }

    /// Whether this may come of the two.
    fn is_allowed(&self, [first, second]: [usize; 2], from: Standing, (codes, then): Both) -> bool {
        let swapped = [codes[1], codes[0]];
        self.sequence([first, second], from) == (codes, then)
            || self.sequence([second, first], from) == (swapped, then)
            || self.is_allowed_by_kill([first, second], from, (codes, then))
            || self.is_allowed_by_kill([second, first], from, (swapped, then))
    }

    /// Whether this may come of `killer`'s killing the init that `other` works on.
    fn is_allowed_by_kill(&self, [killer, other]: [usize; 2], from: Standing, (codes, then): Both) -> bool {
        let does = VERBS[other].does;
        if !VERBS[killer].kills(from) || codes[0] != 0 {
            return false;
        }
        // `delete --force` kills first, and deletes then: another verb may come between.
        let (code, between) = self.answers[other][Standing::Stopped as usize];
        let meets_a_stopped_one = (codes[1], then) == (code, self.answers[killer][between as usize].1);
        // It fails; a launch takes itself back then.
        let (_, after) = self.sequence([other, killer], from);
        let fails =
            does != Does::Tells && codes[1] != 0 && (then == after || does == Does::Makes && then == Standing::Nowhere);
        // A process that is dying takes a signal still.
        let kills_what_dies = does == Does::Kills && codes[1] == 0 && then == self.sequence([killer, other], from).1;
        meets_a_stopped_one || fails || kills_what_dies
    }

    /// Stops the verb `first` before its call number `moment`, and lets the verb `second` run meanwhile.
    fn case(&self, pair: [usize; 2], from: Standing, moment: usize) -> Result<(), String> {
        self.place.set_up(from);
        let [one, two] = self.side_by_side(pair, moment);
        let codes = [one.code, two.code];
        let said = format!("{codes:?} ({:?}, {:?})", one.stderr.trim(), two.stderr.trim());
        let is_killed = [0, 1].iter().any(|&i| VERBS[pair[i]].kills(from) && codes[i] == 0);
        let standing = if is_killed { self.place.standing_after_kill() } else { self.place.standing() };
        let then = standing.map_err(|error| format!("{said}: {error}"))?;
        if !self.is_allowed(pair, from, (codes, then)) {
            return Err(format!("{said}: {then:?}"));
        }
        let all = format!("{said} {} {}", one.log, two.log);
        if ["damaged", "internal", "panicked"].iter().any(|word| all.contains(word)) {
            return Err(all);
        }
        self.tells_the_truth(pair, from, &one)?;
        self.tells_the_truth([pair[1], pair[0]], from, &two)
    }

    fn side_by_side(&self, [first, second]: [usize; 2], moment: usize) -> [Outcome; 2] {
        let [first_command, second_command] = [first, second].map(|verb| self.command(&VERBS[verb]));
        let mut one = self.place.trace(&first_command);
        if let Some(code) = one.step_to(moment) {
            return [one.ended(code), self.place.t.finish(second_command)];
        }
        // The init of a pid namespace is gone when everybody in it was reaped: an exec that stands still holds that up.
        let holds_up_the_end = VERBS[first].does == Does::Adds && one.has_children();
        let mut two = self.place.trace(&second_command);
        match two.run_or_wait(|call| holds_up_the_end && call.is_poll()) {
            Ran::ToItsEnd(code) => {
                let two = two.ended(code);
                [one.finish(), two]
            }
            Ran::UntilItWaits => {
                let (one, two) = (one.let_go(), two.let_go());
                [one.finish(), two.finish()]
            }
        }
    }

    /// The status that `state` and `list` tell is one that the container has at some moment.
    fn tells_the_truth(&self, [verb, other]: [usize; 2], from: Standing, said: &Outcome) -> Result<(), String> {
        let (verb, other) = (&VERBS[verb], &VERBS[other]);
        if verb.does != Does::Tells || said.code != 0 {
            return Ok(());
        }
        let name = |standing: Standing| match standing {
            Standing::Nowhere => Value::Null,
            other => json!(format!("{other:?}").to_lowercase()),
        };
        let after = VERBS.iter().zip(&self.answers).filter(|(verb, _)| verb.name == other.name);
        let mut truth: Vec<Value> = after.map(|(_, answers)| name(answers[from as usize].1)).collect();
        truth.push(name(from));
        match other.does {
            Does::Makes if from == Standing::Nowhere => truth.extend([json!("creating"), json!("created")]),
            Does::Kills | Does::Removes => truth.push(json!("stopped")),
            _ => {}
        }
        let told = said.json();
        let told = if told.is_object() { &told } else { &told[0] };
        let status = &told["status"];
        if truth.contains(status) { Ok(()) } else { Err(format!("{} tells {status}, of {truth:?}", verb.name)) }
    }
}

/// Whether one of the two changes anything, so that there is something to be seen.
fn matters(first: &Verb, second: &Verb, from: Standing) -> bool {
    let both = [first.does, second.does];
    match from {
        Standing::Nowhere => both.contains(&Does::Makes),
        _ => both.iter().any(|does| !matches!(does, Does::Tells | Does::Reads)),
    }
}

fn pairs_from(t: &Test, from: Standing) {
    t.runb_only("the peers have no lock");
    let begin = Instant::now();
    let (pairs, mut cases, mut calls) = (Pairs::new(t), 0, 0);
    for (first, verb) in VERBS.iter().enumerate() {
        let moments = pairs.place.moments(&pairs.command(verb), from);
        calls += moments.len();
        for (second, other) in VERBS.iter().enumerate().filter(|(_, other)| matters(verb, other, from)) {
            let seed = (from as usize * VERBS.len() + first) * VERBS.len() + second;
            for moment in sample::of(&moments, MOMENTS, seed as u64) {
                cases += 1;
                let what = format!("{from:?}: {} before {} ({}), {}", verb.name, moment.name, moment.index, other.name);
                pairs.place.finish(&what, pairs.case([first, second], from, moment.index));
            }
        }
    }
    println!("{from:?}: {cases} cases, at {calls} calls, in {:?}", begin.elapsed());
    pairs.place.report(cases);
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
