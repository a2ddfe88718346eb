//! Reading the kernel's figures.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;

use super::{Pressure, Stall};
use crate::cgroup::read_path;
use crate::error::{Error, Kind, Result};

/// The files of a cgroup. One that is not there, or that the kernel does not fill (EOPNOTSUPP), has no figure.
#[derive(Clone, Copy)]
pub(super) struct Files<'a>(&'a Path);

impl<'a> Files<'a> {
    pub(super) fn of(dir: &'a Path) -> Self {
        Files(dir)
    }

    pub(super) fn text(self, file: &str) -> Result<Option<String>> {
        match read_path(self.0, file) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::host(format!("read {}/{file}", self.0.display()), errno)),
        }
    }

    pub(super) fn strange(self, file: &str, what: &str) -> Error {
        Error::new(Kind::Host, format!("{}/{file} has {what:?}, which is no figure", self.0.display()))
    }

    fn parse(self, file: &str, word: &str) -> Result<u64> {
        number(word).ok_or_else(|| self.strange(file, word))
    }

    /// The number that a file has.
    pub(super) fn number(self, file: &str) -> Result<Option<u64>> {
        self.text(file)?.map(|text| self.parse(file, text.trim())).transpose()
    }

    pub(super) fn signed(self, file: &str) -> Result<Option<i64>> {
        let parse = |text: String| text.trim().parse().map_err(|_| self.strange(file, text.trim()));
        self.text(file)?.map(parse).transpose()
    }

    /// The limit that a file has: `max` is none, and so is the highest number that version 1 has for memory.
    pub(super) fn limit(self, file: &str) -> Result<Option<u64>> {
        let text = self.text(file)?;
        let word = text.as_deref().map(str::trim).filter(|word| *word != "max");
        Ok(word.map(|word| self.parse(file, word)).transpose()?.filter(|limit| *limit < UNLIMITED))
    }

    /// `KEY NUMBER` lines.
    pub(super) fn flat(self, file: &str) -> Result<Option<BTreeMap<String, u64>>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        let entry = |line: &str| {
            let (key, value) = line.split_once(' ').ok_or_else(|| self.strange(file, line))?;
            Ok((key.to_owned(), self.parse(file, value.trim())?))
        };
        text.lines().map(entry).collect::<Result<_>>().map(Some)
    }

    /// Pressure stall information.
    pub(super) fn pressure(self, file: &str) -> Result<Option<Pressure>> {
        let Some(text) = self.text(file)? else { return Ok(None) };
        let mut pressure = Pressure::default();
        for line in text.lines() {
            let stall = || stall(line).ok_or_else(|| self.strange(file, line));
            match line.split(' ').next() {
                Some("some") => pressure.some = stall()?,
                Some("full") => pressure.full = Some(stall()?),
                _ => {}
            }
        }
        Ok(Some(pressure))
    }
}

/// From this number on a limit of version 1 is none: the highest is the last multiple of the page size (PAGE_COUNTER_MAX), and
/// no page is larger than 64 KiB.
const UNLIMITED: u64 = i64::MAX as u64 - 0xffff;

/// A number; those below zero, which memory.stat has now and then, are zero.
pub(super) fn number(word: &str) -> Option<u64> {
    word.parse().ok().or_else(|| word.parse::<i64>().ok().map(|_| 0))
}

fn stall(line: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for (key, value) in line.split(' ').skip(1).filter_map(|word| word.split_once('=')) {
        match key {
            "avg10" => stall.avg10 = value.parse().ok()?,
            "avg60" => stall.avg60 = value.parse().ok()?,
            "avg300" => stall.avg300 = value.parse().ok()?,
            "total" => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_below_zero_is_zero_and_a_word_is_none() {
        assert_eq!(
            ["7", "-3", "18446744073709551615", "x", ""].map(number),
            [Some(7), Some(0), Some(u64::MAX), None, None]
        );
    }

    #[test]
    fn a_line_of_pressure_is_read_whatever_else_it_has() {
        let found = stall("full avg10=0.12 avg60=3.40 avg300=56.00 total=789 new=1").expect("a line");
        assert_eq!((found.avg10, found.avg60, found.avg300, found.total), (0.12, 3.4, 56.0, 789));
        assert_eq!(stall("some avg10=x"), None);
    }
}
