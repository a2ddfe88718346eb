//! `exec`: another process in a container.

use anyhow::{Context as _, Result};
use std::ffi::OsString;

use runb_core::container::{Container, Exec, Foreground, Status, Subreaper};
use runb_core::options::{Caller, ExecOptions, Paused};
use runb_core::{Error, Kind};

use super::{Context, options};
use crate::args;

/// Runs the process; in the foreground its exit status is the command's.
pub fn run(args: &args::Exec, context: &Context<'_>) -> Result<u8> {
    let mut options = exec_options(args)?;
    options.meanwhile = context.meanwhile.clone();
    let container = Container::load(&options::root(context.global, context.environment)?, &args.id)?;
    let foreground = if args.detach { None } else { Some(Foreground::begin(Subreaper::No)?) };
    let Exec { workload, warnings, steps, .. } =
        container.exec(&options).map_err(|error| hint(error, args, &container))?;
    context.report.steps(&steps);
    context.report.account().annotations(container.annotations());
    context.warn(&warnings);
    foreground.map_or(Ok(0), |foreground| Ok(foreground.wait(&workload)? as u8))
}

/// runc's words, for who does not know the flag.
fn hint(error: Error, args: &args::Exec, container: &Container) -> Error {
    match error.kind() == Kind::State && !args.ignore_paused && container.status() == Status::Paused {
        true => error.with_hint("use --ignore-paused to override"),
        false => error,
    }
}

fn exec_options(args: &args::Exec) -> Result<ExecOptions> {
    let mut options = ExecOptions::default();
    options.process = args.process.clone();
    options.args = args.command.iter().map(|word| text("the command", word)).collect::<Result<_>>()?;
    options.cwd = args.cwd.clone();
    options.env = args.env.iter().map(|entry| text("--env", entry)).collect::<Result<_>>()?;
    options.user = args.user.as_deref().filter(|user| !user.is_empty()).map(str::parse).transpose()?;
    options.additional_gids = args.additional_gids.clone();
    options.terminal = args.tty;
    options.caller = if args.detach { Caller::Leaves } else { Caller::Waits };
    options.console_socket = args.console_socket.clone();
    options.selinux_label = args.process_label.clone();
    options.apparmor_profile = args.apparmor.clone();
    options.no_new_privileges = args.no_new_privs;
    options.capabilities = args.cap.clone();
    options.cgroups = args.cgroup.clone();
    options.pid_file = args.pid_file.clone();
    options.pidfd_socket = args.pidfd_socket.clone();
    options.preserve_fds = args.preserve_fds;
    options.paused = if args.ignore_paused { Paused::Ignore } else { Paused::Refuse };
    Ok(options)
}

/// A process object is JSON, so that its strings are Unicode.
fn text(what: &str, word: &OsString) -> Result<String> {
    let text = word.to_str().map(str::to_owned);
    text.with_context(|| format!("{what}: {word:?} is not UTF-8"))
}
