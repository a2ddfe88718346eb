//! The verbs, one file each: arguments in, calls of runb-core, output.

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub mod list;
pub mod options;
pub mod pause;
pub mod plan;
pub mod ps;
pub mod restore;
pub mod run;
pub mod seccomp;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use runb_core::Stdout;

use crate::args::{Global, Verb};
use crate::config::Settings;
use crate::environment::Environment;
use crate::output::{self, Wait};
use crate::report::Report;

/// What a verb may ask for beside its own arguments.
pub struct Context<'a> {
    /// The global flags.
    pub global: &'a Global,
    /// The caller's environment.
    pub environment: &'a Environment,
    /// Where the invocation log is.
    pub settings: &'a Settings,
    /// Where warnings go.
    pub report: &'a Report,
    /// Whether there is a stdout.
    pub stdout: Stdout,
}

impl Context<'_> {
    /// Says what is odd and no error.
    pub fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.report.warning(warning);
        }
    }

    /// Writes to stdout. That nobody gets it is an error, and no panic: a reader that has gone, a full disk, a stdout that the
    /// caller has closed.
    pub fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// As [`Context::print`], what need not be Unicode.
    pub fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        let written = match self.stdout {
            Stdout::Open => output::write(std::io::stdout(), bytes, Wait::ForRoom),
            Stdout::Closed => Err(Errno::EBADF),
        };
        written.context("write to stdout")
    }
}

/// Runs a verb; returns the exit status.
pub fn run(verb: &Verb, context: &Context<'_>) -> Result<u8> {
    match verb {
        Verb::Create(args) => create::run(args, context),
        Verb::Start(args) => start::run(args, context),
        Verb::State(args) => state::run(args, context),
        Verb::Kill(args) => kill::run(args, context),
        Verb::Delete(args) => delete::run(args, context),
        Verb::Run(args) => run::run(args, context),
        Verb::List(args) => list::run(args, context),
        Verb::Pause(args) => pause::pause(args, context),
        Verb::Resume(args) => pause::resume(args, context),
        Verb::Ps(args) => ps::run(args, context),
        Verb::Events(args) => events::run(args, context),
        Verb::Update(args) => update::run(args, context),
        Verb::Checkpoint(args) => checkpoint::run(args, context),
        Verb::Restore(args) => restore::run(args, context),
        Verb::Plan(args) => plan::run(args, context),
        Verb::Exec(args) => exec::run(args, context),
        Verb::Spec(args) => spec::run(args),
        Verb::Features(args) => features::run(args, context),
        Verb::Seccomp(args) => seccomp::run(args, context),
        Verb::Log(args) => crate::log::run(args, context),
        Verb::Help(_) => bail!("internal error: help is printed where it is parsed"),
    }
}
