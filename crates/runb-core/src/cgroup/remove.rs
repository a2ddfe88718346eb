//! Removing cgroups, with those that the container made below its own.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files::{children, open_child, open_dir, rmdir};
use super::procs::wait_until_empty;
use super::{MadeDir, Role};
use crate::error::{Error, Result};
use crate::sys::{is_marked, mark};

/// What is known of the container's own directories when they are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Its init was in them, and nobody else since: all that is below goes with them.
    Used,
    /// No init of its is known, or it is gone and somebody is in them: one in which anybody is, or anything below, is somebody
    /// else's by now, and stays.
    Unused,
}

/// Takes a directory back: the container's own with all below, a parent if nobody uses it. A parent that another container is
/// below is left to that one.
///
/// Errors: as those of [`Cgroup::remove`].
pub fn undo(dir: &MadeDir, own: Own, deadline: Instant) -> Result<()> {
    match (dir.role, own) {
        (Role::Own, Own::Used) => {
            remove_tree(&dir.path, deadline)?;
            remove_left_above(&dir.path);
            Ok(())
        }
        (Role::Own, Own::Unused) => {
            if rmdir_unless_used(&dir.path)? == Use::None {
                remove_left_above(&dir.path);
            }
            Ok(())
        }
        (Role::Parent, _) => {
            if rmdir_unless_used(&dir.path)? == Use::Some && leave(&dir.path) {
                // Whoever was in it may have gone before it was marked.
                rmdir_unless_used(&dir.path)?;
            }
            Ok(())
        }
    }
}

/// Whether somebody is in a cgroup, or below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nobody is: it is gone.
    None,
    /// Somebody is.
    Some,
}

fn rmdir_unless_used(path: &Path) -> Result<Use> {
    match rmdir(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(Use::None),
        Err(Errno::EBUSY | Errno::ENOTEMPTY) => Ok(Use::Some),
        Err(errno) => Err(Error::host(format!("rmdir {}", path.display()), errno)),
    }
}

/// What a cgroup has that a container made above its own and left to others: the last of them takes it away. Cgroups have
/// attributes for everybody since Linux 5.7 (commit 38aca3071c4f); before, such a one stays.
const LEFT: &CStr = c"user.runb.left";

fn leave(path: &Path) -> bool {
    CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| mark(&path, LEFT).is_ok())
}

/// Removes what others left above `path`, as far as nobody uses it.
fn remove_left_above(path: &Path) {
    let is_left = |path: &&Path| CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| is_marked(&path, LEFT));
    for above in path.ancestors().skip(1).take_while(is_left) {
        if rmdir(above).is_err() {
            break;
        }
    }
}

/// Removes a directory that nobody is in and that has none below; whether it is gone.
pub fn remove_if_unused(path: &Path) -> bool {
    matches!(rmdir(path), Ok(()) | Err(Errno::ENOENT))
}

/// The first error of all, with the others beside it; each is tried, whatever became of the others.
pub(crate) fn first_error(results: impl Iterator<Item = Result<()>>) -> Result<()> {
    let mut errors = results.filter_map(Result::err);
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(errors.fold(first, Error::and_cleanup)),
    }
}

/// Removes the cgroup `path` and all below it. One that is not there is removed.
///
/// Errors: a process is in it at `deadline` (EBUSY), or a call.
pub fn remove_tree(path: &Path, deadline: Instant) -> Result<()> {
    let busy = |errno| Error::host(format!("rmdir {}", path.display()), errno);
    let mut pause = Duration::from_millis(1);
    loop {
        match rmdir(path) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(busy(errno)),
        }
        let dir = match open_dir(path) {
            Err(Errno::ENOENT) => return Ok(()),
            dir => dir.map_err(busy)?,
        };
        match remove_children(&dir).and_then(|()| rmdir(path)) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(busy(errno)),
        }
        if !wait_until_empty(path, &dir, deadline).map_err(busy)? || Instant::now() >= deadline {
            return Err(busy(Errno::EBUSY));
        }
        // Nobody is listed and it is busy all the same: the last task is between leaving the list and leaving the cgroup,
        // which has no event.
        let _ = poll(&mut [], PollTimeout::try_from(pause.as_millis()).unwrap_or(PollTimeout::ZERO));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// A directory on the way down, with the names in it that are left.
struct Level {
    name: CString,
    left: Vec<CString>,
}

/// Removes what is below `top`, the deepest first; what is in use stays. One descriptor serves for any depth.
fn remove_children(top: &OwnedFd) -> std::result::Result<(), Errno> {
    let mut way: Vec<Level> = Vec::new();
    let mut here = open_child(top, c".")?;
    let mut left = children(&here)?;
    loop {
        if let Some(name) = left.pop() {
            match unlinkat(&here, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => continue,
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
            let child = match open_child(here.as_fd(), &name) {
                Err(Errno::ENOENT) => continue,
                child => child?,
            };
            let below = children(&child)?;
            if !below.is_empty() {
                way.push(Level { name, left: std::mem::replace(&mut left, below) });
                here = child;
            }
            continue;
        }
        let Some(level) = way.pop() else { return Ok(()) };
        here = match open_child(&here, c"..") {
            // Somebody else removed the way back: what is left is seen from the top again.
            Err(Errno::ENOENT) => return Ok(()),
            parent => parent?,
        };
        left = level.left;
        let _ = unlinkat(&here, level.name.as_c_str(), UnlinkatFlags::RemoveDir);
    }
}
