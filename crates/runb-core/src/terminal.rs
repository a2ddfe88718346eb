//! The runtime's end of a terminal: the master that init hands over, and the socket that awaits it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};

use crate::error::{Error, Kind, Result};
use crate::{socket, sys};

const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);
/// What runc calls the master in its message; engines print it.
const NAME: &[u8] = b"/dev/ptmx";

/// The master of a pseudoterminal.
#[derive(Debug)]
pub struct Master(OwnedFd);

impl Master {
    /// Takes what init opened for a master, if it is one: a container that init has joined may have put anything in its
    /// place (CVE-2025-52565).
    ///
    /// # Errors
    /// It is not the ptmx of a devpts.
    pub(crate) fn verified(descriptor: OwnedFd) -> Result<Self> {
        let failed = |call: &str, errno| Error::host(format!("{call} of the terminal's master"), errno);
        let stat = fstat(&descriptor).map_err(|errno| failed("fstat", errno))?;
        let kind = fstatfs(&descriptor).map_err(|errno| failed("fstatfs", errno))?.filesystem_type();
        let is_ptmx = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(5, 2);
        if !is_ptmx || kind != DEVPTS_SUPER_MAGIC || sys::pty_number(&descriptor).is_err() {
            let text = "what /dev/pts has as ptmx is not the ptmx of a devpts";
            return Err(Error::new(Kind::Init, text).at("process.terminal"));
        }
        Ok(Master(descriptor))
    }

    /// The slave, opened without any path.
    ///
    /// # Errors
    /// The errno of the ioctl.
    pub fn slave(&self) -> Result<OwnedFd> {
        sys::pty_peer(&self.0).map_err(|errno| Error::host("ioctl TIOCGPTPEER", errno).at("process.terminal"))
    }
}

impl AsFd for Master {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The socket that awaits the master of a terminal.
#[derive(Debug)]
pub struct ConsoleSocket(OwnedFd);

impl ConsoleSocket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or takes the connection.
    pub fn connect(path: &Path) -> Result<Self> {
        let failed = |errno| Error::host(format!("connect to {}", path.display()), errno).at("options.console_socket");
        socket::connect(path).map(ConsoleSocket).map_err(failed)
    }

    /// Hands the master over: one message, with the master by SCM_RIGHTS and its name as data.
    ///
    /// # Errors
    /// The errno of sendmsg(2).
    pub fn send(&self, master: &Master) -> Result<()> {
        let failed = |errno| Error::host("sendmsg", errno).at("options.console_socket");
        socket::send(&self.0, NAME, &[master.as_fd()]).map_err(failed)
    }
}
