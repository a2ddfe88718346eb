//! What of a container's is not its own: mounts of the host's files, and namespaces of others. CRIU leaves them alone, and finds
//! them by names when it restores.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::wire::{ExtMountMap, InheritFd, JoinNamespace};
use crate::error::{Error, Result};
use crate::plan::criu::FIRST_FILE;
use crate::plan::namespace_name;
use crate::survey::{DEFAULT_DEVICES, clean, is_bind};

/// The name of each mount of /dev/null over a file that is masked.
const NULL: &str = "/dev/null";

/// A mount that is not the container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// Where it is in the container.
    pub(crate) at: PathBuf,
    /// Its name in the images.
    pub(crate) name: PathBuf,
    /// What of the host's it shows.
    pub(crate) source: PathBuf,
}

/// What was seen of the files that the configuration names.
pub(crate) struct Seen<'a> {
    /// The configuration.
    pub(crate) spec: &'a Spec,
    /// What relative sources are relative to.
    pub(crate) bundle: &'a Path,
    /// Where each of `mounts` is, without links.
    pub(crate) destinations: Vec<PathBuf>,
    /// What is mounted on the host below the source of each that is bound with what is below, relative to it.
    pub(crate) below: Vec<Vec<PathBuf>>,
    /// The names of the hierarchies of version 1 below a mount of cgroups, and the host's directories that are there.
    pub(crate) hierarchies: Vec<(OsString, PathBuf)>,
    /// The files that are masked.
    pub(crate) masked: Vec<PathBuf>,
}

impl Seen<'_> {
    /// The mounts that are not the container's own. That one is listed which is not there does no harm.
    pub(crate) fn mounts(&self) -> Vec<External> {
        let mut all = Vec::new();
        let linux = self.spec.linux().as_ref();
        let mounts = self.spec.mounts().iter().flatten().zip(&self.destinations);
        for (i, (mount, at)) in mounts.enumerate() {
            let remount = mount.options().iter().flatten().any(|option| option == "remount");
            let source = mount.source().as_ref().map(|source| self.bundle.join(source));
            match (source, mount.typ().as_deref()) {
                _ if remount => {}
                (Some(source), _) if is_bind(mount) => {
                    all.push(External { at: at.clone(), name: at.clone(), source: source.clone() });
                    let below = self.below.get(i).into_iter().flatten();
                    all.extend(below.map(|rest| External {
                        at: at.join(rest),
                        name: at.join(rest),
                        source: source.join(rest),
                    }));
                }
                (_, Some("cgroup" | "cgroup2")) if !has(self.spec, libc::CLONE_NEWCGROUP) => {
                    all.extend(self.hierarchies.iter().map(|(name, source)| External {
                        at: at.join(name),
                        name: at.join(name),
                        source: source.clone(),
                    }));
                }
                _ => {}
            }
        }
        let masks = self.masked.iter().map(|at| (at.clone(), NULL));
        all.extend(masks.map(|(at, name)| External { at, name: name.into(), source: NULL.into() }));
        let own = linux.iter().filter_map(|linux| linux.devices().as_ref()).flatten();
        let own = own.map(|device| clean(device.path()));
        let default = DEFAULT_DEVICES.map(|(name, ..)| Path::new("/dev").join(name));
        all.extend(own.chain(default).map(|path| External { at: path.clone(), name: path.clone(), source: path }));
        all
    }
}

impl External {
    /// For a dump: where it is, and its name.
    pub(super) fn for_dump(&self) -> Result<ExtMountMap> {
        Ok(ExtMountMap { key: text(&self.at)?, val: text(&self.name)? })
    }

    /// For a restore: its name, and what is there.
    pub(super) fn for_restore(&self) -> Result<ExtMountMap> {
        Ok(ExtMountMap { key: text(&self.name)?, val: text(&self.source)? })
    }
}

/// For a restore: each name once, the first that has it.
pub(super) fn named(mounts: &[External]) -> Result<Vec<ExtMountMap>> {
    let mut known = std::collections::BTreeSet::new();
    mounts.iter().filter(|mount| known.insert(&mount.name)).map(External::for_restore).collect()
}

/// A path as CRIU takes it.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::spec("", format!("{path:?} is not UTF-8, and CRIU takes no other path")))
}

fn has(spec: &Spec, kind: i32) -> bool {
    let list = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    list.into_iter().any(|namespace| namespace.typ() as u64 == kind as u64)
}

/// A namespace of others that is opened for CRIU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    /// Its place in config.json.
    pub(crate) place: String,
    /// Where it is opened.
    pub(crate) path: PathBuf,
    key: String,
}

/// The namespaces of others that the container is in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Namespaces {
    /// Those that CRIU knows by a name: they are never saved.
    pub(crate) external: Vec<(LinuxNamespaceType, Joined)>,
    /// Those that it enters by their paths.
    joined: Vec<JoinNamespace>,
}

