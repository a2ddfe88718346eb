//! From what was written to what is to be done: pure, without root, touching nothing.

pub mod cgroup;
