//! How a process that is added to a container gets into the container's cgroup.

use std::cell::OnceCell;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use crate::error::Result;
use crate::launch::moved::{ADDING, attach, cgroup_of, users_unit};
use crate::launch::{self, Running, Target};
use crate::plan::exec::{self, ExecPlan, Request};
use crate::state::{ProcessRef, Saved};
use crate::trace::{Trace, What};

/// Spawns the process into the planned cgroup; or, unless the caller has named one, into that of init where the planned one takes no
/// more processes: on version 2 a cgroup that gives controllers to those below it has none of its own.
///
/// A user whose systemd has made the cgroup may not put a process there from elsewhere, as out of a login session: then systemd,
/// which may, moves it while it waits for that. `moved` takes the plan with that stop.
pub(super) fn join<'p>(
    saved: &Saved,
    (plan, moved): (&'p ExecPlan, &'p OnceCell<ExecPlan>),
    request: &Request<'_>,
    target: Target<'_>,
    init: ProcessRef,
    trace: &mut Trace,
) -> Result<Running<'p>> {
    let at = |path: Option<&Path>| born(saved, plan, path, &target);
    // Init's own cgroup, where that is another one and will do as well.
    let other = || match plan.unified.as_ref().filter(|_| request.options.cgroups.is_empty()) {
        Some(planned) => Ok(cgroup_of(init.pid)?.filter(|actual| actual != planned)),
        None => Ok(None),
    };
    let running = match (at(plan.unified.as_deref()), &plan.unified, users_unit(saved)) {
        (Err(error), ..) if error.nix_errno().is_some_and(is_of_cgroup) => match other()? {
            Some(actual) => at(Some(&actual))?,
            None => return Err(error),
        },
        (Err(error), Some(planned), Some(unit)) if error.nix_errno() == Some(Errno::EACCES) => {
            let waiting = exec::exec(&Request { moved: true, ..*request })?;
            let plan = moved.get_or_init(|| waiting);
            let running = launch::join(plan, &target, &saved.cgroup)?;
            trace.done(What::Clone { pid: running.pid() });
            return running.be_moved(trace, |pid, _| {
                if let Err(error) = attach(saved, unit, planned, pid) {
                    let actual = other()?.ok_or(error)?;
                    attach(saved, unit, &actual, pid)?;
                }
                Ok(saved.cgroup.clone())
            });
        }
        (running, ..) => running?,
    };
    trace.done(What::Clone { pid: running.pid() });
    Ok(running)
}

/// Spawns the process in the cgroup `path` of version 2.
fn born<'p>(saved: &Saved, plan: &'p ExecPlan, path: Option<&Path>, target: &Target<'_>) -> Result<Running<'p>> {
    let cgroup = path.map(launch::open_cgroup).transpose().map_err(|error| error.during(ADDING))?;
    let target = Target { cgroup: cgroup.as_ref().map(AsFd::as_fd), ..*target };
    launch::join(plan, &target, &saved.cgroup).map_err(|error| match path {
        Some(path) if error.nix_errno().is_some_and(|errno| is_of_cgroup(errno) || errno == Errno::EACCES) => {
            error.during(format!("{ADDING}: {}", path.display()))
        }
        _ => error,
    })
}

/// What a cgroup answers that takes no process: clone3(2), EBUSY and EOPNOTSUPP; one that is gone.
fn is_of_cgroup(errno: Errno) -> bool {
    matches!(errno, Errno::EBUSY | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::ENODEV)
}
