//! From what was written to what is to be done: pure, without root, touching nothing.
//!
//! A [`Plan`] is complete: what the runtime does, and the program that init runs. The order of a launch is [`create`].

mod attributes;
pub mod begin;
pub mod cgroup;
mod check;
mod command;
mod credentials;
mod devices;
pub mod exec;
mod guard;
pub mod hooks;
mod lsm;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod procfs;
pub mod program;
mod rootfs;
mod schedule;
pub mod seccomp;
mod terminal;

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{LinuxIdMapping, Spec};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::options::Options;
use crate::survey::{Reader, Survey};
use attributes::{Procfs, Setter};
use cgroup::CgroupPlan;
use namespaces::Entry;
use program::{AT_FDCWD, Hint, Mark, O_RDWR, O_WRONLY, Program, namespace_flags};
use rootfs::Site;
use runb_init::Point;
use seccomp::Filter;

pub(crate) use check::kinds as hook_kinds;
pub use check::{SPEC_VERSION, check, hook_names};
pub use mount_options::{Reach, option_names};
pub use mounts::{MountStep, MountWork};
pub use namespaces::{NAMESPACES, name as namespace_name};

/// The name of the exec fifo in the state's folder.
pub const FIFO: &str = "exec.fifo";

/// A failure that happens after `create` has returned, prepared as text: by the index of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Late {
    /// The index in the program.
    pub call: u16,
    /// The place in config.json.
    pub place: String,
    /// What the call does.
    pub what: String,
    /// What its failure means, where its errno alone does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

/// The longest program: a report has 16 bits for the index of a call.
const MOST_CALLS: usize = u16::MAX as usize;

/// What happens when everything is set up but the execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Init reports and waits at the exec fifo (`create`).
    Fifo,
    /// Init stops, and executes when the runtime lets it (`run`).
    Stop,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration.
    pub spec: &'a Spec,
    /// The machine.
    pub host: &'a Host,
    /// What the runtime saw of the files that the configuration names.
    pub survey: &'a Survey,
    /// What the caller wants.
    pub options: &'a Options,
    /// The absolute path of the bundle.
    pub bundle: &'a Path,
    /// What comes at the end.
    pub ending: Ending,
}

impl Request<'_> {
    /// The folder of the container's state.
    pub fn state_dir(&self) -> PathBuf {
        self.options.root.join(&self.options.id)
    }
}

/// The maps of a new user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// The lines of uid_map.
    pub uids: String,
    /// The lines of gid_map.
    pub gids: String,
}

/// Everything that a launch does.
#[derive(Debug)]
pub struct Plan {
    /// What init runs.
    pub program: Program,
    /// The namespaces that the clone itself makes.
    pub clone: u64,
    /// `CLONE_NEW*` of all namespaces that are the container's own, new or joined.
    pub namespaces: u64,
    /// Those of them that createContainer hooks run in.
    pub hook_namespaces: u64,
    /// The cgroups.
    pub cgroup: CgroupPlan,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The maps of a new user namespace, written at [`Point::IdMap`].
    pub id_maps: Option<IdMaps>,
    /// What the runtime does to mounts, one at each [`Point::Mount`].
    pub mount_steps: Vec<MountStep>,
    /// What was found odd and is no error.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Whether init goes on in a twin.
    pub fn has_twin(&self) -> bool {
        self.program.marked(Mark::Twin).is_some()
    }

    /// What the runtime does, in order, in words.
    pub fn steps(&self) -> Vec<String> {
        let mut steps: Vec<String> =
            self.cgroup.chains().map(|path| format!("mkdir {}, if it is missing", path.display())).collect();
        let into = self
            .cgroup
            .join
            .into
            .map_or(String::new(), |dir| format!(" into {}", self.cgroup.dirs[dir].path.display()));
        steps.push(format!("clone3({}){into}, execveat(runb-init)", namespace_flags(self.clone)));
        for write in &self.cgroup.limits.writes {
            let dir = write.dir.display();
            steps.push(format!("write {:?} to {dir}/{} # {}", write.value, write.file, write.origin));
        }
        if let Some(devices) = &self.cgroup.limits.devices {
            let dir = devices.dir.display();
            steps.push(format!("attach a device program of {} instructions to {dir}", devices.instructions.len()));
        }
        if let Some(owner) = self.cgroup.owner {
            steps.push(format!("give the cgroup to the user {owner}, unless it is already"));
        }
        if let Some(maps) = &self.id_maps {
            steps.push(format!("at the stop IdMap: write {:?} to uid_map, {:?} to gid_map", maps.uids, maps.gids));
        }
        for step in &self.mount_steps {
            let place = &step.place;
            steps.push(match &step.work {
                MountWork::MapIds(Some(maps), _) => {
                    format!("at a stop Mount: {place}: map ids by {:?}, {:?}", maps.uids, maps.gids)
                }
                MountWork::MapIds(None, _) => format!("at a stop Mount: {place}: map ids as the user namespace does"),
                MountWork::CopyUp { path, .. } => {
                    format!("at a stop Mount: {place}: copy what is in {} into it", path.display())
                }
                MountWork::Procfs => format!("at a stop Mount: {place}: begin a procfs in the pid namespace"),
            });
        }
        steps.extend(self.program.points().map(|point| format!("resume init at the stop {point:?}")));
        steps
    }

