//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.

pub mod cgroup;
pub mod error;
pub mod host;
pub mod options;
pub mod plan;
pub mod spec;
pub mod survey;
mod sys;

pub use error::{Error, Kind, Result};
