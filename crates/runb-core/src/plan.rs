//! From what was written to what is to be done: pure, without root, touching nothing.
//!
//! A [`Plan`] is complete: what the runtime does, and the program that init runs. The order of a launch is [`create`].

pub mod begin;
pub mod cgroup;
mod check;
pub(crate) mod criu;
mod environment;
pub mod exec;
pub mod hooks;
mod intel_rdt;
mod lsm;
mod mounts;
mod namespaces;
mod outline;
mod process;
mod procfs;
pub mod program;
mod request;
pub mod seccomp;

use std::sync::Arc;

use nix::libc;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::survey::Reader;
use cgroup::CgroupPlan;
use mounts::attributes::{Procfs, Setter};
use mounts::rootfs::{Site, Whose};
use mounts::{devices, list, masks, rootfs};
use namespaces::sight::Sight;
use namespaces::{Entry, Namespaces, net_devices, settings};
use process::{schedule, terminal};
use program::{AT_FDCWD, Hint, Mark, O_RDWR, Program, Slot};
use runb_init::Point;
use seccomp::Filter;

pub(crate) use check::kinds as hook_kinds;
pub(crate) use intel_rdt::PLACE as RESCTRL;
pub use intel_rdt::{IntelRdt, Whose as WhoseGroup};
pub use check::{SPEC_VERSION, check, hook_names};
pub use mounts::list::{MountStep, MountWork, Source};
pub use mounts::options::{Reach, option_names};
pub use namespaces::id_maps::{IdMaps, Writer, Writers};
pub use namespaces::net_devices::NetDevice;
pub use namespaces::{NAMESPACES, name as namespace_name};
pub use outline::{Outline, outline};
pub(crate) use process::memory_policy::{FLAGS as MEMORY_POLICY_FLAGS, MODES as MEMORY_POLICY_MODES};
pub use process::schedule::{Attributes, PLACE as SCHEDULER};
pub use request::{Ending, Request};
#[cfg(feature = "internals")]
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
    pub cgroup: Arc<CgroupPlan>,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The maps of a new user namespace, written at [`Point::IdMap`], and by whom.
    pub id_maps: Option<(IdMaps, Writers)>,
    /// The group of the resctrl filesystem.
    pub intel_rdt: Option<IntelRdt>,
    /// What the runtime moves into the network namespace, at [`Point::NetDevices`].
    pub net_devices: Vec<NetDevice>,
    /// What the runtime does to mounts, one at each [`Point::Mount`].
    pub mount_steps: Vec<MountStep>,
    /// The scheduler of the twin, set at [`Point::Scheduler`].
    pub scheduler: Option<Attributes>,
    /// What was found odd and is no error.
    pub warnings: Vec<String>,
}

