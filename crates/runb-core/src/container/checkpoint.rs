//! `checkpoint`: CRIU saves the container's processes in a folder, and ends them, or lets them run on.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, fstat};
use oci_spec::runtime::{LinuxNamespaceType, LinuxSeccompAction, Mount, Spec};

use super::end::{Removal, removal};
use super::{Container, Force, Held};
use crate::cgroup::FreezerState;
use crate::criu::{
    self, Conversation, Descriptors, External, Folder, Found, Heard, Namespaces, PASSABLE, SECRET, Seen, Stdio,
};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::host::cgroups::CgroupMounts;
use crate::notify;
use crate::options::{CheckpointOptions, Criu, HookEnvironment, Options};
use crate::state::{ProcessRef, Status};
use crate::survey::{Survey, clean, is_bind};
use crate::sys::{Resolve, openat2};
use crate::trace::{Trace, What};

impl Container {
    /// Saves the container: `checkpoint`. It is gone then, unless it is to run on, or memory alone is saved.
    ///
    /// # Errors
    /// It does not run (kind state); CRIU is missing, too old, or fails. The container runs on then, or stays paused; in the
    /// folders there is the log of CRIU, whose last errors are told.
    pub fn checkpoint(&self, options: &CheckpointOptions) -> Result<Removal> {
        removal(|trace| {
            let held = self.hold()?;
            trace.done(What::Loaded);
            held.checkpoint(options, &self.hook_environment, trace)
        })
    }
}

/// The folders that CRIU works in.
pub(super) struct Folders {
    pub(super) images: Folder,
    pub(super) work: Option<Folder>,
}

impl Folders {
    /// Opens them.
    pub(super) fn open(criu: &Criu, images: Found) -> Result<Self> {
        if criu.image_path.as_os_str().is_empty() {
            return Err(Error::new(Kind::Usage, "no folder is named").at("options.image_path"));
        }
        let images = Folder::open(&criu.image_path, "options.image_path", images)?;
        let work = criu.work_path.as_deref().map(|path| Folder::open(path, "options.work_path", Found::OrMade(SECRET)));
        Ok(Folders { images, work: work.transpose()? })
    }

    /// The last errors of CRIU's log `name`.
    pub(super) fn errors_of(&self, name: &str) -> Option<String> {
        self.of_work().errors_of(name)
    }

    /// Where CRIU's own files go.
    pub(super) fn of_work(&self) -> &Folder {
        self.work.as_ref().unwrap_or(&self.images)
    }
}

impl Held {
    /// Returns what went wrong in its removal.
    fn checkpoint(
        mut self,
        options: &CheckpointOptions,
        environment: &HookEnvironment,
        trace: &mut Trace,
    ) -> Result<Vec<Error>> {
        let status = self.status();
        if !matches!(status, Status::Running | Status::Paused) {
            let text = format!("container cannot be checkpointed in {status} state");
            return Err(Error::new(Kind::State, text));
        }
        let status_fd = options.status_fd.map(StatusFd::of).transpose()?;
        if let Some(criu) = self.saved.criu.filter(ProcessRef::is_alive) {
            let text =
                format!("CRIU, process {}, is still at work on a checkpoint or a restore that was killed", criu.pid);
            return Err(Error::new(Kind::State, text));
        }
        // Its root opens some of the images when it is restored.
        let mode = if self.saved.namespaces & libc::CLONE_NEWUSER as u64 == 0 { SECRET } else { PASSABLE };
        let folders = Folders::open(&options.criu, Found::OrMade(mode))?;
        if let Err(error) = self.dump(options, &folders, status_fd, trace) {
            let error = self.let_run_on(status).err().into_iter().fold(error, Error::and_cleanup);
            let error = self.is_without_criu().err().into_iter().fold(error, Error::and_cleanup);
            folders.images.clean();
            return Err(error);
        }
        if options.leave_running || options.pre_dump {
            return Ok(self.is_without_criu().err().into_iter().collect());
        }
        // What is saved is saved: that something of the container is left behind makes it no less so.
        self.delete(Force::Yes, environment, trace).or_else(|error| Ok(vec![error]))
    }

    /// Writes down which CRIU has the container from here on, for who removes the container if this process is killed.
    fn is_with_criu(&mut self, pid: i32) -> Result<()> {
        self.saved.criu = Some(ProcessRef::of(pid)?);
        self.dir.save(&self.saved)
    }

    fn is_without_criu(&mut self) -> Result<()> {
        self.saved.criu.take().map_or(Ok(()), |_| self.dir.save(&self.saved))
    }

    /// A CRIU that was killed leaves the freezer as it is.
    fn let_run_on(&self, before: Status) -> Result<()> {
        match before == Status::Running && self.saved.cgroup.freezer_state()? != FreezerState::Thawed {
            true => self.saved.cgroup.thaw(),
            false => Ok(()),
        }
    }

