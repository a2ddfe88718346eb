//! What another program of the host's does and says, if it does so soon.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::hearing::ended;
use crate::sys;

/// How long it may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read of what it says, in bytes.
const LONGEST: u64 = 4096;

/// Where the program `name` is, by the folders in `search`.
pub(crate) fn find(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    search.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// How `program` ends and what it says. It is killed if it does not end in time, which shows in its status.
pub(crate) fn ask<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    patience: Duration,
) -> io::Result<(ExitStatus, String)> {
    let (output, theirs) = io::pipe()?;
    // A child that it leaves behind may keep the other end open.
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stderr(theirs.try_clone()?).stdout(theirs);
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
