//! Network devices that move into a container's network namespace, with what they are there for: config-linux.md "Network
//! Devices". The kernel keeps a device's MTU, hardware address and flags on the way, and drops its addresses.

mod netlink;

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Parseable};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressMessageBuffer, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use nix::errno::Errno;
use nix::libc;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::plan::NetDevice;
use netlink::{Link, Netlink};

/// A device of the runtime's network namespace as it was found: what it takes to put it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    place: String,
    name: String,
    inside: String,
    index: u32,
    up: bool,
    hardware: Vec<u8>,
    /// The kernel's messages of its addresses.
    addresses: Vec<Vec<u8>>,
    /// The namespace that it goes to, where that is one of others, and its inode.
    joined: Option<(PathBuf, u64)>,
}

/// Looks at the devices that are to be moved: before anything is made for the container.
///
/// # Errors
/// One is missing, or is named twice.
pub(crate) fn look(wanted: &[NetDevice]) -> Result<Vec<Device>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut here = Netlink::here().map_err(no_socket)?;
    let mut devices: Vec<Device> = Vec::new();
    for NetDevice { place, name, inside, joined } in wanted {
        let failed = |errno| {
            let text = format!("link not found for interface {name} on runtime namespace");
            Error::host(text, errno).at(place.as_str())
        };
        let link = here.link(name).map_err(failed)?;
        if let Some(other) = devices.iter().find(|device| device.index == link.index) {
            let text = format!("{name} is another name of the device of {}", other.place);
            return Err(Error::new(Kind::Spec, text).at(place.as_str()));
        }
        let addresses = here.addresses(link.index).map_err(|errno| {
            Error::host(format!("look at the addresses of the network device {name}"), errno).at(place.as_str())
        })?;
        let joined = joined.as_ref().map(|path| inode(path).map(|inode| (path.clone(), inode)));
        devices.push(Device {
            place: place.clone(),
            name: name.clone(),
            inside: inside.clone(),
            index: link.index,
            up: link.is_up(),
            hardware: link.hardware,
            addresses,
            joined: joined.transpose().map_err(|error| error.at(place.as_str()))?,
        });
    }
    Ok(devices)
}

impl Device {
    /// The addresses in the order that makes the kernel list them as before: the latest of version 6 comes first.
    fn in_order(&self) -> impl Iterator<Item = &Vec<u8>> {
        let is_v6 = |address: &&Vec<u8>| address.first() == Some(&(libc::AF_INET6 as u8));
        let others = self.addresses.iter().filter(move |address| !is_v6(address));
        others.chain(self.addresses.iter().rev().filter(is_v6))
    }
}

fn inode(path: &Path) -> Result<u64> {
    std::fs::metadata(path).map(|meta| meta.ino()).map_err(|e| Error::io(format!("stat {}", path.display()), &e))
}

fn no_socket(errno: Errno) -> Error {
    Error::host("open a socket to the kernel's network devices (rtnetlink)", errno).at("linux.netDevices")
}

/// Permanent, and of global scope: what the specification moves.
fn is_kept(address: &[u8]) -> bool {
    let Some(message) = parse(address) else { return false };
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(flags.contains(AddressFlags::Permanent)),
        _ => None,
    });
    let permanent = flags.unwrap_or(message.header.flags.contains(AddressHeaderFlags::Permanent));
    permanent && message.header.scope == AddressScope::Universe
}

fn parse(address: &[u8]) -> Option<AddressMessage> {
    AddressMessage::parse(&AddressMessageBuffer::new_checked(&address).ok()?).ok()
}

/// The container's network namespace. It lives as long as this does, so that no device goes with it.
pub(crate) struct Inside {
    namespace: File,
    netlink: Netlink,
    /// The devices that were moved: their places and their indices there.
    moved: Vec<(String, u32)>,
}

