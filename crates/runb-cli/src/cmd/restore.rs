//! `restore`: a container from what a checkpoint has saved.

use anyhow::Result;
use runb_core::container::{Container, Force, Foreground, Subreaper};
use runb_core::options::{Caller, RestoreOptions};

use super::{Context, options};
use crate::args::{self, Create};

/// Restores the container; in the foreground its exit status is the workload's.
pub fn run(args: &args::Restore, context: &Context<'_>) -> Result<u8> {
    let create = Create {
        bundle: args.bundle.clone(),
        console_socket: args.console_socket.clone(),
        pid_file: args.pid_file.clone(),
        no_pivot: args.no_pivot,
        id: args.id.clone(),
        ..Create::default()
    };
    let mut options = options::options(context, &create)?;
    // What systemd has passed is for a workload that is started.
    options.listen_fds = 0;
    options.caller = if args.detach { Caller::Leaves } else { Caller::Waits };
    let mut restore = RestoreOptions::default();
    restore.criu = super::checkpoint::criu(&args.criu, context)?;
    restore.tcp_close = args.tcp_close;
    restore.lsm_profile = args.lsm_profile.clone();
    restore.lsm_mount_context = args.lsm_mount_context.clone();
    let subreaper = if args.no_subreaper { Subreaper::No } else { Subreaper::Yes };
    let foreground = if args.detach { None } else { Some(Foreground::begin(subreaper)?) };
    let running = Container::restore(&options, &restore)?;
    let container = running.container();
    context.report.steps(container.steps());
    context.report.account().annotations(container.annotations());
    context.warn(container.warnings());
    let Some(foreground) = foreground else { return Ok(0) };
    let status = foreground.wait(running.workload());
    super::delete::report(container.delete(Force::Yes), context)?;
    Ok(status? as u8)
}
