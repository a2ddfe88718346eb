//! What docs/compatibility.md says of those of runc's own tests that do not pass: what they look for is not there, and what
//! is there instead is. Who takes a difference away takes its row away.

use std::fs;
use std::process::Command;

use runb_tests::*;

/// A row: the test, what it looks for, what runb has; of each what stands in backticks.
struct Row {
    test: String,
    runcs: Vec<String>,
    runbs: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = include_str!("../../../docs/compatibility.md");
    let (_, section) = text.split_once("## runc's own tests\n").expect("the section");
    let lines = section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
        let [test, runcs, runbs] = cells[..] else { panic!("{line}: three columns") };
        Row { test: quoted(test)[0].clone(), runcs: quoted(runcs), runbs: quoted(runbs) }
    };
    lines.map(row).collect()
}

/// What runb says where the test looks; `None` of a row that another test holds.
fn said(t: &Test, test: &str) -> Option<String> {
    let all = |outcome: Outcome| format!("{}{}", outcome.stdout, outcome.stderr);
    let debugged = |verb: &[&str]| {
        let mut command = Command::new(t.runtime().path());
        command.args(["--debug", "--root"]).arg(t.root()).args(verb);
        all(t.finish(command))
    };
    Some(match test {
        "help.bats" => ["--help", "foo"].map(|word| all(t.call([word]))).concat() + &all(t.call(["run", "--help"])),
        "version.bats" => all(t.call(["--version"])),
        "debug.bats" | "run.bats" | "cpu_affinity.bats" => {
            let bundle = t.bundle().with_id(&t.name("d")).idle();
            bundle.write();
            let dir = bundle.dir().display().to_string();
            let run = debugged(&["run", "--detach", "--bundle", &dir, bundle.id()]);
            let exec = debugged(&["exec", bundle.id(), "true"]);
            t.call(["delete", "--force", bundle.id()]).ok();
            run + &exec
        }
        "mounts_sshfs.bats" => {
            let source = t.dir().join("locked");
            fs::create_dir_all(&source).expect("make a directory");
            let mount =
                |args: &[&str]| Command::new("mount").args(args).arg(&source).status().expect("mount").success();
            assert!(mount(&["-t", "tmpfs", "-o", "ro", "locked"]));
            let bound = json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "rw"]});
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            let bundle = t.bundle().with_id(&t.name("l")).mount(bound).spec(|spec| {
                spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
                (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
            });
            let refused = bundle.run();
            assert!(Command::new("umount").arg(&source).status().expect("umount").success());
            all(refused)
        }
        // `update::on_version_2_a_limit_that_does_not_fit_kills_nobody`: it takes the controller of memory.
        "update.bats" => return None,
        other => panic!("{other}: nothing here shows what runb has there"),
    })
}

#[test]
fn what_runcs_own_tests_look_for_and_do_not_find_is_as_the_table_for_users_says() {
    in_modes(V2, |t| {
        t.runb_only("the table is of runb");
        let rows = rows();
        assert!(rows.len() > 5);
        for Row { test, runcs, runbs } in rows {
            let Some(said) = said(t, &test) else { continue };
            let found =
                |words: &[String]| words.iter().filter(|words| said.contains(*words)).cloned().collect::<Vec<_>>();
            assert_eq!((found(&runcs), found(&runbs)), (Vec::new(), runbs), "{test}: {said}");
        }
    });
}
