//! The system calls that nix lacks, and the clone. The only module of this crate with unsafe code.
#![allow(unsafe_code)]

pub mod bpf;
pub mod probe;
pub mod seccomp;
pub mod spawn;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

#[cfg(feature = "internals")]
mod begin;
#[cfg(feature = "internals")]
mod heap;
#[cfg(feature = "internals")]
pub use begin::{Stdout, begin_process};
#[cfg(feature = "internals")]
pub use heap::Heap;

/// sigaction(2): whether this process ignores a signal.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is installed; the action so far is written to `action`, which is made of integers and an optional function, so
    // that zeroes are a value of it where the call fails.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// prctl(2), PR_CAPBSET_READ: whether the kernel has a capability of that number.
pub fn knows_capability(number: u8) -> bool {
    // SAFETY: the call takes numbers, and says by its result alone.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) >= 0 }
}

/// pidfd_open(2): a descriptor of the process `pid`.
///
/// # Errors
/// ESRCH also where the number is that of a thread, or of a process that is gone and whose group or session lives on. The kernel
/// says EINVAL of them, since Linux 6.16 ENOENT; there is no other reason for these two.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: the call takes two numbers; its result is a new descriptor that nobody else owns.
    let result = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, 0)) };
    result.map_err(|errno| if matches!(errno, Errno::EINVAL | Errno::ENOENT) { Errno::ESRCH } else { errno })
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

/// sched_setattr(2) of the process `pid`; `attr` is a struct sched_attr, whose first word is its size.
pub fn sched_setattr(pid: i32, attr: &[u8]) -> Result<(), Errno> {
    let size = attr.first_chunk().map_or(0, |size| u32::from_ne_bytes(*size));
    if size as usize != attr.len() {
        return Err(Errno::E2BIG);
    }
    // SAFETY: the kernel reads as many bytes of `attr` as its first word says, which is all of them; it lives until the call returns.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, attr.as_ptr(), 0) }).map(drop)
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
///
/// # Errors
/// The errno; EMSGSIZE if there is no room for it, or for its descriptors: the kernel has dropped a part of it then, and none
/// of its descriptors is kept.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Message, Errno> {
    // By hand: nix forgets the descriptors of a message that is cut.
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; CONTROL]);
    // SAFETY: struct msghdr is made of integers and pointers; all zeroes is a message without any parts.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) = (control.0.as_mut_ptr().cast(), CONTROL);
    let (socket, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_CMSG_CLOEXEC);
    // SAFETY: the header leads to `part`, that to `buffer`, and to `control`; all live until the call returns, with their lengths.
    let length = Errno::result(unsafe { libc::recvmsg(socket, &raw mut header, flags) })?;
    let (mut descriptors, mut sender) = (Vec::new(), 0);
    // SAFETY: the kernel has filled `control` up to the length in the header, with control messages that lie in it as the
    // macros of cmsg(3) expect. What comes after a header is read without regard to its alignment. The kernel made the
    // descriptors for this message, and nobody else owns them.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(one) = next.as_ref() {
            let data = libc::CMSG_DATA(next);
            let size = one.cmsg_len - (data.addr() - next.addr());
            match (one.cmsg_level, one.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => descriptors.extend(
                    (0..size / size_of::<RawFd>())
                        .map(|i| OwnedFd::from_raw_fd(data.cast::<RawFd>().add(i).read_unaligned())),
                ),
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                    sender = data.cast::<libc::ucred>().read_unaligned().pid;
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(&raw const header, next);
        }
    }
    match header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) {
        0 => Ok(Message { length: length as usize, descriptor: descriptors.into_iter().next(), sender }),
        _ => Err(Errno::EMSGSIZE),
    }
}

/// Room for the control messages of one message: the sender's credentials, and a descriptor (two fit).
const CONTROL: usize = 56;

/// Aligned as a `struct cmsghdr` has to be.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

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

/// statx(2): the number of the mount that `path` leads to; since Linux 6.8 no other mount ever has it.
pub fn mount_number(path: &std::path::Path) -> Result<u64, Errno> {
    const STATX_MNT_ID_UNIQUE: libc::c_uint = 0x4000;
    let path =
        std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).map_err(|_| Errno::EINVAL)?;
    let (flags, mask) = (libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT, libc::STATX_MNT_ID | STATX_MNT_ID_UNIQUE);
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `path` lives until the call returns; `found` has room for a struct statx, which is made of integers.
    let found = unsafe {
        Errno::result(libc::syscall(libc::SYS_statx, libc::AT_FDCWD, path.as_ptr(), flags, mask, found.as_mut_ptr()))?;
        found.assume_init()
    };
    Ok(found.stx_mnt_id)
}

