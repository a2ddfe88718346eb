//! What an entry names of the container itself, by the path of its root filesystem on the host: what earlier entries have
//! mounted there, and what the image has. It is there when the entry's turn comes, and is looked for inside, so that no link of the image
//! leads to the host.

use std::path::{Path, PathBuf};

use super::bind::Locks;
use super::{Filesystem, Mounts, Planned, What};
use crate::error::Result;
use crate::plan::program::{AT_EMPTY_PATH, AT_RECURSIVE, O_PATH, OPEN_TREE_CLONE, Program, TreeFlags};
use crate::survey;

/// The options of overlay that are paths; in a value of the first one several, with colons between.
const OVERLAY: [&str; 5] = ["lowerdir", "upperdir", "workdir", "lowerdir+", "datadir+"];

impl Mounts<'_> {
    /// What `path` names in the container, if by its name it lies there.
    pub(super) fn inside(&self, path: &Path) -> Option<PathBuf> {
        let root = self.request.spec.root().as_ref()?;
        survey::inside(&self.request.bundle.join(root.path()), path)
    }

    /// Opens or makes what lies inside, when its turn has come.
    pub(super) fn open_inside(&mut self, p: &mut Program, planned: &mut Planned<'_>) -> Result<()> {
        planned.what = match std::mem::replace(&mut planned.what, What::Change) {
            What::Inside(path) => {
                planned.had = self.attributes_at(&path);
                let hosts = self.done.over(&path).is_some_and(|mounted| mounted.filesystem == Filesystem::Hosts);
                self.bind_flags(planned, if hosts && self.user_namespace { Locks::Locked } else { Locks::Free })?;
                self.bind_inside(p, planned, &path)
            }
            What::NewInside => What::Made(self.filesystem(p, planned)?),
            what => what,
        };
        Ok(())
    }

    fn bind_inside(&self, p: &mut Program, planned: &Planned<'_>, path: &Path) -> What {
        p.doing(format!("bind source {} in the container", path.display()));
        let start = self.start(path);
        let place = match start.itself() {
            Some(mounted) => mounted.tree,
            None => {
                let name = if start.is_mount() { p.text(".") } else { start.name(p) };
                super::resolve(p, start.directory(), name, O_PATH)
            }
        };
        let below = if planned.options.recursive_bind { AT_RECURSIVE } else { TreeFlags::default() };
        let tree = p.open_tree(place, self.empty, OPEN_TREE_CLONE | AT_EMPTY_PATH | below).out();
        if self.setter.reaches_detached() {
            self.settle(p, tree, planned);
        }
        What::Tree(tree)
    }

    /// The source and the options of a new filesystem as it sees them that is made inside; `None` if all that they name is the host's.
    ///
    /// # Errors
    /// They name both: no root has both in sight.
    pub(super) fn names_inside(
        &self,
        typ: &str,
        source: &Path,
        data: &[String],
    ) -> std::result::Result<Option<(PathBuf, Vec<String>)>, String> {
        // The kernel's own take nothing from there, and have to be made while those of the host are in sight.
        if ["proc", "sysfs"].contains(&typ) {
            return Ok(None);
        }
        let (mut here, mut there) = (None, None);
        let mut name = |path: &str| match self.inside(Path::new(path)).filter(|_| path.starts_with('/')) {
            Some(place) => {
                here.get_or_insert_with(|| path.to_owned());
                place.display().to_string()
            }
            None => {
                if path.starts_with('/') {
                    there.get_or_insert_with(|| path.to_owned());
                }
                path.to_owned()
            }
        };
        let own = source.to_str().map_or_else(|| source.to_owned(), |path| name(path).into());
        let mut translated = data.to_vec();
        for option in translated.iter_mut().filter(|_| typ == "overlay") {
            if let Some((key, value)) = option.split_once('=').filter(|(key, _)| OVERLAY.contains(key)) {
                let names: Vec<String> = value.split(':').map(&mut name).collect();
                *option = format!("{key}={}", names.join(":"));
            }
        }
        match (here, there) {
            (Some(here), Some(there)) => {
                Err(format!("{here} lies in the root filesystem and {there} does not: no filesystem is made of both"))
            }
            (Some(_), None) => Ok(Some((own, translated))),
            (None, _) => Ok(None),
        }
    }
}