impl Plan {
    /// What the runtime does, in order, in words.
    #[cfg(feature = "internals")]
    pub fn steps(&self) -> Vec<String> {
        let made = self.cgroup.chains().map(|path| format!("mkdir {}, if it is missing", path.display()));
        let unit = self.cgroup.unit.as_ref().map_or_else(Vec::new, |unit| unit.steps());
        let into = self
            .cgroup
            .join
            .into
            .map_or(String::new(), |dir| format!(" into {}", self.cgroup.dirs[dir].path.display()));
        let clone = format!("clone3({}){into}, execveat(runb-init)", program::namespace_flags(self.clone));
        let mut steps: Vec<String> = if self.cgroup.moves_init() {
            [clone].into_iter().chain(unit).chain(made).collect()
        } else {
            unit.into_iter().chain(made).chain([clone]).collect()
        };
        for write in &self.cgroup.limits.writes {
            let dir = write.dir.display();
            steps.push(format!("write {:?} to {dir}/{} # {}", write.value, write.file, write.origin));
        }
        if let Some(IntelRdt { group, whose, lines, monitoring, .. }) = &self.intel_rdt {
            if *whose != WhoseGroup::Others {
                steps.push(format!("mkdir {}", group.display()));
            }
            let schemata = group.join("schemata");
            steps.extend(lines.iter().map(|(place, line)| format!("write {line:?} to {} # {place}", schemata.display())));
            steps.extend(monitoring.iter().map(|path| format!("mkdir {}, if it is missing", path.display())));
        }
        if let Some(devices) = &self.cgroup.limits.devices {
            let dir = devices.dir.display();
            steps.push(format!("attach a device program of {} instructions to {dir}", devices.instructions.len()));
        }
        if let Some(owner) = self.cgroup.owner {
            steps.push(format!("give the cgroup to the user {owner}, unless it is already"));
        }
        if let Some((maps, writers)) = &self.id_maps {
            steps.push(format!("at the stop IdMap: {}", writers.describe(maps)));
        }
        for NetDevice { place, name, inside, .. } in &self.net_devices {
            steps.push(format!("at the stop NetDevices: {place}: move {name} into the network namespace, as {inside}"));
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
                MountWork::Disk => format!("at a stop Mount: {place}: create the filesystem on the block device"),
                MountWork::Open(sources) => {
                    let opened: Vec<_> = sources.iter().map(|source| source.path.display().to_string()).collect();
                    format!("at a stop Mount: {place}: open {}", opened.join(", "))
                }
            });
        }
        if let Some(Attributes { what, .. }) = &self.scheduler {
            steps.push(format!("at the stop Scheduler: {what}"));
        }
        if let Some(cgroup::LastLimit { write, told }) = &self.cgroup.last {
            let told = told.iter().map(|told| format!("SetUnitProperties {}={}, and ", told.name, told.value));
            let cgroup::Write { dir, file, value, origin, .. } = write;
            let told: String = told.collect();
            steps.push(format!("at the stop Ready: {told}write {value:?} to {}/{file} # {origin}", dir.display()));
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

/// Plans a container whose cgroups can be made: what `create` and `run` do.
///
/// # Errors
/// The configuration is wrong, or asks for what this version or this machine cannot do; with the place.
#[cfg(any(test, feature = "internals"))]
pub fn create(request: &Request<'_>) -> Result<Plan> {
    let outline = outline(request.spec, request.host, request.options, &[])?;
    finish(outline, request)
}

/// Plans the rest of what [`outline()`] has begun.
///
/// # Errors
/// As [`create`].
pub fn finish(outline: Outline, request: &Request<'_>) -> Result<Plan> {
    let Outline { mut cgroup, mut program, namespaces, mut warnings } = outline;
    let intel_rdt = intel_rdt::plan(request.spec, &request.options.id, request.survey.resctrl.as_ref())?;
    let launch = Launch::of(request, namespaces)?;
    if cgroup.dirs.is_empty() && !launch.namespaces.has(libc::CLONE_NEWPID as u64) {
        warnings.push(UNKILLABLE.to_owned());
    }
    let filter = seccomp::of(request.spec, request.host)?;
    let p = &mut program;

    // Here init is the runtime's equal: the host's namespaces but for those that the outline has made, and the host's root.
    let setter = Setter::of(p, request.host);
    let mut begun = process::begin(p);
    warnings.extend(launch.with_the_hosts_rights(p)?);
    let privileged = p.calls().len();
    intel_rdt::join(p, intel_rdt.iter().flat_map(IntelRdt::groups));
    launch.be_told_apart(p, &cgroup)?;
    // A user has the right to open what is to be mounted only when the namespaces are the container's own.
    let opened = match request.host.standing.may_mount() {
        true => Some(launch.open(p, &cgroup, setter)?),
        false => None,
    };
    // From here on its namespaces are the container's own.
    let (pid_namespace, entered) = launch.enter(p, setter)?;
    let mut files = match opened {
        Some(files) => files,
        None => launch.open(p, &cgroup, setter)?,
    };
    files.mounts.show(pid_namespace, request.survey);
    files.root.open_as(p, Reader::Container);
    launch.mount(p, &mut files)?;
    // From here on only the process itself changes.
    begun.raise_descriptors(p, privileged, launch.process, request.survey);
    let finished = process::finish(p, request, launch.process, launch.entered(), &begun, filter.as_ref())?;

    can_be_told_apart(&program)?;
    let mount_steps = files.mounts.steps;
    warnings.append(&mut files.mounts.warnings);
    if program.marked(Mark::Twin).is_some() {
        Arc::make_mut(&mut cgroup).let_a_twin_pass();
    }
    warnings.extend(finished.warnings);
    let namespaces = &launch.namespaces;
    // A pid namespace that others are in shows nobody who has the host's files in sight, a hook included.
    let unseen = if launch.entry == Entry::Last { libc::CLONE_NEWPID as u64 } else { 0 };
    Ok(Plan {
        program,
        clone: namespaces.clone_flags(),
        namespaces: namespaces.all(),
        made: namespaces.new_ones(),
        hook_namespaces: namespaces.all() & !unseen,
        id_maps: namespaces.id_maps(request)?,
        cgroup,
        filter,
        mount_steps,
        intel_rdt,
        net_devices: entered.net_devices,
        scheduler: entered.scheduler.or(finished.scheduler),
        warnings,
    })
}

/// In runc's words.
const UNKILLABLE: &str = "a rootless container with no cgroup and no private pid namespace: Such configuration is strongly \
                          discouraged, as nobody knows all its processes, to kill them";

/// What the phases of a launch go by.
struct Launch<'a> {
    request: &'a Request<'a>,
    process: &'a Process,
    namespaces: Namespaces,
    /// When init comes into its pid namespace.
    entry: Entry,
    /// Whether hooks run while the root lies at its path.
    hooks: bool,
    whose: Whose,
    site: Site,
    sight: Sight,
}

