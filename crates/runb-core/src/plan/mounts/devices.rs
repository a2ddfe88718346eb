//! config-linux.md "Devices" and "Default Devices": the nodes and links in /dev.

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::list::Mounts;
use super::masks::Null;
use crate::error::{Error, Result};
use crate::plan::check;
use crate::plan::namespaces::Namespaces;
use crate::plan::program::{AT_FDCWD, Data, MOVE_MOUNT_F_EMPTY_PATH, Number, O_RDWR, OPEN_TREE_CLONE, Program, RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, Slot};
use crate::plan::request::Request;
use crate::survey::{DEFAULT_DEVICES, Found, clean, is_bind};

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A link only where the kernel has the file (CONFIG_PROC_KCORE).
const CORE: (&str, &str) = ("core", "/proc/kcore");

struct Device {
    place: String,
    path: PathBuf,
    mode: u32,
    number: u64,
    owner: (u32, u32),
    /// What is there already.
    found: Found,
    /// The host's node, where mknod(2) is forbidden.
    hosts: Option<Slot>,
}

impl Device {
    fn of(i: usize, device: &LinuxDevice) -> Result<Self> {
        let path = clean(device.path());
        let place = format!("linux.devices[{i}] ({})", path.display());
        let kind = match device.typ() {
            LinuxDeviceType::B => libc::S_IFBLK,
            LinuxDeviceType::P => libc::S_IFIFO,
            LinuxDeviceType::C | LinuxDeviceType::U => libc::S_IFCHR,
            LinuxDeviceType::A => return Err(Error::spec(place, "type \"a\" is for cgroup rules: c, b, u or p")),
        };
        if path == Path::new("/") {
            return Err(Error::spec(place, "the root is no device"));
        }
        let number = |name: &str, number: i64| {
            let wrong = |_| {
                Error::spec(
                    format!("linux.devices[{i}].{name} ({})", path.display()),
                    format!("{number} is no number of a device"),
                )
            };
            u32::try_from(number).map_err(wrong)
        };
        let number = match kind {
            libc::S_IFIFO => 0,
            _ => libc::makedev(number("major", device.major())?, number("minor", device.minor())?),
        };
        let mode = kind | device.file_mode().unwrap_or(0o666) & 0o7777;
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        for (field, id) in [("uid", owner.0), ("gid", owner.1)] {
            check::id(id)
                .map_err(|text| Error::spec(format!("linux.devices[{i}].{field} ({})", path.display()), text))?;
        }
        Ok(Device { place, path, mode, number, owner, found: Found::Unknown, hosts: None })
    }

    fn default((name, major, minor): (&str, u32, u32)) -> Self {
        let path = Path::new("/dev").join(name);
        let number = libc::makedev(major, minor);
        Device {
            place: format!("/dev/{name}"),
            path,
            mode: libc::S_IFCHR | 0o666,
            number,
            owner: (0, 0),
            found: Found::Unknown,
            hosts: None,
        }
    }

    /// config-linux.md: what is there and does not match is an error. init itself uses none of these nodes, so that one that
    /// is exchanged after this look misleads nobody but the container.
    fn check(&self) -> Result<()> {
        match self.found {
            Found::Node { kind, number } if kind != self.mode & libc::S_IFMT || number != self.number => {
                Err(Error::spec(self.place.as_str(), "something else is at this path of the root filesystem"))
            }
            _ => Ok(()),
        }
    }

    fn is_fifo(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFIFO
    }

    /// Whether it is a name directly in /dev.
    fn in_dev(&self) -> bool {
        self.path.parent() == Some(Path::new("/dev"))
    }
}

/// What this configuration makes of /dev.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dev {
    /// Whoever binds a /dev brings what is in it.
    Bound,
    /// A new tmpfs.
    Fresh,
    /// What the image has.
    Images,
}

/// The devices of a container.
pub(in crate::plan) struct Devices {
    list: Vec<Device>,
    dev: Dev,
    core: bool,
}

impl Devices {
    /// Lists them. A user namespace forbids mknod(2): then the host's nodes are bound, and they are opened here.
    pub(in crate::plan) fn open(p: &mut Program, request: &Request<'_>, namespaces: &Namespaces) -> Result<Self> {
        let (spec, survey) = (request.spec, request.survey);
        let at_dev = spec.mounts().iter().flatten().rfind(|mount| clean(mount.destination()).as_os_str() == "/dev");
        let dev = match at_dev {
            Some(mount) if is_bind(mount) => Dev::Bound,
            Some(mount) if mount.typ().as_deref() == Some("tmpfs") => Dev::Fresh,
            _ => Dev::Images,
        };
        let bind = namespaces.has(libc::CLONE_NEWUSER as u64) || !request.host.makes_devices();
        let mut devices = Devices { list: Vec::new(), dev, core: survey.kcore };
        if dev == Dev::Bound {
            return Ok(devices);
        }
        for (i, device) in spec.linux().iter().filter_map(|linux| linux.devices().as_ref()).flatten().enumerate() {
            // runc and the specification agree that this one is always the container's own pts/ptmx.
            if clean(device.path()) != Path::new("/dev/ptmx") {
                devices.list.push(Device::of(i, device)?);
            }
        }
        for default in DEFAULT_DEVICES.map(Device::default) {
            if !devices.list.iter().any(|device| device.path.as_os_str() == default.path.as_os_str()) {
                devices.list.push(default);
            }
        }
        for device in &mut devices.list {
            device.found = match dev {
                Dev::Fresh if device.in_dev() => Found::Absent,
                _ => survey.found(&device.path),
            };
            if !bind || device.is_fifo() {
                device.check()?;
                continue;
            }
            p.section(device.place.as_str());
            device.hosts = Some(p.open_tree(AT_FDCWD, &device.path, OPEN_TREE_CLONE).out());
        }
        Ok(devices)
    }

