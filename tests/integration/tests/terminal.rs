//! `process.terminal`: where its master goes, what the container sees of it, and the user's own terminal in the foreground.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use runb_tests::*;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::LocalModes;

fn with_terminal(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.set("/process/terminal", json!(true))
}

/// For what runs in the foreground of a caller without a terminal.
fn foreground_without_terminal(t: &Test) {
    t.runb_only("the peers want a terminal of the caller's in the foreground");
}

fn socket(t: &Test) -> ConsoleSocket {
    ConsoleSocket::at(t.dir().join(t.name("s")))
}

#[test]
fn the_console_socket_receives_the_master_and_its_name() {
    for_anyone(LIFECYCLE, |t| {
        let socket = socket(t);
        let bundle = with_terminal(t.bundle())
            .sh("test -t 0 && test -t 1 && test -t 2 && read line && echo got $line; read end");
        let container = bundle.create_with(&["--console-socket", socket.path()]);
        let (mut screen, name) = socket.receive();
        assert!(name.ends_with("/ptmx"), "{name:?}");
        container.start().ok();
        screen.types("hello\n");
        screen.shows("got hello");
        screen.types("\n");
        assert!(screen.ends(), "the terminal ends with the workload");
        container.delete_force().ok();
    });
}

#[test]
fn run_detached_hands_the_terminal_over_too() {
    for_anyone(V2, |t| {
        let socket = socket(t);
        let bundle = with_terminal(t.bundle()).sh("echo from the terminal; read end");
        let outcome = bundle.run_with(&["--detach", "--console-socket", socket.path()]).ok();
        socket.receive().0.shows("from the terminal");
        bundle.container(outcome).delete_force().ok();
    });
}

#[test]
fn the_terminal_is_one_of_the_containers_own_devpts_and_is_its_console() {
    for_anyone(LIFECYCLE, |t| {
        foreground_without_terminal(t);
        let script = "tty; stat -c '%F %t' /dev/console; grep ' /dev/console ' /proc/self/mountinfo | grep -o ' - devpts'; \
                      echo through >/dev/tty";
        let outcome = with_terminal(t.bundle()).sh(script).run().ok();
        assert_eq!(outcome.stdout, "/dev/pts/0\ncharacter special file 88\n - devpts\nthrough\n");
    });
}

#[test]
fn the_terminal_has_the_size_that_is_configured() {
    for_anyone(V2, |t| {
        let socket = socket(t);
        let size = json!({"height": 33, "width": 77});
        let bundle = with_terminal(t.bundle()).set("/process/consoleSize", size).sh("stty size; read end");
        let outcome = bundle.run_with(&["--detach", "--console-socket", socket.path()]).ok();
        socket.receive().0.shows("33 77");
        bundle.container(outcome).delete_force().ok();
    });
}

#[test]
fn the_console_size_is_nothing_without_a_terminal() {
    for_anyone(V2, |t| {
        let size = json!({"height": 33, "width": 77});
        t.bundle().set("/process/consoleSize", size).args(["true"]).run().ok();
    });
}

#[test]
fn the_terminal_belongs_to_the_user() {
    in_modes(V2, |t| {
        foreground_without_terminal(t);
        let user = json!({"uid": 1000, "gid": 1000});
        let bundle = with_terminal(t.bundle()).set("/process/user", user);
        let outcome = bundle.sh("stat -c %u:%g $(tty); echo mine >/dev/console").run().ok();
        assert_eq!(outcome.stdout, "1000:5\nmine\n");
    });
}

#[test]
fn without_a_console_socket_nothing_detached_gets_a_terminal() {
    for_anyone(V2, |t| {
        let text = if t.is(&[Kind::Crun]) { "" } else { "cannot allocate" };
        with_terminal(t.bundle()).args(["true"]).try_create().fails_with(&[text]);
        with_terminal(t.bundle()).args(["true"]).run_with(&["--detach"]).fails_with(&[text]);
    });
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("crun takes it");
        }
        let socket = socket(t);
        let bundle = t.bundle().args(["true"]);
        let outcome = t.finish(bundle.write().command("create", &["--console-socket", socket.path()]));
        outcome.fails_with(&["console"]);
    });
}

