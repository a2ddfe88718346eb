//! Unix sockets of the caller's, which runb connects to and hands descriptors over. Whoever listens there may have stopped to:
//! nothing here waits for longer than [`PATIENCE`].

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollTimeout, poll};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_to, sendmsg, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

/// How long the other side may take to make room for a connection or a message.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the stream socket at `path`.
///
/// # Errors
/// connect(2) fails: nobody listens there, or (ETIMEDOUT) the queue stays full.
pub(crate) fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let address = UnixAddr::new(path)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // It holds for connect(2) as well (unix(7)).
    setsockopt(&stream, SendTimeout, &TimeVal::new(PATIENCE.as_secs() as libc::time_t, 0))?;
    uninterrupted(|| connect_to(stream.as_raw_fd(), &address))?;
    Ok(stream)
}

/// Sends all of `bytes`, over a stream or as one datagram, and `descriptors` with the first of them.
///
/// # Errors
/// sendmsg(2) fails: the other side is gone, or (ETIMEDOUT) does not read.
pub(crate) fn send(to: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let to = to.as_fd().as_raw_fd();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let (mut rest, mut control) = (bytes, if descriptors.is_empty() { &[] } else { &rights[..] });
    while !rest.is_empty() {
        let sent = uninterrupted(|| sendmsg::<()>(to, &[IoSlice::new(rest)], control, MsgFlags::MSG_NOSIGNAL, None))?;
        // The descriptors have gone with the first byte.
        (rest, control) = (&rest[sent..], &[]);
    }
    Ok(())
}

/// Waits for `events` on one of the descriptors until `deadline`. False: it has passed.
pub fn wait_for(fds: &mut [PollFd], deadline: Instant) -> Result<bool, Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(fds, timeout(left)) {
            Ok(0) if left.is_zero() => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno),
        }
    }
}

/// Rounded up to milliseconds, so that what is left never becomes a busy loop of zeros.
fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

/// Repeats a call that a signal interrupts; a time that has run out is told as such.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sys;

    #[test]
    fn no_descriptor_of_a_message_is_kept_but_the_first_and_none_of_one_that_is_cut() {
        for (count, expected) in
            [(0, Ok(false)), (1, Ok(true)), (2, Ok(true)), (3, Err(Errno::EMSGSIZE)), (250, Err(Errno::EMSGSIZE))]
        {
            let (ours, theirs) = UnixDatagram::pair().expect("sockets");
            nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::PassCred, &true).expect("setsockopt");
            let (mut read, write) = std::io::pipe().expect("a pipe");
            send(&theirs, b"x", &vec![write.as_fd(); count]).expect("sent");
            drop(write);
            let message = sys::receive(&ours, &mut [0; 16]);
            assert_eq!(message.as_ref().map(|message| message.descriptor.is_some()).map_err(|errno| *errno), expected);
            if let Ok(message) = &message {
                assert_eq!((message.length, message.sender), (1, std::process::id() as i32));
            }
            drop(message);
            // Its end comes when every copy of the other end is closed.
            assert_eq!(read.read(&mut [0]).expect("the end"), 0);
        }
    }

    #[test]
    fn who_does_not_read_is_given_up_when_the_time_of_the_socket_has_passed() {
        let (ours, _theirs) = UnixDatagram::pair().expect("sockets");
        ours.set_write_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let full = (0..100_000).find_map(|_| send(&ours, b"READY=1", &[]).err());
        assert_eq!(full, Some(Errno::ETIMEDOUT));
    }

    #[test]
    fn a_message_that_is_longer_than_its_buffer_is_refused() {
        let (ours, theirs) = UnixDatagram::pair().expect("sockets");
        theirs.send(&[1; 17]).expect("sent");
        assert_eq!(sys::receive(&ours, &mut [0; 16]).map(drop), Err(Errno::EMSGSIZE));
    }
}
