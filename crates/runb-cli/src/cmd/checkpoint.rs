//! `checkpoint`: CRIU saves a container.

use std::path::PathBuf;

use anyhow::{Result, bail};
use runb_core::container::Container;
use runb_core::options::{CheckpointOptions, Criu};

use super::{Context, options};
use crate::args;
use crate::environment::Environment;

/// The folder of the images where none is named, as with runc.
const IMAGES: &str = "checkpoint";

/// Saves the container.
pub fn run(args: &args::Checkpoint, context: &Context<'_>) -> Result<u8> {
    let mut options = CheckpointOptions::default();
    options.criu = criu(&args.criu, context)?;
    options.parent_path = args.parent_path.clone();
    options.leave_running = args.leave_running;
    options.pre_dump = args.pre_dump;
    options.tcp_skip_in_flight = args.tcp_skip_in_flight;
    options.link_remap = args.link_remap;
    // runc's way to say that there is none.
    options.status_fd = args.status_fd.filter(|number| *number != -1);
    options.page_server = args.page_server.as_deref().map(str::parse).transpose()?;
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?
        .with_hook_environment(Environment::of_hooks()?);
    context.report.account().annotations(container.annotations());
    super::delete::report(container.checkpoint(&options), context)?;
    Ok(0)
}

/// What both verbs ask of CRIU.
pub fn criu(args: &args::Criu, context: &Context<'_>) -> Result<Criu> {
    if let Some(other) = args.empty_ns.iter().find(|name| *name != "network") {
        bail!("--empty-ns: namespace {other:?} is not supported: network is");
    }
    let images = options::absolute(args.image_path.clone().unwrap_or_else(|| PathBuf::from(IMAGES)))?;
    let mut criu = Criu::new(images, context.environment.search.clone());
    criu.work_path = args.work_path.clone().map(options::absolute).transpose()?;
    criu.tcp_established = args.tcp_established;
    criu.ext_unix_sk = args.ext_unix_sk;
    criu.shell_job = args.shell_job;
    criu.file_locks = args.file_locks;
    criu.lazy_pages = args.lazy_pages;
    criu.auto_dedup = args.auto_dedup;
    criu.manage_cgroups_mode = args.manage_cgroups_mode.as_deref().map(str::parse).transpose()?.unwrap_or_default();
    criu.network_lock = args.network_lock.as_deref().map(str::parse).transpose()?;
    criu.environment = Environment::of_hooks()?;
    Ok(criu)
}
