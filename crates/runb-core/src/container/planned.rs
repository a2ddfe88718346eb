//! A bundle that is read and planned for a container, and what is kept of that.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::hooks::of_kind;
use crate::host::Host;
use crate::notify;
use crate::options::{CgroupManager, Options};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::{self, Ending, Outline, Plan, Request};
use crate::resctrl;
use crate::spec::Bundle;
use crate::state::{self, Phase, Saved};
use crate::survey::{Resctrl, Survey, closed, enter_destinations};
use crate::systemd;
use crate::trace::Trace;
use crate::undo::Journal;

/// A plan with what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// What it was made from.
    pub bundle: Bundle,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// The plan.
    pub plan: Plan,
}

/// Looks at the machine, for [`planned`].
///
/// # Errors
/// As [`Host::probe`]; a user's systemd that is to make the cgroups cannot be reached.
pub fn probe(options: &Options) -> Result<Host> {
    let host = Host::probe()?;
    Ok(match &options.cgroup_manager {
        CgroupManager::Cgroupfs => host,
        CgroupManager::Systemd(systemd) => Host { manager_cgroup: systemd::manager_cgroup(systemd)?, ..host },
    })
}

/// Reads the bundle of `options` and plans, without touching anything.
///
/// # Errors
/// The bundle or its configuration is wrong, or this machine cannot do what it asks for.
#[cfg(any(test, feature = "internals"))]
pub fn planned(options: &Options, host: &Host, ending: Ending) -> Result<Planned> {
    planned_traced(options, host, ending, &mut Trace::begin())
}

pub(super) fn planned_traced(options: &Options, host: &Host, ending: Ending, trace: &mut Trace) -> Result<Planned> {
    Read::of(options, trace)?.planned(options, host, ending)
}

/// Plans a bundle that was read.
#[cfg(any(test, feature = "internals"))]
pub(super) fn planned_of(bundle: Bundle, options: &Options, host: &Host, ending: Ending) -> Result<Planned> {
    Read::of_bundle(bundle, options)?.planned(options, host, ending)
}

/// A bundle that was read, for a container of these options.
pub(super) struct Read {
    pub(super) bundle: Bundle,
    rootfs: PathBuf,
}

impl Read {
    /// Reads it. Apart from the launch, whose stack it would make longer by two pages.
    #[inline(never)]
    pub(super) fn of(options: &Options, trace: &mut Trace) -> Result<Self> {
        state::check_id(&options.id)?;
        Read::of_bundle(Bundle::load_traced(&options.bundle, trace)?, options)
    }

    fn of_bundle(mut bundle: Bundle, options: &Options) -> Result<Self> {
        if options.notify_socket.is_some() {
            notify::add_to(&mut bundle.spec, &options.root.join(&options.id))?;
        }
        let rootfs = bundle.rootfs().unwrap_or_default();
        if bundle.spec.root().is_some() {
            check_rootfs(&bundle.spec, &rootfs)?;
        }
        enter_destinations(&mut bundle.spec, &rootfs);
        Ok(Read { bundle, rootfs })
    }

    /// Begins the plan.
    pub(super) fn outline(&self, options: &Options, host: &Host) -> Result<Outline> {
        plan::outline(&self.bundle.spec, host, options, &closed(&self.bundle.spec, options, &host.cgroups))
    }

    /// Looks at the files that the configuration names, and plans the rest.
    pub(super) fn plan(&self, outline: Outline, options: &Options, host: &Host, ending: Ending) -> Result<Plan> {
        let Read { bundle, rootfs } = self;
        let mut survey = Survey::of(&bundle.spec, &bundle.path, rootfs, options, host);
        survey.resctrl = Resctrl::of(&bundle.spec, &options.id);
        let request = Request { spec: &bundle.spec, host, survey: &survey, options, bundle: &bundle.path, ending };
        plan::finish(outline, &request)
    }

    /// What is kept, as far as an outline tells it.
    pub(super) fn saved(&self, options: &Options, namespaces: (u64, u64), cgroup: &CgroupPlan, host: &Host) -> Saved {
        saved((&self.bundle, &self.rootfs), options, namespaces, cgroup, host)
    }

    fn planned(self, options: &Options, host: &Host, ending: Ending) -> Result<Planned> {
        let plan = self.plan(self.outline(options, host)?, options, host, ending)?;
        let Read { bundle, rootfs } = self;
        Ok(Planned { bundle, rootfs, plan })
    }
}

/// The root filesystem is a directory; where the runtime may not look, the root of a user namespace still may.
fn check_rootfs(spec: &Spec, rootfs: &Path) -> Result<()> {
    let namespaces = spec.linux().iter().filter_map(|linux| linux.namespaces().as_ref());
    let mapped = namespaces.flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    match fs::metadata(rootfs) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(e) if mapped && e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Ok(_) => Err(Error::host(format!("{} is no directory", rootfs.display()), Errno::ENOTDIR).at("root.path")),
        Err(e) => Err(Error::io(format!("stat {}", rootfs.display()), &e).at("root.path")),
    }
}

/// What is kept of a container that is planned.
pub(super) fn saved_of_planned(options: &Options, planned: &Planned, host: &Host) -> Saved {
    let Planned { bundle, rootfs, plan } = planned;
    complete(saved((bundle, rootfs), options, (plan.namespaces, plan.made), &plan.cgroup, host), plan)
}

/// What is kept, as far as an outline tells it. `namespaces` are all of its own, and those that are made for it.
fn saved(
    (bundle, rootfs): (&Bundle, &Path),
    options: &Options,
    (namespaces, made): (u64, u64),
    cgroup: &CgroupPlan,
    host: &Host,
) -> Saved {
    let spec = &bundle.spec;
    let later = ["startContainer", "poststart", "poststop"];
    Saved {
        phase: Phase::Creating,
        version: state::VERSION,
        oci_version: spec.version().clone(),
        id: options.id.clone(),
        bundle: bundle.path.clone(),
        rootfs: rootfs.to_owned(),
        created: Saved::now(),
        owner: host.ids.0,
        annotations: spec.annotations().clone().unwrap_or_default(),
        init: None,
        namespaces,
        made,
        hooks: later.iter().any(|kind| !of_kind(spec.hooks().as_ref(), kind).is_empty()),
        // A unit may be somebody else's until systemd has made it: what is in its cgroup is not to be killed.
        cgroup: if cgroup.unit.is_none() { Cgroup::of(cgroup) } else { Cgroup::default() },
        resctrl: None,
        resources: None,
        criu: None,
        keyring: options.keyring,
        journal: Journal::default(),
        late: Vec::new(),
    }
}

/// Adds what only a plan tells.
pub(super) fn complete(saved: Saved, plan: &Plan) -> Saved {
    Saved { resctrl: plan.intel_rdt.as_ref().map(resctrl::Groups::of), late: plan.late(), ..saved }
}
