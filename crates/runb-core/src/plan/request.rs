//! What is planned from.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::host::Host;
use crate::options::Options;
use crate::survey::Survey;

/// What happens when everything is set up but the execve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Init reports and waits at the exec fifo (`create`).
    Fifo,
    /// Init stops, and executes when the runtime lets it (`run`).
    Stop,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration.
    pub spec: &'a Spec,
    /// The machine.
    pub host: &'a Host,
    /// What the runtime saw of the files that the configuration names.
    pub survey: &'a Survey,
    /// What the caller wants.
    pub options: &'a Options,
    /// The absolute path of the bundle.
    pub bundle: &'a Path,
    /// What comes at the end.
    pub ending: Ending,
}

impl Request<'_> {
    /// The folder of the container's state.
    pub fn state_dir(&self) -> PathBuf {
        self.options.root.join(&self.options.id)
    }
}
