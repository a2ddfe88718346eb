//! config.md "Mounts": sources opened on the host, filesystems made inside, each attached at its destination.
//!
//! A destination is resolved once, into a descriptor, below the container's root and without magic links; or it is a name in
//! a filesystem that was just made and that nobody else can reach.

mod cgroups;
mod change;
mod filesystem;
mod target;

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::Mount;
use runb_init::Point;

use super::attributes::{Change, Setter};
use super::cgroup::CgroupPlan;
use super::mount_options::{
    Attributes, NOSYMFOLLOW, Parsed, RDONLY, Reach, of_statfs, parse, recursive_word, symfollow_word,
};
use super::namespaces::Namespaces;
use super::program::{AT_FDCWD, Data, Program, Slot};
use super::rootfs::{AT_RECURSIVE, OPEN_TREE_CLONE};
use super::{IdMaps, Request, id_map, lsm};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::host::Host;
use crate::host::mounts::MountCalls;
use crate::survey::{Covers, Destination, Kind, Survey, clean, is_bind};

pub(super) use target::resolve;

/// Files below /proc that may be mounted over, as lxcfs does; everything else there is the kernel's word to the runtime.
const PROC_EXCEPTIONS: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

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
    /// What the container has at this path is copied into it.
    CopyUp(PathBuf),
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

/// What is at a destination that was mounted.
struct Mounted {
    /// As config.json names it.
    destination: PathBuf,
    /// Where it is.
    at: PathBuf,
    filesystem: Filesystem,
    /// Its attributes, as far as they are known.
    attributes: u64,
}

