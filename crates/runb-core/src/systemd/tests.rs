//! The driver against buses that are none: late, silent, refusing, broken, and gone.

mod bus;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zbus::Variant;

use super::address::{Address, Peer};
use super::*;
use crate::plan::cgroup::systemd::{Unit, UnitKind};
use bus::{Bus, Client};

const UNIT_NAME: &str = "runb-web1.scope";
const DESCRIPTION: &str = "runb container web1, created now";

fn unit() -> Unit {
    let property = |name: &str, value: Variant<'static>, since| Property {
        name: name.to_owned(),
        value,
        origin: format!("origin of {name}"),
        since,
    };
    let properties = vec![
        property("Description", "runb container web1".into(), None),
        property("Delegate", true.into(), None),
        property("MemoryMax", 4096u64.into(), None),
    ];
    Unit { name: UNIT_NAME.to_owned(), kind: UnitKind::Scope, properties, dir: Some(0), warnings: Vec::new() }
}

fn manager_at(bus: &Bus, peer: Peer) -> Manager {
    Manager { addresses: vec![Address::at(peer, &bus.path)], patience: Duration::from_secs(20), whose: Whose::System }
}

fn impatient(bus: &Bus) -> Manager {
    Manager { patience: Duration::from_millis(200), ..manager_at(bus, Peer::Manager) }
}

fn start(manager: &Manager) -> Result<()> {
    start_unit(manager, &unit(), &|| Ok(None))
}

fn start_unit(manager: &Manager, unit: &Unit, astray: &dyn Fn() -> Result<Option<String>>) -> Result<()> {
    manager.start(&Start {
        unit,
        description: DESCRIPTION,
        process: Some(7),
        astray,
        sent: &std::cell::Cell::default(),
    })
}

/// Answers to StartTransientUnit, and says that its job has ended so.
fn starts(client: &mut Client, result: &str) {
    let call = client.expect("StartTransientUnit");
    client.reply_job(&call, 1);
    client.job_removed(1, UNIT_NAME, result);
}

#[test]
fn a_unit_is_started_by_one_call_and_the_end_of_its_job() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        assert_eq!(call.signature, "ssa(sv)a(sa(sv))");
        for text in [UNIT_NAME, "replace", "Description", DESCRIPTION, "PIDs", "Delegate", "MemoryMax"] {
            assert!(call.has(text), "{text}");
        }
        assert!(!call.has("runb container web1\0"), "the description of the plan is replaced");
        // Others have jobs as well, and theirs may end before the answer.
        client.job_removed(3, "other.service", "failed");
        client.job_removed(1, "other.service", "failed");
        client.noise();
        client.reply_job(&call, 1);
        client.job_removed(2, UNIT_NAME, "failed");
        client.job_removed(1, UNIT_NAME, "done");
    });
    start(&manager_at(&bus, Peer::Manager)).expect("started");
}

#[test]
fn a_job_may_end_before_the_answer_to_its_call_comes() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        client.job_removed(1, UNIT_NAME, "done");
        client.reply_job(&call, 1);
    });
    start(&manager_at(&bus, Peer::Manager)).expect("started");
}

#[test]
fn a_bus_is_greeted_and_told_what_is_to_be_heard_before_the_call() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let hello = client.expect("Hello");
        client.reply_text(&hello, ":1.7");
        for member in ["JobRemoved", "UnitRemoved", "NameOwnerChanged"] {
            let matched = client.expect("AddMatch");
            assert!(matched.has(member), "{member}");
            client.reply(&matched);
        }
        starts(&mut client, "done");
    });
    start(&manager_at(&bus, Peer::Bus)).expect("started");
}

#[test]
fn the_next_place_is_tried_where_nobody_listens_or_the_caller_is_refused() {
    let silent = Bus::of(drop);
    let refusing = Bus::of(|mut client| client.reject());
    let bus = Bus::of(|mut client| {
        client.accept();
        starts(&mut client, "done");
    });
    let paths = ["/nonexistent/socket".into(), silent.path.clone(), refusing.path.clone(), bus.path.clone()];
    let addresses = paths.iter().map(|path| Address::at(Peer::Manager, path)).collect();
    start(&Manager { addresses, ..manager_at(&bus, Peer::Manager) }).expect("started");
}

