//! `exec`: another process in a container.

use std::ffi::OsString;

use runb_core::container::{Container, Exec, Foreground, Subreaper};
use runb_core::options::{Caller, ExecOptions, Paused};
use runb_core::{Error, Kind, Result};

use super::{Context, options};
use crate::args;

/// Runs the process; in the foreground its exit status is the command's.
pub fn run(args: &args::Exec, context: &Context<'_>) -> Result<u8> {
    let options = exec_options(args)?;
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    let foreground = if args.detach { None } else { Some(Foreground::begin(Subreaper::No)?) };
    let Exec { workload, warnings, steps } = container.exec(&options)?;
    context.report.steps(&steps);
    context.warn(&warnings);
    foreground.map_or(Ok(0), |foreground| Ok(foreground.wait(&workload)? as u8))
}

fn exec_options(args: &args::Exec) -> Result<ExecOptions> {
    Ok(ExecOptions {
        process: args.process.clone(),
        args: args.command.iter().map(|word| text("the command", word)).collect::<Result<_>>()?,
        cwd: args.cwd.clone(),
        env: args.env.iter().map(|entry| text("--env", entry)).collect::<Result<_>>()?,
        user: args.user.as_deref().filter(|user| !user.is_empty()).map(str::parse).transpose()?,
        additional_gids: args.additional_gids.clone(),
        terminal: args.tty,
        caller: if args.detach { Caller::Leaves } else { Caller::Waits },
        console_socket: args.console_socket.clone(),
        selinux_label: args.process_label.clone(),
        apparmor_profile: args.apparmor.clone(),
        no_new_privileges: args.no_new_privs,
        capabilities: args.cap.clone(),
        cgroups: args.cgroup.clone(),
        pid_file: args.pid_file.clone(),
        pidfd_socket: args.pidfd_socket.clone(),
        preserve_fds: args.preserve_fds,
        paused: if args.ignore_paused { Paused::Ignore } else { Paused::Refuse },
    })
}

/// A process object is JSON, so that its strings are Unicode.
fn text(what: &str, word: &OsString) -> Result<String> {
    let text = word.to_str().map(str::to_owned);
    text.ok_or_else(|| Error::new(Kind::Usage, format!("{what}: {word:?} is not UTF-8")))
}
