//! The places of mounts, which CRIU expects to be there: made as a launch makes them, without mounting anything. What lies on a
//! filesystem that CRIU restores is restored with it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::libc;
use nix::sys::stat::{Mode, mkdirat};
use oci_spec::runtime::Spec;

use crate::error::{Error, Result};
use crate::survey::{Covers, Kind, Survey, is_bind};
use crate::sys::{Resolve, openat2};

/// What is mounted somewhere.
enum Cover {
    /// What the host has at a path.
    Host(PathBuf),
    /// Something of the container's own, which is restored.
    Own,
}

/// Makes the places of `spec`'s mounts in the root filesystem, and in what is bound over it.
///
/// # Errors
/// One is missing and cannot be made; with its place in config.json.
pub(crate) fn make(spec: &Spec, bundle: &Path, rootfs: &Path, survey: &Survey) -> Result<()> {
    let mut covers = Covers::default();
    for (i, mount) in spec.mounts().iter().flatten().enumerate() {
        let Some(seen) = survey.destinations.get(i) else { continue };
        let kind = survey.sources.get(i).copied().unwrap_or_default();
        let source = mount.source().as_ref().filter(|_| is_bind(mount)).map(|source| bundle.join(source));
        let (base, rest) = match covers.above(&seen.path) {
            None => (Some(rootfs.to_owned()), seen.path.strip_prefix("/").unwrap_or(&seen.path)),
            Some((at, Cover::Host(path))) => {
                (Some(PathBuf::from(path)), seen.path.strip_prefix(at).unwrap_or(&seen.path))
            }
            Some((_, Cover::Own)) => (None, Path::new("")),
        };
        // The kernel has /sys/fs/cgroup, and the cgroups below it are CRIU's to restore.
        let cgroups = mount.typ().as_deref().is_some_and(|typ| typ.starts_with("cgroup"));
        if let Some(base) = base.filter(|_| !cgroups && !rest.as_os_str().is_empty()) {
            let file = source.is_some() && kind == Kind::File;
            make_one(&base, rest, file).map_err(|errno| {
                let text = format!("make the mount point {}", base.join(rest).display());
                Error::host(text, errno).at(format!("mounts[{i}] ({})", seen.path.display()))
            })?;
        }
        let at: PathBuf = seen.path.clone();
        covers.push(&at.clone(), (at, source.map_or(Cover::Own, Cover::Host)));
    }
    Ok(())
}

/// Makes `path` below `base`, of which no link leads out.
fn make_one(base: &Path, path: &Path, file: bool) -> std::result::Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base = open(base, flags, Mode::empty())?;
    match openat2(base.as_fd(), &text(path.as_os_str())?, libc::O_PATH, Resolve::InRoot) {
        Err(Errno::ENOENT) => {}
        there => return there.map(drop),
    }
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { Some(name) } else { None })
        .collect();
    let Some((last, above)) = names.split_last() else { return Ok(()) };
    let mut so_far = PathBuf::new();
    let mut directory: Option<OwnedFd> = None;
    for name in above {
        let parent = directory.as_ref().map_or(base.as_fd(), AsFd::as_fd);
        make_directory(parent, name)?;
        so_far.push(name);
        // From the base again: a link in it may be absolute.
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        directory = Some(openat2(base.as_fd(), &text(so_far.as_os_str())?, flags, Resolve::InRoot)?);
    }
    let parent = directory.as_ref().map_or(base.as_fd(), AsFd::as_fd);
    match file {
        false => make_directory(parent, last),
        true => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let made = openat(parent, *last, flags, Mode::from_bits_truncate(0o644));
            made.map(|made| drop(File::from(made)))
        }
    }
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<(), Errno> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

fn text(path: &OsStr) -> std::result::Result<CString, Errno> {
    CString::new(path.as_bytes()).map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::Host;
    use crate::options::Options;

    #[test]
    fn places_are_made_in_the_root_and_in_what_is_bound_and_none_outside_or_on_what_is_restored() {
        let bundle = std::env::temp_dir().join(format!("runb-mountpoints-{}", std::process::id()));
        let rootfs = bundle.join("rootfs");
        fs::create_dir_all(rootfs.join("real")).expect("folders");
        fs::create_dir(bundle.join("bound")).expect("a folder");
        fs::write(bundle.join("file"), "").expect("a file");
        symlink("/real", rootfs.join("link")).expect("a link");
        symlink("../../../../out", rootfs.join("away")).expect("a link");
        let bind = |source: &str, destination: &str| serde_json::json!({"destination": destination, "source": source, "options": ["bind"]});
        let spec: Spec = serde_json::from_value(serde_json::json!({"ociVersion": "1.0.2", "mounts": [
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            bind("bound", "/link/conf"),
            bind("bound", "/link/conf/for/nested"),
            bind("file", "/etc/resolv.conf"),
            bind("bound", "/dev/x"),
            bind("bound", "/away/y"),
        ]}))
        .expect("a configuration");
        let options = Options::new("id", "/run/x", &bundle);
        let survey = Survey::of(&spec, &bundle, &rootfs, &options, &Host::plain());
        make(&spec, &bundle, &rootfs, &survey).expect("made");
        make(&spec, &bundle, &rootfs, &survey).expect("made once more");
        let is_dir = |path: &str| bundle.join(path).is_dir();
        assert!(is_dir("rootfs/real/conf") && is_dir("bound/for/nested") && is_dir("rootfs/dev"));
        assert!(bundle.join("rootfs/etc/resolv.conf").is_file());
        assert!(!is_dir("rootfs/dev/x") && !is_dir("rootfs/real/conf/for"));
        assert!(is_dir("rootfs/out/y"));
        fs::remove_dir_all(&bundle).expect("removed");
    }
}
