//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.

pub mod error;
pub mod options;
pub mod plan;

pub use error::{Error, Kind, Result};
