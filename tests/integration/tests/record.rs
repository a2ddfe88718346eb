//! What a record has in it: who called, where the time went, what the hooks did, and what an error is about.

use std::fs;
use std::process::Command;

use runb_tests::*;

const LOG: &str = "/var/log/runb.log";

fn sh(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// The records as JSON, the calls that `log` itself and others make left out.
fn records(verb: &str, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(LOG).expect("the log");
    let all = text.lines().map(|line| line.parse::<Value>().unwrap_or_else(|error| panic!("{error}: {line}")));
    all.filter(|record| record["event"] == event && (event != "exit" || record["verb"] == verb)).collect()
}

fn in_json(t: &Test) -> Settings {
    t.runb_only("the invocation log");
    Settings::with(t, "[invocation-log]\nformat = \"json\"\n")
}

fn names(record: &Value) -> Vec<String> {
    let phases = record["phases"].as_array().unwrap_or_else(|| panic!("phases: {record:#}"));
    phases.iter().map(|phase| phase["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_create_is_on_record_with_bundle_digest_caller_and_phases_that_add_up() {
    in_modes(LIFECYCLE, |t| {
        let _settings = in_json(t);
        let container = t.bundle().idle().create();
        let bundle = container.bundle().dir().to_owned();
        let [record] = records("create", "exit").try_into().expect("one create");
        assert_eq!(record["bundle"], bundle.to_str().expect("text"));
        let sum = Command::new("sha256sum").arg(bundle.join("config.json")).output().expect("sha256sum");
        let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
        assert_eq!(record["config"].as_str(), sum.split_whitespace().next());
        assert_eq!(record["caller"]["pid"], std::process::id());
        assert!(record["caller"]["comm"].as_str().is_some_and(|comm| comm.starts_with("record")), "{record:#}");
        let names = names(&record);
        for phase in
            ["beginning", "looking", "reading", "planning", "state", "cgroup", "limits", "spawn", "until-ready"]
        {
            assert!(names.iter().any(|name| name == phase), "{phase}: {names:?}");
        }
        let phases = record["phases"].as_array().expect("a list");
        let sum: f64 = phases.iter().map(|phase| phase["seconds"].as_f64().expect("a number")).sum();
        let whole = record["seconds"].as_f64().expect("a number");
        assert!(sum <= whole && sum > whole * 0.5, "{sum} of {whole}");
        container.delete_force().ok();
        let call = &records("create", "call")[0];
        assert_eq!(call["cwd"], std::env::current_dir().expect("a folder").to_str().expect("text"));
    });
}

#[test]
fn the_unit_of_who_called_is_on_record() {
    under_systemd(|t| {
        let _settings = in_json(t);
        let unit = format!("{}.scope", t.name("caller"));
        let scope = ["systemd-run", "--quiet", "--scope", "--unit", &unit, "sh", "-c", "\"$@\"; exit 0", "sh"];
        t.finish(t.wrapped(&scope, ["state", "nobody"])).ok();
        let [record] = records("state", "exit").try_into().expect("one state");
        assert_eq!(record["caller"]["unit"], unit, "{record:#}");
    });
}

#[test]
fn a_new_log_belongs_to_the_group_and_has_the_mode_that_are_set_up() {
    use std::os::unix::fs::MetadataExt;
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the invocation log");
        let _settings = Settings::with(t, "[invocation-log]\nmode = \"0640\"\ngroup = \"daemon\"\n");
        t.call(["state", "nobody"]).fails_with(&["does not exist"]);
        let log = fs::metadata(LOG).expect("the log");
        assert_eq!((log.gid(), log.mode() & 0o7777), (1, 0o640));
    });
}

#[test]
fn the_start_and_the_delete_have_their_phases_too() {
    in_modes(LIFECYCLE, |t| {
        let _settings = in_json(t);
        let container = t.bundle().sh("exit 0").create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        container.delete().ok();
        assert_eq!(names(&records("start", "exit")[0]), ["beginning", "reading", "execve"]);
        assert_eq!(names(&records("delete", "exit")[0]), ["beginning", "reading", "ending", "clean-up"]);
    });
}

#[test]
fn so_have_the_calls_in_between() {
    in_modes(LIFECYCLE, |t| {
        let _settings = in_json(t);
        let container = t.bundle().idle().run_detached();
        let id = container.id();
        for call in [&["state"][..], &["pause"], &["resume"], &["update"], &["kill"]] {
            t.call([&call[..1], &[id], &call[1..]].concat()).ok();
        }
        let phases = |verb| names(&records(verb, "exit")[0])[1..].to_vec();
        assert_eq!(phases("state"), ["reading"]);
        assert_eq!(phases("pause"), ["reading", "freeze"]);
        assert_eq!(phases("resume"), ["reading", "thaw"]);
        assert_eq!(phases("update"), ["reading", "planning", "limits", "state"]);
        assert_eq!(phases("kill"), ["signal"]);
        container.delete_force().ok();
    });
}

#[test]
fn each_hook_is_on_record_with_its_time_and_the_end_of_its_output_also_when_all_is_well() {
    in_modes(LIFECYCLE, |t| {
        let _settings = in_json(t);
        let bundle = t.bundle().args(["true"]).hook("createRuntime", sh("echo first; echo last >&2"));
        bundle.hook("poststop", sh("echo gone; exit 3")).run().ok();
        let record = &records("run", "exit")[0];
        let hooks = record["hooks"].as_array().expect("hooks");
        let [hook, poststop] = hooks.as_slice() else { panic!("{record:#}") };
        assert_eq!(
            (&hook["kind"], &hook["index"], &hook["path"]),
            (&json!("createRuntime"), &json!(0), &json!("/bin/sh"))
        );
        assert_eq!((&hook["status"], &hook["output"]), (&json!("exit status 0"), &json!("first\nlast")));
        assert!(hook["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{hook}");
        assert_eq!((&poststop["status"], &poststop["output"]), (&json!("exit status 3"), &json!("gone")));
        let names = names(record);
        for phase in ["createRuntime[0]", "workload", "poststop[0]", "clean-up"] {
            assert!(names.iter().any(|name| name == phase), "{phase}: {names:?}");
        }
    });
}

#[test]
fn a_failing_hook_is_on_record_with_its_status_and_output() {
    in_modes(V2, |t| {
        let _settings = in_json(t);
        t.bundle().idle().hook("createRuntime", sh("echo no GPU; exit 7")).try_create().fails_with(&["no GPU"]);
        let record = &records("create", "exit")[0];
        assert_eq!(record["hooks"][0]["status"], "exit status 7");
        assert_eq!(record["hooks"][0]["output"], "no GPU");
        assert_eq!(record["failure"]["place"], "hooks.createRuntime[0] (/bin/sh)");
        assert!(names(record).contains(&"clean-up".to_owned()), "{record:#}");
    });
}

#[test]
fn an_error_has_its_place_its_call_and_its_errno_as_fields() {
    in_modes(V2, |t| {
        let _settings = in_json(t);
        t.bundle().args(["/no/such/command"]).run();
        let record = &records("run", "exit")[0];
        let failure = &record["failure"];
        assert_eq!(failure["errno"], "ENOENT", "{record:#}");
        assert!(failure["place"].as_str().is_some_and(|place| place.starts_with("process.args")), "{record:#}");
        assert!(failure["index"].is_u64(), "{record:#}");
        assert!(failure["call"].as_str().is_some_and(|call| call.contains("/no/such/command")), "{record:#}");
    });
}

#[test]
fn the_last_lines_before_a_failure_are_in_the_log_without_debug() {
    in_modes(V2, |t| {
        let _settings = in_json(t);
        t.bundle().args(["/no/such/command"]).run();
        let lines: Vec<String> =
            records("run", "debug").iter().map(|record| record["text"].as_str().expect("text").to_owned()).collect();
        assert!(lines.iter().any(|line| line.contains("was cloned")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("it failed")), "{lines:#?}");
        t.bundle().args(["true"]).run().ok();
        assert_eq!(records("run", "debug").len(), lines.len(), "a call that succeeds has none");
    });
}

#[test]
fn an_exec_with_a_process_file_shows_the_arguments_and_no_value_of_a_variable() {
    in_modes(V2, |t| {
        let _settings = in_json(t);
        let container = t.bundle().idle().run_detached();
        let file = t.dir().join("process.json");
        let process = json!({"args": ["/bin/sh", "-c", "true"], "env": ["PATH=/bin", "TOKEN=very-secret"], "cwd": "/"});
        fs::write(&file, process.to_string()).expect("a process");
        let id = container.id().to_owned();
        t.call(["exec", "--process", file.to_str().expect("text"), &id]).ok();
        container.delete_force().ok();
        let record = &records("exec", "exit")[0];
        assert_eq!(record["process"], json!(["/bin/sh", "-c", "true"]));
        assert!(!fs::read_to_string(LOG).expect("the log").contains("very-secret"));
    });
}

#[test]
fn the_names_that_a_kubelet_knows_are_on_record() {
    in_modes(V2, |t| {
        let _settings = in_json(t);
        let annotations = json!({
            "io.kubernetes.cri.container-name": "web", "io.kubernetes.cri.sandbox-name": "shop-0",
            "io.kubernetes.cri.sandbox-namespace": "prod", "io.kubernetes.cri.sandbox-id": "feed",
        });
        t.bundle().args(["true"]).set("/annotations", annotations.clone()).run().ok();
        t.bundle().args(["/no/such"]).set("/annotations", annotations).run();
        for record in records("run", "exit") {
            let expected = json!({"container": "web", "pod": "shop-0", "namespace": "prod", "sandbox": "feed"});
            assert_eq!(record["names"], expected, "{record:#}");
        }
    });
}

#[test]
fn as_text_a_call_is_one_readable_line_and_its_exit_another() {
    in_modes(V2, |t| {
        t.runb_only("the invocation log");
        t.bundle().args(["true"]).run().ok();
        let text = fs::read_to_string(LOG).expect("the log");
        let [call, exit] = text.lines().collect::<Vec<_>>().try_into().expect("two lines");
        assert!(call.contains("] call runb: ") && exit.contains("] exit runb: verb=run "), "{text}");
        for field in [" status=0 ", " caller=", " bundle=/", " config=", " phases='beginning "] {
            assert!(exit.contains(field), "{field}: {exit}");
        }
        t.bundle().args(["true"]).hook("createRuntime", sh("echo the GPU is there")).run().ok();
        let text = fs::read_to_string(LOG).expect("the log");
        let hook = text.lines().last().expect("an exit").split(" hook=").nth(1).expect("a hook");
        for field in
            ["'createRuntime[0]' hook-path=/bin/sh ", " hook-status='exit status 0' hook-output='the GPU is there' #"]
        {
            assert!(hook.contains(field), "{field}: {hook}");
        }
    });
}

#[test]
fn a_drop_in_turns_on_every_step_for_an_id_an_annotation_or_a_verb() {
    in_modes(V2, |t| {
        let settings = in_json(t);
        settings.drop_in("10-debug.toml", "[[invocation-log.debug]]\nannotation = \"debug=yes\"\nverb = \"run\"\n");
        t.bundle().args(["true"]).run().ok();
        assert_eq!(records("run", "debug").len(), 0);
        t.bundle().args(["true"]).set("/annotations", json!({"debug": "yes"})).run().ok();
        let lines = records("run", "debug");
        let has = |text: &str| lines.iter().any(|line| line["text"].as_str().is_some_and(|line| line.contains(text)));
        assert!(has("planned: ") && has("was cloned") && has("the workload was executed"), "{lines:#?}");
        settings.drop_in("20-debug.toml", "[[invocation-log.debug]]\nid = \"look-\"\n");
        t.bundle().with_id("look-at-me").args(["true"]).run().ok();
        assert!(records("run", "debug").len() > lines.len());
    });
}

#[test]
fn records_that_a_full_disk_does_not_take_are_counted_and_the_next_one_tells() {
    in_modes(V2, |t| {
        let disk = t.dir().join("disk");
        fs::create_dir(&disk).expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk).status();
        assert!(mounted.expect("start mount").success());
        let log = disk.join("runb.log");
        let _settings = in_json(t);
        let call = || {
            let mut command = t.command(["state", "nobody"]);
            command.env("RUNB_LOG", &log);
            t.finish(command);
        };
        call();
        let filler = disk.join("filler");
        let _ = fs::write(&filler, vec![0; 1 << 20]);
        // What is left of the log's last page takes some lines.
        (0..20).for_each(|_| call());
        let before = fs::read_to_string(&log).expect("the log");
        fs::remove_file(&filler).expect("unlink");
        call();
        let text = fs::read_to_string(&log).expect("the log");
        let whole = before.lines().filter(|line| line.parse::<Value>().is_ok()).count();
        let note = text.lines().find(|line| line.contains("could not be written")).unwrap_or_else(|| panic!("{text}"));
        let count: usize =
            note.split("\"text\":\"").nth(1).and_then(|text| text.split(' ').next()?.parse().ok()).expect(note);
        // A failing state has four lines in two records: the call, and its end with what went before.
        assert!(count > 10 && count <= 40, "{count} lost, {whole} whole lines before");
        let calls =
            text.lines().filter(|line| line.contains("\"event\":\"call\"") && line.parse::<Value>().is_ok()).count();
        let exits =
            text.lines().filter(|line| line.contains("\"event\":\"exit\"") && line.parse::<Value>().is_ok()).count();
        assert_eq!(count + calls + exits, 44, "every record is there or counted: {text}");
        drop(_settings);
        Command::new("umount").arg(&disk).status().expect("start umount");
    });
}

#[test]
fn the_log_is_rotated_by_its_size_and_has_the_mode_that_is_set_up() {
    in_modes(V2, |t| {
        use std::os::unix::fs::PermissionsExt;
        t.runb_only("the invocation log");
        let text = "[invocation-log]\nmax-size = 2000\ngenerations = 2\nmode = \"0640\"\n";
        let _settings = Settings::with(t, text);
        (0..40).for_each(|_| drop(t.call(["state", "nobody"])));
        let mut names: Vec<String> = fs::read_dir("/var/log")
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, ["runb.log", "runb.log.1", "runb.log.2"]);
        for name in names {
            let mode = fs::metadata(format!("/var/log/{name}")).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
    });
}

#[test]
fn logrotates_own_file_rotates_it_too_and_no_call_is_told() {
    in_modes(V2, |t| {
        t.runb_only("the invocation log");
        let text = include_str!("../../../contrib/logrotate/runb");
        for word in ["/var/log/runb.log", "nocreate", "compress", "delaycompress", "missingok"] {
            assert!(text.lines().any(|line| line.trim().starts_with(word)), "{word}: {text}");
        }
        t.call(["state", "nobody"]);
        fs::rename(LOG, "/var/log/runb.log.1").expect("rename");
        t.call(["state", "somebody"]);
        assert!(fs::read_to_string(LOG).expect("a new log").contains("somebody"));
    });
}

#[test]
fn spans_of_a_launch_are_in_the_collectors_file_below_the_engines_trace() {
    in_modes(V2, |t| {
        t.runb_only("the invocation log");
        let spans = t.dir().join("spans.json");
        let _settings = Settings::with(t, &format!("[invocation-log]\nspans = {:?}\n", spans.to_str().expect("text")));
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        t.bundle().args(["true"]).set("/annotations", json!({"traceparent": trace})).run().ok();
        let text = fs::read_to_string(&spans).expect("spans");
        let line: Value = text.lines().next().expect("a line").parse().expect("JSON");
        let list = line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone();
        assert_eq!((&list[0]["name"], &list[0]["parentSpanId"]), (&json!("runb run"), &json!("00f067aa0ba902b7")));
        assert!(list.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"), "{list:#?}");
        assert!(
            list.iter().any(|span| span["name"] == "spawn" && span["parentSpanId"] == list[0]["spanId"]),
            "{list:#?}"
        );
    });
}

#[test]
fn journald_is_told_where_it_is_wanted() {
    in_modes(V2, |t| {
        use std::os::unix::net::UnixDatagram;
        t.runb_only("the invocation log");
        let _settings = Settings::with(t, "[invocation-log]\njournald = true\n");
        fs::create_dir_all("/run/systemd/journal").expect("a folder");
        let journal = UnixDatagram::bind("/run/systemd/journal/socket").expect("a socket");
        t.call(["state", "nobody"]);
        let mut bytes = vec![0; 65536];
        let length = journal.recv(&mut bytes).expect("a datagram");
        let text = String::from_utf8_lossy(&bytes[..length]);
        for line in ["SYSLOG_IDENTIFIER=runb", "RUNB_VERB=state", "CONTAINER_ID_FULL=nobody", "PRIORITY=3"] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        fs::remove_dir_all("/run/systemd").expect("remove");
    });
}
