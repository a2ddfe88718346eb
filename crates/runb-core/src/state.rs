//! What is remembered of a container between calls: a folder with state.json, a copy of config.json, and the exec fifo.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::notify;
use crate::options::Keyring;
use crate::plan::{FIFO, Late};
use crate::spec::MAX_CONFIG;
use crate::undo::Journal;

const FILE: &str = "state.json";
/// What was written before the first effect. A file of its own, as a rename over a file that has just been written makes
/// ext4 write it out at once (its option auto_da_alloc).
const INTENT: &str = "intent.json";
const CONFIG: &str = "config.json";
/// The longest state that is read, in bytes. It has some lines for each field of a configuration, and no more.
const MAX_STATE: u64 = 2 * MAX_CONFIG;

/// Where a container is in its life (runtime.md, "State"; `paused` is runc's).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
        let (_, start_time) = stat(pid).ok_or_else(|| Error::host(format!("read /proc/{pid}/stat"), Errno::ESRCH))?;
        Ok(ProcessRef { pid, start_time })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start_time)| start_time == self.start_time && !matches!(state, b'Z' | b'X'))
    }
}

/// The state letter and the start time of a process.
fn stat(pid: i32) -> Option<(u8, u64)> {
    // One read tells all: the file has no size by which fs::read would know that.
    let mut buffer = [0; 1024];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut buffer).ok()?;
    let text = &buffer[..length];
    // The name in parentheses may have anything in it.
    let after = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(text.get(after + 2..)?).ok()?.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The content of state.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
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
    /// Whether a startContainer, poststart or poststop hook is configured.
    pub hooks: bool,
    /// Which session keyring the container's processes have.
    #[serde(default)]
    pub keyring: Keyring,
    /// The cgroup.
    pub cgroup: Cgroup,
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

/// The folder of one container's state, locked.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The folder. It is locked as long as it is open.
    _lock: File,
}

impl StateDir {
    /// Makes the folder for a new container.
    ///
    /// # Errors
    /// The id is wrong or in use, or the folder cannot be made.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o711);
        let mut result = builder.create(&path);
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(root)
                .map_err(|e| Error::io(format!("mkdir {}", root.display()), &e))?;
            result = builder.create(&path);
        }
        match result {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Error::new(Kind::Exists, format!("container with given ID already exists: {id}")))
            }
            Err(e) => Err(Error::io(format!("mkdir {}", path.display()), &e)),
            Ok(()) => Self::lock(path.clone()).inspect_err(|_| {
                let _ = fs::remove_dir(&path);
            }),
        }
    }

    /// Opens the folder of a container that exists.
    ///
    /// # Errors
    /// There is no such container.
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        Self::lock(root.join(id))
    }

    fn lock(path: PathBuf) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match open(&path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(missing()),
            Err(errno) => return Err(Error::host(format!("open {}", path.display()), errno)),
        };
        lock(&file).map_err(|e| Error::io(format!("flock {}", path.display()), &e))?;
        if !path.exists() {
            return Err(missing());
        }
        Ok(StateDir { path, _lock: file })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes state.json: all of it or nothing.
    ///
    /// # Errors
    /// A call fails.
    pub fn save(&self, saved: &Saved) -> Result<()> {
        let text = serde_json::to_vec(saved).map_err(|e| Error::internal(format!("state.json: {e}")))?;
        write_whole(&self.path.join(FILE), &text)
    }

    /// Writes what is about to be done, before the first effect.
    ///
    /// # Errors
    /// A call fails.
    pub fn save_intent(&self, saved: &Saved) -> Result<()> {
        let text = serde_json::to_vec(saved).map_err(|e| Error::internal(format!("state.json: {e}")))?;
        let path = self.path.join(INTENT);
        write_new(&path, &text).map_err(|e| Error::io(format!("write {}", path.display()), &e))
    }

    /// Keeps the configuration as it was at `create`; later calls work by it.
    ///
    /// # Errors
    /// A call fails.
    pub fn save_config(&self, text: &[u8]) -> Result<()> {
        let path = self.path.join(CONFIG);
        write_new(&path, text).map_err(|e| Error::io(format!("write {}", path.display()), &e))
    }

    /// Makes the exec fifo.
    ///
    /// # Errors
    /// mkfifo(3) fails.
    pub fn make_fifo(&self) -> Result<()> {
        let path = self.path.join(FIFO);
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|e| Error::host(format!("mkfifo {}", path.display()), e))
    }

    /// The exec fifo.
    pub fn fifo(&self) -> PathBuf {
        self.path.join(FIFO)
    }

    /// Reads state.json; `None` where a create was ended before it wrote one.
    ///
    /// # Errors
    /// The file cannot be read, or is not what was written.
    pub fn load(&self) -> Result<Option<Saved>> {
        load(&self.path)
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// A call fails.
    pub fn remove(self) -> Result<()> {
        // Most folders have these three and no more.
        for name in [FILE, CONFIG, INTENT] {
            self.unlink(name)?;
        }
        if fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        let folder = self.path.join(notify::FOLDER);
        for result in [fs::remove_file(folder.join(notify::SOCKET)), fs::remove_dir(&folder)] {
            match result {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", folder.display()), &e));
                }
                _ => {}
            }
        }
        for name in [FIFO, "state.json.new"] {
            self.unlink(name)?;
        }
        fs::remove_dir(&self.path).map_err(|e| Error::io(format!("rmdir {}", self.path.display()), &e))
    }

    fn unlink(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("unlink {name} in {}", self.path.display()), &e))
            }
            _ => Ok(()),
        }
    }
}

/// Locks an open file until it is closed; nobody has to unlock it, which could fail.
fn lock(file: &File) -> std::io::Result<()> {
    loop {
        match file.lock() {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            result => return result,
        }
    }
}

fn missing() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

/// The configuration that was kept.
pub(crate) fn config(path: &Path) -> PathBuf {
    path.join(CONFIG)
}

/// Reads state.json below `path` without the lock.
pub(crate) fn load(path: &Path) -> Result<Option<Saved>> {
    let file = path.join(FILE);
    let read = |name: &str| input::read(&path.join(name), MAX_STATE);
    let text = read(FILE).or_else(|e| if e.kind() == ErrorKind::NotFound { read(INTENT) } else { Err(e) });
    let text = match text {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound && path.is_dir() => return Ok(None),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Err(missing()),
        Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
    };
    let saved = serde_json::from_slice(&text)
        .map_err(|e| Error::new(Kind::State, format!("{} is damaged: {e}", file.display())))?;
    Ok(Some(saved))
}

fn write_new(path: &Path, text: &[u8]) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text)
}

/// Writes a file beside `path` and renames it over it.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let failed = |call: &str, e: std::io::Error| Error::io(format!("{call} {}", path.display()), &e);
    let mut written = write_new(&beside, text);
    if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists) {
        // Left by a call that was killed.
        let _ = fs::remove_file(&beside);
        written = write_new(&beside, text);
    }
    written.map_err(|e| failed("write", e))?;
    fs::rename(&beside, path).map_err(|e| {
        let _ = fs::remove_file(&beside);
        failed("rename to", e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
