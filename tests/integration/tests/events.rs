//! `events`: statistics, and what is told as it happens.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use runb_tests::*;

/// The statistics, printed once.
fn stats(t: &Test, container: &Container<'_>) -> Value {
    let line = t.call(["events", "--stats", container.id()]).ok().json();
    assert_eq!((&line["type"], &line["id"]), (&json!("stats"), &json!(container.id())));
    line["data"].clone()
}

/// crun has no events.
fn not_crun(t: &Test) {
    if t.is(&[Kind::Crun]) {
        t.skip("crun has no events");
    }
}

#[test]
fn the_figures_are_those_of_the_kernel() {
    in_modes(ALL, |t| {
        not_crun(t);
        let bundle = t.bundle().sh("sleep 86400 & echo >/share/ready; wait");
        let mut ready = t.fifo(&bundle, "ready");
        let container = bundle.run_detached();
        ready.line();
        let number = |controller: &str, file: &str| t.cgroup_file(controller, container.id(), file).parse::<u64>();
        let time = || match t.mode() {
            Mode::V2 => {
                let text = t.cgroup_file("", container.id(), "cpu.stat");
                1000 * text.split_whitespace().nth(1).expect("usage_usec").parse::<u64>().expect("a number")
            }
            _ => number("cpuacct", "cpuacct.usage").expect("a number"),
        };
        let before = time();
        let found = stats(t, &container);
        let total = found["cpu"]["usage"]["total"].as_u64().expect("a number");
        assert!((before..=time()).contains(&total), "{total} is not from {before} on");
        if t.mode() != Mode::V2 {
            assert_eq!(found["pids"]["current"], json!(2));
            let memory = &found["memory"];
            assert_eq!(memory["usage"]["limit"], json!(number("memory", "memory.limit_in_bytes").expect("a number")));
            let peak = memory["usage"]["max"].as_u64().expect("a number");
            assert!(peak <= number("memory", "memory.max_usage_in_bytes").expect("a number"), "{memory}");
            let stat = t.cgroup_file("memory", container.id(), "memory.stat");
            let raw = memory["raw"].as_object().expect("raw");
            assert_eq!(raw.len(), stat.lines().count());
            assert_eq!(found["cpuset"]["cpus"][0], json!(0));
        }
        container.delete_force().ok();
    });
}

/// Whether all that is in it is 0: runc leaves that out since 1.4.
fn is_zero(value: &Value) -> bool {
    value.as_object().map_or(*value == json!(0), |object| object.values().all(is_zero))
}

/// Every path of keys in an object; the keys of maps of the kernel's own names are left out.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(object) = value.as_object().filter(|_| !at.ends_with("/raw") && !at.ends_with("/hugetlb")) {
        for (key, value) in object.iter().filter(|(_, value)| !value.is_object() || !is_zero(value)) {
            let path = format!("{at}/{key}");
            keys(value, &path, found);
            found.insert(path);
        }
    }
}

#[test]
fn the_names_are_runcs() {
    in_modes(&[Mode::V1, Mode::V2], |t| {
        t.runb_only("it is compared with runc");
        t.needs_program("runc");
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; exec sleep 86400";
        let container = t.bundle().sh(script).run_detached();
        let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
        keys(&stats(t, &container), "", &mut ours);
        let bundle = t.bundle().sh(script);
        bundle.write();
        let runc = |args: &[&str]| {
            let output =
                Command::new("runc").arg("--root").arg(t.dir().join("runc")).args(args).output().expect("runc");
            assert!(output.status.success(), "{args:?}: {output:?}");
            output.stdout
        };
        let dir = bundle.dir().to_str().expect("text").to_owned();
        let mut run = Command::new("runc");
        run.arg("--root").arg(t.dir().join("runc")).args(["run", "--detach", "--bundle", &dir, bundle.id()]);
        assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runc").success());
        let line: Value = serde_json::from_slice(&runc(&["events", "--stats", bundle.id()])).expect("a line");
        keys(&line["data"], "", &mut theirs);
        runc(&["delete", "--force", bundle.id()]);
        container.delete_force().ok();
        // What runc leaves out where it is 0 depends on the moment; what is new since Debian's runc is in none of its lines.
        let missing: Vec<_> =
            theirs.difference(&ours).filter(|path| !path.starts_with("/blkio") && *path != "/memory/cache").collect();
        assert!(missing.is_empty(), "{missing:?} are not in {ours:?}");
        let new = |path: &&String| !path.contains("/psi") && !path.starts_with("/blkio") && !path.contains("/max");
        let more: Vec<_> = ours.difference(&theirs).filter(new).collect();
        assert!(more.iter().all(|path| path.starts_with("/cpuset") || path.starts_with("/memory/")), "{more:?}");
    });
}