/// What was mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filesystem {
    /// The root of a filesystem that is new and empty: names in it are safe.
    Fresh(Slot),
    /// A new devpts.
    Devpts(Slot),
    /// A new one.
    New,
    /// One that others use as well.
    Hosts,
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

    fn entry(&mut self, p: &mut Program, request: &Request<'a>, i: usize, mount: &'a Mount) -> Result<Planned<'a>> {
        let destination = clean(mount.destination());
        let place = format!("mounts[{i}] ({})", destination.display());
        let field = |name: &str| format!("mounts[{i}].{name} ({})", destination.display());
        check_destination(&destination, mount).map_err(|text| Error::spec(field("destination"), text))?;
        let options = parse(mount.options().as_deref().unwrap_or_default());
        let wrong = |text: String| Err(Error::spec(field("options"), text));
        let typ = mount.typ().as_deref().unwrap_or("none");
        let bound = is_bind(mount);
        if let Some(text) = self.beyond_the_kernel(request.host, mount, &options) {
            return Err(Error::spec(field("options"), text).with_kind(ErrorKind::Host));
        }
        if let Some(data) = options.data.first().filter(|_| bound) {
            return wrong(format!("{data:?}: a bind mount takes no data"));
        }
        if bound && !options.superblock.is_empty() {
            let names = options.superblock.join(", ");
            self.warnings.push(format!("{place}: {names}: a bind mount shares its filesystem, which is left as it is"));
        }
        let mut work = Vec::new();
        if options.copy_up {
            if typ != "tmpfs" || bound || options.remount {
                return wrong("tmpcopyup is for a new tmpfs".to_owned());
            }
            work.push(MountWork::CopyUp(destination.clone()));
        }
        if let Some((maps, reach)) =
            self.id_mapping(mount, &options).map_err(|(name, text)| Error::spec(field(name), text))?
        {
            if !self.setter.reaches_detached() {
                let place = field(if maps.is_some() { "uidMappings" } else { "options" });
                let text = format!("an id mapping {}", needs(request.host, (5, 12), "mount_setattr(2)"));
                return Err(Error::spec(place, text).with_kind(ErrorKind::Host));
            }
            if options.remount || typ.starts_with("cgroup") {
                return wrong("only what is mounted anew or bound can have an id mapping".to_owned());
            }
            work.push(MountWork::MapIds(maps, reach));
        }
        let source = request.survey.sources.get(i).copied().unwrap_or_default();
        let had = of_statfs(request.survey.mount_flags.sources.get(i).copied().unwrap_or_default());
        let (what, kind) = if options.remount {
            (What::Change, Kind::Unknown)
        } else if bound {
            let tree = open_source(p, &place, request, mount, &options)?;
            if self.setter.reaches_detached() {
                self.settle(p, tree, &options, had);
            }
            (What::Tree(tree), source)
        } else if typ == "cgroup" || typ == "cgroup2" {
            (What::Cgroups(self.open_cgroups(p, &place, request.host)), Kind::Directory)
        } else if typ == "none" {
            return Err(Error::spec(field("type"), "is missing, and it is no bind mount"));
        } else {
            (What::New, Kind::Directory)
        };
        let seen = request.survey.destinations.get(i).cloned().unwrap_or_else(|| Destination::unseen(&destination));
        Ok(Planned { place, mount, destination, seen, options, what, kind, work, had })
    }

    /// The mapping of a mount's ids: its own, or that of the container (`None`). An error names the field.
    #[allow(clippy::type_complexity)]
    fn id_mapping(
        &self,
        mount: &Mount,
        options: &Parsed,
    ) -> std::result::Result<Option<(Option<IdMaps>, Reach)>, (&'static str, &'static str)> {
        let given = |maps: &'_ Option<Vec<_>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
        match (given(mount.uid_mappings()), given(mount.gid_mappings()), options.idmap) {
            (true, false, _) => Err(("gidMappings", "is missing: uidMappings needs it")),
            (false, true, _) => Err(("uidMappings", "is missing: gidMappings needs it")),
            (true, true, reach) => {
                let map = |mappings: &Option<Vec<_>>| id_map(mappings.as_deref().unwrap_or_default());
                let maps = IdMaps { uids: map(mount.uid_mappings()), gids: map(mount.gid_mappings()) };
                Ok(Some((Some(maps), reach.unwrap_or(Reach::Top))))
            }
            (false, false, Some(_)) if !self.user_namespace => Err((
                "options",
                "an id mapping needs uidMappings and gidMappings, or a user namespace of the container's",
            )),
            (false, false, reach) => Ok(reach.map(|reach| (None, reach))),
        }
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

    /// A tmpfs that the runtime is to fill is made in the runtime's user namespace: in one of the container's the runtime's
    /// own ids would not be mapped (EOVERFLOW). Its root belongs to the container's.
    fn prepare_copy(&mut self, p: &mut Program, request: &Request<'_>, planned: &mut Planned<'_>) -> Result<()> {
        let linux = request.spec.linux().as_ref();
        for (name, maps) in [
            ("uid", linux.and_then(|l| l.uid_mappings().as_ref())),
            ("gid", linux.and_then(|l| l.gid_mappings().as_ref())),
        ] {
            let Some(root) = maps.into_iter().flatten().find(|map| map.container_id() == 0) else {
                return Err(Error::spec(
                    planned.place.as_str(),
                    "tmpcopyup needs a mapping of the id 0 in a user namespace",
                ));
            };
            if planned.options.data.iter().any(|option| option.split('=').next() == Some(name)) {
                let text = format!("tmpcopyup: {name} cannot be given beside a user namespace");
                return Err(Error::spec(planned.place.as_str(), text));
            }
            planned.options.data.push(format!("{name}={}", root.host_id()));
        }
        p.section(planned.place.as_str());
        if let Made::Detached(slot, _) = self.filesystem(p, planned)? {
            planned.what = What::Prepared(slot);
        }
        Ok(())
    }

    /// Attaches all, in the order of the list.
    pub(super) fn attach(&mut self, p: &mut Program) -> Result<()> {
        for mut planned in std::mem::take(&mut self.planned) {
            p.section(planned.place.as_str());
            let made = match planned.what {
                What::Tree(slot) => Made::Detached(slot, Filesystem::Hosts),
                What::New => self.filesystem(p, &planned)?,
                What::Prepared(slot) => Made::Detached(slot, Filesystem::New),
                What::Change => Made::Attached(self.change(p, &planned)?, Filesystem::Hosts),
                What::Cgroups(ref own) => self.cgroups(p, &planned, own),
            };
            for work in std::mem::take(&mut planned.work) {
                let (Made::Detached(tree, _) | Made::Attached(tree, _)) = made;
                self.steps.push(MountStep { place: planned.place.clone(), work });
                p.stop_with(Point::Mount, tree);
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
                let at = planned.seen.path;
                let mounted = Mounted { destination: planned.destination, at: at.clone(), filesystem, attributes };
                self.done.push(&at, mounted);
            }
        }
        Ok(())
    }

    /// What comes when all is mounted.
    pub(super) fn finish(&self, p: &mut Program) {
        for (place, tree, had) in &self.readonly_later {
            p.section(place.as_str());
            let change = Change { attributes: Attributes::setting(RDONLY), had: *had, propagation: 0 };
            self.setter.change(p, *tree, Reach::Top, change);
        }
    }

    /// The filesystem that was mounted at `path` last, if it is new and empty.
    pub(super) fn fresh(&self, path: &Path) -> Option<Slot> {
        match self.done.iter().rev().find(|mounted| mounted.destination == path)?.filesystem {
            Filesystem::Fresh(slot) => Some(slot),
            _ => None,
        }
    }

    /// The filesystem that was mounted at `path` last, if it is a new devpts.
    pub(super) fn devpts(&self, path: &Path) -> Option<Slot> {
        match self.done.iter().rev().find(|mounted| mounted.destination == path)?.filesystem {
            Filesystem::Devpts(slot) => Some(slot),
            _ => None,
        }
    }
}

