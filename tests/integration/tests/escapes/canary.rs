//! What must not change on the host.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use runb_tests::*;

/// A directory of the host, and the runtime's program.
pub struct Canary {
    dir: PathBuf,
    program: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    pub fn new(t: &Test) -> Self {
        let dir = t.dir().join("canary");
        fs::create_dir_all(dir.join("dir")).expect("make directories");
        fs::write(dir.join("file"), "canary\n").expect("write");
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o640)).expect("chmod");
        fs::write(dir.join("dir/ptmx"), "canary\n").expect("write");
        assert!(Command::new("mkfifo").arg(dir.join("fifo")).status().expect("mkfifo").success());
        let program = t.runtime().path().to_owned();
        let before = state(&dir, &program);
        Canary { dir, program, before }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.join("file")
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.join("dir")
    }

    /// `path` as a link from the root of any filesystem, however deep it lies.
    pub fn upwards(path: &Path) -> String {
        format!("../../../../../../../../..{}", path.display())
    }

    /// Nothing has changed; `what` was tried.
    #[track_caller]
    pub fn is_unharmed(&self, what: &str) {
        assert_eq!(state(&self.dir, &self.program), self.before, "{what}");
    }
}

fn state(dir: &Path, program: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut add = |path: &Path| {
        let meta = path.symlink_metadata().expect("stat");
        let kind = meta.file_type();
        let content = if kind.is_file() && meta.len() < 100 { fs::read(path).expect("read") } else { Vec::new() };
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        let text = format!(
            "{:o} {} {}:{} {times:?} {content:?} {}",
            meta.mode(),
            meta.ino(),
            meta.uid(),
            meta.gid(),
            kind.is_fifo()
        );
        all.insert(path.to_owned(), text);
    };
    for path in [dir, &dir.join("file"), &dir.join("fifo"), &dir.join("dir"), program] {
        add(path);
    }
    for entry in fs::read_dir(dir.join("dir")).expect("list").chain(fs::read_dir(dir).expect("list")) {
        add(&entry.expect("an entry").path());
    }
    all
}

/// The attack either failed or ended well; not by a signal, nor by a fault of the runtime itself.
#[track_caller]
pub fn refused_or_harmless(outcome: &Outcome) {
    assert!(outcome.code == 0 || outcome.code == 1, "{outcome:?}");
    assert!(!outcome.log.contains("internal error"), "{outcome:?}");
}

/// Nothing is mounted on any of `places` or below.
pub fn without_mounts<'t>(bundle: Bundle<'t>, places: &[&str]) -> Bundle<'t> {
    let below = |mount: &Value| {
        let place = mount["destination"].as_str().unwrap_or_default();
        places.iter().any(|other| Path::new(place).starts_with(other))
    };
    bundle.spec(|spec| spec["mounts"].as_array_mut().expect("mounts").retain(|mount| !below(mount)))
}
