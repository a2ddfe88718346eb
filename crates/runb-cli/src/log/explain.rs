//! Why a call failed: what is on record of it, the field of the configuration that it is about, and what to look at.

use std::fmt::Write;

use super::calls::{Call, Outcome};
use super::config;
use super::table::{BOLD, GREY, Look, RED, container_name, short_time};
use crate::cmd::Context;
use crate::record::entry::{Exit, Failure};
use crate::record::quote::{one_line, quote};

/// The most lines of a field that are shown.
const FIELD: usize = 24;

/// The explanation of the last call that failed.
pub fn text(calls: &[Call], context: &Context<'_>, look: Look) -> String {
    let is_bad = |call: &&Call| matches!(call.outcome(), Outcome::Failed | Outcome::Killed);
    // That an engine asks for a container which is gone follows from what failed before.
    let of_weight = |call: &&Call| !matches!(call.verb(), "state" | "kill" | "delete" | "list" | "log");
    let bad = || calls.iter().rev().filter(is_bad);
    let signalled = || calls.iter().rev().find(|call| signal(call).is_some());
    let Some(call) = bad().find(of_weight).or_else(signalled).or_else(|| bad().next()) else {
        return nothing_failed(calls, look);
    };
    let mut text = String::new();
    head(&mut text, call, look);
    let config = config::of(call, context);
    if let Some((_, exit)) = &call.exit {
        error(&mut text, exit, config.as_ref().map(|config| config.text.as_slice()), look);
        hooks(&mut text, exit, look);
    }
    if !call.debug.is_empty() {
        section(&mut text, "What was done before", look);
        for (time, line) in &call.debug {
            let _ = writeln!(text, "  {}  {}", look.paint(GREY, time.get(11..26).unwrap_or(time)), one_line(line));
        }
    }
    section(&mut text, "What to look at", look);
    for advice in advice(call) {
        let _ = writeln!(text, "  - {advice}");
    }
    text
}

/// What there is to say where runb did all that it was asked for.
fn nothing_failed(calls: &[Call], look: Look) -> String {
    let container = calls.iter().map(container_name).max_by_key(String::len).unwrap_or_default();
    let title = format!(
        "None of the {} calls for {container} failed: if something is wrong, it is the workload that ended",
        calls.len()
    );
    let mut text = look.paint(BOLD, &title) + "\n";
    for call in calls.iter().filter(|call| !matches!(call.verb(), "state" | "list")) {
        let took = call.seconds().map_or_else(|| "running".to_owned(), |seconds| format!("{:.1} ms", seconds * 1e3));
        let _ = writeln!(text, "  {}  {:<8} {took}", short_time(&call.time), one_line(call.verb()));
    }
    let bundle = calls.iter().find_map(|call| call.exit.as_ref()?.1.bundle.as_deref()).unwrap_or("BUNDLE");
    section(&mut text, "What to look at", look);
    let _ = writeln!(
        text,
        "  - Its own output, and its exit status, which the engine knows: 128 and a signal's number, or its own."
    );
    let _ = writeln!(
        text,
        "  - Status 159 (SIGSYS), or an end without a word: a seccomp profile kills it. runb seccomp --bundle {bundle} execve \
         (and other calls) says what the filter answers; journalctl -k | grep -i seccomp names the call."
    );
    let _ = writeln!(
        text,
        "  - Status 137 (SIGKILL): somebody killed it, or the out-of-memory killer; journalctl -k, memory.events."
    );
    text
}

fn section(text: &mut String, title: &str, look: Look) {
    let _ = writeln!(text, "\n{}", look.paint(BOLD, title));
}

