//! Destinations: made where they are missing, and resolved into what move_mount(2) takes.

use std::path::{Path, PathBuf};

use nix::libc;

use super::{Filesystem, Mounts, Planned, Start};
use crate::plan::program::{
    AT_FDCWD, Added, Data, Hint, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH, MoveFlags, Number, O_DIRECTORY,
    O_NOFOLLOW, O_PATH, OpenFlags, Program, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, Resolve, Slot,
};
use crate::survey::Kind;

/// Where something is mounted, for move_mount(2).
#[derive(Clone, Copy)]
pub(in crate::plan) struct Target {
    pub(in crate::plan) directory: Number,
    pub(in crate::plan) name: Data,
    pub(in crate::plan) flags: MoveFlags,
}

impl Target {
    /// Attaches the detached mount `tree` there.
    pub(in crate::plan) fn attach(self, p: &mut Program, tree: Slot, empty: Data) -> Added<'_> {
        p.move_mount(tree, empty, self.directory, self.name, self.flags)
    }

    /// The object itself, if that is what is mounted on.
    fn itself(self) -> Option<Number> {
        (self.flags == MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH).then_some(self.directory)
    }

    /// The object, opened if it is not.
    pub(super) fn open(self, p: &mut Program, flags: OpenFlags) -> Number {
        self.itself().unwrap_or_else(|| resolve(p, self.directory, self.name, flags).into())
    }
}

/// openat2(2) without magic links: those lead out of every root. From the working directory, which is the root, no path leads
/// out either; below a mount's descriptor links are those of the container, whose root is the process's own.
pub(in crate::plan) fn resolve(p: &mut Program, base: Number, path: Data, flags: OpenFlags) -> Slot {
    let root = if base == AT_FDCWD.into() { RESOLVE_IN_ROOT } else { Resolve::default() };
    p.openat2(base, path, flags, root | RESOLVE_NO_MAGICLINKS).out()
}

/// The very object of a descriptor.
pub(in crate::plan) fn onto(p: &mut Program, object: impl Into<Number>) -> Target {
    Target { directory: object.into(), name: p.text(""), flags: MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH }
}

/// What is there now.
pub(super) fn existing(p: &mut Program, start: &Start<'_, '_>) -> Slot {
    p.doing("open the destination");
    let name = start.name(p);
    resolve(p, start.directory(), name, O_PATH)
}

impl Mounts<'_> {
    /// Attaches `tree` at the destination.
    pub(super) fn place(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let typ = planned.typ();
        let target = match typ {
            // A link there would lead the kernel's own filesystems elsewhere (CVE-2019-19921).
            "proc" | "sysfs" => self.ordinary_directory(p, planned),
            _ => self.target(p, &planned.seen.path, planned.kind, planned.seen.there),
        };
        p.doing(format!("attach {}", if typ.is_empty() { "bind" } else { typ }));
        let attached = target.attach(p, tree, self.empty);
        if planned.kind != Kind::Unknown {
            attached.hint(Hint::Onto { directory: planned.kind == Kind::Directory });
        }
    }

    fn ordinary_directory(&self, p: &mut Program, planned: &Planned<'_>) -> Target {
        let Planned { destination, seen, .. } = planned;
        let start = self.start(destination);
        if start.is_mount() {
            return onto(p, start.directory());
        }
        let (directory, name) = (start.directory(), start.name(p));
        if seen.path != *destination || seen.path.iter().count() > seen.there + 1 {
            p.doing("make the directory");
            p.mkdirat(directory, name, 0o755).tolerate(&[libc::EEXIST, libc::EROFS]);
        }
        p.doing("must be mounted on ordinary directory");
        let slot = p.openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW).out();
        onto(p, slot)
    }

    /// Makes `path` where it is missing, as `kind`, and returns it as the target of move_mount(2). `there` leading
    /// names are known to exist in the root filesystem.
    pub(in crate::plan) fn target(&self, p: &mut Program, path: &Path, kind: Kind, there: usize) -> Target {
        let start = self.start(path);
        let base = start.directory();
        let names: Vec<&[u8]> = start.rest.iter().map(|name| name.as_encoded_bytes()).collect();
        let there = match start.mount.map(|mounted| mounted.filesystem) {
            _ if start.is_mount() => return onto(p, base),
            Some(Filesystem::Fresh) => return self.name_in(p, &start, kind),
            // Nobody makes anything there.
            Some(Filesystem::Kernels) => names.len(),
            Some(_) => 0,
            None => there,
        };
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
        onto(p, slot)
    }

    /// Makes the directory `path` where it is missing, and returns it.
    pub(in crate::plan) fn directory(&self, p: &mut Program, path: &Path) -> Number {
        self.target(p, path, Kind::Directory, 0).open(p, O_PATH | O_DIRECTORY)
    }

    /// A name in a filesystem that is new: no links can be there but those that this program makes.
    fn name_in(&self, p: &mut Program, start: &Start<'_, '_>, kind: Kind) -> Target {
        p.doing("make the destination");
        let directory = start.directory();
        let mut so_far = PathBuf::new();
        let count = start.rest.iter().count();
        let mut text = self.empty;
        for (i, name) in start.rest.iter().enumerate() {
            so_far.push(name);
            text = p.text(so_far.as_os_str().as_encoded_bytes());
            let kind = if i + 1 < count { Kind::Directory } else { kind };
            make_entry(p, directory, text, kind);
        }
        Target { directory, name: text, flags: MOVE_MOUNT_F_EMPTY_PATH }
    }
}

fn make_entry(p: &mut Program, parent: Number, name: Data, kind: Kind) {
    match kind {
        Kind::File => p.mknodat(parent, name, libc::S_IFREG | 0o755, 0),
        _ => p.mkdirat(parent, name, 0o755),
    }
    .tolerate(&[libc::EEXIST, libc::EROFS]);
}

fn below(p: &mut Program, base: Number, names: &[&[u8]]) -> Slot {
    let path = p.text(names.join(&b'/'));
    resolve(p, base, path, O_PATH)
}
