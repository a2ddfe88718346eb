//! The files of a state's folder, and how each is written: a crash, a signal or a full disk leaves the old one, or the new one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::{Phase, ProcessRef, Saved, VERSION, missing};
use crate::error::{Error, Kind, Result};
use crate::input;
use crate::plan::FIFO;
use crate::spec::MAX_CONFIG;

/// What a create that has succeeded leaves: a [`Saved`].
pub(super) const STATE: &str = "state.json";
/// What is written before the first effect: a line with a [`Saved`], then one for each process that is init. Until the first
/// line is whole nothing was done.
pub(super) const INTENT: &str = "intent.json";
/// The longest state that is read, in bytes. It has some lines for each field of a configuration, and no more.
const MAX_STATE: u64 = 2 * MAX_CONFIG;
/// The configuration as it was at `create`.
pub(super) const CONFIG: &str = "config.json";

/// The configuration that was kept.
pub(crate) fn config(folder: &Path) -> PathBuf {
    folder.join(CONFIG)
}

/// A later line of the intent.
#[derive(Serialize, Deserialize)]
pub(super) struct Born {
    pub(super) init: ProcessRef,
}

/// Where the phase lies in state.json, in bytes from its begin, and how many it takes, with blanks behind it.
pub(super) const PHASE_AT: u64 = r#"{"phase":"#.len() as u64;
const PHASE_WIDTH: usize = r#""starting""#.len();

/// A phase as it stands in state.json, always of one width: to change it is one write in its place, which needs no room on the
/// disk and cannot be seen half done.
pub(super) fn phase_field(phase: Phase) -> String {
    format!("{:<PHASE_WIDTH$}", phase.word())
}

/// The text of state.json, or of the intent's first line.
pub(super) fn text(saved: &Saved) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(saved).map_err(|e| Error::internal(format!("state.json: {e}")))?;
    let (before, after) = (PHASE_AT as usize, PHASE_AT as usize + saved.phase.word().len());
    let mut text = Vec::with_capacity(json.len() + PHASE_WIDTH);
    text.extend_from_slice(&json[..before]);
    text.extend_from_slice(phase_field(saved.phase).as_bytes());
    text.extend_from_slice(&json[after..]);
    text.push(b'\n');
    Ok(text)
}

/// The state in a file, of this version or an earlier one.
fn parse(file: &Path, text: &[u8]) -> Result<Saved> {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        version: u32,
    }
    // Once for all strings, as in a configuration.
    let text = std::str::from_utf8(text).map_err(|e| damaged(file, e))?;
    let saved = serde_json::from_str::<Saved>(text);
    if saved.as_ref().is_ok_and(|saved| saved.version <= VERSION) {
        return saved.map_err(|e| damaged(file, e));
    }
    match serde_json::from_str::<Written>(text) {
        Ok(Written { version }) if version > VERSION => Err(Error::new(
            Kind::State,
            format!("{} is of version {version}, which a newer runb has written; this one knows {VERSION}", file.display()),
        )),
        _ => saved.map_err(|e| damaged(file, e)),
    }
}

fn damaged(file: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::State, format!("{} is damaged: {why}", file.display()))
}

fn io(call: &str, file: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io(format!("{call} {}", file.display()), &e)
}

/// What is known of the container in `folder`, without its lock.
///
/// # Errors
/// There is none (kind not found); a file cannot be read, or is not what was written (kind state).
pub(crate) fn read(folder: &Path) -> Result<Saved> {
    let file = folder.join(STATE);
    match input::read(&file, MAX_STATE) {
        Ok(text) => parse(&file, &text),
        Err(e) if e.kind() == ErrorKind::NotFound => read_intent(folder),
        // What lies beside the containers' folders is none of them.
        Err(e) if e.kind() == ErrorKind::NotADirectory => Err(missing()),
        Err(e) => Err(io("read", &file)(e)),
    }
}

/// What a create was about to do, and who its init is.
///
/// # Errors
/// As [`read`].
pub(super) fn read_intent(folder: &Path) -> Result<Saved> {
    let file = folder.join(INTENT);
    let text = match input::read(&file, MAX_STATE) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(missing()),
        text => text.map_err(io("read", &file))?,
    };
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let Some(first) = lines.next() else { return Err(missing()) };
    let mut saved = parse(&file, first)?;
    for line in lines {
        saved.init = Some(serde_json::from_slice::<Born>(line).map_err(|e| damaged(&file, e))?.init);
    }
    Ok(saved)
}

/// Whether an init waits at the exec fifo: it has it open for reading until it executes.
pub(super) fn fifo_is_awaited(folder: &Path) -> bool {
    fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(folder.join(FIFO)).is_ok()
}

/// Makes a file that is not there yet.
pub(super) fn write_new(path: &Path, text: &[u8]) -> std::io::Result<File> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    Ok(file)
}

/// Writes a file beside `path` and renames it over it.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> Result<()> {
    let (file, beside) = write_beside(path, text)?;
    // Whoever watches the folder sees no write to the file itself.
    drop(file);
    put(&beside, path)
}

/// The same; the file stays open for a change in its place.
pub(super) fn write_whole_open(path: &Path, text: &[u8]) -> Result<File> {
    let (file, beside) = write_beside(path, text)?;
    put(&beside, path).map(|()| file)
}

fn write_beside(path: &Path, text: &[u8]) -> Result<(File, PathBuf)> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut written = write_new(&beside, text);
    if written.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists) {
        // Left by a call that was killed.
        let _ = fs::remove_file(&beside);
        written = write_new(&beside, text);
    }
    match written {
        Ok(file) => Ok((file, beside)),
        Err(e) => {
            let _ = fs::remove_file(&beside);
            Err(io("write", path)(e))
        }
    }
}

fn put(beside: &Path, path: &Path) -> Result<()> {
    fs::rename(beside, path).map_err(|e| {
        let _ = fs::remove_file(beside);
        io("rename to", path)(e)
    })
}
