//! linux.maskedPaths and linux.readonlyPaths. Source: config-linux.md. A path that is not there is passed over; any
//! other failure ends the launch (CVE-2025-31133 was a mask that failed quietly).
//!
//! Each path is looked for below the descriptor of the mount that covers it: who renames the directory that procfs lies on
//! takes the masks along.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::libc;

use super::attributes::{Change, Setter};
use super::list::{Mounts, Start, Target, onto, resolve};
use super::options::{Attributes, RDONLY, Reach};
use crate::error::Result;
use crate::host::mounts::MountCalls;
use crate::plan::lsm;
use crate::plan::program::{
    AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, Added, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS, O_PATH,
    OPEN_TREE_CLONE, Program, Slot,
};
use crate::plan::request::Request;
use crate::survey::{Kind, clean, rest};

const ABSENT: [i32; 2] = [libc::ENOENT, libc::ENOTDIR];
/// A directory as well: a file's mount does not go onto it.
const ABSENT_OR_DIRECTORY: [i32; 3] = [libc::ENOENT, libc::ENOTDIR, libc::EINVAL];

/// What a masked path is covered with, by what the survey saw there.
enum Cover {
    /// A copy of the host's /dev/null, opened before the root is changed.
    File(Slot),
    /// The one empty directory.
    Directory,
    /// Nobody saw the path: most likely it is not there. Nothing is opened for it, as a detached mount that is not used
    /// costs a grace period when it is closed.
    Unseen,
}

struct Mask {
    place: String,
    path: PathBuf,
    cover: Cover,
}

/// The masks of a container.
pub(in crate::plan) struct Masks<'a> {
    masked: Vec<Mask>,
    /// With their places.
    readonly: Vec<(String, PathBuf)>,
    setter: Setter,
    copies: Copies,
    /// linux.mountLabel, for the filesystems that cover directories.
    label: Option<&'a str>,
}

/// Which mounts open_tree(2) copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// Only what is attached.
    Attached,
    All,
}

/// The paths of a list, each once, with its place and its index: what is covered twice is covered once, as with runc.
fn each_once(name: &str, list: Option<&[String]>) -> Vec<(usize, String, PathBuf)> {
    let mut known = BTreeSet::new();
    let all = list.unwrap_or_default().iter().enumerate();
    all.map(|(i, path)| (i, format!("linux.{name}[{i}] ({path})"), clean(Path::new(path))))
        // By their bytes: they are clean, and paths are compared name by name.
        .filter(|(.., path)| known.insert(path.as_os_str().to_owned()))
        .collect()
}

impl<'a> Masks<'a> {
    /// Opens the host's /dev/null for what is a file. `null` is whether the container's own is this program's work; where
    /// it is the image's, it is not to be trusted, and each mask gets the host's (CVE-2025-31133).
    pub(in crate::plan) fn open(p: &mut Program, request: &Request<'a>, null: Null, setter: Setter) -> Result<Self> {
        let linux = request.spec.linux().as_ref();
        let masked = each_once("maskedPaths", linux.and_then(|linux| linux.masked_paths().as_deref()));
        let readonly = each_once("readonlyPaths", linux.and_then(|linux| linux.readonly_paths().as_deref()));
        let hosts = p.text("/dev/null");
        let mut list = Vec::new();
        for (i, place, path) in masked {
            p.section(place.as_str());
            let seen = request.survey.masked.get(i).copied().unwrap_or_default();
            let cover = match (seen, null) {
                (Kind::Directory, _) => Cover::Directory,
                (Kind::Unknown, Null::Made) => Cover::Unseen,
                _ => Cover::File(p.open_tree(AT_FDCWD, hosts, OPEN_TREE_CLONE).out()),
            };
            list.push(Mask { place, path, cover });
        }
        let copies = if request.host.mounts >= MountCalls::CopyDetached { Copies::All } else { Copies::Attached };
        Ok(Masks {
            masked: list,
            readonly: readonly.into_iter().map(|(_, place, path)| (place, path)).collect(),
            setter,
            copies,
            label: lsm::mount_label(request.spec, request.survey.lsm)?,
        })
    }

