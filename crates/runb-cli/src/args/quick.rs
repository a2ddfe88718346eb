//! The command lines that engines write for the verbs of a container's life, read without a parser of all that there is: to build that
//! takes a tenth of a `state`. A line that is not plain (a flag that is abbreviated or unknown, an empty value, a number that is none) is left to
//! clap, which has the definitions, the help and the errors; what is read here is the same, as the tests see for each flag.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::{Create, Delete, Exec, Format, Global, Id, Kill, Parsed, Request, Run, Verb};

/// What a flag does to the arguments that it is one of. A value that is not plain is none.
enum Flag<T> {
    Switch(fn(&mut T)),
    Value(fn(&mut T, &OsStr) -> Option<()>),
}

use Flag::{Switch, Value};

/// The arguments of a verb.
trait Arguments: Default {
    /// Whether its flags end with the first word that is none.
    const FLAGS_FIRST: bool = false;

    /// By the name, without dashes.
    fn flag(name: &str) -> Option<Flag<Self>>;

    /// Takes the words that are no flags, of which the first is the id.
    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb>;
}

fn path(to: &mut Option<PathBuf>, value: &OsStr) -> Option<()> {
    *to = Some(PathBuf::from(value));
    Some(())
}

fn text(to: &mut Option<String>, value: &OsStr) -> Option<()> {
    *to = Some(value.to_str()?.to_owned());
    Some(())
}

fn number(to: &mut u32, value: &OsStr) -> Option<()> {
    let digits = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    *to = digits.parse().ok()?;
    Some(())
}

fn format(value: &OsStr) -> Option<Format> {
    match value.to_str()? {
        "json" => Some(Format::Json),
        "text" => Some(Format::Text),
        _ => None,
    }
}

fn global(name: &str) -> Option<Flag<Global>> {
    Some(match name {
        "root" => Value(|global, value| path(&mut global.root, value)),
        "log" => Value(|global, value| path(&mut global.log, value)),
        "log-format" => Value(|global, value| format(value).map(|format| global.log_format = format)),
        "debug" => Switch(|global| global.debug = true),
        "systemd-cgroup" => Switch(|global| global.systemd_cgroup = true),
        "invocation-log" => Value(|global, value| path(&mut global.invocation_log, value)),
        "no-invocation-log" => Switch(|global| global.no_invocation_log = true),
        _ => return None,
    })
}

impl Arguments for Id {
    fn flag(_: &str) -> Option<Flag<Self>> {
        None
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        // Which one it is the caller knows.
        rest.is_empty().then_some(Verb::State(Id { id }))
    }
}

impl Arguments for Kill {
    fn flag(name: &str) -> Option<Flag<Self>> {
        matches!(name, "all" | "a").then_some(Switch(|kill| kill.all = true))
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        let signal = match rest {
            [] => "SIGTERM",
            [signal] => signal.to_str()?,
            _ => return None,
        };
        Some(Verb::Kill(Kill { id, signal: signal.to_owned(), ..self }))
    }
}

impl Arguments for Delete {
    fn flag(name: &str) -> Option<Flag<Self>> {
        matches!(name, "force" | "f").then_some(Switch(|delete| delete.force = true))
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        rest.is_empty().then_some(Verb::Delete(Delete { id, ..self }))
    }
}

impl Arguments for Create {
    fn flag(name: &str) -> Option<Flag<Self>> {
        Some(match name {
            "bundle" | "b" => Value(|create, value| path(&mut create.bundle, value)),
            "console-socket" => Value(|create, value| path(&mut create.console_socket, value)),
            "pidfd-socket" => Value(|create, value| path(&mut create.pidfd_socket, value)),
            "pid-file" => Value(|create, value| path(&mut create.pid_file, value)),
            "no-pivot" => Switch(|create| create.no_pivot = true),
            "no-new-keyring" => Switch(|create| create.no_new_keyring = true),
            "preserve-fds" => Value(|create, value| number(&mut create.preserve_fds, value)),
            _ => return None,
        })
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        rest.is_empty().then_some(Verb::Create(Create { id, ..self }))
    }
}

impl Arguments for Run {
    fn flag(name: &str) -> Option<Flag<Self>> {
        Some(match name {
            "bundle" | "b" => Value(|run, value| path(&mut run.create.bundle, value)),
            "console-socket" => Value(|run, value| path(&mut run.create.console_socket, value)),
            "pid-file" => Value(|run, value| path(&mut run.create.pid_file, value)),
            "no-pivot" => Switch(|run| run.create.no_pivot = true),
            "no-new-keyring" => Switch(|run| run.create.no_new_keyring = true),
            "preserve-fds" => Value(|run, value| number(&mut run.create.preserve_fds, value)),
            "detach" | "d" => Switch(|run| run.detach = true),
            "keep" => Switch(|run| run.keep = true),
            _ => return None,
        })
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        rest.is_empty().then_some(Verb::Run(Run { create: Create { id, ..self.create }, ..self }))
    }
}

