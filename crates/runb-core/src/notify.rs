//! Readiness (sd_notify(3)): the workload reports to a socket of the runtime's, which passes it on to the caller's.
//!
//! As in runc, the container sees `/run/notify/notify.sock`, a folder of the container's state; `READY=1` is passed on, with
//! the workload's process id where the caller does not wait for it, and what else is said is dropped.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use oci_spec::runtime::{MountBuilder, Spec};

use crate::error::{Error, Kind, Result};
use crate::socket::{self, PATIENCE};

/// The folder in the container.
pub(crate) const INSIDE: &str = "/run/notify";
/// The name of the folder in the state's.
pub(crate) const FOLDER: &str = "notify";
/// The name of the socket in it.
pub(crate) const SOCKET: &str = "notify.sock";
/// More than any report of readiness has.
const LONGEST: usize = 8192;

/// Whose process the caller's service manager is to take for the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainProcess {
    /// The runtime, which waits for the workload.
    Runtime,
    /// The workload.
    Workload(i32),
}

/// Adds the folder's mount and `NOTIFY_SOCKET` to a configuration.
///
/// # Errors
/// `Internal`, if oci-spec refuses its own types.
pub(crate) fn add_to(spec: &mut Spec, state_dir: &Path) -> Result<()> {
    let mount = MountBuilder::default().destination(INSIDE).typ("bind").source(state_dir.join(FOLDER));
    let mount = mount.options(["bind", "nosuid", "noexec", "nodev", "ro"].map(String::from).to_vec()).build();
    let mount = mount.map_err(|error| Error::internal(format!("the mount of {INSIDE}: {error}")))?;
    spec.mounts_mut().get_or_insert_default().push(mount);
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// Makes the folder.
///
/// # Errors
/// mkdir(2) fails.
pub(crate) fn make_folder(state_dir: &Path) -> Result<()> {
    let path = state_dir.join(FOLDER);
    let failed = |e| Error::io(format!("mkdir {}", path.display()), &e);
    fs::create_dir(&path).map_err(failed)?;
    // Whatever the umask: the workload's user has to reach the socket.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// The two ends: what the workload reports to, and what the caller listens to.
#[derive(Debug)]
pub(crate) struct Readiness {
    inside: UnixDatagram,
    callers: UnixDatagram,
    ready: Cell<bool>,
}

impl Readiness {
    /// Listens in the folder of `state_dir` for `callers`, the value of the caller's `NOTIFY_SOCKET`.
    ///
    /// # Errors
    /// Nobody listens there; the socket cannot be made.
    pub(crate) fn listen(state_dir: &Path, callers: &Path) -> Result<Self> {
        let theirs = UnixDatagram::unbound().map_err(|e| Error::io("socket", &e))?;
        let named = |e| Error::io(format!("NOTIFY_SOCKET: connect to {}", callers.display()), &e);
        theirs.connect_addr(&address(callers)?).map_err(named)?;
        // A caller that reads nothing any more must not hold this runtime up, nor the workload's end.
        theirs.set_write_timeout(Some(PATIENCE)).map_err(|e| Error::io("setsockopt SO_SNDTIMEO", &e))?;
        Ok(Readiness { inside: bind(&state_dir.join(FOLDER))?, callers: theirs, ready: Cell::new(false) })
    }

    /// What becomes readable when the workload reports anything; nothing, once it was ready.
    pub(crate) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        (!self.ready.get()).then(|| self.inside.as_fd())
    }

    /// Passes on what has come, without waiting.
    ///
    /// # Errors
    /// The caller's socket does not take it.
    pub(crate) fn pass_on(&self, main: MainProcess) -> Result<()> {
        let mut message = [0u8; LONGEST];
        while !self.ready.get() {
            let Ok(length) = self.inside.recv(&mut message) else { return Ok(()) };
            let line = message[..length].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="));
            if let Some(line) = line {
                let mut text = [line, b"\n"].concat();
                if let MainProcess::Workload(pid) = main {
                    text.extend_from_slice(format!("MAINPID={pid}\n").as_bytes());
                }
                self.ready.set(true);
                socket::send(&self.callers, &text, &[]).map_err(|errno| Error::host("NOTIFY_SOCKET: send", errno))?;
            }
        }
        Ok(())
    }

    /// Waits until the workload is ready, or has ended, which is no error here.
    ///
    /// # Errors
    /// As [`Readiness::pass_on`].
    pub(crate) fn wait(&self, pid: i32, pidfd: impl AsFd) -> Result<()> {
        loop {
            let mut fds =
                [PollFd::new(self.inside.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::host("poll", errno)),
            }
            let ended = fds[1].any() == Some(true);
            self.pass_on(MainProcess::Workload(pid))?;
            if self.ready.get() || ended {
                return Ok(());
            }
        }
    }
}

/// An address of AF_UNIX, as sd_notify(3) takes it: a path, or `@` and an abstract name.
fn address(path: &Path) -> Result<SocketAddr> {
    let bytes = path.as_os_str().as_bytes();
    let address = match bytes {
        [b'/', ..] => SocketAddr::from_pathname(path),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => {
            let text = format!(
                "NOTIFY_SOCKET={:?} is neither an absolute path nor an abstract name",
                OsStr::from_bytes(bytes)
            );
            return Err(Error::new(Kind::Usage, text));
        }
    };
    address.map_err(|e| Error::io(format!("NOTIFY_SOCKET={}", path.display()), &e))
}

/// Binds the socket; by the folder's descriptor, since its path may be longer than an address.
fn bind(folder: &Path) -> Result<UnixDatagram> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory =
        open(folder, flags, Mode::empty()).map_err(|errno| Error::host(format!("open {}", folder.display()), errno))?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()));
    let failed = |call: &str, e: std::io::Error| Error::io(format!("{call} {}", folder.join(SOCKET).display()), &e);
    let socket = UnixDatagram::bind(&path).map_err(|e| failed("bind", e))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(|e| failed("chmod", e))?;
    socket.set_nonblocking(true).map_err(|e| failed("fcntl", e))?;
    Ok(socket)
}
