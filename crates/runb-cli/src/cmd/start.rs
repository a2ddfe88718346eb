//! `start`: let the process of a created container run.

use anyhow::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;
use crate::environment::Environment;

/// Starts the container.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?
        .with_hook_environment(Environment::of_hooks()?);
    let steps = match &context.environment.notify_socket {
        Some(socket) => container.start_until_ready(socket)?,
        None => container.start()?,
    };
    context.report.steps(&steps);
    context.report.account().annotations(container.annotations());
    Ok(0)
}
