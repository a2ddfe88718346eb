//! The folder of one container's state, locked: what a verb that changes a container works with.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::stat::Mode;

use super::files::{self, Born, CONFIG, INTENT, PHASE_AT, STATE};
use super::{Phase, ProcessRef, Saved, check_id, lock, missing};
use crate::error::{Error, Kind, Result};
use crate::notify;
use crate::plan::FIFO;

/// The name of the folder in which a restore mounts the root filesystem for CRIU.
pub(crate) const CRIU_ROOT: &str = "criu-root";

/// How often a folder is made that others take away before it is locked.
const ATTEMPTS: u32 = 16;

/// The folder of one container's state, locked.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// The lock is this descriptor's.
    _folder: File,
    /// The intent while the container is made, then state.json.
    file: Option<File>,
}

/// What came of a look at a folder.
pub(crate) enum Opened {
    /// It is this verb's now.
    Locked(StateDir),
    /// Another verb is at work: [`Busy::wait`].
    Busy(Busy),
}

/// A folder that another verb has locked.
pub(crate) struct Busy {
    path: PathBuf,
    folder: File,
}

impl Busy {
    /// Waits for the other verb's end, with a bound.
    ///
    /// # Errors
    /// It does not end; or the container does not exist any more.
    pub(crate) fn wait(self) -> Result<StateDir> {
        lock::wait(&self.folder)?;
        StateDir::locked(self.path, self.folder)
    }
}

/// What came of the attempt to take a folder for a new container.
enum Taken {
    /// It is the new container's.
    Free(StateDir),
    /// It is another one's.
    InUse,
    /// It was removed meanwhile.
    Gone,
}

