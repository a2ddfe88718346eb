//! Files, directories, terminals and sockets.

use nix::libc;
use runb_init::{REPORT_SIZE, Report};

use crate::plan::program::flags::{O_CLOEXEC, OpenFlags, Resolve};
use crate::plan::program::values::{Data, Number, Text};
use crate::plan::program::{Added, Program, Slot};

/// A message of a report and descriptors by SCM_RIGHTS (unix(7), cmsg(3)).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    /// The struct cmsghdr, with the descriptors behind it.
    control: Data,
    /// How many descriptors.
    count: usize,
    /// The struct msghdr.
    header: Data,
}

/// The size of a struct cmsghdr.
const CMSGHDR: usize = 16;

impl Program {
    /// openat(2), never to make a file.
    pub(crate) fn openat(&mut self, dir: impl Into<Number>, path: impl Text, flags: OpenFlags) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_openat, &[dir.into().into(), path.into(), (flags | O_CLOEXEC).into()])
    }

    /// openat2(2), never to make a file.
    pub(crate) fn openat2(
        &mut self,
        dir: impl Into<Number>,
        path: impl Text,
        flags: OpenFlags,
        resolve: Resolve,
    ) -> Added<'_> {
        let path = path.lies(self);
        // struct open_how: flags, mode, resolve.
        let how = self.longs(&[(flags | O_CLOEXEC).into(), 0, resolve.into()]);
        self.call(libc::SYS_openat2, &[dir.into().into(), path.into(), how.into(), 24.into()])
    }

    /// close(2).
    pub(crate) fn close(&mut self, fd: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_close, &[fd.into().into()])
    }

    /// close_range(2): every descriptor from `first` on.
    pub(crate) fn close_range(&mut self, first: i32) -> Added<'_> {
        self.call(libc::SYS_close_range, &[first.into(), u64::from(u32::MAX).into(), 0.into()])
    }

    /// close_range(2): the descriptors 0, 1 and 2.
    pub(crate) fn close_stdio(&mut self) -> Added<'_> {
        self.call(libc::SYS_close_range, &[0.into(), 2.into(), 0.into()])
    }

    /// dup3(2) with O_CLOEXEC.
    pub(crate) fn dup3(&mut self, fd: impl Into<Number>, to: i32) -> Added<'_> {
        self.call(libc::SYS_dup3, &[fd.into().into(), to.into(), O_CLOEXEC.into()])
    }

    /// dup2(2), for a descriptor that outlives the execve.
    pub(crate) fn dup2(&mut self, fd: impl Into<Number>, to: i32) -> Added<'_> {
        // Not every architecture has the call.
        self.call(libc::SYS_dup3, &[fd.into().into(), to.into(), 0.into()])
    }

    /// fcntl(2), F_DUPFD_CLOEXEC: the lowest free number.
    pub(crate) fn fcntl_dupfd_cloexec(&mut self, fd: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_fcntl, &[fd.into().into(), libc::F_DUPFD_CLOEXEC.into(), 0.into()])
    }

    /// fcntl(2), F_SETFD: the execve closes it.
    pub(crate) fn fcntl_setfd_cloexec(&mut self, fd: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_fcntl, &[fd.into().into(), libc::F_SETFD.into(), libc::FD_CLOEXEC.into()])
    }

    /// read(2) of `count` bytes that nobody looks at.
    pub(crate) fn read(&mut self, fd: impl Into<Number>, count: usize) -> Added<'_> {
        let buffer = self.bytes(&vec![0; count]);
        self.call(libc::SYS_read, &[fd.into().into(), buffer.into(), count.into()])
    }

    /// write(2).
    pub(crate) fn write(&mut self, fd: impl Into<Number>, text: impl AsRef<[u8]>) -> Added<'_> {
        let (length, text) = (text.as_ref().len(), self.text(text));
        self.call(libc::SYS_write, &[fd.into().into(), text.into(), length.into()])
    }

    /// mkdirat(2).
    pub(crate) fn mkdirat(&mut self, dir: impl Into<Number>, path: impl Text, mode: u32) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_mkdirat, &[dir.into().into(), path.into(), mode.into()])
    }

    /// mknodat(2); a file of the type S_IFREG has no device.
    pub(crate) fn mknodat(&mut self, dir: impl Into<Number>, path: impl Text, mode: u32, device: u64) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_mknodat, &[dir.into().into(), path.into(), mode.into(), device.into()])
    }

    /// symlinkat(2).
    pub(crate) fn symlinkat(&mut self, target: impl Text, dir: impl Into<Number>, path: impl Text) -> Added<'_> {
        let (target, path) = (target.lies(self), path.lies(self));
        self.call(libc::SYS_symlinkat, &[target.into(), dir.into().into(), path.into()])
    }

    /// unlinkat(2) of what is no directory.
    pub(crate) fn unlinkat(&mut self, dir: impl Into<Number>, path: impl Text) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_unlinkat, &[dir.into().into(), path.into(), 0.into()])
    }

    /// faccessat(2) from the working directory; `mode` is F_OK or X_OK.
    pub(crate) fn access(&mut self, path: impl Text, mode: i32) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_faccessat, &[libc::AT_FDCWD.into(), path.into(), mode.into()])
    }

    /// faccessat2(2) from the working directory with AT_EACCESS: judged as execve(2) judges, by the effective user with its
    /// capabilities.
    pub(crate) fn eaccess(&mut self, path: impl Text, mode: i32) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_faccessat2, &[libc::AT_FDCWD.into(), path.into(), mode.into(), libc::AT_EACCESS.into()])
    }

    /// fchownat(2), AT_SYMLINK_NOFOLLOW.
    pub(crate) fn lchownat(&mut self, dir: impl Into<Number>, path: impl Text, owner: (u32, u32)) -> Added<'_> {
        let path = path.lies(self);
        let (uid, gid) = owner;
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        self.call(libc::SYS_fchownat, &[dir.into().into(), path.into(), uid.into(), gid.into(), flags.into()])
    }

    /// fchown(2); the group stays.
    pub(crate) fn fchown(&mut self, fd: impl Into<Number>, uid: u32) -> Added<'_> {
        self.call(libc::SYS_fchown, &[fd.into().into(), uid.into(), (-1).into()])
    }

    /// setxattr(2), new or not.
    pub(crate) fn setxattr(&mut self, path: impl Text, name: impl Text, value: &str) -> Added<'_> {
        let (path, name, text) = (path.lies(self), name.lies(self), self.text(value));
        self.call(libc::SYS_setxattr, &[path.into(), name.into(), text.into(), value.len().into(), 0.into()])
    }

    /// fchdir(2).
    pub(crate) fn fchdir(&mut self, fd: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_fchdir, &[fd.into().into()])
    }

    /// chdir(2).
    pub(crate) fn chdir(&mut self, path: impl Text) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_chdir, &[path.into()])
    }

    /// chroot(2).
    pub(crate) fn chroot(&mut self, path: impl Text) -> Added<'_> {
        let path = path.lies(self);
        self.call(libc::SYS_chroot, &[path.into()])
    }

    /// socket(2) of this domain, for datagrams.
    pub(crate) fn socket_dgram(&mut self, domain: i32) -> Added<'_> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        self.call(libc::SYS_socket, &[domain.into(), kind.into(), 0.into()])
    }

    /// A message of one report and `count` descriptors, none so far.
    pub(crate) fn message(&mut self, report: Report, count: usize) -> Message {
        let report = self.bytes(&report.to_bytes());
        // struct cmsghdr: length, level and type; then the descriptors.
        let length = CMSGHDR + 4 * count;
        let level_and_type = libc::SOL_SOCKET as u64 | (libc::SCM_RIGHTS as u64) << 32;
        let mut longs = vec![length as u64, level_and_type];
        longs.resize(length.div_ceil(8), u64::MAX);
        let control = self.longs(&longs);
        let vector = self.longs(&[report.address(), REPORT_SIZE as u64]);
        let header = self.longs(&[0, 0, vector.address(), 1, control.address(), 8 * longs.len() as u64, 0]);
        Message { control, count, header }
    }

    /// The places of a message's descriptors.
    pub(crate) fn descriptors_of(&self, message: Message) -> Vec<Slot> {
        (0..message.count).map(|i| self.slot_in(message.control, CMSGHDR + 4 * i)).collect()
    }

    /// sendmsg(2).
    pub(crate) fn sendmsg(&mut self, fd: impl Into<Number>, message: Message) -> Added<'_> {
        self.call(libc::SYS_sendmsg, &[fd.into().into(), message.header.into(), libc::MSG_NOSIGNAL.into()])
    }

    /// recvmsg(2): the message's report is overwritten, and its descriptors are those that came.
    pub(crate) fn recvmsg(&mut self, fd: impl Into<Number>, message: Message) -> Added<'_> {
        self.received += message.count;
        self.call(libc::SYS_recvmsg, &[fd.into().into(), message.header.into(), libc::MSG_CMSG_CLOEXEC.into()])
    }

    /// netdevice(7), SIOCSIFFLAGS: the flags of a device.
    pub(crate) fn ioctl_siocsifflags(&mut self, socket: impl Into<Number>, name: &str, flags: i32) -> Added<'_> {
        // struct ifreq: the name in 16 bytes, then the flags.
        let mut request = [0u8; 40];
        request[..name.len()].copy_from_slice(name.as_bytes());
        request[16..18].copy_from_slice(&(flags as u16).to_ne_bytes());
        let request = self.bytes(&request);
        self.call(libc::SYS_ioctl, &[socket.into().into(), libc::SIOCSIFFLAGS.into(), request.into()])
    }

    /// ioctl_tty(2), TIOCSPTLCK: unlocks the slave.
    pub(crate) fn ioctl_tiocsptlck(&mut self, master: impl Into<Number>) -> Added<'_> {
        let unlocked = self.bytes(&0u32.to_ne_bytes());
        self.call(libc::SYS_ioctl, &[master.into().into(), libc::TIOCSPTLCK.into(), unlocked.into()])
    }

    /// ioctl_tty(2), TIOCGPTPEER: opens the slave.
    pub(crate) fn ioctl_tiocgptpeer(&mut self, master: impl Into<Number>, flags: OpenFlags) -> Added<'_> {
        let flags = flags | O_CLOEXEC;
        self.call(libc::SYS_ioctl, &[master.into().into(), libc::TIOCGPTPEER.into(), flags.into()])
    }

    /// ioctl_tty(2), TIOCSWINSZ.
    pub(crate) fn ioctl_tiocswinsz(&mut self, terminal: impl Into<Number>, rows: u16, columns: u16) -> Added<'_> {
        let size: Vec<u8> = [rows, columns, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
        let size = self.bytes(&size);
        self.call(libc::SYS_ioctl, &[terminal.into().into(), libc::TIOCSWINSZ.into(), size.into()])
    }

    /// ioctl_tty(2), TIOCSCTTY: the controlling terminal, taken from nobody.
    pub(crate) fn ioctl_tiocsctty(&mut self, terminal: impl Into<Number>) -> Added<'_> {
        self.call(libc::SYS_ioctl, &[terminal.into().into(), libc::TIOCSCTTY.into(), 0.into()])
    }
}
