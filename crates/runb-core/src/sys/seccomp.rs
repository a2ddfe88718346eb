//! seccomp_unotify(2): the answer to calls that wait for a filter's listener.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

/// Larger than any kernel's structure so far: a later one may write a longer one (`SECCOMP_GET_NOTIF_SIZES`), and wants what
/// it reads beyond the end of ours to be zero.
const SPARE: usize = 64;

#[repr(C)]
struct Padded<T> {
    known: T,
    spare: [u64; SPARE],
}

/// Takes the next call that waits for the listener and lets it pass. A caller that is gone meanwhile is no error.
pub fn let_pass(listener: impl AsFd) -> Result<(), Errno> {
    let listener = listener.as_fd().as_raw_fd();
    // SAFETY: the structure is made of integers, and the kernel wants it to be zero.
    let mut request: Padded<libc::seccomp_notif> = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes a struct seccomp_notif, to which the pointer leads, with room for a longer one.
    let received = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
    match Errno::result(received) {
        Err(Errno::ENOENT | Errno::ENOTCONN | Errno::EINTR) => return Ok(()),
        received => received?,
    };
    let answer = libc::seccomp_notif_resp {
        id: request.known.id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    let mut answer = Padded { known: answer, spare: [0; SPARE] };
    // SAFETY: the request reads a struct seccomp_notif_resp, to which the pointer leads.
    let sent = unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
