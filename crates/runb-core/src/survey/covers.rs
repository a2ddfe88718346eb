//! Which of the things that were put over each other one finds at a path.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was put at paths of a tree, in order: the last that is at a path or above it is what one finds there. It is looked
/// for by the names of the path, so that many mounts cost no more for each than few.
#[derive(Debug)]
pub(crate) struct Covers<T> {
    list: Vec<T>,
    /// By a clean path, the last of the list there.
    last: BTreeMap<Vec<u8>, usize>,
    #[cfg(test)]
    pub(crate) lookups: std::cell::Cell<usize>,
}

impl<T> Default for Covers<T> {
    fn default() -> Self {
        Covers {
            list: Vec::new(),
            last: BTreeMap::new(),
            #[cfg(test)]
            lookups: Default::default(),
        }
    }
}

impl<T> Covers<T> {
    /// Puts `item` at `path`, which is absolute and [`clean`].
    pub(crate) fn push(&mut self, path: &Path, item: T) {
        self.last.insert(path.as_os_str().as_bytes().to_vec(), self.list.len());
        self.list.push(item);
    }

    /// The last one at `path`, to change it.
    pub(crate) fn at_mut(&mut self, path: &Path) -> Option<&mut T> {
        self.last_at(path.as_os_str().as_bytes()).map(|index| &mut self.list[index])
    }

    /// The last one at `path` or above it.
    pub(crate) fn over(&self, path: &Path) -> Option<&T> {
        let index = self.last_at(path.as_os_str().as_bytes()).max(self.last_above(path));
        index.map(|index| &self.list[index])
    }

    /// The last one above `path`.
    pub(crate) fn above(&self, path: &Path) -> Option<&T> {
        self.last_above(path).map(|index| &self.list[index])
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    fn last_above(&self, path: &Path) -> Option<usize> {
        let path = path.as_os_str().as_bytes();
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let root = if path.len() > 1 { self.last_at(b"/") } else { None };
        slashes.map(|(end, _)| self.last_at(&path[..end])).fold(root, Option::max)
    }

    fn last_at(&self, path: &[u8]) -> Option<usize> {
        #[cfg(test)]
        self.lookups.set(self.lookups.get() + 1);
        self.last.get(path).copied()
    }
}
