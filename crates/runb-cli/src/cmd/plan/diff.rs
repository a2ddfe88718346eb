//! Two plans side by side: in what the configurations differ, and what that changes of what is done.

use std::collections::BTreeSet;
use std::fmt::Write;

use runb_core::container::Planned;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::places::flatten;
use crate::record::quote::one_line;

/// The differences; empty, if there are none.
pub fn text(a: &Planned, b: &Planned) -> String {
    let mut text = configurations(a, b);
    let calls = calls(a, b);
    if !calls.is_empty() {
        text += if text.is_empty() { "What is done\n" } else { "\nWhat is done\n" };
        text += &calls;
    }
    text
}

fn configurations(a: &Planned, b: &Planned) -> String {
    let of = |planned: &Planned| flatten(&serde_json::from_slice::<Value>(&planned.bundle.text).unwrap_or_default());
    let (old, new) = (of(a), of(b));
    let mut text = String::new();
    let places: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for place in places {
        let value = |value: Option<&String>| value.map(|value| hide(place, value));
        let (old, new) = (old.get(place), new.get(place));
        if old == new {
            continue;
        }
        let _ = match (value(old), value(new)) {
            (Some(old), Some(new)) => writeln!(text, "~ {place}: {old} → {new}"),
            (Some(old), None) => writeln!(text, "- {place}: {old}"),
            (None, new) => writeln!(text, "+ {place}: {}", new.unwrap_or_default()),
        };
    }
    if text.is_empty() { text } else { format!("config.json\n{text}") }
}

/// Values of variables are secrets.
fn hide(place: &str, value: &str) -> String {
    let variable = place.starts_with("process.env[") || place.starts_with("hooks.") && place.contains(".env[");
    match value.split_once('=').filter(|_| variable) {
        Some((name, _)) => one_line(&format!("{name}=…\"")),
        None => one_line(value),
    }
}

/// The steps that are in one plan alone, each after the place that it comes from.
fn calls(a: &Planned, b: &Planned) -> String {
    let (old, new) = (lines(a), lines(b));
    let diff = TextDiff::from_lines(&old, &new);
    let mut text = String::new();
    for change in diff.iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => continue,
        };
        let _ = writeln!(text, "{sign} {}", change.value().trim_end());
    }
    text
}

/// What is done, a line each. The bundle has no name in them, and descriptors no numbers: else all after one more call would differ.
fn lines(planned: &Planned) -> String {
    let plan = &planned.plan;
    let bundle = planned.bundle.path.display().to_string();
    let calls = (0..plan.program.calls().len()).map(|index| {
        let place = plan.program.place(index);
        format!("{}: {}", if place.is_empty() { "the launch itself" } else { place }, plan.program.describe(index))
    });
    let mut text = String::new();
    for step in plan.steps().into_iter().chain(calls) {
        text += &without_numbers(&one_line(&step.replace(&bundle, "BUNDLE")));
        text.push('\n');
    }
    text
}

fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut slot = false;
    for char in text.chars() {
        slot = char == '$' || slot && char.is_ascii_digit();
        if !slot || char == '$' {
            plain.push(char);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_no_numbers_and_values_of_variables_are_hidden() {
        assert_eq!(without_numbers("openat($12, \"a1\") = $3"), "openat($, \"a1\") = $");
        assert_eq!(hide("process.env[0]", "\"TOKEN=secret\""), "\"TOKEN=…\"");
        assert_eq!(hide("process.args[0]", "\"A=B\""), "\"A=B\"");
    }
}
