//! An exec: one more process in a container that exists. Pure, as the plan of a launch is.
//!
//! The process enters the container's pid namespace last, when it has no more rights than the workload is to have: see
//! docs/decisions/exec-enters-the-pid-namespace-last.md.

use std::path::{Component, Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::process::{self, Command, Guard, Sets, UserNamespace};
use super::program::Program;
use super::schedule::{self, Affinity};
use super::seccomp::Filter;
use super::{check, lsm, namespaces};
use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::options::{ExecOptions, Options};
use crate::state::Saved;
use crate::survey::Survey;

/// What an exec is planned from.
pub struct Request<'a> {
    /// The configuration that the container was made by.
    pub spec: &'a Spec,
    /// The process.
    pub process: &'a Process,
    /// The container.
    pub saved: &'a Saved,
    /// The machine.
    pub host: &'a Host,
    /// What the runtime saw in the container.
    pub survey: &'a Survey,
    /// What the caller wants.
    pub options: &'a ExecOptions,
}

/// Everything that an exec does.
#[derive(Debug)]
pub struct ExecPlan {
    /// What the process runs before it executes the command.
    pub program: Program,
    /// The cgroup of version 2 that it is born in.
    pub unified: Option<PathBuf>,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The index of the call that makes the twin, if there is one.
    pub twin: Option<usize>,
    /// What was found odd and is no error.
    pub warnings: Vec<String>,
}

/// The process of an exec: that of the file, or else the container's own, changed by the flags.
///
/// What the file leaves out of rlimits, capabilities, oomScoreAdj, umask, labels, scheduling and priorities is the
/// container's, as in runc; noNewPrivileges is not, since engines cannot write `false` in another way.
///
/// # Errors
/// The file cannot be read, or what comes of it all is no process that can be executed.
pub fn process(spec: &Spec, options: &ExecOptions) -> Result<(Process, Vec<String>)> {
    let own = spec.process().as_ref().ok_or_else(|| Error::spec("process", "is missing"))?;
    let (mut process, warnings) = match &options.process {
        Some(file) => {
            let (mut process, warnings) = crate::spec::load_process(file)?;
            complete(&mut process, own);
            (process, warnings)
        }
        None => {
            let mut process = own.clone();
            // The command has a terminal if the caller says so; what the container's own has is nothing to it.
            process.set_terminal(Some(false));
            process.set_args(None);
            (process, Vec::new())
        }
    };
    change(&mut process, options)?;
    check::process_object(&process)?;
    if process.terminal() == Some(true) || options.console_socket.is_some() {
        return Err(Error::spec("process.terminal", "is not supported by this version"));
    }
    Ok((process, warnings))
}

fn complete(process: &mut Process, own: &Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.user().umask().is_none() {
        let mut user = process.user().clone();
        user.set_umask(own.user().umask());
        process.set_user(user);
    }
    let unset = |label: &Option<String>| label.as_ref().is_none_or(String::is_empty);
    if unset(process.apparmor_profile()) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if unset(process.selinux_label()) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(own.io_priority().clone());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
}

fn change(process: &mut Process, options: &ExecOptions) -> Result<()> {
    if !options.args.is_empty() {
        if options.process.is_some() {
            return Err(Error::new(Kind::Usage, "a command and --process exclude each other"));
        }
        process.set_args(Some(options.args.clone()));
    }
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    environment(process, &options.env)?;
    let mut user = process.user().clone();
    if let Some(ids) = options.user {
        user.set_uid(ids.uid);
        user.set_gid(ids.gid.unwrap_or(user.gid()));
    }
    if !options.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&options.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    if options.terminal {
        process.set_terminal(Some(true));
    }
    if options.selinux_label.is_some() {
        process.set_selinux_label(options.selinux_label.clone());
    }
    if options.apparmor_profile.is_some() {
        process.set_apparmor_profile(options.apparmor_profile.clone());
    }
    if options.no_new_privileges {
        process.set_no_new_privileges(Some(true));
    }
    capabilities(process, &options.capabilities)
}

/// The last of two entries of one name is the one that holds, as a shell would have it.
fn environment(process: &mut Process, more: &[String]) -> Result<()> {
    if more.is_empty() {
        return Ok(());
    }
    let mut env = process.env().clone().unwrap_or_default();
    for entry in more {
        let Some((name, _)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Error::new(Kind::Usage, "an environment variable of --env is not NAME=VALUE"));
        };
        env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    Ok(())
}

/// Never to the inheritable and the ambient set: files with inheritable capabilities would gain them (CVE-2022-29162).
fn capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let unknown = |name: &String| Error::new(Kind::Usage, format!("unknown capability {name:?}"));
    let parsed =
        |name: &String| serde_json::from_value::<Capability>(name.to_uppercase().into()).map_err(|_| unknown(name));
    let more = names.iter().map(parsed).collect::<Result<Capabilities>>()?;
    let empty = || {
        let mut sets = LinuxCapabilities::default();
        sets.set_bounding(None).set_effective(None).set_permitted(None).set_inheritable(None).set_ambient(None);
        sets
    };
    let mut sets = process.capabilities().clone().unwrap_or_else(empty);
    let with = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&more).copied().collect());
    let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

/// The cgroups of the process.
struct Joins {
    unified: Option<PathBuf>,
    v1: Vec<PathBuf>,
}

