//! The command lines that engines really send, and Go's flag syntax.

use super::*;

fn parsed(line: &str) -> Parsed {
    let argv: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    parse(&argv)
}

fn understood(line: &str) -> (Global, Verb) {
    let parsed = parsed(line);
    match parsed.request {
        Ok(Request::Verb(verb)) => (parsed.global, *verb),
        other => panic!("{line}: {other:?}"),
    }
}

fn verb(line: &str) -> Verb {
    understood(line).1
}

fn refused(line: &str) -> String {
    match parsed(line).request {
        Err(error) => error.text,
        other => panic!("{line}: {other:?}"),
    }
}

fn create() -> Create {
    Create { id: "ID".into(), ..Create::default() }
}

const CONTAINERD: &str = "--root /run/containerd/runc/k8s.io --log /b/log.json --log-format json";

#[test]
fn what_containerd_cri_and_docker_send_before_the_verb() {
    let expected = Global {
        root: Some("/run/containerd/runc/k8s.io".into()),
        log: Some("/b/log.json".into()),
        log_format: Format::Json,
        systemd_cgroup: true,
        ..Global::default()
    };
    let (global, verb) = understood(&format!("{CONTAINERD} --systemd-cgroup start ID"));
    assert_eq!((global, verb), (expected, Verb::Start(Id { id: "ID".into() })));
}

#[test]
fn what_containerd_sends_to_create() {
    let line = format!(
        "{CONTAINERD} create --bundle /b --pid-file /b/init.pid --console-socket /t/pty.sock --no-pivot --no-new-keyring ID"
    );
    let expected = Create {
        bundle: Some("/b".into()),
        pid_file: Some("/b/init.pid".into()),
        console_socket: Some("/t/pty.sock".into()),
        no_pivot: true,
        no_new_keyring: true,
        ..create()
    };
    assert_eq!(verb(&line), Verb::Create(expected));
}

#[test]
fn what_containerd_sends_to_exec_kill_delete_ps_and_update() {
    let exec = Exec {
        process: Some("/t/runc-process1".into()),
        console_socket: Some("/s".into()),
        detach: true,
        pid_file: Some("/b/e.pid".into()),
        id: "ID".into(),
        ..Exec::default()
    };
    let line = "exec --process /t/runc-process1 --console-socket /s --detach --pid-file /b/e.pid ID";
    assert_eq!(verb(line), Verb::Exec(exec));
    let kill = |all, signal: &str| Verb::Kill(Kill { all, id: "ID".into(), signal: signal.into() });
    assert_eq!(verb("kill --all ID 9"), kill(true, "9"));
    assert_eq!(verb("kill ID 15"), kill(false, "15"));
    assert_eq!(verb("kill ID"), kill(false, "SIGTERM"));
    assert_eq!(verb("delete ID"), Verb::Delete(Delete { force: false, id: "ID".into() }));
    assert_eq!(verb("delete --force ID"), Verb::Delete(Delete { force: true, id: "ID".into() }));
    let ps = Ps { format: Listing::Json, id: "ID".into(), options: vec![] };
    assert_eq!(verb("ps --format json ID"), Verb::Ps(ps));
    let update = Verb::Update(Update { resources: Some("-".into()), id: "ID".into(), ..Update::default() });
    assert_eq!(verb("update --resources - ID"), update);
    assert_eq!(verb("update --resources=- ID"), update);
}

#[test]
fn limits_are_numbers_and_bytes_have_units() {
    let Verb::Update(update) = verb("update --memory 50M --memory-swap -1 --pids-limit -1 --cpu-quota=-1 ID") else {
        panic!()
    };
    assert_eq!((update.memory, update.memory_swap), (Some(50 << 20), Some(-1)));
    assert_eq!((update.pids_limit, update.cpu_quota), (Some(-1), Some(-1)));
    for (text, bytes) in [("7", 7), ("1.5k", 1536), ("2GiB", 2 << 30), ("3kb", 3072), ("1t", 1 << 40)] {
        let Verb::Update(update) = verb(&format!("update --memory {text} ID")) else { panic!() };
        assert_eq!(update.memory, Some(bytes), "{text}");
    }
    for text in ["x", "1x", "-2", "1kk", "9999999999p"] {
        assert!(refused(&format!("update --memory={text} ID")).contains("--memory"), "{text}");
    }
}

