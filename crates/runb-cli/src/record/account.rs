//! What a call did, for its record: the library's lists of steps, as they come, and the error that ended it. It is kept as it
//! came; text is made of it when the record is written, and only if there is one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use runb_core::Error;
use runb_core::trace::{Step, What};

use super::entry::{Failure, HookRun, Names, Phase, seconds};

/// The most phases that are kept; those between are summed up.
const PHASES: usize = 48;
/// The most of a hook's output that is kept, in bytes.
pub const OUTPUT: usize = 1024;
/// The most hooks that are kept.
const HOOKS: usize = 16;

/// What a call did.
#[derive(Clone, Debug)]
pub struct Account {
    began: Instant,
    inner: RefCell<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// Lists of steps, each with when its first step began.
    lists: Vec<(Duration, Vec<Step>)>,
    failure: Option<Failure>,
    annotations: HashMap<String, String>,
}

impl Default for Account {
    fn default() -> Self {
        Account::since(Instant::now())
    }
}

impl Account {
    /// Of a call that began then.
    pub fn since(began: Instant) -> Self {
        Account { began, inner: RefCell::default() }
    }

    /// Takes a list of steps, the last of which was done just now.
    pub fn steps(&self, steps: &[Step]) {
        let Some(last) = steps.last() else { return };
        let began = self.began.elapsed().saturating_sub(last.at);
        self.inner.borrow_mut().lists.push((began, steps.to_vec()));
    }

    /// Takes what ended the call.
    pub fn error(&self, error: &Error) {
        self.inner.borrow_mut().failure = Some(Failure {
            place: error.origin().map(str::to_owned),
            call: error.call().map(|call| call.text.clone()),
            index: error.call().and_then(|call| call.index),
            errno: error.errno().map(|errno| format!("{errno:?}")),
        });
    }

    /// Takes the annotations of the container.
    pub fn annotations(&self, annotations: &HashMap<String, String>) {
        self.inner.borrow_mut().annotations.clone_from(annotations);
    }

    /// The error's place, call and errno.
    pub fn failure(&self) -> Option<Failure> {
        self.inner.borrow().failure.clone().filter(|failure| *failure != Failure::default())
    }

    /// The names that an engine has given to the container.
    pub fn names(&self) -> Names {
        let inner = self.inner.borrow();
        if !inner.annotations.is_empty() || inner.failure.is_none() {
            return Names::of(&inner.annotations);
        }
        drop(inner);
        // A failing call has no container that could be asked.
        self.config(|_, config| Names::of(&annotations_in(config))).unwrap_or_default()
    }

    /// All annotations that are known.
    pub fn with_annotations<T>(&self, look: impl FnOnce(&HashMap<String, String>) -> T) -> T {
        let inner = self.inner.borrow();
        if !inner.annotations.is_empty() {
            return look(&inner.annotations);
        }
        drop(inner);
        look(&self.config(|_, config| annotations_in(config)).unwrap_or_default())
    }

    /// The bundle and the bytes of its configuration, if they were read.
    pub fn config<T>(&self, look: impl FnOnce(&Path, &[u8]) -> T) -> Option<T> {
        let inner = self.inner.borrow();
        let mut steps = inner.lists.iter().flat_map(|(_, steps)| steps);
        let found = steps.find_map(|step| match &step.what {
            What::Read { bundle, config } => Some((bundle, config)),
            _ => None,
        });
        found.map(|(bundle, config)| look(bundle, config))
    }

    /// The arguments of the process that was added.
    pub fn process(&self) -> Option<Vec<String>> {
        let inner = self.inner.borrow();
        let mut steps = inner.lists.iter().flat_map(|(_, steps)| steps);
        steps.find_map(|step| match &step.what {
            What::Process { args } => Some(args.clone()),
            _ => None,
        })
    }

    /// Where the time went, without gaps. What lies before the first list is the command's own beginning, what lies between two
    /// is the life of a workload that is waited for.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = Vec::with_capacity(16);
        let mut add = |name: &str, at: Duration, took: Duration| match phases.last_mut() {
            Some(last) if last.name == name => last.seconds = seconds(at + took) - last.at,
            _ => phases.push(Phase { name: name.to_owned(), at: seconds(at), seconds: seconds(took) }),
        };
        let mut end = Duration::ZERO;
        for (i, (began, steps)) in self.inner.borrow().lists.iter().enumerate() {
            add(if i == 0 { "beginning" } else { "workload" }, end, began.saturating_sub(end));
            for step in steps {
                add(&step.what.phase(), *began + step.at.saturating_sub(step.took), step.took);
                end = *began + step.at;
            }
        }
        if phases.len() > PHASES {
            let dropped: Vec<Phase> = phases.drain(PHASES / 2..phases.len() - PHASES / 2).collect();
            let (first, last) = (&dropped[0], &dropped[dropped.len() - 1]);
            let whole = last.at + last.seconds - first.at;
            phases.insert(PHASES / 2, Phase { name: format!("{}-more", dropped.len()), at: first.at, seconds: whole });
        }
        phases
    }

    /// The hooks that ran.
    pub fn hooks(&self) -> Vec<HookRun> {
        let inner = self.inner.borrow();
        let steps = inner.lists.iter().flat_map(|(_, steps)| steps);
        let hooks = steps.filter_map(|step| match &step.what {
            What::Hook { kind, index, path, status, output } => Some(HookRun {
                kind: (*kind).to_owned(),
                index: *index,
                path: path.display().to_string(),
                seconds: seconds(step.took),
                status: status.clone(),
                output: tail(output).to_owned(),
            }),
            _ => None,
        });
        hooks.take(HOOKS).collect()
    }

    /// What was done, in sentences, each with when it was done.
    pub fn sentences(&self) -> Vec<(Duration, String)> {
        let inner = self.inner.borrow();
        let of = |(began, steps): &(Duration, Vec<Step>)| {
            let sentence = |step: &Step| (*began + step.at, format!("{}, after {:.1?}", step.what, step.took));
            steps.iter().map(sentence).collect::<Vec<_>>()
        };
        inner.lists.iter().flat_map(of).collect()
    }
}

/// The end of a text that is kept.
fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(OUTPUT);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The annotations in the text of a configuration, however wrong all else in it is.
pub fn annotations_in(config: &[u8]) -> HashMap<String, String> {
    let value: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let annotations = value.get("annotations").and_then(|annotations| annotations.as_object());
    let text = |(key, value): (&String, &serde_json::Value)| Some((key.clone(), value.as_str()?.to_owned()));
    annotations.into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept_at_a_whole_character() {
        assert_eq!(tail(&"ä".repeat(1000)).len(), OUTPUT);
        assert_eq!(tail(&format!("x{}", "ä".repeat(1000))).len(), OUTPUT);
        assert_eq!(tail("short"), "short");
    }

    #[test]
    fn annotations_are_found_in_a_configuration_that_is_wrong_elsewhere() {
        let found = annotations_in(br#"{"process": 5, "annotations": {"a": "b", "c": 1}}"#);
        assert_eq!(found, HashMap::from([("a".to_owned(), "b".to_owned())]));
        assert!(annotations_in(b"{").is_empty());
    }
}
