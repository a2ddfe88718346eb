//! Which of the things that were put over each other one finds at a path.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was put at paths of a tree, in order: the last that is at a path or above it is what one finds there. It is looked
/// for by the names of the path, so that many mounts cost no more for each than few.
#[derive(Debug)]
pub(crate) struct Covers<T> {
    list: Vec<T>,
    /// By a clean path, those of the list there, in order.
    places: BTreeMap<Vec<u8>, Vec<usize>>,
    #[cfg(test)]
    pub(crate) lookups: std::cell::Cell<usize>,
}

impl<T> Default for Covers<T> {
    fn default() -> Self {
        Covers {
            list: Vec::new(),
            places: BTreeMap::new(),
            #[cfg(test)]
            lookups: Default::default(),
        }
    }
}

impl<T> Covers<T> {
    /// Puts `item` at `path`, which is absolute and [`clean`].
    pub(crate) fn push(&mut self, path: &Path, item: T) {
        self.places.entry(path.as_os_str().as_bytes().to_vec()).or_default().push(self.list.len());
        self.list.push(item);
    }

    /// The last one at `path`, to change it.
    pub(crate) fn at_mut(&mut self, path: &Path) -> Option<&mut T> {
        self.last_at(path.as_os_str().as_bytes(), self.list.len()).map(|index| &mut self.list[index])
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The last one at `path` or above it.
    pub(crate) fn over(&self, path: &Path) -> Option<&T> {
        self.over_when(path, self.list.len())
    }

    /// The same when there were `count`.
    pub(crate) fn over_when(&self, path: &Path, count: usize) -> Option<&T> {
        let index = self.last_at(path.as_os_str().as_bytes(), count).max(self.last_above(path, count));
        index.map(|index| &self.list[index])
    }

    /// The last one above `path`.
    pub(crate) fn above(&self, path: &Path) -> Option<&T> {
        self.last_above(path, self.list.len()).map(|index| &self.list[index])
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    fn last_above(&self, path: &Path, count: usize) -> Option<usize> {
        let path = path.as_os_str().as_bytes();
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let root = if path.len() > 1 { self.last_at(b"/", count) } else { None };
        slashes.map(|(end, _)| self.last_at(&path[..end], count)).fold(root, Option::max)
    }

    fn last_at(&self, path: &[u8], count: usize) -> Option<usize> {
        #[cfg(test)]
        self.lookups.set(self.lookups.get() + 1);
        let here = self.places.get(path)?;
        here[..here.partition_point(|index| *index < count)].last().copied()
    }
}
