//! Destinations: made where they are missing, and resolved into what move_mount(2) takes.

use std::path::{Path, PathBuf};

use nix::libc;

use super::{Filesystem, Mounted, Mounts, Planned};
use crate::plan::program::{AT_FDCWD, Arg, Data, Program, Slot};
use crate::plan::rootfs::{F_EMPTY_PATH, T_EMPTY_PATH};
use crate::survey::Kind;

/// openat2(2).
const RESOLVE_NO_MAGICLINKS: u64 = 0x2;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// openat2(2) below the root, which is the working directory here, without magic links: those lead out of every root.
pub(in crate::plan) fn resolve(p: &mut Program, base: Arg, path: Data, flags: i32) -> Slot {
    let how = p.longs(&[(flags | libc::O_CLOEXEC) as u64, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS]);
    p.call(libc::SYS_openat2, &[base, path.into(), how.into(), 24.into()]).out()
}

/// What is at `path` now.
pub(super) fn existing(p: &mut Program, path: &Path) -> Slot {
    let names: Vec<&[u8]> = path.iter().skip(1).map(|name| name.as_encoded_bytes()).collect();
    p.doing("open the destination");
    below(p, AT_FDCWD.into(), &names)
}

impl Mounts<'_> {
    /// Attaches `tree` at the destination.
    pub(super) fn place(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let typ = planned.typ();
        let target = match typ {
            // A link there would lead the kernel's own filesystems elsewhere (CVE-2019-19921).
            "proc" | "sysfs" => self.ordinary_directory(p, &planned.destination),
            _ => self.target(p, &planned.seen.path, planned.kind, planned.seen.there),
        };
        p.doing(format!("attach {}", if typ.is_empty() { "bind" } else { typ }));
        p.call(libc::SYS_move_mount, &[tree.into(), self.empty.into(), target.0, target.1.into(), target.2.into()]);
    }

    fn ordinary_directory(&self, p: &mut Program, destination: &Path) -> (Arg, Data, i32) {
        let path = p.text(destination.as_os_str().as_encoded_bytes());
        p.doing("make the directory");
        p.call(libc::SYS_mkdirat, &[AT_FDCWD.into(), path.into(), 0o755.into()]).tolerate(&[libc::EEXIST, libc::EROFS]);
        p.doing("must be mounted on ordinary directory");
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let slot = p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).out();
        (slot.into(), self.empty, F_EMPTY_PATH | T_EMPTY_PATH)
    }

    /// Makes `path` where it is missing, as `kind`, and returns it as the target of move_mount(2). `there` leading
    /// names are known to exist.
    pub(in crate::plan) fn target(&self, p: &mut Program, path: &Path, kind: Kind, there: usize) -> (Arg, Data, i32) {
        let inside = self.done.above(path);
        let there = match inside {
            Some(Mounted { at, filesystem: Filesystem::Fresh(slot), .. }) => {
                return self.name_in(p, *slot, path.strip_prefix(at).unwrap_or(path), kind);
            }
            Some(Mounted { at, .. }) => at.iter().count() - 1,
            None => there,
        };
        let base = Arg::from(AT_FDCWD);
        let names: Vec<&[u8]> = path.iter().skip(1).map(|name| name.as_encoded_bytes()).collect();
        p.doing("make the destination");
        let mut parent = base;
        for (i, name) in names.iter().enumerate().skip(there) {
            if i > 0 {
                parent = below(p, base, &names[..i]).into();
            }
            let text = p.text(name);
            make_entry(p, parent, text, if i + 1 < names.len() { Kind::Directory } else { kind });
        }
        let slot = below(p, base, &names);
        (slot.into(), self.empty, F_EMPTY_PATH | T_EMPTY_PATH)
    }

    /// Makes the directory `path` where it is missing, and returns it.
    pub(in crate::plan) fn directory(&self, p: &mut Program, path: &Path) -> Arg {
        if path == Path::new("/") {
            return AT_FDCWD.into();
        }
        if let Some(slot) = self.fresh(path) {
            return slot.into();
        }
        let (directory, name, flags) = self.target(p, path, Kind::Directory, 0);
        if flags & T_EMPTY_PATH != 0 {
            return directory;
        }
        resolve(p, directory, name, libc::O_PATH | libc::O_DIRECTORY).into()
    }

    /// A name in a filesystem that is new: no links can be there but those that this program makes.
    fn name_in(&self, p: &mut Program, directory: Slot, path: &Path, kind: Kind) -> (Arg, Data, i32) {
        p.doing("make the destination");
        let mut so_far = PathBuf::new();
        let count = path.iter().count();
        let mut text = self.empty;
        for (i, name) in path.iter().enumerate() {
            so_far.push(name);
            text = p.text(so_far.as_os_str().as_encoded_bytes());
            let kind = if i + 1 < count { Kind::Directory } else { kind };
            make_entry(p, directory.into(), text, kind);
        }
        (directory.into(), text, F_EMPTY_PATH)
    }
}

fn make_entry(p: &mut Program, parent: Arg, name: Data, kind: Kind) {
    match kind {
        Kind::File => p.call(libc::SYS_mknodat, &[parent, name.into(), (libc::S_IFREG | 0o755).into(), 0.into()]),
        _ => p.call(libc::SYS_mkdirat, &[parent, name.into(), 0o755.into()]),
    }
    .tolerate(&[libc::EEXIST, libc::EROFS]);
}

fn below(p: &mut Program, base: Arg, names: &[&[u8]]) -> Slot {
    let path = p.text(names.join(&b'/'));
    resolve(p, base, path, libc::O_PATH)
}
