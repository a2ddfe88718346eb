//! Records that could not be written, as the disk was full: they are counted in a file of another filesystem (/run), a byte for each, and the
//! next record that gets through tells of them.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most that are counted.
const MOST: u64 = 1 << 20;

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many records.
    pub count: u64,
    /// When the last one was.
    pub last: SystemTime,
}

/// The file that counts for a log.
pub fn file(folder: &Path, log: &Path) -> PathBuf {
    let mut hash = DefaultHasher::new();
    log.hash(&mut hash);
    folder.join(format!("runb-log-lost-{:016x}", hash.finish()))
}

/// Counts records that are lost.
pub fn count(file: &Path, count: u64) {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
    let Ok(mut opened) = opened else { return };
    let so_far = opened.metadata().map_or(MOST, |meta| meta.len());
    let bytes = vec![b'.'; count.min(MOST.saturating_sub(so_far)) as usize];
    let _ = opened.write_all(&bytes).ok();
}

/// Takes what was counted; nothing, mostly, which costs one call, and that a shorter one than a rename of what is not there.
pub fn take(file: &Path) -> Option<Lost> {
    if nix::unistd::access(file, nix::unistd::AccessFlags::F_OK).is_err() {
        return None;
    }
    let mut own = file.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    // Of two that come at the same time one has it.
    std::fs::rename(file, &own).ok()?;
    let meta = std::fs::metadata(&own).ok();
    let _ = std::fs::remove_file(&own);
    let meta = meta.filter(|meta| meta.len() > 0)?;
    Some(Lost { count: meta.len(), last: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path(), Path::new("/var/log/runb.log"));
        assert_eq!(take(&file), None);
        count(&file, 1);
        count(&file, 2);
        assert_eq!(take(&file).map(|lost| lost.count), Some(3));
        assert_eq!(take(&file), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