impl Inside {
    /// That of a process which waits, or is known to live.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn of(pid: i32) -> Result<Self> {
        Inside::at(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    fn at(path: &Path) -> Result<Self> {
        let namespace = File::open(path).map_err(|e| Error::io(format!("open {}", path.display()), &e))?;
        let netlink = Netlink::within(&namespace).map_err(no_socket)?;
        Ok(Inside { namespace, netlink, moved: Vec::new() })
    }

    /// That of a container whose create was killed: the one it has joined, or that of its init.
    pub(crate) fn again(devices: &[&Device], init: impl FnOnce() -> Option<i32>) -> Option<Self> {
        match &devices.first()?.joined {
            Some((path, number)) => {
                let inside = Inside::at(path).ok()?;
                inside.namespace.metadata().is_ok_and(|meta| meta.ino() == *number).then_some(inside)
            }
            None => Inside::of(init()?).ok(),
        }
    }

    /// Brings up the loopback device, as a launch does.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn bring_loopback_up(&mut self) -> Result<()> {
        let lo = self.netlink.link("lo").map_err(|errno| Error::host("look for lo in the container", errno))?;
        self.netlink.change(up(lo.index), 0).map_err(|errno| Error::host("bring lo up in the container", errno))
    }

    /// Moves the devices in: all of them, or the error tells why not, and what was moved is still to be taken back.
    ///
    /// # Errors
    /// A name is taken there, or the kernel refuses a device, a name or an address.
    pub(crate) fn give(&mut self, devices: &[Device]) -> Result<()> {
        for device in devices {
            self.check_name(device).map_err(|error| error.at(device.place.as_str()))?;
        }
        let mut here = Netlink::here().map_err(no_socket)?;
        for device in devices {
            self.give_one(&mut here, device).map_err(|error| error.at(device.place.as_str()))?;
        }
        Ok(())
    }

    fn check_name(&mut self, device: &Device) -> Result<()> {
        let Device { inside, .. } = device;
        if inside.contains('%') {
            return Ok(());
        }
        match self.netlink.link(inside) {
            Err(Errno::ENODEV) => Ok(()),
            Ok(_) => Err(Error::host(
                format!("there is a network device {inside} in the container's network namespace already"),
                Errno::EEXIST,
            )),
            Err(errno) => Err(Error::host(format!("look for a network device {inside} in the container"), errno)),
        }
    }

    fn give_one(&mut self, here: &mut Netlink, device: &Device) -> Result<()> {
        let Device { name, inside, .. } = device;
        let what = |what: &str| format!("{what} the network device {name}, in the container {inside}");
        // The kernel tells nobody under which number it lies there, so that it is told which one.
        let there = self.netlink.links().map_err(|errno| Error::host("look at the container's devices", errno))?;
        let taken = there.iter().any(|link| link.index == device.index);
        let highest = there.iter().map(|link| link.index).max().unwrap_or_default();
        let index = if taken { highest.max(device.index) + 1 } else { device.index };
        let message = moved(device.index, inside, index, self.namespace.as_raw_fd());
        let result = here.change(message, 0);
        // The kernel moves it first, and renames it then: it may be there though the call has failed.
        if result.is_ok() || here.link_of(device.index).is_err() {
            self.moved.push((device.place.clone(), index));
        }
        result.map_err(|errno| Error::host(what("move"), errno))?;
        let link = self.netlink.link_of(index).map_err(|errno| Error::host(what("find"), errno))?;
        for address in device.in_order().filter(|address| is_kept(address)) {
            add(&mut self.netlink, address, (name, &link.name), index)
                .map_err(|errno| Error::host(what(&format!("give back {} to", text(address))), errno))?;
        }
        self.netlink.change(up(index), 0).map_err(|errno| Error::host(what("bring up"), errno))
    }

