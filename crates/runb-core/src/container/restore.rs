//! `restore`: a container from its bundle and the images of a checkpoint, or nothing.
//!
//! It is made as by `create`, up to its cgroups; then CRIU makes its processes, in these, and nobody runs a plan.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::cgroups::Cgroups;
use super::checkpoint::{Folders, below, cgroups_of};
use super::create::{console_fits, hand_over, take_back};
use super::planned::{Planned, planned_traced, probe, saved_of_planned};
use super::{Container, Running, Workload, planned_step, traced};
use crate::cgroup::Made;
use crate::criu::{self, Conversation, Descriptors, External, Found, Heard, Namespaces, Seen, Stdio};
use crate::error::{Error, Result};
use crate::hearing::deadline;
use crate::hooks;
use crate::network::Inside;
use crate::notify::{self, Readiness};
use crate::options::{Caller, Options, RestoreOptions};
use crate::plan::Ending;
use crate::plan::cgroup::DirKind;
use crate::resctrl;
use crate::state::{self, CRIU_ROOT, Phase, ProcessRef, Saved, StateDir, Status};
use crate::survey::{Survey, clean};
use crate::sys;
use crate::terminal::{ConsoleSocket, Master};
use crate::trace::{Trace, What};
use crate::undo::{RootMount, Step};

/// The socket of `criu lazy-pages` in the folder of CRIU's own files.
const LAZY_PAGES: &str = "lazy-pages.socket";

impl Container {
    /// Makes a container of what a checkpoint has saved: `restore`. It runs, also where it was paused.
    ///
    /// # Errors
    /// What is wrong; of CRIU the last errors of its log. Nothing is left of the container then but that log.
    pub fn restore(options: &Options, restore: &RestoreOptions) -> Result<Running> {
        let (mut running, steps) = traced(|trace| launch(options, restore, trace))?;
        running.container.steps = steps;
        Ok(running)
    }
}

/// What a restore works with.
struct Launch<'a> {
    options: &'a Options,
    restore: &'a RestoreOptions,
    planned: &'a Planned,
    folders: &'a Folders,
    dir: StateDir,
    /// Its journal has what was made so far.
    saved: Saved,
    /// Whether somebody of this restore has been in the container's cgroup.
    used: bool,
    trace: &'a mut Trace,
}

fn launch(options: &Options, restore: &RestoreOptions, trace: &mut Trace) -> Result<Running> {
    let host = probe(options)?;
    trace.done(What::Host);
    let folders = Folders::open(&restore.criu, Found::Expected)?;
    let planned = planned_traced(options, &host, Ending::Stop, trace)?;
    trace.done(planned_step(&planned.plan.program, planned.plan.filter.as_ref()));
    let spec = &planned.bundle.spec;
    console_fits(spec.process().as_ref(), options.caller, options.console_socket.as_deref())?;
    let namespaces = Namespaces::of(spec)?;
    let descriptors = folders.images.read_descriptors()?;
    let criu = Conversation::begin(&restore.criu, &namespaces.opened(), Stdio::Own)?;
    let saved = saved_of_planned(options, &planned, &host);
    criu.has(&criu::restore_needs(restore, &saved.annotations, &namespaces))?;
    let dir = StateDir::create(&options.root, &options.id)?;
    let warnings = [planned.bundle.warnings.as_slice(), planned.plan.warnings.as_slice()].concat();
    let mut launch = Launch { options, restore, planned: &planned, folders: &folders, dir, saved, used: false, trace };
    match launch.go(criu, &namespaces, &descriptors) {
        Ok(workload) => {
            let Launch { dir, saved, .. } = launch;
            let container = Container {
                dir: dir.path().to_owned(),
                saved,
                warnings,
                hook_environment: options.hook_environment.clone(),
                steps: Vec::new(),
            };
            Ok(Running { container, workload })
        }
        Err(error) => {
            let Launch { dir, saved, used, trace, .. } = launch;
            Err(take_back((dir, saved), None, used, trace, error))
        }
    }
}

