//! linux.namespaces: which are made, which are joined, and by which calls. Source: config-linux.md "Namespaces",
//! namespaces(7), setns(2).

pub(super) mod id_maps;
pub(super) mod net_devices;
pub(super) mod settings;
pub(super) mod sight;

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use runb_init::Point;

use super::procfs::HostsProc;
use super::request::Request;
use super::program::{AT_FDCWD, O_NOCTTY, O_NONBLOCK, O_RDONLY, O_WRONLY, Hint, Program, Slot, namespace_flags};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::survey::Survey;
use id_maps::{IdMaps, Writers, id_map};
use sight::Sight;

/// The namespaces of a container.
#[derive(Debug)]
pub(super) struct Namespaces {
    new: u64,
    joined: Vec<Joined>,
    /// Those of the new ones that init makes while the rest is still being planned.
    ahead: u64,
}

#[derive(Debug)]
struct Joined {
    kind: u64,
    path: PathBuf,
    place: String,
}

/// When init comes into its pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is born in it.
    Born,
    /// As soon as the namespace is made: nobody else is there.
    Alone,
    /// When it has no more rights than the workload, nor anything of the host in sight: whoever is there may look into it.
    Last,
}

const USER: u64 = libc::CLONE_NEWUSER as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;
const MOUNT: u64 = libc::CLONE_NEWNS as u64;
const NETWORK: u64 = libc::CLONE_NEWNET as u64;
const TIME: u64 = LinuxNamespaceType::Time as u64;

