//! Descriptors of the container that are not its own. The pipes at the standard descriptors of its first process are those of whoever
//! has started it, and become those of whoever restores. The host's /dev/null, which a process has where its caller gave it
//! nothing, is the host's again.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::libc;

use serde::{Deserialize, Serialize};

use super::wire::InheritFd;
use crate::plan::criu::NULL_FILE;

/// How the kernel shows a pipe (proc_pid_fd(5)).
const PIPE: &str = "pipe:";
/// How the kernel shows the null device where its name is its own.
const NULL: &str = "/dev/null";
/// A process has three.
const COUNT: usize = 3;

/// The begin of CRIU's name for a file that is not the container's: `file[MOUNT:INODE]`.
const FILE: &str = "file[";

/// What each of the descriptors 0, 1 and 2 is: the text of its link below /proc/PID/fd, or nothing. So far it is as runc has it;
/// behind that CRIU's names for the host's /dev/null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptors(Vec<String>);

/// A descriptor of a process.
struct Open {
    pid: i32,
    number: String,
    link: String,
}

impl Descriptors {
    /// Those of the process `init`. A pipe whose other end one of `processes` has is the container's own, and is left out.
    pub(crate) fn of(init: i32, processes: &[i32]) -> Self {
        let standard = (0..COUNT).map(|number| open(init, &number.to_string()));
        let all: Vec<Open> = processes.iter().flat_map(|pid| opened(*pid)).collect();
        let own = |one: &Open| {
            one.link.starts_with(PIPE) && {
                let writes = one.writes();
                all.iter().any(|other| other.link == one.link && other.writes() != writes)
            }
        };
        let text = |one: Option<Open>| one.filter(|one| !own(one)).map(|one| one.link).unwrap_or_default();
        let mut list: Vec<String> = standard.map(text).collect();
        let inside = mounts(init);
        let nulls: BTreeSet<String> = all.iter().filter_map(|one| one.hosts_null(&inside)).collect();
        list.extend(nulls);
        Descriptors(list)
    }

    /// For a dump: the files that are not the container's.
    pub(super) fn external(&self) -> impl Iterator<Item = String> + '_ {
        self.files().cloned()
    }

    fn files(&self) -> impl Iterator<Item = &String> {
        self.0.iter().skip(COUNT).filter(|name| name.starts_with(FILE))
    }

    /// For a restore: the pipes, each of which becomes the descriptor of this process with its number; and /dev/null.
    pub(super) fn inherited(&self) -> impl Iterator<Item = InheritFd> + '_ {
        let numbered = self.0.iter().take(COUNT).zip(0..);
        let pipes = numbered.filter(|(link, _)| link.starts_with(PIPE));
        let nulls = self.files().map(|name| InheritFd { key: name.clone(), fd: NULL_FILE });
        pipes.map(|(link, fd)| InheritFd { key: link.clone(), fd }).chain(nulls)
    }
}

fn open(pid: i32, number: &str) -> Option<Open> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?.to_string_lossy().into_owned();
    Some(Open { pid, number: number.to_owned(), link })
}

fn opened(pid: i32) -> Vec<Open> {
    let list = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let list = list.filter_map(|entry| open(pid, entry.file_name().to_str()?));
    list.filter(|one| one.link.starts_with(PIPE) || one.link == NULL).collect()
}

impl Open {
    /// A line of proc_pid_fdinfo(5).
    fn info(&self, key: &str) -> Option<String> {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{}", self.pid, self.number)).ok()?;
        info.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim().to_owned())
    }

    /// Whether it was opened for writing; the flags are octal.
    fn writes(&self) -> bool {
        let flags = self.info("flags:").and_then(|flags| i32::from_str_radix(&flags, 8).ok());
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    }

    /// CRIU's name for it, if it is the null device and lies on none of the container's mounts.
    fn hosts_null(&self, inside: &HashSet<i32>) -> Option<String> {
        if self.link != NULL {
            return None;
        }
        let mount = self.info("mnt_id:")?.parse().ok().filter(|mount| !inside.contains(mount))?;
        let meta = fs::metadata(format!("/proc/{}/fd/{}", self.pid, self.number)).ok()?;
        let is_null = meta.mode() & libc::S_IFMT == libc::S_IFCHR && meta.rdev() == libc::makedev(1, 3);
        is_null.then(|| format!("{FILE}{mount:x}:{:x}]", meta.ino()))
    }
}

/// The numbers of the mounts that the process has in sight.
fn mounts(pid: i32) -> HashSet<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pipe_to_the_outside_is_inherited_and_one_within_is_not() {
        let (read, write) = pipe().expect("a pipe");
        let sleep = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            sleep
        };
        let mut outer = sleep().stdout(write).spawn().expect("sleep");
        let mut reader = sleep().stdin(read).spawn().expect("sleep");
        let (first, second) = (outer.id() as i32, reader.id() as i32);
        let outside = Descriptors::of(first, &[first]);
        let within = Descriptors::of(first, &[first, second]);
        for child in [&mut outer, &mut reader] {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
        assert_eq!(outside.0[0], "/dev/null");
        let inherited: Vec<_> = outside.inherited().collect();
        assert_eq!((inherited.len(), inherited[0].fd), (1, 1));
        assert_eq!((within.0[1].as_str(), within.inherited().count()), ("", 0));
    }
}
