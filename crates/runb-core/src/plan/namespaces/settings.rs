//! What is set in namespaces that are the container's own: the loopback device, names, sysctls.

use std::collections::BTreeMap;

use nix::libc;
use oci_spec::runtime::Spec;

use super::Namespaces;
use crate::error::{Error, Result};
use crate::plan::procfs::HostsProc;
use crate::plan::program::Program;

/// A new network namespace has a loopback device that is down.
pub(in crate::plan) fn network(p: &mut Program, namespaces: &Namespaces) {
    if !namespaces.makes(libc::CLONE_NEWNET as u64) {
        return;
    }
    p.section("linux.namespaces");
    p.doing("bring lo up");
    let socket = p.socket_dgram(libc::AF_INET).tolerate(&[libc::EAFNOSUPPORT]).out();
    p.ioctl_siocsifflags(socket, "lo", libc::IFF_UP | libc::IFF_RUNNING).after_success();
    p.close(socket).after_success();
}

/// hostname, domainname and linux.sysctl: the namespaces are the container's, the procfs still the host's.
pub(in crate::plan) fn names_and_sysctls(
    p: &mut Program,
    spec: &Spec,
    namespaces: &Namespaces,
    procfs: &HostsProc,
) -> Result<()> {
    if let Some(name) = spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        p.section("hostname");
        p.sethostname(name);
    }
    if let Some(name) = spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        p.section("domainname");
        p.setdomainname(name);
    }
    let sysctls = spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten();
    for (key, value) in sysctls.collect::<BTreeMap<_, _>>() {
        let place = format!("linux.sysctl[{key}]");
        let path = sysctl_path(&place, key, namespaces)?;
        p.section(place);
        p.doing(format!("write {value:?} to /proc/sys/{path}"));
        procfs.write(p, &format!("sys/{path}"), value);
    }
    Ok(())
}

/// The path of a sysctl below /proc/sys, if a namespace of the container's own holds it.
///
/// As sysctl(8): the first separator decides which of `.` and `/` separates; the other one is part of a name.
fn sysctl_path(place: &str, key: &str, namespaces: &Namespaces) -> Result<String> {
    let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashes { key.to_owned() } else { key.chars().map(swap).collect() };
    if path.split('/').any(|name| name.is_empty() || name == "." || name == "..") {
        return Err(Error::spec(place, "is no name of a sysctl"));
    }
    if path == "kernel/hostname" {
        return Err(Error::spec(place, "conflicts with \"hostname\", which is the field for it"));
    }
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let needs = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        Some((libc::CLONE_NEWIPC, "ipc"))
    } else if path.starts_with("net/") {
        Some((libc::CLONE_NEWNET, "network"))
    } else if path == "kernel/domainname" {
        Some((libc::CLONE_NEWUTS, "uts"))
    } else if path.starts_with("user/") {
        Some((libc::CLONE_NEWUSER, "user"))
    } else {
        None
    };
    match needs {
        None => Err(Error::spec(place, "is not in a namespace: it would change the host")),
        Some((kind, name)) if !namespaces.has(kind as u64) => {
            Err(Error::spec(place, format!("needs a {name} namespace of its own: it would change the host")))
        }
        Some(_) => Ok(path),
    }
}
