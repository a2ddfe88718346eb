//! `ps`: the processes of a container.

use runb_tests::*;

/// The ids that `ps --format json` prints.
fn pids(t: &Test, container: &Container<'_>) -> Vec<i32> {
    let outcome = t.call(["ps", "--format", "json", container.id()]).ok().json();
    outcome.as_array().expect("a list").iter().map(|pid| pid.as_i64().expect("a number") as i32).collect()
}

/// A container with a second process in a cgroup below its own.
fn with_a_process_below<'t>(t: &'t Test) -> Container<'t> {
    let bundle = t.bundle().sh("sleep 86400 & echo $! >/share/ready; exec sleep 86400");
    let mut ready = t.fifo(&bundle, "ready");
    let container = bundle.run_detached();
    assert!(!ready.line().is_empty());
    let below: Vec<i32> = pids(t, &container).into_iter().filter(|pid| *pid != container.pid()).collect();
    for dir in cgroups_of(t, container.id()) {
        std::fs::create_dir(dir.join("below")).expect("make a cgroup below");
        std::fs::write(dir.join("below/cgroup.procs"), below[0].to_string()).expect("move a process");
    }
    container
}

fn cgroups_of(t: &Test, id: &str) -> Vec<std::path::PathBuf> {
    match t.mode() {
        Mode::V2 => vec![std::path::Path::new("/sys/fs/cgroup").join(id)],
        // All but cpuset, which would have to be filled first.
        _ => ["devices", "freezer", "pids"].iter().filter_map(|name| Some(t.controller_dir(name)?.join(id))).collect(),
    }
}

#[test]
fn the_list_has_every_process_of_the_container_and_of_the_cgroups_below_it() {
    in_modes(ALL, |t| {
        let container = with_a_process_below(t);
        let found = pids(t, &container);
        assert!(found.len() == 2 && found.contains(&container.pid()), "{found:?}");
        container.call("exec", &["true"]).ok();
        assert_eq!(pids(t, &container), found);
        container.delete_force().ok();
    });
}

#[test]
fn the_table_is_that_of_ps_with_the_lines_of_the_container() {
    in_modes(LIFECYCLE, |t| {
        t.needs_program("ps");
        if t.is(&[Kind::Crun]) {
            t.skip("crun prints ids alone");
        }
        let container = t.bundle().idle().run_detached();
        let outcome = container.call("ps", &[]).ok();
        let [head, line] = outcome.lines()[..] else { panic!("{outcome:?}") };
        let titles: Vec<_> = head.split_whitespace().collect();
        assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(line.split_whitespace().nth(1), Some(container.pid().to_string().as_str()));
        assert!(line.ends_with("sleep 86400"), "{line}");
        let outcome = container.call("ps", &["-eo", "comm,pid"]).ok();
        let words: Vec<_> = outcome.stdout.split_whitespace().collect();
        assert_eq!(words, ["COMMAND", "PID", "sleep", &container.pid().to_string()]);
        container.call("ps", &["-eo", "comm"]).fails_with(&["PID field"]);
        container.call("ps", &["--nosuch"]).fails_with(&["option"]);
        container.delete_force().ok();
    });
}

#[test]
fn a_container_that_has_stopped_has_no_processes() {
    in_modes(ALL, |t| {
        t.needs_program("ps");
        if t.is(&[Kind::Crun]) {
            t.skip("crun fails");
        }
        let container = t.bundle().args(["true"]).create();
        let pid = container.pid();
        container.start().ok();
        container.reap(pid);
        let outcome = container.call("ps", &[]).ok();
        assert_eq!(outcome.lines().len(), 1, "{outcome:?}");
        let list = t.call(["ps", "--format", "json", container.id()]).ok().json();
        assert!(list.is_null() || list == json!([]), "{list}");
        container.delete().ok();
        t.call(["ps", "nobody"]).fails_with(&["does not exist"]);
    });
}
