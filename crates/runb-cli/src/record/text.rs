//! A line as text: for a person, on one line, and exact enough to be read back.

use super::entry::{Entry, Event, Exit, Failure, HookRun, Parent, Phase};
use super::quote::{Token, fit, quote, readable, unquote};

/// The most of a text that is written, in bytes.
const ROOM: usize = 4096;

/// The line, with its newline.
pub fn line(entry: &Entry) -> String {
    let Entry { time, invocation, event } = entry;
    match event {
        Event::Call { argv, cut, cwd } => {
            let words: Vec<String> = argv.iter().map(|word| quote(word.as_bytes())).collect();
            let folder = cwd.as_ref().map(|cwd| format!(" in {}", quote(cwd.as_bytes()))).unwrap_or_default();
            format!("[{time}] call runb: {} [cut:{cut}] # {invocation}{folder}\n", words.join(" "))
        }
        Event::Exit(exit) => format!("[{time}] exit runb: {} # {invocation}\n", fields(exit)),
        Event::Note { text } => format!("[{time}] note runb: {} # {invocation}\n", fit(text.as_bytes(), ROOM, quote).0),
        Event::Debug { text } => {
            format!("[{time}] debug runb: {} # {invocation}\n", fit(text.as_bytes(), ROOM, quote).0)
        }
    }
}

/// The most of a hook's output that is written, in bytes.
const OUTPUT: usize = 1536;

/// An exit, as `name=value` words. What is not known is not there.
fn fields(exit: &Exit) -> String {
    let mut text = String::with_capacity(512);
    let mut field = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name);
            text.push('=');
            text.push_str(&fit(value.as_bytes(), ROOM, quote).0);
        }
    };
    field("verb", exit.verb.as_deref());
    field("container", exit.container.as_deref());
    field("name", exit.names.container.as_deref());
    field("pod", exit.names.pod.as_deref());
    field("namespace", exit.names.namespace.as_deref());
    field("sandbox", exit.names.sandbox.as_deref());
    field("status", Some(&exit.status.to_string()));
    field("seconds", Some(&format!("{:.6}", exit.seconds)));
    field("caller", Some(&exit.caller.pid.to_string()));
    field("comm", Some(&exit.caller.comm));
    field("uid", Some(&exit.caller.uid.to_string()));
    if let Some(Parent { pid, comm }) = &exit.caller.parent {
        field("parent", Some(&format!("{pid}:{comm}")));
    }
    field("unit", exit.caller.unit.as_deref());
    field("bundle", exit.bundle.as_deref());
    field("config", exit.config.as_deref().map(|digest| digest.get(..16).unwrap_or(digest)));
    if let Some(args) = &exit.process {
        let words: Vec<String> = args.iter().map(|word| quote(word.as_bytes())).collect();
        field("process", Some(&words.join(" ")));
    }
    field("error", exit.error.as_deref());
    if let Some(Failure { place, call, index, errno }) = &exit.failure {
        field("place", place.as_deref());
        field("errno", errno.as_deref());
        field("index", index.map(|index| index.to_string()).as_deref());
        field("failed", call.as_deref());
    }
    if !exit.phases.is_empty() {
        field("phases", Some(&phases(&exit.phases)));
    }
    exit.hooks.iter().for_each(|run| hook(&mut text, run));
    text
}

/// A hook, as words that all begin with its name.
fn hook(text: &mut String, HookRun { kind, index, path, seconds, status, output }: &HookRun) {
    use std::fmt::Write;
    let word = |value: &str| fit(value.as_bytes(), OUTPUT, quote).0;
    let (name, path, status) = (word(&format!("{kind}[{index}]")), word(path), word(status));
    let _ = write!(text, " hook={name} hook-path={path} hook-seconds={seconds:.6} hook-status={status}");
    if !output.is_empty() {
        let _ = write!(text, " hook-output={}", word(output));
    }
}

/// Each phase with its milliseconds.
pub fn phases(phases: &[Phase]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(256);
    for Phase { name, seconds, .. } in phases {
        let between = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{between}{name} {:.3}", seconds * 1e3);
    }
    text
}

