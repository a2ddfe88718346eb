//! From what was written to what is to be done: pure, without root, touching nothing.
//!
//! A [`Plan`] is complete: what the runtime does, and the program that init runs. The order of a launch is [`create`].

pub mod begin;
pub mod cgroup;
mod check;
mod environment;
pub mod exec;
pub mod hooks;
mod lsm;
mod mounts;
mod namespaces;
mod process;
mod procfs;
pub mod program;
mod request;
pub mod seccomp;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::survey::Reader;
use cgroup::CgroupPlan;
use mounts::attributes::{Procfs, Setter};
use mounts::rootfs::Site;
use mounts::rootfs::Whose;
use mounts::{devices, list, masks, rootfs};
use namespaces::Entry;
use process::terminal;
use program::{AT_FDCWD, Hint, Mark, O_RDWR, O_WRONLY, Program, namespace_flags, report_descriptor};
use runb_init::Point;
use seccomp::Filter;

pub(crate) use check::kinds as hook_kinds;
pub use check::{SPEC_VERSION, check, hook_names};
pub use mounts::list::{MountStep, MountWork};
pub use mounts::options::{Reach, option_names};
pub use namespaces::{IdMaps, NAMESPACES, name as namespace_name};
pub use process::schedule::{Attributes, PLACE as SCHEDULER};
pub use request::{Ending, Request};
pub use seccomp::of as filter;

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

/// Everything that a launch does.
#[derive(Debug)]
pub struct Plan {
    /// What init runs.
    pub program: Program,
    /// The namespaces that the clone itself makes.
    pub clone: u64,
    /// `CLONE_NEW*` of all namespaces that are the container's own, new or joined.
    pub namespaces: u64,
    /// Those of them that are made for it.
    pub made: u64,
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
    /// The scheduler of the twin, set at [`Point::Scheduler`].
    pub scheduler: Option<Attributes>,
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
        for write in &self.cgroup.writes {
            let dir = self.cgroup.dirs[write.dir].path.display();
            steps.push(format!("write {:?} to {dir}/{} # {}", write.value, write.file, write.origin));
        }
        if let Some(devices) = &self.cgroup.devices {
            let dir = self.cgroup.dirs[devices.dir].path.display();
            steps.push(format!("attach a device program of {} instructions to {dir}", devices.instructions.len()));
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
        if let Some(Attributes { what, .. }) = &self.scheduler {
            steps.push(format!("at the stop Scheduler: {what}"));
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

/// Plans a container: what `create` and `run` do.
///
/// # Errors
/// The configuration is wrong, or asks for what this version or this machine cannot do; with the place.
pub fn create(request: &Request<'_>) -> Result<Plan> {
    let spec = request.spec;
    let mut warnings = check(spec, request.host)?;
    let linux = spec.linux().as_ref();
    let cgroup = cgroup::plan(
        linux.and_then(|linux| linux.resources().as_ref()),
        linux.and_then(|linux| linux.cgroups_path().as_deref()),
        &request.options.id,
        request.options.cgroup_manager,
        &request.host.cgroups,
    )?;
    let namespaces = namespaces::Namespaces::of(spec)?;
    let filter = seccomp::of(spec, request.host)?;
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
    let entry = namespaces.entry(request.survey);
    process::privileged(p, request, process, (&namespaces, entry))?;
    let privileged = p.calls().len();
    lsm::labels(p, process, request.survey.lsm)?;
    join_cgroups(p, &cgroup);
    let whose = if namespaces.has(libc::CLONE_NEWNS as u64) { Whose::Own } else { Whose::Runtimes };
    let mut root = rootfs::Root::open(p, request, setter, whose)?;
    let mut mounts = list::Mounts::open(p, request, &cgroup, &namespaces, setter)?;
    let devices = devices::Devices::open(p, request, &namespaces)?;
    let masks = masks::Masks::open(p, request, devices.null(spec), setter)?;
    // The way that init works while hooks want to see the mounts, and where they lie in the runtime's mount namespace.
    let hooks = hooks::before_pivot(spec);
    let site = if hooks || whose == Whose::Runtimes { Site::AtPath } else { Site::OnRoot };

    // A child has descriptors of its own to look at; a mount namespace that is joined has a procfs of others.
    if entry != Entry::Alone {
        setter.open(p, Procfs::Hosts);
    }
    let procfs = namespaces.hosts_procfs(p);
    let pid_namespace = namespaces.enter(p, (spec, request.host), &procfs, entry)?;
    mounts.show(pid_namespace, request.survey);
    root.open_as(p, Reader::Container);
    process::network(p, &namespaces);
    process::names_and_sysctls(p, spec, &namespaces, &procfs)?;
    procfs.close(p);

    // From here on the container's namespaces are the own ones.
    let mut scheduler = None;
    if entry == Entry::Alone {
        namespaces::become_child(p);
        scheduler = process::schedule::of_twin(p, process)?;
        setter.open(p, if namespaces.joins_mounts() { Procfs::New } else { Procfs::Hosts });
    }
    root.seclude(p, request);
    mounts.make(p)?;
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
        if hooks {
            p.section("hooks");
            p.stop(Point::Hooks);
        }
        root.pivot(p, request, site);
        mounts.follow_hooks(p, masks.paths());
    }
    masks.attach(p, &mounts);
    mounts.finish(p);
    root.finish(p, request);

    // From here on only the process itself changes.
    begun.raise_descriptors(p, privileged, process, request.survey);
    let finished = process::finish(p, request, process, (&namespaces, entry), &begun, filter.as_ref())?;
    warnings.extend(finished.warnings);
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
        made: namespaces.new_ones(),
        hook_namespaces: namespaces.all() & !unseen,
        cgroup,
        filter,
        id_maps,
        mount_steps,
        scheduler: scheduler.or(finished.scheduler),
        warnings,
    })
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
