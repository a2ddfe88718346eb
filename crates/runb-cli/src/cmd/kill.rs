//! `kill`: send a signal.

use anyhow::Result;
use runb_core::container::{Container, Scope};

use super::{Context, options};
use crate::args::Kill;

/// Signals the container.
pub fn run(args: &Kill, context: &Context<'_>) -> Result<u8> {
    let signal = args.signal.parse()?;
    let scope = if args.all { Scope::All } else { Scope::Init };
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    context.report.steps(&container.kill(signal, scope)?);
    Ok(0)
}
