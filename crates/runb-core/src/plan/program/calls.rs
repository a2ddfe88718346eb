//! The calls that a program can have, as functions named after their man pages. But for stops and twins, which lie beside
//! this, nothing else adds a call: [`Program::call`](super::Program) is private. Each is sound whenever init makes it: its
//! pointers lie in the program, or lead to init's handler of signals, which ends it; it maps no memory, and writes to none but what
//! it has made for that.
//!
//! Whatever init opens is closed by an execve: the constructors add the flag for it.

mod files;
mod mounts;
mod process;

pub(crate) use files::Message;
pub(crate) use mounts::{MountAttr, MountIds};
