//! CRIU, which is another program. Its version is what it says itself, if it does so soon.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::host::{Ability, ability, missing};
use crate::hearing::ended;
use crate::sys;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of what it says, in bytes.
const LONGEST: u64 = 4096;

/// Whether there is one in `search`.
pub(super) fn criu(search: &[PathBuf]) -> Ability {
    let (name, purpose) = ("CRIU", "none yet: this version of runb has no checkpoint and no restore");
    let Some(program) = search.iter().map(|dir| dir.join("criu")).find(|path| path.is_file()) else {
        return ability(name, purpose, Err("there is no criu in the search path".to_owned()));
    };
    let at = program.display();
    ability(
        name,
        purpose,
        match ask(&program, PATIENCE) {
            Err(error) => Err(missing(&format!("execute {at}"), &error)),
            Ok((status, _)) if !status.success() => Err(format!("{at} --version: {status}")),
            Ok((_, text)) => {
                let version = text.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or("no version told");
                Ok(Some(format!("{version}, {at}")))
            }
        },
    )
}

/// How `program` ends and what it says. It is killed if it does not end in time, which shows in its status.
fn ask(program: &Path, patience: Duration) -> io::Result<(ExitStatus, String)> {
    let (output, theirs) = io::pipe()?;
    // A child that it leaves behind may keep the other end open.
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // It has the other end of the pipe.
    drop(command);
    let pidfd = sys::pidfd_open(child.id().cast_signed())?;
    if !ended(pidfd, Instant::now() + patience).unwrap_or(false) {
        child.kill()?;
    }
    let status = child.wait()?;
    let mut text = Vec::new();
    // Up to its end, or to where there is no more at the moment.
    let _ = File::from(OwnedFd::from(output)).take(LONGEST).read_to_end(&mut text);
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::host::Works;
    use super::*;

    /// A program of that text.
    fn program(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("runb-criu-{name}-{}", std::process::id()));
        // Written by another process: no fork of this one's threads may have it open when it is executed (ETXTBSY).
        let script = "printf '#!/bin/sh\n%s\n' \"$1\" >\"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").args(["-c", script]).arg(&path).arg(text).status().unwrap().success());
        path
    }

    #[test]
    fn a_criu_that_is_nowhere_is_told_so() {
        assert_eq!(criu(&[PathBuf::from("/nowhere")]).works, Works::No);
    }

    #[test]
    fn what_it_says_is_read_though_a_child_of_it_lives_on() {
        let path = program("child", "echo Version: 9; sleep 1000 & echo $!");
        let (status, text) = ask(&path, PATIENCE).unwrap();
        std::fs::remove_file(path).unwrap();
        let [version, pid] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text:?}") };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::SIGKILL).unwrap();
        assert!(status.success() && version == "Version: 9", "{status}: {text}");
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let path = program("endless", "exec sleep 1000");
        let (status, _) = ask(&path, Duration::from_millis(50)).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(!status.success(), "{status}");
    }
}
