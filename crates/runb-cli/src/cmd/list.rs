//! `list`: the containers of a root.

use anyhow::{Context as _, Result};
use std::fmt::Write;

use nix::libc::ENOENT;
use runb_core::container::{Container, List, State};
use runb_core::{Errno, Error};

use super::{Context, options};
use crate::args::{self, Listing};

/// Prints the list as a table, as JSON, or as ids alone.
pub fn run(args: &args::List, context: &Context<'_>) -> Result<u8> {
    let list = match Container::list(&options::root(context.global, context.environment)?) {
        // The default folder is made by the first container; one that is named is there, or its name is wrong.
        Err(error) if context.global.root.is_none() && error.errno().map(Errno::number) == Some(ENOENT) => {
            List::default()
        }
        list => list?,
    };
    let damaged: Vec<String> = list.damaged.iter().map(Error::to_string).collect();
    context.warn(&damaged);
    let text = match args.format {
        _ if args.quiet => list.containers.iter().map(|container| format!("{}\n", container.id())).collect(),
        Listing::Table => table(&list.states()),
        Listing::Json => {
            let json = serde_json::to_string(&list.states()).context("internal error: the list")?;
            format!("{json}\n")
        }
    };
    context.print(&text)?;
    Ok(0)
}

fn table(states: &[State]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |state: &State| {
        let bundle = state.bundle.display().to_string();
        [
            state.id.clone(),
            state.pid.to_string(),
            state.status.to_string(),
            bundle,
            state.created.clone(),
            state.owner.clone(),
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(states.iter().map(row)).collect();
    let mut widths = [9; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column] + 3;
            let _ = if column + 1 < row.len() { write!(text, "{cell:<width$}") } else { writeln!(text, "{cell}") };
        }
    }
    text
}
