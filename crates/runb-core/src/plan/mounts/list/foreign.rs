//! Filesystems of a namespace in which init has no rights: sysfs of the network's, mqueue of ipc's, procfs of pid's. What the host
//! has of it is bound in its place, as other runtimes do, and a warning tells. Nothing below gets more than was asked for.

use std::path::PathBuf;

use nix::libc;

use super::{Mounts, What};
use crate::plan::mounts::options::{Attributes, Parsed, SWITCHES};
use crate::survey::Kind;

/// A type, the namespace that it is of, its name, and where the host has it.
const OF_NAMESPACES: [(&str, i32, &str, &str); 3] = [
    ("sysfs", libc::CLONE_NEWNET, "network", "/sys"),
    ("mqueue", libc::CLONE_NEWIPC, "ipc", "/dev/mqueue"),
    ("proc", libc::CLONE_NEWPID, "pid", "/proc"),
];

impl Mounts<'_> {
    /// What is bound in the place of a filesystem of the type `typ`, and what it is, if init can make none.
    pub(super) fn in_place_of(&mut self, typ: &str, place: &str, options: &mut Parsed) -> Option<(What, Kind)> {
        let (_, kind, name, path) = OF_NAMESPACES.into_iter().find(|(known, ..)| *known == typ)?;
        if self.request.survey.foreign & kind as u64 == 0 {
            return None;
        }
        // The host's procfs shows the host's processes: those of a pid namespace that is joined are not among them, as such.
        if typ == "proc" && self.pid_namespace {
            return None;
        }
        self.warnings.push(format!(
            "{place}: the {name} namespace was made in a user namespace in which the container has no rights, and no {typ} can be \
             mounted for it: the host's {path} is bound in its place"
        ));
        let set = options.attributes().set & SWITCHES;
        let data = std::mem::take(&mut options.data);
        if !data.is_empty() {
            self.warnings.push(format!("{place}: {}: has no effect on the host's", data.join(",")));
        }
        *options = Parsed { recursive_bind: true, propagation: std::mem::take(&mut options.propagation), ..Parsed::default() };
        match self.setter.reaches_detached() {
            true => options.recursive = Attributes::setting(set),
            // mount(2) reaches no mount below.
            false => options.own = Attributes::setting(set),
        }
        Some((What::Source(PathBuf::from(path)), Kind::Directory))
    }
}