    /// The calls that come after the report that all is ready, as text for whoever starts the container.
    pub fn late(&self) -> Vec<Late> {
        let Some(wait) = self.program.marked(Mark::Wait) else { return Vec::new() };
        let text = |call: usize| Late {
            call: call as u16,
            place: self.program.place(call).to_owned(),
            what: self.program.what(call),
            hint: self.program.hint(call),
        };
        (wait..self.program.calls().len()).map(text).collect()
    }
}

/// The number of the descriptor that takes the reports: the first after those that the workload keeps.
///
/// # Errors
/// They are more than a process can have.
fn report_descriptor(kept: u32) -> Result<i32> {
    // No descriptor has a number from this one on (sysctl_nr_open_max in fs/file.c).
    const NUMBERS: u32 = 0x7fff_ffc0;
    // Two more follow: the fifo or a pidfd, and what init is executed from.
    match kept.checked_add(3).filter(|report| *report < NUMBERS - 2) {
        Some(report) => Ok(report.cast_signed()),
        None => {
            let text = format!("{kept} descriptors are to be preserved: a process cannot have so many");
            Err(Error::new(Kind::Usage, text))
        }
    }
}

/// Plans a container: what `create` and `run` do.
///
/// # Errors
/// The configuration is wrong, or asks for what this version or this machine cannot do; with the place.
pub fn create(request: &Request<'_>) -> Result<Plan> {
    let spec = request.spec;
    let mut warnings = check(spec, request.host)?;
    let linux = spec.linux().as_ref();
    let mut cgroup = cgroup::plan(
        linux.and_then(|linux| linux.resources().as_ref()),
        linux.and_then(|linux| linux.cgroups_path().as_deref()),
        &request.options.id,
        request.options.cgroup_manager,
        &request.host.cgroups,
    )?;
    cgroup.owner = cgroup::owner(spec, &cgroup);
    warnings.extend_from_slice(&cgroup.limits.warnings);
    let namespaces = namespaces::Namespaces::of(spec)?;
    let filter = filter(spec, request.host)?;
    let Some(process) = spec.process() else { return Err(Error::spec("process", "is missing")) };
    let mut program = Program::new(report_descriptor(request.options.kept_descriptors())?);
    let p = &mut program;

    let setter = Setter::of(p, request.host);

    // Here init is the runtime's equal: the host's namespaces but for a new pid namespace, and the host's root.
    let mut begun = process::begin(p);
    if request.ending == Ending::Fifo {
        open_fifo(p, request);
    }
    process::oom_score(p, process);
    process::privileged(p, process, &namespaces, request.survey)?;
    let privileged = p.calls().len();
    lsm::labels(p, process, request.survey.lsm)?;
    join_cgroups(p, &cgroup);
    let mut root = rootfs::Root::open(p, request, setter)?;
    let mut mounts = mounts::Mounts::open(p, request, &cgroup, &namespaces, setter)?;
    let devices = devices::Devices::open(p, spec, &namespaces, request.survey)?;
    let masks = masks::Masks::open(p, request, devices.null(spec), setter)?;
    // The way that init works while hooks want to see the mounts.
    let site = if hooks::before_pivot(spec) { Site::AtPath } else { Site::OnRoot };

    let entry = namespaces.entry(request.survey);
    // A child has descriptors of its own to look at; a mount namespace that is joined has a procfs of others.
    if entry != Entry::Alone {
        setter.open(p, Procfs::Hosts);
    }
    let procfs = procfs::HostsProc::open(p, &namespaces);
    let pid_namespace = namespaces.enter(p, (spec, request.host), &procfs, entry)?;
    mounts.show(pid_namespace, request.survey);
    root.open_as(p, Reader::Container);
    process::network(p, &namespaces);
    process::names_and_sysctls(p, spec, &namespaces, &procfs)?;
    procfs.close(p);

    // From here on the container's namespaces are the own ones.
    if entry == Entry::Alone {
        namespaces::become_child(p);
        setter.open(p, if namespaces.joins_mounts() { Procfs::New } else { Procfs::Hosts });
    }
    mounts.prepare(p)?;
    root.attach(p, request, site);
    if site == Site::OnRoot {
        root.pivot(p, request, site);
    }
    mounts.attach(p)?;
    devices.attach(p, &mounts);
    terminal::open(p, process, &mounts)?;
    process::make_cwd(p, process, &mounts, &request.survey.cwd);
    mounts.verify(p);
    if site == Site::AtPath {
        root.leave(p);
        p.section("hooks");
        p.stop(Point::Hooks);
        root.pivot(p, request, site);
        mounts.follow_hooks(p, masks.paths());
    }
    masks.attach(p, &mounts);
    mounts.finish(p);
    root.finish(p, request);

    // From here on only the process itself changes.
    begun.raise_descriptors(p, privileged, process, request.survey);
    warnings.extend(process::finish(p, request, process, (&namespaces, entry), &begun, filter.as_ref())?);
    warnings.append(&mut mounts.warnings);
    let mount_steps = mounts.steps;
    if program.calls().len() > MOST_CALLS {
        let text = format!(
            "the configuration takes {} calls of init, and {MOST_CALLS} can be told apart",
            program.calls().len()
        );
        return Err(Error::spec("mounts", text));
    }
    let id_maps = namespaces.id_maps(spec);
    // A pid namespace that others are in shows nobody who has the host's files in sight, a hook included.
    let unseen = if entry == Entry::Last { libc::CLONE_NEWPID as u64 } else { 0 };
    Ok(Plan {
        program,
        clone: namespaces.clone_flags(),
        namespaces: namespaces.all(),
        hook_namespaces: namespaces.all() & !unseen,
        cgroup,
        filter,
        id_maps,
        mount_steps,
        warnings,
    })
}

