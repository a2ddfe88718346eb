//! config.md "Mounts": sources opened on the host, filesystems made inside, each attached at its destination.
//!
//! A destination is resolved once, into a descriptor, below the container's root and without magic links; or it is a name in
//! a filesystem that was just made and that nobody else can reach.

use std::path::{Component, Path, PathBuf};

use nix::libc;
use oci_spec::runtime::Mount;

use super::cgroup::{CgroupPlan, DirKind};
use super::mount_options::{Attributes, Parsed, RDONLY, parse};
use super::namespaces::Namespaces;
use super::program::{AT_FDCWD, Arg, Data, Program, Slot};
use super::rootfs::{AT_RECURSIVE, F_EMPTY_PATH, OPEN_TREE_CLONE, T_EMPTY_PATH, set_attributes};
use super::{Request, lsm};
use crate::error::{Error, Result};
use crate::survey::{Kind, is_bind};

const FSOPEN_CLOEXEC: i32 = 1;
const FSMOUNT_CLOEXEC: i32 = 1;
const SET_FLAG: i32 = 0;
const SET_STRING: i32 = 1;
const CMD_CREATE: i32 = 6;
/// openat2(2).
const RESOLVE_NO_MAGICLINKS: u64 = 0x2;

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

/// What is at a destination that was mounted.
struct Mounted {
    destination: PathBuf,
    /// The root of a filesystem that is new and empty: names in it are safe.
    fresh: Option<Slot>,
    /// The root of a new devpts.
    devpts: Option<Slot>,
}

/// What is to be mounted.
enum What {
    /// A detached copy of a host's tree.
    Tree(Slot),
    /// A new filesystem.
    New,
    /// The cgroup hierarchies; without a cgroup namespace, version 1 shows the container's own cgroup in each.
    Cgroups(Vec<Slot>),
}

struct Planned<'a> {
    place: String,
    mount: &'a Mount,
    destination: PathBuf,
    options: Parsed,
    what: What,
    kind: Kind,
    /// How many leading directories of the destination exist in the root filesystem.
    there: usize,
}

/// The mounts of a container.
pub(super) struct Mounts<'a> {
    planned: Vec<Planned<'a>>,
    cgroup: &'a CgroupPlan,
    cgroup_namespace: bool,
    label: Option<&'a str>,
    done: Vec<Mounted>,
    empty: Data,
}

/// The destination as an absolute path without `.` and `..`.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

