//! What can be said of a call beyond its arguments.

use std::rc::Rc;

use runb_init::{After, Call, Kind};

use super::origin::{Hint, Mark, Origin};
use super::{Program, Slot};

/// The call that was added last, to say more of it.
pub(crate) struct Added<'p> {
    pub(super) program: &'p mut Program,
}

impl Added<'_> {
    fn last(&mut self) -> &mut Call {
        self.program.calls.last_mut().expect("a call was just added")
    }

    fn origin(&mut self) -> &mut Origin {
        self.program.origins.last_mut().expect("a call was just added")
    }

    pub(super) fn kind(mut self, kind: Kind) -> Self {
        self.last().kind = kind;
        self
    }

    /// These errnos do not stop the program; at most six.
    pub(crate) fn tolerate(mut self, errnos: &[i32]) -> Self {
        let call = self.last();
        for (place, errno) in call.tolerate.iter_mut().zip(errnos) {
            *place = *errno as u8;
        }
        self
    }

    /// Only if the last call that ran ended in `errno`, which it tolerates.
    pub(crate) fn after(mut self, errno: i32) -> Self {
        let call = self.last();
        (call.after, call.after_errno) = (After::Errno, errno as u8);
        self
    }

    /// Only if the last call that ran succeeded.
    pub(crate) fn after_success(mut self) -> Self {
        self.last().after = After::Success;
        self
    }

    /// Only if the last call that ran ended in a tolerated errno.
    pub(crate) fn after_failure(mut self) -> Self {
        self.last().after = After::Failure;
        self
    }

    /// The result goes to `slot`.
    pub(crate) fn into_slot(mut self, slot: Slot) -> Self {
        self.last().out = slot.0;
        self
    }

    /// The result goes to a new slot.
    pub(crate) fn out(mut self) -> Slot {
        let slot = self.program.slot();
        self.last().out = slot.0;
        slot
    }

    /// Says what this call does, for errors; only for this call.
    pub(crate) fn doing(mut self, what: impl Into<Rc<str>>) -> Self {
        self.origin().what = Some(what.into());
        self
    }

    /// Says what a failure of it means.
    pub(crate) fn hint(mut self, hint: Hint) -> Self {
        self.origin().hint = Some(hint);
        self
    }

    /// Lets whoever runs the program find it.
    pub(crate) fn mark(mut self, mark: Mark) -> Self {
        self.origin().mark = Some(mark);
        self
    }
}
