//! `exec` into a container whose root filesystem has turned hostile: the classes of CVE-2024-21626, CVE-2019-5736,
//! CVE-2019-16884, CVE-2025-52565, CVE-2026-88265 and CVE-2021-43784, as far as a process that joins is exposed to them.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use runb_tests::*;
use rustix::process::{Pid, Signal, kill_process};

use super::canary::{Canary, without_mounts};
use super::descriptors::{armed, careless_call};
use super::exchange::{Exchange, rounds};

/// The command runs, or the runtime says why not: runc's 255, or 1.
#[track_caller]
fn refused_or_harmless(outcome: &Outcome) {
    assert!([0, 1, 126, 127, 255].contains(&outcome.code), "{outcome:?}");
    assert!(!outcome.log.contains("internal error"), "{outcome:?}");
}

/// Nothing of the runtime or the host has been read out.
#[track_caller]
fn shows_nothing(outcome: &Outcome, what: &str) {
    for word in ["canary", "ptmx", "runb version", "runc version"] {
        assert!(!outcome.stdout.contains(word), "{what}: {outcome:?}");
    }
}

/// A file with a process as JSON.
fn process_file(t: &Test, more: Value) -> String {
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/", "env": ["PATH=/bin"]});
    for (name, value) in more.as_object().expect("an object") {
        process[name] = value.clone();
    }
    let file = t.dir().join(t.name("process"));
    fs::write(&file, process.to_string()).expect("write the process");
    file.to_str().expect("a path").to_owned()
}

#[test]
fn an_executed_process_has_three_descriptors_and_no_more() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let container = armed(t.bundle().idle()).run_detached();
        let call = |args: &[&str]| careless_call(t, &canary, &[&["exec"], args].concat()).ok().stdout;
        let attacker = [container.id(), "/share/attacker", "descriptors"];
        assert_eq!(call(&attacker), "0 1 2\ndone\n");
        let file = process_file(t, json!({"args": ["/share/attacker", "descriptors"]}));
        assert_eq!(call(&["--process", &file, container.id()]), "0 1 2\ndone\n");
        container.delete_force().ok();
    });
}

#[test]
fn no_descriptor_root_or_working_directory_of_an_executed_process_leads_to_the_host() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let container = armed(t.bundle().idle()).run_detached();
        let mark = canary.file().display().to_string();
        let walk = |mark: &str| {
            careless_call(t, &canary, &["exec", container.id(), "/share/attacker", "walk", mark]).ok().stdout
        };
        assert_eq!(walk(&mark), "done\n");
        // The twin: the walk does find what it looks for.
        assert!(walk("/etc/passwd").contains("escaped: "));
        container.delete_force().ok();
    });
}

/// Working directories that lead out where the runtime is careless.
fn places() -> Vec<String> {
    let mut places: Vec<String> = (0..24).map(|i| format!("/proc/self/fd/{i}")).collect();
    places.extend((3..8).map(|i| format!("/proc/1/fd/{i}")));
    let more = ["/proc/thread-self/fd/20/..", "/proc/self/root/..", "/descriptor", "/up", "/absolute", "/../../up"];
    places.extend(more.map(str::to_owned));
    places
}

#[test]
fn a_working_directory_of_exec_in_a_leaked_descriptor_or_through_a_link_is_not_entered() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let (up, dir) = (Canary::upwards(&canary.dir()), canary.dir());
        let prepare = |root: &Path| {
            symlink("/proc/self/fd/20", root.join("descriptor")).expect("a link");
            symlink(&up, root.join("up")).expect("a link");
            symlink(&dir, root.join("absolute")).expect("a link");
        };
        let container = t.bundle().rootfs_with(prepare).idle().run_detached();
        for place in places() {
            let script = ["sh", "-c", "ls -a; ls .."];
            let file = process_file(t, json!({"cwd": place, "args": script}));
            let by_flag = [&["exec", "--cwd", &place, container.id()], &script[..]].concat();
            for args in [&by_flag[..], &["exec", "--process", &file, container.id()]] {
                let outcome = careless_call(t, &canary, args);
                refused_or_harmless(&outcome);
                shows_nothing(&outcome, &place);
                canary.is_unharmed(&place);
            }
        }
        assert_eq!(t.call(["exec", "--cwd", "/tmp", container.id(), "pwd"]).ok().stdout, "/tmp\n");
        container.delete_force().ok();
    });
}

#[test]
fn a_command_of_exec_that_is_the_runtime_itself_runs_nothing_of_it() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let prepare = |root: &Path| {
            symlink("/proc/self/exe", root.join("link")).expect("a link");
            fs::write(root.join("script"), "#!/proc/self/exe\n").expect("write");
            fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o755)).expect("chmod");
        };
        let container = t.bundle().rootfs_with(prepare).idle().run_detached();
        let mut programs: Vec<String> = ["/proc/self/exe", "/link", "/script"].map(str::to_owned).into();
        programs.extend((3..10).chain([20]).map(|i| format!("/proc/self/fd/{i}")));
        for program in programs {
            let outcome = careless_call(t, &canary, &["exec", container.id(), &program, "--version"]);
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{program}: {outcome:?}");
            canary.is_unharmed(&program);
        }
        t.call(["exec", container.id(), "/bin/true"]).ok();
        container.delete_force().ok();
    });
}

