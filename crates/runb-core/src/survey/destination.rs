//! What is at a destination in the root filesystem: its path without links, and how much of it is there.
//!
//! A link is followed here only to know its end; init resolves again, so that one which changes meanwhile misleads nobody
//! but the container.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::libc;
use nix::sys::stat::Mode;
use oci_spec::runtime::Mount;

use super::{Covers, Found, Kind, is_bind};
use crate::sys::{Resolve, openat2};

/// What is at the destination of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// The absolute path without links, `.` and `..`, as far as it could be seen.
    pub path: PathBuf,
    /// How many of the leading names of `path` are there.
    pub there: usize,
    /// The mode of the directory that is there: a new tmpfs takes it over.
    pub mode: Option<u32>,
}

impl Destination {
    /// A destination that nobody looked at.
    pub fn unseen(path: &Path) -> Self {
        Destination { path: clean(path), there: 0, mode: None }
    }
}

/// What is wanted of a destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Where it is.
    Place,
    /// Its mode as well.
    Mode,
}

impl Wanted {
    pub(super) fn of(mount: &Mount) -> Self {
        if mount.typ().as_deref() == Some("tmpfs") { Wanted::Mode } else { Wanted::Place }
    }
}

/// An earlier mount, that covers what the root filesystem has.
#[derive(Debug)]
pub(super) struct Cover {
    at: PathBuf,
    with: With,
}

#[derive(Debug)]
enum With {
    /// What the host has at a path.
    Bind(PathBuf),
    /// What was at a path of the container when there were so many mounts.
    Inside(PathBuf, usize),
    /// A tmpfs with this mode.
    Tmpfs(Option<u32>),
    Other,
}

impl Cover {
    /// `inside` is where in the container the source is, if it is there, of the mount after `earlier` ones.
    pub(super) fn of(mount: &Mount, bundle: &Path, seen: &Destination, inside: Option<(&Path, usize)>) -> Self {
        let mode = mount.options().iter().flatten().rev().find_map(|option| option.strip_prefix("mode="));
        let with = match (inside, mount.source()) {
            (Some((place, earlier)), _) => With::Inside(place.to_owned(), earlier),
            (None, Some(source)) if is_bind(mount) => With::Bind(bundle.join(source)),
            _ if mount.typ().as_deref() == Some("tmpfs") => {
                With::Tmpfs(mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).or(seen.mode))
            }
            _ => With::Other,
        };
        Cover { at: seen.path.clone(), with }
    }

    /// Adds it to `covers`.
    pub(super) fn push_to(self, covers: &mut Covers<Cover>) {
        let at = self.at.clone();
        covers.push(&at, self);
    }
}

/// The path as an absolute one without `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    // Most are: the others' way takes thirty times as long.
    if is_clean(path.as_os_str().as_bytes()) {
        return path.to_owned();
    }
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// Whether a path is absolute and its names are neither empty nor begin with a dot: cleaning changes nothing. Without a branch for
/// each byte, so that the compiler takes many at once.
fn is_clean(path: &[u8]) -> bool {
    let is_odd = |pair: &[u8]| (pair[0] == b'/') & ((pair[1] == b'/') | (pair[1] == b'.'));
    let odd = path.windows(2).fold(false, |odd, pair| odd | is_odd(pair));
    path.first() == Some(&b'/') && !odd && (path.len() == 1 || path.last() != Some(&b'/'))
}

/// What is left of a clean path below a clean `above`, or at it; none if it is elsewhere. By their bytes: Path::strip_prefix goes
/// name by name.
pub(crate) fn rest<'p>(path: &'p Path, above: &Path) -> Option<&'p Path> {
    let (path, above) = (path.as_os_str().as_bytes(), above.as_os_str().as_bytes());
    let rest = match path.strip_prefix(above)? {
        [b'/', rest @ ..] => rest,
        rest if rest.is_empty() || above == b"/" => rest,
        _ => return None,
    };
    Some(Path::new(OsStr::from_bytes(rest)))
}

/// Looks for `path` below `root`, where `covers` are mounted.
pub(super) fn look(root: BorrowedFd<'_>, path: &Path, covers: &Covers<Cover>, wanted: Wanted) -> Destination {
    let path = clean(path);
    if let Some(cover) = covers.over(&path) {
        return below(cover, &path, wanted);
    }
    match at(root, &path, 0) {
        Ok(place) => {
            let there = path.iter().count() - 1;
            Destination { path, there, mode: mode(place, wanted) }
        }
        Err(Errno::ELOOP) => walk(root, &path, covers, wanted),
        Err(_) => {
            let mut leading = path.as_path();
            while let Some(parent) = leading.parent().filter(|parent| *parent != Path::new("/")) {
                leading = parent;
                match at(root, leading, libc::O_DIRECTORY) {
                    Ok(_) => return Destination { there: leading.iter().count() - 1, path, mode: None },
                    Err(Errno::ELOOP) => return walk(root, &path, covers, wanted),
                    Err(_) => {}
                }
            }
            // The last name may be a link to nowhere.
            walk(root, &path, covers, wanted)
        }
    }
}

