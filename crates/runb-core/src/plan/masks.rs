//! linux.maskedPaths and linux.readonlyPaths. Source: config-linux.md. A path that is not there is passed over; any
//! other failure ends the launch (CVE-2025-31133 was a mask that failed quietly).

use nix::libc;

use super::Request;
use super::program::{AT_FDCWD, Added, Arg, Data, Program, Slot};
use super::rootfs::{AT_RECURSIVE, F_EMPTY_PATH, OPEN_TREE_CLONE, T_EMPTY_PATH};
use crate::survey::Kind;

const ABSENT: [i32; 2] = [libc::ENOENT, libc::ENOTDIR];
const T_SYMLINKS: i32 = 0x10;

/// The masks of a container.
pub(super) struct Masks<'a> {
    masked: Vec<(String, &'a str, Kind, Slot)>,
    readonly: &'a [String],
    /// Whether a detached mount can be copied.
    copies: Copies,
}

/// What open_tree(2) takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// Copies of detached mounts (since kernel commit c5c12f871a30, Linux 6.15): one empty directory serves all masks.
    OfDetached,
    /// Only of what is attached: each mask of a directory is a filesystem of its own.
    OfAttached,
}

impl<'a> Masks<'a> {
    /// Opens a copy of the host's /dev/null for each path that may be a file: the container's own is not to be trusted.
    pub(super) fn open(p: &mut Program, request: &Request<'a>) -> Self {
        let linux = request.spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
        let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
        let null = p.text("/dev/null");
        let mut list = Vec::new();
        for (i, path) in masked.iter().enumerate() {
            let place = format!("linux.maskedPaths[{i}] ({path})");
            p.section(place.as_str());
            let kind = request.survey.masked.get(i).copied().unwrap_or_default();
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
            let slot = p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), null.into(), flags.into()]).out();
            list.push((place, path.as_str(), kind, slot));
        }
        let copies = if request.host.kernel < (6, 15) { Copies::OfAttached } else { Copies::OfDetached };
        Masks { masked: list, readonly, copies }
    }

    /// Masks, and makes read-only.
    pub(super) fn attach(&self, p: &mut Program) {
        let empty = p.text("");
        self.make_readonly(p, empty);
        if self.masked.is_empty() {
            return;
        }
        p.section("linux.maskedPaths");
        let shared = (self.copies == Copies::OfDetached).then(|| empty_directory(p, When::Always));
        for (place, path, kind, null) in &self.masked {
            p.section(place.as_str());
            let path = p.text(path);
            let mask = Mask { path, empty };
            if *kind == Kind::Directory {
                let directory = directory(p, shared, empty, When::Always);
                mask.attach(p, directory).tolerate(&UNFIT);
                mask.attach(p, *null).after(libc::EINVAL);
            } else {
                mask.attach(p, *null).tolerate(&UNFIT);
                let directory = directory(p, shared, empty, When::Unfit);
                mask.attach(p, directory).after(libc::EINVAL);
            }
        }
    }

    fn make_readonly(&self, p: &mut Program, empty: Data) {
        for (i, path) in self.readonly.iter().enumerate() {
            p.section(format!("linux.readonlyPaths[{i}] ({path})"));
            let path = p.text(path);
            // Resolved once: what is copied is what it is put on.
            let flags = libc::O_PATH | libc::O_CLOEXEC;
            let place = p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).tolerate(&ABSENT).out();
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | AT_RECURSIVE | libc::AT_EMPTY_PATH;
            let tree = p.slot();
            p.call(libc::SYS_open_tree, &[place.into(), empty.into(), flags.into()]).after_success().into_slot(tree);
            let attr = p.longs(&[1, 0, 0, 0]);
            let all = libc::AT_EMPTY_PATH | AT_RECURSIVE;
            p.call(libc::SYS_mount_setattr, &[tree.into(), empty.into(), all.into(), attr.into(), 32.into()]).after_success();
            let to = [tree.into(), empty.into(), place.into(), empty.into(), (F_EMPTY_PATH | T_EMPTY_PATH).into()];
            p.call(libc::SYS_move_mount, &to).after_success();
        }
    }
}

/// A mount of a file does not go onto a directory, nor the other way round: EINVAL, and the other one fits.
const UNFIT: [i32; 3] = [ABSENT[0], ABSENT[1], libc::EINVAL];

struct Mask {
    path: Data,
    empty: Data,
}

impl Mask {
    fn attach<'p>(&self, p: &'p mut Program, mask: Slot) -> Added<'p> {
        let args: [Arg; 5] =
            [mask.into(), self.empty.into(), AT_FDCWD.into(), self.path.into(), (F_EMPTY_PATH | T_SYMLINKS).into()];
        p.call(libc::SYS_move_mount, &args)
    }
}

/// Whether calls are made in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Only if the mask that was tried did not fit.
    Unfit,
}

impl When {
    fn on(self, added: Added<'_>) -> Added<'_> {
        if self == When::Unfit { added.after(libc::EINVAL) } else { added }
    }
}

/// An empty directory to mask with.
fn directory(p: &mut Program, shared: Option<Slot>, empty: Data, when: When) -> Slot {
    let Some(shared) = shared else { return empty_directory(p, when) };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    when.on(p.call(libc::SYS_open_tree, &[shared.into(), empty.into(), flags.into()])).out()
}

/// An empty, read-only tmpfs.
fn empty_directory(p: &mut Program, when: When) -> Slot {
    let tmpfs = p.text("tmpfs");
    let context = when.on(p.call(libc::SYS_fsopen, &[tmpfs.into(), 1.into()])).out();
    for (key, value) in [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1")] {
        let (key, value) = (p.text(key), p.text(value));
        when.on(p.call(libc::SYS_fsconfig, &[context.into(), 1.into(), key.into(), value.into(), 0.into()]));
    }
    when.on(p.call(libc::SYS_fsconfig, &[context.into(), 6.into(), 0.into(), 0.into(), 0.into()]));
    const RDONLY: i32 = 1;
    when.on(p.call(libc::SYS_fsmount, &[context.into(), 1.into(), RDONLY.into()])).out()
}
