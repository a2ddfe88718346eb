//! `create`: make a container whose process waits for `start`.

use anyhow::Result;
use runb_core::container::Container;

use super::{Context, options};
use crate::args::Create;

/// Creates the container.
pub fn run(args: &Create, context: &Context<'_>) -> Result<u8> {
    let container = Container::create(&options::options(context, args)?)?;
    context.report.steps(container.steps());
    context.report.account().annotations(container.annotations());
    context.warn(container.warnings());
    Ok(0)
}
