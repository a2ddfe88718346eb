//! `start`: let the process of a created container run.

use anyhow::Result;
use runb_core::container::Container;
use runb_core::options::StartOptions;

use super::{Context, options};
use crate::args::Id;
use crate::environment::Environment;

/// Starts the container.
pub fn run(args: &Id, context: &Context<'_>) -> Result<u8> {
    let root = options::root(context.global, context.environment)?;
    let mut options = StartOptions::default();
    options.hook_environment = Environment::of_hooks()?;
    options.notify_socket = context.environment.notify_socket.clone();
    options.meanwhile = context.meanwhile.clone();
    let container = Container::start_in(&root, &args.id, &options)?;
    context.report.steps(container.steps());
    context.report.account().annotations(container.annotations());
    Ok(0)
}
