//! The environment that a process is given. Source: config.md "Process", environ(7); what engines count on is runc's.

use std::collections::HashSet;

use oci_spec::runtime::{Hook, Process};

use crate::error::{Error, Result};
use crate::survey::{HOME, Survey, home_is_given};

/// The environment of `process`, with `more` after its own variables, and HOME by what the survey found where none is given.
pub(in crate::plan) fn of(process: &Process, more: Vec<String>, survey: &Survey) -> Vec<String> {
    let mut env = last_of_each(process.env().iter().flatten().cloned().chain(more));
    if !home_is_given(process) {
        env.retain(|entry| !entry.starts_with(HOME));
        env.push(format!("{HOME}{}", survey.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/")));
    }
    env
}

/// The environment that a hook names, if it names one.
pub(in crate::plan) fn of_hook(hook: &Hook) -> Option<Vec<String>> {
    hook.env().as_ref().map(|env| last_of_each(env.iter().cloned()))
}

/// Of a variable that is given twice the last counts, and is there once: programs do not agree on which they take.
fn last_of_each(list: impl DoubleEndedIterator<Item = String>) -> Vec<String> {
    let mut names = HashSet::new();
    let mut env: Vec<String> = list
        .rev()
        .filter(|entry| entry.split_once('=').is_none_or(|(name, _)| names.insert(name.to_owned())))
        .collect();
    env.reverse();
    env
}

/// Refuses an entry of process.env that is no variable. Its text may be a secret, and is not told.
pub(in crate::plan) fn check(process: &Process) -> Result<()> {
    for (i, entry) in process.env().iter().flatten().enumerate() {
        let wrong = |text| Err(Error::spec(format!("process.env[{i}]"), text));
        match entry.find('=') {
            None => return wrong("is not NAME=VALUE: there is no \"=\""),
            Some(0) => return wrong("is not NAME=VALUE: the name is empty"),
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(env: &[&str]) -> Process {
        let whole = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["true"], "env": env});
        serde_json::from_value(whole).expect("a process")
    }

    #[test]
    fn a_variable_stands_where_it_was_given_last_and_home_is_filled_in_where_it_is_empty() {
        let survey = Survey { home: Some("/home/me".to_owned()), ..Survey::default() };
        let env = |given: &[&str], more: &[&str]| {
            of(&process(given), more.iter().map(|entry| (*entry).to_owned()).collect(), &survey)
        };
        assert_eq!(env(&["A=1", "B=2", "A=", "HOME=/x"], &[]), ["B=2", "A=", "HOME=/x"]);
        assert_eq!(env(&["HOME=/x", "A=1", "HOME="], &["A=2"]), ["A=2", "HOME=/home/me"]);
        assert_eq!(env(&["HOME=", "HOME=/x"], &[]), ["HOME=/x"]);
        assert_eq!(of(&process(&[]), Vec::new(), &Survey::default()), ["HOME=/"]);
    }

    #[test]
    fn what_is_no_variable_is_refused_and_its_text_is_not_told() {
        let refused = |entry: &str| check(&process(&["A=b", entry])).expect_err("it is refused").to_string();
        assert_eq!(refused("secret"), "process.env[1]: is not NAME=VALUE: there is no \"=\"");
        assert_eq!(refused("=secret"), "process.env[1]: is not NAME=VALUE: the name is empty");
        assert!(check(&process(&["A=b", "C=", "D==e"])).is_ok());
    }
}
