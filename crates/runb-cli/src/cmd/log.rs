//! `log`: reads the invocation log, whatever form its lines have.

use anyhow::{Context as _, Result, bail};
use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use runb_core::input;

use crate::args::Log;
use crate::cmd::Context;
use crate::record::entry::{Entry, Event, LINE};

/// Prints the lines that are asked for.
pub fn run(args: &Log, context: &Context<'_>) -> Result<u8> {
    let Some(path) = &context.settings.path else {
        bail!("the invocation log is off");
    };
    let mut entries: VecDeque<Entry> = read(path)?.into();
    if let Some(id) = &args.id {
        let of_container = invocations_of(id, &entries);
        entries.retain(|entry| of_container.contains(&entry.invocation));
    }
    if let Some(last) = args.last {
        entries.drain(..entries.len().saturating_sub(last));
    }
    for entry in &entries {
        context.print(&entry.line(args.format))?;
    }
    Ok(0)
}

/// The lines that runb wrote; others (a line that a full disk cut short) are passed over.
fn read(path: &Path) -> Result<Vec<Entry>> {
    let failed = || format!("read {}", path.display());
    let mut file = BufReader::new(input::open(path).with_context(failed)?);
    let mut entries = Vec::new();
    let mut line = Vec::new();
    // What is longer comes in pieces, none of which is a line of runb's.
    while file.by_ref().take(LINE as u64).read_until(b'\n', &mut line).with_context(failed)? > 0 {
        entries.extend(Entry::parse(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(entries)
}

/// The invocations that concern a container: by their exit; one that has none yet, by its arguments.
fn invocations_of(id: &str, entries: &VecDeque<Entry>) -> HashSet<String> {
    let mut named = HashSet::new();
    for entry in entries {
        let matches = match &entry.event {
            Event::Call { argv, .. } => argv.iter().any(|word| word == id),
            Event::Exit(exit) => exit.container.as_deref() == Some(id),
            Event::Note { .. } | Event::Debug { .. } => continue,
        };
        match matches {
            true => named.insert(entry.invocation.clone()),
            false if matches!(entry.event, Event::Exit(_)) => named.remove(&entry.invocation),
            false => false,
        };
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_container_are_picked_by_their_exit_whatever_the_form_of_the_lines() {
        let lines = [
            "[2026-11-22T18:00:00.123456+00:00] call runb: create --bundle web1 db1 # 1-1",
            "{\"time\":\"t\",\"invocation\":\"2-2\",\"event\":\"call\",\"argv\":[\"start\",\"web1\"]}",
            "[2026-11-22T18:00:00.123457+00:00] exit runb: verb=create container=db1 status=0 seconds=0.1 caller=1 \
             comm=init uid=0 # 1-1",
            "{\"time\":\"t\",\"invocation\":\"2-2\",\"event\":\"exit\",\"container\":\"web1\",\"status\":0,\"seconds\":0.1,\
             \"caller\":{\"pid\":1,\"comm\":\"init\",\"uid\":0}}",
        ];
        let entries = lines.map(|line| Entry::parse(line).unwrap()).into();
        assert_eq!(invocations_of("web1", &entries), HashSet::from(["2-2".to_owned()]));
        assert_eq!(invocations_of("db1", &entries), HashSet::from(["1-1".to_owned()]));
    }

    #[test]
    fn a_call_that_has_not_ended_is_picked_by_its_arguments() {
        let line = "[2026-11-22T18:00:00.123456+00:00] call runb: start web1 # 17-2b\n";
        let entries = VecDeque::from([Entry::parse(line).unwrap()]);
        assert_eq!(invocations_of("web1", &entries), HashSet::from(["17-2b".to_owned()]));
        assert!(invocations_of("db1", &entries).is_empty());
    }

    #[test]
    fn a_broken_line_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runb.log");
        let line = "[2026-11-22T18:00:00.123456+00:00] call runb: start web1 # 17-2b\n";
        std::fs::write(&path, [line.as_bytes(), b"[2026-11-2\xff\n{\"time\":\n", line.as_bytes()].concat()).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
    }
}
