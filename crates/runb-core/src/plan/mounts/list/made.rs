//! What was mounted, and where a path leads: below the descriptor of the mount that covers it. In a root filesystem that
//! others share a name is worth something only until they rename it; a mount goes with the directory that it lies on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{Mounts, Planned};
use crate::plan::program::{AT_FDCWD, Data, MountIds, Number, O_DIRECTORY, O_PATH, Program, RESOLVE_IN_ROOT, Slot};
use crate::survey::{Kind, rest};

/// What is at a destination that was mounted.
pub(in crate::plan) struct Mounted {
    /// The place in config.json.
    pub(super) place: String,
    /// As config.json names it.
    pub(super) destination: PathBuf,
    /// Where it is.
    pub(super) at: PathBuf,
    /// Its root.
    pub(in crate::plan) tree: Slot,
    /// What its root is.
    pub(super) kind: Kind,
    pub(super) filesystem: Filesystem,
    /// Its attributes, as far as they are known.
    pub(super) attributes: u64,
}

/// What was mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filesystem {
    /// New and empty: nobody but this program makes names in it.
    Fresh,
    /// A new procfs or sysfs: its names are the kernel's.
    Kernels,
    /// A new devpts.
    Devpts,
    /// A new one.
    New,
    /// One that others use as well.
    Hosts,
}

impl Filesystem {
    /// That of a mount which was made.
    pub(super) fn of(planned: &Planned<'_>) -> Self {
        match planned.typ() {
            "proc" | "sysfs" => Filesystem::Kernels,
            "devpts" => Filesystem::Devpts,
            // What was copied up may have links.
            "tmpfs" if !planned.options.copy_up => Filesystem::Fresh,
            "cgroup" | "cgroup2" => Filesystem::Hosts,
            _ => Filesystem::New,
        }
    }

    /// Whether nobody can rename anything in it.
    fn keeps_names(self) -> bool {
        matches!(self, Filesystem::Fresh | Filesystem::Kernels | Filesystem::Devpts)
    }
}

/// Where the lookup of a path starts.
pub(in crate::plan) struct Start<'m, 'p> {
    /// The mount that covers it; none in the root filesystem itself.
    pub(in crate::plan) mount: Option<&'m Mounted>,
    /// What is left of the path; nothing where it is the mount itself.
    pub(in crate::plan) rest: &'p Path,
}

impl Start<'_, '_> {
    /// The directory: that of the mount, or the root, which is the working directory.
    pub(in crate::plan) fn directory(&self) -> Number {
        self.mount.map_or(AT_FDCWD.into(), |mounted| mounted.tree.into())
    }

    /// The rest of the path.
    pub(in crate::plan) fn name(&self, p: &mut Program) -> Data {
        p.text(self.rest.as_os_str().as_encoded_bytes())
    }

    /// The mount, if the path is the mount itself.
    pub(in crate::plan) fn itself(&self) -> Option<&Mounted> {
        self.mount.filter(|_| self.is_mount())
    }

    /// Whether the path is the mount itself, or the root.
    pub(in crate::plan) fn is_mount(&self) -> bool {
        self.rest.as_os_str().is_empty()
    }

    /// Whether two lookups of the path find the same.
    pub(in crate::plan) fn is_settled(&self) -> bool {
        self.mount.is_some_and(|mounted| mounted.filesystem.keeps_names())
    }
}

