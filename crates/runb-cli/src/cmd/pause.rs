//! `pause` and `resume`.

use anyhow::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;

/// Stops every process of the container.
pub fn pause(args: &Id, context: &Context<'_>) -> Result<u8> {
    Container::load(&options::root(context.global, context.environment)?, &args.id)?.pause()?;
    Ok(0)
}

/// Lets them run again.
pub fn resume(args: &Id, context: &Context<'_>) -> Result<u8> {
    Container::load(&options::root(context.global, context.environment)?, &args.id)?.resume()?;
    Ok(0)
}
