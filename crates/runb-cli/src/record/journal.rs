//! To journald, by its socket and in its native form (systemd's JOURNAL_NATIVE_PROTOCOL): a datagram of `NAME=value` lines.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::entry::{Entry, Event, Exit};
use super::quote::quote;
use super::text;

/// journald's socket.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Sends the end of a call. A journal that is not there, or has no room, gets nothing: nobody waits for it.
pub fn send(socket: &Path, entry: &Entry, argv: &[String]) {
    let Ok(own) = UnixDatagram::unbound() else { return };
    if own.set_nonblocking(true).is_ok() {
        let _ = own.send_to(&datagram(entry, argv), socket).ok();
    }
}

fn datagram(entry: &Entry, argv: &[String]) -> Vec<u8> {
    let Event::Exit(exit) = &entry.event else { return Vec::new() };
    let mut bytes = Vec::with_capacity(1024);
    let mut field = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            add(&mut bytes, name, value);
        }
    };
    field("MESSAGE", Some(&message(exit, argv)));
    // syslog(3): an error, or something informational.
    field("PRIORITY", Some(if exit.error.is_some() { "3" } else { "6" }));
    field("SYSLOG_IDENTIFIER", Some("runb"));
    field("RUNB_INVOCATION", Some(&entry.invocation));
    field("RUNB_VERB", exit.verb.as_deref());
    field("CONTAINER_ID_FULL", exit.container.as_deref());
    field("CONTAINER_NAME", exit.names.container.as_deref());
    field("RUNB_POD", exit.names.pod.as_deref());
    field("RUNB_POD_NAMESPACE", exit.names.namespace.as_deref());
    field("RUNB_SANDBOX", exit.names.sandbox.as_deref());
    field("RUNB_STATUS", Some(&exit.status.to_string()));
    field("RUNB_SECONDS", Some(&format!("{:.6}", exit.seconds)));
    field("RUNB_BUNDLE", exit.bundle.as_deref());
    field("RUNB_CONFIG", exit.config.as_deref());
    field("RUNB_CALLER", Some(&exit.caller.comm));
    field("RUNB_CALLER_PID", Some(&exit.caller.pid.to_string()));
    field("RUNB_CALLER_UNIT", exit.caller.unit.as_deref());
    field("RUNB_ERROR", exit.error.as_deref());
    if let Some(failure) = &exit.failure {
        field("RUNB_PLACE", failure.place.as_deref());
        field("RUNB_CALL", failure.call.as_deref());
        field("RUNB_ERRNO", failure.errno.as_deref());
    }
    field("RUNB_PHASES", (!exit.phases.is_empty()).then(|| text::phases(&exit.phases)).as_deref());
    for hook in &exit.hooks {
        field(
            "RUNB_HOOK",
            Some(&format!("{}[{}] {}: {} {}", hook.kind, hook.index, hook.path, hook.status, hook.output)),
        );
    }
    bytes
}

fn message(exit: &Exit, argv: &[String]) -> String {
    match &exit.error {
        Some(error) => {
            format!("{} {}: {error}", exit.verb.as_deref().unwrap_or("?"), exit.container.as_deref().unwrap_or(""))
        }
        None => argv.iter().map(|word| quote(word.as_bytes())).collect::<Vec<_>>().join(" "),
    }
}

/// A value of several lines has its length before it.
fn add(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::entry::{Caller, Failure, HookRun};

    fn entry() -> Entry {
        let exit = Exit {
            verb: Some("create".into()),
            container: Some("web1".into()),
            status: 1,
            error: Some("no".into()),
            failure: Some(Failure { errno: Some("ENOENT".into()), ..Failure::default() }),
            hooks: vec![HookRun { kind: "prestart".into(), output: "a\nb".into(), ..HookRun::default() }],
            caller: Caller { comm: "shim".into(), ..Caller::default() },
            ..Exit::default()
        };
        Entry { time: "t".into(), invocation: "1-1".into(), event: Event::Exit(exit) }
    }

    #[test]
    fn the_fields_are_the_journals_own_and_what_has_lines_has_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let journal = UnixDatagram::bind(&socket).unwrap();
        send(&socket, &entry(), &["create".into(), "web1".into()]);
        let mut bytes = vec![0; 65536];
        let length = journal.recv(&mut bytes).unwrap();
        let bytes = &bytes[..length];
        for line in [
            "MESSAGE=create web1: no",
            "PRIORITY=3",
            "RUNB_VERB=create",
            "CONTAINER_ID_FULL=web1",
            "RUNB_ERRNO=ENOENT",
            "RUNB_CALLER=shim",
        ] {
            assert!(memchr::memmem::find(bytes, format!("{line}\n").as_bytes()).is_some(), "{line}");
        }
        let hook = b"RUNB_HOOK\n";
        let at = memchr::memmem::find(bytes, hook).unwrap() + hook.len();
        let value = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(&bytes[at + 8..at + 8 + value], b"prestart[0] :  a\nb");
        assert_eq!(bytes[at + 8 + value], b'\n');
    }

    #[test]
    fn no_journal_is_no_matter() {
        send(Path::new("/no/such/socket"), &entry(), &[]);
    }
}