impl Namespaces {
    /// Reads the list.
    pub(super) fn of(spec: &Spec, host: &Host) -> Result<Self> {
        let mut namespaces = Namespaces { new: 0, joined: Vec::new(), ahead: 0 };
        let list = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
        for (i, namespace) in list.enumerate() {
            let kind = namespace.typ() as u64;
            let place = format!("linux.namespaces[{i}]");
            if namespaces.has(kind) {
                return Err(Error::spec(format!("{place}.type"), format!("{} is listed twice", name(namespace.typ()))));
            }
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None => namespaces.new |= kind,
                Some(path) if path.is_absolute() => namespaces.joined.push(Joined { kind, path: path.clone(), place }),
                Some(path) => {
                    return Err(Error::spec(format!("{place}.path"), format!("{path:?} is not an absolute path")));
                }
            }
        }
        namespaces.check(spec)?;
        if !host.standing.may_mount() {
            namespaces.check_for_a_user(spec)?;
        }
        Ok(namespaces)
    }

    fn check(&self, spec: &Spec) -> Result<()> {
        let needs =
            |place: &str, what: &str| Err(Error::spec(place, format!("needs a new or joined {what} namespace")));
        let linux = spec.linux().as_ref();
        let some = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
        if some(spec.hostname().as_ref()) && !self.has(libc::CLONE_NEWUTS as u64) {
            return needs("hostname", "uts");
        }
        if some(spec.domainname().as_ref()) && !self.has(libc::CLONE_NEWUTS as u64) {
            return needs("domainname", "uts");
        }
        // mount(2): the right to mount is asked of the user namespace that owns the mount namespace.
        if self.has(USER) && !self.has(MOUNT) || self.makes(USER) && self.joins_mounts() {
            let text =
                "needs a new mount namespace beside the user namespace, whose root may mount nothing in one of others";
            return Err(Error::spec("linux.namespaces", text));
        }
        let Some(linux) = linux else { return Ok(()) };
        let some_path = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
        // What would be changed there, or be changed for others as well, is the host's.
        let changes = [
            ("linux.maskedPaths", some_path(linux.masked_paths())),
            ("linux.readonlyPaths", some_path(linux.readonly_paths())),
            ("linux.rootfsPropagation", some(linux.rootfs_propagation().as_ref())),
        ];
        if let Some((place, _)) = changes.into_iter().find(|(_, given)| *given && !self.has(MOUNT)) {
            return needs(place, "mount");
        }
        let maps = [("linux.uidMappings", linux.uid_mappings()), ("linux.gidMappings", linux.gid_mappings())];
        for (place, map) in maps {
            let given = map.as_ref().is_some_and(|map| !map.is_empty());
            if self.makes(USER) && !given {
                return Err(Error::spec(place, "is missing: a new user namespace needs it"));
            }
            if !self.has(USER) && given {
                return needs(place, "user");
            }
        }
        if linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()) && !self.makes(TIME) {
            return Err(Error::spec("linux.timeOffsets", "needs a new time namespace"));
        }
        Ok(())
    }

    /// What only who has the right to mount can do.
    fn check_for_a_user(&self, spec: &Spec) -> Result<()> {
        if !self.has(USER) {
            let text = "have no user namespace: without CAP_SYS_ADMIN a container needs one (\"runb spec --rootless\" writes \
                        such a configuration)";
            return Err(Error::spec("linux.namespaces", text).with_errno(nix::errno::Errno::EPERM));
        }
        let offsets = spec.linux().iter().filter_map(|linux| linux.time_offsets().as_ref()).any(|list| !list.is_empty());
        if offsets && !self.makes(USER) {
            let text = "cannot be set without CAP_SYS_TIME in a user namespace that is joined: whoever is there could look into init";
            return Err(Error::spec("linux.timeOffsets", text).with_errno(nix::errno::Errno::EPERM));
        }
        match self.joined.iter().find(|joined| joined.kind == MOUNT) {
            Some(joined) => {
                let text = "without CAP_SYS_ADMIN nothing of this mount namespace, as the root filesystem, gets into another";
                let place = format!("{}.path", joined.place);
                Err(Error::spec(place, text).with_errno(nix::errno::Errno::EPERM))
            }
            None => Ok(()),
        }
    }

    /// Whether the container has a namespace of this kind of its own, new or joined.
    pub(super) fn has(&self, kind: u64) -> bool {
        self.makes(kind) || self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Where the namespace of this kind is, if it is one that others have made.
    fn joined(&self, kind: u64) -> Option<&Path> {
        self.joined.iter().find(|joined| joined.kind == kind).map(|joined| joined.path.as_path())
    }

    /// Whether the mount namespace is one that others have made.
    pub(super) fn joins_mounts(&self) -> bool {
        self.joined.iter().any(|joined| joined.kind == MOUNT)
    }

    /// Whether a namespace of this kind is made for it.
    pub(super) fn makes(&self, kind: u64) -> bool {
        self.new & kind != 0
    }

    /// All that the container has of its own.
    pub(super) fn all(&self) -> u64 {
        self.joined.iter().fold(self.new, |all, joined| all | joined.kind)
    }

    /// All that are made for it.
    pub(super) fn new_ones(&self) -> u64 {
        self.new
    }

    /// What the clone itself makes: the pid namespace, unless a user namespace is to own it.
    pub(super) fn clone_flags(&self) -> u64 {
        if self.has(USER) { 0 } else { self.new & PID }
    }

    /// Lets init make those that want nothing else to be known, if a network namespace is one of them: it takes as long as all of
    /// the planning. A user namespace comes before them, as it is to own them; and beside a twin a limit of one process is planned otherwise.
    pub(super) fn be_made_ahead(&mut self) {
        let has_twin = self.has(PID) && self.clone_flags() & PID == 0;
        if self.makes(NETWORK) && !self.has(USER) && !has_twin {
            self.ahead = self.new & (NETWORK | libc::CLONE_NEWIPC as u64 | libc::CLONE_NEWUTS as u64);
        }
    }

    /// Those that init makes while the rest is still being planned.
    pub(super) fn ahead(&self) -> u64 {
        self.ahead
    }

    /// The maps of a user namespace that is made for it, and who writes them.
    pub(super) fn id_maps(&self, request: &Request<'_>) -> Result<Option<(IdMaps, Writers)>> {
        let Some(linux) = request.spec.linux().as_ref().filter(|_| self.makes(USER)) else { return Ok(None) };
        let map = |mappings: &Option<Vec<_>>| id_map(mappings.as_deref().unwrap_or_default());
        let maps = IdMaps { uids: map(linux.uid_mappings()), gids: map(linux.gid_mappings()) };
        let writers = Writers::of(&maps, request)?;
        Ok(Some((maps, writers)))
    }

    /// The host's procfs, to be opened while it is in sight. A mount namespace that is joined has what others have put at
    /// `/proc` (CVE-2025-52881 was a write to procfs that was led elsewhere).
    pub(super) fn hosts_procfs(&self, p: &mut Program) -> HostsProc {
        if self.joins_mounts() { HostsProc::hold(p) } else { HostsProc::InSight }
    }

    /// When init comes into the pid namespace. Beside a user namespace an older kernel lets only who is inside make a procfs:
    /// there only CAP_SYS_PTRACE in the host's user namespace sees it, which nobody inside has.
    pub(super) fn entry(&self, survey: &Survey) -> Entry {
        match self.has(PID) && self.clone_flags() & PID == 0 {
            false => Entry::Born,
            true if self.makes(PID) || self.has(USER) && !survey.procfs_of_another => Entry::Alone,
            true => Entry::Last,
        }
    }

    /// Joins and makes them. Of a pid namespace that is joined last the descriptor is kept, to make procfs for it.
    pub(super) fn enter(
        &self,
        p: &mut Program,
        (spec, host): (&Spec, &Host),
        procfs: &HostsProc,
        (entry, sight): (Entry, Sight),
    ) -> Result<Option<Slot>> {
        let may_mount = host.standing.may_mount();
        let open_offsets =
            |p: &mut Program| if self.makes(TIME) { Offsets::open(p, spec, procfs) } else { Ok(None) };
        let mut offsets = if may_mount { open_offsets(p)? } else { None };
        let mut kept = None;
        let opened: Vec<(&Joined, Slot)> = self.joined.iter().map(|joined| (joined, open(p, joined))).collect();
        // Root may join everything before it gives up the user namespace that owns it; others need the user namespace first.
        let user_first = !may_mount;
        let (user, rest): (Vec<_>, Vec<_>) = opened.into_iter().partition(|(joined, _)| joined.kind == USER);
        let order = if user_first {
            user.into_iter().chain(rest).collect::<Vec<_>>()
        } else {
            rest.into_iter().chain(user).collect()
        };
        for (joined, slot) in order {
            let kind = joined.kind;
            p.section(format!("{}.path", joined.place));
            p.doing(format!("setns {}, {}", joined.path.display(), namespace_flags(kind)));
            if kind == USER {
                sight.before_others(p);
            }
            p.setns(slot, kind).hint(Hint::Foreign);
            if kind == PID && entry == Entry::Last {
                kept = Some(slot);
            } else {
                p.close(slot);
            }
            if kind == USER {
                become_root(p);
            }
        }
        if self.makes(USER) {
            p.section("linux.namespaces");
            p.unshare(USER);
            p.stop(Point::IdMap);
            become_root(p);
            sight.keep(p);
        }
        if !may_mount {
            offsets = open_offsets(p)?;
        }
        let here = self.new & !USER & !self.clone_flags() & !self.ahead;
        if here != 0 {
            p.section("linux.namespaces");
            p.unshare(here);
        }
        if self.makes(TIME) {
            if let Some(offsets) = offsets {
                offsets.write(p);
            }
            enter_time(p, procfs);
        }
        Ok(kept)
    }
}

