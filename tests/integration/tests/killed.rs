//! A runtime that is killed before any of its system calls, and one whose calls fail: the container is whole or gone, and
//! `delete --force` takes away what is left.
//!
//! Each verb that changes something is killed, for containers with and without a user namespace and hooks ([`Has`]). Of its
//! calls those count that others can see (`Traced::touches`). Of those [`KILLS`] are taken by a fixed seed, which is another
//! one for each verb, kind and cgroup mode; of the calls that fail, [`ERRORS`], each with one of [`ERRNOS`].
//! `RUNB_TESTS_ALL=1` takes all of them with each errno, and `RUNB_TESTS_ALL=calls` those that do not count as well.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use runb_tests::*;

/// Before how many of its calls a verb is killed.
const KILLS: usize = 5;
/// How many of a create's calls fail.
const ERRORS: usize = 40;
/// What failing calls answer.
const ERRNOS: [&str; 6] = ["EIO", "ENOMEM", "EACCES", "EINTR", "ENOSYS", "ENOSPC"];
/// Calls that are not made to fail: without memory nothing goes on, the standard library panics without random numbers, and
/// the others cannot fail.
const UNFAILING: [&str; 10] =
    ["arch_prctl", "execve", "getrandom", "brk", "mmap", "munmap", "mremap", "mprotect", "exit_group", "rt_sigreturn"];

/// A verb that is killed, and what may stand then.
struct Verb {
    name: &'static str,
    from: Standing,
    words: &'static [&'static str],
    then: &'static [Standing],
}

use Standing::{Created, Nowhere, Running, Stopped};

const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        from: Nowhere,
        words: &["create", "--bundle", "BUNDLE", "ID"],
        then: &[Nowhere, Stopped, Created],
    },
    Verb {
        name: "run -d",
        from: Nowhere,
        words: &["run", "--detach", "--bundle", "BUNDLE", "ID"],
        then: &[Nowhere, Stopped, Running],
    },
    Verb { name: "start", from: Created, words: &["start", "ID"], then: &[Created, Running] },
    Verb { name: "exec", from: Running, words: &["exec", "ID", "true"], then: &[Running] },
    Verb { name: "delete", from: Created, words: &["delete", "ID"], then: &[Created, Stopped, Nowhere] },
    Verb {
        name: "delete --force",
        from: Running,
        words: &["delete", "--force", "ID"],
        then: &[Running, Stopped, Nowhere],
    },
];

/// What a container has.
#[derive(Clone, Copy, Debug)]
enum Has {
    Plain,
    UserNamespace,
    Hooks,
    UserNamespaceAndHooks,
}

const KINDS: [Has; 4] = [Has::Plain, Has::UserNamespace, Has::Hooks, Has::UserNamespaceAndHooks];

fn bundle(t: &Test, kind: Has) -> Bundle<'_> {
    let bundle = t.bundle().idle();
    match kind {
        Has::Plain => bundle,
        Has::UserNamespace => with_user_namespace(bundle),
        Has::Hooks => with_hooks(bundle),
        Has::UserNamespaceAndHooks => with_hooks(with_user_namespace(bundle)),
    }
}

fn with_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

