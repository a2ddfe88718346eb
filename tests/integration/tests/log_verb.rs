//! `runb log`: the record as a tool.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use runb_tests::*;

const LOG: &str = "/var/log/runb.log";

/// `runb log` with arguments, itself not on record.
fn log(t: &Test, args: &[&str]) -> Outcome {
    t.runb_only("the log verb");
    let mut command = Command::new(t.runtime().path());
    command.args(["--invocation-log", LOG, "log"]).args(args);
    t.finish(command)
}

/// The objects of `--json`.
fn objects(t: &Test, args: &[&str]) -> Vec<Value> {
    let outcome = log(t, &[&["--json"], args].concat()).ok();
    outcome.stdout.lines().map(|line| line.parse().expect(line)).collect()
}

/// A life: created, started, ended, deleted.
fn life(t: &Test) -> String {
    let container = t.bundle().sh("exit 0").create();
    let (id, pid) = (container.id().to_owned(), container.pid());
    container.start().ok();
    container.reap(pid);
    container.delete().ok();
    id
}

#[test]
fn calls_are_picked_by_container_verb_outcome_caller_and_time() {
    in_modes(V2, |t| {
        let id = life(t);
        t.bundle().args(["/no/such"]).run();
        let verbs = |args: &[&str]| -> Vec<String> {
            objects(t, args).iter().map(|call| call["verb"].as_str().unwrap_or("?").to_owned()).collect()
        };
        assert_eq!(verbs(&[&id]), ["create", "state", "start", "delete"]);
        assert_eq!(verbs(&["--verb", "start"]), ["start"]);
        assert_eq!(verbs(&["--failed"]), ["run"]);
        assert_eq!(verbs(&["--failed", &id]), [""; 0]);
        assert_eq!(verbs(&["--slower", "1h"]), [""; 0]);
        assert_eq!(verbs(&["--since", "1h", "--verb", "create"]), ["create"]);
        assert_eq!(verbs(&["--until", "1h"]), [""; 0]);
        let caller = objects(t, &["--verb", "create"])[0]["caller"]["comm"].as_str().expect("a name").to_owned();
        assert_eq!(verbs(&["--verb", "create", "--caller", &caller]), ["create"]);
        assert_eq!(verbs(&["--caller", "nobody-else"]), [""; 0]);
        assert_eq!(verbs(&["--verb", "create", "--verb", "start", "-n", "1"]), ["start"]);
        for (args, why) in [
            (&["--since", "yesterday"][..], "--since"),
            (&["timeline"], "of which container"),
            (&["--prometheus"], "--prometheus: not here"),
            (&["stats", "--follow"], "--follow: not here"),
        ] {
            let outcome = log(t, args);
            assert!(outcome.code == 1 && outcome.stderr.contains(why), "{outcome:?}");
        }
    });
}

#[test]
fn a_table_is_plain_in_a_pipe_and_names_what_went_wrong() {
    in_modes(V2, |t| {
        t.bundle().args(["/no/such"]).run();
        let text = log(t, &[]).ok().stdout;
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(
            text.starts_with("TIME") && text.contains(" run ") && text.contains("failed") && text.contains("/no/such"),
            "{text}"
        );
    });
}

#[test]
fn rotated_and_compressed_files_are_read_in_order() {
    in_modes(V2, |t| {
        for name in ["oldest", "old", "older", "newest"] {
            t.call(["state", name]);
            match name {
                "oldest" => {
                    Command::new("gzip").arg(LOG).status().expect("start gzip");
                    fs::rename(format!("{LOG}.gz"), format!("{LOG}.3.gz")).expect("rename");
                }
                "old" => {
                    let zipped = format!("{LOG}.2.zst");
                    let zstd = Command::new("zstd").args(["-q", "--rm", LOG, "-o", &zipped]).status();
                    if zstd.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
                        t.skip("no zstd here");
                    }
                }
                "older" => fs::rename(LOG, format!("{LOG}.1")).expect("rename"),
                _ => {}
            }
        }
        let ids: Vec<Value> = objects(t, &["--verb", "state"]).iter().map(|call| call["container"].clone()).collect();
        assert_eq!(ids, ["oldest", "old", "older", "newest"]);
        for name in ["3.gz", "2.zst"] {
            let file = format!("{LOG}.{name}");
            assert_eq!(objects(t, &["--file", &file]).len(), 1, "{file}");
        }
    });
}

