//! `ps`: the processes of a container, as JSON, or as ps(1) shows them.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::{Command, Stdio};

use runb_core::container::Container;

use super::{Context, options};
use crate::args::{Listing, Ps};

/// Prints the processes. The table is that of the host's ps(1), which reads the options: the lines of others are left out.
pub fn run(args: &Ps, context: &Context<'_>) -> Result<u8> {
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    let pids = container.processes()?;
    match args.format {
        Listing::Json => {
            let json = serde_json::to_string(&pids).context("internal error: the processes")?;
            context.print(&format!("{json}\n"))?;
        }
        Listing::Table => {
            let table = ps(&args.options)?;
            context.print_bytes(&lines_of(&table, &pids.into_iter().collect())?)?;
        }
    }
    Ok(0)
}

/// What ps(1) prints with `options`.
fn ps(options: &[OsString]) -> Result<Vec<u8>> {
    let mut command = Command::new("ps");
    match options {
        [] => command.arg("-ef"),
        options => command.args(options),
    };
    let output = command.stdin(Stdio::null()).output().context("execute ps")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = format!("ps: {}: {}", output.status, said.trim().lines().next().unwrap_or_default());
        bail!(text);
    }
    Ok(output.stdout)
}

/// The head of `table`, and the lines whose column PID has one of `pids`.
fn lines_of(table: &[u8], pids: &BTreeSet<i32>) -> Result<Vec<u8>> {
    let mut lines = table.split_inclusive(|byte| *byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let column = fields(head).position(|title| title == b"PID");
    let column = column.context("couldn't find PID field in ps output")?;
    let is_ours = |line: &&[u8]| {
        let pid = fields(line).nth(column).and_then(|field| std::str::from_utf8(field).ok()?.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok([head].into_iter().chain(lines.filter(is_ours)).flatten().copied().collect())
}

fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_others_are_left_out_whatever_the_columns() {
        let pids = BTreeSet::from([7, 41]);
        let table = b"UID  PID CMD\nroot   7 init\nroot  17 other 7\nme    41 x\xff\n";
        assert_eq!(lines_of(table, &pids).unwrap(), b"UID  PID CMD\nroot   7 init\nme    41 x\xff\n");
        let table = b"  PID TTY\n    7 ?\n   70 ?\n";
        assert_eq!(lines_of(table, &pids).unwrap(), b"  PID TTY\n    7 ?\n");
    }

    #[test]
    fn a_table_without_process_ids_is_refused() {
        let error = lines_of(b"CMD\nsh\n", &BTreeSet::new()).unwrap_err();
        assert_eq!(error.to_string(), "couldn't find PID field in ps output");
    }
}
