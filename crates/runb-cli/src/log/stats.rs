//! How often, how long, and how often in vain: for each verb and caller.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;

use super::calls::{Call, Outcome};
use super::table::{BOLD, Look, RED};
use crate::record::quote::one_line;

/// The most pairs of verb and caller that are told apart.
const ROWS: usize = 4096;
/// The bounds of the histograms, in microseconds.
const BOUNDS: [u64; 13] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];
/// How wide a bar is at most.
const BAR: usize = 40;

/// What was counted.
#[derive(Debug, Default)]
pub struct Stats {
    rows: BTreeMap<(String, String), Row>,
}

#[derive(Debug)]
struct Row {
    failed: u64,
    killed: u64,
    running: u64,
    sum: f64,
    /// Microseconds, to three digits.
    times: Histogram<u64>,
    /// The phases' seconds.
    phases: BTreeMap<String, f64>,
}

impl Row {
    fn new() -> Option<Self> {
        let times = Histogram::new(3).ok()?;
        Some(Row { failed: 0, killed: 0, running: 0, sum: 0.0, times, phases: BTreeMap::new() })
    }

    fn count(&self) -> u64 {
        self.times.len() + self.killed + self.running
    }

    /// The phase that took the most in all, and its part of the whole. What the workload took is not runb's.
    fn slowest(&self) -> Option<(&str, f64)> {
        let own = self.phases.iter().filter(|(name, _)| *name != "workload");
        let all: f64 = own.clone().map(|(_, seconds)| seconds).sum();
        let (name, seconds) = own.max_by(|a, b| a.1.total_cmp(b.1))?;
        Some((name, if all > 0.0 { seconds / all } else { 0.0 }))
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.times.value_at_quantile(quantile) as f64 / 1e3
    }
}

impl Stats {
    /// Counts a call.
    pub fn add(&mut self, call: &Call) {
        let caller = call.exit.as_ref().map_or("?", |(_, exit)| exit.caller.comm.as_str());
        let mut key = (one_line(call.verb()), one_line(caller));
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key = ("others".to_owned(), "others".to_owned());
        }
        let Some(row) = Row::new().map(|new| self.rows.entry(key).or_insert(new)) else { return };
        match call.outcome() {
            Outcome::Done => {}
            Outcome::Failed => row.failed += 1,
            Outcome::Killed => row.killed += 1,
            Outcome::Running => row.running += 1,
        }
        let Some((_, exit)) = &call.exit else { return };
        row.sum += exit.seconds;
        // It grows as it is needed.
        let _ = row.times.record(((exit.seconds * 1e6).round() as u64).max(1)).ok();
        for phase in &exit.phases {
            if let Some(sum) = row.phases.get_mut(&phase.name) {
                *sum += phase.seconds;
            } else if row.phases.len() < 256 {
                row.phases.insert(phase.name.clone(), phase.seconds);
            }
        }
    }

    /// For a person.
    pub fn table(&self, look: Look) -> String {
        let head = format!(
            "{:<10} {:<16} {:>8} {:>7} {:>7} {:>9} {:>9} {:>9} {:>9}  SLOWEST PHASE",
            "VERB", "CALLER", "CALLS", "FAILED", "KILLED", "P50 MS", "P95", "P99", "MAX"
        );
        let mut text = look.paint(BOLD, &head) + "\n";
        for ((verb, caller), row) in &self.rows {
            let slowest =
                row.slowest().map_or_else(String::new, |(name, part)| format!("{name} {:.0} %", part * 100.0));
            let failed = format!("{:>7} {:>7}", row.failed, row.killed);
            let failed = if row.failed + row.killed > 0 { look.paint(RED, &failed) } else { failed };
            let times = [0.5, 0.95, 0.99].map(|quantile| format!("{:>9.3}", row.milliseconds(quantile))).join(" ");
            let max = row.times.max() as f64 / 1e3;
            let line = format!("{verb:<10} {caller:<16} {:>8} {failed} {times} {max:>9.3}  {slowest}", row.count());
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text + &self.histogram(look)
    }

    /// All calls by how long they took.
    fn histogram(&self, look: Look) -> String {
        let mut below = 0;
        let mut counts = Vec::new();
        for bound in BOUNDS.iter().map(|bound| Some(*bound)).chain([None]) {
            let until = self.up_to(bound);
            counts.push((bound, until - below));
            below = until;
        }
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
        if most == 0 {
            return String::new();
        }
        let mut text = "\n".to_owned() + &look.paint(BOLD, "ALL CALLS, BY MS") + "\n";
        for (bound, count) in counts {
            let name = bound.map_or_else(|| "more".to_owned(), |bound| format!("≤ {}", bound as f64 / 1e3));
            let bar = "█".repeat((count as usize * BAR).div_ceil(most as usize));
            let _ = writeln!(text, "{}", format!("{name:>9} {count:>8} {bar}").trim_end());
        }
        text
    }

    fn up_to(&self, bound: Option<u64>) -> u64 {
        self.rows.values().map(|row| up_to(row, bound)).sum()
    }

    /// In OpenMetrics' form.
    pub fn prometheus(&self) -> String {
        let mut text = String::new();
        let labels =
            |(verb, caller): &(String, String)| format!("verb=\"{}\",caller=\"{}\"", label(verb), label(caller));
        text += "# TYPE runb_calls counter\n# HELP runb_calls Calls of runb in the invocation log, by what became of them.\n";
        for (key, row) in &self.rows {
            let done = row.times.len() - row.failed;
            for (outcome, count) in
                [("done", done), ("failed", row.failed), ("killed", row.killed), ("running", row.running)]
            {
                let _ = writeln!(text, "runb_calls_total{{{},outcome=\"{outcome}\"}} {count}", labels(key));
            }
        }
        text += "# TYPE runb_call_duration_seconds histogram\n# UNIT runb_call_duration_seconds seconds\n";
        text += "# HELP runb_call_duration_seconds How long the calls took that have ended.\n";
        for (key, row) in &self.rows {
            let labels = labels(key);
            for bound in BOUNDS {
                let (count, le) = (up_to(row, Some(bound)), bound as f64 / 1e6);
                let _ = writeln!(text, "runb_call_duration_seconds_bucket{{{labels},le=\"{le}\"}} {count}");
            }
            let _ = writeln!(text, "runb_call_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {}", row.times.len());
            let _ = writeln!(text, "runb_call_duration_seconds_sum{{{labels}}} {:.6}", row.sum);
            let _ = writeln!(text, "runb_call_duration_seconds_count{{{labels}}} {}", row.times.len());
        }
        text + "# EOF\n"
    }
}