#[test]
fn who_is_tried_in_vain_is_named_with_the_reason() {
    let refusing = Bus::of(|mut client| client.reject());
    let addresses = vec![Address::at(Peer::Manager, "/nonexistent/socket"), Address::at(Peer::Bus, &refusing.path)];
    let error =
        start(&Manager { addresses, ..manager_at(&refusing, Peer::Bus) }).expect_err("nobody is there").to_string();
    assert!(error.contains("start the unit runb-web1.scope: no systemd can be reached"), "{error}");
    assert!(error.contains("connect to /nonexistent/socket: no such file or directory (ENOENT)"), "{error}");
    assert!(error.contains("the authentication is not taken: REJECTED EXTERNAL"), "{error}");
    let nowhere = Manager { addresses: Vec::new(), patience: Duration::from_secs(1), whose: Whose::User };
    let error = start(&nowhere).expect_err("nobody is there").to_string();
    assert!(error.contains("XDG_RUNTIME_DIR") && error.contains("no address of it is known"), "{error}");
}

#[test]
fn silence_ends_at_the_time_limit_wherever_it_begins() {
    let stages: [fn(&mut Client); 4] = [
        |_| {},
        Client::accept,
        |client| {
            client.accept();
            let call = client.expect("StartTransientUnit");
            client.reply_job(&call, 1);
        },
        |client| {
            client.accept();
            client.expect("StartTransientUnit");
            client.send(&[b'l', 2, 0]);
        },
    ];
    for stage in stages {
        let bus = Bus::of(move |mut client| {
            stage(&mut client);
            client.wait_for_end();
        });
        let begin = Instant::now();
        let error = start(&impatient(&bus)).expect_err("silence");
        assert_eq!(error.nix_errno(), Some(Errno::ETIMEDOUT), "{error}");
        assert!(error.to_string().contains("within 0.2s"), "{error}");
        assert!(begin.elapsed() >= Duration::from_millis(200) && begin.elapsed() < Duration::from_secs(15));
    }
}

#[test]
fn a_late_answer_is_one() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        client.trickle(|client| client.reply_job(&call, 1));
        client.trickle(|client| client.job_removed(1, UNIT_NAME, "done"));
    });
    start(&manager_at(&bus, Peer::Manager)).expect("started");
}

#[test]
fn a_connection_that_goes_away_is_made_anew_and_the_unit_is_known_again_by_its_description() {
    let calls = AtomicUsize::new(0);
    let bus = Bus::of_each(move |mut client| match calls.fetch_add(1, Ordering::Relaxed) {
        // The call may have been heard.
        0 => {
            client.accept();
            client.expect("StartTransientUnit");
        }
        _ => {
            client.accept();
            let call = client.expect("StartTransientUnit");
            client.refuse(&call, "org.freedesktop.systemd1.UnitExists", "it is there");
            client.is_looked_at(DESCRIPTION, "activating", true);
            client.job_removed(9, UNIT_NAME, "done");
        }
    });
    start(&manager_at(&bus, Peer::Manager)).expect("started");
}

#[test]
fn a_connection_that_always_goes_away_is_given_up_with_the_reason() {
    let bus = Bus::of_each(|mut client| {
        client.accept();
        client.expect("StartTransientUnit");
    });
    let error = start(&manager_at(&bus, Peer::Manager)).expect_err("nobody stays").to_string();
    assert!(error.contains("given up after 3 attempts") && error.contains("ECONNRESET"), "{error}");
}

#[test]
fn systemd_is_waited_for_on_the_bus_while_it_is_executed_anew() {
    // Its own socket is there, and nobody listens.
    let folder = bus::folder();
    let stale = folder.join("private");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    let bus = Bus::of(|mut client| {
        client.accept();
        for name in ["Hello", "AddMatch", "AddMatch", "AddMatch"] {
            let call = client.expect(name);
            client.reply_text(&call, ":1.7");
        }
        let call = client.expect("StartTransientUnit");
        client.refuse(&call, "org.freedesktop.DBus.Error.ServiceUnknown", "nobody of that name");
        client.owner_changed("");
        client.owner_changed(":1.8");
        starts(&mut client, "done");
    });
    let addresses = vec![Address::at(Peer::Manager, &stale), Address::at(Peer::Bus, &bus.path)];
    start(&Manager { addresses, ..manager_at(&bus, Peer::Bus) }).expect("started");
    std::fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn a_bus_without_systemd_is_not_waited_at() {
    let bus = Bus::of(|mut client| {
        client.accept();
        for name in ["Hello", "AddMatch", "AddMatch", "AddMatch"] {
            client.expect(name);
        }
        let call = client.expect("StartTransientUnit");
        client.refuse(&call, "org.freedesktop.DBus.Error.ServiceUnknown", "nobody of that name");
    });
    let error = start(&manager_at(&bus, Peer::Bus)).expect_err("nobody is there").to_string();
    assert!(error.contains("nobody of that name (org.freedesktop.DBus.Error.ServiceUnknown)"), "{error}");
}

#[test]
fn what_systemd_refuses_is_told_with_the_place_of_the_property() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        client.refuse(&call, "org.freedesktop.DBus.Error.InvalidArgs", "MemoryMax= is out of range");
    });
    let error = start(&manager_at(&bus, Peer::Manager)).expect_err("refused");
    assert_eq!(error.origin(), Some("origin of MemoryMax"));
    let expected =
        "start the unit runb-web1.scope: MemoryMax= is out of range (org.freedesktop.DBus.Error.InvalidArgs)";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[test]