/// Puts something else in the place of `path`.
fn replace(path: &Path, with: &str, canary: &Canary) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("make directories");
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path).expect("remove");
    } else {
        let _ = fs::remove_file(path);
    }
    match with {
        "fifo" => assert!(Command::new("mkfifo").arg(path).status().expect("mkfifo").success()),
        "directory" => fs::create_dir(path).expect("make a directory"),
        "empty" => fs::write(path, "").expect("write"),
        "huge" => File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a file of a TiB"),
        "canary" => symlink(Canary::upwards(&canary.file()), path).expect("a link"),
        link => symlink(link, path).expect("a link"),
    }
}

/// A container that can be changed under the runtime: what is on /proc and /dev is the image's.
fn bare<'t>(t: &'t Test) -> Container<'t> {
    let bundle = without_mounts(t.bundle().with_id(&t.name("x")).writable(), &["/dev", "/proc"]);
    let bundle = bundle.set("/process/env", json!(["PATH=/bin"])).set("/linux/readonlyPaths", json!([]));
    bundle.set("/linux/maskedPaths", json!([])).idle().run_detached()
}

const KINDS: [&str; 8] = ["fifo", "directory", "empty", "huge", "canary", "/proc/1/mem", "/proc/self/fd/0", "loop"];

#[test]
fn files_that_the_container_has_replaced_mislead_no_exec_and_hold_none_up() {
    in_modes(ALL, |t| {
        t.runb_only("the peers wait at a FIFO in the place of passwd");
        let canary = Canary::new(t);
        for path in ["etc/passwd", "dev/null", "dev/console", "dev/tty", "etc/group"] {
            let container = bare(t);
            let root = container.bundle().rootfs();
            for kind in KINDS {
                replace(&root.join(path), if kind == "loop" { path } else { kind }, &canary);
                let what = format!("/{path} is {kind}");
                for user in ["0", "1000"] {
                    let outcome = t.call(["exec", "--user", user, container.id(), "sh", "-c", "echo $HOME"]);
                    assert!(
                        outcome.code == 0 && ["/\n", "/root\n", "/tmp\n"].contains(&&*outcome.stdout),
                        "{what}: {outcome:?}"
                    );
                }
                canary.is_unharmed(&what);
            }
            container.delete_force().ok();
        }
    });
}

