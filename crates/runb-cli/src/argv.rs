//! Go's flag syntax, turned into clap's. Engines write for runc, and runc's flags are Go's: one dash or two, `--flag X`
//! or `--flag=X`, `--switch=false`, the last of two wins, an empty value is none. clap then parses words that leave
//! nothing to guess. What a flag is called and whether it takes a value is read from the clap definitions: said once.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgAction, Command};

/// Where the flags of a verb may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before or after the positional arguments.
    Any,
    /// Only before the first positional argument; what follows belongs to someone else (`exec ID ls -l`).
    FlagsFirst,
}

/// One command line, split.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The global flags, as `--flag` or `--flag=value`.
    pub global: Vec<OsString>,
    /// The verb.
    pub verb: Option<OsString>,
    /// The verb's own flags, as `--flag` or `--flag=value`.
    pub own: Vec<OsString>,
    /// The positional arguments after the verb.
    pub positionals: Vec<OsString>,
    /// `--help` was among the flags.
    pub help: bool,
    /// `--version` was among the global flags.
    pub version: bool,
    /// The first thing that is wrong; all else is still filled in as far as it can be understood.
    pub error: Option<String>,
    /// How many of the arguments are runb's own; those from here on belong to the command of an `exec`.
    pub own_length: usize,
}

/// What a word is.
enum Word<'a> {
    Flag { name: &'a str, value: Option<&'a OsStr> },
    Terminator,
    Positional,
}

fn classify(word: &OsStr) -> Word<'_> {
    let bytes = word.as_bytes();
    if bytes == b"--" {
        return Word::Terminator;
    }
    if bytes.len() < 2 || bytes[0] != b'-' {
        return Word::Positional;
    }
    let flag = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
    let (name, value) = match flag.iter().position(|&byte| byte == b'=') {
        Some(at) => (&flag[..at], Some(OsStr::from_bytes(&flag[at + 1..]))),
        None => (flag, None),
    };
    // A name that is not UTF-8 is no flag of ours; the empty name is refused like any unknown one.
    Word::Flag { name: std::str::from_utf8(name).unwrap_or(""), value }
}

/// The flag's long name and what it does with a value.
fn find<'a>(command: &'a Command, name: &str) -> Option<(&'a str, &'a ArgAction)> {
    let mut chars = name.chars();
    let short = chars.next().filter(|_| chars.next().is_none());
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(name) || (short.is_some() && arg.get_short() == short))?;
    Some((arg.get_long()?, arg.get_action()))
}

/// Go's strconv.ParseBool.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A list of flags under construction.
struct Flags<'a> {
    into: &'a mut Vec<OsString>,
}

impl Flags<'_> {
    /// Takes one flag; `next` is the word after it. Says whether that word was taken as its value.
    fn take(
        &mut self,
        (long, action): (&str, &ArgAction),
        value: Option<&OsStr>,
        next: Option<&OsString>,
    ) -> Result<bool, String> {
        if !action.takes_values() {
            let on = match value.map(|value| value.to_string_lossy()) {
                None => true,
                Some(text) => boolean(&text).ok_or_else(|| format!("invalid boolean value {text:?} for --{long}"))?,
            };
            self.forget(long);
            if on {
                self.into.push(format!("--{long}").into());
            }
            return Ok(false);
        }
        let (value, taken) = match (value, next) {
            (Some(value), _) => (value, false),
            (None, Some(next)) => (next.as_os_str(), true),
            (None, None) => return Err(format!("flag needs an argument: --{long}")),
        };
        if !matches!(action, ArgAction::Append) {
            self.forget(long);
        }
        if !value.is_empty() {
            let mut word = format!("--{long}=").into_bytes();
            word.extend_from_slice(value.as_bytes());
            self.into.push(OsString::from_vec(word));
        }
        Ok(taken)
    }

    fn forget(&mut self, long: &str) {
        self.into.retain(|word| {
            let rest = word.as_bytes().strip_prefix(b"--").and_then(|word| word.strip_prefix(long.as_bytes()));
            !matches!(rest, Some([] | [b'=', ..]))
        });
    }
}

/// Splits `argv` (without the program's name). `global` defines the global flags, `verb` the flags of a verb.
pub fn split(argv: &[OsString], global: &Command, verb: impl Fn(&OsStr) -> Option<(Command, Order)>) -> Words {
    let mut words = Words { own_length: argv.len(), ..Words::default() };
    let mut own: Option<(Command, Order)> = None;
    let mut flags_end = false;
    let mut at = 0;
    while let Some(word) = argv.get(at) {
        at += 1;
        match classify(word) {
            Word::Terminator if !flags_end => flags_end = own.is_some(),
            Word::Flag { name, value } if !flags_end => {
                let next = argv.get(at);
                let found = own.as_ref().and_then(|(command, _)| find(command, name));
                let result = match (found, find(global, name)) {
                    (Some(flag), _) => Flags { into: &mut words.own }.take(flag, value, next),
                    (None, Some(flag)) => Flags { into: &mut words.global }.take(flag, value, next),
                    (None, None) if matches!(name, "help" | "h") => {
                        words.help = true;
                        Ok(false)
                    }
                    (None, None) if own.is_none() && matches!(name, "version" | "v") => {
                        words.version = true;
                        Ok(false)
                    }
                    // The name alone: a value may be a secret (`-eTOKEN=…`).
                    (None, None) => Err(format!("flag provided but not defined: -{name}")),
                };
                match result {
                    Ok(taken) => at += usize::from(taken),
                    Err(error) => words.error = words.error.or(Some(error)),
                }
            }
            _ if words.verb.is_none() => {
                own = verb(word);
                words.verb = Some(word.clone());
                // The flags of a verb that is not known cannot be told from their values.
                flags_end = own.is_none();
            }
            _ => {
                words.positionals.push(word.clone());
                if matches!(own, Some((_, Order::FlagsFirst))) && words.positionals.len() == 1 {
                    flags_end = true;
                    words.own_length = if words.error.is_none() { at } else { argv.len() };
                }
            }
        }
    }
    words
}
