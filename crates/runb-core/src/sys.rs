//! The system calls that nix lacks, and the clone. The only module of this crate with unsafe code.
#![allow(unsafe_code)]

pub mod bpf;
pub mod probe;
pub mod seccomp;
pub mod spawn;

use std::ffi::CStr;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};

/// What a program without Rust's own start has to do first: descriptors 0, 1 and 2 that the caller has closed become
/// /dev/null, so that nothing opened later takes their numbers; a reader that goes away is an error and not the end.
pub fn begin_process() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD takes a number and changes nothing.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            // SAFETY: the path is a constant; the lowest free number is `descriptor`, which nobody owns.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        }
    }
    // SAFETY: no handler is installed; the disposition is that of every Rust program.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// pidfd_open(2): a descriptor of the process `pid`.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two numbers; its result is a new descriptor that nobody else owns.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) }
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: the siginfo pointer is null, which the kernel takes as a kill(2).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, 0, 0) };
    Errno::result(result).map(drop)
}

/// pidfd_getfd(2): a copy of the descriptor `target` of another process.
pub fn pidfd_getfd(pidfd: impl AsFd, target: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes three numbers; its result is a new descriptor that nobody else owns.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_fd().as_raw_fd(), target, 0)) }
}

/// prlimit(2): the soft and the hard limit of the process `pid` (0: the calling one) for the resource of that number.
pub fn rlimit(pid: i32, resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the new limit is null; the old one is written to `limit`, which lives until the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, pid, resource, std::ptr::null::<libc::rlimit64>(), &raw mut limit)
    };
    Errno::result(result).map(|_| (limit.rlim_cur, limit.rlim_max))
}

/// A message of a socket with SO_PASSCRED.
#[derive(Debug)]
pub struct Message {
    /// How many bytes it has.
    pub length: usize,
    /// The first descriptor that came with it.
    pub descriptor: Option<OwnedFd>,
    /// The process that sent it, as the kernel knows it; 0 if this pid namespace does not have it.
    pub sender: i32,
}

/// recvmsg(2) of one message.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Message, Errno> {
    let mut space = nix::cmsg_space!([RawFd; 1], UnixCredentials);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let (mut descriptor, mut sender) = (None, 0);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmRights(descriptors) => {
                for number in descriptors {
                    // SAFETY: the kernel made this descriptor for this message, and nobody else owns it.
                    let owned = unsafe { OwnedFd::from_raw_fd(number) };
                    descriptor.get_or_insert(owned);
                }
            }
            ControlMessageOwned::ScmCredentials(credentials) => sender = credentials.pid(),
            _ => {}
        }
    }
    Ok(Message { length: message.bytes, descriptor, sender })
}

/// ioctl_tty(2), TIOCGPTN: the number of the pseudoterminal whose master this is.
pub fn pty_number(master: impl AsFd) -> Result<u32, Errno> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the request writes an unsigned int, to which the pointer leads.
    Errno::result(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    Ok(number)
}

/// ioctl_tty(2), TIOCGPTPEER: the slave of a pseudoterminal's master, opened without any path.
pub fn pty_peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags as a number; its result is a new descriptor that nobody else owns.
    unsafe { owned(libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags).into()) }
}

/// ioctl_tty(2), TIOCGWINSZ: the size of a terminal, in cells and in pixels.
pub fn window_size(terminal: impl AsFd) -> Result<libc::winsize, Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes a struct winsize, to which the pointer leads.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// ioctl_tty(2), TIOCSWINSZ.
pub fn set_window_size(terminal: impl AsFd, size: &libc::winsize) -> Result<(), Errno> {
    // SAFETY: the request reads a struct winsize, to which the pointer leads.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const *size) }).map(drop)
}

/// How [`openat2`] takes a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// The directory is the root: absolute links and `..` stay below it; magic links are refused.
    InRoot,
    /// No link or `..` leads out of the directory (EXDEV); magic links are refused.
    Beneath,
    /// As [`Resolve::InRoot`], and a link in the path is the error ELOOP; with `O_PATH | O_NOFOLLOW` the last name may be one.
    InRootNoLinks,
    /// As open(2) takes it.
    Anywhere,
}

