//! config.md "Mounts": sources opened on the host, filesystems made inside, each attached at its destination.
//!
//! A destination is resolved once, into a descriptor, without magic links: below the descriptor of what is mounted above it, or
//! else below the container's root; or it is a name in a filesystem that was just made and that nobody else can reach.

mod cgroups;
mod change;
mod entry;
mod filesystem;
mod made;
mod target;

use std::path::PathBuf;

use nix::libc;
use oci_spec::runtime::Mount;
use runb_init::Point;

use super::attributes::{Change, Setter};
use super::cgroup::CgroupPlan;
use super::mount_options::{Attributes, NOSYMFOLLOW, Parsed, RDONLY, Reach, of_statfs};
use super::namespaces::Namespaces;
use super::program::{Data, Program, Slot};
use super::{IdMaps, Request, lsm};
use crate::error::Result;
use crate::survey::{Covers, Destination, Kind, Survey};

pub(super) use made::Start;
use made::{Filesystem, Mounted};
pub(super) use target::{Target, onto, resolve};

/// What the runtime does to a detached mount while init stands at [`Point::Mount`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountStep {
    /// The place in config.json.
    pub place: String,
    /// What is done.
    pub work: MountWork,
}

/// See [`MountStep`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountWork {
    /// The ids are mapped by these maps, or by those of the container's user namespace.
    MapIds(Option<IdMaps>, Reach),
    /// What the container has at a path is copied into it.
    CopyUp {
        /// The path in the container.
        path: PathBuf,
        /// The same from init's working directory, which is the mount that covers it.
        rest: PathBuf,
    },
    /// The descriptor is no mount but a pid namespace: a filesystem context of procfs is begun by a process that is in it, and
    /// handed to init.
    Procfs,
}

/// How a procfs is made for a pid namespace that init is not in.
#[derive(Clone, Copy)]
enum Shown {
    /// It is init's own.
    Own,
    /// By the option `pidns`, whose value is this descriptor.
    Option(Slot),
    /// At a stop, see [`MountWork::Procfs`].
    Stop(Slot),
}

/// What is to be mounted.
enum What {
    /// A detached copy of a host's tree.
    Tree(Slot),
    /// A new filesystem.
    New,
    /// A new filesystem that was made in advance.
    Prepared(Slot),
    /// Nothing: what is there is changed.
    Change,
    /// The cgroup hierarchies; without a cgroup namespace, version 1 shows the container's own cgroup in each.
    Cgroups(Vec<Slot>),
}

/// How an entry's mount comes to its destination.
enum Made {
    /// As a detached mount, still to be attached.
    Detached(Slot, Filesystem),
    /// It is there already.
    Attached(Slot, Filesystem),
}

struct Planned<'a> {
    place: String,
    mount: &'a Mount,
    destination: PathBuf,
    seen: Destination,
    options: Parsed,
    what: What,
    kind: Kind,
    work: Vec<MountWork>,
    /// The attributes of what is bound.
    had: u64,
}

impl Planned<'_> {
    fn typ(&self) -> &str {
        self.mount.typ().as_deref().unwrap_or_default()
    }

    /// Its attributes in the end.
    fn attributes(&self) -> u64 {
        match self.what {
            What::Tree(_) => self.options.attributes().on(self.had),
            _ => self.options.attributes().set,
        }
    }
}

/// The mounts of a container.
pub(super) struct Mounts<'a> {
    planned: Vec<Planned<'a>>,
    cgroup: &'a CgroupPlan,
    cgroup_namespace: bool,
    user_namespace: bool,
    done: Covers<Mounted>,
    /// Made read-only when all is mounted: what is mounted below them needs their directories.
    readonly_later: Vec<(String, Slot, u64)>,
    empty: Data,
    setter: Setter,
    /// The attributes of the root filesystem.
    root: u64,
    label: Option<&'a str>,
    shown: Shown,
    /// What the runtime does at each [`Point::Mount`], in order.
    pub(super) steps: Vec<MountStep>,
    /// What was found odd and is no error.
    pub(super) warnings: Vec<String>,
}

impl<'a> Mounts<'a> {
    /// Checks the list, and opens what is bound while the host's paths are at hand.
    pub(super) fn open(
        p: &mut Program,
        request: &Request<'a>,
        cgroup: &'a CgroupPlan,
        namespaces: &Namespaces,
        setter: Setter,
    ) -> Result<Self> {
        p.section("");
        let mut mounts = Mounts {
            planned: Vec::new(),
            cgroup,
            cgroup_namespace: namespaces.has(libc::CLONE_NEWCGROUP as u64),
            user_namespace: namespaces.has(libc::CLONE_NEWUSER as u64),
            done: Covers::default(),
            readonly_later: Vec::new(),
            empty: p.text(""),
            setter,
            root: of_statfs(request.survey.mount_flags.root),
            label: lsm::mount_label(request.spec, request.survey.lsm)?,
            shown: Shown::Own,
            steps: Vec::new(),
            warnings: Vec::new(),
        };
        for (i, mount) in request.spec.mounts().iter().flatten().enumerate() {
            let mut planned = mounts.entry(p, request, i, mount)?;
            if planned.options.copy_up && mounts.user_namespace {
                mounts.prepare_copy(p, request, &mut planned)?;
            }
            mounts.planned.push(planned);
        }
        Ok(mounts)
    }

    /// New procfs show this pid namespace, which init enters last.
    pub(super) fn show(&mut self, pid_namespace: Option<Slot>, survey: &Survey) {
        self.shown = match pid_namespace {
            None => Shown::Own,
            Some(slot) if survey.procfs_of_another => Shown::Option(slot),
            Some(slot) => Shown::Stop(slot),
        };
    }

