//! What is remembered of a container between calls: a folder with an intent, state.json, a copy of config.json, and the exec
//! fifo.

mod dir;
mod files;
mod lock;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::libc;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, FreezerState};
use crate::error::{Error, Kind, Result};
use crate::options::Keyring;
use crate::plan::Late;
use crate::resctrl::Groups;
use crate::sys;
use crate::undo::{Holder, Journal};

pub(crate) use dir::Opened;
pub(crate) use dir::CRIU_ROOT;
pub use dir::StateDir;
pub(crate) use files::{config, read, write_whole};

/// Where a container is in its life (runtime.md, "State"; `paused` is runc's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It is being made.
    Creating,
    /// Init waits for `start`.
    Created,
    /// The workload runs.
    Running,
    /// It is frozen.
    Paused,
    /// It has ended, or was never finished.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its process id in the runtime's pid namespace.
    pub pid: i32,
    /// When it began, in clock ticks after boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
}

impl ProcessRef {
    /// The process `pid` as it is now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> Result<Self> {
        let failed = |errno| Error::host(format!("read /proc/{pid}/stat"), errno);
        let text = stat_text(pid).map_err(|e| match e.raw_os_error() {
            None | Some(libc::ENOENT) => failed(Errno::ESRCH),
            Some(errno) => failed(Errno::from_raw(errno)),
        })?;
        let (_, start_time) = fields(&text).ok_or_else(|| failed(Errno::ESRCH))?;
        Ok(ProcessRef { pid, start_time })
    }

    /// A descriptor of it, if it lives.
    ///
    /// # Errors
    /// pidfd_open(2) fails for another reason.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        // The pidfd first: what it is opened for cannot be replaced after the check.
        match sys::pidfd_open(self.pid) {
            Err(Errno::ESRCH) => Ok(None),
            Err(errno) => Err(Error::host(format!("pidfd_open {}", self.pid), errno)),
            Ok(pidfd) => Ok(self.lives()?.then_some(pidfd)),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|found| self.lives_as(found))
    }

    fn lives_as(&self, (state, start_time): (u8, u64)) -> bool {
        start_time == self.start_time && !matches!(state, b'Z' | b'X')
    }

    /// As [`ProcessRef::is_alive`], where a process that cannot be looked at must not be taken for one that has ended.
    ///
    /// # Errors
    /// /proc/PID/stat cannot be read, and not for want of the process.
    fn lives(&self) -> Result<bool> {
        match stat_text(self.pid) {
            Ok(text) => Ok(fields(&text).is_some_and(|found| self.lives_as(found))),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(false),
            Err(e) => Err(Error::io(format!("read /proc/{}/stat", self.pid), &e)),
        }
    }
}

/// The state letter and the start time of a process.
fn stat(pid: i32) -> Option<(u8, u64)> {
    fields(&stat_text(pid).ok()?)
}

fn stat_text(pid: i32) -> std::io::Result<Vec<u8>> {
    // One read tells all: the file has no size by which fs::read would know that.
    let mut buffer = vec![0; 1024];
    let length = File::open(format!("/proc/{pid}/stat"))?.read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn fields(text: &[u8]) -> Option<(u8, u64)> {
    // The name in parentheses may have anything in it.
    let after = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(text.get(after + 2..)?).ok()?.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// How far a container has come: what state.json says. Each is written under the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The intent's: its create works on it, or was ended.
    Creating,
    /// Its create has succeeded.
    Created,
    /// Init was, or is about to be, told to execute. Whether it has, the kernel knows: it has the exec fifo open until then.
    Starting,
    /// Init has executed the workload.
    Running,
}

impl Phase {
    /// For a state that was written without one.
    fn unsaid() -> Self {
        Phase::Starting
    }

    fn word(self) -> &'static str {
        match self {
            Phase::Creating => "\"creating\"",
            Phase::Created => "\"created\"",
            Phase::Starting => "\"starting\"",
            Phase::Running => "\"running\"",
        }
    }
}

/// The version of state.json. A later runb reads what an earlier one has written: a field that is added has a default. The number
/// goes up when an earlier runb would take what a later one has written for something else; it refuses such a state.
pub const VERSION: u32 = 1;

