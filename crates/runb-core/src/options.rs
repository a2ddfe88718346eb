//! What the caller wants beside the configuration. The library reads no environment: a program fills this in.

mod criu;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};

pub(crate) use criu::CONFIG_ANNOTATION;
pub use criu::{CheckpointOptions, Criu, ManageCgroups, NetworkLock, PageServer, RestoreOptions};

/// How the root filesystem becomes `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootEntry {
    /// pivot_root(2), the old root unmounted.
    #[default]
    Pivot,
    /// mount --move and chroot, for a rootfs on a ramdisk.
    NoPivot,
}

/// Which session keyring the container's process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Keyring {
    /// A new one, named `_ses.ID` as runc does.
    #[default]
    New,
    /// The caller's.
    Inherit,
}

/// What becomes of the caller once the workload runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// It leaves: `create`, `run --detach`.
    #[default]
    Leaves,
    /// It waits for the workload's end, and carries its terminal: `run`.
    Waits,
}

/// Who makes the cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupManager {
    /// The runtime, by mkdir.
    #[default]
    Cgroupfs,
    /// systemd, by D-Bus.
    Systemd(Systemd),
}

/// Which systemd is asked for a unit, and how long it may take: [`Systemd::default`], and then its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Systemd {
    /// Whose it is.
    pub whose: Whose,
    /// How long it may take to make a unit, or to stop one. Half a minute, where nobody says otherwise, as under runc.
    pub patience: Duration,
    /// The user's folder for sockets (`XDG_RUNTIME_DIR`), for the user's systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_dir: Option<PathBuf>,
    /// The addresses of the user's bus (`DBUS_SESSION_BUS_ADDRESS`), for the user's systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_bus: Option<String>,
}

/// Whose systemd it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Whose {
    /// The machine's.
    #[default]
    System,
    /// The user's own, for containers without root.
    User,
}

impl Default for Systemd {
    fn default() -> Self {
        Systemd { whose: Whose::System, patience: Duration::from_secs(30), runtime_dir: None, session_bus: None }
    }
}

/// What follows where the caller may not make cgroups, for a container that asks for none and for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeniedCgroups {
    /// It stays in the caller's.
    #[default]
    Stay,
    /// The launch fails.
    Fail,
}

/// What a hook in the runtime's namespaces has for an environment where it names none. runc and crun give it their own; a
/// program that embeds the library says what it wants to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookEnvironment(Arc<[Vec<u8>]>);

impl HookEnvironment {
    /// These variables, for instance those of `std::env::vars_os()`.
    ///
    /// # Errors
    /// A name is empty, or there is a NUL.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Error> {
        let entry = |(name, value): (OsString, OsString)| {
            let (name, value) = (name.into_encoded_bytes(), value.into_encoded_bytes());
            if name.is_empty() || [&name, &value].iter().any(|text| text.contains(&0)) {
                let name = String::from_utf8_lossy(&name);
                return Err(Error::new(Kind::Usage, format!("{name:?} is no variable of an environment for hooks")));
            }
            Ok([name, b"=".to_vec(), value].concat())
        };
        variables.into_iter().map(entry).collect::<Result<_, _>>().map(HookEnvironment)
    }

    /// `NAME=VALUE` each.
    pub(crate) fn entries(&self) -> &[Vec<u8>] {
        &self.0
    }
}

/// Something of the caller's own that is to be done before a call returns, and as well while init is at work, where this process would
/// only wait.
#[derive(Clone)]
pub struct Meanwhile(Arc<dyn Fn() + Send + Sync>);

impl Meanwhile {
    /// It is called at most once for each container or process, and not at all where that fails before there is an init.
    pub fn new(work: impl Fn() + Send + Sync + 'static) -> Self {
        Meanwhile(Arc::new(work))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// What the caller of `create` and `run` asks for: [`Options::new`], and then its fields.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// The folder that holds one folder of state for each container.
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
    /// How many descriptors from 3 on are handed to the workload: open, and without FD_CLOEXEC.
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
    /// What follows where the caller may not make cgroups.
    pub denied_cgroups: DeniedCgroups,
    /// The folders in which newuidmap(1) and newgidmap(1) are looked for, by which a user maps more ids than the own.
    pub search: Vec<PathBuf>,
    /// The environment of hooks in the runtime's namespaces that name none.
    pub hook_environment: HookEnvironment,
    /// What else the caller has to do.
    pub meanwhile: Option<Meanwhile>,
}

impl Options {
    /// What a container needs; all else is as it is by default, and is set by field.
    pub fn new(id: impl Into<String>, root: impl Into<PathBuf>, bundle: impl Into<PathBuf>) -> Self {
        Options { id: id.into(), root: root.into(), bundle: bundle.into(), ..Options::default() }
    }