    /// All paths.
    pub(in crate::plan) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.masked
            .iter()
            .map(|mask| &mask.path)
            .chain(self.readonly.iter().map(|(_, path)| path))
            .map(PathBuf::as_path)
    }

    /// Masks, and makes read-only.
    pub(in crate::plan) fn attach(&self, p: &mut Program, mounts: &Mounts<'_>) {
        self.make_readonly(p, mounts);
        let left = self.masked.iter().filter(|mask| matches!(mask.cover, Cover::Directory)).count();
        let mut shared = Shared { tree: None, left };
        for mask in &self.masked {
            let start = mounts.start(&mask.path);
            p.section(mask.place.as_str());
            match &mask.cover {
                Cover::File(null) => self.cover_file(p, &start, *null),
                Cover::Directory => self.cover_directory(p, &start, &mut shared),
                Cover::Unseen => self.cover_unseen(p, &start, mounts),
            }
        }
    }

    fn cover_file(&self, p: &mut Program, start: &Start<'_, '_>, null: Slot) {
        put(p, null, start).tolerate(&ABSENT_OR_DIRECTORY);
        let place = match start.itself() {
            Some(mounted) => mounted.tree,
            None => open(p, start).after(libc::EINVAL).out(),
        };
        self.cover_with_tmpfs(p, place);
    }

    /// Masked directories share one filesystem, as with runc. Where a mount that is not attached can be copied, each gets a copy,
    /// and the last one the mount itself, so that nothing is left over.
    fn cover_directory(&self, p: &mut Program, start: &Start<'_, '_>, shared: &mut Shared) {
        shared.left -= 1;
        let first = shared.tree.is_none();
        let tree = *shared.tree.get_or_insert_with(|| self.empty_directory(p));
        match self.copies {
            Copies::All if shared.left > 0 => {
                let copy = p.slot();
                copy_of(p, tree).into_slot(copy);
                put(p, copy, start).tolerate(&ABSENT);
            }
            Copies::Attached if !first => self.cover_with_copy(p, start, tree),
            _ => {
                put(p, tree, start).tolerate(&ABSENT);
            }
        }
    }

    /// A copy of `tree` if that is attached, which it is not where the first directory is not there; then a tmpfs of its own.
    fn cover_with_copy(&self, p: &mut Program, start: &Start<'_, '_>, tree: Slot) {
        let (place, when) = place(p, start);
        let copy = when(copy_of(p, tree)).tolerate(&[libc::EINVAL]).out();
        let to = onto(p, place);
        move_mount(p, copy, to).after_success();
        self.cover_with_tmpfs(p, place);
    }

    /// The null of this program's own /dev, or a tmpfs where there is a directory.
    fn cover_unseen(&self, p: &mut Program, start: &Start<'_, '_>, mounts: &Mounts<'_>) {
        let (place, when) = place(p, start);
        let dev = mounts.start(Path::new("/dev/null"));
        let name = dev.name(p);
        let null = when(p.open_tree(dev.directory(), name, OPEN_TREE_CLONE)).out();
        let to = onto(p, place);
        when(move_mount(p, null, to)).tolerate(&[libc::EINVAL]);
        self.cover_with_tmpfs(p, place);
    }

    /// After EINVAL: a tmpfs of its own on the directory `place`.
    fn cover_with_tmpfs(&self, p: &mut Program, place: Slot) {
        let label = lsm::context("tmpfs", self.label, &[]).map(|option| format!(",{}", lsm::in_data(&option)));
        let options = format!("nr_blocks=1,nr_inodes=1{}", label.unwrap_or_default());
        let (tmpfs, dot, options) = (p.text("tmpfs"), p.text("."), p.text(options));
        p.fchdir(place).after(libc::EINVAL);
        p.mount(tmpfs, dot, tmpfs, libc::MS_RDONLY, options).after(libc::EINVAL);
        p.chdir("/").after(libc::EINVAL);
    }

    fn make_readonly(&self, p: &mut Program, mounts: &Mounts<'_>) {
        for (place, path) in &self.readonly {
            p.section(place.as_str());
            let start = mounts.start(path);
            let had = mounts.attributes_at(path);
            let change = Change { attributes: Attributes::setting(RDONLY), had, ..Change::default() };
            match start.itself() {
                Some(mounted) => {
                    self.setter.change(p, mounted.tree, Reach::Below, change);
                    self.make_readonly_below(p, path, mounted.tree, mounts);
                }
                None if start.is_mount() => self.setter.change_root(p, change),
                None => self.make_readonly_part(p, path, &start, change, mounts),
            }
        }
    }

    /// A part of a filesystem is mounted onto itself.
    fn make_readonly_part(
        &self,
        p: &mut Program,
        path: &Path,
        start: &Start<'_, '_>,
        change: Change,
        mounts: &Mounts<'_>,
    ) {
        let tree = p.slot();
        let flags = OPEN_TREE_CLONE | AT_RECURSIVE;
        let to = if start.is_settled() {
            let (directory, name) = (start.directory(), start.name(p));
            p.open_tree(directory, name, flags).tolerate(&ABSENT).into_slot(tree);
            target(p, start)
        } else {
            // Resolved once: what is copied is what it is put on.
            let place = open(p, start).tolerate(&ABSENT).out();
            p.open_tree(place, "", flags | AT_EMPTY_PATH).after_success().into_slot(tree);
            onto(p, place)
        };
        let detached = self.setter.reaches_detached();
        if detached {
            self.setter.change_after_success(p, tree, Reach::Below, change);
        }
        move_mount(p, tree, to).after_success();
        if !detached {
            let first = p.calls().len();
            self.setter.change(p, tree, Reach::Below, change);
            self.make_readonly_below(p, path, tree, mounts);
            p.after_success_from(first);
        }
    }

    /// mount(2) reaches no mount below: those that this configuration has made below `path`, which `tree` is, are changed one
    /// by one. What came with a recursive bind mount stays as it is, as with runc.
    fn make_readonly_below(&self, p: &mut Program, path: &Path, tree: Slot, mounts: &Mounts<'_>) {
        if self.setter.reaches_detached() {
            return;
        }
        for (place, had) in mounts.below(path) {
            let name = rest(place, path).unwrap_or(place);
            let name = p.text(name.as_os_str().as_encoded_bytes());
            let below = resolve(p, tree.into(), name, O_PATH);
            let change = Change { attributes: Attributes::setting(RDONLY), had, ..Change::default() };
            self.setter.change(p, below, Reach::Top, change);
        }
    }

    /// An empty, read-only tmpfs.
    fn empty_directory(&self, p: &mut Program) -> Slot {
        let context = p.fsopen("tmpfs").out();
        for (key, value) in [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1")] {
            p.fsconfig_set_string(context, key, value);
        }
        if let Some(label) = self.label {
            p.fsconfig_set_string(context, "context", label);
        }
        p.fsconfig_cmd_create(context);
        p.fsmount(context, RDONLY).out()
    }
}