/// Goes on in a child: only a child enters a pid namespace that was joined, or made by a user namespace's root.
pub(super) fn become_child(p: &mut Program) {
    p.section("linux.namespaces");
    p.twin();
}

/// The namespaces that are made and joined, sorted by name; `features` tells them.
pub const NAMESPACES: [LinuxNamespaceType; 8] = [
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Network,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Time,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Uts,
];

/// The name that config-linux.md has for a type.
pub fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn open(p: &mut Program, joined: &Joined) -> Slot {
    p.section(format!("{}.path", joined.place));
    // What is no namespace is refused by setns(2), and must not hold init up before, as a FIFO would.
    p.openat(AT_FDCWD, &joined.path, O_RDONLY | O_NONBLOCK | O_NOCTTY).out()
}

/// What init makes from here on belongs to the root of the user namespace.
pub(super) fn become_root(p: &mut Program) {
    p.setresgid(0);
    p.setresuid(0);
}

/// unshare(2) makes a time namespace for children alone. By an execve a process enters it only since kernel commit
/// 2b5f9dad32ed (Linux 6.3), by setns(2) always.
fn enter_time(p: &mut Program, procfs: &HostsProc) {
    p.section("linux.namespaces");
    p.doing("enter the time namespace");
    let (directory, path) = procfs.file(p, "self/ns/time_for_children");
    let namespace = p.openat(directory, path, O_RDONLY).out();
    p.setns(namespace, TIME);
    p.close(namespace);
}

/// linux.timeOffsets, on their way to the namespace of init's children.
struct Offsets {
    file: Slot,
    text: String,
}

impl Offsets {
    /// Opens the file as the host's root, whose it is: it looks for the namespace when it is written to, and for the right to
    /// do so in whoever has opened it (timens_offsets_write, proc_timens_set_offset in the kernel).
    fn open(p: &mut Program, spec: &Spec, procfs: &HostsProc) -> Result<Option<Self>> {
        let offsets = spec.linux().iter().filter_map(|linux| linux.time_offsets().as_ref()).flatten();
        let mut lines: Vec<String> = Vec::new();
        for (clock, offset) in offsets {
            if !["monotonic", "boottime"].contains(&clock.as_str()) {
                let text = format!("{clock:?} is no clock with an offset: monotonic, boottime");
                return Err(Error::spec("linux.timeOffsets", text));
            }
            lines.push(format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)));
        }
        if lines.is_empty() {
            return Ok(None);
        }
        lines.sort();
        p.section("linux.timeOffsets");
        let (directory, path) = procfs.file(p, "self/timens_offsets");
        Ok(Some(Offsets { file: p.openat(directory, path, O_WRONLY).out(), text: lines.concat() }))
    }

    /// Writes them, before anyone is in the namespace.
    fn write(self, p: &mut Program) {
        p.section("linux.timeOffsets");
        p.write(self.file, &self.text);
        p.close(self.file);
    }
}
