//! The log on a real file system: it appears, pairs up, and never gets in the way.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use nix::sys::stat::Mode;

use crate::config::Folder;

use super::*;

fn settings(path: PathBuf) -> Settings {
    Settings { path: Some(path), ..Settings::default() }
}

fn one_call(settings: Settings) {
    let argv = ["exec", "-e", "TOKEN=secret", "web1", "ls"].map(OsString::from);
    begin(settings, &argv, 4, Some("exec")).end(
        (Some("exec".into()), Some("web1".into())),
        (0, None),
        &Account::default(),
    );
}

#[test]
fn a_call_leaves_two_lines_with_one_invocation_in_a_private_file() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("runb.log");
    one_call(settings(log.clone()));
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let entries: Vec<Entry> = text.lines().map(|line| Entry::parse(line).unwrap()).collect();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].invocation, entries[1].invocation);
    let Event::Exit(exit) = &entries[1].event else { panic!("{text}") };
    assert_eq!(exit.caller.pid, nix::unistd::getppid().as_raw());
    assert!(!exit.caller.comm.is_empty());
}

#[test]
fn a_note_about_the_settings_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("runb.log");
    one_call(Settings { notes: vec!["runb.toml line 3: what?".into()], ..settings(log.clone()) });
    assert!(std::fs::read_to_string(&log).unwrap().contains(" note runb: 'runb.toml line 3: what?' # "));
}

#[test]
fn a_missing_folder_is_made_only_where_it_is_runbs_own() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("state/runb/runb.log");
    one_call(settings(log.clone()));
    assert!(!folder.path().join("state").exists());
    one_call(Settings { folder: Folder::Made, ..settings(log.clone()) });
    assert!(log.exists());
    assert_eq!(folder.path().join("state/runb").metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_is_no_regular_file_is_left_alone_and_nothing_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let target = folder.path().join("target");
    std::fs::write(&target, "").unwrap();
    let link = folder.path().join("link");
    symlink(&target, &link).unwrap();
    for path in [fifo, link, folder.path().into(), "/dev/full".into(), "/proc/version".into(), "".into()] {
        one_call(settings(path));
    }
    assert_eq!(std::fs::read(&target).unwrap(), b"");
}

#[test]
fn a_fifo_with_a_reader_gets_nothing_either() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let mut reader = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo).unwrap();
    one_call(settings(fifo));
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn when_it_is_off_nothing_is_written() {
    let record = begin(Settings::default(), &["list".into()], 1, Some("list"));
    assert!(record.target.is_none());
    record.end((None, None), (0, None), &Account::default());
}
