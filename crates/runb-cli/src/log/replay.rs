//! A shell script that repeats what an engine did with a container, by hand and beside it: with a state folder, a bundle and output files
//! of its own, so that nothing of the engine's is touched.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::calls::Call;
use super::config::{self, Config};
use super::table::short_time;
use crate::cmd::Context;
use crate::record::quote::{one_line, quote};

/// What becomes of a flag's value.
enum Role {
    /// A file or folder of the engine's: the script has one of its own.
    Own(&'static str),
    /// Somebody must listen there: it is left out, with what it would need.
    Listener,
    /// It stays.
    Stays,
}

fn role(flag: &str) -> Option<Role> {
    Some(match flag.trim_start_matches('-') {
        "root" => Role::Own("root"),
        "log" => Role::Own("log.json"),
        "pid-file" => Role::Own("init.pid"),
        "bundle" | "b" => Role::Own("bundle"),
        "invocation-log" => Role::Own("runb.log"),
        "console-socket" | "pidfd-socket" => Role::Listener,
        "log-format"
        | "process"
        | "p"
        | "criu"
        | "rootless"
        | "preserve-fds"
        | "invocation-log-format"
        | "cwd"
        | "user"
        | "u"
        | "resources"
        | "r"
        | "format"
        | "f"
        | "env"
        | "e"
        | "cap"
        | "c"
        | "cgroup"
        | "additional-gids"
        | "g" => Role::Stays,
        _ => return None,
    })
}

/// The script.
///
/// # Errors
/// None of the calls has its arguments on record.
pub fn script(calls: &[Call], context: &Context<'_>) -> Result<String> {
    let mut text = String::from("#!/bin/sh\n");
    let id = calls.iter().find_map(Call::container).unwrap_or("?");
    let _ = writeln!(
        text,
        "# Repeats the calls for the container {} by hand; needs root, and runc's or runb's command line.",
        one_line(id)
    );
    text += "# State, bundle and output files are the script's own. A cgroupsPath, network namespaces and volumes are those of the\n\
             # configuration: what still uses them is in the way.\n";
    text += "RUNB=${RUNB:-runb}\nWORK=$(mktemp -d /tmp/runb-replay.XXXXXX)\nmkdir -p \"$WORK/bundle\" \"$WORK/root\"\necho \"in $WORK\"\n\n";
    bundle(&mut text, calls, context);
    for call in calls {
        of_call(&mut text, call);
    }
    Ok(text)
}

/// Writes the bundle.
fn bundle(text: &mut String, calls: &[Call], context: &Context<'_>) {
    let Some((call, config)) = calls.iter().find_map(|call| Some((call, config::of(call, context)?))) else {
        *text += "# The configuration is not to be had any more (keep-configs in runb.toml keeps it): put it here.\n: \"${CONFIG:?is the path of a config.json}\"\ncp \"$CONFIG\" \"$WORK/bundle/config.json\"\n\n";
        return;
    };
    let Config { text: json, from, whole } = config;
    let _ = writeln!(text, "# As it was, from {}.", from.display());
    if !whole {
        *text += "# The values of variables are not kept: fill them in where it says NAME=….\n";
    }
    let bundle = call.exit.as_ref().and_then(|(_, exit)| exit.bundle.clone()).unwrap_or_default();
    let (json, moved) = with_absolute_root(&json, &bundle);
    if let Some(root) = moved {
        let _ = writeln!(
            text,
            "# root.path is written from /: the root filesystem stays where it was, in {}.",
            one_line(&root)
        );
    }
    // No line of JSON is the mark: it is no JSON.
    let _ = writeln!(text, "cat >\"$WORK/bundle/config.json\" <<'END-OF-CONFIG'\n{}\nEND-OF-CONFIG\n", json.trim_end());
}

/// The configuration with a root filesystem that is found from anywhere.
fn with_absolute_root(json: &[u8], bundle: &str) -> (String, Option<String>) {
    let text = String::from_utf8_lossy(json).into_owned();
    let Ok(mut value) = serde_json::from_slice::<Value>(json) else { return (text, None) };
    let Some(path) = value.pointer("/root/path").and_then(Value::as_str) else { return (text, None) };
    if path.starts_with('/') {
        return (text, None);
    }
    let root = Path::new(bundle).join(path).display().to_string();
    value["root"]["path"] = root.clone().into();
    (serde_json::to_string_pretty(&value).unwrap_or(text), Some(root))
}

fn of_call(text: &mut String, call: &Call) {
    let result = match (call.error(), call.seconds()) {
        (Some(error), _) => format!("failed: {}", one_line(error)),
        (None, Some(seconds)) => format!("took {:.1} ms", seconds * 1e3),
        (None, None) => "did not end".to_owned(),
    };
    let _ = writeln!(text, "# {} {}", short_time(&call.time), result);
    if call.argv.is_empty() || call.cut > 0 {
        let _ = writeln!(text, "# {}: not all of its arguments are on record\n", one_line(call.verb()));
        return;
    }
    let (words, notes) = words(call);
    for note in notes {
        let _ = writeln!(text, "# {note}");
    }
    let _ = writeln!(text, "\"$RUNB\" {words}\n");
}

/// The arguments as they are called again, and what is to be known of them.
fn words(call: &Call) -> (String, Vec<String>) {
    let mut words = Vec::new();
    let mut notes = Vec::new();
    let mut argv = call.argv.iter().peekable();
    let verb = call.verb();
    let mut of_workload = false;
    let mut behind_verb = 0;
    while let Some(word) = argv.next() {
        // What is behind the id of an exec is the workload's.
        if !word.starts_with('-') {
            behind_verb += usize::from(word == verb || behind_verb > 0);
            of_workload |= verb == "exec" && behind_verb > 2;
        }
        let (flag, value) = word.split_once('=').map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)));
        let role = if of_workload || !word.starts_with('-') { None } else { role(flag) };
        let Some(role) = role else {
            words.push(quote(word.as_bytes()));
            continue;
        };
        let value = value.map(str::to_owned).or_else(|| argv.next().cloned()).unwrap_or_default();
        match role {
            Role::Own(name) => words.push(format!("{flag} \"$WORK/{name}\"")),
            Role::Listener => {
                notes.push(format!("{flag} {}: somebody must listen there; left out", quote(value.as_bytes())))
            }
            Role::Stays => {
                if value.ends_with("=…") {
                    notes.push("the value of a variable is not on record".to_owned());
                }
                let is_process = matches!(flag, "--process" | "-p" | "-process");
                if is_process && !Path::new(&value).exists() {
                    notes.push(format!("{value} is gone"));
                    if let Some(process) = call.exit.as_ref().and_then(|(_, exit)| exit.process.as_ref()) {
                        let process: Vec<String> = process.iter().map(|word| quote(word.as_bytes())).collect();
                        notes.push(format!("its process was: {}", process.join(" ")));
                    }
                }
                words.push(format!("{flag} {}", quote(value.as_bytes())));
            }
        }
    }
    (words.join(" "), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(argv: &[&str]) -> Call {
        Call { invocation: "4194304-1".into(), argv: argv.iter().map(ToString::to_string).collect(), ..Call::default() }
    }

    #[test]
    fn files_of_the_engine_become_the_scripts_own() {
        let (text, notes) = words(&call(&[
            "--root",
            "/run/runc",
            "--log=/b/log.json",
            "--log-format",
            "json",
            "create",
            "--bundle",
            "/b",
            "--pid-file",
            "/b/init.pid",
            "--console-socket",
            "/tmp/pty.sock",
            "web1",
        ]));
        assert_eq!(
            text,
            "--root \"$WORK/root\" --log \"$WORK/log.json\" --log-format json create --bundle \"$WORK/bundle\" --pid-file \
             \"$WORK/init.pid\" web1"
        );
        assert_eq!(notes, ["--console-socket /tmp/pty.sock: somebody must listen there; left out"]);
    }

    #[test]
    fn the_workloads_own_arguments_stay_whatever_they_look_like() {
        let (text, _) = words(&call(&["exec", "web1", "sh", "-c", "a b", "--root", "x"]));
        assert_eq!(text, "exec web1 sh -c 'a b' --root x");
    }

    #[test]
    fn a_relative_root_filesystem_is_written_from_the_root_and_an_absolute_one_stays() {
        let (text, moved) = with_absolute_root(br#"{"root":{"path":"rootfs"}}"#, "/b");
        assert!(text.contains("\"/b/rootfs\"") && moved.as_deref() == Some("/b/rootfs"));
        let as_it_was = "{ \"root\": {\"path\":\"/r\"}}";
        assert_eq!(with_absolute_root(as_it_was.as_bytes(), "/b"), (as_it_was.to_owned(), None));
    }
}