/// mount_setattr(2): the ids are mapped.
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;

/// Whether what is done to a mount is done to those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// It is not.
    Left,
    /// It is.
    Reached,
}

/// For open_tree(2) and mount_setattr(2): the mounts below as well.
const AT_RECURSIVE: libc::c_int = 0x8000;

/// open_tree(2) with `OPEN_TREE_CLONE`: a detached copy of what `path` leads to.
pub fn copy_tree(path: &CStr, below: Below) -> Result<OwnedFd, Errno> {
    let recursive = if below == Below::Reached { AT_RECURSIVE as libc::c_uint } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive;
    // SAFETY: `path` lives until the call returns; the result is a new descriptor that nobody else owns.
    unsafe { owned(libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags)) }
}

/// mount_setattr(2) with `MOUNT_ATTR_IDMAP`: the ids of the detached mount `tree` are mapped as `user_namespace` maps them.
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, below: Below) -> Result<(), Errno> {
    let attr: [u64; 4] = [MOUNT_ATTR_IDMAP, 0, 0, user_namespace.as_raw_fd() as u64];
    let flags = libc::AT_EMPTY_PATH | if below == Below::Reached { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string, `attr` is a struct mount_attr of its first size (32 bytes), and both live until
    // the call returns, which reads them only.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, attr.as_ptr(), size_of_val(&attr))
    };
    Errno::result(result).map(drop)
}

/// ioctl_ns(2), NS_GET_USERNS: the user namespace that has made the namespace at `path`.
///
/// # Errors
/// EPERM where it is neither that of this process nor one below it.
pub fn owner_of_namespace(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
    let namespace = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())?;
    related_namespace(namespace.as_fd(), NS_GET_USERNS)
}

/// ioctl_ns(2), NS_GET_PARENT: the user namespace in which this one was made.
///
/// # Errors
/// EPERM where it is neither that of this process nor one below it.
pub fn parent_of_namespace(namespace: impl AsFd) -> Result<OwnedFd, Errno> {
    const NS_GET_PARENT: libc::Ioctl = 0xb702;
    related_namespace(namespace.as_fd(), NS_GET_PARENT)
}

fn related_namespace(namespace: BorrowedFd<'_>, relation: libc::Ioctl) -> Result<OwnedFd, Errno> {
    // SAFETY: these two take no argument; their result is a new descriptor that nobody else owns.
    unsafe { owned(libc::ioctl(namespace.as_raw_fd(), relation).into()) }
}

/// fsconfig(2), FSCONFIG_CMD_CREATE, of a filesystem context.
pub fn create_filesystem(context: BorrowedFd<'_>) -> Result<(), Errno> {
    const FSCONFIG_CMD_CREATE: libc::c_int = 6;
    // SAFETY: the command takes neither a key nor a value: no pointer is given.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, 0, 0, 0) };
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

/// setxattr(2): gives the file at `path` the attribute `name`, empty.
pub fn mark(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings live until the call returns; no value is read, as its length is 0.
    Errno::result(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), std::ptr::null(), 0, 0) }).map(drop)
}

/// getxattr(2): whether the file at `path` has the attribute `name`.
pub fn is_marked(path: &CStr, name: &CStr) -> bool {
    // SAFETY: both strings live until the call returns; nothing is written, as the length is 0.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// The `count` descriptors from `from` on are open and outlive an execve; the first that does not. What the caller has handed
/// down does; a descriptor of this program's own that lies there by chance has FD_CLOEXEC.
pub fn descriptors_are_open(from: u32, count: u32) -> Result<(), u32> {
    // It ends at the first that is not open, and no process has more than there are numbers.
    for descriptor in from..from.saturating_add(count) {
        // SAFETY: F_GETFD takes a number, any at all, and changes nothing.
        let flags = unsafe { libc::fcntl(descriptor.cast_signed(), libc::F_GETFD) };
        if flags < 0 || flags & libc::FD_CLOEXEC != 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_thread_is_that_of_no_process() {
        let open = || pidfd_open(nix::unistd::gettid().as_raw()).map(drop);
        assert_eq!(std::thread::spawn(open).join().expect("the thread ends"), Err(Errno::ESRCH));
    }
}
