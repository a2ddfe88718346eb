//! What is written from now on, also after the log was rotated: by inotify(7) on its folder.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use runb_core::input;

use super::source::Tail;

/// Calls `take` with the lines that are written, for as long as it takes them.
///
/// # Errors
/// Those of `take`; the folder of the log cannot be watched.
pub fn follow(path: &Path, mut take: impl FnMut(&[&[u8]]) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let what = || format!("watch {}", folder.display());
    let watch = Inotify::init(InitFlags::IN_CLOEXEC).with_context(what)?;
    let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
    watch.add_watch(folder, events).with_context(what)?;
    // After the watch: what is written meanwhile is read twice by none.
    let mut current = open(path, Begin::AtEnd)?;
    // Nobody misses anything from here on.
    take(&[])?;
    // A call that had the log open when it was rotated writes its line there.
    let mut before: Option<Tail> = None;
    loop {
        for tail in before.iter_mut().chain(&mut current) {
            pass_on(tail, &mut take)?;
        }
        if is_another(current.as_ref(), path) {
            let next = open(path, Begin::AtStart)?;
            if let Some(tail) = &mut current {
                pass_on(tail, &mut take)?;
            }
            before = std::mem::replace(&mut current, next);
            continue;
        }
        match watch.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).with_context(what),
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    AtStart,
    AtEnd,
}

/// The log, if there is one.
fn open(path: &Path, begin: Begin) -> Result<Option<Tail>> {
    let file = match input::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let mut file: File = file;
    if begin == Begin::AtEnd {
        use std::io::Seek;
        file.seek(std::io::SeekFrom::End(0)).context("seek in the log")?;
    }
    Ok(Some(Tail::new(file)))
}

fn pass_on(tail: &mut Tail, take: &mut impl FnMut(&[&[u8]]) -> Result<()>) -> Result<()> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    tail.lines(|line| {
        lines.push(line.to_vec());
        Ok(())
    })?;
    let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    if lines.is_empty() { Ok(()) } else { take(&lines) }
}

/// Whether another file has the log's name by now.
fn is_another(current: Option<&Tail>, path: &Path) -> bool {
    let Ok(now) = std::fs::symlink_metadata(path) else { return false };
    let own = current.and_then(|tail| tail.file().metadata().ok());
    own.is_none_or(|own| (own.dev(), own.ino()) != (now.dev(), now.ino()))
}
