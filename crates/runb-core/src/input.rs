//! Reading files that somebody else has named: only regular ones, and not beyond a bound. What is no file could hold this
//! program up (a FIFO without a writer) or never end (/dev/zero).

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{FsType, fstatfs};

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// It cannot be opened, or is no regular file.
#[cfg(feature = "internals")]
pub fn open(path: &Path) -> Result<File> {
    regular(path).map(|(file, _)| file)
}

/// The file and its length.
fn regular(path: &Path) -> Result<(File, u64)> {
    // Without O_NONBLOCK open(2) of a FIFO waits for a writer, and that of some devices for a carrier.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => Ok((file, meta.len())),
        false => Err(Error::other("it is no regular file")),
    }
}

/// Reads a regular file.
///
/// # Errors
/// It cannot be opened, is no regular file, or has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (file, length) = regular(path)?;
    let mut bytes = Vec::new();
    if length <= most {
        bytes.reserve_exact(length as usize + 1);
        // A file may grow meanwhile, and those of procfs have no length.
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    match length > most || bytes.len() as u64 > most {
        true => Err(too_long(most)),
        false => Ok(bytes),
    }
}

/// As [`read`]; or a pipe that the caller hands in (`/dev/fd/63`, as a shell's `<(…)`), whose end is waited for until then.
///
/// # Errors
/// As [`read`]; or ETIMEDOUT.
pub fn read_or_pipe(path: &Path, most: u64, until: Instant) -> Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    // A FIFO has a name, and lies on another filesystem: who writes to it is not known, and may never come.
    if fstatfs(&file)?.filesystem_type() != PIPEFS_MAGIC {
        return read(path, most);
    }
    let mut bytes = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) => return Err(Errno::ETIMEDOUT.into()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let mut part = [0; 4096];
        match (&file).read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(e) if [ErrorKind::Interrupted, ErrorKind::WouldBlock].contains(&e.kind()) => {}
            Err(e) => return Err(e),
        }
        if bytes.len() as u64 > most {
            return Err(too_long(most));
        }
    }
}

/// The filesystem of pipes that have no name (linux/magic.h).
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

fn too_long(most: u64) -> Error {
    Error::other(format!("it has more than {most} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_not_read_and_no_file_beyond_its_bound() {
        let text = |path: &str, most| read(Path::new(path), most).map_err(|error| error.to_string());
        for path in ["/dev/zero", "/dev/tty0", "/dev"] {
            assert!(text(path, 10).is_err(), "{path}");
        }
        assert_eq!(text("/dev/zero", 10), Err("it is no regular file".to_owned()));
        let own = std::env::temp_dir().join(format!("runb-input-{}", std::process::id()));
        std::fs::write(&own, "0123456789").expect("a file");
        let path = own.to_str().expect("text");
        assert_eq!(text(path, 10).as_deref(), Ok(b"0123456789".as_slice()));
        assert_eq!(text(path, 9), Err("it has more than 9 bytes".to_owned()));
        std::fs::remove_file(&own).expect("removed");
        assert!(text("/proc/self/status", 5).is_err() && text("/proc/self/status", 1 << 20).is_ok());
    }
}
