//! Mounts of the type `cgroup` and `cgroup2`.

use std::path::Path;

use nix::libc;

use super::filesystem::Recipe;
use super::{Filesystem, Made, Mounts, Planned};
use crate::host::Host;
use crate::host::cgroups::CgroupMounts;
use crate::plan::cgroup::{Dir, DirKind};
use crate::plan::mounts::attributes::Change;
use crate::plan::mounts::options::{Attributes, CGROUP, RDONLY, Reach};
use crate::plan::program::{
    AT_FDCWD, AT_RECURSIVE, MOVE_MOUNT_F_EMPTY_PATH, OPEN_TREE_CLONE, Program, Slot, TreeFlags,
};

impl<'a> Mounts<'a> {
    /// The cgroup hierarchies: version 2 as one mount; version 1 as a tmpfs with one mount for each hierarchy.
    pub(super) fn cgroups(&self, p: &mut Program, planned: &Planned<'_>, own: &[Slot]) -> Made {
        let attributes = planned.options.attributes().set;
        let v1: Vec<_> = self.v1().collect();
        if v1.is_empty() {
            let tree = match own.first() {
                Some(slot) => {
                    if self.setter.reaches_detached() {
                        self.settle_copy(p, planned, *slot);
                    }
                    *slot
                }
                None => {
                    let data = &planned.options.data;
                    self.make(p, &Recipe { typ: "cgroup2", source: b"cgroup", flags: &[], data, attributes }, None)
                }
            };
            return Made::Detached(tree, Filesystem::Hosts);
        }
        let data = ["mode=755".to_owned()];
        let recipe =
            Recipe { typ: "tmpfs", source: b"tmpfs", flags: &[], data: &data, attributes: attributes & !RDONLY };
        let tmpfs = self.make(p, &recipe, None);
        self.place(p, planned, tmpfs);
        for (i, dir) in v1.into_iter().enumerate() {
            let DirKind::V1 { controllers, .. } = &dir.kind else { continue };
            let name = dir.mountpoint.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
            let text = p.text(name);
            let hierarchy = match own.get(i) {
                Some(slot) => *slot,
                None => self.make(
                    p,
                    &Recipe { typ: "cgroup", source: b"cgroup", flags: &[], data: controllers, attributes },
                    None,
                ),
            };
            p.mkdirat(tmpfs, text, 0o755);
            p.move_mount(hierarchy, self.empty, tmpfs, text, MOVE_MOUNT_F_EMPTY_PATH);
            if own.get(i).is_some() {
                self.settle_copy(p, planned, hierarchy);
            }
            for controller in
                controllers.iter().filter(|controller| controller.as_bytes() != name && !controller.contains('='))
            {
                p.symlinkat(text, tmpfs, controller);
            }
        }
        if attributes & RDONLY != 0 {
            let had = attributes & !RDONLY;
            let change = Change { attributes: Attributes::setting(RDONLY), had, propagation: 0 };
            self.setter.change(p, tmpfs, Reach::Top, change);
        }
        Made::Attached(tmpfs, Filesystem::Hosts)
    }

    /// Gives a copy of what the host has its attributes.
    pub(super) fn settle_copy(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let attributes = Attributes::setting(planned.options.attributes().set);
        self.setter.change(p, tree, Reach::Below, Change { attributes, had: CGROUP, propagation: libc::MS_SLAVE });
    }

    fn v1(&self) -> impl Iterator<Item = &'a Dir> + use<'a> {
        self.cgroup.dirs.iter().filter(|dir| matches!(dir.kind, DirKind::V1 { .. }))
    }

    /// Copies of what the host has, where the container has no cgroup namespace: the own cgroup in each hierarchy of version
    /// 1; of version 2 the whole, and that only where a user namespace forbids to mount it (cgroup_get_tree in the kernel).
    pub(super) fn open_cgroups(&self, p: &mut Program, place: &str, host: &Host) -> Vec<Slot> {
        if self.cgroup_namespace {
            return Vec::new();
        }
        p.section(place);
        let mut open = |path: &Path, reach: TreeFlags| p.open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | reach).out();
        match &host.cgroups {
            CgroupMounts::V2(_) if !self.user_namespace => Vec::new(),
            CgroupMounts::V2(unified) => vec![open(&unified.mountpoint, AT_RECURSIVE)],
            _ => self.v1().map(|dir| open(&dir.path, TreeFlags::default())).collect(),
        }
    }
}
