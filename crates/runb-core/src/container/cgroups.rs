//! The cgroups of a new container: made by the runtime, or by systemd.

use std::cell::Cell;

use nix::errno::Errno;

use crate::cgroup::{self, Claim, Made, MadeDir, Role};
use crate::error::{Error, Result};
use crate::options::{CgroupManager, Options, Systemd};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::cgroup::systemd::{Unit, UnitKind};
use crate::state::Saved;
use crate::systemd::{Manager, Start};
use crate::trace::{Trace, What};
use crate::undo::{MadeUnit, UnitCgroup};

/// What makes them.
pub(super) struct Cgroups<'a> {
    plan: &'a CgroupPlan,
    claim: Claim,
    unit: Option<(&'a Unit, &'a Systemd)>,
}

impl<'a> Cgroups<'a> {
    /// Sees that they may become the container's.
    ///
    /// Errors: as [`cgroup::claim`].
    pub(super) fn claim(plan: &'a CgroupPlan, options: &'a Options) -> Result<Self> {
        let unit = match (&plan.unit, &options.cgroup_manager) {
            (Some(unit), CgroupManager::Systemd(systemd)) => Some((unit, systemd)),
            _ => None,
        };
        Ok(Cgroups { plan, claim: cgroup::claim(plan)?, unit })
    }

    /// Writes down what may be made.
    pub(super) fn intend(&self, saved: &mut Saved) {
        saved.journal.add_cgroups(&self.claim.dirs);
        if let Some(unit) = self.made_unit(saved) {
            saved.journal.set_unit(unit);
        }
    }

    /// Makes them for a process that is not born yet; none where systemd wants one that is there.
    pub(super) fn make(&self, saved: &mut Saved, trace: &mut Trace) -> Result<Option<Made>> {
        match self.unit {
            Some((unit, _)) if unit.kind == UnitKind::Scope => Ok(None),
            Some(_) => self.make_unit(saved, None, trace).map(Some),
            None => {
                let made = cgroup::make(self.plan, &self.claim)
                    .map_err(|error| denied(error).during("unable to apply cgroup configuration"))?;
                saved.journal.add_cgroups(&made.dirs);
                saved.cgroup = made.cgroup.clone();
                Ok(Some(made))
            }
        }
    }

    /// Makes them around the process `init`.
    pub(super) fn make_around(&self, saved: &mut Saved, init: i32, trace: &mut Trace) -> Result<Made> {
        let made = self.make_unit(saved, Some(init), trace)?;
        made.take_in(init, self.plan)?;
        Ok(made)
    }

    /// Has systemd make the unit, and makes what systemd does not: the hierarchies of version 1 that it does not have, and
    /// controllers that it does not know.
    fn make_unit(&self, saved: &mut Saved, init: Option<i32>, trace: &mut Trace) -> Result<Made> {
        let (Some((unit, systemd)), Some(made)) = (self.unit, self.made_unit(saved)) else {
            return Err(Error::internal("no unit is planned"));
        };
        let dir = unit.dir.and_then(|dir| self.plan.dirs.get(dir));
        let dir = dir.ok_or_else(|| Error::internal("a unit without a cgroup"))?;
        let astray = || match init {
            Some(init) => cgroup::astray(init, dir),
            None => Ok(None),
        };
        let sent = Cell::new(false);
        let process = init.map(i32::cast_unsigned);
        let start = Start { unit, description: &made.description, process, astray: &astray, sent: &sent };
        let started = Manager::of(systemd).start(&start);
        if sent.get() {
            saved.journal.set_unit(made.clone());
        }
        started?;
        trace.done(What::Unit { name: unit.name.clone() });
        let known = MadeUnit { cgroup: Some(UnitCgroup::at(&dir.path)?), ..made };
        // From here on the directories are this container's, as the unit is.
        let is_own = |dir: &MadeDir| self.plan.dirs.iter().any(|planned| planned.path == dir.path);
        let role = |dir: &MadeDir| if is_own(dir) { Role::Own } else { Role::Parent };
        let dirs: Vec<_> = self.claim.dirs.iter().map(|dir| MadeDir { role: role(dir), ..dir.clone() }).collect();
        saved.journal.add_cgroups(&dirs);
        saved.journal.set_unit(known);
        let made = cgroup::make(self.plan, &self.claim)?;
        saved.cgroup = made.cgroup.clone();
        Ok(made)
    }

    /// The unit as the journal has it before it is known to be made.
    fn made_unit(&self, saved: &Saved) -> Option<MadeUnit> {
        let (unit, systemd) = self.unit?;
        let described = unit.text("Description").unwrap_or_default();
        Some(MadeUnit {
            name: unit.name.clone(),
            systemd: systemd.clone(),
            description: format!("{described}, created {}", saved.created),
            cgroup: None,
            collected: unit.text("CollectMode") == Some("inactive-or-failed"),
        })
    }
}

/// What a caller without rights to cgroups can have, in runc's words.
fn denied(error: Error) -> Error {
    match error.nix_errno() {
        Some(Errno::EACCES | Errno::EPERM | Errno::EROFS) => {
            error.during("rootless needs no limits + no cgrouppath when no permission is granted for cgroups")
        }
        _ => error,
    }
}
