//! The standard descriptors of the container's first process: pipes that lead out of it are the caller's of the checkpoint, and
//! become those of whoever restores.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::wire::InheritFd;

/// How the kernel shows a pipe (proc_pid_fd(5)).
const PIPE: &str = "pipe:";
/// A process has three.
const COUNT: usize = 3;

/// What each of the descriptors 0, 1 and 2 is: the text of its link below /proc/PID/fd, or nothing. The file has it as runc's has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Descriptors(Vec<String>);

/// A descriptor of a process.
struct Open {
    link: String,
    writes: bool,
}

impl Descriptors {
    /// Those of the process `init`. A pipe whose other end one of `processes` has is the container's own, and is left out.
    pub(crate) fn of(init: i32, processes: &[i32]) -> Self {
        let standard: Vec<_> = (0..COUNT).map(|number| open(init, &number.to_string())).collect();
        let piped = standard.iter().flatten().any(|one| one.link.starts_with(PIPE));
        let all: Vec<Open> = if piped { processes.iter().flat_map(|pid| opened(*pid)).collect() } else { Vec::new() };
        let own = |one: &Open| all.iter().any(|other| other.link == one.link && other.writes != one.writes);
        let text = |one: Option<Open>| match one {
            Some(one) if !one.link.starts_with(PIPE) || !own(&one) => one.link,
            _ => String::new(),
        };
        Descriptors(standard.into_iter().map(text).collect())
    }

    /// For a restore: the pipes, each of which becomes the descriptor of this process with its number.
    pub(super) fn inherited(&self) -> impl Iterator<Item = InheritFd> + '_ {
        let numbered = self.0.iter().take(COUNT).zip(0..);
        let pipes = numbered.filter(|(link, _)| link.starts_with(PIPE));
        pipes.map(|(link, fd)| InheritFd { key: link.clone(), fd })
    }
}

fn open(pid: i32, number: &str) -> Option<Open> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?.to_string_lossy().into_owned();
    let writes = link.starts_with(PIPE) && writes(pid, number);
    Some(Open { link, writes })
}

/// Whether it was opened for writing (proc_pid_fdinfo(5): the flags are octal).
fn writes(pid: i32, number: &str) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    i32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & nix::libc::O_ACCMODE != nix::libc::O_RDONLY)
}

fn opened(pid: i32) -> Vec<Open> {
    let list = fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd"))).into_iter().flatten().flatten();
    list.filter_map(|entry| open(pid, entry.file_name().to_str()?)).filter(|one| one.link.starts_with(PIPE)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::pipe;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pipe_to_the_outside_is_inherited_and_one_within_is_not() {
        let (read, write) = pipe().expect("a pipe");
        let mut outer = Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(write).spawn().expect("sleep");
        let mut reader = Command::new("sleep").arg("1000").stdin(read).spawn().expect("sleep");
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