    /// Makes what a user namespace may make only while the host's own is in sight: procfs and sysfs (mount_too_revealing in
    /// fs/namespace.c, asked by fsmount(2)).
    pub(super) fn prepare(&mut self, p: &mut Program) -> Result<()> {
        if !self.user_namespace {
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.planned);
        for planned in &mut all {
            if matches!(planned.what, What::New) && ["proc", "sysfs"].contains(&planned.typ()) {
                p.section(planned.place.as_str());
                if let Made::Detached(slot, _) = self.filesystem(p, planned)? {
                    planned.what = What::Prepared(slot);
                }
            }
        }
        self.planned = all;
        Ok(())
    }

    /// Attaches all, in the order of the list.
    pub(super) fn attach(&mut self, p: &mut Program) -> Result<()> {
        for mut planned in std::mem::take(&mut self.planned) {
            p.section(planned.place.as_str());
            let made = match planned.what {
                What::Tree(slot) => Made::Detached(slot, Filesystem::Hosts),
                What::New => self.filesystem(p, &planned)?,
                What::Prepared(slot) => Made::Detached(slot, Filesystem::of(planned.typ())),
                What::Change => Made::Attached(self.change(p, &planned)?, Filesystem::Hosts),
                What::Cgroups(ref own) => self.cgroups(p, &planned, own),
            };
            for work in std::mem::take(&mut planned.work) {
                let (Made::Detached(tree, _) | Made::Attached(tree, _)) = made;
                self.stop(p, &planned, work, tree);
            }
            let (tree, filesystem) = match made {
                Made::Detached(tree, filesystem) => {
                    self.place(p, &planned, tree);
                    self.versions(p, &planned, tree);
                    self.settle_attached(p, &planned, tree);
                    self.label_root(p, &planned, tree);
                    (tree, filesystem)
                }
                Made::Attached(tree, filesystem) => (tree, filesystem),
            };
            for flags in &planned.options.propagation {
                let reach = if flags & libc::MS_REC != 0 { Reach::Below } else { Reach::Top };
                let change = Change { propagation: flags & !libc::MS_REC, ..Change::default() };
                self.setter.change(p, tree, reach, change);
            }
            if !matches!(planned.what, What::Change) {
                let attributes = planned.attributes();
                let Planned { place, destination, seen: Destination { path: at, .. }, kind, .. } = planned;
                let path = at.clone();
                self.done.push(&path, Mounted { place, destination, at, tree, kind, filesystem, attributes });
            }
        }
        Ok(())
    }

    /// Stops for what the runtime is to do to the mount `tree`.
    fn stop(&mut self, p: &mut Program, planned: &Planned<'_>, mut work: MountWork, tree: Slot) {
        let start = self.start(&planned.seen.path);
        let inside = match (&mut work, start.mount) {
            (MountWork::CopyUp { rest, .. }, Some(mounted)) => {
                *rest = start.rest.to_owned();
                Some(mounted.tree)
            }
            (MountWork::CopyUp { path, rest }, None) => {
                *rest = path.strip_prefix("/").unwrap_or(path).to_owned();
                None
            }
            (MountWork::MapIds(..) | MountWork::Procfs, _) => None,
        };
        if let Some(mount) = inside {
            p.call(libc::SYS_fchdir, &[mount.into()]);
        }
        self.steps.push(MountStep { place: planned.place.clone(), work });
        p.stop_with(Point::Mount, tree);
        if inside.is_some() {
            filesystem::leave(p);
        }
    }

    /// What comes when all is mounted.
    pub(super) fn finish(&self, p: &mut Program) {
        for (place, tree, had) in &self.readonly_later {
            p.section(place.as_str());
            let change = Change { attributes: Attributes::setting(RDONLY), had: *had, propagation: 0 };
            self.setter.change(p, *tree, Reach::Top, change);
        }
    }
}

impl Mounts<'_> {
    /// Gives the copy of a host's tree its attributes; it is a peer of what the host has, and must not stay it. As few calls as
    /// do: propagation with either of the attributes, where it reaches as far.
    fn settle(&self, p: &mut Program, tree: Slot, options: &Parsed, had: u64) {
        let mut set = |reach: Reach, attributes: Attributes, propagation: u64| {
            self.setter.change(p, tree, reach, Change { attributes, had, propagation });
        };
        match (options.recursive_bind, options.recursive.is_empty()) {
            (false, _) => set(Reach::Top, options.attributes(), libc::MS_SLAVE),
            (true, false) => {
                if !options.own.is_empty() {
                    set(Reach::Top, options.own, 0);
                }
                set(Reach::Below, options.recursive, libc::MS_SLAVE);
            }
            (true, true) => {
                set(Reach::Below, Attributes::default(), libc::MS_SLAVE);
                if !options.own.is_empty() {
                    set(Reach::Top, options.own, 0);
                }
            }
        }
    }

    /// What could not be done to a detached mount.
    fn settle_attached(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        if self.setter.reaches_detached() {
            return;
        }
        match planned.what {
            What::Tree(_) => self.settle(p, tree, &planned.options, planned.had),
            What::New | What::Prepared(_) if planned.attributes() & NOSYMFOLLOW != 0 => {
                // fsmount(2) has taken the others. What is made read-only later is not yet.
                let had = planned.attributes() & !filesystem::later(planned);
                let change = Change { attributes: Attributes::setting(NOSYMFOLLOW), had, propagation: 0 };
                self.setter.change(p, tree, Reach::Top, change);
            }
            What::Cgroups(ref own) if !own.is_empty() => self.settle_copy(p, planned, tree),
            _ => {}
        }
    }
}