impl<'a> Mounts<'a> {
    /// Checks the list, and opens what is bound while the host's paths are at hand.
    pub(super) fn open(
        p: &mut Program,
        request: &Request<'a>,
        cgroup: &'a CgroupPlan,
        namespaces: &Namespaces,
    ) -> Result<Self> {
        p.section("");
        let mut mounts = Mounts {
            planned: Vec::new(),
            cgroup,
            cgroup_namespace: namespaces.has(libc::CLONE_NEWCGROUP as u64),
            label: lsm::mount_label(request.spec, request.survey.lsm)?,
            done: Vec::new(),
            empty: p.text(""),
        };
        for (i, mount) in request.spec.mounts().iter().flatten().enumerate() {
            let destination = clean(mount.destination());
            let place = format!("mounts[{i}] ({})", destination.display());
            let field = |name: &str| format!("mounts[{i}].{name} ({})", destination.display());
            if destination == Path::new("/") {
                return Err(Error::spec(field("destination"), "the root itself cannot be mounted over"));
            }
            let typ = mount.typ().as_deref().unwrap_or("none");
            if destination.starts_with("/proc")
                && !(destination == Path::new("/proc") && typ == "proc")
                && !exception(&destination)
            {
                let whole = destination == Path::new("/proc")
                    && is_bind(mount)
                    && mount.source().as_deref() == Some(Path::new("/proc"));
                if !whole {
                    return Err(Error::spec(field("destination"), "lies in /proc, where only procfs may be mounted"));
                }
            }
            let options = parse(mount.options().as_deref().unwrap_or_default());
            if options.idmap.is_some() || mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
                return Err(Error::spec(place, "id-mapped mounts are not supported by this version"));
            }
            if options.copy_up {
                return Err(Error::spec(field("options"), "tmpcopyup is not supported by this version"));
            }
            let source = request.survey.sources.get(i).copied().unwrap_or_default();
            let there = request.survey.destinations.get(i).copied().unwrap_or_default();
            let (what, kind) = if is_bind(mount) {
                if let Some(data) = options.data.first() {
                    return Err(Error::spec(field("options"), format!("{data:?}: a bind mount takes no data")));
                }
                (What::Tree(open_source(p, &place, request, mount, &options)?), source)
            } else if typ == "cgroup" || typ == "cgroup2" {
                (What::Cgroups(mounts.open_cgroups(p, &place)), Kind::Directory)
            } else if typ == "none" {
                return Err(Error::spec(field("type"), "is missing, and it is no bind mount"));
            } else {
                (What::New, Kind::Directory)
            };
            mounts.planned.push(Planned { place, mount, destination, options, what, kind, there });
        }
        Ok(mounts)
    }

    /// Attaches all, in the order of the list.
    pub(super) fn attach(&mut self, p: &mut Program) -> Result<()> {
        for planned in std::mem::take(&mut self.planned) {
            p.section(planned.place.as_str());
            let (tree, fresh) = match planned.what {
                What::Tree(slot) => (slot, false),
                What::New => self.filesystem(p, &planned)?,
                What::Cgroups(ref own) => match self.cgroups(p, &planned, own) {
                    Some(slot) => (slot, false),
                    None => continue,
                },
            };
            p.section(planned.place.as_str());
            self.place(p, &planned, tree);
            for flags in &planned.options.propagation {
                let recursive = if flags & libc::MS_REC != 0 { AT_RECURSIVE } else { 0 };
                set_attributes(p, tree, self.empty, libc::AT_EMPTY_PATH | recursive, [0, 0, flags & !libc::MS_REC, 0]);
            }
            let devpts = matches!(planned.what, What::New) && planned.mount.typ().as_deref() == Some("devpts");
            self.done.push(Mounted {
                destination: planned.destination,
                fresh: fresh.then_some(tree),
                devpts: devpts.then_some(tree),
            });
        }
        Ok(())
    }

    /// The filesystem that was mounted at `path` last, if it is a new devpts.
    pub(super) fn devpts(&self, path: &Path) -> Option<Slot> {
        self.done.iter().rev().find(|mounted| mounted.destination == path)?.devpts
    }

    /// The filesystem that was mounted at `path` last, if it is new and empty.
    pub(super) fn fresh(&self, path: &Path) -> Option<Slot> {
        self.done.iter().rev().find(|mounted| mounted.destination == path)?.fresh
    }

    /// Makes a filesystem of the mount's type. True: it is empty and nobody else's.
    fn filesystem(&self, p: &mut Program, planned: &Planned<'_>) -> Result<(Slot, bool)> {
        let typ = planned.mount.typ().as_deref().unwrap_or_default();
        let mut data = planned.options.data.clone();
        if typ == "tmpfs" && !data.iter().any(|option| option.starts_with("mode=")) {
            // As runc: a new tmpfs has the mode of /tmp unless the destination has one; here always the kernel's 1777.
            data.push("mode=1777".to_owned());
        }
        let source =
            planned.mount.source().as_ref().map_or(typ.as_bytes(), |source| source.as_os_str().as_encoded_bytes());
        let mut attributes = planned.options.own;
        let recursive = planned.options.recursive;
        attributes.set |= recursive.set;
        let slot = self.make(p, typ, source, &planned.options.superblock, &data, attributes.set);
        Ok((slot, typ == "tmpfs"))
    }

    fn make(
        &self,
        p: &mut Program,
        typ: &str,
        source: &[u8],
        flags: &[&str],
        data: &[String],
        attributes: u64,
    ) -> Slot {
        let context = lsm::context(typ, self.label, data);
        let data: Vec<&String> = data.iter().chain(&context).collect();
        let mut what = format!("mount {typ}");
        if !data.is_empty() {
            what.push_str(&format!(
                " with {:?}",
                data.iter().map(|option| option.as_str()).collect::<Vec<_>>().join(",")
            ));
        }
        p.doing(what);
        let name = p.text(typ);
        let context = p.call(libc::SYS_fsopen, &[name.into(), FSOPEN_CLOEXEC.into()]).out();
        let key = p.text("source");
        let value = p.text(source);
        p.call(libc::SYS_fsconfig, &[context.into(), SET_STRING.into(), key.into(), value.into(), 0.into()]);
        for flag in flags {
            let key = p.text(flag);
            p.call(libc::SYS_fsconfig, &[context.into(), SET_FLAG.into(), key.into(), 0.into(), 0.into()]);
        }
        for option in data {
            let (command, key, value): (i32, Data, Arg) = match option.split_once('=') {
                Some((key, value)) => (SET_STRING, p.text(key), p.text(value).into()),
                None => (SET_FLAG, p.text(option), 0.into()),
            };
            p.call(libc::SYS_fsconfig, &[context.into(), command.into(), key.into(), value, 0.into()]);
        }
        p.call(libc::SYS_fsconfig, &[context.into(), CMD_CREATE.into(), 0.into(), 0.into(), 0.into()]);
        p.call(libc::SYS_fsmount, &[context.into(), FSMOUNT_CLOEXEC.into(), attributes.into()]).out()
    }

    /// Attaches `tree` at the destination.
    fn place(&self, p: &mut Program, planned: &Planned<'_>, tree: Slot) {
        let typ = planned.mount.typ().as_deref().unwrap_or_default();
        let target = match typ {
            // A link there would lead the kernel's own filesystems elsewhere (CVE-2019-19921).
            "proc" | "sysfs" => self.ordinary_directory(p, &planned.destination),
            _ => self.target(p, &planned.destination, planned.kind, planned.there),
        };
        p.doing(format!("attach {}", if typ.is_empty() { "bind" } else { typ }));
        p.call(libc::SYS_move_mount, &[tree.into(), self.empty.into(), target.0, target.1.into(), target.2.into()]);
    }

    fn ordinary_directory(&self, p: &mut Program, destination: &Path) -> (Arg, Data, i32) {
        let path = p.text(destination.as_os_str().as_encoded_bytes());
        p.doing("make the directory");
        p.call(libc::SYS_mkdirat, &[AT_FDCWD.into(), path.into(), 0o755.into()]).tolerate(&[libc::EEXIST]);
        p.doing("must be mounted on an ordinary directory");
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let slot = p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).out();
        (slot.into(), self.empty, F_EMPTY_PATH | T_EMPTY_PATH)
    }

    /// Makes `path` where it is missing, as `kind`, and returns it as the target of move_mount(2). `there` leading
    /// directories are known to exist.
    pub(super) fn target(&self, p: &mut Program, path: &Path, kind: Kind, there: usize) -> (Arg, Data, i32) {
        let inside = self
            .done
            .iter()
            .rev()
            .find(|mounted| path.starts_with(&mounted.destination) && path != mounted.destination);
        let (base, rest, there) = match inside {
            Some(Mounted { destination, fresh: Some(slot), .. }) => {
                return self.name_in(p, *slot, path.strip_prefix(destination).unwrap_or(path), kind);
            }
            Some(_) => (Arg::from(AT_FDCWD), path, 0),
            None => (Arg::from(AT_FDCWD), path, there),
        };
        let names: Vec<&[u8]> = rest.iter().skip(1).map(|name| name.as_encoded_bytes()).collect();
        p.doing("make the destination");
        let mut parent = base;
        for (i, name) in names.iter().enumerate() {
            if i < there {
                continue;
            }
            if i > 0 {
                parent = self.resolve(p, base, &names[..i]).into();
            }
            // The first name starts from the root: before a pivot the working directory lies outside of it.
            let text = if i == 0 { p.text([b"/", *name].concat()) } else { p.text(name) };
            self.make_entry(p, parent, text, if i + 1 < names.len() { Kind::Directory } else { kind });
        }
        let slot = self.resolve(p, base, &names);
        (slot.into(), self.empty, F_EMPTY_PATH | T_EMPTY_PATH)
    }

    fn make_entry(&self, p: &mut Program, parent: Arg, name: Data, kind: Kind) {
        match kind {
            Kind::File => p.call(libc::SYS_mknodat, &[parent, name.into(), (libc::S_IFREG | 0o755).into(), 0.into()]),
            _ => p.call(libc::SYS_mkdirat, &[parent, name.into(), 0o755.into()]),
        }
        .tolerate(&[libc::EEXIST, libc::EROFS]);
    }

    /// A name in a filesystem that is new: no links can be there but those that this program makes.
    fn name_in(&self, p: &mut Program, directory: Slot, path: &Path, kind: Kind) -> (Arg, Data, i32) {
        p.doing("make the destination");
        let mut so_far = PathBuf::new();
        let count = path.iter().count();
        let mut text = self.empty;
        for (i, name) in path.iter().enumerate() {
            so_far.push(name);
            text = p.text(so_far.as_os_str().as_encoded_bytes());
            let kind = if i + 1 < count { Kind::Directory } else { kind };
            self.make_entry(p, directory.into(), text, kind);
        }
        (directory.into(), text, F_EMPTY_PATH)
    }

    fn resolve(&self, p: &mut Program, base: Arg, names: &[&[u8]]) -> Slot {
        let path = p.text([b"/", names.join(&b'/').as_slice()].concat());
        resolve(p, base, path, libc::O_PATH)
    }

    /// The cgroup hierarchies: version 2 as one mount; version 1 as a tmpfs with one mount for each hierarchy.
    fn cgroups(&self, p: &mut Program, planned: &Planned<'_>, own: &[Slot]) -> Option<Slot> {
        let attributes = planned.options.own.set;
        let v1: Vec<_> = self.v1().collect();
        if v1.is_empty() {
            return Some(self.make(p, "cgroup2", b"cgroup", &[], &planned.options.data, attributes));
        }
        let data = ["mode=755".to_owned()];
        let tmpfs = self.make(p, "tmpfs", b"tmpfs", &[], &data, attributes & !RDONLY);
        self.place(p, planned, tmpfs);
        for (i, dir) in v1.into_iter().enumerate() {
            let DirKind::V1 { controllers, .. } = &dir.kind else { continue };
            let name = dir.mountpoint.file_name().map(|name| name.as_encoded_bytes()).unwrap_or_default();
            let text = p.text(name);
            let hierarchy = match own.get(i) {
                Some(slot) => {
                    set_attributes(p, *slot, self.empty, libc::AT_EMPTY_PATH, [attributes, 0, 0, 0]);
                    *slot
                }
                None => self.make(p, "cgroup", b"cgroup", &[], controllers, attributes),
            };
            p.call(libc::SYS_mkdirat, &[tmpfs.into(), text.into(), 0o755.into()]);
            p.call(
                libc::SYS_move_mount,
                &[hierarchy.into(), self.empty.into(), tmpfs.into(), text.into(), F_EMPTY_PATH.into()],
            );
            for controller in
                controllers.iter().filter(|controller| controller.as_bytes() != name && !controller.contains('='))
            {
                let link = p.text(controller);
                p.call(libc::SYS_symlinkat, &[text.into(), tmpfs.into(), link.into()]);
            }
        }
        if attributes & RDONLY != 0 {
            set_attributes(p, tmpfs, self.empty, libc::AT_EMPTY_PATH, [RDONLY, 0, 0, 0]);
        }
        None
    }

    fn v1(&self) -> impl Iterator<Item = &'a super::cgroup::Dir> + use<'a> {
        self.cgroup.dirs.iter().filter(|dir| matches!(dir.kind, DirKind::V1 { .. }))
    }

    fn open_cgroups(&self, p: &mut Program, place: &str) -> Vec<Slot> {
        if self.cgroup_namespace {
            return Vec::new();
        }
        p.section(place);
        let open = |dir: &super::cgroup::Dir| {
            let path = p.text(dir.path.as_os_str().as_encoded_bytes());
            let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
            p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), path.into(), flags.into()]).out()
        };
        self.v1().map(open).collect()
    }
}