    fn dump(
        &mut self,
        options: &CheckpointOptions,
        folders: &Folders,
        mut status_fd: Option<StatusFd>,
        trace: &mut Trace,
    ) -> Result<()> {
        let Some((pid, _pidfd)) = self.saved.init_fd()? else {
            return Err(Error::new(Kind::State, "container not running"));
        };
        if let Some(parent) = &options.parent_path {
            folders.images.has_parent(parent)?;
        }
        let mut spec = self.config()?;
        has_no_mappings(&spec)?;
        has_no_listener(&spec)?;
        if self.dir.path().join(notify::FOLDER).exists() {
            notify::add_to(&mut spec, self.dir.path())?;
        }
        let namespaces = Namespaces::of(&spec)?;
        let mut criu = Conversation::begin(&options.criu, &[], Stdio::Null)?;
        self.is_with_criu(criu.pid())?;
        let saved = &self.saved;
        criu.has(&criu::dump_needs(options, &saved.annotations, &namespaces))?;
        criu.has_features(&criu::memory_needs(options))?;
        let descriptors = Descriptors::of(pid, &saved.cgroup.procs()?);
        let dump = criu::Dump {
            options,
            annotations: &saved.annotations,
            rootfs: &saved.rootfs,
            pid,
            cgroup: &saved.cgroup,
            mounts: if options.pre_dump { Vec::new() } else { mounts_of(&spec, pid, self)? },
            namespaces: inodes(&namespaces, pid)?,
            descriptors: &descriptors,
            images: &folders.images,
            work: folders.work.as_ref(),
        };
        let opts = criu::dump(&dump, criu.version())?;
        if !options.pre_dump {
            folders.images.write_descriptors(&descriptors)?;
        }
        trace.done(What::CriuAsked);
        let mut work = |heard: Heard| {
            if heard.script == "status-ready"
                && let Some(status_fd) = status_fd.take()
            {
                status_fd.tell()?;
            }
            Ok(())
        };
        let log = || folders.errors_of(criu::DUMP_LOG);
        let answer = criu.ask(criu::dump_task(options), opts, &mut work, log);
        criu.end();
        answer?;
        trace.done(What::Dumped);
        Ok(())
    }
}

/// The caller's descriptor that hears when pages can be asked for.
struct StatusFd {
    number: i32,
    file: File,
}

impl StatusFd {
    /// Sees that it is open for writing.
    fn of(number: i32) -> Result<Self> {
        const OPTION: &str = "options.status_fd";
        let path = format!("/proc/self/fd/{number}");
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match open(path.as_str(), flags, Mode::empty()) {
            Ok(file) if is_writable(number) => Ok(StatusFd { number, file: file.into() }),
            Ok(_) => Err(Error::new(Kind::Usage, format!("descriptor {number} is not open for writing")).at(OPTION)),
            Err(errno) => Err(Error::host(format!("descriptor {number}"), errno).at(OPTION)),
        }
    }

    /// Writes a NUL, and closes it, so that nobody waits for more.
    fn tell(mut self) -> Result<()> {
        use std::io::Write;
        let told = self.file.write_all(&[0]);
        let _ = nix::unistd::close(self.number);
        told.map_err(|e| Error::io(format!("write to descriptor {}", self.number), &e).at("options.status_fd"))
    }
}