/// One of each kind.
fn with_hooks(bundle: Bundle<'_>) -> Bundle<'_> {
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    kinds.into_iter().fold(bundle, |bundle, kind| bundle.hook(kind, json!({"path": "/bin/true"})))
}

fn command(place: &Place<'_>, verb: &Verb) -> Command {
    let dir = place.bundle.dir().to_string_lossy();
    place.t.command(verb.words.iter().map(|word| match *word {
        "BUNDLE" => &dir,
        "ID" => place.bundle.id(),
        word => word,
    }))
}

/// Kills the verb before its call number `moment`.
fn kill(place: &Place<'_>, verb: &Verb, moment: usize) -> Result<(), String> {
    place.set_up(verb.from);
    let mut traced = place.trace(&command(place, verb));
    if let Some(code) = traced.step_to(moment) {
        traced.ended(code).ok();
        return Ok(());
    }
    traced.kill();
    let _ = fs::remove_file(place.t.log());
    let standing = match (verb.name, place.standing_and_others()?) {
        // Its init has nobody who lets it go on, and ends.
        ("run -d", (Created, _)) => place.standing_after_kill()?,
        // Its init may have said its last word, and waits for the start.
        ("create", (Stopped, others)) if others.iter().all(|other| other.ends_with("runb-init ")) => Stopped,
        (_, (standing, others)) if others.is_empty() => standing,
        (_, others) => return Err(format!("{others:?}")),
    };
    if !verb.then.contains(&standing) {
        return Err(format!("{standing:?}"));
    }
    match (verb.name, standing) {
        // The id is free.
        (_, Nowhere) => place.set_up(Created),
        ("create", Created) => drop(place.call("start", &[]).ok()),
        // Its byte may have reached init since it was asked.
        ("start", Created) => {
            let again = place.call("start", &[]);
            let is_well = again.code == 0 || again.message().contains("already running");
            if !is_well || place.standing()? != Running {
                return Err(format!("then start: {again:?}"));
            }
        }
        _ => {}
    }
    Ok(())
}

fn killed(t: &Test, verb: &Verb) {
    t.runb_only("the peers leave an init, or its cgroups");
    let mut places = Vec::new();
    for kind in KINDS {
        let (begin, mut cases) = (Instant::now(), 0);
        let place = Place::new(t, bundle(t, kind), env!("CARGO_BIN_EXE_traceable"));
        let calls = place.moments(&command(&place, verb), verb.from);
        assert!(calls.len() > 2 * KILLS, "only {} calls", calls.len());
        let seed = (verb.name.len() * KINDS.len() + kind as usize) * ALL.len() + t.mode() as usize;
        for moment in sample::of(&calls, KILLS, seed as u64) {
            cases += 1;
            let what = format!("{kind:?}: {} before {} ({})", verb.name, moment.name, moment.index);
            place.finish(&what, kill(&place, verb, moment.index));
        }
        println!("{kind:?}: {} calls of {}, {cases} cases in {:?}", calls.len(), verb.name, begin.elapsed());
        places.push((place, cases));
    }
    places.iter().for_each(|(place, cases)| place.report(*cases));
}

fn verb(name: &str) -> &'static Verb {
    VERBS.iter().find(|verb| verb.name == name).expect("a verb")
}

#[test]
fn a_create_killed_at_any_call_leaves_what_delete_force_takes_away() {
    in_modes(ALL, |t| killed(t, verb("create")));
}

#[test]
fn a_run_killed_at_any_call_leaves_what_delete_force_takes_away() {
    in_modes(ALL, |t| killed(t, verb("run -d")));
}

#[test]
fn a_start_killed_at_any_call_leaves_a_container_that_can_be_started_or_runs() {
    in_modes(ALL, |t| killed(t, verb("start")));
}

#[test]
fn an_exec_killed_at_any_call_leaves_the_container_as_it_was() {
    in_modes(ALL, |t| killed(t, verb("exec")));
}

#[test]
fn a_delete_killed_at_any_call_can_be_repeated() {
    in_modes(ALL, |t| {
        killed(t, verb("delete"));
        killed(t, verb("delete --force"));
    });
}

/// Lets the call `name`, the `count`th of that name, of a create fail.
fn fail(place: &Place<'_>, name: &str, count: usize, errno: &str) -> Result<(), String> {
    let (trace, inject) = (format!("trace={name}"), format!("inject={name}:error={errno}:when={count}"));
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let mut create = place.t.wrapped(&strace, ["create", "--bundle"]);
    create.arg(place.bundle.dir()).arg(place.bundle.id());
    let outcome = place.t.finish(create);
    match outcome.code {
        0 if place.standing()? == Created => Ok(()),
        1 if place.left().is_empty() => Ok(()),
        _ => Err(format!("{outcome:?}, left: {}", place.left().join(", "))),
    }
}

fn failing(t: &Test, kind: Has) {
    t.runb_only("each call is runb's own");
    t.needs_program("strace");
    let place = Place::new(t, bundle(t, kind), env!("CARGO_BIN_EXE_traceable"));
    // strace counts the calls of each name.
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut calls = Vec::new();
    for call in place.calls(&command(&place, verb("create")), Nowhere) {
        let count = counts.entry(call.name).or_default();
        *count += 1;
        calls.push((call.name, *count));
    }
    calls.retain(|(name, _)| !UNFAILING.contains(name));
    let mut cases = 0;
    for (index, (name, count)) in sample::of(&calls, ERRORS, kind as u64).into_iter().enumerate() {
        let errnos = if sample::all() { &ERRNOS[..] } else { &ERRNOS[index % ERRNOS.len()..][..1] };
        for errno in errnos {
            cases += 1;
            place.finish(&format!("{kind:?}: {errno} of {name} {count}"), fail(&place, name, count, errno));
        }
    }
    place.report(cases);
}

#[test]
fn a_create_of_which_any_call_fails_leaves_nothing_or_succeeds() {
    in_modes(V2, |t| failing(t, Has::Plain));
}

#[test]
fn a_create_with_hooks_of_which_any_call_fails_leaves_nothing_or_succeeds() {
    in_modes(V2, |t| failing(t, Has::UserNamespaceAndHooks));
}