    /// How many descriptors from 3 on the workload keeps; more than a process can have where the sum has no number.
    pub(crate) fn kept_descriptors(&self) -> u32 {
        self.preserve_fds.saturating_add(self.listen_fds)
    }
}

/// Whether a paused container is an obstacle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Paused {
    /// It is an error.
    #[default]
    Refuse,
    /// The process is made, and waits with the others for the resume.
    Ignore,
}

/// `UID[:GID]` of an exec: numbers, never names, which only the image could explain (CVE-2016-3697).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserIds {
    /// The user.
    pub uid: u32,
    /// The group; the one that it would be otherwise where absent.
    pub gid: Option<u32>,
}

impl FromStr for UserIds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |part: &str| match part.parse::<u32>() {
            // -1 is what set*id(2) takes for "leave it".
            Ok(id) if id != u32::MAX && part.bytes().all(|byte| byte.is_ascii_digit()) => Ok(id),
            _ => Err(Error::new(
                Kind::Usage,
                format!("user {text:?} is not UID or UID:GID in decimal digits, each below 4294967295"),
            )),
        };
        let (uid, gid) = match text.split_once(':') {
            None => (text, None),
            Some((uid, gid)) => (uid, Some(gid)),
        };
        Ok(UserIds { uid: number(uid)?, gid: gid.map(number).transpose()? })
    }
}

/// What the caller of `start` asks for: [`StartOptions::default`], and then its fields.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct StartOptions {
    /// The environment of hooks in the runtime's namespaces that name none.
    pub hook_environment: HookEnvironment,
    /// The datagram socket that is told when the workload is ready (`NOTIFY_SOCKET`), and until then waited for.
    pub notify_socket: Option<PathBuf>,
    /// What else the caller has to do.
    pub meanwhile: Option<Meanwhile>,
}

/// What the caller of `exec` asks for: [`ExecOptions::default`], and then its fields. What is absent is as the container's own process has it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ExecOptions {
    /// A file with the process as JSON, in place of the container's own process.
    pub process: Option<PathBuf>,
    /// The command.
    pub args: Vec<String>,
    /// The working directory.
    pub cwd: Option<PathBuf>,
    /// `NAME=VALUE` beside, and instead of, what the process has.
    pub env: Vec<String>,
    /// The user.
    pub user: Option<UserIds>,
    /// More supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// What becomes of the caller.
    pub caller: Caller,
    /// A unix socket that receives the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The SELinux label.
    pub selinux_label: Option<String>,
    /// The AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// Whether no_new_privs is set, whatever the process has.
    pub no_new_privileges: bool,
    /// More capabilities: bounding, effective and permitted.
    pub capabilities: Vec<String>,
    /// `[CONTROLLER[,CONTROLLER]:]PATH` of cgroups below the container's.
    pub cgroups: Vec<String>,
    /// Where the process id is written, without a newline, atomically.
    pub pid_file: Option<PathBuf>,
    /// A unix socket that receives a pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors from 3 on are handed to the process: open, and without FD_CLOEXEC.
    pub preserve_fds: u32,
    /// Whether a paused container is an obstacle.
    pub paused: Paused,
    /// What else the caller has to do.
    pub meanwhile: Option<Meanwhile>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_of_hooks_is_what_execve_can_hand_on() {
        let of = |name: &str, value: &str| HookEnvironment::of([(name.into(), value.into())]);
        assert_eq!(of("A", "b=c").expect("a variable").entries(), [b"A=b=c".to_vec()]);
        assert_eq!(of("=A", "").expect("odd, and the caller's").entries(), [b"=A=".to_vec()]);
        for (name, value) in [("", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert_eq!(of(name, value).expect_err(name).kind(), Kind::Usage);
        }
    }

    #[test]
    fn a_user_is_one_or_two_numbers_and_nothing_else() {
        let ids = |uid, gid| UserIds { uid, gid };
        for (text, expected) in [
            ("0", ids(0, None)),
            ("1", ids(1, None)),
            ("1:2", ids(1, Some(2))),
            ("65534", ids(65534, None)),
            ("4294967294", ids(4294967294, None)),
        ] {
            assert_eq!(text.parse::<UserIds>().expect(text), expected);
        }
        for text in ["4294967295", "4294967296", "-1", "+1", "1:", ":1", " 1", "0x1", "1e3", "1:2:3", "root", "", ":"] {
            assert_eq!(text.parse::<UserIds>().expect_err(text).kind(), Kind::Usage);
        }
    }
}
