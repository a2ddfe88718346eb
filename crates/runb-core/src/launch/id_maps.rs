//! Writing the maps of a user namespace: by the runtime, or by newuidmap(1) and newgidmap(1), which know what a user has.

use std::fs;
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::ask::{PATIENCE, ask};
use crate::error::{Error, Kind, Result};
use crate::plan::{IdMaps, Writer, Writers};

/// Writes the maps of the user namespace that `pid` has made; `places` are those in config.json.
///
/// # Errors
/// A write fails, or a program does; then with what the user lacks.
pub(super) fn write(pid: i32, maps: &IdMaps, writers: &Writers, places: [&str; 2]) -> Result<()> {
    write_one(pid, ("uid_map", &maps.uids), &writers.uids).map_err(|error| error.at(places[0]))?;
    if writers.gids == Writer::Own {
        // Else who is in a group could leave it (user_namespaces(7), "The /proc/pid/setgroups file"). A kernel without the file
        // has no need of it.
        let path = format!("/proc/{pid}/setgroups");
        if Path::new(&path).exists() {
            fs::write(&path, "deny").map_err(|e| Error::io(format!("write \"deny\" to {path}"), &e).at(places[1]))?;
        }
    }
    write_one(pid, ("gid_map", &maps.gids), &writers.gids).map_err(|error| error.at(places[1]))
}

fn write_one(pid: i32, (file, text): (&str, &str), writer: &Writer) -> Result<()> {
    let Writer::Program(program) = writer else {
        let path = format!("/proc/{pid}/{file}");
        return fs::write(&path, text).map_err(|error| {
            let refused = error.raw_os_error() == Some(nix::libc::EPERM);
            let why = if refused { why_refused(file, text) } else { None };
            let error = Error::io(format!("write {text:?} to {path}"), &error);
            why.into_iter().fold(error, Error::with_hint)
        });
    };
    let args = std::iter::once(pid.to_string()).chain(text.split_whitespace().map(str::to_owned));
    let name = program.display();
    let (status, said) =
        ask(program, args, PATIENCE).map_err(|e| Error::io(format!("execute {name}"), &e))?;
    if status.success() {
        return Ok(());
    }
    let said = said.trim().lines().next().unwrap_or_default().to_owned();
    let lacks = missing_range(file, text).map_or(String::new(), |lacks| format!("; {lacks}"));
    Err(Error::new(Kind::Host, format!("{name}: {status}: {said}{lacks}")))
}

/// Why the kernel refuses a map with EPERM (map_write and verify_root_map in kernel/user_namespace.c), as far as that can be told.
fn why_refused(file: &str, map: &str) -> Option<String> {
    let path = format!("/proc/self/{file}");
    let own = fs::read_to_string(&path).ok()?;
    if let Some((first, size)) = unknown(map, &own) {
        let last = first + size.saturating_sub(1);
        return Some(format!("the runtime's own user namespace has not all of {first} to {last} in one range of {path}"));
    }
    let is_root = |(first, size): (u64, u64)| first == 0 && size > 0;
    let may_map_root = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETFCAP).unwrap_or(true);
    let refused = file == "uid_map" && !may_map_root && ranges(map, 1).any(is_root);
    refused.then(|| "0 is mapped by who has CAP_SETFCAP, since Linux 5.12".to_owned())
}

/// The first range of `map` that lies in none of those that there are in the own user namespace.
fn unknown(map: &str, own: &str) -> Option<(u64, u64)> {
    let own: Vec<_> = ranges(own, 0).collect();
    ranges(map, 1).find(|(first, size)| !own.iter().any(|(begin, length)| begin <= first && first + size <= begin + length))
}

/// The ranges of a map, of the ids in its `column`: begin and length.
fn ranges(map: &str, column: usize) -> impl Iterator<Item = (u64, u64)> {
    map.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some((fields.get(column)?.parse().ok()?, fields.get(2)?.parse().ok()?))
    })
}

/// Which of the ranges the user has not by /etc/subuid or /etc/subgid, as far as these tell: others may come from a directory of users.
fn missing_range(file: &str, map: &str) -> Option<String> {
    let (list, own) = match file {
        "uid_map" => ("/etc/subuid", Uid::effective().as_raw()),
        _ => ("/etc/subgid", nix::unistd::Gid::effective().as_raw()),
    };
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) => return Some(format!("{list}: {error}")),
    };
    let names = [name.clone(), uid.to_string()];
    let (first, size) = uncovered(map, &text, &names, own)?;
    let last = first + size.saturating_sub(1);
    Some(format!("{list} has no entry that gives {name} {first} to {last}"))
}

/// The first range of `map`, without the own id, that no entry of one of `names` covers: its begin and its length.
fn uncovered(map: &str, list: &str, names: &[String], own: u32) -> Option<(u64, u64)> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let entries = list.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let user = fields.next()?;
        let range = (number(fields.next()?)?, number(fields.next()?)?);
        names.iter().any(|name| name == user).then_some(range)
    });
    let entries: Vec<(u64, u64)> = entries.collect();
    let covered = |first: u64, size: u64| {
        (first, size) == (own.into(), 1)
            || entries.iter().any(|(begin, length)| *begin <= first && first + size <= begin + length)
    };
    ranges(map, 1).find(|(first, size)| !covered(*first, *size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_that_the_own_user_namespace_lacks_is_found() {
        let own = "         0     100000       1000\n      1000     200000         10\n";
        assert_eq!(unknown("0 0 1000\n1000 1000 10\n", own), None);
        assert_eq!(unknown("0 0 1\n1 1005 10\n", own), Some((1005, 10)));
        assert_eq!(unknown("0 999 2\n", own), Some((999, 2)), "two ranges side by side are not one");
    }

    #[test]
    fn the_range_that_no_entry_of_the_user_covers_is_found() {
        let list = "other:100000:65536\nme:200000:10\n1000:300000:5\n";
        let names = ["me".to_owned(), "1000".to_owned()];
        let uncovered = |map: &str| uncovered(map, list, &names, 1000);
        assert_eq!(uncovered("0 1000 1\n1 200000 10\n11 300001 4\n"), None);
        assert_eq!(uncovered("0 1000 1\n1 100000 65536\n"), Some((100_000, 65_536)));
        assert_eq!(uncovered("0 200000 11\n"), Some((200_000, 11)));
    }
}
