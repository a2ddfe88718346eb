//! What is parsed and not done yet. To deliver one is to take its line away.

use crate::args::{Global, Rootless, Verb};
use anyhow::{Result, bail};

/// Refuses what this version of runb does not do.
pub fn refuse(verb: &Verb, global: &Global) -> Result<()> {
    let flags = [(global.rootless == Rootless::True, "--rootless true")];
    let verb = match verb {
        Verb::Checkpoint(_) => Some("checkpoint"),
        Verb::Restore(_) => Some("restore"),
        _ => None,
    };
    let refused = verb.or_else(|| flags.iter().find_map(|&(given, name)| given.then_some(name)));
    match refused {
        Some(name) => bail!("{name} is not supported by this version of runb"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Checkpoint, Features};

    #[test]
    fn a_flag_that_is_not_delivered_is_refused_with_every_verb() {
        let global = Global { rootless: Rootless::True, ..Global::default() };
        let error = refuse(&Verb::Features(Features::default()), &global).unwrap_err();
        assert_eq!(error.to_string(), "--rootless true is not supported by this version of runb");
    }

    #[test]
    fn a_verb_that_is_not_delivered_is_refused_by_name() {
        let error = refuse(&Verb::Checkpoint(Checkpoint::default()), &Global::default()).unwrap_err();
        assert_eq!(error.to_string(), "checkpoint is not supported by this version of runb");
    }

    #[test]
    fn rootless_auto_and_false_are_what_is_done_anyway() {
        for rootless in [Rootless::Auto, Rootless::False] {
            refuse(&Verb::Features(Features::default()), &Global { rootless, ..Global::default() }).unwrap();
        }
    }
}