/// The filesystem of masked directories.
struct Shared {
    tree: Option<Slot>,
    /// How many directories are still to get it.
    left: usize,
}

/// Whose /dev/null the container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Null {
    /// This program makes it.
    Made,
    /// It came with a /dev that the configuration binds, or that the image has, or with a mount onto it.
    Brought,
}

/// What a path names, through links, as the target of move_mount(2).
fn target(p: &mut Program, start: &Start<'_, '_>) -> Target {
    match start.is_mount() {
        true => onto(p, start.directory()),
        false => Target {
            directory: start.directory(),
            name: start.name(p),
            flags: MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS,
        },
    }
}

/// Opens what a path names, through links.
fn open<'p>(p: &'p mut Program, start: &Start<'_, '_>) -> Added<'p> {
    let name = if start.is_mount() { p.text(".") } else { start.name(p) };
    p.openat(start.directory(), name, O_PATH)
}

/// The object itself, and the condition of what is done to it: that it is there, where that is not known.
fn place(p: &mut Program, start: &Start<'_, '_>) -> (Slot, fn(Added<'_>) -> Added<'_>) {
    match start.itself() {
        Some(mounted) => (mounted.tree, |call| call),
        None => (open(p, start).tolerate(&ABSENT).out(), |call| call.after_success()),
    }
}

fn move_mount(p: &mut Program, tree: Slot, to: Target) -> Added<'_> {
    let empty = p.text("");
    to.attach(p, tree, empty)
}

/// Attaches `tree` at what a path names.
fn put<'p>(p: &'p mut Program, tree: Slot, start: &Start<'_, '_>) -> Added<'p> {
    let to = target(p, start);
    move_mount(p, tree, to)
}

/// A copy of a mount.
fn copy_of(p: &mut Program, tree: Slot) -> Added<'_> {
    p.open_tree(tree, "", OPEN_TREE_CLONE | AT_EMPTY_PATH)
}