/// What the configuration names of the host's files, open while the host's paths are at hand.
struct Files<'a> {
    root: rootfs::Root,
    mounts: list::Mounts<'a>,
    devices: devices::Devices,
    masks: masks::Masks<'a>,
}

/// What the entry into the namespaces leaves to the runtime.
struct Entered {
    net_devices: Vec<NetDevice>,
    /// For the twin, if there is one by then.
    scheduler: Option<Attributes>,
}

impl<'a> Launch<'a> {
    fn of(request: &'a Request<'a>, namespaces: Namespaces) -> Result<Self> {
        let spec = request.spec;
        let Some(process) = spec.process() else { return Err(Error::spec("process", "is missing")) };
        let entry = namespaces.entry(request.survey);
        let whose = if namespaces.has(libc::CLONE_NEWNS as u64) { Whose::Own } else { Whose::Runtimes };
        // The way that init works while hooks want to see the mounts, and where they lie in the runtime's mount namespace.
        let hooks = hooks::before_pivot(spec);
        let site = if hooks || whose == Whose::Runtimes { Site::AtPath } else { Site::OnRoot };
        let sight = Sight::of(request.host, &namespaces);
        Ok(Launch { request, process, namespaces, entry, hooks, whose, site, sight })
    }

    /// For who is to know how its pid namespace is entered.
    fn entered(&self) -> (&Namespaces, Entry) {
        (&self.namespaces, self.entry)
    }

    /// What a user namespace takes the right to. A warning may tell what there is no right to.
    fn with_the_hosts_rights(&self, p: &mut Program) -> Result<Option<String>> {
        if self.request.ending == Ending::Fifo {
            open_fifo(p, self.request);
        }
        let warning = process::oom_score(p, self.process, self.request.host);
        process::privileged(p, self.request, self.process, self.entered())?;
        Ok(warning)
    }

    /// What tells it from the runtime: labels and cgroups, by the host's files.
    fn be_told_apart(&self, p: &mut Program, cgroup: &CgroupPlan) -> Result<()> {
        lsm::labels(p, self.process, self.request.survey.lsm)?;
        if self.namespaces.ahead() == 0 {
            outline::join_cgroups(p, cgroup);
        }
        Ok(())
    }

