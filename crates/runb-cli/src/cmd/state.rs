//! `state`: print what a container is.

use anyhow::{Context as _, Result};
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;

/// Prints the state as JSON.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    context.report.steps(container.steps());
    let text = serde_json::to_string_pretty(&container.state()).context("internal error: the state")?;
    context.print(&format!("{text}\n"))?;
    Ok(0)
}