fn at(root: BorrowedFd<'_>, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    openat2(root, &relative(path)?, libc::O_PATH | flags, Resolve::InRootNoLinks)
}

/// `path` from a directory that stands for the root.
fn relative(path: &Path) -> Result<CString, Errno> {
    let path = path.as_os_str().as_bytes();
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let relative = if relative.is_empty() { b"." } else { relative };
    CString::new(relative).map_err(|_| Errno::EINVAL)
}

fn mode(place: OwnedFd, wanted: Wanted) -> Option<u32> {
    let meta = (wanted == Wanted::Mode).then(|| File::from(place).metadata().ok())??;
    meta.is_dir().then(|| meta.mode() & 0o7777)
}

/// Where `path` leads in the container, without links.
pub(super) fn place(root: Option<&OwnedFd>, path: &Path, covers: &Covers<Cover>) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| look(root.as_fd(), path, covers, Wanted::Place).path)
}

/// What covers `path`, which has no links, and the path of the same by whose names that is: what is bound inside is
/// what was there before.
fn origin<'c>(path: &Path, covers: &'c Covers<Cover>) -> (PathBuf, Option<&'c Cover>) {
    let (mut path, mut count) = (path.to_owned(), covers.len());
    loop {
        match covers.over_when(&path, count) {
            Some(Cover { at, with: With::Inside(source, earlier) }) => {
                path = clean(&source.join(rest(&path, at).unwrap_or(&path)));
                count = *earlier;
            }
            cover => return (path, cover),
        }
    }
}

/// What is at the path of a device; the last name is not followed.
pub(super) fn found(root: BorrowedFd<'_>, path: &Path, covers: &Covers<Cover>) -> Found {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Found::Unknown };
    let seen = look(root, parent, covers, Wanted::Place);
    if covers.over(&seen.path.join(name)).is_some() {
        return Found::Unknown;
    }
    match at(root, &seen.path.join(name), libc::O_NOFOLLOW) {
        Err(Errno::ENOENT) => Found::Absent,
        Err(_) => Found::Unknown,
        Ok(place) => File::from(place)
            .metadata()
            .map_or(Found::Unknown, |meta| Found::Node { kind: meta.mode() & libc::S_IFMT, number: meta.rdev() }),
    }
}

/// What is at `path` when all of `covers` is mounted; links are followed.
pub(super) fn kind(root: Option<&OwnedFd>, path: &Path, covers: &Covers<Cover>) -> Kind {
    let (path, cover) = origin(&clean(path), covers);
    let below = |directory: BorrowedFd<'_>, path: &Path| {
        let place = openat2(directory, &relative(path).ok()?, libc::O_PATH, Resolve::InRoot).ok()?;
        Some(if File::from(place).metadata().ok()?.is_dir() { Kind::Directory } else { Kind::File })
    };
    let seen = match cover {
        None => root.and_then(|root| below(root.as_fd(), &path)),
        Some(cover) => match &cover.with {
            With::Bind(source) => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let source = open(source, flags, Mode::empty()).ok();
                source.and_then(|source| below(source.as_fd(), rest(&path, &cover.at)?))
            }
            With::Tmpfs(_) => (cover.at == path).then_some(Kind::Directory),
            // The kernel's: what is there for the host is there for the container.
            With::Other if ["/proc", "/sys"].iter().any(|place| cover.at == Path::new(place)) => Some(Kind::of(&path)),
            With::Other | With::Inside(..) => None,
        },
    };
    seen.unwrap_or_default()
}

/// A destination that an earlier mount covers.
fn below(cover: &Cover, path: &Path, wanted: Wanted) -> Destination {
    let rest = rest(path, &cover.at).unwrap_or(path);
    let mode = match &cover.with {
        _ if wanted == Wanted::Place => None,
        With::Tmpfs(mode) if rest.as_os_str().is_empty() => *mode,
        With::Bind(source) => {
            let source = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok();
            source
                .and_then(
                    |source| if rest.as_os_str().is_empty() { Some(source) } else { at(source.as_fd(), rest, 0).ok() },
                )
                .and_then(|place| mode(place, wanted))
        }
        With::Tmpfs(_) | With::Inside(..) | With::Other => None,
    };
    Destination { path: path.to_owned(), there: cover.at.iter().count() - 1, mode }
}

