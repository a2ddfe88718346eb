//! config.md "Process": what init does to itself, from its first call to the execve of the workload.

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::libc;
use oci_spec::runtime::{Capabilities, Process, Spec};
use runb_init::Point;

use super::mounts::Mounts;
use super::namespaces::Namespaces;
use super::program::{AT_FDCWD, Arg, Program, Slot};
use super::{Ending, Request};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::Keyring;
use crate::survey::{Destination, Kind};

/// What was changed for the time of the launch, to be set back.
pub(super) struct Begun {
    umask: Slot,
}

/// The first calls: nobody may look into this process, and modes are what the calls say.
pub(super) fn begin(p: &mut Program) -> Begun {
    p.section("");
    p.call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 0.into(), 0.into(), 0.into(), 0.into()]);
    let name = p.text("runb:[init]");
    p.call(libc::SYS_prctl, &[libc::PR_SET_NAME.into(), name.into(), 0.into(), 0.into(), 0.into()]);
    Begun { umask: p.call(libc::SYS_umask, &[0.into()]).out() }
}

/// open, write, close.
pub(super) fn write_file(p: &mut Program, path: &str, text: &str) {
    let (path, length, text) = (p.text(path), text.len(), p.text(text));
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    let file = p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).out();
    p.call(libc::SYS_write, &[file.into(), text.into(), length.into()]);
    p.call(libc::SYS_close, &[file.into()]);
}

/// process.oomScoreAdj, through the host's procfs while it is at hand.
pub(super) fn oom_score(p: &mut Program, process: &Process) {
    if let Some(score) = process.oom_score_adj() {
        p.section("process.oomScoreAdj");
        p.doing(format!("write \"{score}\" to /proc/self/oom_score_adj"));
        write_file(p, "/proc/self/oom_score_adj", &score.to_string());
    }
}

/// A new network namespace has a loopback device that is down.
pub(super) fn network(p: &mut Program, namespaces: &Namespaces) {
    if !namespaces.makes(libc::CLONE_NEWNET as u64) {
        return;
    }
    p.section("linux.namespaces");
    p.doing("bring lo up");
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let socket = p.call(libc::SYS_socket, &[libc::AF_INET.into(), kind.into(), 0.into()]).tolerate(&[libc::EAFNOSUPPORT]).out();
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
    let request = p.bytes(&request);
    p.call(libc::SYS_ioctl, &[socket.into(), (libc::SIOCSIFFLAGS as u64).into(), request.into()]).after_success();
    p.call(libc::SYS_close, &[socket.into()]).after_success();
}

/// hostname, domainname and linux.sysctl: the namespaces are the container's, the procfs still the host's.
pub(super) fn names_and_sysctls(p: &mut Program, spec: &Spec, namespaces: &Namespaces) -> Result<()> {
    for (place, name, nr) in [
        ("hostname", spec.hostname(), libc::SYS_sethostname),
        ("domainname", spec.domainname(), libc::SYS_setdomainname),
    ] {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
            p.section(place);
            let text = p.text(name);
            p.call(nr, &[text.into(), name.len().into()]);
        }
    }
    let sysctls = spec.linux().iter().filter_map(|linux| linux.sysctl().as_ref()).flatten();
    for (key, value) in sysctls.collect::<BTreeMap<_, _>>() {
        let place = format!("linux.sysctl[{key}]");
        let path = sysctl_path(&place, key, namespaces)?;
        p.section(place);
        p.doing(format!("write {value:?} to /proc/sys/{path}"));
        write_file(p, &format!("/proc/sys/{path}"), value);
    }
    Ok(())
}

/// The path of a sysctl below /proc/sys, if a namespace of the container's own holds it.
///
/// As sysctl(8): the first separator decides which of `.` and `/` separates; the other one is part of a name.
fn sysctl_path(place: &str, key: &str, namespaces: &Namespaces) -> Result<String> {
    let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashes { key.to_owned() } else { key.chars().map(swap).collect() };
    if path.split('/').any(|name| name.is_empty() || name == "." || name == "..") {
        return Err(Error::spec(place, "is no name of a sysctl"));
    }
    const IPC: [&str; 8] = [
        "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem", "kernel/shmall", "kernel/shmmax", "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let needs = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        Some((libc::CLONE_NEWIPC, "ipc"))
    } else if path.starts_with("net/") {
        Some((libc::CLONE_NEWNET, "network"))
    } else if path == "kernel/domainname" || path == "kernel/hostname" {
        Some((libc::CLONE_NEWUTS, "uts"))
    } else if path.starts_with("user/") {
        Some((libc::CLONE_NEWUSER, "user"))
    } else {
        None
    };
    match needs {
        None => Err(Error::spec(place, "is not in a namespace: it would change the host")),
        Some((kind, name)) if !namespaces.has(kind as u64) => {
            Err(Error::spec(place, format!("needs a {name} namespace of its own: it would change the host")))
        }
        Some(_) => Ok(path),
    }
}

