//! What of the host is bound or copied, and who opens it.

use std::path::PathBuf;

use nix::libc;
use runb_init::{Point, Report};

use super::{MountStep, MountWork, Mounts, Planned, What};
use crate::host::standing::Standing;
use crate::plan::mounts::options::Reach;
use crate::plan::namespaces::Namespaces;
use crate::survey::Reader;
use crate::plan::program::{AT_FDCWD, AT_RECURSIVE, Hint, OPEN_TREE_CLONE, Program, Slot, TreeFlags};

/// How many the runtime opens at one stop: it has no more descriptors than its caller lets it have.
const AT_ONCE: usize = 32;

/// Who opens what the host has, when its turn comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// Init, which has the host's paths in view.
    Init,
    /// The runtime: in another user namespace the host's paths may be closed, and a mount namespace of others has other ones.
    Runtime,
}

impl Opener {
    /// A user may copy nothing before init is root of the container's user namespace; the user's paths are not closed to that.
    pub(super) fn of(namespaces: &Namespaces, standing: &Standing) -> Self {
        let enters = namespaces.has(libc::CLONE_NEWUSER as u64) || namespaces.joins_mounts();
        if enters && standing.may_mount() { Opener::Runtime } else { Opener::Init }
    }
}

/// A path of the host's, of whose tree a detached copy is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The place in config.json.
    pub place: String,
    /// The path.
    pub path: PathBuf,
    /// Whether the mounts below it are copied as well.
    pub reach: Reach,
    /// Who can look at it.
    reader: Reader,
    /// The type of the filesystem that it is bound for, where the entry is of no bind mount.
    instead_of: Option<String>,
}

impl Source {
    /// What is at a path of the host's that is in sight of the runtime.
    pub(super) fn at(place: &str, path: PathBuf, reach: Reach) -> Self {
        Source { place: place.to_owned(), path, reach, reader: Reader::Runtime, instead_of: None }
    }

    fn of(planned: &Planned<'_>) -> Option<Self> {
        let What::Source(path) = &planned.what else { return None };
        let reach = if planned.options.recursive_bind { Reach::Below } else { Reach::Top };
        let instead_of = planned.stands_in.then(|| planned.typ().to_owned());
        Some(Source { place: planned.place.clone(), path: path.clone(), reach, reader: planned.reader, instead_of })
    }

    /// What is done, in words.
    pub(crate) fn what(&self) -> String {
        let path = self.path.display();
        match &self.instead_of {
            Some(typ) => format!("bind source {path}, the host's, as the container can mount no {typ}"),
            None => format!("bind source {path}"),
        }
    }

    fn open(&self, p: &mut Program) -> Slot {
        p.section(self.place.as_str());
        p.doing(self.what());
        let below = if self.reach == Reach::Below { AT_RECURSIVE } else { TreeFlags::default() };
        p.open_tree(AT_FDCWD, &self.path, OPEN_TREE_CLONE | below).hint(Hint::MountedBelow).out()
    }
}

impl Mounts<'_> {
    /// Opens what the first of these entries binds. The runtime opens at one stop what is bound from there on, up to where something
    /// is made.
    pub(super) fn open_binds(&mut self, p: &mut Program, entries: &mut [Planned<'_>]) {
        let is_made = |planned: &Planned<'_>| matches!(planned.what, What::New | What::Created(_) | What::Cgroups(_));
        let (reach, most) = match self.opener {
            Opener::Init => (1, 1),
            Opener::Runtime => (entries.iter().position(is_made).unwrap_or(entries.len()), AT_ONCE),
        };
        // What only the root of the container's user namespace may look at is for init to open.
        let reader = entries[0].reader;
        let bound = |planned: &&mut Planned<'_>| matches!(planned.what, What::Source(_)) && planned.reader == reader;
        let bound = entries[..reach].iter_mut().filter(bound).take(most);
        let bound: Vec<&mut Planned<'_>> = bound.collect();
        let sources = bound.iter().filter_map(|planned| Source::of(planned)).collect();
        for (planned, tree) in bound.into_iter().zip(self.open_sources(p, sources)) {
            p.section(planned.place.as_str());
            if self.setter.reaches_detached() {
                self.settle(p, tree, planned);
            }
            planned.what = What::Tree(tree);
        }
    }

    /// Opens them: detached copies, in the same order.
    pub(super) fn open_sources(&mut self, p: &mut Program, sources: Vec<Source>) -> Vec<Slot> {
        let Some(Source { place, reader, .. }) = sources.first() else { return Vec::new() };
        if self.opener == Opener::Init || *reader == Reader::Container {
            return sources.iter().map(|source| source.open(p)).collect();
        }
        let (place, count) = (place.clone(), sources.len());
        p.section(place.as_str());
        p.doing("take what the runtime has opened");
        p.stop(Point::Mount);
        let message = p.message(Report::terminal(), count);
        p.recvmsg(p.report(), message);
        self.steps.push(MountStep { place, work: MountWork::Open(sources) });
        p.descriptors_of(message)
    }
}
