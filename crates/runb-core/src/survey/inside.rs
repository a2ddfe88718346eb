//! Paths of the host that lie in the root filesystem, by their names: what they lead to is the container's.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use super::{clean, rest};

/// The path in the container of what `path` names on the host, if by its name it lies in the root filesystem `rootfs`. Where the
/// host's root is the container's as well, all is the host's.
pub(crate) fn inside(rootfs: &Path, path: &Path) -> Option<PathBuf> {
    let rootfs = clean(rootfs);
    if rootfs.as_os_str() == "/" {
        return None;
    }
    rest(&clean(path), &rootfs).map(|rest| Path::new("/").join(rest))
}

/// A destination may be the path on the host of a place in the root filesystem: it is taken for the place, as with runc.
pub(crate) fn enter_destinations(spec: &mut Spec, rootfs: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if let Some(place) = inside(rootfs, mount.destination()) {
            mount.set_destination(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_the_root_filesystem_by_its_name() {
        let inside = |path: &str| inside(Path::new("/b/./rootfs/"), Path::new(path));
        for (path, place) in [
            ("/b/rootfs", "/"),
            ("/b/rootfs/", "/"),
            ("/b/rootfs/mnt/x", "/mnt/x"),
            ("/b//rootfs/../rootfs/mnt", "/mnt"),
        ] {
            assert_eq!(inside(path).as_deref(), Some(Path::new(place)), "{path}");
        }
        for path in ["/b", "/b/rootfs2", "/b/rootfs/..", "/b/rootfs/../x", "/mnt", "rootfs/mnt"] {
            assert_eq!(inside(path), None, "{path}");
        }
        assert_eq!(super::inside(Path::new("/"), Path::new("/mnt")), None);
    }
}
