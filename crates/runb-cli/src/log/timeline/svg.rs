//! The life as a picture.

use std::fmt::Write;

use super::{Life, Row, main_phases, phases, span};
use crate::log::calls::Outcome;
use crate::record::quote::one_line;

/// Measures, in pixels.
const LEFT: f64 = 92.0;
const NAME: f64 = 64.0;
const TIME: f64 = 72.0;
const BAR: f64 = 460.0;
/// For what is said behind a bar.
const ROOM: f64 = 240.0;
const ROW: f64 = 26.0;
const GAP: f64 = 16.0;
const HEAD: f64 = 44.0;
/// The distance of the containers of a pod.
const LANE: f64 = 150.0;
const FONT: &str = "font-family=\"ui-sans-serif,system-ui,sans-serif\" font-size=\"12\"";

/// A colour for each kind of phase: that of the machine, of the cgroup, of init, of hooks, of the end.
pub fn colour(phase: &str) -> &'static str {
    match phase {
        "beginning" | "looking" | "reading" | "planning" | "state" => "#7aa2f7",
        "cgroup" | "limits" | "systemd-job" | "until-cgroup" => "#e0af68",
        "spawn" => "#bb9af7",
        "execve" => "#2ac3a2",
        "workload" => "#d5d9e0",
        "ending" | "clean-up" => "#8a93a6",
        "until-failure" => "#f7768e",
        hook if hook.ends_with(']') => "#ff9e64",
        _ => "#73c991",
    }
}

/// What the colours mean.
pub const LEGEND: [(&str, &str); 8] = [
    ("planning", "reading and planning"),
    ("cgroup", "cgroups, systemd"),
    ("spawn", "spawn"),
    ("until-ready", "init at work"),
    ("hook[0]", "hooks"),
    ("execve", "wait for the execve"),
    ("clean-up", "clean-up"),
    ("until-failure", "what failed"),
];

/// Text in a document.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The picture, a document of its own.
pub fn picture(life: &Life<'_>) -> String {
    let lanes = life.lanes.len().max(1);
    let width = LEFT + LANE * (lanes - 1) as f64 + NAME + TIME + BAR + ROOM;
    let mut body = String::new();
    let mut y = HEAD + 18.0 * lanes as f64;
    let top = y;
    for row in &life.rows {
        if let Some(gap) = row.gap.filter(|gap| *gap > 0.0) {
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{}\" fill=\"#8a93a6\" font-size=\"10\">{}</text>",
                LEFT + 6.0,
                y + 11.0,
                span(gap)
            );
            y += GAP;
        }
        draw(&mut body, life, row, y);
        y += ROW;
    }
    let height = y + 48.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" {FONT}>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let first = life.rows.first().map_or("", |row| row.call.time.as_str());
    let _ = writeln!(
        text,
        "<text x=\"16\" y=\"24\" font-size=\"14\" font-weight=\"600\" fill=\"#1f2430\">{} – {} in all</text>",
        escape(first),
        span(life.seconds())
    );
    for (i, lane) in life.lanes.iter().enumerate() {
        let at = (LEFT + LANE * i as f64, HEAD + 18.0 * i as f64);
        let _ = writeln!(
            text,
            "<circle cx=\"{}\" cy=\"{}\" r=\"4\" fill=\"#1f2430\"/><text x=\"{}\" y=\"{}\" fill=\"#1f2430\" font-weight=\"600\">{}</text>",
            at.0,
            at.1 - 4.0,
            at.0 + 10.0,
            at.1,
            escape(&lane.name)
        );
        let _ = writeln!(
            text,
            "<line x1=\"{0}\" y1=\"{1}\" x2=\"{0}\" y2=\"{2}\" stroke=\"#c8cedb\"/>",
            at.0,
            at.1,
            if lane.last + 1 >= life.rows.len() { y } else { y.min(top + (lane.last + 1) as f64 * (ROW + GAP)) }
        );
    }
    text += &body;
    legend(&mut text, y + 18.0);
    text + "</svg>\n"
}

fn draw(text: &mut String, life: &Life<'_>, row: &Row<'_>, y: f64) {
    let call = row.call;
    let x = LEFT + LANE * row.lane as f64;
    let middle = y + ROW / 2.0 + 4.0;
    let grey = "#5b6478";
    let ink = match call.outcome() {
        Outcome::Failed | Outcome::Killed => "#c4314b",
        _ => "#1f2430",
    };
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"{grey}\">+{}</text>",
        LEFT - 12.0,
        span(row.at)
    );
    let _ = writeln!(text, "<circle cx=\"{x}\" cy=\"{}\" r=\"3.5\" fill=\"{ink}\"/>", middle - 4.0);
    let verb = escape(&one_line(call.verb()));
    let _ = writeln!(text, "<text x=\"{}\" y=\"{middle}\" fill=\"{ink}\">{verb}</text>", x + 10.0);
    let took = call.seconds().map_or_else(|| "no end".to_owned(), span);
    let end = x + NAME + TIME;
    let _ =
        writeln!(text, "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"{grey}\">{took}</text>", end - 4.0);
    let scale = if life.longest > 0.0 { BAR / life.longest } else { 0.0 };
    let mut at = end + 6.0;
    let mut list: Vec<(&str, f64)> = phases(call).iter().map(|phase| (phase.name.as_str(), phase.seconds)).collect();
    if list.is_empty() {
        list.push((call.verb(), call.seconds().unwrap_or(0.0)));
    }
    for (name, seconds) in list {
        let wide = if name == "workload" { 14.0 } else { (seconds * scale).max(0.4) };
        let fill = if phases(call).is_empty() { "#7aa2f7" } else { colour(name) };
        let _ = writeln!(
            text,
            "<rect x=\"{at:.1}\" y=\"{}\" width=\"{wide:.1}\" height=\"14\" fill=\"{fill}\"><title>{} {}</title></rect>",
            y + 6.0,
            escape(name),
            span(seconds)
        );
        at += wide;
    }
    let mut said = Vec::new();
    if row.more.0 > 0 {
        said.push(format!("and {} more, {} in all", row.more.0, span(row.more.1)));
    }
    match call.outcome() {
        Outcome::Failed => said.push(one_line(call.error().unwrap_or_default())),
        Outcome::Killed => said.push("killed before its end".to_owned()),
        Outcome::Running => said.push("running".to_owned()),
        Outcome::Done => {
            let slowest = main_phases(call)
                .into_iter()
                .filter(|(name, _)| *name != "workload")
                .max_by(|a, b| a.1.total_cmp(&b.1));
            if let Some((name, seconds)) = slowest.filter(|(_, seconds)| *seconds > life.longest / 3.0) {
                said.push(format!("{name} {}", span(seconds)));
            }
        }
    }
    let said: String = said.join("; ").chars().take(110).collect();
    if !said.is_empty() {
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{middle}\" font-size=\"11\" fill=\"{ink}\">{}</text>",
            at + 6.0,
            escape(&said)
        );
    }
}

fn legend(text: &mut String, y: f64) {
    let mut x = 16.0;
    for (phase, means) in LEGEND {
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{}\" y=\"{}\" font-size=\"10\" fill=\"#5b6478\">{means}</text>",
            y,
            colour(phase),
            x + 14.0,
            y + 9.0
        );
        x += 24.0 + means.len() as f64 * 5.6;
    }
}
