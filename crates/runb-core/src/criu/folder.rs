//! The folders of images and of CRIU's own files: made, opened, and cleaned of what a dump that fails has left.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::libc;
use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Descriptors;
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::socket::wait_for;

/// The name of the file with what the standard descriptors of the container were.
const DESCRIPTORS: &str = "descriptors.json";
/// More than any list of three descriptors has, in bytes.
const LONGEST: u64 = 64 << 10;
/// How much of the end of a log is looked at, in bytes.
const LOG_END: u64 = 256 << 10;
/// How many errors of a log are told.
const ERRORS: usize = 3;

/// Whether a folder has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It does.
    Expected,
    /// It is made if it is missing, with this mode.
    OrMade(u32),
}

/// The mode of a folder that is for root alone: images have all that was in memory.
pub(crate) const SECRET: u32 = 0o700;
/// The mode of a folder through which the root of a user namespace, who is nobody, finds its way; the images in it are for root alone.
pub(crate) const PASSABLE: u32 = 0o711;

/// A folder that CRIU works in.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    directory: File,
    /// What was there before.
    before: BTreeSet<OsString>,
    /// Whether it was made.
    made: bool,
}

impl Folder {
    /// Opens `path`, which the option `option` names.
    ///
    /// # Errors
    /// It is no folder, or cannot be made or opened.
    pub(crate) fn open(path: &Path, option: &'static str, found: Found) -> Result<Self> {
        let failed = |call: &str, e: &std::io::Error| Error::io(format!("{call} {}", path.display()), e).at(option);
        let mode = if let Found::OrMade(mode) = found { Some(mode) } else { None };
        let mode = mode.filter(|_| !path.exists());
        if let Some(mode) = mode {
            DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| failed("mkdir", &e))?;
        }
        let made = mode.is_some();
        let flags = libc::O_DIRECTORY;
        let directory = File::options().read(true).custom_flags(flags).open(path).map_err(|e| failed("open", &e))?;
        let before = fs::read_dir(path).map_err(|e| failed("read", &e))?.flatten().map(|entry| entry.file_name());
        Ok(Folder { path: path.to_owned(), directory, before: before.collect(), made })
    }

    /// The number of its descriptor: CRIU opens it by this process's.
    pub(crate) fn number(&self) -> i32 {
        self.directory.as_raw_fd()
    }

    /// Sees that `parent`, seen from here, is a folder.
    ///
    /// # Errors
    /// It is absolute, as which it would not survive a move of both; it is no folder.
    pub(crate) fn has_parent(&self, parent: &Path) -> Result<()> {
        const OPTION: &str = "options.parent_path";
        if parent.is_absolute() {
            return Err(Error::new(Kind::Usage, "it must be relative, as seen from the images").at(OPTION));
        }
        let path = self.path.join(parent);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => {
                Err(Error::host(format!("{} is no folder", path.display()), nix::errno::Errno::ENOTDIR).at(OPTION))
            }
            Err(e) => Err(Error::io(format!("stat {}", path.display()), &e).at(OPTION)),
        }
    }

    /// Writes down what the standard descriptors are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write_descriptors(&self, descriptors: &Descriptors) -> Result<()> {
        let path = self.path.join(DESCRIPTORS);
        let failed = |e| Error::io(format!("write {}", path.display()), &e);
        let text = serde_json::to_vec(descriptors).map_err(|e| Error::internal(format!("{DESCRIPTORS}: {e}")))?;
        let flags = libc::O_NOFOLLOW;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(&path);
        file.and_then(|mut file| file.write_all(&text)).map_err(failed)
    }

    /// Reads what they were.
    ///
    /// # Errors
    /// The file is not there, or is not what a checkpoint has written.
    pub(crate) fn read_descriptors(&self) -> Result<Descriptors> {
        let path = self.path.join(DESCRIPTORS);
        let text = input::read(&path, LONGEST).map_err(|e| Error::io(format!("read {}", path.display()), &e))?;
        serde_json::from_slice(&text)
            .map_err(|e| Error::new(Kind::Usage, format!("{} is damaged: {e}", path.display())))
    }

    /// The last errors of the log `name` in it, with its path.
    pub(crate) fn errors_of(&self, name: &str) -> Option<String> {
        let path = self.path.join(name);
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(&path).ok()?;
        let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_END))).ok()?;
        let mut text = Vec::new();
        file.take(LOG_END).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        // "(00.012345)  4711: Error (criu/mount.c:1): mnt: …": from there on.
        let errors: Vec<_> = text.lines().filter_map(|line| line.find("Error (").map(|at| line[at..].trim())).collect();
        let last = &errors[errors.len().saturating_sub(ERRORS)..];
        (!last.is_empty()).then(|| format!("{} ends with: {}", path.display(), last.join(" | ")))
    }

    /// Waits until there is a file `name` in it; false, if there is none at `deadline`.
    ///
    /// # Errors
    /// The folder cannot be watched.
    pub(crate) fn wait_for(&self, name: &str, deadline: Instant) -> Result<bool> {
        let failed = |call: &str, errno| Error::host(format!("{call} {}", self.path.display()), errno);
        let watch =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(|e| failed("inotify_init of", e))?;
        watch.add_watch(&self.path, AddWatchFlags::IN_CREATE).map_err(|e| failed("inotify_add_watch", e))?;
        while !self.path.join(name).exists() {
            let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
            if !wait_for(&mut fds, deadline).map_err(|e| failed("poll", e))? {
                return Ok(false);
            }
            let _ = watch.read_events();
        }
        Ok(true)
    }

    /// Removes what a dump that has failed left beside its log, and the folder, if it was made for that and nothing is in it.
    pub(crate) fn clean(&self) {
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.file_name());
        for name in names.filter(|name| is_image(name) && !self.before.contains(name)) {
            let _ = fs::remove_file(self.path.join(name));
        }
        if self.made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Whether CRIU, or a checkpoint, gives this name to what it saves.