/// linux.seccomp, compiled for this machine; none where the configuration has no profile.
///
/// # Errors
/// As [`seccomp::compile`].
pub fn filter(spec: &Spec, host: &Host) -> Result<Option<Filter>> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(profile) = seccomp else { return Ok(None) };
    let unsupported = || Error::spec("linux.seccomp", "has no table of system calls for this architecture");
    let native = seccomp::Native::of_build().ok_or_else(unsupported)?;
    seccomp::compile(profile, native, &seccomp::Kernel::of_release(host.kernel.0, host.kernel.1)).map(Some)
}

/// Version 1: init writes itself into each hierarchy.
fn join_cgroups(p: &mut Program, plan: &CgroupPlan) {
    p.section("linux.cgroupsPath");
    for (_, procs) in &plan.join.procs {
        let open = p.openat(AT_FDCWD, procs, O_WRONLY);
        match plan.denied {
            cgroup::Denied::Fails => {
                let file = open.out();
                p.write(file, "0");
                p.close(file);
            }
            cgroup::Denied::Skips => {
                let file = open.tolerate(&[libc::ENOENT, libc::EACCES, libc::EPERM, libc::EROFS]).out();
                p.write(file, "0").after_success();
                p.close(file).after_success();
            }
        }
    }
}

/// The exec fifo, for reading and writing: opening it does not wait, and reading from it does.
fn open_fifo(p: &mut Program, request: &Request<'_>) {
    p.section("");
    let fifo = p.openat(AT_FDCWD, &request.state_dir().join(FIFO), O_RDWR).out();
    process::keep_fifo(p, fifo);
}

/// `container host size` lines.
fn id_map(mappings: &[LinuxIdMapping]) -> String {
    mappings.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_come_after_the_preserved_descriptors_or_there_are_too_many_of_them() {
        assert_eq!(report_descriptor(0).expect("a number"), 3);
        assert_eq!(report_descriptor(0x7fff_ff00).expect("a number"), 0x7fff_ff03);
        for kept in [0x7fff_ffc0, 0x7fff_ffff, 0x8000_0000, u32::MAX - 3, u32::MAX] {
            assert_eq!(report_descriptor(kept).expect_err("too many").kind(), Kind::Usage);
        }
    }
}