/// What is wrong with mounting at `destination`.
fn check_destination(destination: &Path, mount: &Mount) -> std::result::Result<(), &'static str> {
    let proc = Path::new("/proc");
    if destination == Path::new("/") {
        return Err("the root itself cannot be mounted over");
    }
    if !destination.starts_with(proc) || PROC_EXCEPTIONS.iter().any(|path| destination == Path::new(path)) {
        return Ok(());
    }
    let whole = is_bind(mount) && mount.source().as_deref() == Some(proc);
    match destination == proc && (mount.typ().as_deref() == Some("proc") || whole) {
        true => Ok(()),
        false => Err("lies in /proc, where only procfs may be mounted"),
    }
}

/// Opens a bind mount's source as a detached copy.
fn open_source(p: &mut Program, place: &str, request: &Request<'_>, mount: &Mount, options: &Parsed) -> Result<Slot> {
    let Some(source) = mount.source() else { return Err(Error::spec(place, "source is missing")) };
    let source = request.bundle.join(source);
    p.section(place);
    p.doing(format!("bind source {}", source.display()));
    let path = p.text(source.as_os_str().as_encoded_bytes());
    let recursive = if options.recursive_bind { AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | recursive;
    Ok(p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), path.into(), flags.into()]).out())
}

/// Why something cannot be on this machine.
fn needs(host: &Host, (major, minor): (u32, u32), what: &str) -> String {
    let (own, own_minor) = host.kernel;
    format!("needs {what} of Linux {major}.{minor}, which this kernel ({own}.{own_minor}) does not offer")
}

impl Mounts<'_> {
    /// What of the options asks for more than the kernel can do.
    fn beyond_the_kernel(&self, host: &Host, mount: &Mount, options: &Parsed) -> Option<String> {
        let words = mount.options().as_deref().unwrap_or_default();
        let refused = |word: &str, version, what| Some(format!("{word:?} {}", needs(host, version, what)));
        // A new filesystem and a bind that is not recursive have nothing below.
        let below = options.recursive_bind || options.remount;
        match (host.mounts, recursive_word(words), symfollow_word(words)) {
            (MountCalls::Classic, Some(word), _) if below => refused(word, (5, 12), "mount_setattr(2)"),
            (MountCalls::Classic, _, Some(word)) if mount.typ().iter().any(|typ| typ.starts_with("cgroup")) => {
                refused(word, (5, 14), "MOUNT_ATTR_NOSYMFOLLOW")
            }
            (MountCalls::SetAttributes, _, Some(word)) => refused(word, (5, 14), "MOUNT_ATTR_NOSYMFOLLOW"),
            _ => None,
        }
    }

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

    /// What is mounted below `path` and not covered, with its attributes, as far as they are known.
    pub(super) fn below(&self, path: &Path) -> impl Iterator<Item = (&Path, u64)> {
        let seen = |mounted: &Mounted| self.done.over(&mounted.at).is_some_and(|last| std::ptr::eq(last, mounted));
        let below = move |mounted: &&Mounted| mounted.at != path && mounted.at.starts_with(path) && seen(mounted);
        self.done.iter().filter(below).map(|mounted| (mounted.at.as_path(), mounted.attributes))
    }

    /// The attributes of what is mounted at `path` or above it, as far as they are known.
    pub(super) fn attributes_at(&self, path: &Path) -> u64 {
        self.done.over(path).map_or(self.root, |mounted| mounted.attributes)
    }
}