fn head(text: &mut String, call: &Call, look: Look) {
    let what = match (call.outcome(), call.seconds()) {
        (Outcome::Killed, _) => "was killed before its end".to_owned(),
        (Outcome::Done, Some(seconds)) => {
            format!("ended after {seconds:.3} s by a signal: {}", signal(call).unwrap_or_default())
        }
        (_, seconds) => format!("failed after {:.1} ms", seconds.unwrap_or(0.0) * 1e3),
    };
    let title = format!("{} {} {what}, {} UTC", one_line(call.verb()), container_name(call), short_time(&call.time));
    let _ = writeln!(text, "{}", look.paint(BOLD, &title));
    let words: Vec<String> = call.argv.iter().map(|word| quote(word.as_bytes())).collect();
    if !words.is_empty() {
        let _ = writeln!(text, "  runb {}", words.join(" "));
    }
    if let Some(cwd) = &call.cwd {
        let _ = writeln!(text, "  in {}", one_line(cwd));
    }
    if let Some((_, Exit { caller, bundle, .. })) = &call.exit {
        let parent =
            caller.parent.as_ref().map(|parent| format!(", of {} ({})", parent.comm, parent.pid)).unwrap_or_default();
        let unit = caller.unit.as_ref().map(|unit| format!(", in {unit}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  called by {} ({}){}{}",
            one_line(&caller.comm),
            caller.pid,
            one_line(&parent),
            one_line(&unit)
        );
        if let Some(bundle) = bundle {
            let _ = writeln!(text, "  bundle {}", one_line(bundle));
        }
    }
}

fn error(text: &mut String, exit: &Exit, config: Option<&[u8]>, look: Look) {
    let Some(error) = &exit.error else { return };
    section(text, "What went wrong", look);
    let _ = writeln!(text, "  {}", look.paint(RED, &one_line(error)));
    let Failure { place, call, index, errno } = exit.failure.clone().unwrap_or_default();
    if let Some(call) = call {
        let of_init =
            index.map_or_else(|| "of the runtime".to_owned(), |index| format!("{index} of init (runb plan --calls)"));
        let _ = writeln!(text, "  call {of_init}: {}", one_line(&call));
    }
    if let Some(errno) = errno {
        let _ = writeln!(text, "  errno {errno}");
    }
    let Some(place) = place else { return };
    let _ = writeln!(text, "  place {}", one_line(&place));
    let field = config.and_then(|config| config::field(config, &place));
    match (field, config) {
        (Some(field), _) => {
            let _ = writeln!(text, "  which says");
            for line in field.lines().take(FIELD) {
                let _ = writeln!(text, "    {line}");
            }
            if field.lines().count() > FIELD {
                let _ = writeln!(text, "    …");
            }
        }
        (None, None) if !place.starts_with("options.") => {
            let _ = writeln!(text, "  (its config.json is not to be had any more)");
        }
        _ => {}
    }
}

fn hooks(text: &mut String, exit: &Exit, look: Look) {
    if exit.hooks.is_empty() {
        return;
    }
    section(text, "Hooks", look);
    for hook in &exit.hooks {
        let _ = writeln!(
            text,
            "  {}[{}] {}: {} after {:.1} ms",
            one_line(&hook.kind),
            hook.index,
            one_line(&hook.path),
            one_line(&hook.status),
            hook.seconds * 1e3
        );
        for line in hook.output.lines() {
            let _ = writeln!(text, "    {}", one_line(line));
        }
    }
}

/// The signal that ended the workload of a call that waited for it.
fn signal(call: &Call) -> Option<&'static str> {
    let (_, exit) = call.exit.as_ref()?;
    let waits = matches!(call.verb(), "run" | "exec") && exit.error.is_none();
    match exit.status {
        159 if waits => Some("SIGSYS"),
        137 if waits => Some("SIGKILL"),
        139 if waits => Some("SIGSEGV"),
        134 if waits => Some("SIGABRT"),
        _ => None,
    }
}