#[test]
fn the_interfaces_are_those_that_the_container_sees() {
    in_modes(V2, |t| {
        t.runb_only("runc prints none");
        let container = t.bundle().idle().run_detached();
        let found = stats(t, &container);
        assert_eq!(found["network_interfaces"][0]["Name"], "lo", "{found}");
        container.delete_force().ok();
        let container = t.bundle().without_namespace("network").idle().run_detached();
        assert_eq!(stats(t, &container)["network_interfaces"], Value::Null);
        container.delete_force().ok();
    });
}

#[test]
fn a_line_comes_after_each_interval_until_the_container_stops() {
    in_modes(LIFECYCLE, |t| {
        not_crun(t);
        if t.is(&[Kind::Runc]) && t.mode() == Mode::V2 {
            t.needs_controller("memory");
        }
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        let mut events = t.command(["events", "--interval", "20ms", container.id()]);
        let mut events = events.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start events");
        let mut lines = BufReader::new(events.stdout.take().expect("stdout")).lines();
        for _ in 0..3 {
            let line: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
            assert_eq!(line["type"], "stats");
        }
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        container.delete().ok();
        for line in lines {
            line.expect("text");
        }
        assert!(events.wait().expect("the end of events").success());
    });
}

#[test]
fn the_out_of_memory_killer_is_told_of() {
    in_modes(ALL, |t| {
        not_crun(t);
        t.needs_controller("memory");
        let bundle = t.bundle().mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "t"}));
        let bundle =
            bundle.spec(|spec| spec["linux"]["resources"]["memory"] = json!({"limit": 16777216, "swap": 16777216}));
        let bundle =
            bundle.sh("read line </share/go; dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null; exec sleep 86400");
        let _keeps_it_open = t.fifo(&bundle, "go");
        let go = bundle.share_dir().join("go");
        let container = bundle.run_detached();
        let mut events = t.command(["events", "--interval", "10ms", container.id()]);
        let mut events = events.stdout(Stdio::piped()).spawn().expect("start events");
        let mut lines = BufReader::new(events.stdout.take().expect("stdout")).lines().map(|line| line.expect("text"));
        // The first statistics tell that it watches.
        assert!(lines.next().expect("a line").contains("\"stats\""));
        std::fs::write(go, "go\n").expect("let it go");
        let oom = lines.find(|line| !line.contains("\"stats\"")).expect("an event");
        assert_eq!(oom, format!("{{\"type\":\"oom\",\"id\":\"{}\"}}", container.id()));
        container.delete_force().ok();
        lines.for_each(drop);
        assert!(events.wait().expect("the end of events").success());
    });
}

#[test]
fn prometheus_scrapes_a_text() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("peers have no such form");
        let container = t.bundle().idle().run_detached();
        let outcome = t.call(["events", "--format", "prometheus", container.id()]).ok();
        let lines = outcome.lines();
        assert_eq!(lines.last(), Some(&"# EOF"));
        let mut types = BTreeSet::new();
        for line in &lines[..lines.len() - 1] {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(types.insert(rest.split(' ').next().expect("a name").to_owned()), "twice: {line}");
            } else if !line.starts_with('#') {
                let (name, rest) = line.split_once('{').expect("labels");
                let (labels, value) = rest.rsplit_once("} ").expect("a value");
                assert!(types.iter().any(|family| name == family || name == format!("{family}_total")), "{line}");
                assert!(labels.starts_with(&format!("id=\"{}\"", container.id())), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(types.contains("runb_cpu_seconds"), "{types:?}");
        container.delete_force().ok();
    });
}

#[test]
fn events_of_what_does_not_run_are_refused() {
    in_modes(LIFECYCLE, |t| {
        not_crun(t);
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        t.call(["events", "--interval", "0", container.id()]).fails_with(&["greater than 0"]);
        container.start().ok();
        container.reap(pid);
        t.call(["events", "--stats", container.id()]).fails_with(&["is not running"]);
        t.call(["events", container.id()]).fails_with(&["is not running"]);
        container.delete().ok();
        t.call(["events", "--stats", "nobody"]).fails_with(&["does not exist"]);
    });
}
