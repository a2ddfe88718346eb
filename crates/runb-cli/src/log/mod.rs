//! `log`: what is read from the invocation log, whatever form its lines have. No other verb touches any of this.

mod calls;
mod config;
mod explain;
mod filter;
mod follow;
mod line;
mod replay;
mod source;
mod stats;
mod table;
mod timeline;

use std::collections::VecDeque;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use runb_core::Stdout;

use crate::args::{Format, Log, LogFormat};
use crate::cmd::Context;
use calls::{Call, Calls, Item};
use filter::Filter;
use table::Look;

/// The most calls that a picture, a script or an explanation is made of: the last ones.
const MOST: usize = 20_000;

/// What is to be made of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    List,
    Timeline,
    Stats,
    Replay,
    Explain,
}

/// Prints what is asked for.
///
/// # Errors
/// The flags do not go together; the log cannot be read; nobody reads what is printed.
pub fn run(args: &Log, context: &Context<'_>) -> Result<u8> {
    let (purpose, container) = purpose(args)?;
    check(args, purpose)?;
    let filter = Filter::new(args, container.as_deref(), SystemTime::now())?;
    let mut output = Output::new(args, context)?;
    match purpose {
        Purpose::List => list(args, context, filter, &mut output)?,
        Purpose::Stats => {
            let mut stats = stats::Stats::default();
            read(args, context, filter, &mut |item| {
                if let Item::Call(call) = &item {
                    stats.add(call);
                }
                Ok(())
            })?;
            output.text(&if args.prometheus { stats.prometheus() } else { stats.table(output.look) })?;
        }
        Purpose::Timeline | Purpose::Replay | Purpose::Explain => {
            let calls = collect(args, context, filter)?;
            if calls.is_empty() {
                bail!("the invocation log has nothing of that");
            }
            match purpose {
                Purpose::Timeline => timeline::run(args, &calls, &mut output)?,
                Purpose::Replay => output.text(&replay::script(&calls, context)?)?,
                _ => output.text(&explain::text(&calls, context, output.look))?,
            }
        }
    }
    output.flush()?;
    Ok(0)
}

/// The first word says what is wanted, unless it is a container's.
fn purpose(args: &Log) -> Result<(Purpose, Option<String>)> {
    let (purpose, rest) = match args.words.split_first() {
        None => return Ok((Purpose::List, None)),
        Some((first, rest)) => match first.as_str() {
            "timeline" => (Purpose::Timeline, rest),
            "stats" => (Purpose::Stats, rest),
            "replay" => (Purpose::Replay, rest),
            "explain" => (Purpose::Explain, rest),
            _ => (Purpose::List, args.words.as_slice()),
        },
    };
    let usage = |text: String| anyhow!("{text}");
    match (rest, &args.container) {
        ([], None) if matches!(purpose, Purpose::List | Purpose::Stats) => Ok((purpose, None)),
        ([], Some(_)) => Ok((purpose, None)),
        ([id], None) => Ok((purpose, Some(id.clone()))),
        ([], None) => Err(usage(format!("log {}: of which container?", args.words[0]))),
        _ => Err(usage(format!("log takes one container, not {}", args.words.join(" ")))),
    }
}

/// Flags that would be ignored are refused.
fn check(args: &Log, purpose: Purpose) -> Result<()> {
    let refused = [
        (args.follow && purpose != Purpose::List, "--follow"),
        (args.follow && !args.file.is_empty(), "--follow with --file"),
        (args.follow && args.last.is_some(), "--follow with --last"),
        (args.prometheus && purpose != Purpose::Stats, "--prometheus"),
        ((args.svg.is_some() || args.html.is_some()) && purpose != Purpose::Timeline, "--svg and --html"),
        (
            (args.json || args.format != LogFormat::Table || args.last.is_some()) && purpose != Purpose::List,
            "--json, --format and --last",
        ),
        (args.json && args.format == LogFormat::Text, "--json with --format text"),
    ];
    match refused.iter().find(|(refused, _)| *refused) {
        Some((_, flag)) => bail!("{flag}: not here"),
        None => Ok(()),
    }
}

/// Where the text goes. It is kept together: a million lines are no million writes.
struct Output<'a> {
    context: &'a Context<'a>,
    buffer: Vec<u8>,
    look: Look,
    format: LogFormat,
    head: bool,
}

impl<'a> Output<'a> {
    fn new(args: &Log, context: &'a Context<'a>) -> Result<Self> {
        let terminal = context.stdout == Stdout::Open && std::io::stdout().is_terminal();
        let look = match terminal && std::env::var_os("NO_COLOR").is_none() {
            true => {
                let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
                Look::Terminal(size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(100))
            }
            false => Look::Plain,
        };
        let format = if args.json { LogFormat::Json } else { args.format };
        Ok(Output { context, buffer: Vec::new(), look, format, head: true })
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.buffer.extend_from_slice(text.as_bytes());
        if self.buffer.len() > 256 << 10 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() { Ok(()) } else { self.context.print_bytes(&buffer) }
    }

