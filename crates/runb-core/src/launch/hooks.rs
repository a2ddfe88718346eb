//! The hooks of create: the mounts are there, the root is not yet changed.

use std::os::fd::AsFd;

use nix::errno::Errno;
use oci_spec::runtime::Hook;

use super::{Context, Running, moved, open_cgroup};
use crate::child::Place;
use crate::error::{Error, Kind, Result};
use crate::hooks::{self, Finished, Streams};
use crate::plan::hooks::Unfinished;
use crate::plan::{self, Plan};
use crate::state::{Saved, Status};
use crate::trace::Trace;

impl Running<'_> {
    /// Runs them in the order of the specification.
    ///
    /// # Errors
    /// One fails; the others are not run.
    pub(super) fn run_hooks(&self, plan: &Plan, context: &Context<'_>, trace: &mut Trace) -> Result<()> {
        let (Some((hooks, environment)), saved) = (context.hooks, context.saved) else {
            return Err(Error::internal("a stop for hooks that there are not"));
        };
        let state = hooks::state(saved, Status::Creating, self.init.pid)?;
        let in_runtime = |hook: &Hook| hooks::run_in_runtime(hook, &saved.bundle, environment, &state, self.serves());
        hooks::run_all(Some(hooks), "prestart", trace, in_runtime)?;
        hooks::run_all(Some(hooks), "createRuntime", trace, in_runtime)?;
        hooks::run_all(Some(hooks), "createContainer", trace, |hook| self.run_in_container(plan, saved, hook, &state))
    }

    /// The hooks of create have nothing to do any more for an init that has ended.
    fn serves(&self) -> hooks::Serves<'_> {
        self.init.pidfd().map(AsFd::as_fd)
    }

    /// A createContainer hook: a file of the host, in the container, and there root.
    fn run_in_container(&self, plan: &Plan, saved: &Saved, hook: &Hook, state: &[u8]) -> Result<Finished> {
        let program = |moved| {
            let v1 = self.cgroup.v1.iter().map(|dir| dir.path.clone()).collect();
            let container = Unfinished { rootfs: &saved.rootfs, namespaces: plan.hook_namespaces, v1, moved };
            plan::hooks::in_container(hook, &container)
        };
        let cgroup = self.cgroup.unified.as_deref().map(open_cgroup).transpose()?;
        let streams = Streams::of(state)?;
        let place = Place {
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
            more: self.init.pidfd().map(AsFd::as_fd),
            stdio: Some(streams.stdio()),
            ..Place::default()
        };
        let child = match (hooks::start(&program(false), place, |_| Ok(())), moved::users_unit(saved)) {
            (Err(error), Some(unit)) if error.kind() == Kind::Host && error.nix_errno() == Some(Errno::EACCES) => {
                let path = self.cgroup.unified.as_deref().ok_or(error)?;
                let place = Place { cgroup: None, ..place };
                hooks::start(&program(true), place, |pid| moved::attach(saved, unit, path, pid))?
            }
            (child, _) => child?,
        };
        hooks::finish(hook, child, streams, self.serves())
    }
}
