//! Configurations with more mounts than a process may have descriptors.

use std::fs;
use std::time::{Duration, Instant};

use runb_tests::*;

/// A bundle with `count` bind mounts, each at a place of its own that is not there yet.
fn with_mounts(t: &Test, count: usize) -> Bundle<'_> {
    let source = t.dir().join("source");
    fs::create_dir_all(&source).expect("make a directory");
    t.bundle().with_id(&t.name("m")).spec(|spec| {
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        mounts.extend((0..count).map(|number| {
            json!({"destination": format!("/tmp/{number}"), "type": "bind", "source": source, "options": ["bind", "ro"]})
        }));
    })
}

#[test]
fn two_thousand_mounts_are_made_in_a_few_seconds_and_the_limit_is_the_workloads() {
    in_modes(V2, |t| {
        t.runb_only("the peers may take longer");
        let begun = Instant::now();
        let bundle = with_mounts(t, 2000).sh("grep -c ' /tmp/[0-9]* ro' /proc/self/mountinfo; ulimit -n; ulimit -Hn");
        assert_eq!(bundle.run().ok().stdout, "2000\n1024\n1024\n");
        assert!(begun.elapsed() < wait::slowly(Duration::from_secs(10)), "{:?}", begun.elapsed());
    });
}

#[test]
fn the_limit_of_the_caller_is_what_a_workload_without_one_gets_after_many_mounts() {
    in_modes(V2, |t| {
        t.runb_only("the peers may take longer");
        let bundle = with_mounts(t, 600).sh("ulimit -n").set("/process/rlimits", json!([]));
        bundle.write();
        let mut command = t.wrapped(&["sh", "-c", "ulimit -Sn 500; exec \"$@\"", "sh"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        assert_eq!(t.finish(command).ok().stdout, "500\n");
    });
}

#[test]
fn few_mounts_leave_the_limit_alone() {
    in_modes(V2, |t| {
        t.runb_only("runc has no plan");
        let bundle = with_mounts(t, 20);
        bundle.write();
        let plan = |limit: &str| {
            let line = format!("ulimit -Sn {limit}; exec \"$@\"");
            let mut command = t.wrapped(&["sh", "-c", &line, "sh"], ["plan", "--calls", "--bundle"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let text = t.finish(command).ok().stdout;
            text.lines().filter(|line| line.contains("RLIMIT_NOFILE")).count()
        };
        // process.rlimits has one.
        assert_eq!([plan("1024"), plan("64")], [1, 2]);
    });
}