impl StateDir {
    /// Makes the folder for a new container.
    ///
    /// # Errors
    /// The id is wrong or in use, or the folder cannot be made.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        let in_use = || Error::new(Kind::Exists, format!("container with given ID already exists: {id}"));
        for _ in 0..ATTEMPTS {
            let made = make_folder(root, &path)?;
            match StateDir::taken(&path, made) {
                Ok(Taken::Free(dir)) => return Ok(dir),
                Ok(Taken::InUse) => return Err(in_use()),
                Ok(Taken::Gone) => continue,
                Err(error) => {
                    if made {
                        // If it is not empty, it is another one's by now.
                        let _ = fs::remove_dir(&path);
                    }
                    return Err(error);
                }
            }
        }
        Err(in_use())
    }

    /// Takes a folder that is there, `made` for that or not.
    fn taken(path: &Path, made: bool) -> Result<Taken> {
        // Between the two another verb may take it for what a create that was ended has left.
        let Some(folder) = open_folder(path)? else { return Ok(Taken::Gone) };
        if made {
            lock::wait_if_busy(&folder)?;
        } else if !lock::try_lock(&folder)? {
            return Ok(Taken::InUse);
        }
        let dir = match StateDir::locked(path.to_owned(), folder) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Taken::Gone),
            dir => dir?,
        };
        match files::read(path) {
            // A folder with neither an intent nor a state is no container.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if error.kind() != Kind::State => return Err(error),
            _ => return Ok(Taken::InUse),
        }
        if !made {
            dir.clear()?;
        }
        Ok(Taken::Free(dir))
    }

    /// Looks at the folder of a container that exists.
    ///
    /// # Errors
    /// There is no such container.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Opened> {
        check_id(id)?;
        let path = root.join(id);
        let folder = open_folder(&path)?.ok_or_else(missing)?;
        match lock::try_lock(&folder)? {
            true => StateDir::locked(path, folder).map(Opened::Locked),
            false => Ok(Opened::Busy(Busy { path, folder })),
        }
    }

    /// Whether a verb is at work in the folder `path`.
    pub(crate) fn is_busy(path: &Path) -> bool {
        open_folder(path).ok().flatten().is_some_and(|folder| lock::try_lock(&folder).is_ok_and(|locked| !locked))
    }

    /// The folder is locked: it must be the one that the path leads to, and not one that was removed, or replaced, meanwhile.
    fn locked(path: PathBuf, folder: File) -> Result<Self> {
        let of = |meta: std::io::Result<fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        let (ours, there) = (of(folder.metadata()), of(fs::symlink_metadata(&path)));
        if ours.is_none() || ours != there {
            return Err(missing());
        }
        Ok(StateDir { path, _folder: folder, file: None })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is about to be done, before the first effect.
    ///
    /// # Errors
    /// A call fails.
    pub fn begin(&mut self, intent: &Saved) -> Result<()> {
        self.file = Some(self.write_new(INTENT, &files::text(intent)?)?);
        Ok(())
    }

    /// Adds to the intent who init is.
    ///
    /// # Errors
    /// A call fails.
    pub fn born(&self, init: ProcessRef) -> Result<()> {
        let mut line = serde_json::to_vec(&Born { init }).map_err(|e| Error::internal(format!("the intent: {e}")))?;
        line.push(b'\n');
        let mut file = self.file()?;
        file.write_all(&line).map_err(|e| Error::io(format!("write {}", self.path.join(INTENT).display()), &e))
    }

    /// Writes state.json: all of it or nothing.
    ///
    /// # Errors
    /// A call fails.
    pub fn save(&mut self, saved: &Saved) -> Result<()> {
        self.file = Some(files::write_whole_open(&self.path.join(STATE), &files::text(saved)?)?);
        Ok(())
    }

    /// Changes the phase in state.json.
    ///
    /// # Errors
    /// A call fails.
    pub fn enter(&self, phase: Phase) -> Result<()> {
        let written = self.file()?.write_all_at(files::phase_field(phase).as_bytes(), PHASE_AT);
        written.map_err(|e| Error::io(format!("write {}", self.path.join(STATE).display()), &e))
    }

    fn file(&self) -> Result<&File> {
        self.file.as_ref().ok_or_else(|| Error::internal("a state that was neither read nor written"))
    }

    /// Keeps the configuration as it was at `create`; later calls work by it.
    ///
    /// # Errors
    /// A call fails.
    pub fn save_config(&self, text: &[u8]) -> Result<()> {
        self.write_new(CONFIG, text).map(drop)
    }

    fn write_new(&self, name: &str, text: &[u8]) -> Result<File> {
        let path = self.path.join(name);
        files::write_new(&path, text).map_err(|e| Error::io(format!("write {}", path.display()), &e))
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

    /// Reads what is known of the container.
    ///
    /// # Errors
    /// A file cannot be read, or is not what was written (kind state); there is no container (kind not found).
    pub fn load(&mut self) -> Result<Saved> {
        let saved = files::read(&self.path)?;
        if saved.phase != Phase::Creating {
            let path = self.path.join(STATE);
            let file = fs::OpenOptions::new().write(true).open(&path);
            self.file = Some(file.map_err(|e| Error::io(format!("open {}", path.display()), &e))?);
        }
        Ok(saved)
    }

    /// Reads the intent, where state.json is damaged.
    ///
    /// # Errors
    /// As [`StateDir::load`].
    pub fn load_intent(&self) -> Result<Saved> {
        files::read_intent(&self.path)
    }

    /// Removes a state.json that is damaged: from now on the intent alone tells of the container.
    ///
    /// # Errors
    /// unlink(2) fails.
    pub fn forget_state(&self) -> Result<()> {
        self.unlink(STATE)
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// A call fails.
    pub fn remove(self) -> Result<()> {
        // Most folders have these three and no more. The state goes after the intent: who looks meanwhile sees a container that
        // has stopped, and then none; and a removal that is killed can be repeated.
        for name in [INTENT, STATE, CONFIG] {
            self.unlink(name)?;
        }
        if fs::remove_dir(&self.path).is_ok() {
            return Ok(());
        }
        self.clear()?;
        fs::remove_dir(&self.path).map_err(|e| Error::io(format!("rmdir {}", self.path.display()), &e))
    }

    /// Removes everything in it that is ours.
    fn clear(&self) -> Result<()> {
        let folder = self.path.join(notify::FOLDER);
        let criu = fs::remove_dir(self.path.join(CRIU_ROOT));
        for result in [fs::remove_file(folder.join(notify::SOCKET)), fs::remove_dir(&folder), criu] {
            match result {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::io(format!("remove {}", folder.display()), &e));
                }
                _ => {}
            }
        }
        [STATE, "state.json.new", CONFIG, FIFO, INTENT].iter().try_for_each(|name| self.unlink(name))
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

/// Makes the folder, and those above it if they are missing; false where it exists.
fn make_folder(root: &Path, path: &Path) -> Result<bool> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o711);
    let mut result = builder.create(path);
    if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::NotFound) {
        let above = fs::DirBuilder::new().recursive(true).mode(0o711).create(root);
        above.map_err(|e| Error::io(format!("mkdir {}", root.display()), &e))?;
        result = builder.create(path);
    }
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io(format!("mkdir {}", path.display()), &e)),
    }
}

/// Opens the folder, if there is one.
fn open_folder(path: &Path) -> Result<Option<File>> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    match fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(folder) => Ok(Some(folder)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        Err(e) => Err(Error::io(format!("open {}", path.display()), &e)),
    }
}