#[test]
fn what_is_written_later_is_followed_across_a_rotation() {
    in_modes(V2, |t| {
        t.call(["state", "before"]);
        let follower = Command::new(t.runtime().path())
            .args(["log", "--verb", "state", "--follow"])
            .stdout(Stdio::piped())
            .spawn();
        let mut follower = follower.expect("start");
        let mut lines = BufReader::new(follower.stdout.take().expect("a pipe"));
        let mut line = String::new();
        // The head comes when nothing is missed any more.
        lines.read_line(&mut line).expect("the head");
        let mut next = |name: &str| {
            t.call(["state", name]);
            line.clear();
            lines.read_line(&mut line).expect("a line");
            assert!(line.contains(&format!(" {name} ")), "{name}: {line}");
        };
        next("first");
        fs::rename(LOG, format!("{LOG}.1")).expect("rename");
        next("second");
        fs::rename(LOG, format!("{LOG}.2")).expect("rename");
        next("third");
        follower.kill().expect("kill");
        follower.wait().expect("wait");
    });
}

#[test]
fn a_call_that_was_killed_in_the_middle_is_shown_as_such_and_one_that_runs_as_running() {
    in_modes(V2, |t| {
        t.runb_only("the log verb");
        let bundle = t.bundle().sh(": >/share/there; exec sleep 86400");
        let there = bundle.share_dir().join("there");
        bundle.write();
        let mut child = bundle.command("run", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        wait::change_in(&bundle.share_dir(), "the workload", || there.exists());
        let outcome = || objects(t, &["--verb", "run"])[0]["outcome"].clone();
        assert_eq!(outcome(), "running");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(outcome(), "killed");
        assert!(log(t, &["--failed"]).ok().stdout.contains("killed"));
        assert!(log(t, &["explain", bundle.id()]).ok().stdout.contains("was killed before its end"));
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_timeline_is_text_a_picture_or_a_page() {
    in_modes(V2, |t| {
        let id = life(t);
        let text = log(t, &["timeline", &id]).ok().stdout;
        let create = &objects(t, &["--verb", "create"])[0];
        let took = |phase: &&Value| (phase["seconds"].as_f64().expect("a number") * 1e9) as u64;
        let longest = create["phases"].as_array().expect("phases").iter().max_by_key(took).expect("one");
        for part in ["create", "start", "delete", "█", longest["name"].as_str().expect("a name")] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let (svg, html) = (t.dir().join("life.svg"), t.dir().join("life.html"));
        let (svg_arg, html_arg) = (svg.to_str().expect("text"), html.to_str().expect("text"));
        log(t, &["timeline", &id, "--svg", svg_arg, "--html", html_arg]).ok();
        let picture = fs::read_to_string(svg).expect("a picture");
        assert!(picture.starts_with("<svg") && picture.contains("<rect") && picture.contains(&id), "{picture}");
        let page = fs::read_to_string(html).expect("a page");
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg") && page.contains("config.json"), "{page}");
    });
}

#[test]
fn statistics_count_each_verb_and_are_a_scrape_where_that_is_wanted() {
    in_modes(V2, |t| {
        life(t);
        t.bundle().args(["/no/such"]).run();
        let text = log(t, &["stats"]).ok().stdout;
        let row =
            |verb: &str| text.lines().find(|line| line.starts_with(verb)).unwrap_or_else(|| panic!("{verb}: {text}"));
        assert!(row("create").contains(" 1 ") && row("run").contains(" 1 "), "{text}");
        let scrape = log(t, &["stats", "--prometheus"]).ok().stdout;
        assert!(
            scrape.contains("verb=\"run\"") && scrape.contains("outcome=\"failed\"} 1") && scrape.ends_with("# EOF\n"),
            "{scrape}"
        );
    });
}

#[test]
fn a_replay_does_the_same_again_from_the_record_alone() {
    in_modes(V2, |t| {
        t.runb_only("the log verb");
        let settings = Settings::with(t, "[invocation-log]\nkeep-configs = \"all\"\n");
        let bundle = t.bundle().sh("echo again >/share/out; exit 7");
        let out = bundle.share_dir().join("out");
        assert_eq!(bundle.run().code, 7);
        fs::remove_file(&out).expect("it ran");
        fs::remove_file(bundle.dir().join("config.json")).expect("unlink");
        let script = log(t, &["replay", bundle.id()]).ok().stdout;
        let file = t.dir().join("replay.sh");
        fs::write(&file, &script).expect("a script");
        let mut command = Command::new("sh");
        command.arg(&file).env("RUNB", t.runtime().path()).env("TMPDIR", t.dir());
        let outcome = t.finish(command);
        assert_eq!(outcome.code, 7, "{outcome:?}\n{script}");
        assert_eq!(fs::read_to_string(&out).expect("it ran again"), "again\n");
        let work = outcome.stdout.lines().find_map(|line| line.strip_prefix("in ")).expect("a folder");
        fs::remove_dir_all(work).expect("remove");
        drop(settings);
    });
}

#[test]
fn an_explanation_names_the_cause_of_each_kind_of_failing_start() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the log verb");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no such GPU; exit 7"]});
        let mount = json!({"destination": "/data", "type": "none", "source": "/no/such/source", "options": ["bind"]});
        let kills = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS"}]});
        let mixed_up = json!({"destination": "/etc", "type": "none", "source": "/etc/passwd", "options": ["bind"]});
        let cases: [(Bundle<'_>, &[&str]); 5] = [
            (
                t.bundle().args(["/no/such/command"]),
                &["process.args[0]", "\"/no/such/command\"", "ENOENT", "root filesystem"],
            ),
            (t.bundle().args(["true"]).mount(mount), &["mounts[", "/no/such/source", "ENOENT", "source"]),
            (
                t.bundle().args(["true"]).mount(mixed_up),
                &["the source is not a directory", "compare source and destination"],
            ),
            (
                t.bundle().args(["true"]).hook("createRuntime", hook),
                &["hooks.createRuntime[0]", "exit status 7", "no such GPU", "own words"],
            ),
            (t.bundle().args(["true"]).set("/linux/seccomp", kills), &["runb seccomp --bundle"]),
        ];
        for (bundle, parts) in cases {
            let outcome = bundle.run();
            assert_ne!(outcome.code, 0, "{outcome:?}");
            // Engines remove the bundle of a start that failed.
            fs::remove_file(bundle.dir().join("config.json")).expect("unlink");
            let text = log(t, &["explain", bundle.id()]).ok().stdout;
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    });
}

