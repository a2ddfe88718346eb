//! `state`: print what a container is.

use runb_core::container::Container;
use runb_core::{Error, Result};

use super::{Context, options};
use crate::args::Id;

/// Prints the state as JSON.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    let state = Container::load(&options::root(context.global, context.environment)?, &args.id)?.state();
    let text = serde_json::to_string_pretty(&state).map_err(|e| Error::internal(format!("the state: {e}")))?;
    context.print(&format!("{text}\n"))?;
    Ok(0)
}