    /// The head of a table, once.
    fn begin(&mut self) -> Result<()> {
        match std::mem::take(&mut self.head) && self.format == LogFormat::Table {
            true => self.text(&table::head(self.look)),
            false => Ok(()),
        }
    }

    fn item(&mut self, item: &Item) -> Result<()> {
        match self.format {
            LogFormat::Table => {
                self.begin()?;
                self.text(&table::row(item, self.look))
            }
            LogFormat::Text => {
                let lines: String = match item {
                    Item::Call(call) => call.entries().iter().map(|entry| entry.line(Format::Text)).collect(),
                    Item::Note(note) => note.line(Format::Text),
                };
                self.text(&lines)
            }
            LogFormat::Json => {
                let object = match item {
                    Item::Call(call) => as_json(call),
                    Item::Note(note) => serde_json::to_value(note).unwrap_or_default(),
                };
                self.text(&format!("{object}\n"))
            }
        }
    }
}

/// A call as one object: that of its end, with what is known from its beginning.
fn as_json(call: &Call) -> serde_json::Value {
    let exit = call.exit.as_ref().map(|(time, exit)| (time.clone(), exit));
    let mut object = exit.as_ref().map_or_else(|| serde_json::json!({}), |(_, exit)| serde_json::json!(exit));
    if let Some(object) = object.as_object_mut() {
        let mut set = |key: &str, value: serde_json::Value| object.insert(key.to_owned(), value);
        set("time", call.time.as_str().into());
        set("invocation", call.invocation.as_str().into());
        set("outcome", format!("{:?}", call.outcome()).to_lowercase().into());
        if let Some((ended, _)) = &exit {
            set("ended", ended.as_str().into());
        }
        if !call.argv.is_empty() {
            set("argv", call.argv.clone().into());
        }
        if call.cut > 0 {
            set("cut", call.cut.into());
        }
        if let Some(cwd) = &call.cwd {
            set("cwd", cwd.as_str().into());
        }
        if !call.debug.is_empty() {
            set(
                "debug",
                call.debug.iter().map(|(time, text)| serde_json::json!({"time": time, "text": text})).collect(),
            );
        }
        if exit.is_none() {
            set("verb", call.verb().into());
            set("container", call.container().into());
        }
    }
    object
}

/// The files that are asked for.
fn files(args: &Log, context: &Context<'_>) -> Result<Vec<PathBuf>> {
    if !args.file.is_empty() {
        return Ok(args.file.clone());
    }
    let Some(path) = &context.settings.path else {
        bail!("the invocation log is off");
    };
    source::generations(path)
}

/// Reads all that there is.
fn read(args: &Log, context: &Context<'_>, filter: Filter, emit: &mut dyn FnMut(Item) -> Result<()>) -> Result<()> {
    let mut calls = Calls::new(filter);
    let own = format!("{}-", std::process::id());
    let mut others = |item: Item| match &item {
        // This very call has not ended, and is not what is asked about.
        Item::Call(call) if call.exit.is_none() && call.invocation.starts_with(&own) => Ok(()),
        _ => emit(item),
    };
    for file in files(args, context)? {
        source::lines(&file, |line| calls.line(line, &mut others))?;
    }
    calls.rest(&mut others)
}

fn collect(args: &Log, context: &Context<'_>, filter: Filter) -> Result<Vec<Call>> {
    let mut calls = VecDeque::new();
    read(args, context, filter, &mut |item| {
        if let Item::Call(call) = item {
            if calls.len() == MOST {
                calls.pop_front();
            }
            calls.push_back(*call);
        }
        Ok(())
    })?;
    let mut calls: Vec<Call> = calls.into();
    calls.sort_by_key(Call::began);
    Ok(calls)
}

fn list(args: &Log, context: &Context<'_>, filter: Filter, output: &mut Output<'_>) -> Result<()> {
    if args.follow {
        let Some(path) = &context.settings.path else {
            bail!("the invocation log is off");
        };
        let mut calls = Calls::new(filter);
        return follow::follow(path, |lines| {
            output.begin()?;
            for line in lines {
                calls.line(line, &mut |item| output.item(&item))?;
            }
            output.flush()
        });
    }
    let Some(last) = args.last else {
        return read(args, context, filter, &mut |item| output.item(&item));
    };
    let mut kept = VecDeque::new();
    read(args, context, filter, &mut |item| {
        if kept.len() == last {
            kept.pop_front();
        }
        if last > 0 {
            kept.push_back(item);
        }
        Ok(())
    })?;
    kept.iter().try_for_each(|item| output.item(item))
}

/// Writes a file that the caller has asked for.
fn write_file(path: &std::path::Path, text: &str) -> Result<()> {
    let what = || format!("write {}", path.display());
    let mut file = BufWriter::new(std::fs::File::create(path).with_context(what)?);
    file.write_all(text.as_bytes()).and_then(|()| file.flush()).with_context(what)
}