fn an_older_systemd_is_asked_again_without_what_it_does_not_know() {
    let bus = Bus::of_each(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        if call.has("OOMPolicy") {
            client.refuse(&call, "org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set property OOMPolicy");
        } else {
            assert!(call.has("MemoryMax"));
            client.reply_job(&call, 1);
            client.job_removed(1, UNIT_NAME, "done");
        }
    });
    let mut unit = unit();
    let policy = Variant::from("kill");
    unit.properties.push(Property { name: "OOMPolicy".into(), value: policy, origin: String::new(), since: Some(253) });
    start_unit(&manager_at(&bus, Peer::Manager), &unit, &|| Ok(None)).expect("started");
}

#[test]
fn a_unit_of_somebody_else_is_left_alone() {
    for (state, transient) in [("active", true), ("activating", true), ("inactive", false), ("failed", false)] {
        let bus = Bus::of(move |mut client| {
            client.accept();
            let call = client.expect("StartTransientUnit");
            client.refuse(&call, "org.freedesktop.systemd1.UnitExists", "it is there");
            client.is_looked_at("somebody else's", state, transient);
            client.expect_end();
        });
        let error = start(&manager_at(&bus, Peer::Manager)).expect_err(state);
        assert_eq!((error.kind(), error.origin()), (Kind::Exists, Some("linux.cgroupsPath")), "{error}");
        assert!(error.to_string().contains("\"somebody else's\""), "{error}");
    }
}

#[test]
fn a_unit_that_has_failed_is_reset_and_one_that_is_going_is_waited_for() {
    let calls = AtomicUsize::new(0);
    let bus = Bus::of_each(move |mut client| {
        client.accept();
        let step = calls.fetch_add(1, Ordering::Relaxed);
        let call = client.expect("StartTransientUnit");
        if step == 2 {
            client.reply_job(&call, 1);
            client.job_removed(1, UNIT_NAME, "done");
            return;
        }
        client.refuse(&call, "org.freedesktop.systemd1.UnitExists", "it is there");
        if step == 0 {
            client.is_looked_at("an earlier one", "failed", true);
            let reset = client.expect("ResetFailedUnit");
            client.reply(&reset);
        } else {
            client.is_looked_at("an earlier one", "deactivating", true);
            client.unit_removed("other.scope");
            client.unit_removed(UNIT_NAME);
        }
        client.wait_for_end();
    });
    start(&manager_at(&bus, Peer::Manager)).expect("started");
}

#[test]
fn a_job_that_does_not_succeed_is_an_error_and_one_that_is_canceled_is_tried_again() {
    let results = |results: &'static [&'static str]| {
        let calls = AtomicUsize::new(0);
        let bus = Bus::of_each(move |mut client| {
            client.accept();
            let result = results[calls.fetch_add(1, Ordering::Relaxed)];
            starts(&mut client, result);
            if result != "done" {
                let reset = client.expect("ResetFailedUnit");
                client.refuse(&reset, NO_SUCH_UNIT, "it has gone");
            }
            client.wait_for_end();
        });
        start(&manager_at(&bus, Peer::Manager)).map_err(|error| error.to_string())
    };
    assert_eq!(results(&["canceled", "done"]), Ok(()));
    let error = results(&["failed"]).expect_err("failed");
    assert!(error.contains("job for it has ended with \"failed\""), "{error}");
    let error = results(&["canceled", "canceled", "canceled"]).expect_err("canceled");
    assert!(error.contains("given up after 3 attempts") && error.contains("\"canceled\""), "{error}");
}