    /// Puts a device back where it was found, as it was; if it is here.
    ///
    /// # Errors
    /// The kernel refuses it: its name or an address of it is another's by now.
    pub(crate) fn take_back(&mut self, device: &Device) -> Result<()> {
        let Device { name, index, .. } = device;
        let what = |what: &str| format!("{what} the network device {name}, in the runtime's namespace again");
        let Some(there) = self.find(device) else { return Ok(()) };
        let own = "/proc/thread-self/ns/net";
        let own = File::open(own).map_err(|e| Error::io(format!("open {own}"), &e))?;
        let mut here = Netlink::here().map_err(no_socket)?;
        let links = here.links().map_err(|errno| Error::host(what("look for"), errno))?;
        let taken = links.iter().any(|link| link.index == *index);
        let highest = links.iter().map(|link| link.index).max().unwrap_or_default();
        let index = if taken { highest + 1 } else { *index };
        let message = moved(there, name, index, own.as_raw_fd());
        self.netlink.change(message, 0).map_err(|errno| Error::host(what("move"), errno))?;
        for address in device.in_order() {
            let added = add(&mut here, address, (name, name), index);
            // The kernel may have given it one of its own again.
            added
                .or_else(|errno| if errno == Errno::EEXIST { Ok(()) } else { Err(errno) })
                .map_err(|errno| Error::host(what(&format!("give back {} to", text(address))), errno))?;
        }
        if device.up {
            here.change(up(index), 0).map_err(|errno| Error::host(what("bring up"), errno))?;
        }
        Ok(())
    }

    /// The index of the device here. One that a killed runtime has moved is known by its name and its hardware address.
    fn find(&mut self, device: &Device) -> Option<u32> {
        if let Some((_, index)) = self.moved.iter().find(|(place, _)| *place == device.place) {
            return Some(*index);
        }
        // What is still where it was found has not been moved.
        if Netlink::here().and_then(|mut here| here.link(&device.name)).is_ok_and(|link| link.index == device.index) {
            return None;
        }
        let (before, after) = device.inside.split_once("%d").unwrap_or((&device.inside, ""));
        let named = |link: &&Link| {
            let number = link.name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            link.name == device.inside
                || link.name == device.name
                || number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        let links = self.netlink.links().ok()?;
        links.iter().find(|link| named(link) && link.hardware == device.hardware).map(|link| link.index)
    }
}

/// A link as it is moved to a namespace, with a name and an index there.
fn moved(index: u32, name: &str, new_index: u32, namespace: RawFd) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![
        LinkAttribute::NetNsFd(namespace),
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::NewIfIndex(new_index as i32),
    ];
    RouteNetlinkMessage::SetLink(message)
}

fn up(index: u32) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// Gives an address to the link `index`, as the kernel had it: with its peer, broadcast address, label, metric and lifetimes.
fn add(to: &mut Netlink, address: &[u8], (old, new): (&str, &str), index: u32) -> std::result::Result<(), Errno> {
    /// What an administrator sets of `IFA_F_*` (include/uapi/linux/if_addr.h); the others are the kernel's own.
    const SET: u32 = libc::IFA_F_NODAD
        | libc::IFA_F_HOMEADDRESS
        | libc::IFA_F_MANAGETEMPADDR
        | libc::IFA_F_NOPREFIXROUTE
        | libc::IFA_F_MCAUTOJOIN;
    let mut message = parse(address).ok_or(Errno::EBADMSG)?;
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::empty();
    message.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::TargetNetNsId(_)));
    let deprecated = message.attributes.iter().any(
        |attribute| matches!(attribute, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Deprecated)),
    );
    for attribute in &mut message.attributes {
        match attribute {
            // Of an address that is there for ever the kernel tells by a flag alone that it is not to be preferred.
            AddressAttribute::CacheInfo(times) if deprecated => times.ifa_preferred = 0,
            AddressAttribute::Flags(flags) => *flags = AddressFlags::from_bits_retain(flags.bits() & SET),
            // `eth0:1` has the device's name in it.
            AddressAttribute::Label(label) => {
                if let Some(rest) = label.strip_prefix(old) {
                    *label = format!("{new}{rest}");
                }
            }
            _ => {}
        }
    }
    to.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// An address as `10.0.0.1/24`.
fn text(address: &[u8]) -> String {
    let Some(message) = parse(address) else { return "an address".to_owned() };
    let find = |wanted: fn(&AddressAttribute) -> Option<std::net::IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let either = local.or_else(|| find(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None }));
    either.map_or("an address".to_owned(), |ip| format!("{ip}/{}", message.header.prefix_len))
}