#[test]
fn a_console_socket_that_nobody_listens_to_is_an_error_and_leaves_nothing() {
    for_anyone(V2, |t| {
        let path = t.dir().join("nobody");
        let bundle = with_terminal(t.bundle()).args(["true"]);
        let command = || bundle.write().command("create", &["--console-socket", path.to_str().expect("text")]);
        t.finish(command()).fails_with(&["nobody"]);
    });
}

#[test]
fn a_devpts_that_is_not_the_containers_own_gives_no_terminal() {
    for_anyone(V2, |t| {
        let fake = t.dir().join("fake");
        fs::create_dir(&fake).expect("make a directory");
        fs::write(fake.join("ptmx"), "").expect("write");
        symlink("/proc/sys/kernel/domainname", fake.join("0")).expect("symlink");
        let bundle = with_terminal(t.bundle()).args(["true"]).spec(|spec| {
            let mounts = spec["mounts"].as_array_mut().expect("mounts");
            let place = mounts.iter().position(|mount| mount["destination"] == "/dev/pts").expect("/dev/pts");
            mounts[place] = json!({"destination": "/dev/pts", "type": "bind", "source": fake, "options": ["bind"]});
        });
        let socket = socket(t);
        let outcome = t.finish(bundle.write().command("create", &["--console-socket", socket.path()]));
        assert_ne!(outcome.code, 0, "{outcome:?}");
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["process.terminal", "needs a devpts of the container's own"]);
        }
    });
}

#[test]
fn a_console_that_is_a_link_is_not_followed() {
    for_anyone(V2, |t| {
        if t.is(&[Kind::Crun]) {
            t.skip("Debian's crun makes the file");
        }
        let canary = t.dir().join("canary");
        fs::create_dir(&canary).expect("make a directory");
        let bundle = with_terminal(t.bundle()).args(["true"]).rootfs_with(|rootfs| {
            symlink(canary.join("console"), rootfs.join("dev/console")).expect("symlink");
            fs::create_dir(rootfs.join("dev/pts")).expect("make a directory");
        });
        let bundle = bundle.writable().spec(|spec| {
            spec["mounts"].as_array_mut().expect("mounts").retain(|mount| {
                let destination = mount["destination"].as_str().expect("a destination");
                destination == "/dev/pts" || !destination.starts_with("/dev")
            });
        });
        let socket = socket(t);
        let outcome = t.finish(bundle.write().command("create", &["--console-socket", socket.path()]));
        assert_ne!(outcome.code, 0, "{outcome:?}");
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["process.terminal", "ELOOP"]);
        }
        assert_eq!(fs::read_dir(&canary).expect("list").count(), 0);
    });
}

#[test]
fn no_byte_of_the_foreground_is_lost_or_changed() {
    for_anyone(V2, |t| {
        foreground_without_terminal(t);
        let outcome = with_terminal(t.bundle()).sh("seq 1 40000; exit 5").run();
        let expected: String = (1..=40_000).map(|number| format!("{number}\n")).collect();
        assert_eq!(outcome.code, 5);
        assert!(outcome.stdout == expected, "{} bytes of {}", outcome.stdout.len(), expected.len());
    });
}

