//! What the runtime does to detached mounts while init stands at [`Point::Mount`]: id mappings, which need privilege over
//! the host's filesystems, copies of trees, which need a loop, filesystems on disks, which the container may not open, and what lies
//! on the host where its paths may be closed.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::libc;
use runb_init::Point;

use super::{copy_up, id_maps, procfs, unmapped};
use crate::child::{Child, Place};
use crate::error::{Error, Result};
use crate::hearing::{Said, receive_or_end};
use crate::plan::program::Program;
use crate::plan::{IdMaps, MountStep, MountWork, Plan, Reach, Source, Writer, Writers};
use crate::sys::{self, Below};

/// The steps that are still to do, and the user namespaces made so far.
pub(super) struct Mounts<'p> {
    steps: std::slice::Iter<'p, MountStep>,
    made: Vec<(&'p IdMaps, OwnedFd)>,
}

impl<'p> Mounts<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        Mounts { steps: plan.mount_steps.iter(), made: Vec::new() }
    }

    /// Does the next step to the mount that is init's descriptor `tree`. What it returns is for init.
    ///
    /// # Errors
    /// The kernel refuses the mapping; something cannot be copied.
    pub(super) fn next(&mut self, init: &Child, tree: i32) -> Result<Vec<OwnedFd>> {
        let Some(step) = self.steps.next() else {
            return Err(Error::internal("no step is planned for the stop Mount"));
        };
        if let MountWork::Open(sources) = &step.work {
            return sources.iter().map(open).collect();
        }
        let pidfd = init.pidfd.as_ref().ok_or_else(|| Error::internal("init has ended"))?;
        let tree = sys::pidfd_getfd(pidfd, tree).map_err(|errno| Error::host("pidfd_getfd of a mount", errno))?;
        let done = match &step.work {
            MountWork::MapIds(maps, reach) => {
                self.map_ids(init, &tree, maps.as_ref().map(|maps| (maps, step)), *reach).map(|()| Vec::new())
            }
            MountWork::CopyUp { path, rest } => copy_up::copy_up(init.pid, path, rest, tree).map(|()| Vec::new()),
            MountWork::Procfs => procfs::begin(&tree).map(|context| vec![context]),
            MountWork::Disk => sys::create_filesystem(tree.as_fd()).map(|()| Vec::new()).map_err(|errno| {
                let words = super::failure::words(tree).map_or(String::new(), |words| format!(": {words}"));
                Error::host(format!("create the filesystem{words}"), errno)
            }),
            MountWork::Open(_) => return Err(Error::internal("what is opened is no mount yet")),
        };
        done.map_err(|error| error.at(step.place.as_str()))
    }

    fn map_ids(
        &mut self,
        init: &Child,
        tree: &OwnedFd,
        maps: Option<(&'p IdMaps, &MountStep)>,
        reach: Reach,
    ) -> Result<()> {
        let map = |namespace: &OwnedFd| {
            sys::map_ids(tree.as_fd(), namespace.as_fd(), below(reach))
                .map_err(|errno| Error::host(format!("mount_setattr MOUNT_ATTR_IDMAP: {}", unmapped::why(tree, errno)), errno))
        };
        let Some((maps, step)) = maps else { return map(&user_namespace_of(init.pid)?) };
        if let Some((_, namespace)) = self.made.iter().find(|(made, _)| *made == maps) {
            return map(namespace);
        }
        let namespace = user_namespace(maps, &step.place)?;
        map(&namespace)?;
        self.made.push((maps, namespace));
        Ok(())
    }
}

/// A copy of what the host has.
fn open(source: &Source) -> Result<OwnedFd> {
    let failed = |errno| Error::host(source.what(), errno).at(source.place.as_str());
    let path = CString::new(source.path.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    sys::copy_tree(&path, below(source.reach)).map_err(failed)
}

fn below(reach: Reach) -> Below {
    match reach {
        Reach::Top => Below::Left,
        Reach::Below => Below::Reached,
    }
}

fn user_namespace_of(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    File::open(&path).map(OwnedFd::from).map_err(|e| Error::io(format!("open {path}"), &e))
}

/// A user namespace with these maps, that nobody is in: the program that makes it ends as soon as it is held.
fn user_namespace(maps: &IdMaps, place: &str) -> Result<OwnedFd> {
    let mut program = Program::new(3);
    program.unshare(libc::CLONE_NEWUSER as u64);
    program.stop(Point::IdMap);
    let maker = Child::spawn(&program, Place::default(), "the maker of a user namespace")?;
    let pidfd = maker.pidfd().ok_or_else(|| Error::internal("the maker of a user namespace was killed"))?;
    match receive_or_end(&maker.socket, pidfd)? {
        Said::Reached(_) => {}
        Said::Failed(report) => return Err(Error::host("unshare CLONE_NEWUSER", Errno::from_raw(report.errno))),
        other => return Err(Error::internal(format!("the maker of a user namespace said {other:?}"))),
    }
    // Only who may change the mounts of a filesystem maps their ids.
    id_maps::write(maker.pid, maps, &Writers { uids: Writer::Runtime, gids: Writer::Runtime }, [place; 2])?;
    user_namespace_of(maker.pid)
}
