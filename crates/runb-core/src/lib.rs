//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.

pub mod cgroup;
pub mod container;
pub mod error;
pub mod features;
mod hearing;
pub mod hooks;
pub mod host;
pub mod launch;
mod notify;
pub mod options;
pub mod plan;
pub mod signal;
pub mod spec;
pub mod state;
pub mod survey;
mod sys;
pub mod template;
pub mod terminal;
pub mod undo;

pub use error::{Error, Kind, Result};
pub use sys::begin_process;
