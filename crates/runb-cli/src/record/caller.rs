//! Who called: by what the kernel tells of the parent process.

use std::fs::File;
use std::io::Read;
use std::sync::OnceLock;

use super::entry::{Caller, Parent};

/// The process that has called, and what the kernel tells of it. That is asked for when the call begins, as the process may be gone
/// later; by a verb that launches something as soon as it would wait, half a millisecond later.
#[derive(Debug)]
pub struct Called {
    pid: i32,
    told: OnceLock<Caller>,
}

impl Called {
    /// It, not looked at yet.
    pub fn new() -> Self {
        Called { pid: nix::unistd::getppid().as_raw(), told: OnceLock::new() }
    }

    /// What is known of it, from the first time on that this is asked.
    pub fn caller(&self) -> &Caller {
        self.told.get_or_init(|| look(self.pid))
    }
}

fn look(pid: i32) -> Caller {
    let uid = nix::unistd::getuid().as_raw();
    // A page holds all that is looked for.
    let mut buffer = [0; 4096];
    let mut read = |pid: i32, file: &str| read(pid, file, &mut buffer);
    let (comm, parent) = read(pid, "stat").as_deref().and_then(stat).unwrap_or_default();
    let parent = (parent > 0).then(|| Parent {
        pid: parent,
        comm: read(parent, "comm").unwrap_or_default().trim_end_matches('\n').to_owned(),
    });
    let unit = read(pid, "cgroup").as_deref().and_then(unit);
    let name = if comm == "conmon" { read(pid, "cmdline").as_deref().and_then(conmon_name) } else { None };
    Caller { pid, comm, uid, parent, unit, name }
}

/// The beginning of a file of a process.
fn read(pid: i32, file: &str, buffer: &mut [u8]) -> Option<String> {
    let length = File::open(format!("/proc/{pid}/{file}")).and_then(|mut file| file.read(buffer)).ok()?;
    // As a rule it is UTF-8, and to see that takes a tenth of the time that mending does.
    let text = &buffer[..length];
    Some(std::str::from_utf8(text).map_or_else(|_| String::from_utf8_lossy(text).into_owned(), str::to_owned))
}

/// The name and the parent of proc_pid_stat(5): the name is in brackets, and may have brackets in it.
fn stat(text: &str) -> Option<(String, i32)> {
    let (before, after) = text.rsplit_once(')')?;
    let comm = before.split_once('(')?.1;
    Some((comm.to_owned(), after.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

/// systemd's unit in cgroups(7): the innermost service or scope of its hierarchy.
fn unit(cgroups: &str) -> Option<String> {
    let of_systemd = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    let mut paths = cgroups.lines().filter(of_systemd).filter_map(|line| line.splitn(3, ':').nth(2));
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    paths.find_map(|path| path.rsplit('/').find(is_unit)).map(str::to_owned)
}

/// Podman's name of a container, which it gives to conmon and to nobody else.
fn conmon_name(cmdline: &str) -> Option<String> {
    let mut words = cmdline.split('\0');
    words.find(|word| matches!(*word, "-n" | "--name"))?;
    words.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_is_read_whole() {
        assert_eq!(stat("17 (a) (b)) S 4 17 17 0"), Some(("a) (b)".to_owned(), 4)));
        assert_eq!(stat("17"), None);
    }

    #[test]
    fn the_unit_is_the_innermost_of_systemds_hierarchy() {
        let v2 = "0::/system.slice/containerd.service\n";
        assert_eq!(unit(v2).as_deref(), Some("containerd.service"));
        let v1 = "3:cpu:/a.service\n1:name=systemd:/user.slice/user-0.slice/session-3.scope/x\n0::/\n";
        assert_eq!(unit(v1).as_deref(), Some("session-3.scope"));
        assert_eq!(unit("0::/\n"), None);
    }

    #[test]
    fn conmon_is_told_the_name_by_a_flag() {
        let line = "/usr/bin/conmon\0--api-version\x001\0-c\0abc\0-n\0nice_name\0";
        assert_eq!(conmon_name(line).as_deref(), Some("nice_name"));
        assert_eq!(conmon_name("conmon\0-c\0abc\0"), None);
    }
}
