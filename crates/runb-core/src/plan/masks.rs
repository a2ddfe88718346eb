//! linux.maskedPaths and linux.readonlyPaths. Source: config-linux.md. A path that is not there is passed over; any
//! other failure ends the launch (CVE-2025-31133 was a mask that failed quietly).

use std::path::Path;

use nix::libc;

use super::attributes::{Change, Setter};
use super::mount_options::{Attributes, RDONLY, Reach};
use super::mounts::{Mounts, resolve};
use super::program::{AT_FDCWD, Added, Data, Program, Slot};
use super::rootfs::{AT_RECURSIVE, F_EMPTY_PATH, OPEN_TREE_CLONE, T_EMPTY_PATH};
use super::{Request, lsm};
use crate::error::Result;
use crate::host::Host;
use crate::host::mounts::MountCalls;
use crate::survey::{Kind, clean};

const ABSENT: [i32; 2] = [libc::ENOENT, libc::ENOTDIR];

/// What a masked path is covered with first. The guess is the survey's; where it is wrong the other one follows.
enum Cover {
    /// A copy of the host's /dev/null, opened before the root is changed.
    File(Slot),
    /// A copy of the one empty directory.
    Directory,
    /// Nobody saw the path: most likely it is not there. Nothing is opened for it, as a detached mount that is not used
    /// costs a grace period when it is closed.
    Unseen,
}

struct Mask<'a> {
    place: String,
    path: &'a str,
    cover: Cover,
}

/// The masks of a container.
pub(super) struct Masks<'a> {
    masked: Vec<Mask<'a>>,
    readonly: &'a [String],
    /// linux.mountLabel, for the filesystems that cover directories.
    label: Option<&'a str>,
    setter: Setter,
}

