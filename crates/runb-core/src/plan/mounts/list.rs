//! config.md "Mounts": sources are opened and filesystems made while the host is in view, and attached in order inside.
//!
//! A destination is resolved once, into a descriptor, without magic links: below the descriptor of what is mounted above it, or
//! else below the container's root; or it is a name in a filesystem that was just made and that nobody else can reach.

mod bind;
mod cgroups;
mod change;
mod entry;
mod filesystem;
mod foreign;
mod hosts;
mod inside;
mod made;
mod target;

use std::path::PathBuf;

use nix::libc;
use oci_spec::runtime::Mount;
use runb_init::Point;

use super::attributes::{Change, Setter};
use super::options::{Attributes, Parsed, RDONLY, Reach, of_statfs};
use crate::error::{Error, Result};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::lsm;
use crate::plan::namespaces::id_maps::IdMaps;
use crate::plan::namespaces::Namespaces;
use crate::plan::program::{Data, Program, Slot};
use crate::plan::request::Request;
use crate::survey::{Covers, Destination, Kind, Reader, Survey};

use cgroups::Shown as Cgroups;
use hosts::Opener;
pub use hosts::Source;
pub(in crate::plan) use made::Start;
use made::{Filesystem, Mounted};
pub(in crate::plan) use target::{Target, onto, resolve};

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
    /// The descriptor is a filesystem context, of which the filesystem is created: on a block device that the container's own rules
    /// for devices may forbid.
    Disk,
    /// There is no descriptor yet: what the host has is opened, and handed to init.
    Open(Vec<Source>),
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
    /// What a path of the host names; not opened yet.
    Source(PathBuf),
    /// A detached copy of a host's tree.
    Tree(Slot),
    /// A new filesystem.
    New,
    /// A new filesystem that was created, and is no mount yet.
    Created(Slot),
    /// What this path of the container names when its turn comes.
    Inside(PathBuf),
    /// A new filesystem that is made of what the container has when its turn comes.
    NewInside,
    /// A new filesystem that was made, and is detached.
    Made(Slot),
    /// Nothing: what is there is changed.
    Change,
    /// The cgroup hierarchies.
    Cgroups(Cgroups),
    /// A detached copy of the host's cgroup filesystem, version 2.
    CgroupCopy(Slot),
    /// The hierarchies of version 1: a tmpfs, and what is mounted below it; all detached.
    Hierarchies(Slot, Vec<Slot>),
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
    /// The source of a filesystem.
    source: PathBuf,
    /// Whether that is a block device which the runtime is to open.
    disk: bool,
    seen: Destination,
    options: Parsed,
    what: What,
    kind: Kind,
    /// Who can look at what is bound.
    reader: Reader,
    /// Whether what is bound is the host's, in the place of what was asked for.
    stands_in: bool,
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
pub(in crate::plan) struct Mounts<'a> {
    planned: Vec<Planned<'a>>,
    request: Request<'a>,
    opener: Opener,
    cgroup: &'a CgroupPlan,
    cgroup_namespace: bool,
    mount_namespace: bool,
    pid_namespace: bool,
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
    pub(in crate::plan) steps: Vec<MountStep>,
    /// What was found odd and is no error.
    pub(in crate::plan) warnings: Vec<String>,
}

impl<'a> Mounts<'a> {
    /// Checks the list.
    pub(in crate::plan) fn open(
        p: &mut Program,
        request: &Request<'a>,
        cgroup: &'a CgroupPlan,
        namespaces: &Namespaces,
        setter: Setter,
    ) -> Result<Self> {
        p.section("");
        let mut mounts = Mounts {
            planned: Vec::new(),
            request: *request,
            opener: Opener::of(namespaces, &request.host.standing),
            cgroup,
            cgroup_namespace: namespaces.has(libc::CLONE_NEWCGROUP as u64),
            mount_namespace: namespaces.has(libc::CLONE_NEWNS as u64),
            pid_namespace: namespaces.has(libc::CLONE_NEWPID as u64),
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
            let mut planned = mounts.entry(i, mount)?;
            if planned.options.copy_up && mounts.user_namespace {
                mounts.prepare_copy(p, &mut planned)?;
            }
            mounts.planned.push(planned);
        }
        Ok(mounts)
    }

    /// New procfs show this pid namespace, which init enters last.
    pub(in crate::plan) fn show(&mut self, pid_namespace: Option<Slot>, survey: &Survey) {
        self.shown = match pid_namespace {
            None => Shown::Own,
            Some(slot) if survey.procfs_of_another => Shown::Option(slot),
            Some(slot) => Shown::Stop(slot),
        };
    }

    /// Makes what is new, in the order of the list, while the host is in view: what a filesystem's source and options name is the
    /// host's, and a user namespace may make procfs and sysfs only while whole ones are in sight (mount_too_revealing in
    /// fs/namespace.c, asked by fsmount(2)). What is bound is opened when its turn comes: the kernel numbers mounts as they are made,
    /// and mountinfo shows them so (since Linux 6.8). All is detached.
    pub(in crate::plan) fn make(&mut self, p: &mut Program) -> Result<()> {
        let mut all = std::mem::take(&mut self.planned);
        for i in 0..all.len() {
            if matches!(all[i].what, What::Source(_)) {
                self.open_binds(p, &mut all[i..]);
            }
            let planned = &mut all[i];
            p.section(planned.place.as_str());
            planned.what = match std::mem::replace(&mut planned.what, What::Change) {
                What::New => What::Made(self.filesystem(p, planned)?),
                What::Created(context) => What::Made(self.mount_created(p, planned, context)),
                What::Cgroups(shown) => self.make_cgroups(p, planned, &shown),
                what => what,
            };
        }
        self.planned = all;
        Ok(())
    }

    /// Attaches all, in the order of the list.
    pub(in crate::plan) fn attach(&mut self, p: &mut Program) -> Result<()> {
        for mut planned in std::mem::take(&mut self.planned) {
            p.section(planned.place.as_str());
            self.open_inside(p, &mut planned)?;
            let made = match planned.what {
                What::Tree(slot) | What::CgroupCopy(slot) => Made::Detached(slot, Filesystem::Hosts),
                What::Made(slot) => Made::Detached(slot, Filesystem::of(&planned)),
                What::Change => Made::Attached(self.change(p, &planned)?, Filesystem::Hosts),
                What::Hierarchies(tmpfs, ref list) => {
                    self.attach_hierarchies(p, &planned, tmpfs, list);
                    Made::Attached(tmpfs, Filesystem::Hosts)
                }
                What::Source(_)
                | What::New
                | What::Created(_)
                | What::Cgroups(_)
                | What::Inside(_)
                | What::NewInside => {
                    return Err(Error::internal(format!("{} was not made", planned.place)));
                }
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
            (MountWork::MapIds(..) | MountWork::Procfs | MountWork::Disk | MountWork::Open(_), _) => None,
        };
        if let Some(mount) = inside {
            p.fchdir(mount);
        }
        self.steps.push(MountStep { place: planned.place.clone(), work });
        p.stop_with(Point::Mount, tree);
        if inside.is_some() {
            filesystem::leave(p);
        }
    }

    /// What comes when all is mounted.
    pub(in crate::plan) fn finish(&self, p: &mut Program) {
        for (place, tree, had) in &self.readonly_later {
            p.section(place.as_str());
            let change = Change { attributes: Attributes::setting(RDONLY), had: *had, ..Change::default() };
            self.setter.change(p, *tree, Reach::Top, change);
        }
    }
}
