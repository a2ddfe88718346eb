//! Lives as they are drawn.

use super::*;
use crate::record::entry::{Exit, Names};

fn call(id: &str, verb: &str, at: u32, seconds: f64, phases: &[(&str, f64)]) -> Call {
    let phases = phases.iter().map(|(name, seconds)| Phase { name: (*name).to_owned(), at: 0.0, seconds: *seconds });
    let names = match verb {
        "create" => Names { pod: Some("shop-0".into()), container: Some(format!("<{id}>")), ..Names::default() },
        _ => Names::default(),
    };
    let exit = Exit {
        verb: Some(verb.into()),
        container: Some(id.into()),
        names,
        seconds,
        phases: phases.collect(),
        ..Exit::default()
    };
    Call {
        invocation: format!("{at}-1"),
        time: format!("2026-11-22T18:00:{:02}.{:03}000+00:00", at / 1000, at % 1000),
        argv: vec![verb.into(), id.into()],
        exit: Some((String::new(), exit)),
        ..Call::default()
    }
}

fn life() -> Vec<Call> {
    vec![
        call("a", "create", 0, 0.004, &[("reading", 0.001), ("spawn", 0.003)]),
        call("a", "start", 10, 0.001, &[("execve", 0.001)]),
        call("a", "delete", 5000, 0.002, &[("clean-up", 0.002)]),
    ]
}

#[test]
fn a_life_has_a_row_for_each_call_and_says_what_lies_between_them() {
    let calls = life();
    let text = Life::of(&calls).text(Look::Plain);
    let expected = [
        "a shop-0/<a>",
        "5.00 s in all",
        "create     4.00 ms",
        "6.00 ms",
        "start      1.00 ms",
        "4.99 s",
        "+5.00 s",
        "delete",
    ];
    let mut rest = text.as_str();
    for part in expected {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        rest = &rest[at + part.len()..];
    }
    assert!(text.contains(&format!("{}{}", "█".repeat(12), "▒".repeat(36))), "{text}");
    assert!(text.contains("reading 1.00 ms · spawn 3.00 ms"), "{text}");
}

#[test]
fn probes_in_a_row_are_summed_up_and_a_failure_is_not() {
    let mut calls = life();
    for i in 0..100 {
        calls.insert(2, call("a", "state", 100 + i, 0.0005, &[]));
    }
    calls[50].exit.as_mut().unwrap().1.error = Some("no such thing".into());
    calls.sort_by_key(Call::began);
    let text = Life::of(&calls).text(Look::Plain);
    assert!(text.contains("failed: no such thing") && text.contains(" more, "), "{text}");
    assert!(text.lines().count() < 40, "{text}");
}

#[test]
fn the_containers_of_a_pod_stand_side_by_side() {
    let mut calls = life();
    calls.insert(2, call("b", "create", 20, 0.004, &[]));
    calls.insert(3, call("b", "start", 30, 0.004, &[]));
    let text = Life::of(&calls).text(Look::Plain);
    assert!(text.contains("b shop-0/<b>"), "{text}");
    assert!(text.contains("│● start"), "{text}");
    assert!(text.lines().last().unwrap_or_default().contains("│") || text.contains("●  delete"), "{text}");
}

#[test]
fn what_the_workload_took_does_not_make_all_else_small() {
    let calls = [call("a", "run", 0, 3600.0, &[("spawn", 0.003), ("workload", 3599.994), ("clean-up", 0.003)])];
    let text = Life::of(&calls).text(Look::Plain);
    assert!(text.contains(&format!("{}┄{}", "█".repeat(24), "█".repeat(24))), "{text}");
}

#[test]
fn a_picture_is_well_formed_and_nothing_in_it_is_taken_for_markup() {
    let mut calls = life();
    calls[0].exit.as_mut().unwrap().1.error = Some("<script>alert(1)</script> & \"x\"".into());
    let life = Life::of(&calls);
    for text in [svg::picture(&life), html::page(&life)] {
        assert!(!text.contains("<script>") && !text.contains("<a>"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;x&quot;"), "{text}");
        let opened = text.matches("<rect").count() + text.matches("<text").count() + text.matches("<g").count();
        assert!(opened > 8, "{text}");
        // One file: nothing is fetched.
        assert!(!text.contains("src=") && !text.contains("href=") && !text.contains("url("), "{text}");
    }
}