impl<'a> Masks<'a> {
    /// Opens the host's /dev/null for what is a file. `null` is whether the container's own is this program's work; where
    /// it is the image's, it is not to be trusted, and each mask gets the host's (CVE-2025-31133).
    pub(super) fn open(p: &mut Program, request: &Request<'a>, null: Null, setter: Setter) -> Result<Self> {
        let linux = request.spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
        let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
        let hosts = p.text("/dev/null");
        let mut list = Vec::new();
        for (i, path) in masked.iter().enumerate() {
            let place = format!("linux.maskedPaths[{i}] ({path})");
            p.section(place.as_str());
            let seen = request.survey.masked.get(i).copied().unwrap_or_default();
            let cover = match (seen, null) {
                (Kind::Directory, Null::Made) if clones_detached(request.host) => Cover::Directory,
                (Kind::Directory | Kind::Unknown, Null::Made) => Cover::Unseen,
                _ => {
                    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
                    Cover::File(p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), hosts.into(), flags.into()]).out())
                }
            };
            list.push(Mask { place, path, cover });
        }
        Ok(Masks { masked: list, readonly, label: lsm::mount_label(request.spec, request.survey.lsm)?, setter })
    }

    /// Masks, and makes read-only.
    pub(super) fn attach(&self, p: &mut Program, mounts: &Mounts<'_>) {
        let empty = p.text("");
        self.make_readonly(p, empty, mounts);
        let mut directories = self.masked.iter().filter(|mask| matches!(mask.cover, Cover::Directory)).count();
        p.section("linux.maskedPaths");
        let directory = (directories > 0).then(|| self.empty_directory(p));
        for mask in &self.masked {
            p.section(mask.place.as_str());
            let path = p.text(mask.path);
            let tolerated = [ABSENT[0], ABSENT[1], libc::EINVAL];
            let to = |slot: Slot| {
                [slot.into(), empty.into(), AT_FDCWD.into(), path.into(), (F_EMPTY_PATH | T_SYMLINKS).into()]
            };
            match (&mask.cover, directory) {
                // A file's mount does not go onto a directory, nor the other way round: EINVAL, and the other one fits.
                (Cover::File(null), _) => {
                    p.call(libc::SYS_move_mount, &to(*null)).tolerate(&tolerated);
                    self.cover_directory(p, path, libc::EINVAL);
                }
                (Cover::Directory, Some(directory)) => {
                    directories -= 1;
                    // The last one gets the directory itself, so that nothing is left over.
                    let copy = if directories == 0 { directory } else { directory_copy(p, directory, empty) };
                    p.call(libc::SYS_move_mount, &to(copy)).tolerate(&tolerated);
                    bind_null(p, path).after(libc::EINVAL);
                }
                (Cover::Directory, None) | (Cover::Unseen, _) => {
                    bind_null(p, path).tolerate(&ABSENT);
                    self.cover_directory(p, path, libc::ENOTDIR);
                }
            }
        }
    }

    fn make_readonly(&self, p: &mut Program, empty: Data, mounts: &Mounts<'_>) {
        for (i, path) in self.readonly.iter().enumerate() {
            p.section(format!("linux.readonlyPaths[{i}] ({path})"));
            let had = mounts.attributes_at(&clean(Path::new(path)));
            let text = path;
            let path = p.text(text);
            // Resolved once: what is copied is what it is put on.
            let flags = libc::O_PATH | libc::O_CLOEXEC;
            let place = p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).tolerate(&ABSENT).out();
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | AT_RECURSIVE | libc::AT_EMPTY_PATH;
            let tree = p.slot();
            p.call(libc::SYS_open_tree, &[place.into(), empty.into(), flags.into()]).after_success().into_slot(tree);
            let change = Change { attributes: Attributes::setting(RDONLY), had, propagation: 0 };
            let detached = self.setter.reaches_detached();
            if detached {
                self.setter.change_after_success(p, tree, Reach::Below, change);
            }
            let to = [tree.into(), empty.into(), place.into(), empty.into(), (F_EMPTY_PATH | T_EMPTY_PATH).into()];
            p.call(libc::SYS_move_mount, &to).after_success();
            if !detached {
                self.setter.change_after_success(p, tree, Reach::Below, change);
                self.make_readonly_below(p, &clean(Path::new(text)), mounts);
            }
        }
    }

    /// mount(2) reaches no mount below: those that this configuration has made there are changed one by one. What came with
    /// a recursive bind mount stays as it is, as with runc.
    fn make_readonly_below(&self, p: &mut Program, path: &Path, mounts: &Mounts<'_>) {
        for (place, had) in mounts.below(path) {
            let name = p.text(place.as_os_str().as_encoded_bytes());
            let tree = resolve(p, AT_FDCWD.into(), name, libc::O_PATH);
            let change = Change { attributes: Attributes::setting(RDONLY), had, propagation: 0 };
            self.setter.change_after_success(p, tree, Reach::Top, change);
        }
    }

    /// An empty tmpfs of its own; a component on the way that is no directory means that the path is not there.
    fn cover_directory(&self, p: &mut Program, path: Data, after: i32) {
        let label = lsm::context("tmpfs", self.label, &[]).map(|option| format!(",{}", lsm::in_data(&option)));
        let options = format!("nr_blocks=1,nr_inodes=1{}", label.unwrap_or_default());
        let (tmpfs, options) = (p.text("tmpfs"), p.text(options));
        p.call(libc::SYS_mount, &[tmpfs.into(), path.into(), tmpfs.into(), libc::MS_RDONLY.into(), options.into()])
            .tolerate(&[libc::ENOTDIR])
            .after(after);
    }

    /// One empty, read-only tmpfs, which every masked directory shares.
    fn empty_directory(&self, p: &mut Program) -> Slot {
        let tmpfs = p.text("tmpfs");
        let context = p.call(libc::SYS_fsopen, &[tmpfs.into(), 1.into()]).out();
        for (key, value) in [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1")] {
            let (key, value) = (p.text(key), p.text(value));
            p.call(libc::SYS_fsconfig, &[context.into(), 1.into(), key.into(), value.into(), 0.into()]);
        }
        if let Some(label) = self.label {
            let (key, value) = (p.text("context"), p.text(label));
            p.call(libc::SYS_fsconfig, &[context.into(), 1.into(), key.into(), value.into(), 0.into()]);
        }
        p.call(libc::SYS_fsconfig, &[context.into(), 6.into(), 0.into(), 0.into(), 0.into()]);
        p.call(libc::SYS_fsmount, &[context.into(), 1.into(), RDONLY.into()]).out()
    }
}

const T_SYMLINKS: i32 = 0x10;

/// Whose /dev/null the container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Null {
    /// This program makes it.
    Made,
    /// It came with a /dev that the configuration binds, or that the image has.
    Brought,
}

/// Whether open_tree(2) copies a detached mount.
fn clones_detached(host: &Host) -> bool {
    host.mounts >= MountCalls::CopyDetached
}

fn bind_null(p: &mut Program, path: Data) -> Added<'_> {
    let null = p.text("/dev/null");
    p.call(libc::SYS_mount, &[null.into(), path.into(), 0.into(), libc::MS_BIND.into(), 0.into()])
}

/// A copy of the empty directory.
fn directory_copy(p: &mut Program, directory: Slot, empty: Data) -> Slot {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    p.call(libc::SYS_open_tree, &[directory.into(), empty.into(), flags.into()]).out()
}