#[test]
fn what_containerd_sends_to_checkpoint_and_restore_with_one_dash_too() {
    let criu = Criu { image_path: Some("/d".into()), work_path: Some("/w".into()), ..Criu::default() };
    let expected = Checkpoint {
        criu: Criu {
            file_locks: true,
            tcp_established: true,
            ext_unix_sk: true,
            shell_job: true,
            empty_ns: vec!["network".into(), "ipc".into()],
            ..criu.clone()
        },
        parent_path: Some("/p".into()),
        leave_running: true,
        id: "ID".into(),
        ..Checkpoint::default()
    };
    let line = "checkpoint --image-path /d --work-path /w --file-locks --leave-running --leave-running --parent-path /p \
                --tcp-established --ext-unix-sk --shell-job --empty-ns network --empty-ns ipc ID";
    assert_eq!(verb(line), Verb::Checkpoint(expected));
    let restore = Restore {
        criu,
        bundle: Some("/b".into()),
        pid_file: Some("/f".into()),
        no_pivot: true,
        detach: true,
        no_subreaper: true,
        id: "ID".into(),
        ..Restore::default()
    };
    let line = "restore --image-path /d --work-path /w --detach --pid-file /f --no-pivot -no-subreaper --bundle /b ID";
    assert_eq!(verb(line), Verb::Restore(restore));
}

#[test]
fn what_podman_conmon_and_buildah_send() {
    let (global, verb_) =
        understood("--log-format=json --log /u/oci-log create --bundle /b --pid-file /u/pidfile --preserve-fds 2 ID");
    assert_eq!((global.log, global.log_format), (Some("/u/oci-log".into()), Format::Json));
    let expected =
        Create { bundle: Some("/b".into()), pid_file: Some("/u/pidfile".into()), preserve_fds: 2, ..create() };
    assert_eq!(verb_, Verb::Create(expected));
    let exec = Exec {
        pid_file: Some("/f".into()),
        process: Some("/p".into()),
        detach: true,
        tty: true,
        id: "ID".into(),
        ..Exec::default()
    };
    assert_eq!(verb("exec --pid-file /f --process /p --detach --tty ID"), Verb::Exec(exec));
    let update = Update { resources: Some("/f".into()), id: "ID".into(), ..Update::default() };
    assert_eq!(verb("update --resources=/f ID"), Verb::Update(update));
    assert!(matches!(parsed("checkpoint --help").request, Ok(Request::Print(text)) if text.contains("--image-path")));
    assert!(refused("--cgroup-manager disabled create ID").contains("-cgroup-manager"));
}

#[test]
fn what_go_runc_sends_besides() {
    assert_eq!(understood("--debug --rootless=true state ID").0.rootless, Rootless::True);
    assert_eq!(understood("--rootless= state ID").0.rootless, Rootless::Auto);
    assert_eq!(verb("list --format=json"), Verb::List(List { format: Listing::Json, quiet: false }));
    let events = |interval: &str, stats| {
        Verb::Events(Events { interval: interval.into(), stats, format: StatsFormat::Json, id: "ID".into() })
    };
    assert_eq!(verb("events --interval=10s ID"), events("10s", false));
    assert_eq!(verb("events --stats ID"), events("5s", true));
    assert_eq!(verb("features"), Verb::Features(Features::default()));
    assert_eq!(verb("features --host --json"), Verb::Features(Features { host: true, json: true }));
    let Verb::Create(create) = verb("create --pidfd-socket /s ID") else { panic!() };
    assert_eq!(create.pidfd_socket, Some("/s".into()));
}

