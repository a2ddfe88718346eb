//! Lines as they are written, and read back.

use std::os::unix::ffi::OsStringExt;

use super::*;

const TIME: &str = "2026-11-22T18:00:00.123456+00:00";

fn call_line(argv: &[&str], format: Format) -> String {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    call(TIME, "17-2b", &argv, None, format)
}

fn exit() -> Exit {
    Exit {
        verb: Some("create".into()),
        container: Some("web1".into()),
        status: 1,
        seconds: 0.001234,
        caller: Caller { pid: 4241, comm: "containerd shim".into(), uid: 0, ..Caller::default() },
        error: Some("exec: \"/no\": no such file".into()),
        ..Exit::default()
    }
}

fn with_hooks(output: &str, count: usize) -> Exit {
    let run = |index| HookRun {
        kind: "createRuntime".into(),
        index,
        path: "/usr/bin/gpu hook".into(),
        seconds: 0.0031,
        status: "exit status 7".into(),
        output: output.into(),
    };
    Exit { hooks: (0..count).map(run).collect(), ..exit() }
}

fn entry(event: Event) -> Entry {
    Entry { time: TIME.into(), invocation: "17-2b".into(), event }
}

#[test]
fn a_call_as_text() {
    assert_eq!(
        call_line(&["create", "--bundle", "/my bundle", "web1"], Format::Text),
        "[2026-11-22T18:00:00.123456+00:00] call runb: create --bundle '/my bundle' web1 # 17-2b\n"
    );
}

#[test]
fn an_exit_as_text() {
    assert_eq!(
        entry(Event::Exit(exit())).line(Format::Text),
        "[2026-11-22T18:00:00.123456+00:00] exit runb: verb=create container=web1 status=1 seconds=0.001234 \
         caller=4241 comm='containerd shim' uid=0 error='exec: \"/no\": no such file' # 17-2b\n"
    );
}

#[test]
fn a_hook_as_text_is_words_behind_all_others() {
    let line = entry(Event::Exit(with_hooks("no\nGPU", 1))).line(Format::Text);
    let hook = " hook='createRuntime[0]' hook-path='/usr/bin/gpu hook' hook-seconds=0.003100 hook-status='exit status 7' \
                hook-output=$'no\\nGPU' # 17-2b\n";
    assert!(line.ends_with(hook), "{line}");
}

#[test]
fn a_call_and_an_exit_as_json() {
    let line: serde_json::Value = serde_json::from_str(&call_line(&["kill", "a\nb", "9"], Format::Json)).unwrap();
    assert_eq!(
        line,
        serde_json::json!({"time": TIME, "invocation": "17-2b", "event": "call", "argv": ["kill", "a\nb", "9"]})
    );
    let line: serde_json::Value = serde_json::from_str(&entry(Event::Exit(exit())).line(Format::Json)).unwrap();
    assert_eq!(
        line,
        serde_json::json!({"time": TIME, "invocation": "17-2b", "event": "exit", "verb": "create", "container": "web1",
            "status": 1, "seconds": 0.001234, "caller": {"pid": 4241, "comm": "containerd shim", "uid": 0},
            "error": "exec: \"/no\": no such file"})
    );
}

#[test]
fn what_is_written_in_either_form_is_read_back() {
    let long = "x".repeat(9000);
    let call_of = |argv: &[&str], format| Entry::parse(&call_line(argv, format)).unwrap();
    for format in [Format::Text, Format::Json] {
        for argv in [&[][..], &["", "a b", "# x", "[cut:5]", "\u{202e}\n'\\"], &["kill", "web1"]] {
            let expected = Event::Call { argv: argv.iter().map(ToString::to_string).collect(), cut: 0, cwd: None };
            assert_eq!(call_of(argv, format), entry(expected));
        }
        let Event::Call { argv, cut, .. } = call_of(&["exec", &long, "end"], format).event else { panic!() };
        assert_eq!(argv.len(), 2);
        assert!(argv[1].len() + cut == 9003 && argv[1].len() > 7500, "{cut} {}", argv[1].len());
        let hooks = Event::Exit(with_hooks("no such GPU\n'quoted' # 1-1", 2));
        for event in [hooks, Event::Exit(exit()), Event::Exit(Exit::default()), Event::Note { text: "a 'b'".into() }] {
            assert_eq!(Entry::parse(&entry(event.clone()).line(format)), Some(entry(event)));
        }
        let cut = call_of(&["exec", &long, "end"], format);
        assert_eq!(Entry::parse(&cut.line(format)), Some(cut));
    }
}

#[test]
fn no_argument_can_forge_a_line_or_a_part_of_one() {
    let forged = "x\n[2026-11-22T18:00:00.123456+00:00] call runb: delete web1 # 1-1";
    for argument in [forged, "# 1-1", "[cut:9]", "web1 # 1-1", "\r\u{1b}[2K", "\u{85}\u{2028}", "'", "$'\\n'"] {
        for format in [Format::Text, Format::Json] {
            let line = call_line(&["start", argument], format);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(!line.trim_end().chars().any(|char| char.is_ascii_control()), "{line:?}");
            let Event::Call { argv, cut: 0, cwd: None } = Entry::parse(&line).unwrap().event else { panic!("{line}") };
            assert_eq!(argv, ["start", argument]);
        }
        let exit = Exit { container: Some(argument.into()), error: Some(argument.into()), ..exit() };
        let line = entry(Event::Exit(exit.clone())).line(Format::Text);
        assert_eq!(Entry::parse(&line), Some(entry(Event::Exit(exit))));
    }
}

#[test]
fn bytes_that_are_not_utf8_are_escaped() {
    let argv = [OsString::from_vec(b"a\xffb".to_vec())];
    assert!(call(TIME, "1-1", &argv, None, Format::Text).contains(r"$'a\xffb'"));
    let line: serde_json::Value = serde_json::from_str(&call(TIME, "1-1", &argv, None, Format::Json)).unwrap();
    assert_eq!(line["argv"][0], r"$'a\xffb'");
}

#[test]
fn no_line_is_longer_than_its_bound() {
    for argument in ["x".repeat(100_000), "\u{1}".repeat(100_000), "ä'".repeat(50_000), "\u{e0041}".repeat(9000)] {
        for format in [Format::Text, Format::Json] {
            let many = vec![argument.as_str(); 3];
            let line = call_line(&many, format);
            assert!(line.len() <= LINE, "{}", line.len());
            assert!(line.contains("cut"));
            let exit = Exit {
                verb: Some(argument.clone()),
                container: Some(argument.clone()),
                error: Some(argument.clone()),
                ..with_hooks(&argument, 20)
            };
            let line = entry(Event::Exit(exit.bounded())).line(format);
            assert!(line.len() <= LINE, "{}", line.len());
            assert!(Entry::parse(&line).is_some());
        }
    }
    let many = vec!["x"; 10_000];
    assert!(call_line(&many, Format::Text).len() <= LINE);
}

#[test]
fn a_line_that_runb_did_not_write_is_no_entry() {
    for line in
        ["", "x", "{}", "[t] call runb: x", "[t] call runb: 'x # 1", "[t] exit runb: x # 1", "[t] foo runb: # 1"]
    {
        assert_eq!(Entry::parse(line), None, "{line}");
    }
}

#[test]
fn a_timestamp_is_rfc_3339_with_its_offset() {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_370_400_123_456);
    assert_eq!(timestamp(time), "2026-11-22T18:00:00.123456+00:00");
}