impl Launch<'_> {
    fn go(&mut self, mut criu: Conversation, namespaces: &Namespaces, descriptors: &Descriptors) -> Result<Workload> {
        let plan = &self.planned.plan;
        let console = self.options.console_socket.as_deref().map(ConsoleSocket::connect).transpose()?;
        let root = self.dir.path().join(CRIU_ROOT);
        DirBuilder::new().mode(0o700).create(&root).map_err(|e| Error::io(format!("mkdir {}", root.display()), &e))?;
        let cgroups = Cgroups::claim(&plan.cgroup, self.options)?;
        self.saved.criu = Some(ProcessRef::of(criu.pid())?);
        self.announce(&cgroups, root.clone())?;
        self.dir.save_config(&self.planned.bundle.text)?;
        notify::make_folder(self.dir.path())?;
        self.trace.done(What::Folder);
        self.dir.born(ProcessRef::of(criu.pid())?)?;
        let _made = self.make_cgroups(&cgroups, criu.pid())?;
        drop(cgroups);
        let mount = CriuRoot::mount(&self.planned.rootfs, root)?;
        let opts = {
            let survey = self.survey()?;
            criu::make_mountpoints(
                &self.planned.bundle.spec,
                &self.planned.bundle.path,
                &self.planned.rootfs,
                &survey,
            )?;
            let cgroups = cgroups_of(criu.pid())?;
            criu::restore(&criu::Restore {
                options: self.restore,
                annotations: &self.saved.annotations,
                root: &mount.path,
                cgroups: &cgroups,
                mounts: self.mounts(&survey)?,
                namespaces,
                descriptors,
                images: &self.folders.images,
                work: self.folders.work.as_ref(),
            })?
        };
        let readiness = match (&self.options.notify_socket, self.options.caller) {
            (Some(callers), Caller::Waits) => Some(Readiness::listen(self.dir.path(), callers)?),
            _ => None,
        };
        if self.restore.criu.lazy_pages {
            // Who hands the pages out may have been started just now. If it is not there in time, CRIU says so.
            self.folders.of_work().wait_for(LAZY_PAGES, deadline())?;
        }
        self.trace.done(What::CriuAsked);
        let mut restored = Restored { terminal: None, process: None };
        let (folders, console) = (self.folders, console.as_ref());
        let log = || folders.errors_of(criu::RESTORE_LOG);
        let answer = criu.ask(criu::Task::Restore, opts, &mut |heard| self.work(heard, &mut restored, console), log);
        criu.end();
        let taken = mount.take_away();
        answer?;
        taken?;
        let Some((pid, pidfd)) = restored.process else {
            return Err(Error::internal("CRIU has restored nobody"));
        };
        self.trace.done(What::Restored { pid });
        Ok(Workload::of(pid, pidfd, restored.terminal, readiness))
    }

    /// Writes the intent: on disk before there is anything to take back.
    fn announce(&mut self, cgroups: &Cgroups<'_>, root: PathBuf) -> Result<()> {
        self.saved.journal.add(Step::RootMount(RootMount::at(&root)?));
        for group in self.planned.plan.intel_rdt.iter().flat_map(resctrl::to_be_made) {
            self.saved.journal.add(Step::Resctrl(group));
        }
        let mut intent = self.saved.clone();
        cgroups.intend(&mut intent);
        if let Some(file) = &self.options.pid_file {
            intent.journal.add(Step::PidFile(file.clone()));
        }
        self.dir.begin(&intent)
    }

    /// Makes the cgroups, and moves CRIU into them: who is restored is born where it is.
    fn make_cgroups(&mut self, cgroups: &Cgroups<'_>, criu: i32) -> Result<Made> {
        let plan = &self.planned.plan;
        let made = match cgroups.make(&mut self.saved, self.trace)? {
            Some(made) => made,
            None => cgroups.make_around(&mut self.saved, criu, self.trace)?,
        };
        self.trace.done(What::Cgroups);
        if let Some(intel_rdt) = &plan.intel_rdt {
            resctrl::make(intel_rdt)?;
            resctrl::Groups::of(intel_rdt).take_in(criu)?;
        }
        made.apply(&plan.cgroup)?;
        self.trace.done(What::Limits);
        self.used = true;
        made.cgroup.take_in(criu)?;
        Ok(made)
    }

    fn survey(&self) -> Result<Survey> {
        let Planned { bundle, rootfs, .. } = self.planned;
        Ok(Survey::of(&bundle.spec, &bundle.path, rootfs, self.options, &probe(self.options)?))
    }

    /// The container's mounts that are not its own.
    fn mounts(&self, survey: &Survey) -> Result<Vec<External>> {
        let Planned { bundle, plan, .. } = self.planned;
        let spec = &bundle.spec;
        let hierarchies = plan.cgroup.dirs.iter().chain(&plan.cgroup.stays);
        let hierarchies = hierarchies.filter(|dir| matches!(dir.kind, DirKind::V1 { .. }));
        let masked = spec.linux().iter().filter_map(|linux| linux.masked_paths().as_ref()).flatten();
        let mut mounts = Seen {
            spec,
            bundle: &bundle.path,
            destinations: survey.destinations.iter().map(|seen| seen.path.clone()).collect(),
            below: below(spec, &bundle.path)?,
            hierarchies: hierarchies
                .filter_map(|dir| Some((dir.mountpoint.file_name()?.to_owned(), dir.path.clone())))
                .collect(),
            masked: masked.map(|path| clean(path.as_ref())).collect(),
        }
        .mounts();
        // CRIU follows no link there.
        for mount in &mut mounts {
            mount.source = fs::canonicalize(&mount.source).unwrap_or_else(|_| mount.source.clone());
        }
        // It may have been made for a caller that awaited its readiness.
        let notify = PathBuf::from(notify::INSIDE);
        mounts.push(External { at: notify.clone(), name: notify, source: self.dir.path().join(notify::FOLDER) });
        Ok(mounts)
    }

    /// What CRIU wants done meanwhile.
    fn work(&mut self, heard: Heard, restored: &mut Restored, console: Option<&ConsoleSocket>) -> Result<()> {
        match (heard.script.as_str(), heard.pid) {
            ("setup-namespaces", Some(pid)) => self.set_up(pid),
            ("orphan-pts-master", _) => {
                let Some(master) = heard.descriptor else {
                    return Err(Error::internal("CRIU has opened a terminal, and sent none"));
                };
                let master = Master::verified(master)?;
                restored.terminal = hand_over(Some(master), self.options.caller, console)?;
                Ok(())
            }
            ("post-restore", Some(pid)) => self.settle(pid, restored),
            _ => Ok(()),
        }
    }

    /// The namespaces are there, and nobody runs in them yet: hooks make what CRIU does not.
    fn set_up(&mut self, pid: i32) -> Result<()> {
        let init = ProcessRef::of(pid)?;
        self.saved.init = Some(init);
        self.dir.born(init)?;
        let spec = &self.planned.bundle.spec;
        if makes_network(spec) {
            Inside::of(pid)?.bring_loopback_up()?;
        }
        let pidfd = sys::pidfd_open(pid).map_err(|errno| Error::host(format!("pidfd_open {pid}"), errno))?;
        let environment = &self.options.hook_environment;
        let list = spec.hooks().as_ref();
        for kind in ["prestart", "createRuntime"] {
            if hooks::of_kind(list, kind).is_empty() {
                continue;
            }
            let state = hooks::state(&self.saved, Status::Creating, pid)?;
            hooks::run_all(list, kind, self.trace, |hook| {
                use std::os::fd::AsFd;
                hooks::run_in_runtime(hook, &self.saved.bundle, environment, &state, Some(pidfd.as_fd()))
            })?;
        }
        Ok(())
    }

    /// All is as it was, and stands still: from here on it is a container.
    fn settle(&mut self, pid: i32, restored: &mut Restored) -> Result<()> {
        let pidfd = sys::pidfd_open(pid).map_err(|errno| Error::host(format!("pidfd_open {pid}"), errno))?;
        self.saved.init = Some(ProcessRef::of(pid)?);
        // CRIU gives it one, so that its clocks go on where they were.
        if is_of_its_own(pid, "time") {
            let time = LinuxNamespaceType::Time as u64;
            self.saved.made |= if self.saved.namespaces & time == 0 { time } else { 0 };
            self.saved.namespaces |= time;
        }
        if let Some(file) = &self.options.pid_file {
            self.saved.journal.add(Step::PidFile(file.clone()));
            state::write_whole(file, pid.to_string().as_bytes()).map_err(|e| e.at("options.pid_file"))?;
        }
        self.saved.phase = Phase::Running;
        let mut saved = self.saved.clone();
        saved.journal.settle();
        self.dir.save(&saved)?;
        restored.process = Some((pid, pidfd));
        self.trace.done(What::Announced);
        Ok(())
    }
}