/// How many links a path may have, as for the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Follows `path` name by name.
fn walk(root: BorrowedFd<'_>, path: &Path, covers: &Covers<Cover>, wanted: Wanted) -> Destination {
    let mut rest: VecDeque<OsString> = path.iter().skip(1).map(OsString::from).collect();
    let mut so_far = PathBuf::from("/");
    let mut links = 0;
    let mut last = None;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            so_far.pop();
            continue;
        }
        let next = so_far.join(&name);
        if let Some(cover) = covers.over(&next) {
            return below(cover, &clean(&rest.iter().fold(next.clone(), |path, name| path.join(name))), wanted);
        }
        let Ok(place) = at(root, &next, libc::O_NOFOLLOW) else {
            let there = so_far.iter().count() - 1;
            return Destination {
                path: clean(&rest.iter().fold(next, |path, name| path.join(name))),
                there,
                mode: None,
            };
        };
        match readlinkat(&place, "") {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                let target = PathBuf::from(target);
                if target.is_absolute() {
                    so_far = PathBuf::from("/");
                }
                for part in target.components().rev() {
                    match part {
                        Component::Normal(name) => rest.push_front(name.to_owned()),
                        Component::ParentDir => rest.push_front("..".into()),
                        _ => {}
                    }
                }
            }
            // Init's own lookup says ELOOP, at the right place.
            Ok(_) => return Destination::unseen(path),
            Err(_) => {
                so_far = next;
                last = Some(place);
            }
        }
    }
    let there = so_far.iter().count() - 1;
    Destination { path: so_far, there, mode: last.and_then(|place| mode(place, wanted)) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn seen(root: &Path, path: &str, covers: &Covers<Cover>) -> (String, usize, Option<u32>) {
        let root = open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("the root");
        let seen = look(root.as_fd(), Path::new(path), covers, Wanted::Mode);
        (seen.path.display().to_string(), seen.there, seen.mode)
    }

    #[test]
    fn a_destination_is_followed_through_links_and_never_out_of_the_root() {
        let dir = std::env::temp_dir().join(format!("runb-destination-{}", std::process::id()));
        fs::create_dir_all(dir.join("var/lib")).expect("directories");
        fs::create_dir_all(dir.join("run")).expect("directories");
        fs::set_permissions(dir.join("var/lib"), fs::Permissions::from_mode(0o711)).expect("chmod");
        for (target, link) in [("/run", "var/run"), ("../../../../../etc/new", "out"), ("loop", "loop")] {
            symlink(target, dir.join(link)).expect("a link");
        }
        let none = Covers::default();
        let mut tmpfs = Covers::default();
        Cover { at: "/run".into(), with: With::Tmpfs(None) }.push_to(&mut tmpfs);
        assert_eq!(seen(&dir, "/var/lib", &none), ("/var/lib".into(), 2, Some(0o711)));
        assert_eq!(seen(&dir, "/var/lib/a/b", &none), ("/var/lib/a/b".into(), 2, None));
        assert_eq!(seen(&dir, "/var/run/a", &none), ("/run/a".into(), 1, None));
        assert_eq!(seen(&dir, "/var/run/a/b", &tmpfs), ("/run/a/b".into(), 1, None));
        assert_eq!(seen(&dir, "/out", &none), ("/etc/new".into(), 0, None));
        assert_eq!(seen(&dir, "/loop/a", &none), ("/loop/a".into(), 0, None));
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn a_path_is_clean_when_cleaning_would_change_nothing() {
        let paths = [
            "/", "/a", "/a/b.c", "/.a/..b", "/a/...", "/a/..b", "", "a", "//", "/a/", "/a//b", "/./a", "/a/.", "/a/..", "/../a", "/a/./b",
        ];
        for path in paths {
            let by_names: PathBuf = Path::new("/").join(path).components().fold(PathBuf::new(), |mut out, part| {
                match part {
                    Component::ParentDir => drop(out.pop()),
                    part => out.push(part),
                }
                out
            });
            assert_eq!(clean(Path::new(path)), by_names, "{path}");
            assert!(!is_clean(path.as_bytes()) || by_names.as_os_str() == path, "{path}");
        }
    }

    #[test]
    fn the_rest_of_a_path_is_what_strip_prefix_says() {
        let paths = ["/", "/a", "/a/b", "/ab", "/b", "/a/b/c"].map(Path::new);
        for (path, above) in paths.iter().flat_map(|path| paths.map(|above| (path, above))) {
            assert_eq!(rest(path, above), path.strip_prefix(above).ok(), "{path:?} below {above:?}");
        }
    }

    #[test]
    fn the_last_at_a_path_or_above_it_is_found_by_the_names_of_the_path() {
        let mut covers = Covers::default();
        for (number, path) in ["/a", "/a/b", "/a/b/c", "/a"].iter().enumerate() {
            covers.push(Path::new(path), number);
        }
        let over = |path| covers.over(Path::new(path)).copied();
        assert_eq!(
            [over("/a"), over("/a/b"), over("/a/b/c/d"), over("/ab"), over("/")],
            [Some(3), Some(3), Some(3), None, None]
        );
        assert_eq!(covers.above(Path::new("/a")), None);
        assert_eq!(covers.at_mut(Path::new("/a/b")), Some(&mut 1));
        covers.push(Path::new("/"), 4);
        assert_eq!(covers.over(Path::new("/x")), Some(&4));
    }

    #[test]
    fn a_destination_costs_as_much_after_many_mounts_as_after_few() {
        let dir = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).expect("the root");
        let cost = |mounts: usize| {
            let mut covers = Covers::default();
            for number in 0..mounts {
                let path = PathBuf::from(format!("/nothing/is/here/{number}"));
                let seen = look(dir.as_fd(), &path, &covers, Wanted::Place);
                Cover { at: seen.path, with: With::Other }.push_to(&mut covers);
            }
            covers.lookups.get()
        };
        assert_eq!(cost(1000), 10 * cost(100));
    }
}
