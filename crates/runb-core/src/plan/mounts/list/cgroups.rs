//! Mounts of the type `cgroup` and `cgroup2`: version 2 as one mount; version 1 as a tmpfs with one mount for each hierarchy.

use std::path::PathBuf;

use nix::libc;

use super::filesystem::{By, Recipe};
use super::{Mounts, Planned, Source, What};
use crate::host::cgroups::CgroupMounts;
use crate::plan::cgroup::{Dir, DirKind};
use crate::plan::mounts::attributes::Change;
use crate::plan::mounts::options::{Attributes, CGROUP, RDONLY, Reach};
use crate::plan::program::{MOVE_MOUNT_F_EMPTY_PATH, Program, Slot};

/// What the container sees of the hierarchies.
pub(super) enum Shown {
    /// New mounts of them: those of version 1 begin at the cgroup namespace's root.
    New,
    /// Copies of what the host has at these paths, with what is mounted below.
    Paths(Vec<PathBuf>, Reach),
}

impl<'a> Mounts<'a> {
    /// Where the container has no cgroup namespace, copies: the cgroup that it is in in each hierarchy of version 1, of version 2
    /// the whole. A new mount of it would give the host's another set of options (nsdelegate: cgroup_reconfigure in the kernel),
    /// and a user namespace forbids it.
    pub(super) fn cgroups(&self) -> Shown {
        match &self.request.host.cgroups {
            _ if self.cgroup_namespace => Shown::New,
            CgroupMounts::V2(unified) => Shown::Paths(vec![unified.mountpoint.clone()], Reach::Below),
            _ => Shown::Paths(self.v1().map(|dir| dir.path.clone()).collect(), Reach::Top),
        }
    }

    /// Makes or opens all, detached.
    pub(super) fn make_cgroups(&mut self, p: &mut Program, planned: &Planned<'_>, shown: &Shown) -> What {
        let attributes = planned.options.attributes().set;
        let v1: Vec<_> = self.v1().collect();
        if v1.is_empty() {
            return match *self.copies(p, planned, shown) {
                [copy, ..] => What::CgroupCopy(copy),
                [] => {
                    let data = &planned.options.data;
                    What::Made(self.create(
                        p,
                        &Recipe { typ: "cgroup2", source: b"cgroup", flags: &[], data, attributes },
                        By::Init,
                    ))
                }
            };
        }
        let data = ["mode=755".to_owned()];
        let recipe =
            Recipe { typ: "tmpfs", source: b"tmpfs", flags: &[], data: &data, attributes: attributes & !RDONLY };
        let tmpfs = self.create(p, &recipe, By::Init);
        let list = match shown {
            Shown::Paths(..) => self.copies(p, planned, shown),
            Shown::New => {
                let controllers = v1.into_iter().filter_map(|dir| match &dir.kind {
                    DirKind::V1 { controllers, .. } => Some(controllers),
                    _ => None,
                });
                let recipe = |data| Recipe { typ: "cgroup", source: b"cgroup", flags: &[], data, attributes };
                controllers.map(|data| self.create(p, &recipe(data), By::Init)).collect()
            }
        };
        What::Hierarchies(tmpfs, list)
    }

    /// What of the host is to be shown, opened, with what can be done to it while it is detached.
    fn copies(&mut self, p: &mut Program, planned: &Planned<'_>, shown: &Shown) -> Vec<Slot> {
        let Shown::Paths(paths, reach) = shown else { return Vec::new() };
        let source = |path: &PathBuf| Source::at(&planned.place, path.clone(), *reach);
        let copies = self.open_sources(p, paths.iter().map(source).collect());
        if self.setter.reaches_detached() {
            copies.iter().for_each(|copy| self.settle_copy(p, planned, *copy));
        }
        copies
    }

    /// Attaches the hierarchies of version 1, with links for those that share one.
    pub(super) fn attach_hierarchies(&self, p: &mut Program, planned: &Planned<'_>, tmpfs: Slot, list: &[Slot]) {
        self.place(p, planned, tmpfs);
        for (dir, hierarchy) in self.v1().zip(list) {
            let DirKind::V1 { controllers, .. } = &dir.kind else { continue };
            let name = dir.mountpoint.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
            let text = p.text(name);
            p.mkdirat(tmpfs, text, 0o755);
            p.move_mount(*hierarchy, self.empty, tmpfs, text, MOVE_MOUNT_F_EMPTY_PATH);
            if !self.cgroup_namespace && !self.setter.reaches_detached() {
                self.settle_copy(p, planned, *hierarchy);
            }
            for controller in
                controllers.iter().filter(|controller| controller.as_bytes() != name && !controller.contains('='))
            {
                p.symlinkat(text, tmpfs, controller);
            }
        }
        let attributes = planned.options.attributes().set;
        if attributes & RDONLY != 0 {
            let had = attributes & !RDONLY;
            let change = Change { attributes: Attributes::setting(RDONLY), had, ..Change::default() };
            self.setter.change(p, tmpfs, Reach::Top, change);
        }
    }

    /// Gives a copy of what the host has its attributes.
    pub(super) fn settle_copy(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let attributes = Attributes::setting(planned.options.attributes().set);
        self.setter.change(
            p,
            tree,
            Reach::Below,
            Change { attributes, had: CGROUP, propagation: libc::MS_SLAVE, ..Change::default() },
        );
    }

    fn v1(&self) -> impl Iterator<Item = &'a Dir> + use<'a> {
        self.cgroup.dirs.iter().chain(&self.cgroup.stays).filter(|dir| matches!(dir.kind, DirKind::V1 { .. }))
    }
}