    /// Whose /dev/null the container will have: what an image has could be exchanged while this program runs.
    pub(in crate::plan) fn null(&self, spec: &Spec) -> Null {
        let null = "/dev/null";
        let covered = spec.mounts().iter().flatten().any(|mount| clean(mount.destination()).as_os_str() == null);
        let kernels = |device: &Device| {
            device.path.as_os_str() == null && device.number == libc::makedev(1, 3) && device.mode & libc::S_IFMT == libc::S_IFCHR
        };
        match self.dev == Dev::Fresh && !covered && self.list.iter().any(kernels) {
            true => Null::Made,
            false => Null::Brought,
        }
    }

    /// Makes them.
    pub(in crate::plan) fn attach(&self, p: &mut Program, mounts: &Mounts<'_>) {
        if self.dev == Dev::Bound {
            return;
        }
        let empty = p.text("");
        p.section("/dev");
        let dev = mounts.directory(p, Path::new("/dev"));
        for device in &self.list {
            p.section(device.place.as_str());
            let directory = match device.in_dev() {
                true => dev,
                false => mounts.directory(p, device.path.parent().unwrap_or(Path::new("/"))),
            };
            let name = p.text(device.path.file_name().unwrap_or_default().as_encoded_bytes());
            p.doing(format!("make the device {}", device.path.display()));
            self.node(p, device, directory, name, empty);
        }
        self.links(p, dev);
    }

    /// Standard descriptors that are the host's null device become the container's, as with runc: whoever has a descriptor of a
    /// file may change the file's rights if it is theirs, and CRIU knows what lies on a mount of the container. Only where this
    /// program has made it: nothing that an image or the host has in its place is opened.
    pub(in crate::plan) fn open_null(&self, p: &mut Program, request: &Request<'_>, mounts: &Mounts<'_>) {
        let null = &request.survey.stdio.null;
        if null.is_empty() || self.null(request.spec) == Null::Brought {
            return;
        }
        p.section("/dev/null");
        p.doing("open the container's null device as a standard descriptor");
        let place = mounts.start(Path::new("/dev/null"));
        let name = place.name(p);
        // linux.resources.devices, or `nodev`, may forbid it.
        let resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
        let opened = p.openat2(place.directory(), name, O_RDWR, resolve).tolerate(&[libc::EPERM, libc::EACCES]).out();
        for descriptor in null {
            p.dup2(opened, *descriptor).after_success();
        }
        p.close(opened).after_success();
    }

    fn node(&self, p: &mut Program, device: &Device, directory: Number, name: Data, empty: Data) {
        if let Some(hosts) = device.hosts {
            p.mknodat(directory, name, libc::S_IFREG | 0o644, 0).tolerate(&[libc::EEXIST, libc::EROFS]);
            p.move_mount(hosts, empty, directory, name, MOVE_MOUNT_F_EMPTY_PATH);
            return;
        }
        if matches!(device.found, Found::Node { .. }) {
            return;
        }
        let call = p.mknodat(directory, name, device.mode, device.number);
        let unsure = device.found == Found::Unknown;
        if unsure {
            // In a filesystem that nobody could look into: what is there stays, as with runc.
            call.tolerate(&[libc::EEXIST]);
        }
        if device.owner != (0, 0) {
            let call = p.lchownat(directory, name, device.owner);
            if unsure {
                call.after_success();
            }
        }
    }

    fn links(&self, p: &mut Program, dev: Number) {
        p.section("/dev");
        for (name, target) in LINKS.into_iter().chain(self.core.then_some(CORE)) {
            p.doing(format!("link /dev/{name} to {target}"));
            let own = name == "ptmx";
            let (name, target) = (p.text(name), p.text(target));
            if self.dev == Dev::Images && own {
                p.unlinkat(dev, name).tolerate(&[libc::ENOENT, libc::EROFS]);
            }
            let call = p.symlinkat(target, dev, name);
            if self.dev == Dev::Images {
                // As runc: what the image has stays, but for ptmx, which must be the container's own.
                call.tolerate(if own { &[libc::EROFS] } else { &[libc::EEXIST, libc::EROFS] });
            }
        }
    }
}
