//! `events`: statistics and out-of-memory events of a container, until it stops.

mod duration;
mod json;
mod openmetrics;

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

use runb_core::container::{Container, Happening, Status};

use super::{Context, options};
use crate::args::{Events, StatsFormat};

/// Prints one object a line; statistics whenever the interval has passed, other events when they happen.
pub fn run(args: &Events, context: &Context<'_>) -> Result<u8> {
    let interval = duration::parse(&args.interval)?;
    if interval.is_zero() {
        bail!("duration interval must be greater than 0");
    }
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    if container.status() == Status::Stopped {
        bail!("container with id {} is not running", container.id());
    }
    match args.format {
        StatsFormat::Prometheus => context.print(&openmetrics::text(container.id(), &container.stats()?))?,
        StatsFormat::Json if args.stats => print_stats(&container, context)?,
        StatsFormat::Json => stream(&container, interval, context)?,
    }
    Ok(0)
}

fn print_stats(container: &Container, context: &Context<'_>) -> Result<()> {
    context.print(&json::stats(container.id(), &container.stats()?)?)
}

fn stream(container: &Container, interval: Duration, context: &Context<'_>) -> Result<()> {
    let mut watch = container.watch()?;
    if !watch.hears_of_memory() {
        context.warn(&["the container has no memory controller: there will be no out-of-memory events".to_owned()]);
    }
    let mut tick = Instant::now() + interval;
    loop {
        match watch.next(tick)? {
            Some(Happening::OutOfMemory) => context.print(&json::out_of_memory(container.id())?)?,
            Some(Happening::Ended) => return Ok(()),
            Some(_) => {}
            None => {
                // A figure that cannot be read now may be there the next time; the end of the container comes as an event.
                match container.stats() {
                    Ok(stats) => context.print(&json::stats(container.id(), &stats)?)?,
                    Err(error) => context.warn(&[error.to_string()]),
                }
                // What took longer than the interval is not made up for.
                tick = (tick + interval).max(Instant::now());
            }
        }
    }
}