/// process.cwd is made where it is missing, as all runtimes do.
pub(super) fn make_cwd(p: &mut Program, process: &Process, mounts: &Mounts<'_>, seen: &Destination) {
    let unseen = Destination::unseen(process.cwd());
    let seen = if seen.path.as_os_str().is_empty() { &unseen } else { seen };
    if seen.path.iter().count() > seen.there + 1 {
        p.section("process.cwd");
        mounts.target(p, &seen.path, Kind::Directory, seen.there);
    }
}

/// process.rlimits.
pub(super) fn rlimits(p: &mut Program, process: &Process) {
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        p.section(format!("process.rlimits[{i}]"));
        let (soft, hard) = (limit.soft(), limit.hard());
        p.doing(format!("prlimit64 {} soft {soft} hard {hard}", limit.typ()));
        let value = p.longs(&[soft, hard]);
        p.call(libc::SYS_prlimit64, &[0.into(), (limit.typ() as u64).into(), value.into(), 0.into()]);
    }
}

/// A session keyring of its own, so that containers do not share the caller's keys.
pub(super) fn session(p: &mut Program, request: &Request<'_>) {
    p.section("");
    p.call(libc::SYS_setsid, &[]).tolerate(&[libc::EPERM]);
    if request.options.keyring == Keyring::New {
        const JOIN_SESSION_KEYRING: i32 = 1;
        let name = p.text(format!("_ses.{}", request.options.id));
        p.doing("join a new session keyring");
        p.call(libc::SYS_keyctl, &[JOIN_SESSION_KEYRING.into(), name.into()]).tolerate(&[libc::ENOSYS]);
    }
}

/// Capabilities as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

fn bits(set: &Option<Capabilities>) -> u64 {
    let index = |capability: &oci_spec::runtime::Capability| {
        let name = format!("CAP_{capability}");
        caps::Capability::from_str(&name).map(|capability| 1u64 << capability.index()).unwrap_or(0)
    };
    set.iter().flatten().map(index).fold(0, |all, bit| all | bit)
}

impl Sets {
    pub(super) fn of(process: &Process) -> Self {
        let Some(sets) = process.capabilities() else { return Sets::default() };
        Sets {
            bounding: bits(sets.bounding()),
            effective: bits(sets.effective()),
            permitted: bits(sets.permitted()),
            inheritable: bits(sets.inheritable()),
            ambient: bits(sets.ambient()),
        }
    }

    /// Leaves out what nobody here has to give. The names of what was left out.
    pub(super) fn available(&mut self, have: u64) -> Vec<String> {
        let all = self.bounding | self.effective | self.permitted | self.inheritable | self.ambient;
        for set in [&mut self.bounding, &mut self.effective, &mut self.permitted, &mut self.inheritable, &mut self.ambient] {
            *set &= have;
        }
        (0..64u8).filter(|bit| (all & !have) >> bit & 1 == 1).map(capability_name).collect()
    }
}

fn capability_name(bit: u8) -> String {
    let named = caps::all().into_iter().find(|capability| capability.index() == bit);
    named.map_or_else(|| format!("capability {bit}"), |capability| capability.to_string())
}