/// proc_pid_fdinfo(5): the flags are octal.
fn is_writable(number: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    i32::from_str_radix(flags.trim(), 8).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// The inodes of the namespaces of others that a dump names.
fn inodes(namespaces: &Namespaces, pid: i32) -> Result<Vec<(LinuxNamespaceType, u64)>> {
    let inode = |typ: LinuxNamespaceType| {
        let path = format!("/proc/{pid}/ns/{}", criu::short(typ));
        let meta = fs::metadata(&path).map_err(|e| Error::io(format!("stat {path}"), &e))?;
        Ok((typ, meta.ino()))
    };
    namespaces.external.iter().map(|(typ, _)| inode(*typ)).collect()
}

/// CRIU restores a filter without its listener: what it asks about fails then (ENOSYS), for good.
fn has_no_listener(spec: &Spec) -> Result<()> {
    let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else { return Ok(()) };
    let rules = seccomp.syscalls().iter().flatten().map(|rule| rule.action());
    match rules.chain([seccomp.default_action()]).any(|action| action == LinuxSeccompAction::ScmpActNotify) {
        false => Ok(()),
        true => {
            let text = "a filter with a listener cannot be checkpointed: CRIU restores no listener";
            Err(Error::spec("linux.seccomp.listenerPath", text))
        }
    }
}

/// CRIU does not save what an id-mapped mount maps: who is restored would see the files of others, or own theirs no more.
fn has_no_mappings(spec: &Spec) -> Result<()> {
    let is_mapped = |mount: &Mount| {
        let asked = mount.options().iter().flatten().any(|option| option == "idmap" || option == "ridmap");
        asked || [mount.uid_mappings(), mount.gid_mappings()].into_iter().flatten().any(|list| !list.is_empty())
    };
    match spec.mounts().iter().flatten().enumerate().find(|(_, mount)| is_mapped(mount)) {
        None => Ok(()),
        Some((i, mount)) => {
            let text = "an id-mapped mount cannot be checkpointed: CRIU does not save its mapping";
            Err(Error::spec(format!("mounts[{i}] ({})", mount.destination().display()), text))
        }
    }
}

/// The mounts of the container that are not its own.
fn mounts_of(spec: &Spec, pid: i32, held: &Held) -> Result<Vec<External>> {
    let (saved, host) = (&held.saved, Host::probe()?);
    let root = held.dir.path().parent().unwrap_or(Path::new("/"));
    let options = Options::new(&saved.id, root, &saved.bundle);
    let survey = Survey::of(spec, &saved.bundle, &saved.rootfs, &options, &host);
    let hierarchies = match &host.cgroups {
        CgroupMounts::V1 { hierarchies, .. } => hierarchies.iter().map(|one| one.mountpoint.clone()).collect(),
        _ => Vec::new(),
    };
    let named = |path: PathBuf| Some((path.file_name()?.to_owned(), path));
    let seen = Seen {
        spec,
        bundle: &saved.bundle,
        destinations: survey.destinations.into_iter().map(|seen| seen.path).collect(),
        below: below(spec, &saved.bundle)?,
        hierarchies: hierarchies.into_iter().filter_map(named).collect(),
        masked: masked(spec, pid)?,
    };
    Ok(seen.mounts())
}

/// What is mounted below the source of each mount that is bound with what is below.
pub(super) fn below(spec: &Spec, bundle: &Path) -> Result<Vec<Vec<PathBuf>>> {
    let recursive = |mount: &Mount| {
        let rbind = mount.options().iter().flatten().any(|option| option == "rbind");
        mount.source().as_ref().filter(|_| is_bind(mount) && rbind).map(|source| bundle.join(source))
    };
    let sources: Vec<_> = spec.mounts().iter().flatten().map(recursive).collect();
    if sources.iter().all(Option::is_none) {
        return Ok(vec![Vec::new(); sources.len()]);
    }
    let failed = |e| Error::new(Kind::Host, format!("read /proc/self/mountinfo: {e}"));
    let all = procfs::process::Process::myself().and_then(|myself| myself.mountinfo()).map_err(failed)?;
    let below = |source: Option<PathBuf>| {
        let source = source.and_then(|source| fs::canonicalize(source).ok());
        let under = |source: &PathBuf| -> Vec<PathBuf> {
            let rest = all.0.iter().filter_map(|mount| mount.mount_point.strip_prefix(source).ok());
            rest.filter(|rest| !rest.as_os_str().is_empty()).map(Path::to_owned).collect()
        };
        source.as_ref().map(under).unwrap_or_default()
    };
    Ok(sources.into_iter().map(below).collect())
}

/// Of linux.maskedPaths those at which the container has /dev/null.
fn masked(spec: &Spec, pid: i32) -> Result<Vec<PathBuf>> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(path.as_str(), flags, Mode::empty()).map_err(|errno| Error::host(format!("open {path}"), errno))?;
    let is_null = |path: &PathBuf| {
        let relative = path.strip_prefix("/").unwrap_or(path).as_os_str();
        let relative = std::ffi::CString::new(relative.as_encoded_bytes()).ok();
        let file = relative.and_then(|path| openat2(root.as_fd(), &path, libc::O_PATH, Resolve::InRoot).ok());
        let null = (libc::S_IFCHR, libc::makedev(1, 3));
        file.and_then(|file| fstat(file).ok()).is_some_and(|stat| (stat.st_mode & libc::S_IFMT, stat.st_rdev) == null)
    };
    let list = spec.linux().iter().filter_map(|linux| linux.masked_paths().as_ref()).flatten();
    Ok(list.map(|path| clean(Path::new(path))).filter(is_null).collect())
}

/// The cgroups of the process `pid`, as CRIU takes them for roots: each controller, or `name=…`, or nothing for version 2, and the path.
pub(super) fn cgroups_of(pid: i32) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let parts = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?, parts.next()?))
    });
    let each = |(controllers, path): (&str, &str)| {
        let path = path.to_owned();
        let named: Vec<_> = controllers.split(',').map(|name| (name.to_owned(), path.clone())).collect();
        named
    };
    Ok(parts.flat_map(each).collect())
}
