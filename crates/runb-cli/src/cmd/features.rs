//! `features`: what this build supports.

use runb_core::{Error, Result};

use crate::cmd;

/// Prints it as JSON.
pub fn run() -> Result<u8> {
    let text = serde_json::to_string_pretty(&runb_core::features::features()?)
        .map_err(|error| Error::internal(format!("features: {error}")))?;
    cmd::print(&(text + "\n"))?;
    Ok(0)
}