fn is_image(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".img") || ["parent", "stats-dump", "irmap-cache", DESCRIPTORS].contains(&name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("runb-images-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn what_a_failed_dump_leaves_goes_and_the_log_and_what_was_there_stays() {
        let path = folder("clean");
        fs::create_dir(&path).expect("a folder");
        fs::write(path.join("old.img"), "").expect("a file");
        let images = Folder::open(&path, "options.image_path", Found::OrMade(SECRET)).expect("opened");
        for name in ["core-1.img", "stats-dump", DESCRIPTORS, "dump.log", "mine"] {
            fs::write(path.join(name), "").expect("a file");
        }
        images.clean();
        let mut left: Vec<_> =
            fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["dump.log", "mine", "old.img"]);
        fs::remove_dir_all(&path).expect("removed");
        let images = Folder::open(&path, "options.image_path", Found::OrMade(SECRET)).expect("made");
        images.clean();
        assert!(!path.exists());
    }

    #[test]
    fn the_last_errors_of_a_log_are_told() {
        let path = folder("log");
        let images = Folder::open(&path, "options.image_path", Found::OrMade(SECRET)).expect("made");
        assert_eq!(images.errors_of("dump.log"), None);
        let line = |n: u32| format!("(00.1)      {n}: Error (criu/x.c:{n}): what {n}\n(00.2) Warn (criu/y.c:1): no\n");
        fs::write(path.join("dump.log"), (1..=4).map(line).collect::<String>()).expect("a log");
        let told = images.errors_of("dump.log").expect("errors");
        let expected =
            "dump.log ends with: Error (criu/x.c:2): what 2 | Error (criu/x.c:3): what 3 | Error (criu/x.c:4): what 4";
        assert!(told.ends_with(expected), "{told}");
        fs::remove_dir_all(&path).expect("removed");
    }

    #[test]
    fn a_parent_is_a_folder_and_relative() {
        let path = folder("parent");
        let images = Folder::open(&path.join("two"), "options.image_path", Found::OrMade(SECRET)).expect("made");
        fs::create_dir(path.join("one")).expect("a folder");
        assert!(images.has_parent(Path::new("../one")).is_ok());
        assert!(images.has_parent(Path::new("../none")).expect_err("missing").to_string().contains("ENOENT"));
        assert_eq!(images.has_parent(&path.join("one")).expect_err("absolute").kind(), Kind::Usage);
        fs::remove_dir_all(&path).expect("removed");
    }
}
