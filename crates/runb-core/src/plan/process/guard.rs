//! linux.seccomp in the order of a launch: when the filter is loaded, and by which right.

use oci_spec::runtime::Process;
use runb_init::Point;

use super::credentials::{Sets, capset};
use crate::error::Result;
use crate::host::Host;
use crate::plan::program::{Mark, Program};
use crate::plan::seccomp::Filter;

const SYS_ADMIN: u64 = 1 << 21;

/// A seccomp filter as the last thing before the execve, so that nothing of the launch has to pass it but what follows.
///
/// Without no_new_privs loading one takes CAP_SYS_ADMIN (seccomp(2)). It is kept until then, and given up by one more
/// capset(2) where the workload is not to have it.
pub(in crate::plan) struct Guard<'a> {
    filter: Option<&'a Filter>,
    borrows: bool,
    /// Whether a descriptor of this process can be taken only while the runtime's user may look into it.
    shows: bool,
}

impl<'a> Guard<'a> {
    pub(in crate::plan) fn of(process: &Process, host: &Host, filter: Option<&'a Filter>) -> Self {
        let borrows = filter.is_some() && process.no_new_privileges() != Some(true);
        Guard { filter, borrows, shows: !host.standing.may_mount() }
    }

    /// Whether somebody is to be given the filter's listener.
    pub(in crate::plan) fn has_listener(&self) -> bool {
        self.filter.is_some_and(|filter| filter.listener.is_some())
    }

    /// Whether the process has a capability only until the filter is loaded.
    pub(in crate::plan) fn has_too_much(&self, sets: Sets) -> bool {
        self.before(sets) != sets
    }

    /// The sets until the filter is loaded.
    pub(in crate::plan) fn before(&self, mut sets: Sets) -> Sets {
        if self.borrows {
            sets.permitted |= SYS_ADMIN;
            sets.effective |= SYS_ADMIN;
        }
        sets
    }

    /// Loads the filter. Its listener goes to the runtime, which answers for init until it hands it over; init keeps none,
    /// so that calls do not wait for a listener that is gone.
    pub(in crate::plan) fn load(&self, p: &mut Program, sets: Sets) {
        let Some(filter) = self.filter else { return };
        p.section("linux.seccomp");
        p.doing(format!("load a filter of {} instructions", filter.instructions.len()));
        let code: Vec<u64> = filter.instructions.iter().map(|instruction| instruction.0).collect();
        if self.has_listener() && self.shows {
            // By now it is the workload's equal: who looks finds nothing.
            p.prctl_set_dumpable();
        }
        let load = p.seccomp_set_mode_filter(filter.flags.0.into(), &code);
        if filter.listener.is_some() {
            let listener = load.out();
            p.stop_with(Point::Notify, listener);
            p.close(listener);
        }
        if self.has_too_much(sets) {
            capset(p, sets);
        }
    }

    /// Checks the calls that come after the filter, so far.
    ///
    /// # Errors
    /// [`Filter::check_init`], where there is a listener.
    pub(in crate::plan) fn check(&self, p: &Program) -> Result<()> {
        let Some(filter) = self.filter.filter(|_| self.has_listener()) else { return Ok(()) };
        let load = p.marked(Mark::Filter).unwrap_or(p.calls().len());
        let later = p.calls().iter().skip(load + 1).filter(|call| call.kind != runb_init::Kind::Stop);
        filter.check_init(later.map(|call| (call.nr.into(), call.args)))
    }
}