fn up_to(row: &Row, bound: Option<u64>) -> u64 {
    match bound {
        Some(bound) => row.times.count_between(0, bound),
        None => row.times.len(),
    }
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::{Caller, Exit, Phase};

    fn stats() -> Stats {
        let mut stats = Stats::default();
        for i in 1..=100 {
            let exit = Exit {
                verb: Some("create".into()),
                seconds: f64::from(i) / 1e3,
                caller: Caller { comm: "sh\"im".into(), ..Caller::default() },
                error: (i == 100).then(|| "no".to_owned()),
                phases: vec![
                    Phase { name: "planning".into(), at: 0.0, seconds: 0.001 },
                    Phase { name: "spawn".into(), at: 0.0, seconds: 0.003 },
                    Phase { name: "workload".into(), at: 0.0, seconds: 3.0 },
                ],
                ..Exit::default()
            };
            stats.add(&Call { invocation: "1-1".into(), exit: Some((String::new(), exit)), ..Call::default() });
        }
        stats.add(&Call { invocation: "4194304-1".into(), argv: vec!["state".into()], ..Call::default() });
        stats
    }

    #[test]
    fn quantiles_failures_and_the_slowest_phase_of_each_verb_and_caller_are_told() {
        let table = stats().table(Look::Plain);
        let line = table.lines().find(|line| line.starts_with("create")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..5], ["create", "sh\"im", "100", "1", "0"], "{table}");
        for (word, expected) in words[5..9].iter().zip([50.0, 95.0, 99.0, 100.0]) {
            assert!((word.parse::<f64>().unwrap() - expected).abs() < 0.1, "{table}");
        }
        assert_eq!(words[9..], ["spawn", "75", "%"], "{table}");
        let killed: Vec<&str> =
            table.lines().find(|line| line.starts_with("state")).unwrap().split_whitespace().collect();
        assert_eq!(killed[2..5], ["1", "0", "1"], "{table}");
        assert!(table.lines().any(|line| line.contains("≤ 25") && line.contains(" 15 ")), "{table}");
    }

    #[test]
    fn a_scrape_has_cumulative_buckets_and_escaped_labels() {
        let text = stats().prometheus();
        assert!(
            text.contains("runb_calls_total{verb=\"create\",caller=\"sh\\\"im\",outcome=\"failed\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("caller=\"sh\\\"im\",le=\"0.05\"} 50\n"), "{text}");
        assert!(
            text.contains("le=\"+Inf\"} 100\n") && text.contains("_sum{verb=\"create\",caller=\"sh\\\"im\"} 5.05"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