impl Arguments for Exec {
    const FLAGS_FIRST: bool = true;

    fn flag(name: &str) -> Option<Flag<Self>> {
        Some(match name {
            "console-socket" => Value(|exec, value| path(&mut exec.console_socket, value)),
            "process" | "p" => Value(|exec, value| path(&mut exec.process, value)),
            "pid-file" => Value(|exec, value| path(&mut exec.pid_file, value)),
            "cwd" => Value(|exec, value| path(&mut exec.cwd, value)),
            "user" | "u" => Value(|exec, value| text(&mut exec.user, value)),
            "preserve-fds" => Value(|exec, value| number(&mut exec.preserve_fds, value)),
            "env" | "e" => Value(|exec, value| {
                exec.env.push(value.to_owned());
                Some(())
            }),
            "detach" | "d" => Switch(|exec| exec.detach = true),
            "tty" | "t" => Switch(|exec| exec.tty = true),
            _ => return None,
        })
    }

    fn complete(self, id: String, rest: &[OsString]) -> Option<Verb> {
        Some(Verb::Exec(Exec { id, command: rest.to_vec(), ..self }))
    }
}

/// A flag's name and the value that it has in the same word; `Err` is a word that is no flag.
fn split(word: &OsStr) -> Option<Result<(&str, Option<&OsStr>), ()>> {
    let bytes = word.as_encoded_bytes();
    if bytes.len() < 2 || bytes[0] != b'-' {
        return Some(Err(()));
    }
    let word = word.to_str()?;
    let flag = word.strip_prefix("--").unwrap_or(&word[1..]);
    Some(Ok(match flag.split_once('=') {
        Some((name, value)) => (name, Some(OsStr::new(value))),
        None => (flag, None),
    }))
}

/// Does what a flag does. Says whether the word after it was its value.
fn take<T>(flag: Flag<T>, to: &mut T, value: Option<&OsStr>, next: Option<&OsString>) -> Option<bool> {
    match (flag, value) {
        (Switch(set), None) => {
            set(to);
            Some(false)
        }
        (Switch(_), Some(_)) => None,
        (Value(set), value) => {
            let given = value.or(next.map(OsString::as_os_str)).filter(|value| !value.is_empty())?;
            set(to, given)?;
            Some(value.is_none())
        }
    }
}

/// Reads what comes after the verb, which is the word before `at`.
fn verb<T: Arguments>(argv: &[OsString], mut at: usize, mut globals: Global) -> Option<Parsed> {
    let name = argv[at - 1].to_str()?;
    let (mut arguments, mut rest) = (T::default(), Vec::new());
    let mut own_length = argv.len();
    while let Some(word) = argv.get(at) {
        at += 1;
        match split(word)? {
            Ok((name, value)) => {
                let taken = match T::flag(name) {
                    Some(flag) => take(flag, &mut arguments, value, argv.get(at))?,
                    None => take(global(name)?, &mut globals, value, argv.get(at))?,
                };
                at += usize::from(taken);
            }
            Err(()) => {
                rest.push(word.clone());
                if T::FLAGS_FIRST {
                    own_length = at;
                    rest.extend_from_slice(&argv[at..]);
                    break;
                }
            }
        }
    }
    let (id, rest) = rest.split_first()?;
    let id = id.to_str()?.to_owned();
    let verb = match (arguments.complete(id.clone(), rest)?, name) {
        (Verb::State(id), "start") => Verb::Start(id),
        (Verb::State(id), "pause") => Verb::Pause(id),
        (Verb::State(id), "resume") => Verb::Resume(id),
        (verb, _) => verb,
    };
    let request = Ok(Request::Verb(Box::new(verb)));
    Some(Parsed { global: globals, verb: Some(name.to_owned()), id: Some(id), own_length, request })
}

/// Reads a plain line of one of these verbs; none else.
pub fn parse(argv: &[OsString]) -> Option<Parsed> {
    // What follows it is no flag, whatever it looks like.
    if argv.iter().any(|word| word == "--") {
        return None;
    }
    let (mut globals, mut at) = (Global::default(), 0);
    while let Some(word) = argv.get(at) {
        at += 1;
        let Ok((name, value)) = split(word)? else {
            let read = match word.to_str()? {
                "state" | "start" | "pause" | "resume" => verb::<Id>,
                "kill" => verb::<Kill>,
                "delete" => verb::<Delete>,
                "create" => verb::<Create>,
                "run" => verb::<Run>,
                "exec" => verb::<Exec>,
                _ => return None,
            };
            return read(argv, at, globals);
        };
        at += usize::from(take(global(name)?, &mut globals, value, argv.get(at))?);
    }
    None
}
