//! `tmpcopyup`: what the container has at a path is copied into the tmpfs that is about to cover it.
//!
//! The tree is the image's, and others may be writing to it: every name is opened below a held directory, and no link is
//! followed.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::error::{Error, Result};
use crate::sys::{Resolve, openat2};

/// Deeper trees are refused: each level holds two descriptors.
const MAX_DEPTH: u32 = 128;

/// Copies what the process `pid` has at `path` into `tree`; nothing, if there is nothing. From its working directory that is
/// `rest`; a link out of there leads into its root.
///
/// # Errors
/// Something cannot be read, or does not fit; names it.
pub(super) fn copy_up(pid: i32, path: &Path, rest: &Path, tree: OwnedFd) -> Result<()> {
    let below = |link: &str, path: &Path, resolve: Resolve| {
        let link = format!("/proc/{pid}/{link}");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            open(link.as_str(), flags, Mode::empty()).map_err(|errno| Error::host(format!("open {link}"), errno))?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::internal("a path with NUL"))?;
        Ok(openat2(directory.as_fd(), &name, libc::O_RDONLY | libc::O_DIRECTORY, resolve))
    };
    let from = match below("cwd", rest, Resolve::Beneath)? {
        Err(Errno::EXDEV) => below("root", path.strip_prefix("/").unwrap_or(path), Resolve::InRoot)?,
        from => from,
    };
    match from {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
        from => copy_directory(from.map_err(|errno| failed("open", path, errno))?, tree.as_fd(), path, 0),
    }
}

fn failed(call: &str, path: &Path, errno: Errno) -> Error {
    Error::host(format!("tmpcopyup: {call} {}", path.display()), errno)
}

/// What is in `from`, then the attributes of `from` itself.
fn copy_directory(from: OwnedFd, to: BorrowedFd<'_>, path: &Path, depth: u32) -> Result<()> {
    if depth == MAX_DEPTH {
        return Err(failed("copy", path, Errno::ELOOP));
    }
    let meta = fstat(&from).map_err(|errno| failed("stat", path, errno))?;
    let mut dir = Dir::from_fd(from).map_err(|errno| failed("read", path, errno))?;
    let names: std::result::Result<Vec<_>, Errno> =
        dir.iter().map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect();
    for name in names.map_err(|errno| failed("read", path, errno))? {
        if name.as_bytes() == b"." || name.as_bytes() == b".." {
            continue;
        }
        let name = PathBuf::from(std::ffi::OsStr::from_bytes(name.as_bytes()));
        copy_entry(dir.as_fd(), to, &name, &path.join(&name), depth)?;
    }
    attributes(to, Path::new("."), &meta).map_err(|errno| failed("set the attributes of", path, errno))
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &Path, path: &Path, depth: u32) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let entry = match openat(from, name, flags, Mode::empty()) {
        // Removed meanwhile.
        Err(Errno::ENOENT) => return Ok(()),
        entry => entry.map_err(|errno| failed("open", path, errno))?,
    };
    let meta = fstat(&entry).map_err(|errno| failed("stat", path, errno))?;
    let kind = SFlag::from_bits_truncate(meta.st_mode & libc::S_IFMT);
    let mode = Mode::from_bits_truncate(meta.st_mode & 0o7777);
    let made = match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).map_err(|errno| failed("make", path, errno))?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let open = |at| openat(at, name, flags, Mode::empty()).map_err(|errno| failed("open", path, errno));
            return copy_directory(open(from)?, open(to)?.as_fd(), path, depth + 1);
        }
        SFlag::S_IFLNK => readlinkat(&entry, "").and_then(|target| symlinkat(target.as_os_str(), to, name)),
        SFlag::S_IFREG => copy_file(&entry, to, name),
        // A socket is nothing without who listens; the name is kept.
        _ => mknodat(to, name, kind, mode, meta.st_rdev),
    };
    made.and_then(|()| attributes(to, name, &meta)).map_err(|errno| failed("copy", path, errno))
}

fn copy_file(entry: &OwnedFd, to: BorrowedFd<'_>, name: &Path) -> std::result::Result<(), Errno> {
    let raw = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    // The very file that was looked at.
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    let mut from = File::open(path).map_err(raw)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut to = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    io::copy(&mut from, &mut to).map(drop).map_err(raw)
}

/// Owner, mode and times, in the order in which none takes back another.
fn attributes(at: BorrowedFd<'_>, name: &Path, meta: &FileStat) -> std::result::Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(meta.st_uid), Gid::from_raw(meta.st_gid));
    fchownat(at, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if meta.st_mode & libc::S_IFMT != libc::S_IFLNK {
        fchmodat(at, name, Mode::from_bits_truncate(meta.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
    }
    let times = [TimeSpec::new(meta.st_atime, meta.st_atime_nsec), TimeSpec::new(meta.st_mtime, meta.st_mtime_nsec)];
    utimensat(at, name, &times[0], &times[1], UtimensatFlags::NoFollowSymlink)
}
