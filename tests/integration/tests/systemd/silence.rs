//! A systemd that is not there, or does not answer.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::{JoinHandle, spawn};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// Nobody of systemd can be reached from here on, in this test's mount namespace.
fn hide_systemd() {
    for dir in ["/run/systemd", "/run/dbus"] {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), Some(c"mode=755")).expect("mount a tmpfs");
    }
}

#[test]
fn only_create_and_delete_need_systemd() {
    under_systemd(|t| {
        let container = t.bundle().sh("trap 'exit 3' TERM; while :; do sleep 0.1; done").create();
        let pid = container.pid();
        hide_systemd();
        container.start().ok();
        assert_eq!(container.status(), "running");
        assert_eq!(container.call("exec", &["echo", "here"]).ok().stdout, "here\n");
        container.kill(&["TERM"]).ok();
        assert_eq!(container.reap(pid), 3);
        assert_eq!(container.status(), "stopped");
        let other = t.bundle().try_create();
        other.fails_with(&[]);
        show_systemd();
        container.delete_force().ok();
    });
}

fn show_systemd() {
    for dir in ["/run/systemd", "/run/dbus"] {
        unmount(dir, UnmountFlags::DETACH).expect("umount");
    }
}

#[test]
fn who_can_not_be_reached_is_named() {
    under_systemd(|t| {
        t.runb_only("its own words");
        hide_systemd();
        let outcome = t.bundle().idle().try_create();
        show_systemd();
        outcome
            .fails_with(&["/run/systemd/private: no such file or directory (ENOENT)", "/run/dbus/system_bus_socket"]);
    });
}
#[test]
fn an_update_that_systemd_is_not_there_for_changes_nothing() {
    under_systemd(|t| {
        t.runb_only("runc 1.1 and crun change some");
        let container = with_limits(t.bundle().idle()).run_detached();
        hide_systemd();
        container.call("update", &["--pids-limit", "44"]).fails_with(&[]);
        show_systemd();
        limits_hold(t, &container);
        container.delete_force().ok();
    });
}

#[test]
fn a_container_is_paused_and_killed_while_systemd_is_not_there() {
    under_systemd(|t| {
        let container = t.bundle().idle().run_detached();
        let pid = container.pid();
        hide_systemd();
        container.call("pause", &[]).ok();
        assert_eq!(container.status(), "paused");
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "running");
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        show_systemd();
        container.delete().ok();
        assert_eq!(systemd::units(&container.unit()), [""; 0]);
    });
}

/// Has the runtime wait for systemd no longer than a second.
fn be_impatient() {
    fs::create_dir_all("/etc/runb").expect("make a directory");
    mount("tmpfs", "/etc/runb", "tmpfs", MountFlags::empty(), Some(c"mode=755")).expect("mount a tmpfs");
    fs::write("/etc/runb/runb.toml", "[systemd]\ntimeout = \"1s\"\n").expect("write");
}

fn be_patient_again() {
    unmount("/etc/runb", UnmountFlags::DETACH).expect("umount");
}

/// Takes systemd's place: says `word` to who calls first, and no more. It returns what the files of the container `id` said
/// then, and what is to be kept so that nobody sees the connection go.
fn be_silent_after(word: &'static [u8], t: &Test, id: &str) -> JoinHandle<(String, UnixListener, UnixStream)> {
    hide_systemd();
    let listener = UnixListener::bind("/run/systemd/private").expect("a socket");
    let folder = t.root().join(id);
    spawn(move || {
        let (mut caller, _) = listener.accept().expect("somebody calls");
        let files = fs::read_dir(folder).expect("the container's folder").filter_map(Result::ok);
        let texts = files.filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()));
        let said = texts.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect();
        caller.write_all(word).expect("write");
        (said, listener, caller)
    })
}

#[test]
fn a_systemd_that_lets_nobody_in_fails_the_create_in_time_and_the_unit_was_written_down_before() {
    under_systemd(|t| {
        t.runb_only("runc and crun wait for ever");
        let bundle = t.bundle().idle();
        let unit = format!("runbtest-{}.scope", bundle.id());
        be_impatient();
        let systemd = be_silent_after(b"", t, bundle.id());
        bundle.try_create().fails_with(&[&unit, "ETIMEDOUT", "within 1s"]);
        let (said, ..) = systemd.join().expect("joined");
        assert!(said.contains(&unit), "{said}");
        show_systemd();
        be_patient_again();
    });
}

#[test]
fn a_systemd_that_does_not_answer_fails_the_create_in_time_and_a_delete_finds_what_there_may_be() {
    under_systemd(|t| {
        t.runb_only("runc and crun wait for ever");
        let bundle = t.bundle().idle();
        be_impatient();
        let systemd = be_silent_after(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n", t, bundle.id());
        bundle.try_create().fails_with(&[&format!("runbtest-{}.scope", bundle.id()), "ETIMEDOUT", "within 1s"]);
        systemd.join().expect("joined");
        show_systemd();
        be_patient_again();
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_paused_container_stays_so_while_systemd_is_loaded_and_executed_anew() {
    under_systemd(|t| {
        let container = with_limits(t.bundle().idle()).run_detached();
        container.call("pause", &[]).ok();
        for verb in ["daemon-reload", "daemon-reexec"] {
            renew(verb);
            assert_eq!(container.status(), "paused", "after {verb}");
        }
        container.call("resume", &[]).ok();
        assert_eq!(container.status(), "running");
        container.delete_force().ok();
    });
}
