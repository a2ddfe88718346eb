//! Writing to a descriptor that the caller has handed down, whatever it is: by the call itself, since the standard library
//! takes a stdout that cannot be written to for one that wants nothing.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

/// How long a reader of `--log` may take to make room.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody who does not read is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As a write to a pipe waits: until there is room, or nobody any more who could make it.
    ForRoom,
    /// Until then at most.
    Until(Instant),
}

/// Writes all of `bytes`.
///
/// # Errors
/// write(2) fails; ETIMEDOUT, if there is no room until the time has come.
pub fn write(to: impl AsFd, mut bytes: &[u8], wait: Wait) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match unistd::write(&to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            // O_NONBLOCK: the caller's, or that of a log.
            Err(Errno::EAGAIN) => room(&to, wait)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Waits until there is room.
fn room(to: impl AsFd, wait: Wait) -> Result<(), Errno> {
    let timeout = match wait {
        Wait::ForRoom => PollTimeout::NONE,
        Wait::Until(time) => {
            let left = time.saturating_duration_since(Instant::now());
            // Rounded up, so that the last wait is not one without any.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut [PollFd::new(to.as_fd(), PollFlags::POLLOUT)], timeout) {
        Ok(0) => Err(Errno::ETIMEDOUT),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[test]
    fn a_reader_that_is_slow_gets_all_and_one_that_has_stopped_is_given_up() {
        let (mut read, write_end) = std::io::pipe().unwrap();
        fcntl(&write_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let text = vec![b'x'; 1 << 20];
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; 1 << 20];
            read.read_exact(&mut all).unwrap();
            (read, all)
        });
        assert_eq!(write(&write_end, &text, Wait::ForRoom), Ok(()));
        let (read, all) = reader.join().unwrap();
        assert_eq!(all, text);
        assert_eq!(write(&write_end, &text, Wait::Until(Instant::now())), Err(Errno::ETIMEDOUT));
        drop(read);
        assert_eq!(write(&write_end, &text, Wait::ForRoom), Err(Errno::EPIPE));
    }

    #[test]
    fn what_cannot_be_written_to_is_an_error() {
        assert_eq!(write(File::open("/dev/null").unwrap(), b"x", Wait::ForRoom), Err(Errno::EBADF));
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write(&full, b"x", Wait::ForRoom), Err(Errno::ENOSPC));
    }
}
