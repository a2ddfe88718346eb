//! Reading and writing the files of a cgroup, and the directories below one.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};

pub use crate::socket::wait_for;

const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);
const WRITE: OFlag = OFlag::O_WRONLY.union(OFlag::O_CLOEXEC);
const DIRECTORY: OFlag = READ.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW);

/// Opens a cgroup's directory.
pub fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, DIRECTORY, Mode::empty())
}

/// Opens a directory in one.
pub fn open_child(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(dir, name, DIRECTORY, Mode::empty())
}

/// Opens a file of a cgroup for reading.
pub fn open_file(dir: impl AsFd, file: &str) -> Result<OwnedFd, Errno> {
    openat(dir, file, READ, Mode::empty())
}

/// Writes `value` by one write(2), as the files of cgroups want it.
pub fn write_file(dir: impl AsFd, file: &str, value: &str) -> Result<(), Errno> {
    write(openat(dir, file, WRITE, Mode::empty())?, value.as_bytes()).map(drop)
}

/// The same by the directory's path: one call instead of two where nothing else is done with the directory.
pub fn write_path(dir: &Path, file: &str, value: &str) -> Result<(), Errno> {
    write(open(&dir.join(file), WRITE, Mode::empty())?, value.as_bytes()).map(drop)
}

/// The text of a file; a cgroup that is gone (ENODEV) reads as one that is not there (ENOENT).
pub fn read_file(dir: impl AsFd, file: &str) -> Result<String, Errno> {
    read_fd(&open_file(dir, file)?)
}

/// The same by the directory's path.
pub fn read_path(dir: &Path, file: &str) -> Result<String, Errno> {
    read_fd(&open(&dir.join(file), READ, Mode::empty())?)
}

fn read_fd(fd: &OwnedFd) -> Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match read(fd, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(Errno::ENODEV) => return Err(Errno::ENOENT),
            Err(errno) => return Err(errno),
        }
    }
}

/// rmdir(2).
pub fn rmdir(path: &Path) -> Result<(), Errno> {
    unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
}

/// The value of `key` in a file of `KEY VALUE` lines.
pub fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The names of the cgroups in a cgroup.
pub fn children(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    // kernfs counts the directories in a directory's links (fs/kernfs/inode.c, kernfs_refresh_inode); without any there are 2.
    if fstat(dir)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    let mut listing = Dir::openat(dir, c".", DIRECTORY, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Waits until `wanted` holds of cgroup.events of the version 2 cgroup `dir`, or the cgroup is gone. False: not by `deadline`.
///
/// A change of the file is reported as POLLPRI once it was read (cgroup-v2.rst, "cgroup.events").
pub fn wait_for_event(dir: &OwnedFd, deadline: Instant, wanted: impl Fn(&str) -> bool) -> Result<bool, Errno> {
    let fd = match open_file(dir, "cgroup.events") {
        Err(Errno::ENOENT | Errno::ENODEV) => return Ok(true),
        fd => fd?,
    };
    let mut buffer = [0; 256];
    loop {
        let length = match nix::sys::uio::pread(&fd, &mut buffer, 0) {
            Err(Errno::ENODEV) => return Ok(true),
            length => length?,
        };
        if wanted(&String::from_utf8_lossy(&buffer[..length])) {
            return Ok(true);
        }
        if !wait_for(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLPRI)], deadline)? {
            return Ok(false);
        }
    }
}
