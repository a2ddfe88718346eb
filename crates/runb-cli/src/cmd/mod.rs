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
use runb_core::options::Meanwhile;

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
    /// What is left to be done for the invocation log.
    pub meanwhile: Option<Meanwhile>,
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

/// Calls `verb`, which stays a function of its own: in one with all verbs, each would have the others' code around its own.
#[inline(never)]
fn apart<A>(verb: impl Fn(&A, &Context<'_>) -> Result<u8>, args: &A, context: &Context<'_>) -> Result<u8> {
    verb(args, context)
}

/// Runs a verb; returns the exit status.
pub fn run(verb: &Verb, context: &Context<'_>) -> Result<u8> {
    match verb {
        Verb::Create(args) => apart(create::run, args, context),
        Verb::Start(args) => apart(start::run, args, context),
        Verb::State(args) => apart(state::run, args, context),
        Verb::Kill(args) => apart(kill::run, args, context),
        Verb::Delete(args) => apart(delete::run, args, context),
        Verb::Run(args) => apart(run::run, args, context),
        Verb::List(args) => apart(list::run, args, context),
        Verb::Pause(args) => apart(pause::pause, args, context),
        Verb::Resume(args) => apart(pause::resume, args, context),
        Verb::Ps(args) => apart(ps::run, args, context),
        Verb::Events(args) => apart(events::run, args, context),
        Verb::Update(args) => apart(update::run, args, context),
        Verb::Checkpoint(args) => apart(checkpoint::run, args, context),
        Verb::Restore(args) => apart(restore::run, args, context),
        Verb::Plan(args) => apart(plan::run, args, context),
        Verb::Exec(args) => apart(exec::run, args, context),
        Verb::Spec(args) => spec::run(args),
        Verb::Features(args) => apart(features::run, args, context),
        Verb::Seccomp(args) => apart(seccomp::run, args, context),
        Verb::Log(args) => apart(crate::log::run, args, context),
        Verb::Help(_) => bail!("internal error: help is printed where it is parsed"),
    }
}
