//! linux.maskedPaths and linux.readonlyPaths. Source: config-linux.md. A path that is not there is passed over; any
//! other failure ends the launch (CVE-2025-31133 was a mask that failed quietly).

use std::path::Path;

use nix::libc;
use oci_spec::runtime::Spec;

use super::mounts::Mounts;
use super::program::{AT_FDCWD, Data, Program, Slot};
use super::rootfs::{AT_RECURSIVE, F_EMPTY_PATH, OPEN_TREE_CLONE, set_attributes};
use crate::survey::{Kind, Survey};

const ABSENT: [i32; 2] = [libc::ENOENT, libc::ENOTDIR];

/// The masks of a container.
pub(super) struct Masks<'a> {
    masked: Vec<(String, &'a str, Kind, Slot)>,
    readonly: &'a [String],
}

impl<'a> Masks<'a> {
    /// Opens a copy of the host's /dev/null for each path that may be a file: the container's own is not to be trusted.
    pub(super) fn open(p: &mut Program, spec: &'a Spec, survey: &Survey) -> Self {
        let linux = spec.linux().as_ref();
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref()).unwrap_or_default();
        let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref()).unwrap_or_default();
        let null = p.text("/dev/null");
        let mut list = Vec::new();
        for (i, path) in masked.iter().enumerate() {
            let place = format!("linux.maskedPaths[{i}] ({path})");
            p.section(place.as_str());
            let kind = survey.masked.get(i).copied().unwrap_or_default();
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
            let slot = p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), null.into(), flags.into()]).out();
            list.push((place, path.as_str(), kind, slot));
        }
        Masks { masked: list, readonly }
    }

    /// Masks, and makes read-only.
    pub(super) fn attach(&self, p: &mut Program, _mounts: &Mounts<'_>) {
        let empty = p.text("");
        self.make_readonly(p, empty);
        if self.masked.is_empty() {
            return;
        }
        p.section("linux.maskedPaths");
        let directory = self.empty_directory(p, empty);
        for (place, path, kind, null) in &self.masked {
            p.section(place.as_str());
            let path = p.text(path);
            let copy = directory_copy(p, directory, empty);
            let (first, second) = if *kind == Kind::Directory { (copy, *null) } else { (*null, copy) };
            // A mount of a file does not go onto a directory, nor the other way round: EINVAL, and the other one fits.
            let tolerated = [ABSENT[0], ABSENT[1], libc::EINVAL];
            let to = |slot: Slot| [slot.into(), empty.into(), AT_FDCWD.into(), path.into(), (F_EMPTY_PATH | T_SYMLINKS).into()];
            p.call(libc::SYS_move_mount, &to(first)).tolerate(&tolerated);
            p.call(libc::SYS_move_mount, &to(second)).after(libc::EINVAL);
        }
    }

    fn make_readonly(&self, p: &mut Program, empty: Data) {
        for (i, path) in self.readonly.iter().enumerate() {
            p.section(format!("linux.readonlyPaths[{i}] ({path})"));
            let path = p.text(Path::new(path).as_os_str().as_encoded_bytes());
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | AT_RECURSIVE;
            let tree = p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), path.into(), flags.into()]).tolerate(&ABSENT).out();
            let attr = p.longs(&[1, 0, 0, 0]);
            let all = libc::AT_EMPTY_PATH | AT_RECURSIVE;
            p.call(libc::SYS_mount_setattr, &[tree.into(), empty.into(), all.into(), attr.into(), 32.into()]).after_success();
            let to = [tree.into(), empty.into(), AT_FDCWD.into(), path.into(), (F_EMPTY_PATH | T_SYMLINKS).into()];
            p.call(libc::SYS_move_mount, &to).after_success();
        }
    }

    /// One empty, read-only tmpfs, which every masked directory shares.
    fn empty_directory(&self, p: &mut Program, empty: Data) -> Slot {
        let tmpfs = p.text("tmpfs");
        let context = p.call(libc::SYS_fsopen, &[tmpfs.into(), 1.into()]).out();
        for (key, value) in [("source", "tmpfs"), ("nr_blocks", "1"), ("nr_inodes", "1")] {
            let (key, value) = (p.text(key), p.text(value));
            p.call(libc::SYS_fsconfig, &[context.into(), 1.into(), key.into(), value.into(), 0.into()]);
        }
        p.call(libc::SYS_fsconfig, &[context.into(), 6.into(), 0.into(), 0.into(), 0.into()]);
        let slot = p.call(libc::SYS_fsmount, &[context.into(), 1.into(), 0.into()]).out();
        set_attributes(p, slot, empty, libc::AT_EMPTY_PATH, [1, 0, 0, 0]);
        slot
    }
}

const T_SYMLINKS: i32 = 0x10;

/// A copy of a detached mount (since kernel commit c5c12f871a30, Linux 6.15).
fn directory_copy(p: &mut Program, directory: Slot, empty: Data) -> Slot {
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    p.call(libc::SYS_open_tree, &[directory.into(), empty.into(), flags.into()]).out()
}
