//! What one entry of the list asks for, checked.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::bind::Locks;
use super::{MountWork, Mounts, Planned, What};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::host::Host;
use crate::host::mounts::MountCalls;
use crate::plan::mounts::options::{Parsed, Reach, of_statfs, parse, recursive_word, symfollow_word};
use crate::plan::namespaces::id_maps::{IdMaps, id_map};
use crate::plan::program::Program;
use crate::survey::{Destination, Kind, clean, is_bind, rest};

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

impl<'a> Mounts<'a> {
    /// Reads entry `i`.
    pub(super) fn entry(&mut self, i: usize, mount: &'a Mount) -> Result<Planned<'a>> {
        let request = self.request;
        let destination = clean(mount.destination());
        let place = format!("mounts[{i}] ({})", destination.display());
        let field = |name: &str| format!("mounts[{i}].{name} ({})", destination.display());
        check_destination(&destination, mount).map_err(|text| Error::spec(field("destination"), text))?;
        let mut options = parse(mount.options().as_deref().unwrap_or_default());
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
            work.push(MountWork::CopyUp { path: destination.clone(), rest: PathBuf::new() });
        }
        if let Some((maps, reach)) =
            self.id_mapping(mount, &options).map_err(|(name, text)| Error::spec(field(name), text))?
        {
            if !self.setter.reaches_detached() {
                let place = field(if maps.is_some() { "uidMappings" } else { "options" });
                let text = format!("an id mapping {}", needs(request.host, (5, 12), "mount_setattr(2)"));
                return Err(Error::spec(place, text).with_kind(ErrorKind::Host));
            }
            if !request.host.standing.may_mount() {
                let place = field(if maps.is_some() { "uidMappings" } else { "options" });
                let text = "an id mapping takes CAP_SYS_ADMIN in the user namespace that the filesystem was mounted in";
                return Err(Error::spec(place, text).with_kind(ErrorKind::Host).with_errno(nix::errno::Errno::EPERM));
            }
            if options.remount || typ.starts_with("cgroup") {
                return wrong("only what is mounted anew or bound can have an id mapping".to_owned());
            }
            work.push(MountWork::MapIds(maps, reach));
        }
        let kind = request.survey.sources.get(i).copied().unwrap_or_default();
        let mut source = mount.source().clone().unwrap_or_else(|| typ.into());
        let flags = request.survey.mount_flags.sources.get(i).copied().unwrap_or_default();
        let had = of_statfs(flags);
        let (what, kind) = if options.remount {
            (What::Change, Kind::Unknown)
        } else if bound {
            let Some(path) = mount.source() else { return Err(Error::spec(place, "source is missing")) };
            let path = request.bundle.join(path);
            let seen = || request.survey.inside.get(i).cloned().flatten();
            (self.inside(&path).map_or(What::Source(path), |path| What::Inside(seen().unwrap_or(path))), kind)
        } else if typ == "cgroup" || typ == "cgroup2" {
            (What::Cgroups(self.cgroups()), Kind::Directory)
        } else if typ == "none" {
            return Err(Error::spec(field("type"), "is missing, and it is no bind mount"));
        } else if let Some(hosts) = self.in_place_of(typ, &place, &mut options) {
            hosts
        } else if let Some((own, data)) =
            self.names_inside(typ, &source, &options.data).map_err(|text| Error::spec(place.as_str(), text))?
        {
            (source, options.data) = (own, data);
            (What::NewInside, Kind::Directory)
        } else {
            (What::New, Kind::Directory)
        };
        let seen = request.survey.destinations.get(i).cloned().unwrap_or_else(|| Destination::unseen(&destination));
        let disk = !self.user_namespace && request.survey.disks.get(i).copied().unwrap_or_default();
        let reader = request.survey.source_readers.get(i).copied().unwrap_or_default();
        let stands_in = !bound && matches!(what, What::Source(_));
        let mut planned =
            Planned { disk, place, mount, destination, source, seen, options, what, kind, reader, stands_in, work, had };
        if matches!(planned.what, What::Source(_)) {
            // Of what nobody has asked for nothing is known to be locked.
            let locks = if self.user_namespace && flags != 0 { Locks::Locked } else { Locks::Free };
            self.bind_flags(&mut planned, locks)?;
        }
        Ok(planned)
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

    /// A tmpfs that the runtime is to fill is created in the runtime's user namespace: in one of the container's the runtime's
    /// own ids would not be mapped (EOVERFLOW). Its root belongs to the container's. A user's own id is always mapped, and init is in
    /// the container's user namespace before it makes anything.
    pub(super) fn prepare_copy(&mut self, p: &mut Program, planned: &mut Planned<'_>) -> Result<()> {
        let linux = self.request.spec.linux().as_ref().filter(|_| self.request.host.standing.may_mount());
        let maps = linux.map(|linux| [("uid", linux.uid_mappings().as_ref()), ("gid", linux.gid_mappings().as_ref())]);
        for (name, maps) in maps.into_iter().flatten() {
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
        planned.what = self.created(p, planned)?;
        Ok(())
    }

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
}

/// What is wrong with mounting at `destination`, which is clean.
fn check_destination(destination: &Path, mount: &Mount) -> std::result::Result<(), &'static str> {
    let proc = Path::new("/proc");
    if destination.as_os_str() == "/" {
        return Err("the root itself cannot be mounted over");
    }
    if rest(destination, proc).is_none() || PROC_EXCEPTIONS.iter().any(|path| destination == Path::new(path)) {
        return Ok(());
    }
    let whole = is_bind(mount) && mount.source().as_deref() == Some(proc);
    match destination == proc && (mount.typ().as_deref() == Some("proc") || whole) {
        true => Ok(()),
        false => Err("lies in /proc, where only procfs may be mounted"),
    }
}

/// Why something cannot be on this machine.
fn needs(host: &Host, (major, minor): (u32, u32), what: &str) -> String {
    let (own, own_minor) = host.kernel;
    format!("needs {what} of Linux {major}.{minor}, which this kernel ({own}.{own_minor}) does not offer")
}
