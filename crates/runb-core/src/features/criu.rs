//! CRIU, which is another program. Its version is what it says itself, if it does so soon.

use std::path::PathBuf;

use super::host::{Ability, ability, missing};
use crate::ask::{PATIENCE, ask, find};

/// Whether there is one in `search`.
pub(super) fn criu(search: &[PathBuf]) -> Ability {
    let (name, purpose) = ("CRIU", "checkpoint, restore");
    let Some(program) = find("criu", search) else {
        return ability(name, purpose, Err("there is no criu in the search path".to_owned()));
    };
    let at = program.display();
    ability(
        name,
        purpose,
        match ask(&program, ["--version"], PATIENCE) {
            Err(error) => Err(missing(&format!("execute {at}"), &error)),
            Ok((status, _)) if !status.success() => Err(format!("{at} --version: {status}")),
            Ok((_, text)) => {
                let version = text.lines().find_map(|line| line.strip_prefix("Version: ")).unwrap_or("no version told");
                Ok(Some(format!("{version}, {at}")))
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

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
        let (status, text) = ask(&path, ["--version"], PATIENCE).unwrap();
        std::fs::remove_file(path).unwrap();
        let [version, pid] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text:?}") };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::SIGKILL).unwrap();
        assert!(status.success() && version == "Version: 9", "{status}: {text}");
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let path = program("endless", "exec sleep 1000");
        let (status, _) = ask(&path, ["--version"], Duration::from_millis(50)).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(!status.success(), "{status}");
    }
}