#[test]
fn a_terminal_of_exec_comes_from_a_devpts_or_not_at_all() {
    in_modes(ALL, |t| {
        t.runb_only("the peers' messages differ");
        let canary = Canary::new(t);
        let container = bare(t);
        let root = container.bundle().rootfs();
        // The outer comes last: what is in it goes with it.
        for path in ["dev/pts/ptmx", "dev/pts", "dev"] {
            for kind in KINDS.into_iter().chain(["/zero", "none"]) {
                if kind != "none" {
                    replace(&root.join(path), if kind == "loop" { path } else { kind }, &canary);
                }
                let socket = ConsoleSocket::at(t.dir().join(t.name("socket")));
                let outcome =
                    t.call(["exec", "--detach", "--tty", "--console-socket", socket.path(), container.id(), "true"]);
                let what = format!("/{path} is {kind}");
                assert!(outcome.code == 255 && outcome.message().contains("process.terminal"), "{what}: {outcome:?}");
                canary.is_unharmed(&what);
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_false_procfs_of_the_container_swallows_nothing_that_exec_writes() {
    in_modes(ALL, |t| {
        t.runb_only("the peers write scores by the container's procfs, or not at all");
        let canary = Canary::new(t);
        let container = bare(t);
        let proc = container.bundle().rootfs().join("proc");
        let names = ["oom_score_adj", "attr/exec", "attr/apparmor/exec", "attr/keycreate", "setgroups", "status"];
        for process in ["self", "thread-self", "1"] {
            for name in names {
                let file = proc.join(process).join(name);
                fs::create_dir_all(file.parent().expect("a parent")).expect("make directories");
                fs::write(file, "").expect("write");
            }
        }
        let file = process_file(t, json!({"args": ["sleep", "86400"], "oomScoreAdj": 77}));
        let pid = t.dir().join("pid");
        let mut command = t.command(["exec", "--detach", "--process", &file, "--pid-file"]);
        command.arg(&pid).arg(container.id());
        t.finish(command).ok();
        let pid: i32 = fs::read_to_string(&pid).expect("a pid file").parse().expect("a pid");
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score"), "77\n");
        if !Path::new("/sys/module/apparmor").exists() && !Path::new("/sys/fs/selinux/enforce").exists() {
            for flags in [["--apparmor", "profile"], ["--process-label", "a:b:c:s0"]] {
                let outcome = t.call([&["exec"], &flags[..], &[container.id(), "true"]].concat());
                assert_eq!(outcome.code, 255, "{outcome:?}");
            }
        }
        for (process, name) in ["self", "thread-self", "1"].into_iter().flat_map(|p| names.map(|name| (p, name))) {
            let written = fs::read_to_string(proc.join(process).join(name)).expect("read");
            assert_eq!(written, "", "{process}/{name}");
        }
        canary.is_unharmed("exec");
        // Init cannot end before it is reaped.
        kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("kill");
        container.reap(pid);
        container.delete_force().ok();
    });
}

#[test]
fn a_command_that_is_exchanged_for_the_runtimes_own_runs_nothing_of_it() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let prepare = |root: &Path| {
            for (name, target) in [("program", "/bin/echo"), ("exe", "/proc/self/exe")] {
                symlink(target, root.join(name)).expect("a link");
            }
        };
        let container = t.bundle().writable().rootfs_with(prepare).idle().run_detached();
        let root = container.bundle().rootfs();
        let exchange = Exchange::of(&root.join("program"), &root.join("exe"));
        for _ in rounds(t) {
            let outcome = exchange.during(|| t.call(["exec", container.id(), "/program", "--version"]));
            refused_or_harmless(&outcome);
            assert!(outcome.stdout.is_empty() || outcome.stdout == "--version\n", "{outcome:?}");
        }
        let how = exchange.end();
        canary.is_unharmed(&how);
        container.delete_force().ok();
    });
}

#[test]
fn a_working_directory_that_is_exchanged_for_a_link_leads_no_exec_out() {
    in_modes(ALL, |t| {
        t.needs_program("bash");
        let canary = Canary::new(t);
        let prepare = |root: &Path| {
            fs::create_dir(root.join("place")).expect("make a directory");
            symlink(Canary::upwards(&canary.dir()), root.join("up")).expect("a link");
            symlink("/proc/self/fd/20", root.join("descriptor")).expect("a link");
        };
        let container = t.bundle().writable().rootfs_with(prepare).idle().run_detached();
        let root = container.bundle().rootfs();
        for link in ["up", "descriptor"] {
            let exchange = Exchange::of(&root.join("place"), &root.join(link));
            for _ in rounds(t) {
                let args = ["exec", "--cwd", "/place", container.id(), "ls", "-a", ".", ".."];
                let outcome = exchange.during(|| careless_call(t, &canary, &args));
                refused_or_harmless(&outcome);
                shows_nothing(&outcome, link);
            }
            let how = exchange.end();
            canary.is_unharmed(&how);
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_passwd_that_is_exchanged_holds_no_exec_up() {
    in_modes(ALL, |t| {
        t.runb_only("the peers wait at a FIFO");
        let canary = Canary::new(t);
        let container = t.bundle().writable().idle().run_detached();
        let etc = container.bundle().rootfs().join("etc");
        for (name, kind) in [("fifo", "fifo"), ("huge", "huge"), ("link", "../etc/../../etc/../etc/hosts")] {
            replace(&etc.join(name), kind, &canary);
            let exchange = Exchange::of(&etc.join("passwd"), &etc.join(name));
            for _ in rounds(t) {
                exchange.during(|| t.call(["exec", container.id(), "true"])).ok();
            }
            exchange.end();
        }
        container.delete_force().ok();
    });
}

#[test]
fn a_process_with_odd_strings_is_refused_or_taken_as_it_is() {
    in_modes(ALL, |t| {
        t.runb_only("the peers cut strings, or panic");
        let canary = Canary::new(t);
        let container = t.bundle().idle().run_detached();
        let long = "a".repeat(1 << 20);
        let refused = [
            json!({"args": ["tr\u{0}ue"]}),
            json!({"cwd": "/\u{0}"}),
            json!({"cwd": "relative"}),
            json!({"cwd": ""}),
            json!({"cwd": format!("/{long}")}),
            json!({"env": ["A=\u{0}"]}),
            json!({"args": []}),
            json!({"args": [""]}),
            json!({"args": [long]}),
            json!({"args": "true"}),
            json!({"apparmorProfile": "../../../sys/kernel\n"}),
            json!({"selinuxLabel": "a\u{0}b"}),
            json!({"rlimits": [{"type": "RLIMIT_NOFILE\n", "soft": 1, "hard": 1}]}),
            json!({"user": {"uid": -1, "gid": 0}}),
            json!({"user": {"uid": 4294967295u32, "gid": 0}}),
            json!({"user": {"uid": 0, "gid": 0, "additionalGids": vec![1; 70_000]}}),
            json!({"env": (0..1 << 18).map(|i| format!("A{i}=b")).collect::<Vec<_>>()}),
            json!({"env": ["A"]}),
        ];
        for more in refused {
            let text = more.to_string();
            let file = process_file(t, more);
            let outcome = t.call(["exec", "--process", &file, container.id()]);
            let text = &text[..text.len().min(80)];
            assert!(outcome.code == 255 && !outcome.message().contains("internal error"), "{text}: {outcome:?}");
            canary.is_unharmed(text);
        }
        let line = "one\ntwo\t$(x) %s \u{1b}[0m é";
        let file = process_file(t, json!({"args": ["echo", line], "env": [format!("A={line}"), "PATH=/bin"]}));
        assert_eq!(t.call(["exec", "--process", &file, container.id()]).ok().stdout, format!("{line}\n"));
        container.delete_force().ok();
    });
}
