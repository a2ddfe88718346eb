//! What can be told of a container by its configuration alone, before anybody has looked at its root filesystem: its cgroups, its
//! namespaces, and what init does first. With a new network namespace that is worth a start: the kernel takes about as long to
//! make one as the runtime to look and to plan, so init makes it meanwhile (docs/decisions/ahead.md).

use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::runtime::Spec;
use runb_init::Point;

use super::cgroup::systemd::Asked;
use super::cgroup::{self, CgroupPlan};
use super::namespaces::sight::Sight;
use super::namespaces::{Namespaces, settings};
use super::program::{AT_FDCWD, O_WRONLY, Program, report_descriptor};
use super::{check, process};
use crate::error::Result;
use crate::host::Host;
use crate::options::{CgroupManager, Options};

/// The begin of a plan.
#[derive(Debug)]
pub struct Outline {
    pub(super) cgroup: Arc<CgroupPlan>,
    pub(super) namespaces: Namespaces,
    /// The first calls of init.
    pub(super) program: Program,
    pub(super) warnings: Vec<String>,
}

impl Outline {
    /// The cgroups.
    pub(crate) fn cgroup(&self) -> &Arc<CgroupPlan> {
        &self.cgroup
    }

    /// What init does, so far.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether init can begin with that.
    pub(crate) fn is_ahead(&self) -> bool {
        self.namespaces.ahead() != 0
    }

    /// The namespaces that the clone itself makes.
    pub(crate) fn clone_flags(&self) -> u64 {
        self.namespaces.clone_flags()
    }

    /// `CLONE_NEW*` of all namespaces that are the container's own, and those of them that are made for it.
    pub(crate) fn namespaces(&self) -> (u64, u64) {
        (self.namespaces.all(), self.namespaces.new_ones())
    }
}

/// Begins the plan of a container. In the directories `closed` no cgroup can be made: of who asks for none and for no limit, the
/// runtime's own cgroups, and on version 2 what is above; nobody has looked where one is asked for.
///
/// # Errors
/// The configuration is wrong, or asks for what this version or this machine cannot do; with the place.
pub fn outline(spec: &Spec, host: &Host, options: &Options, closed: &[PathBuf]) -> Result<Outline> {
    let mut warnings = check(spec, host)?;
    let cgroup = cgroup_of(spec, host, options, closed)?;
    warnings.extend(cgroup.unit.iter().flat_map(|unit| unit.warnings.iter().cloned()));
    let mut namespaces = Namespaces::of(spec, host)?;
    if host.standing.may_mount() && cgroup.unit.is_none() && !wants_more(spec) {
        namespaces.be_made_ahead();
    }
    let mut program = Program::new(report_descriptor(options.kept_descriptors())?);
    let p = &mut program;
    process::be_init(p, Sight::of(host, &namespaces));
    if namespaces.ahead() != 0 {
        // Before the namespaces, whose memory is the container's.
        join_cgroups(p, &cgroup);
        p.section("linux.namespaces");
        p.unshare(namespaces.ahead());
        settings::network(p, &namespaces);
        p.section("");
        p.doing("mmap the whole program");
        p.seam();
    }
    Ok(Outline { cgroup: Arc::new(cgroup), namespaces, program, warnings })
}

/// Whether there is more that is made before init, and written down before that; or a listener, without whom nothing is to be made.
fn wants_more(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else { return false };
    let listens = linux.seccomp().as_ref().is_some_and(|seccomp| seccomp.listener_path().is_some());
    listens || linux.intel_rdt().is_some() || linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())
}

/// What is asked of systemd, if it makes the cgroups.
fn asked_of_systemd<'a>(spec: &'a Spec, host: &'a Host, options: &'a Options) -> Option<Asked<'a>> {
    let CgroupManager::Systemd(systemd) = &options.cgroup_manager else { return None };
    Some(Asked { systemd, manager_cgroup: &host.manager_cgroup, annotations: spec.annotations().as_ref() })
}

fn cgroup_of(spec: &Spec, host: &Host, options: &Options, closed: &[PathBuf]) -> Result<CgroupPlan> {
    let linux = spec.linux().as_ref();
    let mut plan = cgroup::plan(
        linux.and_then(|linux| linux.resources().as_ref()),
        linux.and_then(|linux| linux.cgroups_path().as_deref()),
        &options.id,
        asked_of_systemd(spec, host, options).as_ref(),
        &host.cgroups,
    )?;
    plan.stay_in(closed);
    if !host.standing.has_devices() {
        plan.limits.leave_devices();
    }
    plan.owner = cgroup::owner(spec, &plan);
    Ok(plan)
}

/// systemd moves init while it waits. Version 1: init writes itself into each hierarchy.
pub(super) fn join_cgroups(p: &mut Program, plan: &CgroupPlan) {
    p.section("linux.cgroupsPath");
    if plan.moves_init() {
        p.stop(Point::Cgroup);
    }
    for (_, procs) in &plan.join.procs {
        let file = p.openat(AT_FDCWD, procs, O_WRONLY).out();
        p.write(file, "0");
        p.close(file);
    }
}
