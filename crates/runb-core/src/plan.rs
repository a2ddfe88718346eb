//! What a configuration becomes before anything is done: pure functions.

pub mod seccomp;
