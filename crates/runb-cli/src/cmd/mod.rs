//! The verbs, one file each: arguments in, calls of runb-core, output.

pub mod features;
pub mod log;
#[allow(dead_code, reason = "the container verbs call it")]
pub mod options;
pub mod spec;
pub mod undelivered;

use std::io::Write;

use runb_core::{Error, Result};

use crate::args::{Global, Verb};
use crate::config::Settings;
use crate::environment::Environment;

/// What a verb may ask for beside its own arguments.
pub struct Context<'a> {
    /// The global flags.
    pub global: &'a Global,
    /// The caller's environment.
    #[allow(dead_code, reason = "the container verbs read it")]
    pub environment: &'a Environment,
    /// Where the invocation log is.
    pub settings: &'a Settings,
}

/// Runs a verb; returns the exit status.
pub fn run(verb: &Verb, context: &Context<'_>) -> Result<u8> {
    undelivered::refuse(verb, context.global)?;
    match verb {
        Verb::Spec(args) => spec::run(args),
        Verb::Features(_) => features::run(),
        Verb::Log(args) => log::run(args, context),
        _ => Err(Error::internal("a verb that is neither delivered nor refused")),
    }
}

/// Writes to stdout; a reader that has gone is an error, not a panic.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::io("write to stdout", &error))
}
