//! What the tests of the seccomp compiler share: profiles, libseccomp as the reference, calls to ask about.

pub mod calls;
pub mod counting;
pub mod generated;
pub mod kernel;
pub mod literal;
pub mod profiles;
pub mod random;
pub mod reference;
