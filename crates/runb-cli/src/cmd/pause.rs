//! `pause` and `resume`.

use anyhow::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;

/// Stops every process of the container.
pub fn pause(args: &Id, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    context.report.steps(&container.pause()?);
    Ok(0)
}

/// Lets them run again.
pub fn resume(args: &Id, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    context.report.steps(&container.resume()?);
    Ok(0)
}
