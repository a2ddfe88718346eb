//! `delete`: remove a container.

use anyhow::Result;
use runb_core::Error;
use runb_core::container::{Container, Force, Removal};

use super::{Context, options};
use crate::args::Delete;
use crate::environment::Environment;

/// Removes the container.
pub fn run(args: &Delete, context: &Context<'_>) -> Result<u8> {
    let root = options::root(context.global, context.environment)?;
    let force = if args.force { Force::Yes } else { Force::No };
    report(Container::remove(&root, &args.id, force, &Environment::of_hooks()?), context)?;
    Ok(0)
}

/// What is odd about a removal is warned about.
pub fn report(result: runb_core::Result<Removal>, context: &Context<'_>) -> Result<()> {
    let Removal { warnings, steps, .. } = result?;
    context.report.steps(&steps);
    let warnings: Vec<String> = warnings.iter().map(Error::to_string).collect();
    context.warn(&warnings);
    Ok(())
}