#[test]
fn a_process_that_is_not_in_the_unit_is_put_there_once_more_or_the_error_says_where_it_is() {
    let serve = |mut client: Client| {
        client.accept();
        let call = client.next();
        match call.member.as_str() {
            "StartTransientUnit" => {
                client.reply_job(&call, 1);
                client.job_removed(1, UNIT_NAME, "done");
            }
            other => {
                assert_eq!(other, "StopUnit");
                client.refuse(&call, NO_SUCH_UNIT, "it has gone");
            }
        }
    };
    let bus = Bus::of_each(serve);
    let looks = AtomicUsize::new(0);
    let once = || Ok((looks.fetch_add(1, Ordering::Relaxed) == 0).then(|| "/elsewhere".to_owned()));
    start_unit(&manager_at(&bus, Peer::Manager), &unit(), &once).expect("started");
    let bus = Bus::of_each(serve);
    let never = || Ok(Some("/elsewhere".to_owned()));
    let error = start_unit(&manager_at(&bus, Peer::Manager), &unit(), &never).expect_err("never").to_string();
    assert!(error.contains("given up after 3 attempts") && error.contains("the process is in /elsewhere"), "{error}");
}

#[test]
fn an_answer_of_megabytes_is_read_and_one_that_has_no_end_is_not() {
    let long = "x".repeat(3_000_000);
    let sent = long.clone();
    let bus = Bus::of(move |mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        client.refuse(&call, "org.example.Long", &sent);
    });
    let error = start(&manager_at(&bus, Peer::Manager)).expect_err("refused").to_string();
    assert!(error.contains(&long));
    for garbage in [&[b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0, 0, 0, 0, 0][..], &[b'x'; 64], &[0xff; 64]] {
        let bus = Bus::of(move |mut client| {
            client.accept();
            client.expect("StartTransientUnit");
            client.send(garbage);
            client.wait_for_end();
        });
        let error = start(&manager_at(&bus, Peer::Manager)).expect_err("no message").to_string();
        assert!(error.contains("what came is no message"), "{error}");
    }
    let bus = Bus::of(|mut client| {
        client.send(&[b'x'; 10_000]);
        client.wait_for_end();
    });
    let error = start(&manager_at(&bus, Peer::Manager)).expect_err("no bus").to_string();
    assert!(error.contains("what answers is no bus"), "{error}");
}

#[test]
fn an_answer_of_another_type_is_an_error() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StartTransientUnit");
        client.reply_text(&call, "/not/a/path");
    });
    let error = start(&manager_at(&bus, Peer::Manager)).expect_err("a text").to_string();
    assert!(error.contains("StartTransientUnit"), "{error}");
}

#[test]
fn a_unit_is_stopped_and_one_that_is_not_there_is() {
    for (result, resets) in [("done", false), ("failed", true)] {
        let bus = Bus::of(move |mut client| {
            client.accept();
            let call = client.expect("StopUnit");
            client.reply_job(&call, 5);
            client.job_removed(5, UNIT_NAME, result);
            if resets {
                let reset = client.expect("ResetFailedUnit");
                client.reply(&reset);
            }
        });
        manager_at(&bus, Peer::Manager).stop(UNIT_NAME).expect("stopped");
    }
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("StopUnit");
        client.refuse(&call, NO_SUCH_UNIT, "no such unit");
    });
    manager_at(&bus, Peer::Manager).stop(UNIT_NAME).expect("stopped");
}

#[test]
fn properties_are_changed_until_the_unit_stops() {
    let bus = Bus::of(|mut client| {
        client.accept();
        let call = client.expect("SetUnitProperties");
        assert_eq!(call.signature, "sba(sv)");
        assert!(call.has("MemoryMax"));
        client.reply(&call);
    });
    let unit = unit();
    manager_at(&bus, Peer::Manager).set_properties(UNIT_NAME, &unit.properties[2..]).expect("changed");
}

#[test]
fn the_cgroup_of_systemd_is_above_init_scope() {
    assert_eq!(above_init("0::/init.scope\n"), Path::new("/"));
    assert_eq!(above_init("0::/docker/ab/init.scope\n"), Path::new("/docker/ab"));
    assert_eq!(above_init("3:cpu:/\n1:name=systemd:/x/init.scope\n"), Path::new("/x"));
    assert_eq!(above_init("0::/\n"), Path::new("/"));
}
