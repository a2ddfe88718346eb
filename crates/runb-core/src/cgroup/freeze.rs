//! Freezing and thawing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};

use super::Cgroup;
use super::files::{open_dir, read_path, value_of, wait_for_event, write_file, write_path};
use crate::error::{Error, Kind, Result};

/// What a cgroup's processes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezerState {
    /// They run.
    Thawed,
    /// They are asked to stop, and some run still.
    Freezing,
    /// They stand still.
    Frozen,
}

impl Cgroup {
    /// Stops every process, and waits until all stand still. If that does not happen by `deadline`, they run again.
    ///
    /// Errors: no freezer on this machine; ETIMEDOUT.
    pub fn freeze(&self, deadline: Instant) -> Result<()> {
        let (path, frozen) = match (self.v1("freezer"), &self.unified) {
            (Some(path), _) => (path, freeze_v1(path, deadline)),
            (None, Some(path)) => (path.as_path(), freeze_v2(path, deadline)),
            (None, None) => return Err(no_freezer()),
        };
        let text = format!("freeze {}", path.display());
        match frozen {
            Ok(true) => Ok(()),
            Ok(false) => {
                let error = Error::host(text, Errno::ETIMEDOUT);
                Err(match self.thaw() {
                    Ok(()) => error,
                    Err(cleanup) => error.and_cleanup(cleanup),
                })
            }
            Err(errno) => Err(Error::host(text, errno)),
        }
    }

    /// Runs `work` while nobody in the cgroup does; one that was frozen before stays so.
    ///
    /// Errors: as [`Cgroup::freeze`]; those of `work`.
    pub fn while_frozen(&self, deadline: Instant, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.freezer_state()? != FreezerState::Thawed {
            return work();
        }
        self.freeze(deadline)?;
        match (work(), self.thaw()) {
            (Ok(()), thawed) => thawed,
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(more)) => Err(error.and_cleanup(more)),
        }
    }

    /// Lets the processes run again; one that runs is left as it is.
    pub fn thaw(&self) -> Result<()> {
        let (path, file, value) = match (self.v1("freezer"), &self.unified) {
            (Some(path), _) => (path, "freezer.state", "THAWED"),
            (None, Some(path)) => (path.as_path(), "cgroup.freeze", "0"),
            (None, None) => return Err(no_freezer()),
        };
        write_path(path, file, value).map_err(|errno| Error::host(format!("thaw {}", path.display()), errno))
    }

    /// As [`Cgroup::thaw`], and waits until the processes run.
    ///
    /// Errors: a cgroup above is frozen, and holds them.
    pub fn thaw_and_wait(&self, deadline: Instant) -> Result<()> {
        self.thaw()?;
        let (path, frozen) = match (self.v1("freezer"), &self.unified) {
            (Some(path), _) => (path, held_above_v1(path)),
            (None, Some(path)) => (path.as_path(), held_above_v2(path, deadline)),
            (None, None) => return Err(no_freezer()),
        };
        match frozen.map_err(|errno| Error::host(format!("thaw {}", path.display()), errno))? {
            None => Ok(()),
            Some(above) => {
                let text = format!("the cgroup {} is frozen, and with it all below", above.display());
                Err(Error::new(Kind::State, text))
            }
        }
    }

    /// Whether the processes stand still; a cgroup that is gone does not.
    pub fn freezer_state(&self) -> Result<FreezerState> {
        let state = match (self.v1("freezer"), &self.unified) {
            (Some(path), _) => read_path(path, "freezer.state").map(|text| match text.trim() {
                "FROZEN" => FreezerState::Frozen,
                "FREEZING" => FreezerState::Freezing,
                _ => FreezerState::Thawed,
            }),
            (None, Some(path)) => state_v2(path),
            (None, None) => return Ok(FreezerState::Thawed),
        };
        match state {
            Err(Errno::ENOENT) => Ok(FreezerState::Thawed),
            state => state.map_err(|errno| Error::host("read the freezer's state", errno)),
        }
    }
}

fn no_freezer() -> Error {
    Error::new(Kind::Host, "the container has no cgroup with a freezer")
}

fn state_v2(path: &Path) -> std::result::Result<FreezerState, Errno> {
    let asked = read_path(path, "cgroup.freeze")?.trim() == "1";
    // A parent that is frozen freezes this one too, without its cgroup.freeze saying so.
    match value_of(&read_path(path, "cgroup.events")?, "frozen") {
        Some(1) => Ok(FreezerState::Frozen),
        _ if asked => Ok(FreezerState::Freezing),
        _ => Ok(FreezerState::Thawed),
    }
}

/// The cgroup above `path` that keeps it frozen, if there is one. Version 1 thaws at once.
fn held_above_v1(path: &Path) -> std::result::Result<Option<PathBuf>, Errno> {
    match read_path(path, "freezer.state")?.trim() {
        "THAWED" => Ok(None),
        _ => Ok(path.ancestors().skip(1).find(|above| reads(above, "freezer.self_freezing", "1")).map(Path::to_owned)),
    }
}

/// The same for version 2, which thaws as soon as the processes are woken: that is waited for.
fn held_above_v2(path: &Path, deadline: Instant) -> std::result::Result<Option<PathBuf>, Errno> {
    let above = path.ancestors().skip(1).find(|above| reads(above, "cgroup.freeze", "1"));
    if above.is_some() {
        return Ok(above.map(Path::to_owned));
    }
    match wait_for_event(&open_dir(path)?, deadline, |events| value_of(events, "frozen") != Some(1))? {
        true => Ok(None),
        false => Err(Errno::ETIMEDOUT),
    }
}

fn reads(path: &Path, file: &str, value: &str) -> bool {
    read_path(path, file).is_ok_and(|text| text.trim() == value)
}

fn freeze_v2(path: &Path, deadline: Instant) -> std::result::Result<bool, Errno> {
    let dir = open_dir(path)?;
    write_file(&dir, "cgroup.freeze", "1")?;
    wait_for_event(&dir, deadline, |events| value_of(events, "frozen") == Some(1))
}

/// The freezer of version 1 has no event. Reading its state brings it up to date, and writing FROZEN once more reaches
/// processes that were made meanwhile (freezer-subsystem.rst), so both are repeated, ever more rarely.
fn freeze_v1(path: &Path, deadline: Instant) -> std::result::Result<bool, Errno> {
    let mut pause = Duration::ZERO;
    loop {
        write_path(path, "freezer.state", "FROZEN")?;
        if read_path(path, "freezer.state")?.trim() == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        let _ = poll(&mut [], PollTimeout::try_from(pause.as_millis()).unwrap_or(PollTimeout::ZERO));
        pause = (pause * 2).clamp(Duration::from_millis(1), Duration::from_millis(20));
    }
}