#[test]
fn the_version_has_the_three_lines_that_go_runc_reads() {
    for line in ["--version", "-v", "-version", "--root /r --version"] {
        let Ok(Request::Print(text)) = parsed(line).request else { panic!("{line}") };
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("runb version "));
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
    }
}

#[test]
fn one_dash_or_two_and_a_value_behind_a_space_or_an_equals_sign() {
    let expected = Verb::Create(Create { bundle: Some("/b".into()), ..create() });
    for flags in
        ["--bundle /b", "--bundle=/b", "-bundle /b", "-bundle=/b", "-b /b", "-b=/b", "--b /b", "--bundle= -b /b"]
    {
        assert_eq!(verb(&format!("create {flags} ID")), expected, "{flags}");
    }
}

#[test]
fn flags_may_follow_the_id_but_those_of_an_execs_command_are_not_ours() {
    assert_eq!(verb("delete ID --force"), Verb::Delete(Delete { force: true, id: "ID".into() }));
    assert_eq!(understood("list --root /r").0.root, Some("/r".into()));
    let Verb::Exec(exec) = verb("exec -e A=1 --env B=2 -t ID ls -l --help --root /x -- y") else { panic!() };
    assert_eq!(exec.env, ["A=1", "B=2"]);
    assert_eq!(exec.command, ["ls", "-l", "--help", "--root", "/x", "--", "y"]);
    assert_eq!(parsed("exec -e A=1 ID ls -l").own_length, 4);
    let Verb::Exec(exec) = verb("exec -- ID ls") else { panic!() };
    assert_eq!((exec.id.as_str(), exec.command.len()), ("ID", 1));
}

#[test]
fn switches_take_values_the_last_wins_and_an_empty_value_is_none() {
    assert_eq!(verb("delete --force=false ID"), verb("delete ID"));
    assert_eq!(verb("delete --force --force=0 ID"), verb("delete ID"));
    assert_eq!(verb("delete --force=t ID"), verb("delete --force ID"));
    assert_eq!(verb("create --bundle /a --bundle /b ID"), verb("create --bundle /b ID"));
    let argv = ["create", "--bundle", "", "ID"].map(OsString::from);
    assert_eq!(parse(&argv).request, Ok(Request::Verb(Box::new(verb("create ID")))));
}

#[test]
fn spec_has_a_rootless_switch_of_its_own() {
    let (global, verb) = understood("spec --rootless --bundle /b");
    assert_eq!(global.rootless, Rootless::Auto);
    assert_eq!(verb, Verb::Spec(SpecFile { bundle: Some("/b".into()), rootless: true }));
}

#[test]
fn wrong_lines_are_refused_on_one_line() {
    for (line, text) in [
        ("create --nosuch ID", "flag provided but not defined: -nosuch"),
        ("--nosuch=x create ID", "flag provided but not defined: -nosuch"),
        ("create -b", "flag needs an argument: --bundle"),
        ("list --quiet=maybe", "invalid boolean value \"maybe\" for --quiet"),
        ("create", "\"create\" requires exactly 1 argument(s), not 0"),
        ("start a b", "\"start\" requires exactly 1 argument(s), not 2"),
        ("kill", "\"kill\" requires a minimum of 1 argument(s), not 0"),
        ("kill a b c", "\"kill\" requires a maximum of 2 argument(s), not 3"),
        ("exec", "\"exec\" requires a minimum of 1 argument(s), not 0"),
        ("features x", "\"features\" requires exactly 0 argument(s), not 1"),
    ] {
        assert_eq!(refused(line), text, "{line}");
    }
    for line in ["--log-format xml list", "--rootless maybe list", "create --preserve-fds -1 ID", "list -f yaml"] {
        let text = refused(line);
        assert!(text.contains("invalid value") && !text.contains('\n'), "{text}");
    }
    let unknown = parsed("nosuch --x").request.unwrap_err();
    assert_eq!((unknown.code, unknown.text.as_str()), (3, "\"nosuch\" is not a verb of runb; see runb --help"));
}

