//! What is parsed and not done yet. To deliver one is to take its line away.

use anyhow::{Result, bail};

use crate::args::Verb;

/// Refuses what this version of runb does not do.
pub fn refuse(verb: &Verb) -> Result<()> {
    let refused = match verb {
        Verb::Checkpoint(_) => "checkpoint",
        Verb::Restore(_) => "restore",
        _ => return Ok(()),
    };
    bail!("{refused} is not supported by this version of runb")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Checkpoint;

    #[test]
    fn a_verb_that_is_not_delivered_is_refused_by_name() {
        let error = refuse(&Verb::Checkpoint(Checkpoint::default())).unwrap_err();
        assert_eq!(error.to_string(), "checkpoint is not supported by this version of runb");
    }
}
