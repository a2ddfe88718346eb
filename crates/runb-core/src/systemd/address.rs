//! Where systemd listens. Source: "Server Addresses" of the D-Bus Specification.

use std::path::PathBuf;

use nix::sys::socket::UnixAddr;

use crate::options::{Systemd, Whose};

/// Who is at the other end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// systemd itself.
    Manager,
    /// A bus that it is on.
    Bus,
}

/// A name of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// A place where systemd can be spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) peer: Peer,
    pub(super) socket: Socket,
}

impl Address {
    pub(super) fn at(peer: Peer, path: impl Into<PathBuf>) -> Self {
        Address { peer, socket: Socket::Path(path.into()) }
    }

    pub(super) fn unix(&self) -> nix::Result<UnixAddr> {
        match &self.socket {
            Socket::Path(path) => UnixAddr::new(path),
            Socket::Abstract(name) => UnixAddr::new_abstract(name),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.socket {
            Socket::Path(path) => write!(f, "{}", path.display()),
            Socket::Abstract(name) => write!(f, "@{}", name.escape_ascii()),
        }
    }
}

/// The folder that systemd keeps its sockets and units in; none if the user's is not known.
pub(crate) fn folder(systemd: &Systemd) -> Option<PathBuf> {
    match systemd.whose {
        Whose::System => Some("/run/systemd".into()),
        Whose::User => systemd.runtime_dir.as_deref().filter(|dir| dir.is_absolute()).map(|dir| dir.join("systemd")),
    }
}

/// Where it is tried: first systemd's own socket, which needs no bus to be up and is root's, or the user's, alone.
pub(super) fn addresses(systemd: &Systemd) -> Vec<Address> {
    let folder = folder(systemd);
    let mut addresses: Vec<_> =
        folder.iter().map(|folder| Address::at(Peer::Manager, folder.join("private"))).collect();
    match systemd.whose {
        Whose::System => addresses.push(Address::at(Peer::Bus, "/run/dbus/system_bus_socket")),
        Whose::User => {
            addresses.extend(parse(systemd.session_bus.as_deref().unwrap_or_default()));
            let bus = folder.as_deref().map(|folder| Address::at(Peer::Bus, folder.with_file_name("bus")));
            addresses.extend(bus.filter(|bus| !addresses.contains(bus)));
        }
    }
    addresses
}

/// The unix sockets of a list like `unix:path=/run/user/1000/bus,guid=…;unix:abstract=x`. What has no other form here (tcp,
/// launchd, a program to be run) is passed over.
fn parse(list: &str) -> Vec<Address> {
    let socket = |address: &str| {
        let keys = address.strip_prefix("unix:")?;
        keys.split(',').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| match key {
            "path" => Some(Socket::Path(into_path(unescaped(value)?))),
            "abstract" => Some(Socket::Abstract(unescaped(value)?)),
            _ => None,
        })
    };
    list.split(';').filter_map(socket).map(|socket| Address { peer: Peer::Bus, socket }).collect()
}

fn into_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

/// `%2f` is a byte.
fn unescaped(value: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push((high * 16 + low) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_a_bus_are_read_with_their_escapes_and_others_are_passed_over() {
        let list =
            "tcp:host=x,port=1;unix:guid=ab,path=/run/a%2cb%20c;unix:abstract=/tmp/x;unix:path=/bad%2;unix:dir=/tmp";
        let names: Vec<_> = parse(list).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["/run/a,b c", "@/tmp/x"]);
    }

    #[test]
    fn a_users_systemd_is_tried_at_its_own_socket_then_at_the_bus_that_is_named_then_at_the_usual_one() {
        let systemd = |runtime_dir: Option<&str>, session_bus: Option<&str>| {
            let runtime_dir = runtime_dir.map(PathBuf::from);
            let session_bus = session_bus.map(str::to_owned);
            let systemd = Systemd { whose: Whose::User, runtime_dir, session_bus, ..Systemd::default() };
            addresses(&systemd).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let own = ["/run/user/1/systemd/private", "/run/user/1/bus"];
        assert_eq!(systemd(Some("/run/user/1"), None), own);
        assert_eq!(systemd(Some("/run/user/1"), Some("unix:path=/run/user/1/bus")), own);
        assert_eq!(systemd(Some("/run/user/1"), Some("unix:path=/x")), [own[0], "/x", own[1]]);
        assert_eq!(systemd(Some("relative"), Some("unix:abstract=/x")), ["@/x"]);
        assert_eq!(systemd(None, None), [""; 0]);
    }
}
