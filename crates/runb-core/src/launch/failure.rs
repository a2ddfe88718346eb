//! What went wrong in init, as an error: its report, or its end without one.

mod hidden;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::WaitStatus;
use runb_init::Report;

use crate::cgroup::{Cgroup, OomReport};
use crate::child::Child;
use crate::error::{Error, Kind};
use crate::host::standing::{MOST_USER_NAMESPACES, denied_user_namespaces};
use crate::plan::program::{Hint, Program};
use crate::signal::killed_by;
use crate::sys;

/// The failing call of init as an error.
pub(super) fn failure(program: &Program, report: &Report, init: &Child) -> Error {
    let index = usize::from(report.call);
    let (what, hint) = (program.what(index), program.hint(index));
    let more = match hint {
        Some(Hint::KernelLog) => kernel_words(init, report.value as i32),
        Some(Hint::HardLimit(resource)) if report.errno == libc::EPERM => hard_limit(init, resource),
        Some(Hint::UserNamespace) => no_user_namespace(report.errno),
        Some(Hint::Hidden) if report.errno == libc::EPERM => hidden::what_hides(&what),
        _ => None,
    };
    let what = more.map_or(what.clone(), |more| format!("{what}: {more}"));
    late_failure(&what, program.place(index), hint, report.errno).with_call(index, program.describe(index))
}

/// A failure as an error, by what was kept of the call.
pub(crate) fn late_failure(what: &str, place: &str, hint: Option<Hint>, errno: i32) -> Error {
    let text = match (hint, errno) {
        (Some(Hint::ProfileMissing), libc::ENOENT) => format!("{what}: the profile is not loaded on this host"),
        // Before the call, whose errno is looked for directly after the file's name.
        (Some(Hint::InterpreterMissing), libc::ENOENT) => format!("the file is there, its interpreter is not: {what}"),
        (Some(Hint::Deadline), libc::EPERM) => format!(
            "it takes CAP_SYS_NICE and every CPU, so that this process scheduler can't be used together with AllowedCPUs \
             (linux.resources.cpu.cpus, or a cpuset above): {what}"
        ),
        (Some(Hint::Groups), libc::EPERM) => format!(
            "{what}: the user namespace denies it (/proc/PID/setgroups): its ids were mapped without newgidmap, or there is no \
             CAP_SETGID"
        ),
        (Some(Hint::Groups | Hint::Unmapped), libc::EINVAL) => {
            format!("{what}: the id is not mapped in the user namespace (linux.uidMappings, linux.gidMappings)")
        }
        (Some(Hint::Foreign), libc::EPERM) => {
            format!("{what}: it was made in a user namespace in which this process has no rights")
        }
        (Some(Hint::MountedBelow), libc::EINVAL) => {
            format!("{what}: below it others have mounted what must not be uncovered in a user namespace: \"rbind\" takes it along")
        }
        // mount(2) has ENOTDIR for it, by whose words Docker knows what its user may have mixed up. Those of EISDIR must not be there:
        // it takes them for a command that is a directory.
        (Some(Hint::Onto { directory: true }), libc::EINVAL) => {
            format!("{what}: the destination is not a directory, and the source is one")
        }
        (Some(Hint::Onto { directory: false }), libc::EINVAL) => {
            format!("{what}: the source is not a directory, and the destination is one")
        }
        (Some(Hint::MemoryPolicy), libc::EINVAL) => format!(
            "this kernel does not have the mode, or not with these flags, or no node of the list is there and in the \
             cgroup's cpuset: {what}"
        ),
        (Some(Hint::MemoryPolicy), libc::ENOSYS) => format!("this kernel is built without NUMA: {what}"),
        _ => what.to_owned(),
    };
    let error = Error::new(Kind::Init, text).with_errno(Errno::from_raw(errno));
    // In the plan's words; what is asked before an execve is told otherwise.
    let error = if what.starts_with("exec ") { error.of_command(what) } else { error };
    if place.is_empty() { error } else { error.at(place) }
}

/// Why there can be no user namespace.
fn no_user_namespace(errno: i32) -> Option<String> {
    match errno {
        libc::ENOSPC => {
            let most = fs::read_to_string(MOST_USER_NAMESPACES).unwrap_or_default();
            Some(format!("{MOST_USER_NAMESPACES} is {} (sysctl user.max_user_namespaces)", most.trim()))
        }
        libc::EUSERS => Some("user namespaces are nested 32 deep already".to_owned()),
        libc::EINVAL => Some("the kernel has no user namespaces (CONFIG_USER_NS)".to_owned()),
        libc::EPERM => Some(denied_user_namespaces().unwrap_or_else(|| {
            "a seccomp filter of this process, a security module, or a chroot forbids it (unshare(2))".to_owned()
        })),
        _ => None,
    }
}

fn hard_limit(init: &Child, resource: u32) -> Option<String> {
    let (_, hard) = sys::rlimit(init.pid, resource).ok()?;
    Some(format!("the hard limit is {hard}, and to raise it needs CAP_SYS_RESOURCE"))
}

/// What the kernel says in the log of a filesystem context, read from a copy of init's descriptor.
fn kernel_words(init: &Child, context: i32) -> Option<String> {
    words(sys::pidfd_getfd(init.pidfd.as_ref()?, context).ok()?)
}

/// What the kernel says in the log of this one.
pub(super) fn words(context: OwnedFd) -> Option<String> {
    let mut text = [0u8; 1024];
    let length = fs::File::from(context).read(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text[..length]);
    let text = text.trim();
    // "e " for an error, "w " for a warning.
    Some(text.split_once(' ').map_or(text, |(_, words)| words).to_owned()).filter(|words| !words.is_empty())
}

/// Init has ended without a word.
pub(super) fn died(init: &mut Child, cgroup: &Cgroup) -> Error {
    let oom = cgroup.oom().filter(|oom| oom.kills > 0);
    let status = match init.kill() {
        Ok(status) => status,
        Err(error) => return error,
    };
    if let Some(oom) = oom {
        return out_of_memory(&oom);
    }
    let how = match status {
        Some(WaitStatus::Signaled(_, signal, _)) => killed_by(signal),
        Some(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
        other => format!("{other:?}"),
    };
    Error::new(Kind::Init, format!("init has ended before the container was ready: {how}"))
}

/// The error of an OOM kill, at the limit that was reached.
pub(crate) fn out_of_memory(oom: &OomReport) -> Error {
    let bytes = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| format!("{number} bytes"));
    let (limit, peak) = (bytes(oom.limit), bytes(oom.peak));
    let error = |text: String| Error::new(Kind::Init, format!("init was killed, out of memory: {text}"));
    match &oom.above {
        None => error(format!("limit {limit}, peak {peak}")).at("linux.resources.memory.limit"),
        Some((path, above)) => {
            error(format!("the limit of {}, which is above the container's cgroup, is {above} bytes", path.display()))
                .at("linux.cgroupsPath")
        }
    }
}
