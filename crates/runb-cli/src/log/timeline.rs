//! The life of a container, from create to delete, or those of a pod's containers side by side: a row for each call, in the order of
//! time, with its phases as a bar, and between the rows how long the engine did something else.

mod html;
mod svg;

use std::fmt::Write;

use anyhow::Result;

use super::calls::{Call, Outcome};
use super::table::{BOLD, GREY, Look, RED, short_time};
use super::{Output, write_file};
use crate::args::Log;
use crate::record::entry::Phase;
use crate::record::quote::one_line;

/// Calls of the same kind in a row, from this number on, are summed up.
const MANY: usize = 4;
/// How wide a bar is at most, in characters.
const BAR: usize = 48;

/// What is drawn.
struct Life<'c> {
    /// The containers, in the order in which they appear.
    lanes: Vec<Lane>,
    rows: Vec<Row<'c>>,
    /// The longest call but for the workloads' own time, in seconds.
    longest: f64,
}

/// A container.
struct Lane {
    name: String,
    first: usize,
    last: usize,
}

/// A call, or several that are alike.
struct Row<'c> {
    lane: usize,
    call: &'c Call,
    /// How many more like it follow, and how long they took in all, in seconds.
    more: (usize, f64),
    /// From the end of what was before it to its begin, in seconds; not for the first one.
    gap: Option<f64>,
    /// When it began, in seconds from the beginning.
    at: f64,
}

/// Prints it, and writes the files that are asked for.
///
/// # Errors
/// One of them cannot be written.
pub fn run(args: &Log, calls: &[Call], output: &mut Output<'_>) -> Result<()> {
    let life = Life::of(calls);
    if let Some(path) = &args.svg {
        write_file(path, &svg::picture(&life))?;
    }
    if let Some(path) = &args.html {
        write_file(path, &html::page(&life))?;
    }
    match args.svg.is_none() && args.html.is_none() {
        true => output.text(&life.text(output.look)),
        false => Ok(()),
    }
}

impl<'c> Life<'c> {
    fn of(calls: &'c [Call]) -> Self {
        let began = calls.first().map_or(0, Call::began);
        let mut life = Life { lanes: Vec::new(), rows: Vec::new(), longest: 0.0 };
        let mut end = began;
        for call in calls {
            let name = super::table::container_name(call);
            let id = call.container().unwrap_or("-");
            let lane = life.lane(id, name);
            let alike = |row: &Row<'_>| {
                row.lane == lane && row.call.verb() == call.verb() && is_plain(row.call) && is_plain(call)
            };
            let gap = (call.began() - end) as f64 / 1e6;
            let took = call.seconds().unwrap_or(0.0);
            end = end.max(call.began() + (took * 1e6) as i64);
            if life.rows.len() >= MANY - 1 && life.rows[life.rows.len() + 1 - MANY..].iter().all(alike) {
                let more = &mut life.rows.last_mut().expect("there are some").more;
                *more = (more.0 + 1, more.1 + took);
                continue;
            }
            life.longest = life.longest.max(own_seconds(call));
            let gap = (!life.rows.is_empty()).then_some(gap);
            let at = (call.began() - began) as f64 / 1e6;
            life.lanes[lane].last = life.rows.len();
            life.rows.push(Row { lane, call, more: (0, 0.0), gap, at });
        }
        life
    }

    fn lane(&mut self, id: &str, name: String) -> usize {
        let same = |lane: &Lane| lane.name == name || lane.name.split(' ').next() == name.split(' ').next();
        match self.lanes.iter().position(same) {
            Some(lane) => {
                // The first calls of a container may not know the name.
                if name.len() > self.lanes[lane].name.len() {
                    self.lanes[lane].name = name;
                }
                lane
            }
            None => {
                let row = self.rows.len();
                let name = if name.is_empty() { id.to_owned() } else { name };
                self.lanes.push(Lane { name, first: row, last: row });
                self.lanes.len() - 1
            }
        }
    }

    /// How long all of it took, in seconds.
    fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.at + row.call.seconds().unwrap_or(0.0) + row.more.1).fold(0.0, f64::max)
    }

    fn text(&self, look: Look) -> String {
        let mut text = String::new();
        for lane in &self.lanes {
            let _ = writeln!(text, "{}", look.paint(BOLD, &lane.name));
        }
        let first = self.rows.first().map_or("", |row| row.call.time.as_str());
        let _ = writeln!(text, "{} UTC, {} in all\n", short_time(first), span(self.seconds()));
        for (number, row) in self.rows.iter().enumerate() {
            if let Some(gap) = row.gap.filter(|gap| *gap > 0.0) {
                let line = format!("{:>10}  {}{}", "", self.rails(number, None), span(gap));
                let _ = writeln!(text, "{}", look.paint(GREY, &line));
            }
            self.row(&mut text, (number, row), look);
        }
        text
    }

    fn row(&self, text: &mut String, (number, row): (usize, &Row<'_>), look: Look) {
        let call = row.call;
        let took = call.seconds().map_or_else(|| "-".to_owned(), span);
        let result = match call.outcome() {
            Outcome::Done => String::new(),
            Outcome::Failed => format!("failed: {}", one_line(call.error().unwrap_or_default())),
            Outcome::Running => "running".to_owned(),
            Outcome::Killed => "killed before its end".to_owned(),
        };
        let rails = self.rails(number, Some(row.lane));
        let bar = bar(call, self.longest);
        let line =
            format!("{:>10}  {rails}{:<8} {took:>9}  {bar}", format!("+{}", span(row.at)), one_line(call.verb()));
        let room = match look {
            Look::Terminal(width) => width.saturating_sub(line.chars().count() + 2).max(8),
            Look::Plain => usize::MAX,
        };
        let colour = if matches!(call.outcome(), Outcome::Failed | Outcome::Killed) { RED } else { "" };
        let result = look.cut(&result, room);
        let result = if colour.is_empty() { result } else { look.paint(colour, &result) };
        let _ = writeln!(text, "{}", format!("{line}  {result}").trim_end());
        let phases = main_phases(call);
        if !phases.is_empty() {
            let list: Vec<String> = phases.iter().map(|(name, seconds)| format!("{name} {}", span(*seconds))).collect();
            let line = format!("{:>10}  {}{}", "", self.rails(number, None), list.join(" · "));
            let line = if let Look::Terminal(width) = look { look.cut(&line, width) } else { line };
            let _ = writeln!(text, "{}", look.paint(GREY, &line));
        }
        if row.more.0 > 0 {
            let line =
                format!("{:>10}  {}and {} more, {} in all", "", self.rails(number, None), row.more.0, span(row.more.1));
            let _ = writeln!(text, "{}", look.paint(GREY, &line));
        }
    }

    /// Which containers there are at a row, and which one it is about; nothing, where there is but one.
    fn rails(&self, number: usize, about: Option<usize>) -> String {
        if self.lanes.len() < 2 {
            return String::new();
        }
        let sign = |(i, lane): (usize, &Lane)| match about {
            Some(about) if about == i => '●',
            _ if lane.first <= number && number <= lane.last => '│',
            _ => ' ',
        };
        self.lanes.iter().enumerate().map(sign).chain([' ']).collect()
    }
}

