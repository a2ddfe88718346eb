//! Reading files that somebody else has named: only regular ones, where nothing else is said, and not beyond a bound. What is no file could hold this
//! program up (a FIFO without a writer) or never end (/dev/zero).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Opens a regular file for reading; links are followed.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub fn open(path: &Path) -> Result<File> {
    regular(path).map(|(file, _)| file)
}

/// The file and its length.
fn regular(path: &Path) -> Result<(File, u64)> {
    let (file, meta) = open_any(path)?;
    match meta.is_file() {
        true => Ok((file, meta.len())),
        false => Err(Error::other("it is no regular file")),
    }
}

fn open_any(path: &Path) -> Result<(File, Metadata)> {
    // Without O_NONBLOCK open(2) of a FIFO waits for a writer, and that of some devices for a carrier.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta))
}

fn too_long(most: u64) -> Error {
    Error::other(format!("it has more than {most} bytes"))
}

/// Reads a regular file.
///
/// # Errors
/// As [`open`]; or it has more than `most` bytes.
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

/// How long the writer of a pipe may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads a regular file, or what somebody writes to a pipe (`<(…)` of a shell).
///
/// # Errors
/// It cannot be opened, or is neither; it has more than `most` bytes; a pipe's writer makes it wait for too long. A FIFO that
/// nobody has open for writing is empty.
pub fn read_also_a_pipe(path: &Path, most: u64) -> Result<Vec<u8>> {
    let (mut file, meta) = open_any(path)?;
    if !meta.file_type().is_fifo() {
        return read(path, most);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    loop {
        match (&mut file).take(most + 1 - bytes.len() as u64).read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(_) if bytes.len() as u64 > most => return Err(too_long(most)),
            Ok(_) => return Ok(bytes),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(0) => return Err(Errno::ETIMEDOUT.into()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
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
    #[test]
    fn a_pipe_is_read_up_to_its_end_where_one_may_be() {
        let text = |read: std::io::PipeReader, most| {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read));
            read_also_a_pipe(Path::new(&path), most).map_err(|error| error.to_string())
        };
        let (read, mut writer) = std::io::pipe().expect("a pipe");
        let slow = std::thread::spawn(move || {
            for part in ["01234", "56789"] {
                std::io::Write::write_all(&mut writer, part.as_bytes()).expect("written");
                std::thread::yield_now();
            }
        });
        assert_eq!(text(read, 10).as_deref(), Ok(b"0123456789".as_slice()));
        slow.join().expect("the writer");
        let (read, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, b"0123456789").expect("written");
        assert_eq!(text(read, 9), Err("it has more than 9 bytes".to_owned()));
        assert_eq!(
            read_also_a_pipe(Path::new("/dev/zero"), 9).map_err(|e| e.to_string()),
            Err("it is no regular file".to_owned())
        );
    }
}