#[test]
fn a_reader_that_goes_away_does_not_hold_the_foreground() {
    for_anyone(V2, |t| {
        foreground_without_terminal(t);
        let bundle = with_terminal(t.bundle()).sh("seq 1 40000; exit 5");
        bundle.write();
        let mut command =
            t.wrapped(&["bash", "-c", "\"$@\" | head -n 1; exit ${PIPESTATUS[0]}", "bash"], ["run", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let outcome = t.finish(command);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (5, "1\n"), "{outcome:?}");
    });
}

#[test]
fn a_workload_that_closes_its_terminal_may_open_it_again() {
    for_anyone(V2, |t| {
        foreground_without_terminal(t);
        let script = "exec <&- >&- 2>&-; exec </dev/tty; echo late >/dev/console; exec >/dev/console; echo later";
        // As the leader of the session, it keeps the terminal.
        assert_eq!(with_terminal(t.bundle()).sh(script).run().ok().stdout, "late\nlater\n");
    });
}

#[test]
fn the_end_of_an_input_that_is_no_terminal_is_typed() {
    for_anyone(V2, |t| {
        t.runb_only("the peers leave the workload waiting");
        let bundle = with_terminal(t.bundle()).sh("stty -echo; echo ready >/share/events; cat; echo end");
        let mut events = t.fifo(&bundle, "events");
        let mut command = bundle.write().command("run", &[]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "ready");
        let mut stdin = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut stdin, b"one line\n").expect("write");
        drop(stdin);
        let output = child.wait_with_output().expect("wait");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "one line\nend\n");
    });
}

/// Starts the bundle in the foreground of a user's terminal.
fn in_the_foreground(t: &Test, user: &User, bundle: &Bundle<'_>) -> std::process::Child {
    bundle.write();
    let mut command = t.wrapped(&["setsid", "--ctty", "--wait"], ["run", "--bundle"]);
    command.arg(bundle.dir()).arg(bundle.id());
    user.starts(command)
}

#[test]
fn the_users_terminal_is_raw_meanwhile_and_restored_afterwards() {
    for_anyone(V2, |t| {
        let mut user = User::default();
        let before = user.screen.settings();
        let bundle = with_terminal(t.bundle())
            .sh("trap 'kill $!; echo interrupted' INT; sleep 86400 & echo up; wait; read line; echo got $line; exit 7");
        let mut child = in_the_foreground(t, &user, &bundle);
        user.screen.shows("up");
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(!user.screen.settings().local_modes.intersects(cooked));
        // The key that interrupts is the container's.
        user.screen.types("\x03");
        user.screen.shows("interrupted");
        user.screen.types("words\r");
        user.screen.shows("got words");
        assert_eq!(child.wait().expect("wait").code(), Some(7));
        let after = user.screen.settings();
        assert_eq!(
            (after.local_modes, after.output_modes, after.input_modes),
            (before.local_modes, before.output_modes, before.input_modes)
        );
    });
}

#[test]
fn the_users_terminal_is_restored_when_the_workload_is_killed() {
    in_modes(V2, |t| {
        let mut user = User::default();
        let before = user.screen.settings().local_modes;
        let bundle = with_terminal(t.bundle()).sh("echo up; read end");
        let mut child = in_the_foreground(t, &user, &bundle);
        user.screen.shows("up");
        t.call(["kill", bundle.id(), "KILL"]).ok();
        assert_eq!(child.wait().expect("wait").code(), Some(137));
        assert_eq!(user.screen.settings().local_modes, before);
    });
}

#[test]
fn the_users_terminal_is_as_it_was_after_a_failed_launch() {
    for_anyone(V2, |t| {
        let mut user = User::default();
        let before = user.screen.settings().local_modes;
        let bundle = with_terminal(t.bundle()).args(["/no/such/file"]);
        let mut child = in_the_foreground(t, &user, &bundle);
        assert_ne!(child.wait().expect("wait").code(), Some(0));
        user.screen.shows("/no/such/file");
        assert_eq!(user.screen.settings().local_modes, before);
    });
}

#[test]
fn the_containers_terminal_has_the_users_size_and_follows_it() {
    for_anyone(V2, |t| {
        let mut user = User::default();
        user.screen.resize(30, 90);
        let script = "trap 'stty size' WINCH; stty size; echo up; while ! read end; do :; done";
        let bundle = with_terminal(t.bundle()).sh(script);
        let mut child = in_the_foreground(t, &user, &bundle);
        user.screen.shows("up");
        user.screen.resize(41, 123);
        user.screen.shows("41 123");
        user.screen.types("\r");
        assert_eq!(child.wait().expect("wait").code(), Some(0));
    });
}

