//! blkio, and io of version 2.

use super::files::{Files, number};
use super::{Io, IoEntry};
use crate::error::Result;

/// The files of one scheduler's figures: those of BFQ if it is at work, else those of the throttling layer, which every request
/// passes; what counts all below first.
const SOURCES: [&str; 3] = ["blkio.bfq.", "blkio.throttle.", "blkio."];

pub(super) fn v1(files: Option<Files<'_>>, unified: Option<Files<'_>>) -> Result<Io> {
    let mut io = Io { pressure: unified.map_or(Ok(None), |files| files.pressure("io.pressure"))?, ..Io::default() };
    let Some(files) = files else { return Ok(io) };
    for (source, suffix) in SOURCES.iter().flat_map(|source| [(source, "_recursive"), (source, "")]) {
        let figures = |name: &str| entries(files, &format!("{source}{name}{suffix}"));
        io.bytes = figures("io_service_bytes")?;
        if io.bytes.is_empty() {
            continue;
        }
        io.operations = figures("io_serviced")?;
        io.queued = figures("io_queued")?;
        io.service_time = figures("io_service_time")?;
        io.wait_time = figures("io_wait_time")?;
        io.merged = figures("io_merged")?;
        io.time = figures("time")?;
        io.sectors = figures("sectors")?;
        break;
    }
    Ok(io)
}

/// Lines of `MAJOR:MINOR [OPERATION] NUMBER`, and `Total NUMBER` at the end.
fn entries(files: Files<'_>, file: &str) -> Result<Vec<IoEntry>> {
    let text = files.text(file)?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with("Total"));
    lines.map(|line| entry(line).ok_or_else(|| files.strange(file, line))).collect()
}

fn entry(line: &str) -> Option<IoEntry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (major, minor) = device(words.first()?)?;
    let (op, value) = match words[1..] {
        [value] => ("", value),
        [op, value] => (op, value),
        _ => return None,
    };
    Some(IoEntry { major, minor, op: op.to_owned(), value: number(value)? })
}

fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `MAJOR:MINOR rbytes=NUMBER …`; a device that was never used may have its numbers alone.
pub(super) fn v2(files: Files<'_>) -> Result<Io> {
    const FILE: &str = "io.stat";
    let mut io = Io { pressure: files.pressure("io.pressure")?, ..Io::default() };
    for line in files.text(FILE)?.unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        let strange = || files.strange(FILE, line);
        let (major, minor) = words.next().and_then(device).ok_or_else(strange)?;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut io.bytes, "Read"),
                "wbytes" => (&mut io.bytes, "Write"),
                "dbytes" => (&mut io.bytes, "Discard"),
                "rios" => (&mut io.operations, "Read"),
                "wios" => (&mut io.operations, "Write"),
                "dios" => (&mut io.operations, "Discard"),
                _ => continue,
            };
            let value = number(value).ok_or_else(strange)?;
            list.push(IoEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_blkio_has_a_device_mostly_an_operation_and_a_number() {
        let found = entry("8:16 Read 4096").expect("a line");
        assert_eq!((found.major, found.minor, found.op.as_str(), found.value), (8, 16, "Read", 4096));
        let found = entry("8:16 77").expect("a line");
        assert_eq!((found.op.as_str(), found.value), ("", 77));
        for line in ["8:16", "8 Read 1", "8:x Read 1", "8:16 Read x", "8:16 Read 1 2"] {
            assert_eq!(entry(line), None, "{line}");
        }
    }
}
