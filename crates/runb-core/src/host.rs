//! What this machine is: probed once and passed by value.

pub mod cgroups;
