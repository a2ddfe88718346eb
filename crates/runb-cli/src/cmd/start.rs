//! `start`: let the process of a created container run.

use anyhow::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Id;
use crate::environment::Environment;

/// Starts the container.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    let root = options::root(context.global, context.environment)?;
    let callers = context.environment.notify_socket.as_deref();
    let container = Container::start_in(&root, &args.id, Environment::of_hooks()?, callers)?;
    context.report.steps(container.steps());
    context.report.account().annotations(container.annotations());
    Ok(0)
}