#[test]
fn a_refused_line_never_repeats_a_value() {
    assert_eq!(refused("exec -eTOKEN=secret ID ls"), "flag provided but not defined: -eTOKEN");
}

#[test]
fn a_wrong_line_still_names_verb_container_and_logs() {
    let parsed = parsed("--log /l --log-format json --invocation-log /i --rootless maybe create --nosuch ID");
    assert_eq!((parsed.verb.as_deref(), parsed.id.as_deref()), (Some("create"), Some("ID")));
    assert_eq!((parsed.global.log, parsed.global.log_format), (Some("/l".into()), Format::Json));
    assert_eq!(parsed.global.invocation_log, Some("/i".into()));
}

#[test]
fn help_names_every_verb_and_explains_each() {
    let Ok(Request::Print(text)) = parsed("").request else { panic!() };
    for definition in VERBS {
        assert!(text.contains(&format!("\n  {}", definition.name)), "{text}");
        for line in [format!("help {}", definition.name), format!("{} -h", definition.name)] {
            assert!(
                matches!(parsed(&line).request, Ok(Request::Print(text)) if text.contains("Usage: runb ")),
                "{line}"
            );
        }
    }
    assert!(text.contains("--no-invocation-log"));
}

#[test]
fn what_help_calls_not_there_is_refused() {
    let Ok(Request::Print(text)) = parsed("--help").request else { panic!() };
    assert!(text.contains("Not there yet:"));
    for (line, word, code) in [
        ("mounts add ID", "mounts", 3),
        ("create --config FILE ID", "--config", 1),
        ("kill --regex ID", "--regex", 1),
        ("--log-level debug state ID", "--log-level", 1),
        ("--cgroup-manager systemd state ID", "--cgroup-manager", 1),
    ] {
        assert!(text.contains(word), "{word}");
        let error = parsed(line).request.unwrap_err();
        assert_eq!(error.code, code, "{error:?}");
        assert!(error.text.contains(word.trim_start_matches('-')), "{error:?}");
    }
}

#[test]
fn the_definitions_of_every_verb_are_sound() {
    for definition in VERBS {
        verb_command(definition).debug_assert();
    }
    Global::augment_args(command("runb")).debug_assert();
}

/// What the table for users says: of each section, the words in backticks of the first column, and what stands below `runb`.
fn compatibility() -> Vec<(String, String, String)> {
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in include_str!("../../../docs/compatibility.md").lines() {
        if let Some(title) = line.strip_prefix("##") {
            section = title.trim_start_matches('#').trim().to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", first, _runc, _crun, runb, ..] = cells.as_slice() {
            let words = first.split(", ").map(|word| word.trim_matches('`').to_owned());
            rows.extend(words.map(|word| (section.clone(), word, (*runb).to_owned())));
        }
    }
    rows
}

#[test]
fn the_table_for_users_has_each_verb_and_each_flag_and_no_other() {
    let table = compatibility();
    let said = |section: &str| {
        let taken = table.iter().filter(|(of, word, runb)| {
            of == section && !word.starts_with("---") && !matches!(runb.as_str(), "runb" | "no")
        });
        let mut words: Vec<String> = taken.map(|(_, word, _)| word.clone()).collect();
        words.sort();
        words
    };
    let flags = |command: &Command| {
        let of = |arg: &clap::Arg| {
            let long = arg.get_long().map(|name| format!("--{name}"));
            long.into_iter().chain(arg.get_short().map(|name| format!("-{name}"))).collect::<Vec<_>>()
        };
        let mut flags: Vec<String> = command.get_arguments().flat_map(of).collect();
        flags.sort();
        flags
    };
    let mut verbs: Vec<String> = VERBS.iter().map(|verb| verb.name.to_owned()).collect();
    verbs.sort();
    assert_eq!(said("Verbs"), verbs);
    for verb in VERBS {
        assert_eq!(said(verb.name), flags(&verb_command(verb)), "{}", verb.name);
    }
    let mut global = flags(&Global::augment_args(command("runb")));
    // clap does not know of them: they are asked for before it is.
    global.extend(["--version".to_owned(), "-v".to_owned()]);
    global.sort();
    assert_eq!(said("Global"), global);
}

