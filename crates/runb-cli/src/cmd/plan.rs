//! `plan`: what `create` would do: what the container will be, or call by call.

mod diff;
mod person;
mod places;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use runb_core::container::{Planned, planned, probe, strict};
use runb_core::options::{Keyring, Options, RootEntry};
use runb_core::plan::Ending;
use serde_json::json;

use super::{Context, options};
use crate::args::Plan;
use crate::record::quote::one_line;

/// Prints the plan; nothing is done, and no right is needed.
pub fn run(args: &Plan, context: &Context<'_>) -> Result<u8> {
    check(args)?;
    if args.diff {
        let [a, b] = args.words.as_slice() else {
            bail!("plan --diff takes two bundles");
        };
        let (a, b) = (plan(args, a.into(), context)?, plan(args, b.into(), context)?);
        context.print(&diff::text(&a, &b))?;
        return Ok(0);
    }
    let bundle = args.bundle.clone().unwrap_or_else(|| ".".into());
    if args.strict {
        let options = planning(args, bundle, context)?;
        let found = strict(&options, &probe(&options)?)?;
        let text = match args.json {
            true => format!("{}\n", json!(found)),
            false => found.iter().map(|line| one_line(line) + "\n").collect(),
        };
        context.print(&text)?;
        return Ok(u8::from(!found.is_empty()));
    }
    let planned = plan(args, bundle, context)?;
    context.warn(&planned.plan.warnings);
    let text = match (args.json, args.calls) {
        (true, _) => as_json(&planned)?,
        (_, true) => as_text(&planned),
        _ => person::text(id(args), &planned),
    };
    context.print(&text)?;
    Ok(0)
}

/// The container's id, if it has one already.
fn id(args: &Plan) -> &str {
    args.words.first().filter(|_| !args.diff).map_or("ID", String::as_str)
}

/// Flags that would be ignored are refused.
fn check(args: &Plan) -> Result<()> {
    let wrong = match args {
        Plan { json: true, calls: true, .. } => "--json has the calls already: --calls is not for it",
        Plan { diff: true, json: true, .. } | Plan { diff: true, calls: true, .. } => {
            "--diff is text: --json and --calls are not for it"
        }
        Plan { strict: true, diff: true, .. } | Plan { strict: true, calls: true, .. } => {
            "--strict lists fields: --diff and --calls are not for it"
        }
        Plan { diff: true, bundle: Some(_), .. } => "--diff takes two bundles, and no --bundle",
        Plan { diff: false, words, .. } if words.len() > 1 => "plan takes one id",
        _ => return Ok(()),
    };
    bail!("{wrong}")
}

/// The plan of a bundle.
fn plan(args: &Plan, bundle: PathBuf, context: &Context<'_>) -> Result<Planned> {
    let options = planning(args, bundle, context)?;
    Ok(planned(&options, &probe(&options)?, Ending::Fifo)?)
}

/// What a create of it would be asked for.
fn planning(args: &Plan, bundle: PathBuf, context: &Context<'_>) -> Result<Options> {
    let root = options::root(context.global, context.environment)?;
    let bundle = options::absolute(bundle)?;
    let mut options = Options::new(id(args), root, bundle);
    options.root_entry = if args.no_pivot { RootEntry::NoPivot } else { RootEntry::Pivot };
    options.cgroup_manager = options::cgroup_manager(context.global, context.environment, context.settings);
    options.keyring = if args.no_new_keyring { Keyring::Inherit } else { Keyring::New };
    Ok(options)
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
