//! What the caller wants beside the configuration. The library reads no environment: a program fills this in.

use std::path::PathBuf;

/// How the root filesystem becomes `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RootEntry {
    /// pivot_root(2), the old root unmounted.
    #[default]
    Pivot,
    /// mount --move and chroot, for a rootfs on a ramdisk (`--no-pivot`).
    NoPivot,
}

/// Which session keyring the container's process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keyring {
    /// A new one, named `_ses.ID` as runc does.
    #[default]
    New,
    /// The caller's (`--no-new-keyring`).
    Inherit,
}

/// What becomes of the caller once the workload runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// It leaves: `create`, `run --detach`.
    #[default]
    Leaves,
    /// It waits for the workload's end, and carries its terminal: `run`.
    Waits,
}

/// Who makes the cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupManager {
    /// The runtime, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, by D-Bus (`--systemd-cgroup`).
    Systemd,
}

/// What the caller of `create` and `run` asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The folder that holds one folder of state for each container (`--root`).
    pub root: PathBuf,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// What becomes of the caller.
    pub caller: Caller,
    /// A unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Where the process id of init is written, without a newline, atomically.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that receives a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on are handed to the workload.
    pub preserve_fds: u32,
    /// How many of them are systemd's (`LISTEN_FDS`).
    pub listen_fds: u32,
    /// The datagram socket that awaits `READY=1` (`NOTIFY_SOCKET`).
    pub notify_socket: Option<PathBuf>,
    /// How the root filesystem becomes `/`.
    pub root_entry: RootEntry,
    /// Which session keyring the container's process gets.
    pub keyring: Keyring,
    /// Who makes the cgroup.
    pub cgroup_manager: CgroupManager,
}

impl Options {
    /// How many descriptors from 3 on the workload keeps.
    pub fn kept_descriptors(&self) -> u32 {
        self.preserve_fds + self.listen_fds
    }
}