/// Words of a line.
fn line(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

#[test]
fn the_lines_of_engines_are_read_without_the_definitions_and_mean_the_same() {
    let lines = [
        "--root /run/containerd/runc/k8s.io --log /run/x/log.json --log-format json --systemd-cgroup create --bundle /run/x --pid-file /run/x/init.pid web1",
        "--root /run/runb --log /l --log-format json create --bundle /b --pid-file /p --console-socket /tmp/pty.sock web1",
        "--root /run/runb --log /l --log-format json start web1",
        "--root /run/runb --log /l --log-format json exec --process /tmp/p --detach --pid-file /p --console-socket /s web1",
        "--root /run/runb --log /l --log-format json kill --all web1 9",
        "--root /run/runb --log /l --log-format json delete --force web1",
        "--systemd-cgroup --root=/run/crun create --bundle /b --pid-file /p --preserve-fds 3 web1",
        "create -b /b --no-pivot --no-new-keyring web1",
        "run -d -b /b web1",
        "run --keep web1 --bundle=/b",
        "state web1",
        "pause web1",
        "resume web1",
        "kill web1",
        "kill web1 TERM",
        "exec -t -e A=b -e C=d=e -u 1:2 --cwd /x web1 ls -l --detach",
        "exec web1 --help",
        "state web1 --root /x --debug",
    ];
    for text in lines {
        let argv = line(text);
        assert_eq!(quick::parse(&argv), Some(parse_by_definitions(&argv)), "{text}");
    }
}

#[test]
fn each_flag_of_these_verbs_means_the_same_in_each_form_or_is_left_to_the_definitions() {
    let values = ["7", "/x", "json", "text", "a=b", "", "-1", "007", "+3", "4294967296", "true", "0"];
    let mut quick_ones = 0;
    for name in ["state", "start", "pause", "resume", "kill", "delete", "create", "run", "exec"] {
        let definition = definition(OsStr::new(name)).expect("a verb");
        let commands = [verb_command(definition), Global::augment_args(command("runb"))];
        let flags = commands.iter().flat_map(Command::get_arguments).flat_map(|arg| {
            let names = [arg.get_long().map(str::to_owned), arg.get_short().map(String::from)];
            names.into_iter().flatten().chain(["help".to_owned(), "version".to_owned(), "unknown".to_owned()])
        });
        for flag in flags {
            for dashes in ["-", "--"] {
                let forms = values.iter().flat_map(|value| {
                    [format!("{dashes}{flag}={value}"), format!("{dashes}{flag} {value}"), format!("{dashes}{flag}")]
                });
                for form in forms {
                    for text in [
                        format!("{form} {name} web1"),
                        format!("{name} {form} web1"),
                        format!("{name} web1 {form}"),
                        format!("{name} {form} {form} web1 9"),
                        format!("{name} {form}"),
                        format!("{name} {form} -- web1"),
                    ] {
                        let argv = line(&text);
                        if let Some(parsed) = quick::parse(&argv) {
                            quick_ones += 1;
                            assert_eq!(parsed, parse_by_definitions(&argv), "{text}");
                        }
                    }
                }
            }
        }
    }
    assert!(quick_ones > 3000, "{quick_ones}");
}

#[test]
fn words_that_are_no_text_are_left_to_the_definitions_where_they_are_to_be_text() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'/', 0xff]);
    let with = |before: &str| line(before).into_iter().chain([odd.clone()]).collect::<Vec<_>>();
    for argv in [with("state"), with("kill web1"), with("exec web1"), with("exec -u")] {
        if let Some(parsed) = quick::parse(&argv) {
            assert_eq!(parsed, parse_by_definitions(&argv), "{argv:?}");
        }
    }
    let root = [&with("--root")[..], &line("state web1")].concat();
    assert_eq!(quick::parse(&root), Some(parse_by_definitions(&root)));
}