/// The bounding set, the ids, then the other sets: in the order in which each still has the right to the next.
pub(super) fn credentials(p: &mut Program, process: &Process, host: &Host, sets: Sets) {
    p.section("process.capabilities");
    for bit in (0..=host.last_capability).filter(|bit| sets.bounding >> bit & 1 == 0) {
        p.doing(format!("drop {} from the bounding set", capability_name(bit)));
        p.call(libc::SYS_prctl, &[libc::PR_CAPBSET_DROP.into(), u64::from(bit).into(), 0.into(), 0.into(), 0.into()]);
    }
    p.section("process.user");
    p.call(libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS.into(), 1.into(), 0.into(), 0.into(), 0.into()]);
    let user = process.user();
    let groups: Vec<u8> = user.additional_gids().iter().flatten().flat_map(|gid| gid.to_ne_bytes()).collect();
    let (count, groups) = (groups.len() / 4, p.bytes(&groups));
    p.call(libc::SYS_setgroups, &[count.into(), groups.into()]);
    let (uid, gid) = (Arg::from(user.uid()), Arg::from(user.gid()));
    p.call(libc::SYS_setresgid, &[gid, gid, gid]);
    p.call(libc::SYS_setresuid, &[uid, uid, uid]);
    p.section("process.capabilities");
    // struct __user_cap_header_struct with version 3, then two of __user_cap_data_struct.
    let header = p.bytes(&[0x2008_0522u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    let halves = [sets.effective, sets.permitted, sets.inheritable];
    let low = halves.map(|set| (set as u32).to_ne_bytes());
    let high = halves.map(|set| ((set >> 32) as u32).to_ne_bytes());
    let data = p.bytes(&[low.concat(), high.concat()].concat());
    p.call(libc::SYS_capset, &[header.into(), data.into()]);
    for bit in (0..64u64).filter(|bit| sets.ambient >> bit & 1 == 1) {
        p.doing(format!("raise {} in the ambient set", capability_name(bit as u8)));
        let raise = libc::PR_CAP_AMBIENT_RAISE;
        // A set that is not permitted and inheritable cannot be raised: runc warns, and so does the kernel's EPERM here.
        p.call(libc::SYS_prctl, &[libc::PR_CAP_AMBIENT.into(), raise.into(), bit.into(), 0.into(), 0.into()]);
    }
}

/// Enters process.cwd as root; [`cwd_again`] tries as the user where root may not.
fn cwd(p: &mut Program, process: &Process) {
    p.section("process.cwd");
    p.doing(format!("chdir {:?}", process.cwd()));
    let path = p.text(process.cwd().as_os_str().as_encoded_bytes());
    let how = p.longs(&[(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64, 0, 0x2 | 0x10]);
    let slot = p.call(libc::SYS_openat2, &[AT_FDCWD.into(), path.into(), how.into(), 24.into()]).tolerate(&[libc::EACCES]).out();
    p.call(libc::SYS_fchdir, &[slot.into()]).after_success();
}

fn cwd_again(p: &mut Program, process: &Process) {
    p.section("process.cwd");
    p.doing(format!("chdir {:?}", process.cwd()));
    let path = p.text(process.cwd().as_os_str().as_encoded_bytes());
    let how = p.longs(&[(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64, 0, 0x2 | 0x10]);
    let slot = p.call(libc::SYS_openat2, &[AT_FDCWD.into(), path.into(), how.into(), 24.into()]).after_failure().out();
    p.call(libc::SYS_fchdir, &[slot.into()]).after_failure();
}

/// What the workload is: its command, looked for as execvp(3) does.
pub(super) struct Command {
    candidates: Vec<Vec<u8>>,
    args: Vec<String>,
    env: Vec<String>,
    searched: bool,
}

/// Why a candidate is passed over for the next.
const NOT_HERE: [i32; 5] = [libc::ENOENT, libc::EACCES, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG];

impl Command {
    /// `more` is added to process.env.
    pub(super) fn of(process: &Process, more: Vec<String>) -> Self {
        let args = process.args().clone().unwrap_or_default();
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(more);
        let name = args.first().map_or("", String::as_str);
        let searched = !name.contains('/');
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or("");
        let candidates = match searched {
            false => vec![name.as_bytes().to_vec()],
            true => path
                .split(':')
                .filter(|directory| directory.starts_with('/'))
                .map(|directory| format!("{}/{name}", directory.trim_end_matches('/')).into_bytes())
                .collect(),
        };
        Command { candidates, args, env, searched }
    }

    fn name(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    /// Asks whether it can be executed, while there is still somebody to tell. The user and the root are the workload's.
    fn check(&self, p: &mut Program) {
        const X_OK: i32 = 1;
        p.section("process.args[0]");
        let name = self.name().to_owned();
        if !self.searched {
            let path = p.text(&name);
            p.doing(format!("exec: {name:?}: stat {name}"));
            p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), X_OK.into()]);
            p.doing(format!("exec: {name:?}"));
            // A directory answers EISDIR to a wish to write, anything else ENOTDIR, and nothing is opened.
            let flags = libc::O_RDWR | libc::O_DIRECTORY | libc::O_CLOEXEC;
            p.call(libc::SYS_openat, &[AT_FDCWD.into(), path.into(), flags.into()]).tolerate(&[libc::ENOTDIR]);
            return;
        }
        p.doing(format!("exec: {name:?}: executable file not found in $PATH"));
        for (i, candidate) in self.candidates.iter().enumerate() {
            let path = p.text(candidate);
            let call = p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), path.into(), X_OK.into()]).tolerate(&NOT_HERE);
            if i > 0 {
                call.after_failure();
            }
        }
        let nothing = p.text("");
        let last = p.call(libc::SYS_faccessat, &[AT_FDCWD.into(), nothing.into(), X_OK.into()]);
        if !self.candidates.is_empty() {
            last.after_failure();
        }
    }

    /// Executes it.
    fn execute(&self, p: &mut Program) {
        p.section("process.args[0]");
        p.doing(format!("exec: {:?}", self.name()));
        let (argv, envp) = (p.strings(&self.args), p.strings(&self.env));
        for (i, candidate) in self.candidates.iter().enumerate() {
            let path = p.text(candidate);
            let call = p.call(libc::SYS_execve, &[path.into(), argv.into(), envp.into()]);
            match (self.searched, i) {
                (false, _) => {}
                (true, 0) => drop(call.tolerate(&NOT_HERE)),
                (true, _) => drop(call.tolerate(&NOT_HERE).after_failure()),
            }
        }
        if self.searched {
            let nothing = p.text("");
            let last = p.call(libc::SYS_execve, &[nothing.into(), argv.into(), envp.into()]);
            if !self.candidates.is_empty() {
                last.after_failure();
            }
        }
    }
}