#[test]
fn a_start_that_is_killed_after_its_byte_leaves_a_running_container() {
    in_modes(V2, |t| {
        t.runb_only("the peers remove the fifo first");
        t.needs_program("strace");
        let bundle = t.bundle().sh("echo up >/share/events; exec sleep 86400");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.create();
        let inject = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=poll:signal=SIGKILL:when=1"];
        let killed = t.finish(t.wrapped(&inject, ["start", container.id()]));
        assert_eq!(killed.code, 137, "{killed:?}");
        assert_eq!(events.line(), "up");
        assert_eq!(container.status(), "running");
        container.start().fails_with(&["cannot start an already running container"]);
        assert_eq!(container.status(), "running");
        container.delete().fails_with(&["is not stopped"]);
        container.delete_force().ok();
    });
}

#[test]
fn a_start_that_is_killed_before_its_byte_leaves_a_created_container() {
    in_modes(V2, |t| {
        t.runb_only("the peers remove the fifo first");
        t.needs_program("strace");
        let bundle = t.bundle().sh("echo up >/share/events; exec sleep 86400");
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.create();
        // The change of the phase is its only pwrite64.
        let inject = ["strace", "-qq", "-o", "/dev/null", "-e", "inject=pwrite64:signal=SIGKILL:when=1"];
        let killed = t.finish(t.wrapped(&inject, ["start", container.id()]));
        assert_eq!(killed.code, 137, "{killed:?}");
        assert_eq!(container.status(), "created");
        container.start().ok();
        assert_eq!(events.line(), "up");
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}

/// A container whose start was killed after its byte, while its init could not take that; with a start that goes on from there.
fn started_twice(t: &Test) -> (Container<'_>, wait::Fifo, Traced, impl Fn()) {
    let bundle = t.bundle().sh("echo up >/share/events; exec sleep 86400");
    let events = t.fifo(&bundle, "events");
    let container = bundle.create();
    let init = rustix::process::Pid::from_raw(container.pid()).expect("a pid");
    let signal = move |signal| rustix::process::kill_process(init, signal).expect("kill");
    signal(rustix::process::Signal::STOP);
    let start = || Traced::start(t, env!("CARGO_BIN_EXE_traceable"), &t.command(["start", container.id()]));
    let mut first = start();
    first.step_until("poll", "");
    first.kill();
    assert_eq!(container.status(), "created");
    let second = start();
    (container, events, second, move || signal(rustix::process::Signal::CONT))
}

#[test]
fn a_start_after_a_killed_one_whose_byte_init_takes_meanwhile_leaves_a_running_container() {
    in_modes(V2, |t| {
        t.runb_only("the peers remove the fifo first");
        for (call, text) in [("poll", ""), ("pwrite64", "starting")] {
            let (container, mut events, mut second, go_on) = started_twice(t);
            second.step_until(call, text);
            go_on();
            assert_eq!(events.line(), "up");
            second.finish().ok();
            assert_eq!(container.status(), "running");
            container.delete_force().ok();
        }
    });
}

#[test]
fn an_init_that_waits_for_the_start_and_is_not_written_down_is_ended_by_delete() {
    in_modes(ALL, |t| {
        t.runb_only("the order of runb's calls");
        // With a network namespace it would begin before all is planned.
        let bundle = t.bundle().idle().without_namespace("network");
        let create = bundle.write().command("create", &[]);
        for flags in [&["--force"][..], &[]] {
            let mut create = Traced::start(t, env!("CARGO_BIN_EXE_traceable"), &create);
            create.step_until("clone3", "");
            create.step();
            // It has said its last word.
            create.until_told();
            create.kill();
            let begin = Instant::now();
            t.call([&["delete"], flags, &[bundle.id()]].concat()).ok();
            assert!(begin.elapsed() < wait::slowly(Duration::from_secs(3)), "{:?}", begin.elapsed());
            t.call(["state", bundle.id()]).fails_with(&["does not exist"]);
        }
    });
}

#[test]
fn an_init_that_waits_for_the_rest_of_its_program_ends_with_the_runtime() {
    in_modes(ALL, |t| {
        t.runb_only("the order of runb's calls");
        let bundle = t.bundle().idle();
        let command = bundle.write().command("create", &[]);
        let mut create = Traced::start(t, env!("CARGO_BIN_EXE_traceable"), &command);
        create.step_until("clone3", "");
        create.step();
        let init = create.child();
        create.kill();
        assert!(wait::process_end(init, wait::deadline()), "init goes on without the runtime");
        t.call(["delete", bundle.id()]).ok();
        t.call(["state", bundle.id()]).fails_with(&["does not exist"]);
    });
}