/// The content of state.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    /// How far it has come. The first field, so that it lies at a known place of the file.
    #[serde(default = "Phase::unsaid")]
    pub phase: Phase,
    /// Of what is written here: [`VERSION`] of the runb that wrote it, 0 of those before they were counted.
    #[serde(default)]
    pub version: u32,
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The user that created it.
    pub owner: u32,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Init, once it exists.
    pub init: Option<ProcessRef>,
    /// `CLONE_NEW*` of the namespaces that are the container's own.
    pub namespaces: u64,
    /// Those of them that were made for it; none is known of a container of an older version.
    #[serde(default)]
    pub made: u64,
    /// Whether a startContainer, poststart or poststop hook is configured.
    pub hooks: bool,
    /// Which session keyring the container's processes have.
    #[serde(default)]
    pub keyring: Keyring,
    /// The cgroup.
    pub cgroup: Cgroup,
    /// The groups of the resctrl filesystem that its processes are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resctrl: Option<Groups>,
    /// `linux.resources` as updates have made it; without any it is the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<LinuxResources>>,
    /// The CRIU that a checkpoint or a restore has started. It holds the processes until it ends, also where who has started it was
    /// killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criu: Option<ProcessRef>,
    /// What takes it back.
    pub journal: Journal,
    /// What may still go wrong in init.
    #[serde(default)]
    pub late: Vec<Late>,
}

impl Saved {
    /// Now, as the state has it.
    pub fn now() -> String {
        humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
    }

    /// A descriptor of init, and its process id, if it lives.
    ///
    /// # Errors
    /// pidfd_open(2) fails for another reason.
    pub(crate) fn init_fd(&self) -> Result<Option<(i32, OwnedFd)>> {
        let Some(init) = self.init else { return Ok(None) };
        Ok(init.open()?.map(|pidfd| (init.pid, pidfd)))
    }

    /// The cgroup, to do something to whoever is in it; none if it is another unit's by now.
    pub(crate) fn own_cgroup(&self) -> Option<&Cgroup> {
        let anothers = self.journal.unit().is_some_and(|unit| unit.holder() == Holder::Another);
        (!anothers).then_some(&self.cgroup)
    }

    /// Where a container whose create is not at work (any more) is in its life; `folder` is that of its state.
    pub(crate) fn status(&self, folder: &Path) -> Status {
        self.status_by(folder, ProcessRef::is_alive)
    }

    /// The same, by what `lives` says of its init.
    pub(crate) fn status_by(&self, folder: &Path, lives: impl Fn(&ProcessRef) -> bool) -> Status {
        let lives = self.init.as_ref().is_some_and(lives);
        match self.phase {
            // A create that has been ended: its init ends, too, as nobody hears its report; or waits for a start that does not
            // come, until it is deleted.
            Phase::Creating => Status::Stopped,
            _ if !lives => Status::Stopped,
            _ if !matches!(self.cgroup.freezer_state(), Ok(FreezerState::Thawed) | Err(_)) => Status::Paused,
            Phase::Created => Status::Created,
            Phase::Starting if files::fifo_is_awaited(folder) => Status::Created,
            Phase::Starting | Phase::Running => Status::Running,
        }
    }
}

/// The longest name of a file, in bytes (NAME_MAX). runc takes ids of 1024 bytes, and then cannot make their folders.
const LONGEST_ID: usize = 255;

/// Checks an id: what runc takes, as far as it is one name of a file.
///
/// # Errors
/// Says which rule it breaks.
pub fn check_id(id: &str) -> Result<()> {
    let wrong = |text: String| Err(Error::new(Kind::Usage, format!("invalid container id: {text}")));
    if id.is_empty() {
        return wrong("it is empty".to_owned());
    }
    if id.len() > LONGEST_ID {
        return wrong(format!("it has {} bytes; {LONGEST_ID} are allowed", id.len()));
    }
    if id == "." || id == ".." {
        return wrong(format!("{id:?} is no name"));
    }
    match id.chars().find(|c| !(c.is_ascii_alphanumeric() || "_+-.".contains(*c))) {
        Some(c) => wrong(format!("{id:?} has {c:?} in it; letters, digits and _ + - . are allowed")),
        None => Ok(()),
    }
}

fn missing() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_was_written_before_there_were_hints_is_read() {
        let older = serde_json::json!({"call": 7, "place": "process.args[0]", "what": "exec", "nr": 59});
        let late: Late = serde_json::from_value(older).expect("it is read");
        assert_eq!((late.call, late.hint), (7, None));
    }

    #[test]
    fn an_id_is_one_name_of_a_file() {
        for id in ["web1", "a", "A_b+c-d.e", &"x".repeat(255)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\0b", &"x".repeat(256)] {
            assert_eq!(check_id(id).map_err(|e| e.kind()), Err(Kind::Usage), "{id}");
        }
    }

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let me = ProcessRef::of(std::process::id() as i32).expect("this process");
        assert!(me.is_alive());
        assert!(!ProcessRef { start_time: me.start_time + 1, ..me }.is_alive());
    }
}