/// What the environment gets beside process.env.
fn additions(request: &Request<'_>, process: &Process) -> Vec<String> {
    let mut more = Vec::new();
    if request.options.listen_fds > 0 {
        more.push(format!("LISTEN_FDS={}", request.options.listen_fds));
        more.push("LISTEN_PID=1".to_owned());
    }
    if !process.env().iter().flatten().any(|entry| entry.starts_with("HOME=")) {
        more.push(format!("HOME={}", request.survey.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/")));
    }
    more
}

/// The last part of a program: only the process itself changes, then it becomes the workload.
pub(super) fn finish(
    p: &mut Program,
    request: &Request<'_>,
    process: &Process,
    namespaces: &Namespaces,
    begun: &Begun,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut sets = Sets::of(process);
    let owned = namespaces.has(libc::CLONE_NEWUSER as u64);
    for name in sets.available(if owned { !0 } else { request.host.capabilities }) {
        warnings.push(format!("process.capabilities: {name} is not available here, and left out"));
    }
    let report = p.report();
    session(p, request);
    // Beyond the report and the fifo nothing of the launch is needed any more.
    p.call(libc::SYS_close_range, &[(report + 2).into(), u64::from(u32::MAX).into(), 0.into()]);
    rlimits(p, process);
    p.section("process.user.umask");
    let umask = process.user().umask().map_or(Arg::from(begun.umask), Arg::from);
    p.call(libc::SYS_umask, &[umask]);
    cwd(p, process);
    credentials(p, process, request.host, sets);
    cwd_again(p, process);
    if process.no_new_privileges() == Some(true) {
        p.section("process.noNewPrivileges");
        p.call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS.into(), 1.into(), 0.into(), 0.into(), 0.into()]);
    }
    let command = Command::of(process, additions(request, process));
    command.check(p);
    p.section("");
    match request.ending {
        Ending::Stop => p.stop(Point::Ready),
        Ending::Fifo => {
            p.announce(Point::Ready);
            // From here on the fifo is the one who hears: `start` reads there what goes wrong.
            p.call(libc::SYS_dup3, &[(report + 1).into(), report.into(), libc::O_CLOEXEC.into()]);
            p.call(libc::SYS_close, &[(report + 1).into()]);
            let byte = p.bytes(&[0]);
            p.doing("wait at the exec fifo");
            p.call(libc::SYS_read, &[report.into(), byte.into(), 1.into()]);
        }
    }
    signals(p);
    command.execute(p);
    Ok(warnings)
}

/// The workload starts with no signal blocked, and with SIGPIPE as the kernel has it: Rust programs ignore it.
fn signals(p: &mut Program) {
    p.section("");
    let zeroes = p.longs(&[0; 4]);
    p.call(libc::SYS_rt_sigaction, &[libc::SIGPIPE.into(), zeroes.into(), 0.into(), 8.into()]);
    p.call(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK.into(), zeroes.into(), 0.into(), 8.into()]);
}

/// Moves the exec fifo to the descriptor after the report's.
pub(super) fn keep_fifo(p: &mut Program, fifo: Slot) {
    let to = p.report() + 1;
    p.call(libc::SYS_dup3, &[fifo.into(), to.into(), libc::O_CLOEXEC.into()]).tolerate(&[libc::EINVAL]);
    p.call(libc::SYS_close, &[fifo.into()]).after_success();
}