/// What helps, by the place, the errno, and the words of an error.
fn advice(call: &Call) -> Vec<String> {
    let mut advice = Vec::new();
    let exit = call.exit.as_ref().map(|(_, exit)| exit);
    let error = exit.and_then(|exit| exit.error.as_deref()).unwrap_or_default();
    let failure = exit.and_then(|exit| exit.failure.clone()).unwrap_or_default();
    let (place, errno) = (failure.place.as_deref().unwrap_or_default(), failure.errno.as_deref().unwrap_or_default());
    let bundle = exit.and_then(|exit| exit.bundle.as_deref()).unwrap_or("BUNDLE");
    let mut say = |when: bool, text: &str| {
        if when {
            advice.push(text.replace("BUNDLE", bundle));
        }
    };
    let killed = call.outcome() == Outcome::Killed;
    say(
        killed,
        "Who ended it: journalctl -k (the out-of-memory killer), or the engine's own timeout in its log at this time.",
    );
    say(killed, "What it has left is taken back by: runb delete --force ID.");
    let command = place.starts_with("process.args");
    say(
        command && errno == "ENOENT",
        "Is the file in the root filesystem, and its folder in PATH of process.env? ls -l BUNDLE/rootfs/…",
    );
    say(
        command && errno == "ENOENT",
        "A script's first line (#!) names an interpreter, and a program a loader, that must be there, too.",
    );
    say(
        command && errno == "EACCES",
        "Has it the right to execute (chmod +x), for process.user, and is it on no mount with noexec?",
    );
    say(
        command && errno == "ENOEXEC",
        "Is it made for this machine (file BUNDLE/rootfs/…; uname -m), and has a script a first line with #!?",
    );
    say(place.starts_with("process.cwd"), "process.cwd must be a folder that process.user may enter.");
    let mount = place.starts_with("mounts[");
    say(
        mount && errno == "ENOENT",
        "Is the mount's source there, as the runtime sees it? A source that an engine makes may have gone in the meantime.",
    );
    say(
        mount && (errno == "ENOTDIR" || error.contains("is not a directory")),
        "A file cannot be mounted over a folder, nor a folder over a file: compare source and destination.",
    );
    say(mount && errno == "ENODEV", "This kernel does not know the type of filesystem: /proc/filesystems, modprobe.");
    say(
        mount && errno == "EINVAL" && !error.contains("is not a directory"),
        "Are the options those of this filesystem? The kernel's own words are in the error, or in: dmesg.",
    );
    say(
        mount && matches!(errno, "EPERM" | "EACCES"),
        "In a user namespace some mounts are not permitted; else ask the security module: dmesg | grep -i -e apparmor -e avc.",
    );
    say(
        mount && errno == "ELOOP",
        "A link in the image stands in the way of the destination, and links are not followed out of it.",
    );
    let hook = place.starts_with("hooks.") || error.contains("hooks.");
    say(
        hook,
        "The hook's own words are above. Run it by hand, with the container's state on its stdin (runb state ID).",
    );
    say(hook && error.contains("timeout"), "It took longer than its timeout in config.json allows.");
    say(hook && errno == "ENOENT", "Is the hook's file there? Hooks but startContainer are files of the host.");
    let above = place == "linux.cgroupsPath" && error.contains("out of memory");
    let memory = error.contains("out of memory") || place.contains("resources.memory");
    say(above, "The limit is that of the engine's parent cgroup (a pod's, a slice's), for all that are below it.");
    say(
        memory && !above,
        "linux.resources.memory.limit is too small for what was to be started; the peak is in the error. journalctl -k has the kernel's report.",
    );
    let sigsys = error.contains("SIGSYS") || signal(call) == Some("SIGSYS") || place.starts_with("linux.seccomp");
    let silent = error.contains("init was killed before it started") || error.contains("init has ended before");
    say(
        sigsys || silent,
        "A seccomp profile may end it: runb seccomp --bundle BUNDLE execve (and other calls) says what the filter answers; journalctl -k | grep -i seccomp names the call.",
    );
    say(
        silent || signal(call) == Some("SIGKILL"),
        "Somebody may have killed it, or the out-of-memory killer: journalctl -k; memory.events of its cgroup.",
    );
    say(
        matches!(signal(call), Some("SIGSEGV" | "SIGABRT")),
        "The workload itself failed: its own output, and coredumpctl.",
    );
    let cgroup =
        error.contains("cgroup") || place.starts_with("linux.resources") || place.starts_with("linux.cgroupsPath");
    say(
        cgroup && !memory,
        "What works on this machine: runb features --host. Which cgroups and values are planned: runb plan --bundle BUNDLE.",
    );
    say(error.contains("systemd"), "What systemd says: systemctl status UNIT; journalctl -u UNIT.");
    say(
        error.contains("does not exist") && !hook && !mount && !command,
        "Was it removed before, or is it in another --root? runb log ID lists its calls.",
    );
    say(
        error.contains("already exists") || error.contains("in use"),
        "The id, or its cgroup, is another container's: runb list, for each --root.",
    );
    say(
        place.starts_with("linux.namespaces"),
        "A namespace to be joined must still be there: ls -l PATH; its owner may have ended.",
    );
    say(
        error.contains("apparmor") || place.contains("apparmor"),
        "Is the profile loaded? aa-status; apparmor_parser -r FILE.",
    );
    say(place.starts_with("options."), "It is an argument of the engine's call, not the configuration.");
    say(
        error.contains("config.json") && place.is_empty(),
        "Is config.json what the engine wrote, and whole? runb plan --bundle BUNDLE says what is wrong in it.",
    );
    say(
        matches!(errno, "ENOSPC" | "EMFILE" | "ENFILE" | "EAGAIN" | "ENOMEM"),
        "A limit of the machine is reached: df -i, sysctl user, pids.max of the cgroups above, free.",
    );
    if advice.is_empty() {
        advice.push(format!("What create would do, call by call: runb plan --calls --bundle {bundle}."));
    }
    advice.push("The same by hand: runb log replay ID; with every call: strace -f.".to_owned());
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error: &str, failure: Failure) -> Call {
        let exit =
            Exit { verb: Some("create".into()), error: Some(error.into()), failure: Some(failure), ..Exit::default() };
        Call { invocation: "1-1".into(), exit: Some((String::new(), exit)), ..Call::default() }
    }

    #[test]
    fn each_kind_of_failure_has_its_own_advice() {
        let of = |place: &str, errno: &str, error: &str| {
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            advice(&failed(error, Failure { place: text(place), errno: text(errno), ..Failure::default() }))[0].clone()
        };
        let cases = [
            (of("process.args[0]", "ENOENT", "x"), "root filesystem"),
            (of("mounts[3] (/data)", "ENOENT", "x"), "source"),
            (of("hooks.createRuntime[0] (/bin/x)", "", "exit status 7"), "own words"),
            (of("linux.resources.memory.limit", "", "init was killed, out of memory"), "too small"),
            (of("", "", "init was killed by signal 31 (SIGSYS)"), "seccomp"),
        ];
        for (advice, word) in cases {
            assert!(advice.contains(word), "{word}: {advice}");
        }
    }

    #[test]
    fn what_nobody_knows_is_answered_by_the_plan() {
        let advice = advice(&failed("strange", Failure::default()));
        assert!(advice[0].contains("runb plan --calls"), "{advice:?}");
    }
}