/// A call that nothing is to be said of.
fn is_plain(call: &Call) -> bool {
    call.outcome() == Outcome::Done
}

/// How long runb itself took: what the workload took is not its own.
fn own_seconds(call: &Call) -> f64 {
    let workload: f64 = phases(call).iter().filter(|phase| phase.name == "workload").map(|phase| phase.seconds).sum();
    (call.seconds().unwrap_or(0.0) - workload).max(0.0)
}

fn phases(call: &Call) -> &[Phase] {
    call.exit.as_ref().map_or(&[], |(_, exit)| exit.phases.as_slice())
}

/// Phases that are worth a word: at least a fiftieth of the call.
fn main_phases(call: &Call) -> Vec<(&str, f64)> {
    let least = own_seconds(call) / 50.0;
    let is_main = |phase: &&Phase| phase.seconds >= least && phase.seconds > 0.0;
    phases(call).iter().filter(is_main).map(|phase| (phase.name.as_str(), phase.seconds)).collect()
}

/// A bar as long as the call, its phases in turn dark and light; the workload's own time is a break.
fn bar(call: &Call, longest: f64) -> String {
    let Some(seconds) = call.seconds() else { return "╳".to_owned() };
    let width = |seconds: f64| if longest > 0.0 { seconds / longest * BAR as f64 } else { 0.0 };
    let mut bar = String::new();
    let mut end = 0.0;
    let mut place = 0;
    let list = phases(call);
    let rest = (own_seconds(call)
        - list.iter().filter(|phase| phase.name != "workload").map(|phase| phase.seconds).sum::<f64>())
    .max(0.0);
    let rest = Phase { name: String::new(), at: seconds, seconds: rest };
    for (i, phase) in list.iter().chain([&rest]).enumerate() {
        if phase.name == "workload" {
            bar.push('┄');
            continue;
        }
        end += width(phase.seconds);
        let sign = if i % 2 == 0 { '█' } else { '▒' };
        while place < end.round() as usize {
            bar.push(sign);
            place += 1;
        }
    }
    if bar.is_empty() { "▏".to_owned() } else { bar }
}

/// A time in the unit that it is best read in.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.2} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests;