#[test]
fn a_signal_to_the_foreground_reaches_a_workload_with_a_terminal() {
    for_anyone(V2, |t| {
        foreground_without_terminal(t);
        // It waits by `wait`, which misses no signal: one that comes right before a `read` would not end that.
        let socketless =
            with_terminal(t.bundle()).sh("trap 'echo term; exit 9' TERM; sleep 1000 & echo up >/share/events; wait");
        let mut events = t.fifo(&socketless, "events");
        let (input, _held) = std::io::pipe().expect("a pipe");
        let mut command = socketless.write().command("run", &[]);
        let child = command.stdin(input).stdout(Stdio::piped()).spawn().expect("start the runtime");
        assert_eq!(events.line(), "up");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("kill");
        let output = child.wait_with_output().expect("wait");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(9), "term\n"));
    });
}

#[test]
fn exec_hands_the_terminal_of_its_command_to_the_console_socket() {
    for_anyone(LIFECYCLE, |t| {
        let container = t.bundle().idle().run_detached();
        let socket = socket(t);
        let script = "tty; test -t 1 && echo up; read line; echo got $line; read end";
        let pid = t.dir().join("pid");
        let mut command = t.command(["exec", "--detach", "--tty", "--console-socket", socket.path(), "--pid-file"]);
        command.arg(&pid).args([container.id(), "sh", "-c", script]);
        t.finish(command).ok();
        let (mut screen, name) = socket.receive();
        assert!(name.ends_with("/ptmx"), "{name:?}");
        screen.shows("/dev/pts/0");
        screen.shows("up");
        screen.types("hello\n");
        screen.shows("got hello");
        screen.types("\n");
        assert!(screen.ends());
        container.reap(fs::read_to_string(&pid).expect("the pid file").parse().expect("a pid"));
        container.delete_force().ok();
    });
}

#[test]
fn exec_carries_the_terminal_in_the_foreground() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let mut user = User::default();
        user.screen.resize(30, 90);
        let before = user.screen.settings().local_modes;
        let script = "stty size; read line; echo got $line; exit 6";
        let command = t.wrapped(&["setsid", "--ctty", "--wait"], ["exec", "--tty", container.id(), "sh", "-c", script]);
        let mut child = user.starts(command);
        user.screen.shows("30 90");
        user.screen.types("words\r");
        user.screen.shows("got words");
        assert_eq!(child.wait().expect("wait").code(), Some(6));
        assert_eq!(user.screen.settings().local_modes, before);
        container.delete_force().ok();
    });
}

#[test]
fn exec_detached_without_a_console_socket_gets_no_terminal() {
    for_anyone(V2, |t| {
        let container = t.bundle().idle().run_detached();
        let outcome = t.call(["exec", "--detach", "--tty", container.id(), "true"]);
        assert_ne!(outcome.code, 0, "{outcome:?}");
        container.delete_force().ok();
    });
}

#[test]
fn exec_takes_no_terminal_from_a_devpts_that_the_container_has_covered() {
    for_anyone(V2, |t| {
        let all = json!(["CAP_SYS_ADMIN", "CAP_MKNOD"]);
        let sets = json!({"bounding": all, "permitted": all, "effective": all});
        let script = "mount -t tmpfs t /dev/pts && : >/dev/pts/ptmx && echo up >/share/events; sleep 86400";
        let bundle = t.bundle().set("/process/capabilities", sets).sh(script);
        let mut events = t.fifo(&bundle, "events");
        let container = bundle.run_detached();
        assert_eq!(events.line(), "up");
        let socket = socket(t);
        let flags = ["exec", "--detach", "--tty", "--console-socket", socket.path(), container.id(), "true"];
        let outcome = t.call(flags);
        assert_ne!(outcome.code, 0, "{outcome:?}");
        if t.is(&[Kind::Runb]) {
            assert!(outcome.message().contains("process.terminal"), "{outcome:?}");
        }
        container.delete_force().ok();
    });
}
