//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.

pub mod cgroup;
pub mod error;
pub mod features;
pub mod host;
pub mod options;
pub mod plan;
pub mod signal;
mod sys;
pub mod template;

pub use error::{Error, Kind, Result};
