//! Which process an exec is: of the container, of a file, of flags.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use crate::error::{Error, Kind, Result};
use crate::options::ExecOptions;
use crate::plan::check;
use crate::plan::process::schedule;

/// The process of an exec: that of the file, or else the container's own, changed by the flags.
///
/// What the file leaves out of capabilities, oomScoreAdj, umask, labels, scheduling and priorities is the container's, as
/// in runc. Its rlimits and noNewPrivileges are all that there is, as in runc: engines leave `false` out.
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
    Ok((process, warnings))
}

/// The process of a startContainer hook: the container's own, with whose rights its files are executed.
///
/// # Errors
/// There is none.
pub fn hook_process(spec: &Spec) -> Result<Process> {
    let own = spec.process().as_ref().ok_or_else(|| Error::spec("process", "is missing"))?;
    let mut process = own.clone();
    // Its standard descriptors are the runtime's, which hands it the state and keeps its words.
    process.set_terminal(Some(false));
    // That is for those who come later.
    process.set_exec_cpu_affinity(None);
    // What no fork hands on the process alone can have: it keeps CPU time for one.
    if schedule::is_lost_by_fork(&process) {
        process.set_scheduler(None);
    }
    Ok(process)
}

fn complete(process: &mut Process, own: &Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
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
        process.set_io_priority(*own.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
}

fn change(process: &mut Process, options: &ExecOptions) -> Result<()> {
    if !options.args.is_empty() {
        if options.process.is_some() {
            return Err(Error::new(Kind::Usage, "there is a process, which has its own").at("options.args"));
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
            return Err(Error::new(Kind::Usage, "an entry is not NAME=VALUE").at("options.env"));
        };
        env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    Ok(())
}

/// Never to the inheritable set: files with inheritable capabilities would gain them (CVE-2022-29162). What the container's
/// process may inherit is ambient as well, as with runc.
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
    let inherited = |capability: &&Capability| sets.inheritable().as_ref().is_some_and(|set| set.contains(capability));
    let ambient = more.iter().filter(inherited).chain(sets.ambient().iter().flatten()).copied().collect();
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(Some(ambient));
    process.set_capabilities(Some(sets));
    Ok(())
}
