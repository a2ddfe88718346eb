//! `plan`: what `create` would do, call by call.

use anyhow::{Context as _, Result};
use std::fmt::Write;

use runb_core::container::{Planned, planned, probe, strict};
use runb_core::options::{Keyring, Options, RootEntry};
use runb_core::plan::Ending;
use serde_json::json;

use super::{Context, options};
use crate::args::Plan;
use crate::record::quote::one_line;

/// Prints the plan; nothing is done, and no right is needed.
pub fn run(args: &Plan, context: &Context<'_>) -> Result<u8> {
    let root = options::root(context.global, context.environment)?;
    let bundle = options::absolute(args.bundle.clone().unwrap_or_else(|| ".".into()))?;
    let mut options = Options::new(&args.id, root, bundle);
    options.root_entry = if args.no_pivot { RootEntry::NoPivot } else { RootEntry::Pivot };
    options.cgroup_manager = options::cgroup_manager(context.global, context.environment, context.settings);
    options.keyring = if args.no_new_keyring { Keyring::Inherit } else { Keyring::New };
    if args.strict {
        let found = strict(&options, &probe(&options)?)?;
        let text = if args.json {
            format!("{}\n", json!(found))
        } else {
            found.iter().map(|line| one_line(line) + "\n").collect()
        };
        context.print(&text)?;
        return Ok(u8::from(!found.is_empty()));
    }
    let planned = planned(&options, &probe(&options)?, Ending::Fifo)?;
    context.warn(&planned.plan.warnings);
    let text = if args.json { as_json(&planned)? } else { as_text(&planned) };
    context.print(&text)?;
    Ok(0)
}

fn as_text(planned: &Planned) -> String {
    let mut text = String::from("runtime:\n");
    for step in planned.plan.steps() {
        let _ = writeln!(text, "  {step}");
    }
    text.push_str("init:\n");
    let program = &planned.plan.program;
    let mut place = "";
    for index in 0..program.calls().len() {
        if program.place(index) != place {
            place = program.place(index);
            let _ = writeln!(text, "  # {}", if place.is_empty() { "the launch itself" } else { place });
        }
        let _ = writeln!(text, "  {index:3} {}", program.describe(index));
    }
    text
}

fn as_json(planned: &Planned) -> Result<String> {
    let program = &planned.plan.program;
    let calls: Vec<_> = (0..program.calls().len())
        .map(|index| json!({ "index": index, "origin": program.place(index), "call": program.describe(index) }))
        .collect();
    let whole = json!({ "runtime": planned.plan.steps(), "init": calls });
    let text = serde_json::to_string_pretty(&whole).context("internal error: the plan")?;
    Ok(format!("{text}\n"))
}
