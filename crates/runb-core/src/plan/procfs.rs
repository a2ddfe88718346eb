//! Writing to the host's procfs.

use super::program::{AT_FDCWD, Data, Number, O_DIRECTORY, O_PATH, O_WRONLY, Program, Slot, Text};

/// open, write, close.
pub(super) fn write_file(p: &mut Program, path: impl Text, text: &str) {
    write_below(p, AT_FDCWD.into(), path, text);
}

fn write_below(p: &mut Program, directory: Number, path: impl Text, text: &str) {
    let file = p.openat(directory, path, O_WRONLY).out();
    p.write(file, text);
    p.close(file);
}

/// The host's procfs.
pub(super) enum HostsProc {
    /// It stays in sight.
    InSight,
    /// A descriptor from when it was in sight.
    Held(Slot),
}

impl HostsProc {
    /// To be called while the host's mounts are in sight.
    pub(super) fn hold(p: &mut Program) -> Self {
        p.section("linux.namespaces");
        HostsProc::Held(p.openat(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY).out())
    }

    /// A file below it, as the first two arguments of openat(2).
    pub(super) fn file(&self, p: &mut Program, below: &str) -> (Number, Data) {
        match *self {
            HostsProc::Held(directory) => (directory.into(), p.text(below)),
            HostsProc::InSight => (AT_FDCWD.into(), p.text(format!("/proc/{below}"))),
        }
    }

    /// Writes to a file below it.
    pub(super) fn write(&self, p: &mut Program, below: &str, text: &str) {
        let (directory, path) = self.file(p, below);
        write_below(p, directory, path, text);
    }

    /// No directory of the host is held longer than it is needed.
    pub(super) fn close(self, p: &mut Program) {
        if let HostsProc::Held(directory) = self {
            p.section("linux.namespaces");
            p.close(directory);
        }
    }
}
