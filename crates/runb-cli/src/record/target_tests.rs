//! The file with many writers, and when it has grown.

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;

fn target(path: PathBuf, max_size: u64, generations: u32) -> Target {
    let settings = Settings { path: Some(path), max_size, generations, ..Settings::default() };
    Target::new(&settings).unwrap()
}

fn lines_of(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .flat_map(|file| std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn of_sixty_four_writers_with_ten_thousand_records_each_none_is_lost_while_the_log_is_rotated() {
    const WRITERS: usize = 64;
    const RECORDS: usize = 10_000;
    let folder = tempfile::tempdir().unwrap();
    // 640,000 lines of 100 bytes are 64 MB: some sixty files, and none is dropped.
    let target = target(folder.path().join("runb.log"), 1 << 20, 200);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let target = &target;
            scope.spawn(move || {
                for record in 0..RECORDS {
                    target.append(&format!("{writer}-{record} {}\n", "x".repeat(90)), 0);
                }
            });
        }
    });
    let lines = lines_of(folder.path());
    assert_eq!(lines.len(), WRITERS * RECORDS);
    let different: HashSet<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(different.len(), WRITERS * RECORDS);
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert!(files > 30, "{files} files");
}

#[test]
fn a_log_that_has_grown_is_renamed_and_so_many_of_them_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let target = target(folder.path().join("runb.log"), 10, 2);
    for text in ["first first\n", "second second\n", "third third\n", "fourth\n"] {
        target.append(text, 0);
    }
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("runb.log"), "fourth\n");
    assert_eq!((read("runb.log.1").as_str(), read("runb.log.2").as_str()), ("third third\n", "second second\n"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn without_a_size_it_is_never_rotated_and_without_generations_the_old_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let never = target(folder.path().join("never"), 0, 4);
    let none = target(folder.path().join("none"), 5, 0);
    for target in [&never, &none] {
        target.append("first\n", 0);
        target.append("second\n", 0);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("never")).unwrap(), "first\nsecond\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("none")).unwrap(), "second\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_log_that_somebody_else_has_renamed_gets_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runb.log");
    let target = target(path.clone(), 0, 4);
    target.append("old\n", 0);
    std::fs::rename(&path, folder.path().join("runb.log-20261122")).unwrap();
    target.append("new\n", 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
}

#[test]
fn a_new_log_has_the_permissions_and_the_group_that_are_set_up_and_an_old_one_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runb.log");
    let group = std::fs::metadata(folder.path()).unwrap().gid();
    let settings = Settings {
        path: Some(path.clone()),
        mode: Some(0o640),
        group: Some(Group::Id(group)),
        max_size: 4,
        ..Settings::default()
    };
    let target = Target::new(&settings).unwrap();
    target.append("first\n", 0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(path.metadata().unwrap().gid(), group);
    target.append("second\n", 0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let plain = Target::new(&Settings { max_size: 0, mode: Some(0o600), ..settings }).unwrap();
    plain.append("third\n", 0);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}
