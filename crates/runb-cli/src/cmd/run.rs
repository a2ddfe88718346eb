//! `run`: create, start, wait, delete.

use anyhow::Result;
use runb_core::container::{Container, Force, Foreground, Subreaper};
use runb_core::options::Caller;

use super::{Context, options};
use crate::args::Run;

/// Runs the container; in the foreground its exit status is the workload's.
pub fn run(args: &Run, context: &Context<'_>) -> Result<u8> {
    let mut options = options::options(context, &args.create)?;
    options.caller = if args.detach { Caller::Leaves } else { Caller::Waits };
    if args.detach {
        let container = Container::run(&options)?.detach()?;
        context.report.steps(container.steps());
        context.report.account().annotations(container.annotations());
        context.warn(container.warnings());
        return Ok(0);
    }
    let subreaper = if args.no_subreaper { Subreaper::No } else { Subreaper::Yes };
    let foreground = Foreground::begin(subreaper)?;
    let running = Container::run(&options)?;
    context.report.steps(running.container().steps());
    context.report.account().annotations(running.container().annotations());
    context.warn(running.container().warnings());
    let status = foreground.wait(running.workload());
    if !args.keep {
        super::delete::report(running.container().delete(Force::Yes), context)?;
    }
    Ok(status? as u8)
}
