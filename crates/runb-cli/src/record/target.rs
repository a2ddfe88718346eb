//! The file of the log: opened anew for each line, but for the second one of a call that ends at once. Each is one write(2) to an O_APPEND descriptor, so that lines of several calls do
//! not mix. When it has grown to its size it is renamed, and a new one begun: no line is copied, and none is lost, as a call that still
//! has the old one open writes its line there.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::lost;
use crate::args::Format;
use crate::config::{Folder, Group, Settings};

/// Where records go.
#[derive(Clone, Debug)]
pub struct Target {
    path: PathBuf,
    pub format: Format,
    folder: Folder,
    mode: Option<u32>,
    group: Option<Group>,
    /// At how many bytes it is rotated; 0 is never.
    max_size: u64,
    generations: u32,
    lost: Option<PathBuf>,
}

impl Target {
    /// As it is set up; none if there is no log.
    pub fn new(settings: &Settings) -> Option<Self> {
        let path = settings.path.clone()?;
        Some(Target {
            lost: settings.lost.as_deref().map(|folder| lost::file(folder, &path)),
            path,
            format: settings.format,
            folder: settings.folder,
            mode: settings.mode,
            group: settings.group.clone(),
            max_size: settings.max_size,
            generations: settings.generations,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many records could not be written since it was last asked; it is forgotten by that.
    pub fn lost(&self) -> Option<lost::Lost> {
        lost::take(self.lost.as_deref()?)
    }

    /// Writes the lines of a record. What cannot be written, as the disk is full, is counted; and so is what `told` of and does not
    /// get through either. The file, if they are written.
    pub fn append(&self, lines: &str, told: u64) -> Option<File> {
        match self.open() {
            Ok(file) => self.append_to(file?, lines, told),
            Err(error) => self.lose(&error, told + 1),
        }
    }

    /// As [`Target::append`], to the file that it has opened.
    pub fn append_to(&self, mut file: File, lines: &str, told: u64) -> Option<File> {
        match write(&mut file, lines.as_bytes()) {
            Ok(()) => Some(file),
            Err(error) => self.lose(&error, told + 1),
        }
    }

    /// Counts so many lost records.
    fn lose(&self, error: &io::Error, count: u64) -> Option<File> {
        if let Some(lost) = self.lost.as_ref().filter(|_| is_loss(error)) {
            lost::count(lost, count);
        }
        None
    }

    /// Opens the log; none if it is no regular file.
    fn open(&self) -> io::Result<Option<File>> {
        let (mut file, mut meta) = match self.open_once() {
            Err(error) if error.kind() == ErrorKind::NotFound && self.folder == Folder::Made => {
                let folder = self.path.parent().ok_or(ErrorKind::NotFound)?;
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                self.open_once()?
            }
            opened => opened?,
        };
        if !meta.is_file() {
            return Ok(None);
        }
        if self.max_size > 0 && meta.len() >= self.max_size && self.rotate(&file, &meta) {
            (file, meta) = self.open_once()?;
        }
        if meta.len() == 0 && (self.mode.is_some() || self.group.is_some()) {
            self.hand_over(&file, &meta);
        }
        Ok(meta.is_file().then_some(file))
    }

    fn open_once(&self) -> io::Result<(File, Metadata)> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            // O_NONBLOCK: a FIFO without a reader gives ENXIO instead of waiting (fifo(7)).
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(&self.path)?;
        let meta = file.metadata()?;
        Ok((file, meta))
    }

    /// Gives an empty log to those who may read it.
    fn hand_over(&self, file: &File, meta: &Metadata) {
        let gid = self.group.as_ref().and_then(Group::id).filter(|gid| *gid != meta.gid());
        if let Some(gid) = gid {
            let _ = std::os::unix::fs::fchown(file, None, Some(gid));
        }
        if let Some(mode) = self.mode.filter(|mode| meta.mode() & 0o777 != *mode) {
            let _ = file.set_permissions(Permissions::from_mode(mode));
        }
    }

    /// Renames a log that has grown to its size. Says whether it is to be opened again.
    fn rotate(&self, file: &File, meta: &Metadata) -> bool {
        let Ok(file) = file.try_clone() else { return false };
        // Somebody else is at it: this line still goes to the old one.
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return false };
        match std::fs::symlink_metadata(&self.path) {
            // Somebody else has done it.
            Ok(now) if (now.dev(), now.ino()) != (meta.dev(), meta.ino()) => return true,
            Err(error) => return error.kind() == ErrorKind::NotFound,
            Ok(_) => {}
        }
        let generation = |number: u32| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // Who has the lock of the file at the log's name is alone: another file is there only after the last of these.
        for number in (1..self.generations).rev() {
            let _ = std::fs::rename(generation(number), generation(number + 1));
        }
        match self.generations {
            0 => std::fs::remove_file(&self.path).is_ok(),
            _ => std::fs::rename(&self.path, generation(1)).is_ok(),
        }
    }
}

/// One write; what it leaves out is lost, as another one's line may be behind it by now.
pub fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    match file.write(bytes)? {
        length if length == bytes.len() => Ok(()),
        _ => Err(Errno::ENOSPC.into()),
    }
}

/// Whether it is for want of room, or a fault of the disk; a log that is set up wrongly is no loss.
fn is_loss(error: &io::Error) -> bool {
    use Errno::{EDQUOT, EFBIG, EIO, EMFILE, ENFILE, ENOMEM, ENOSPC, EROFS};
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(ENOSPC | EDQUOT | EIO | EFBIG | EMFILE | ENFILE | ENOMEM | EROFS))
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