/// The container's cgroups, or those below them that the caller names.
fn joins(cgroup: &Cgroup, named: &[String]) -> Result<Joins> {
    let mut joins =
        Joins { unified: cgroup.unified.clone(), v1: cgroup.v1.iter().map(|dir| dir.path.clone()).collect() };
    for text in named {
        let wrong = |why: &str| Error::new(Kind::Usage, format!("--cgroup {text:?}: {why}"));
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, text.as_str()),
        };
        let names = Path::new(path).components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        let below: PathBuf = names.clone().collect();
        if names.clone().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(wrong("it would lead out of the container's cgroup"));
        }
        match controllers {
            None => {
                joins.unified = cgroup.unified.as_ref().map(|dir| dir.join(&below));
                joins.v1 = cgroup.v1.iter().map(|dir| dir.path.join(&below)).collect();
            }
            Some(_) if cgroup.v1.is_empty() => return Err(wrong("version 2 has no cgroups of a controller alone")),
            Some(list) => {
                for controller in list.split(',') {
                    let has = |dir: &crate::cgroup::V1Dir| dir.controllers.iter().any(|name| name == controller);
                    let index = cgroup.v1.iter().position(has);
                    let index = index.ok_or_else(|| wrong("the container has no cgroup of this controller"))?;
                    joins.v1[index] = cgroup.v1[index].path.join(&below);
                }
            }
        }
    }
    Ok(joins)
}

/// The session keyring of the container's processes.
fn keyring(p: &mut Program, saved: &Saved, user: UserNamespace) {
    let options = Options { id: saved.id.clone(), keyring: saved.keyring, ..Options::default() };
    process::keyring(p, &options, user);
}

/// Plans an exec.
///
/// # Errors
/// The process asks for what this version or this machine cannot do; with the place.
pub fn exec(request: &Request<'_>) -> Result<ExecPlan> {
    let Request { spec, process, saved, host, survey, options } = request;
    let user = UserNamespace::of_flags(saved.namespaces);
    let enters_pid = saved.namespaces & libc::CLONE_NEWPID as u64 != 0;
    let filter = super::filter(spec, host)?;
    let joins = joins(&saved.cgroup, &options.cgroups)?;
    let mut sets = Sets::of(process);
    let warnings = sets.grant(if user == UserNamespace::Own { !0 } else { host.capabilities });
    let mut program = Program::new((3 + options.preserve_fds) as i32);
    let p = &mut program;

    // Here the process is the runtime's equal, in the host's namespaces; on version 2 it is in the cgroup already.
    undumpable(p);
    if enters_pid {
        process::outlives_fork(process)?;
    }
    process::oom_score(p, process);
    schedule::io_priority(p, process)?;
    schedule::affinity(p, process, Affinity::Initial)?;
    join_v1(p, &joins.v1);
    schedule::affinity(p, process, Affinity::Final)?;
    lsm::labels(p, process, survey.lsm)?;
    if user == UserNamespace::Own {
        process::raise_rlimits(p, process, &survey.rlimits);
        schedule::scheduler(p, process)?;
    }

    // From here on its namespaces are the container's, but for the pid namespace.
    enter(p, saved.namespaces);
    if user == UserNamespace::Own {
        p.section("linux.namespaces");
        namespaces::become_root(p);
    }
    keyring(p, saved, user);
    process::rlimits(p, process);
    if let Some(umask) = process.user().umask() {
        p.section("process.user.umask");
        p.call(libc::SYS_umask, &[umask.into()]);
    }
    process::personality(p, spec)?;
    if user == UserNamespace::Runtimes {
        schedule::scheduler(p, process)?;
    }
    let guard = Guard::of(process, filter.as_ref());
    process::become_user(p, process, host, guard.before(sets), user);
    process::no_new_privileges(p, process);
    close(p);
    // CAP_SYS_ADMIN, where it is borrowed to load the filter, must be gone before anybody inside sees the process: then the
    // filter has to let the twin be made. Else it comes last.
    let early = guard.has_too_much(sets) && enters_pid;
    if early {
        guard.load(p, sets);
    }
    let twin = enters_pid.then(|| enter_pid(p));
    process::session(p);
    process::signals(p);
    if !early {
        guard.load(p, sets);
    }
    Command::of(process, process::home(process, survey).into_iter().collect()).attempt(p);
    Ok(ExecPlan { program, unified: joins.unified, filter, twin, warnings })
}

/// Nobody may look into this process. A change of the user sets it anew, to fs.suid_dumpable (commit_creds in the kernel).
fn undumpable(p: &mut Program) {
    p.section("");
    p.call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()]);
}

fn join_v1(p: &mut Program, dirs: &[PathBuf]) {
    p.section("linux.cgroupsPath");
    for dir in dirs {
        let file = dir.join("cgroup.procs");
        p.doing(format!("write \"0\" to {}", file.display()));
        process::write_file(p, file.as_os_str().as_encoded_bytes(), "0");
    }
}

/// One setns(2) by the pidfd of the container's init, which lies beside the report's descriptor.
fn enter(p: &mut Program, namespaces: u64) {
    p.section("linux.namespaces");
    let init = p.report() + 1;
    p.call(libc::SYS_setns, &[init.into(), namespaces.into()]);
}

/// Keeps the report's descriptor up to the execve, and what is the workload's.
fn close(p: &mut Program) {
    p.section("");
    let report = p.report();
    p.call(libc::SYS_close_range, &[(report + 1).into(), u64::from(u32::MAX).into(), 0.into()]);
    // Its end tells the runtime that the execve succeeded.
    p.call(libc::SYS_fcntl, &[report.into(), libc::F_SETFD.into(), libc::FD_CLOEXEC.into()]);
    undumpable(p);
}

/// Enters the pid namespace, which only a child can. The index of the call.
fn enter_pid(p: &mut Program) -> usize {
    p.section("linux.namespaces");
    p.doing("clone into the container's pid namespace");
    let index = p.calls().len();
    p.twin();
    index
}