/// Reads a line.
pub fn parse(line: &str) -> Option<Entry> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let (kind, rest) = rest.split_once(" runb: ")?;
    let mut tokens = unquote(rest)?;
    let mark = tokens.iter().rposition(|token| *token == Token::Mark("#".to_owned()))?;
    let after = words(tokens.split_off(mark).split_off(1))?;
    let (invocation, cwd) = match after.as_slice() {
        [invocation] => (invocation.clone(), None),
        [invocation, folder, cwd] if folder == "in" => (invocation.clone(), Some(cwd.clone())),
        _ => return None,
    };
    let event = match kind {
        "call" => call(tokens, cwd)?,
        "exit" => Event::Exit(exit(tokens)?),
        "note" => Event::Note { text: words(tokens)?.pop()? },
        "debug" => Event::Debug { text: words(tokens)?.pop()? },
        _ => return None,
    };
    Some(Entry { time: time.to_owned(), invocation, event })
}

/// The tokens as words; none if there is a mark among them.
fn words(tokens: Vec<Token>) -> Option<Vec<String>> {
    let word = |token| match token {
        Token::Word(word) => Some(readable(&word)),
        Token::Mark(_) => None,
    };
    tokens.into_iter().map(word).collect()
}

fn call(mut tokens: Vec<Token>, cwd: Option<String>) -> Option<Event> {
    let cut = match tokens.last() {
        Some(Token::Mark(mark)) => mark.strip_prefix("[cut:")?.strip_suffix(']')?.parse().ok()?,
        _ => 0,
    };
    tokens.truncate(tokens.len() - usize::from(cut > 0));
    Some(Event::Call { argv: words(tokens)?, cut, cwd })
}

fn exit(tokens: Vec<Token>) -> Option<Exit> {
    let mut exit = Exit::default();
    let mut failure = Failure::default();
    for word in words(tokens)? {
        let (name, value) = word.split_once('=')?;
        let text = || Some(value.to_owned());
        match name {
            "verb" => exit.verb = text(),
            "container" => exit.container = text(),
            "name" => exit.names.container = text(),
            "pod" => exit.names.pod = text(),
            "namespace" => exit.names.namespace = text(),
            "sandbox" => exit.names.sandbox = text(),
            "status" => exit.status = value.parse().ok()?,
            "seconds" => exit.seconds = value.parse().ok()?,
            "caller" => exit.caller.pid = value.parse().ok()?,
            "comm" => exit.caller.comm = value.to_owned(),
            "uid" => exit.caller.uid = value.parse().ok()?,
            "parent" => {
                let (pid, comm) = value.split_once(':')?;
                exit.caller.parent = Some(Parent { pid: pid.parse().ok()?, comm: comm.to_owned() });
            }
            "unit" => exit.caller.unit = text(),
            "bundle" => exit.bundle = text(),
            "config" => exit.config = text(),
            "process" => exit.process = Some(words(unquote(value)?)?),
            "error" => exit.error = text(),
            "place" => failure.place = text(),
            "errno" => failure.errno = text(),
            "index" => failure.index = Some(value.parse().ok()?),
            "failed" => failure.call = text(),
            "phases" => exit.phases = read_phases(value)?,
            "hook" => {
                let (kind, index) = value.strip_suffix(']')?.split_once('[')?;
                let run = HookRun { kind: kind.to_owned(), index: index.parse().ok()?, ..HookRun::default() };
                exit.hooks.push(run);
            }
            "hook-path" => exit.hooks.last_mut()?.path = value.to_owned(),
            "hook-seconds" => exit.hooks.last_mut()?.seconds = value.parse().ok()?,
            "hook-status" => exit.hooks.last_mut()?.status = value.to_owned(),
            "hook-output" => exit.hooks.last_mut()?.output = value.to_owned(),
            // Of a later version.
            _ => {}
        }
    }
    exit.failure = Some(failure).filter(|failure| *failure != Failure::default());
    Some(exit)
}

/// The phases, one after the other.
fn read_phases(text: &str) -> Option<Vec<Phase>> {
    let words: Vec<&str> = text.split(' ').collect();
    let mut at = 0.0;
    let phase = |pair: &[&str]| {
        let [name, milliseconds] = pair else { return None };
        let seconds = milliseconds.parse::<f64>().ok()? / 1e3;
        let phase = Phase { name: (*name).to_owned(), at, seconds };
        at += seconds;
        Some(phase)
    };
    words.chunks(2).map(phase).collect()
}