/// openat2(2) with `O_CLOEXEC`.
pub fn openat2(directory: BorrowedFd<'_>, path: &CStr, flags: libc::c_int, resolve: Resolve) -> Result<OwnedFd, Errno> {
    // SAFETY: open_how is made of integers; all zeroes is its documented initial value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = match resolve {
        Resolve::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
        Resolve::Beneath => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS,
        Resolve::InRootNoLinks => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS,
        Resolve::Anywhere => 0,
    };
    let mut tries = 0;
    loop {
        tries += 1;
        // SAFETY: `path` and `how` live until the call returns; the result is a new descriptor that nobody else owns.
        let result = unsafe {
            owned(libc::syscall(libc::SYS_openat2, directory.as_raw_fd(), path.as_ptr(), &how, size_of_val(&how)))
        };
        match result {
            // A rename in the middle of a lookup of `..`: the man page says to try again. Who renames all the time must
            // not hold the runtime up.
            Err(Errno::EAGAIN) if tries < 128 => continue,
            other => return other,
        }
    }
}

/// mount_setattr(2): the ids are mapped.
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// Whether a change of a mount reaches those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// It does not.
    Kept,
    /// It does.
    Changed,
}

/// mount_setattr(2) with `MOUNT_ATTR_IDMAP`: the ids of the detached mount `tree` are mapped as `user_namespace` maps them.
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, below: Below) -> Result<(), Errno> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let attr: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, user_namespace.as_raw_fd() as u64];
    let flags = libc::AT_EMPTY_PATH | if below == Below::Changed { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string, `attr` is a struct mount_attr of its first size (32 bytes), and both live until
    // the call returns, which reads them only.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, attr.as_ptr(), size_of_val(&attr))
    };
    Errno::result(result).map(drop)
}

/// What the kernel says to an open_tree_attr(2) without attributes: EINVAL where it has the call.
pub fn answer_of_open_tree_attr() -> Errno {
    // libc has no name for it; calls from 424 on have one number on every architecture (asm-generic/unistd.h).
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    // SAFETY: no descriptor and no path is given, and the size of attributes that are not there is refused before they are
    // looked for (fs/namespace.c).
    let result = unsafe { libc::syscall(SYS_OPEN_TREE_ATTR, -1, 0, 0, 0, 1) };
    Errno::result(result).err().unwrap_or(Errno::UnknownErrno)
}

/// What the kernel says to a mount_setattr(2) that sets `attributes` nowhere: EINVAL where it does not know them all.
pub fn answer_of_mount_setattr(attributes: u64) -> Errno {
    let attr: [u64; 4] = [attributes, 0, 0, 0];
    // SAFETY: the path is empty and AT_EMPTY_PATH is not given: no mount is found. `attr` is a struct mount_attr of its first
    // size and lives until the call returns, which reads it only.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, attr.as_ptr(), size_of_val(&attr)) };
    Errno::result(result).err().unwrap_or(Errno::UnknownErrno)
}

/// statfs(2): the `ST_*` flags of the mount that `path` is on.
pub fn mount_flags(path: &CStr) -> Result<u64, Errno> {
    // SAFETY: struct statfs is made of integers, and the call fills it.
    let mut data: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: `path` and `data` live until the call returns.
    Errno::result(unsafe { libc::statfs64(path.as_ptr(), &raw mut data) })?;
    Ok(data.f_flags as u64)
}

/// The descriptors `from..from + count` are open; the errno of the first that is not.
pub fn descriptors_are_open(from: RawFd, count: u32) -> Result<(), RawFd> {
    for descriptor in from..from + count as RawFd {
        // SAFETY: F_GETFD takes a number and changes nothing.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            return Err(descriptor);
        }
    }
    Ok(())
}

/// # Safety
/// A result that is not negative must be a descriptor that nobody owns.
unsafe fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    // SAFETY: by the contract of this function.
    Errno::result(result).map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}
