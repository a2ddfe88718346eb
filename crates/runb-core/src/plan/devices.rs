//! config-linux.md "Devices" and "Default Devices": the nodes and links in /dev.

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{LinuxDeviceType, Spec};

use super::masks::Null;
use super::mounts::{Mounts, clean, resolve};
use super::namespaces::Namespaces;
use super::program::{AT_FDCWD, Arg, Program, Slot};
use super::rootfs::{F_EMPTY_PATH, OPEN_TREE_CLONE};
use crate::error::{Error, Result};
use crate::survey::{Kind, is_bind};

const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

struct Device {
    place: String,
    path: PathBuf,
    mode: u32,
    number: u64,
    owner: (u32, u32),
    /// The host's node, for where mknod(2) is forbidden or something is in its place.
    hosts: Option<Slot>,
}

/// The devices of a container.
pub(super) struct Devices {
    list: Vec<Device>,
    skip: bool,
    bind: bool,
}

impl Devices {
    /// Lists them. A user namespace forbids mknod(2), and an image's own /dev may have something in the way: then the
    /// host's nodes are bound, and they are opened here.
    pub(super) fn open(p: &mut Program, spec: &Spec, namespaces: &Namespaces) -> Self {
        let at_dev = spec.mounts().iter().flatten().rfind(|mount| clean(mount.destination()) == Path::new("/dev"));
        // Whoever binds a /dev brings what is in it.
        let skip = at_dev.is_some_and(is_bind);
        let bind = namespaces.has(libc::CLONE_NEWUSER as u64);
        let fresh = at_dev.is_some_and(|mount| mount.typ().as_deref() == Some("tmpfs"));
        let mut list: Vec<Device> = Vec::new();
        for (i, device) in spec.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten().enumerate() {
            let kind = match device.typ() {
                LinuxDeviceType::B => libc::S_IFBLK,
                LinuxDeviceType::P => libc::S_IFIFO,
                _ => libc::S_IFCHR,
            };
            list.push(Device {
                place: format!("linux.devices[{i}] ({})", device.path().display()),
                path: clean(device.path()),
                mode: kind | (device.file_mode().unwrap_or(0o666) & 0o7777),
                number: if kind == libc::S_IFIFO {
                    0
                } else {
                    libc::makedev(device.major() as u32, device.minor() as u32)
                },
                owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
                hosts: None,
            });
        }
        for (name, major, minor) in DEFAULT {
            let path = Path::new("/dev").join(name);
            if !list.iter().any(|device| device.path == path) {
                let number = libc::makedev(major, minor);
                list.push(Device {
                    place: format!("/dev/{name}"),
                    path,
                    mode: libc::S_IFCHR | 0o666,
                    number,
                    owner: (0, 0),
                    hosts: None,
                });
            }
        }
        if !skip {
            for device in list.iter_mut().filter(|device| bind || !(fresh && in_dev(&device.path))) {
                p.section(device.place.as_str());
                let path = p.text(device.path.as_os_str().as_encoded_bytes());
                let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
                let call = p.call(libc::SYS_open_tree, &[AT_FDCWD.into(), path.into(), flags.into()]);
                // A node that the host lacks is needed only if mknod does not do.
                device.hosts =
                    Some(if bind { call.out() } else { call.tolerate(&[libc::ENOENT, libc::ENOTDIR]).out() });
            }
        }
        Devices { list, skip, bind }
    }

    /// Whose /dev/null the container will have.
    pub(super) fn null(&self) -> Null {
        if self.skip { Null::Brought } else { Null::Made }
    }

    /// Makes them.
    pub(super) fn attach(&self, p: &mut Program, mounts: &mut Mounts<'_>) -> Result<()> {
        if self.skip {
            return Ok(());
        }
        let empty = p.text("");
        let (dev, fresh) = self.directory(p, mounts);
        for device in &self.list {
            p.section(device.place.as_str());
            let (directory, name) = if in_dev(&device.path) {
                (dev, p.text(device.path.file_name().unwrap_or_default().as_encoded_bytes()))
            } else {
                let parent = device.path.parent().unwrap_or(Path::new("/"));
                let Some(name) = device.path.file_name().filter(|_| parent != Path::new("/")) else {
                    return Err(Error::spec(device.place.as_str(), "a device lies in a directory below the root"));
                };
                let target = mounts.target(p, &parent.join(name), Kind::File, 0);
                let _ = target;
                let parent = p.text(parent.as_os_str().as_encoded_bytes());
                let slot = resolve(p, AT_FDCWD.into(), parent, libc::O_PATH | libc::O_DIRECTORY);
                (slot.into(), p.text(name.as_encoded_bytes()))
            };
            self.node(p, device, directory, name, empty, fresh && in_dev(&device.path));
        }
        self.links(p, dev, fresh);
        Ok(())
    }

    fn directory(&self, p: &mut Program, mounts: &Mounts<'_>) -> (Arg, bool) {
        p.section("/dev");
        if let Some(slot) = mounts.fresh(Path::new("/dev")) {
            return (slot.into(), true);
        }
        let name = p.text("/dev");
        p.call(libc::SYS_mkdirat, &[AT_FDCWD.into(), name.into(), 0o755.into()]).tolerate(&[libc::EEXIST]);
        (resolve(p, AT_FDCWD.into(), name, libc::O_PATH | libc::O_DIRECTORY).into(), false)
    }

    fn node(
        &self,
        p: &mut Program,
        device: &Device,
        directory: Arg,
        name: super::program::Data,
        empty: super::program::Data,
        fresh: bool,
    ) {
        if let Some(hosts) = device.hosts.filter(|_| self.bind) {
            p.call(libc::SYS_mknodat, &[directory, name.into(), (libc::S_IFREG | 0o644).into(), 0.into()])
                .tolerate(&[libc::EEXIST]);
            p.call(libc::SYS_move_mount, &[hosts.into(), empty.into(), directory, name.into(), F_EMPTY_PATH.into()]);
            return;
        }
        let call = p.call(libc::SYS_mknodat, &[directory, name.into(), device.mode.into(), device.number.into()]);
        if !fresh {
            // What the image has under this name may be anything: the host's node covers it.
            call.tolerate(&[libc::EEXIST]);
            if let Some(hosts) = device.hosts {
                p.call(
                    libc::SYS_move_mount,
                    &[hosts.into(), empty.into(), directory, name.into(), F_EMPTY_PATH.into()],
                )
                .after(libc::EEXIST);
            }
        }
        if device.owner != (0, 0) {
            let (uid, gid) = device.owner;
            p.call(
                libc::SYS_fchownat,
                &[directory, name.into(), uid.into(), gid.into(), libc::AT_SYMLINK_NOFOLLOW.into()],
            );
        }
    }

    fn links(&self, p: &mut Program, dev: Arg, fresh: bool) {
        p.section("/dev");
        for (name, target) in LINKS.into_iter().chain([("core", "/proc/kcore"), ("ptmx", "pts/ptmx")]) {
            let (name, target) = (p.text(name), p.text(target));
            if !fresh {
                p.call(libc::SYS_unlinkat, &[dev, name.into(), 0.into()]).tolerate(&[libc::ENOENT]);
            }
            p.call(libc::SYS_symlinkat, &[target.into(), dev, name.into()]);
        }
    }
}

/// Whether `path` is a name directly in /dev.
fn in_dev(path: &Path) -> bool {
    path.parent() == Some(Path::new("/dev"))
}