/// openat2(2) of an absolute path, so below the root that this process has, without magic links: those lead out of every root.
pub(super) fn resolve(p: &mut Program, base: Arg, path: Data, flags: i32) -> Slot {
    let how = p.longs(&[(flags | libc::O_CLOEXEC) as u64, 0, RESOLVE_NO_MAGICLINKS]);
    p.call(libc::SYS_openat2, &[base, path.into(), how.into(), 24.into()]).out()
}

fn exception(destination: &Path) -> bool {
    PROC_EXCEPTIONS.iter().any(|path| destination == Path::new(path))
}

/// Opens a bind mount's source as a detached copy, with its attributes.
fn open_source(p: &mut Program, place: &str, request: &Request<'_>, mount: &Mount, options: &Parsed) -> Result<Slot> {
    let Some(source) = mount.source() else { return Err(Error::spec(place, "source is missing")) };
    let source = request.bundle.join(source);
    p.section(place);
    p.doing(format!("bind source {}", source.display()));
    let path = p.text(source.as_os_str().as_encoded_bytes());
    let empty = p.text("");
    let recursive = if options.recursive_bind { AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | recursive;
    let slot = p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), path.into(), flags.into()]).out();
    let mut own = options.own;
    if own.set & RDONLY == 0 && options.recursive.is_empty() && own.is_empty() {
        own = Attributes::default();
    }
    // One call for the propagation and the attributes: a copy is a peer of what the host has, and must not stay it.
    let slave = libc::MS_SLAVE;
    if options.recursive.is_empty() {
        set_attributes(
            p,
            slot,
            empty,
            libc::AT_EMPTY_PATH | recursive_if(recursive, own),
            [own.set, own.clear, slave, 0],
        );
        if recursive != 0 && !own.is_empty() {
            set_attributes(p, slot, empty, libc::AT_EMPTY_PATH | AT_RECURSIVE, [0, 0, slave, 0]);
        }
    } else {
        let all = options.recursive;
        set_attributes(p, slot, empty, libc::AT_EMPTY_PATH | AT_RECURSIVE, [all.set, all.clear, slave, 0]);
        if !own.is_empty() {
            set_attributes(p, slot, empty, libc::AT_EMPTY_PATH, [own.set, own.clear, 0, 0]);
        }
    }
    Ok(slot)
}

/// A recursive copy gets its propagation recursively, unless its own attributes are for the top alone.
fn recursive_if(recursive: i32, own: Attributes) -> i32 {
    if own.is_empty() { recursive } else { 0 }
}