impl Mounts<'_> {
    /// Where the lookup of `path`, which is clean, starts.
    pub(in crate::plan) fn start<'p>(&self, path: &'p Path) -> Start<'_, 'p> {
        let mount = self.done.over(path);
        let above = mount.map_or(Path::new("/"), |mounted| &mounted.at);
        Start { mount, rest: rest(path, above).unwrap_or(path) }
    }

    /// The filesystem that was mounted at `path` last, if it is a new devpts.
    pub(in crate::plan) fn devpts(&self, path: &Path) -> Option<Slot> {
        let last = self.done.iter().rev().find(|mounted| mounted.destination.as_os_str() == path)?;
        (last.filesystem == Filesystem::Devpts).then_some(last.tree)
    }

    /// What is mounted below `path` and not covered, with its attributes, as far as they are known.
    pub(in crate::plan) fn below(&self, path: &Path) -> impl Iterator<Item = (&Path, u64)> {
        let below =
            move |mounted: &&Mounted| rest(&mounted.at, path).is_some_and(|rest| !rest.as_os_str().is_empty()) && self.is_seen(mounted);
        self.done.iter().filter(below).map(|mounted| (mounted.at.as_path(), mounted.attributes))
    }

    /// The attributes of what is mounted at `path` or above it, as far as they are known.
    pub(in crate::plan) fn attributes_at(&self, path: &Path) -> u64 {
        self.done.over(path).map_or(self.root, |mounted| mounted.attributes)
    }

    /// Whether no later mount covers it.
    fn is_seen(&self, mounted: &Mounted) -> bool {
        self.done.over(&mounted.at).is_some_and(|last| std::ptr::eq(last, mounted))
    }

    /// Goes on to what hooks have mounted on the directories in which `paths` are looked for.
    pub(in crate::plan) fn follow_hooks<'p>(&mut self, p: &mut Program, paths: impl Iterator<Item = &'p Path>) {
        let places: BTreeSet<PathBuf> =
            paths.filter_map(|path| self.done.over(path)).map(|mounted| mounted.at.clone()).collect();
        for place in places {
            if let Some(mounted) = self.done.at_mut(&place).filter(|mounted| mounted.kind == Kind::Directory) {
                p.section(mounted.place.as_str());
                mounted.tree = top(p, mounted.tree);
            }
        }
    }

    /// Fails unless the name of each mount leads to it: who shares the filesystem that it lies on may have renamed the
    /// directory under it.
    pub(in crate::plan) fn verify(&self, p: &mut Program) {
        let limited = self.user_namespace || self.request.host.standing.has_locks();
        let mut ids: Option<MountIds> = None;
        for mounted in self.done.iter().filter(|mounted| self.is_seen(mounted)) {
            let above = self.done.above(&mounted.at);
            if above.is_some_and(|above| above.filesystem.keeps_names()) {
                continue;
            }
            let start = Start {
                mount: above,
                rest: rest(&mounted.at, above.map_or(Path::new("/"), |above| &above.at)).unwrap_or(&mounted.at),
            };
            p.section(mounted.place.as_str());
            let name = mounted.at.display();
            p.doing(format!(
                "the name {name} no longer leads to this mount: it was renamed while the container was made"
            ));
            match mounted.kind {
                Kind::Directory => {
                    // A directory of somebody else's may not let the root of a user namespace in.
                    let closed = limited && mounted.filesystem == Filesystem::Hosts;
                    same_directory(p, mounted.tree, &start, closed);
                    if closed {
                        let first = p.calls().len();
                        same_mount(p, mounted.tree, &start, &mut ids);
                        p.after_errno_from(first, libc::EACCES);
                    }
                }
                Kind::File | Kind::Unknown => same_mount(p, mounted.tree, &start, &mut ids),
            }
        }
    }
}

/// Fails with EXDEV unless both are on one mount. rename(2) compares the mounts of its two directories first, and refuses to
/// rename "." next (EBUSY): it is the only call that compares mounts and changes nothing.
fn same_directory(p: &mut Program, tree: Slot, start: &Start<'_, '_>, closed: bool) {
    let dot = p.text(".");
    let name = p.text([start.rest.as_os_str().as_encoded_bytes(), b"/."].concat());
    let to = start.directory();
    // EACCES, of one that may be closed: the caller has another way.
    let tolerated: &[i32] = if closed { &[libc::EBUSY, libc::EACCES] } else { &[libc::EBUSY] };
    p.renameat2(tree, dot, to, name).tolerate(tolerated);
}

/// Fails with EAGAIN unless both are on one mount.
fn same_mount(p: &mut Program, tree: Slot, start: &Start<'_, '_>, ids: &mut Option<MountIds>) {
    let ids = *ids.get_or_insert_with(|| p.mount_ids());
    let name = start.name(p);
    p.compare_mounts(&ids, tree, start.directory(), name);
}

/// What was mounted last on the directory `place`, whatever its name is by now: `..` of a root is the root itself, and what
/// is mounted there is entered.
pub(super) fn top(p: &mut Program, place: impl Into<Number>) -> Slot {
    let place = place.into();
    /// Each mount and each rename on the machine may disturb a lookup of `..` (EAGAIN in openat2(2)).
    const TRIES: usize = 4;
    let up = p.text("..");
    let top = p.slot();
    p.doing("open what is mounted there");
    for attempt in 1..=TRIES {
        let call = p.openat2(place, up, O_PATH | O_DIRECTORY, RESOLVE_IN_ROOT);
        let call = if attempt > 1 { call.after(libc::EAGAIN) } else { call };
        let call = if attempt < TRIES { call.tolerate(&[libc::EAGAIN]) } else { call };
        call.into_slot(top);
    }
    top
}