impl Namespaces {
    /// Reads the list.
    ///
    /// # Errors
    /// One that CRIU cannot enter.
    pub(crate) fn of(spec: &Spec) -> Result<Self> {
        let mut namespaces = Namespaces::default();
        let list = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
        for (i, namespace) in list.enumerate() {
            let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else { continue };
            let (place, typ) = (format!("linux.namespaces[{i}].path"), namespace.typ());
            match typ {
                LinuxNamespaceType::Network | LinuxNamespaceType::Pid => {
                    let key = key(typ).to_owned();
                    namespaces.external.push((typ, Joined { place, path: path.clone(), key }));
                }
                // What is saved of it nobody could restore.
                LinuxNamespaceType::Cgroup | LinuxNamespaceType::Mount | LinuxNamespaceType::User => {
                    let text =
                        format!("CRIU cannot restore a container into a {} namespace of others", namespace_name(typ));
                    return Err(Error::spec(place, text));
                }
                _ => namespaces.joined.push(JoinNamespace { ns: short(typ).to_owned(), ns_file: text(path)? }),
            }
        }
        Ok(namespaces)
    }

    /// What CRIU is started with.
    pub(crate) fn opened(&self) -> Vec<Joined> {
        self.external.iter().map(|(_, joined)| joined.clone()).collect()
    }

    /// For a restore: the descriptors that it is started with.
    pub(super) fn inherited(&self) -> impl Iterator<Item = InheritFd> + '_ {
        let numbered = self.external.iter().zip(FIRST_FILE..);
        numbered.map(|((_, joined), fd)| InheritFd { key: joined.key.clone(), fd })
    }

    /// For a restore: those that it enters by path.
    pub(super) fn by_path(&self) -> Vec<JoinNamespace> {
        self.joined.clone()
    }
}

/// What CRIU calls a namespace: the name of its file below /proc/PID/ns.
pub(crate) fn short(typ: LinuxNamespaceType) -> &'static str {
    match typ {
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Mount => "mnt",
        other => namespace_name(other),
    }
}

/// The name by which a namespace of others is found again.
pub(super) fn key(typ: LinuxNamespaceType) -> &'static str {
    match typ {
        LinuxNamespaceType::Network => "extRootNetNS",
        _ => "extRootPidNS",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: serde_json::Value) -> Spec {
        serde_json::from_value(text).expect("a configuration")
    }

    #[test]
    fn what_is_bound_masked_or_of_the_host_is_external_and_what_is_mounted_anew_is_not() {
        let spec = spec(serde_json::json!({"ociVersion": "1.0.2",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/conf", "source": "conf", "options": ["rbind"]},
                {"destination": "/conf", "source": "conf", "options": ["remount", "bind", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"},
            ],
            "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]}}));
        let seen = Seen {
            spec: &spec,
            bundle: Path::new("/b"),
            destinations: ["/proc", "/real/conf", "/real/conf", "/sys/fs/cgroup"].map(PathBuf::from).to_vec(),
            below: vec![Vec::new(), vec!["x".into()], Vec::new(), Vec::new()],
            hierarchies: vec![("pids".into(), "/sys/fs/cgroup/pids/c".into())],
            masked: vec!["/proc/kcore".into()],
        };
        let mounts = seen.mounts();
        let all: Vec<_> = mounts
            .iter()
            .take(4)
            .map(|m| [&m.at, &m.name, &m.source].map(|path| path.to_str().expect("text")))
            .collect();
        assert_eq!(
            all,
            [
                ["/real/conf", "/real/conf", "/b/conf"],
                ["/real/conf/x", "/real/conf/x", "/b/conf/x"],
                ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids/c"],
                ["/proc/kcore", "/dev/null", "/dev/null"],
            ]
        );
        assert_eq!(mounts[4].at, Path::new("/dev/fuse"));
        // /dev/null is a device as well as the name of masks: one entry does for both.
        let names = named(&mounts).expect("text");
        assert_eq!(names.iter().filter(|mount| mount.key == "/dev/null").count(), 1);
    }

    #[test]
    fn namespaces_of_others_are_handed_over_or_entered_by_path_or_refused() {
        let of = |typ: &str| {
            let list = serde_json::json!([{"type": "mount"}, {"type": typ, "path": "/n"}]);
            Namespaces::of(&spec(serde_json::json!({"ociVersion": "1.0.2", "linux": {"namespaces": list}})))
        };
        for (typ, key) in [("network", "extRootNetNS"), ("pid", "extRootPidNS")] {
            let namespaces = of(typ).expect(typ);
            assert_eq!(namespaces.inherited().collect::<Vec<_>>(), [InheritFd { key: key.to_owned(), fd: FIRST_FILE }]);
            assert_eq!(namespaces.opened()[0].place, "linux.namespaces[1].path");
        }
        for typ in ["ipc", "uts", "time"] {
            let joined = of(typ).expect(typ).by_path();
            assert_eq!(joined, [JoinNamespace { ns: typ.to_owned(), ns_file: "/n".to_owned() }]);
        }
        for typ in ["cgroup", "mount", "user"] {
            let error = of(typ).expect_err(typ).to_string();
            assert!(error.contains(&format!("a {typ} namespace of others")), "{error}");
        }
    }
}
