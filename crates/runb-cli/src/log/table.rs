//! A row for each call, for a person.

use super::calls::{Call, Item, Outcome};
use crate::record::quote::{one_line, quote};

/// What the rows are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A terminal with so many columns: coloured, and cut to them.
    Terminal(usize),
    /// All else: plain, and whole.
    Plain,
}

/// Escape sequences (console_codes(4)).
pub const RED: &str = "\x1b[31m";
pub const YELLOW: &str = "\x1b[33m";
pub const GREY: &str = "\x1b[90m";
pub const BOLD: &str = "\x1b[1m";
const OFF: &str = "\x1b[0m";

impl Look {
    /// A text in a colour, where there are some.
    pub fn paint(self, colour: &str, text: &str) -> String {
        match self {
            Look::Terminal(_) if !text.is_empty() => format!("{colour}{text}{OFF}"),
            _ => text.to_owned(),
        }
    }

    /// A text of at most so many columns.
    pub fn cut(self, text: &str, room: usize) -> String {
        match self {
            Look::Terminal(_) if text.chars().count() > room => {
                text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
            }
            _ => text.to_owned(),
        }
    }
}

/// The row above the others.
pub fn head(look: Look) -> String {
    let row = format!(
        "{:<19} {:<8} {:<22} {:<8} {:>10}  {:<16} {}",
        "TIME (UTC)", "VERB", "CONTAINER", "RESULT", "MS", "CALLER", "WHAT"
    );
    look.paint(BOLD, row.trim_end()) + "\n"
}

/// The row of what was read.
pub fn row(item: &Item, look: Look) -> String {
    match item {
        Item::Call(call) => of_call(call, look),
        Item::Note(note) => {
            let crate::record::entry::Event::Note { text } = &note.event else { return String::new() };
            look.paint(YELLOW, &format!("{:<19} {}", short_time(&note.time), one_line(text))) + "\n"
        }
    }
}

fn of_call(call: &Call, look: Look) -> String {
    let exit = call.exit.as_ref().map(|(_, exit)| exit);
    let (result, colour) = match call.outcome() {
        Outcome::Done => (
            exit.map_or_else(String::new, |exit| if exit.status == 0 { "ok".into() } else { exit.status.to_string() }),
            "",
        ),
        Outcome::Failed => ("failed".to_owned(), RED),
        Outcome::Running => ("running".to_owned(), YELLOW),
        Outcome::Killed => ("killed".to_owned(), RED),
    };
    let took = call.seconds().map_or_else(|| "-".to_owned(), |seconds| format!("{:.3}", seconds * 1e3));
    let what = match call.error() {
        Some(error) => one_line(error),
        None => own_arguments(call),
    };
    let container = container_name(call);
    let container =
        if container.chars().count() > 22 && look != Look::Plain { look.cut(&container, 22) } else { container };
    let comm = exit.map_or("", |exit| exit.caller.comm.as_str());
    let first = format!("{:<19} {:<8} {container:<22} ", short_time(&call.time), one_line(call.verb()));
    let middle = format!("{result:<8}");
    let last = format!(" {took:>10}  {:<16} ", one_line(comm));
    let used = first.chars().count() + middle.chars().count() + last.chars().count();
    let what = match look {
        Look::Terminal(width) => look.cut(&what, width.saturating_sub(used).max(8)),
        Look::Plain => what,
    };
    let middle = if colour.is_empty() { middle } else { look.paint(colour, &middle) };
    let what = if call.error().is_some() { look.paint(RED, &what) } else { what };
    format!("{first}{middle}{last}{what}").trim_end().to_owned() + "\n"
}

/// The container, by the name that its engine gave it where there is one; an id of 64 digits by its first twelve.
pub fn container_name(call: &Call) -> String {
    let id = call.container().unwrap_or("-");
    let names = call.exit.as_ref().map(|(_, exit)| &exit.names);
    let named = names.and_then(|names| match (&names.pod, &names.container) {
        (Some(pod), Some(own)) => Some(format!("{pod}/{own}")),
        (Some(pod), None) => Some(pod.clone()),
        (None, own) => own.clone(),
    });
    let is_long = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = if is_long { &id[..12] } else { id };
    one_line(&named.map_or_else(|| id.to_owned(), |name| format!("{id} {name}")))
}

/// The arguments, without the verb and the id, which have columns of their own.
fn own_arguments(call: &Call) -> String {
    let (verb, id) = (call.verb(), call.container());
    let others = call.argv.iter().filter(|word| *word != verb && Some(word.as_str()) != id);
    let mut words: Vec<String> = others.map(|word| quote(word.as_bytes())).collect();
    if call.cut > 0 {
        words.push(format!("… {} bytes more", call.cut));
    }
    words.join(" ")
}

/// Month to millisecond.
pub fn short_time(time: &str) -> String {
    time.get(5..23).map_or_else(|| time.to_owned(), |time| time.replacen('T', " ", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::{Caller, Exit, Names};

    fn call(error: Option<&str>) -> Item {
        Item::Call(Box::new(Call {
            invocation: "4194304-1".into(),
            time: "2026-11-22T18:00:00.123456+00:00".into(),
            argv: ["--root", "/r", "create", "--bundle", "/a b", "web1"].map(str::to_owned).into(),
            exit: Some((
                "2026-11-22T18:00:00.125000+00:00".into(),
                Exit {
                    verb: Some("create".into()),
                    container: Some("web1".into()),
                    names: Names { pod: Some("shop-0".into()), container: Some("web".into()), ..Names::default() },
                    status: 1,
                    seconds: 0.00234,
                    caller: Caller { comm: "shim".into(), ..Caller::default() },
                    error: error.map(str::to_owned),
                    ..Exit::default()
                },
            )),
            ..Call::default()
        }))
    }

    #[test]
    fn in_a_pipe_a_row_is_plain_and_whole() {
        let row = row(&call(None), Look::Plain);
        assert_eq!(
            row,
            "11-22 18:00:00.123  create   web1 shop-0/web        1             2.340  shim             --root /r --bundle '/a b'\n"
        );
    }

    #[test]
    fn on_a_terminal_it_fits_the_width_and_a_failure_is_red() {
        let long = "x".repeat(500);
        for width in [100, 140, 220] {
            let row = row(&call(Some(&long)), Look::Terminal(width));
            assert!(row.contains(RED));
            let plain = row.replace(RED, "").replace(OFF, "");
            assert_eq!(plain.trim_end().chars().count(), width, "{plain}");
        }
    }

    #[test]
    fn a_call_without_an_end_says_so() {
        let Item::Call(mut call) = call(None) else { panic!() };
        call.exit = None;
        let row = row(&Item::Call(call), Look::Plain);
        assert!(row.contains(" killed ") && row.contains(" create "), "{row}");
    }
}
