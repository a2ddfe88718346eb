//! The life as a page for a browser: the picture, and below it each call with all that is on record. One file, which fetches nothing
//! and runs nothing.

use std::fmt::Write;

use super::svg::{escape, picture};
use super::{Life, span};
use crate::log::calls::{Call, Outcome};
use crate::record::quote::{one_line, quote};

const STYLE: &str = "body{font:14px/1.5 ui-sans-serif,system-ui,sans-serif;color:#1f2430;margin:24px auto;max-width:1180px;padding:0 16px}\
figure{margin:0;overflow-x:auto}h1{font-size:20px}details{border-top:1px solid #e3e6ee;padding:6px 0}summary{cursor:pointer}\
summary .v{display:inline-block;min-width:72px;font-weight:600}.bad{color:#c4314b}code{font:12px ui-monospace,monospace;overflow-wrap:anywhere}\
table{border-collapse:collapse;margin:8px 0 8px 24px}td{padding:1px 14px 1px 0;vertical-align:top}td.n{text-align:right}.k{color:#5b6478}\
pre{margin:0;white-space:pre-wrap}";

/// The page.
pub fn page(life: &Life<'_>) -> String {
    let title = life.lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style></head>\n\
         <body><h1>{0}</h1>\n<figure>{1}</figure>\n<h2>Calls</h2>\n",
        escape(&title),
        picture(life)
    );
    for row in &life.rows {
        call(&mut text, row.call, row.at);
        if row.more.0 > 0 {
            let _ = writeln!(text, "<p class=\"k\">and {} more like it, {} in all</p>", row.more.0, span(row.more.1));
        }
    }
    text + "</body></html>\n"
}

fn call(text: &mut String, call: &Call, at: f64) {
    let bad = matches!(call.outcome(), Outcome::Failed | Outcome::Killed);
    let took = call.seconds().map_or_else(|| "no end".to_owned(), span);
    let error = call.error().map(one_line).unwrap_or_default();
    let _ = writeln!(
        text,
        "<details{}><summary><span class=\"v{}\">{}</span> +{} · {took} {}</summary><table>",
        if bad { " open" } else { "" },
        if bad { " bad" } else { "" },
        escape(&one_line(call.verb())),
        span(at),
        escape(&error)
    );
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "<tr><td class=\"k\">{name}</td><td><code>{}</code></td></tr>", escape(&value));
        }
    };
    field("time", call.time.clone());
    let words: Vec<String> = call.argv.iter().map(|word| quote(word.as_bytes())).collect();
    field("arguments", words.join(" "));
    field("in", call.cwd.clone().unwrap_or_default());
    if let Some((_, exit)) = &call.exit {
        let parent = exit.caller.parent.as_ref().map(|parent| format!(", of {} ({})", parent.comm, parent.pid));
        let unit = exit.caller.unit.as_ref().map(|unit| format!(", in {unit}"));
        let caller = format!(
            "{} ({}){}{}",
            exit.caller.comm,
            exit.caller.pid,
            parent.unwrap_or_default(),
            unit.unwrap_or_default()
        );
        field("caller", caller);
        field("bundle", exit.bundle.clone().unwrap_or_default());
        field("config.json", exit.config.clone().map(|digest| format!("sha256:{digest}")).unwrap_or_default());
        let failure = exit.failure.clone().unwrap_or_default();
        field("place", failure.place.unwrap_or_default());
        field("failed call", failure.call.unwrap_or_default());
        field("errno", failure.errno.unwrap_or_default());
        for hook in &exit.hooks {
            let output = if hook.output.is_empty() { String::new() } else { format!("\n{}", hook.output) };
            field(
                &format!("{}[{}]", escape(&hook.kind), hook.index),
                format!("{} ({}): {}{output}", hook.path, span(hook.seconds), hook.status),
            );
        }
    }
    for (_, line) in &call.debug {
        field("debug", line.clone());
    }
    let phases = super::phases(call);
    for phase in phases {
        let _ = writeln!(
            text,
            "<tr><td class=\"k\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&phase.name),
            span(phase.seconds)
        );
    }
    let _ = writeln!(text, "</table></details>");
}