#[test]
fn an_explanation_of_too_little_memory_names_the_limit() {
    in_modes(V2, |t| {
        t.runb_only("the log verb");
        let bundle = t.bundle().args(["true"]).set("/linux/resources/memory", json!({"limit": 4096}));
        let outcome = bundle.run();
        assert_ne!(outcome.code, 0, "{outcome:?}");
        let text = log(t, &["explain", bundle.id()]).ok().stdout;
        // The kernel counts in batches: once in a while the workload itself gets to run, and is killed.
        let named = if outcome.code == 137 { "out-of-memory killer" } else { "linux.resources.memory.limit" };
        assert!(text.contains(named), "{text}");
    });
}

#[test]
fn a_plan_is_told_to_a_person_and_two_of_them_are_compared() {
    in_modes(V2, |t| {
        t.runb_only("the plan verb");
        let first = t.bundle().idle();
        let mount = json!({"destination": "/scratch/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]});
        let second = t.bundle().idle().mount(mount).set("/process/env", json!(["PATH=/bin", "TOKEN=secret"]));
        let windows = json!({"layerFolders": []});
        let second = second.set("/windows", windows);
        first.write();
        second.write();
        let plan = |args: &[&str]| {
            let mut command = t.command(["plan"]);
            command.args(args);
            t.finish(command).ok().stdout
        };
        let dir = |bundle: &Bundle<'_>| bundle.dir().to_str().expect("text").to_owned();
        let text = plan(&["--bundle", &dir(&second), "web1"]);
        for part in
            ["web1, from ", "Process", "Namespaces", "Mounts", "scratch/data", "tmpfs (nosuid)", "Limits", "PATH TOKEN"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
        let text = plan(&["--diff", &dir(&first), &dir(&second)]);
        assert!(
            text.contains(".destination: \"/scratch/data\"")
                && text.contains("What is done")
                && text.contains("+ mounts["),
            "{text}"
        );
        assert!(text.contains("TOKEN=…") && !text.contains("secret"), "{text}");
        assert_eq!(plan(&["--diff", &dir(&first), &dir(&first)]), "");
    });
}