/// Who was restored.
struct Restored {
    terminal: Option<Master>,
    process: Option<(i32, std::os::fd::OwnedFd)>,
}

/// Whether a network namespace is made for it.
fn makes_network(spec: &Spec) -> bool {
    let list = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref()).flatten();
    let joined = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    list.into_iter().any(|one| one.typ() == LinuxNamespaceType::Network && !joined(one.path()))
}

/// Whether the process has another namespace of that kind than this one.
fn is_of_its_own(pid: i32, kind: &str) -> bool {
    let inode = |who: &str| fs::metadata(format!("/proc/{who}/ns/{kind}")).map(|meta| meta.ino()).ok();
    let (its, ours) = (inode(&pid.to_string()), inode("self"));
    its.is_some() && its != ours
}

/// The root filesystem as CRIU wants it: a mount of its own, over which nothing is mounted.
struct CriuRoot {
    path: PathBuf,
    mounted: bool,
}

impl CriuRoot {
    fn mount(rootfs: &std::path::Path, path: PathBuf) -> Result<Self> {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(rootfs), &path, None::<&str>, flags, None::<&str>)
            .map_err(|errno| Error::host(format!("mount {} at {}", rootfs.display(), path.display()), errno))?;
        Ok(CriuRoot { path, mounted: true })
    }

    /// Nobody needs it any more: the container has mounts of its own.
    fn take_away(mut self) -> Result<()> {
        self.mounted = false;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        umount2(&self.path, flags).map_err(|errno| Error::host(format!("umount2 {}", self.path.display()), errno))?;
        fs::remove_dir(&self.path).map_err(|e| Error::io(format!("rmdir {}", self.path.display()), &e))
    }
}

impl Drop for CriuRoot {
    fn drop(&mut self) {
        if self.mounted {
            let _ = umount2(&self.path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
    }
}
