//! `start`: let the process of a created container run.

use runb_core::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;

/// Starts the container.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    Container::load(&options::root(context.global, context.environment)?, &args.id)?.start()?;
    Ok(0)
}