    /// What is opened of the host's files.
    fn open(&self, p: &mut Program, cgroup: &'a CgroupPlan, setter: Setter) -> Result<Files<'a>> {
        let Launch { request, namespaces, .. } = self;
        let root = rootfs::Root::open(p, request, setter, self.whose)?;
        let mounts = list::Mounts::open(p, request, cgroup, namespaces, setter)?;
        let devices = devices::Devices::open(p, request, namespaces)?;
        let masks = masks::Masks::open(p, request, devices.null(request.spec), setter)?;
        Ok(Files { root, mounts, devices, masks })
    }

    /// Enters the namespaces, whose names and sysctls are written while the host's procfs is at hand; network devices are there
    /// by then, as sysctls may be theirs. With it, the pid namespace that init does not enter yet.
    fn enter(&self, p: &mut Program, setter: Setter) -> Result<(Option<Slot>, Entered)> {
        let Launch { request, namespaces, entry, sight, .. } = self;
        // A child has descriptors of its own to look at; a mount namespace that is joined has a procfs of others.
        let now = *entry != Entry::Alone && request.host.standing.may_mount();
        if now {
            setter.open(p, Procfs::Hosts);
        }
        let procfs = namespaces.hosts_procfs(p);
        let pid_namespace = namespaces.enter(p, (request.spec, request.host), &procfs, (*entry, *sight))?;
        if namespaces.ahead() == 0 {
            settings::network(p, namespaces);
        }
        let net_devices = net_devices::stop(p, request.spec, namespaces)?;
        settings::names_and_sysctls(p, request.spec, namespaces, &procfs)?;
        procfs.close(p);
        let mut scheduler = None;
        if *entry == Entry::Alone {
            namespaces::become_child(p);
            scheduler = schedule::of_twin(p, self.process)?;
        }
        if !now {
            setter.open(p, if namespaces.joins_mounts() { Procfs::New } else { Procfs::Hosts });
        }
        Ok((pid_namespace, Entered { net_devices, scheduler }))
    }

    /// Makes what is to be mounted while the host is in view, changes the root, and puts it there: mounts, devices, the terminal,
    /// the working directory; masks last, as hooks may mount before.
    fn mount(&self, p: &mut Program, files: &mut Files<'_>) -> Result<()> {
        let Launch { request, process, site, .. } = self;
        let Files { root, mounts, devices, masks } = files;
        root.seclude(p, request);
        mounts.make(p)?;
        root.attach(p, request, *site);
        if *site == Site::OnRoot {
            root.pivot(p, request, *site);
        }
        mounts.attach(p)?;
        devices.attach(p, mounts);
        terminal::open(p, process, mounts)?;
        process::make_cwd(p, process, mounts, &request.survey.cwd);
        mounts.verify(p);
        if *site == Site::AtPath {
            root.leave(p);
            if self.hooks {
                p.section("hooks");
                p.stop(Point::Hooks);
            }
            root.pivot(p, request, *site);
            if self.hooks {
                mounts.follow_hooks(p, masks.paths());
            }
        }
        if !terminal::wanted(process) {
            devices.open_null(p, request, mounts);
        }
        masks.attach(p, mounts);
        mounts.finish(p);
        root.finish(p, request);
        Ok(())
    }
}

/// # Errors
/// There are more calls than a report can tell apart.
fn can_be_told_apart(program: &Program) -> Result<()> {
    match program.calls().len() {
        0..=MOST_CALLS => Ok(()),
        many => {
            let text = format!("the configuration takes {many} calls of init, and {MOST_CALLS} can be told apart");
            Err(Error::spec("mounts", text))
        }
    }
}

/// The exec fifo, for reading and writing: opening it does not wait, and reading from it does.
fn open_fifo(p: &mut Program, request: &Request<'_>) {
    p.section("");
    let fifo = p.openat(AT_FDCWD, &request.state_dir().join(FIFO), O_RDWR).out();
    process::keep_fifo(p, fifo);
}
