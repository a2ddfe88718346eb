//! The calls that a program can have, as functions named after their man pages. Nothing else adds a call. Each is sound
//! whenever init makes it: its pointers lie in the program, and it neither maps memory nor writes to any outside of it.
//!
//! Whatever init opens is closed by an execve: the constructors add the flag for it.

mod files;
mod mounts;
mod process;

pub(crate) use mounts::MountAttr;
