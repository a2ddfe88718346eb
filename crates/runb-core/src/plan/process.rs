//! config.md "Process": what init does to itself, from its first call to the execve of the workload.

pub(super) mod command;
pub(super) mod credentials;
pub(super) mod guard;
mod mask;
pub(super) mod memory_policy;
pub(super) mod schedule;
pub(super) mod terminal;

use nix::libc;
use oci_spec::runtime::{LinuxPersonalityDomain, PosixRlimit, PosixRlimitType, Process, Spec};
use runb_init::Point;

use super::environment;
use super::mounts::list::Mounts;
use super::namespaces::sight::Sight;
use super::namespaces::{Entry, Namespaces, become_child};
use super::procfs::write_file;
use super::program::{
    AT_FDCWD, Added, Mark, Number, O_DIRECTORY, O_PATH, Program, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, Slot,
};
use super::request::{Ending, Request};
use super::seccomp::Filter;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::options::{Keyring, Options};
use crate::survey::{Destination, Kind, Survey};
use command::{Command, additions};
use credentials::{Sets, UserNamespace};
use guard::Guard;

/// What was changed for the time of the launch, to be set back.
pub(super) struct Begun {
    umask: Slot,
    /// RLIMIT_NOFILE, soft and hard, if it was raised.
    descriptors: Option<(u64, u64)>,
}

/// The first calls: nobody may look into this process.
pub(super) fn be_init(p: &mut Program, sight: Sight) {
    p.section("");
    sight.begin(p);
    p.prctl_set_name("runb:[init]");
}

/// Modes are what the calls say from here on.
pub(super) fn begin(p: &mut Program) -> Begun {
    p.section("");
    Begun { umask: p.umask(0).out(), descriptors: None }
}

/// Nobody may look into this process. A change of the user sets it anew, to fs.suid_dumpable (commit_creds in the kernel).
pub(super) fn undumpable(p: &mut Program) {
    p.section("");
    p.prctl_set_undumpable();
}

impl Begun {
    /// Raises the limit of descriptors where the calls so far make more than it bears, at the index `at`: while init still has
    /// the right to. See docs/decisions/descriptors.md.
    pub(super) fn raise_descriptors(&mut self, p: &mut Program, at: usize, process: &Process, survey: &Survey) {
        let needed = p.descriptors();
        let Some((soft, hard)) = survey.descriptors.filter(|(soft, _)| needed > *soft) else { return };
        self.descriptors = Some((soft, hard));
        // In a user namespace of the container's own the hard limit cannot be raised again.
        let given = descriptors_of(process).map_or(0, |limit| limit.hard());
        p.section("mounts");
        p.doing(format!("raise RLIMIT_NOFILE to {needed}, for as many mounts"));
        p.prlimit(libc::RLIMIT_NOFILE, needed, hard.max(given).max(needed));
        p.move_last_to(at);
    }

    /// Sets it back, unless process.rlimits sets it anyway.
    fn lower_descriptors(&self, p: &mut Program, process: &Process) {
        if let Some((soft, hard)) = self.descriptors.filter(|_| descriptors_of(process).is_none()) {
            p.section("mounts");
            p.doing(format!("set RLIMIT_NOFILE back to soft {soft} hard {hard}"));
            p.prlimit(libc::RLIMIT_NOFILE, soft, hard);
        }
    }
}

fn descriptors_of(process: &Process) -> Option<&PosixRlimit> {
    process.rlimits().iter().flatten().find(|limit| limit.typ() == PosixRlimitType::RlimitNofile)
}

/// process.oomScoreAdj, through the host's procfs while it is at hand. What the caller has not the right to stays as it is: under a
/// user's systemd every process begins with more than engines ask for. A warning tells.
pub(super) fn oom_score(p: &mut Program, process: &Process, host: &Host) -> Option<String> {
    let score = process.oom_score_adj()?;
    if let Some(lowest) = host.standing.lowest_oom_score().filter(|lowest| score < *lowest) {
        return Some(format!(
            "process.oomScoreAdj: {score} takes CAP_SYS_RESOURCE on the machine, and this process has {lowest}: it stays so"
        ));
    }
    p.section("process.oomScoreAdj");
    p.doing(format!("write \"{score}\" to /proc/self/oom_score_adj"));
    write_file(p, "/proc/self/oom_score_adj", &score.to_string());
    None
}

/// What only the host's root may do: a user namespace of the container's own would take the right away. Each is handed on
/// by a fork, so that a twin has it too.
///
/// # Errors
/// A value is out of the kernel's range, or the user namespace and the scheduler exclude each other.
pub(super) fn privileged(
    p: &mut Program,
    request: &Request<'_>,
    process: &Process,
    (namespaces, entry): (&Namespaces, Entry),
) -> Result<()> {
    schedule::every_cpu(p);
    schedule::io_priority(p, process)?;
    schedule::check_affinity(process)?;
    if UserNamespace::of(namespaces) == UserNamespace::Runtimes {
        return Ok(());
    }
    raise_rlimits(p, process, &request.survey.rlimits);
    schedule::scheduler(p, process, entry)
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
        p.prlimit(limit.typ() as u32, soft, hard);
    }
}

/// Raises the hard limits that process.rlimits raises, while init has the right to: only the host's root has it, and
/// process.rlimits itself comes late, since it holds for init too. `current` are the limits that init begins with.
pub(super) fn raise_rlimits(p: &mut Program, process: &Process, current: &[(u64, u64)]) {
    for (i, (limit, (soft, hard))) in process.rlimits().iter().flatten().zip(current).enumerate() {
        if limit.hard() > *hard {
            p.section(format!("process.rlimits[{i}]"));
            p.doing(format!("prlimit64 {} soft {} hard {}", limit.typ(), limit.soft(), limit.hard()));
            p.prlimit(limit.typ() as u32, *soft, limit.hard());
        }
    }
}

/// A session of its own, without a terminal.
pub(super) fn session(p: &mut Program) {
    p.section("");
    p.setsid().tolerate(&[libc::EPERM]);
}

/// The session keyring `_ses.ID`, so that containers do not share the caller's keys. Its owner is init's user, and the
/// workload's may be another: a key is found only by who may search the keyring (keyrings(7), "Access rights").
pub(super) fn keyring(p: &mut Program, options: &Options, user: UserNamespace) {
    /// What the kernel gives a session keyring: all to its possessor; view, read and link to its owner.
    const KERNELS: u32 = 0x3f13_0000;
    const USER_SEARCH: u32 = 0x8_0000;
    const OTHER_SEARCH: u32 = 0x8;
    if options.keyring == Keyring::Inherit {
        return;
    }
    p.section("");
    let name = p.text(format!("_ses.{}", options.id));
    p.doing("join the session keyring");
    let serial = p.keyctl_join_session_keyring(name).tolerate(&[libc::ENOSYS]).out();
    p.doing("let the container's user search the session keyring");
    let search = if user == UserNamespace::Own { OTHER_SEARCH } else { USER_SEARCH };
    p.keyctl_setperm(serial, KERNELS | search).after_success();
}

/// linux.personality (config-linux.md "Personality", personality(2)).
///
/// # Errors
/// It has flags, which the specification leaves for the future.
pub(super) fn personality(p: &mut Program, spec: &Spec) -> Result<()> {
    const PER_LINUX: u32 = 0x0;
    const PER_LINUX32: u32 = 0x8;
    let Some(personality) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) else { return Ok(()) };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Error::spec("linux.personality.flags", "are not supported: the specification names none"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => PER_LINUX,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    p.section("linux.personality");
    p.personality(domain);
    Ok(())
}

/// Gives the descriptors 0, 1 and 2 to process.user, as runc does: the owner of a pipe is who may open /dev/stdout again. Where
/// that cannot be (another user namespace, a filesystem that is read-only, a socket), it stays as it is.
pub(super) fn own_stdio(p: &mut Program, process: &Process, stdio: &[i32]) {
    if process.terminal() == Some(true) {
        return;
    }
    p.section("process.user.uid");
    for descriptor in stdio {
        p.fchown(*descriptor, process.user().uid()).tolerate(&[libc::EPERM, libc::EINVAL, libc::EROFS]);
    }
}

/// Becomes process.user with process.capabilities, in process.cwd.
pub(super) fn become_user(p: &mut Program, process: &Process, host: &Host, sets: Sets, namespace: UserNamespace) {
    credentials::groups(p, process, host, namespace);
    cwd(p, process);
    credentials::credentials(p, process, host, sets);
    cwd_again(p, process);
}

/// Enters process.cwd as root; [`cwd_again`] tries as the user where root may not: get to it, or into it.
fn cwd(p: &mut Program, process: &Process) {
    let slot = open_cwd(p, process).tolerate(&[libc::EACCES]).out();
    p.fchdir(slot).tolerate(&[libc::EACCES]).after_success();
}

fn cwd_again(p: &mut Program, process: &Process) {
    let slot = open_cwd(p, process).after_failure().out();
    p.fchdir(slot).after_failure();
}

fn open_cwd<'p>(p: &'p mut Program, process: &Process) -> Added<'p> {
    p.section("process.cwd");
    p.doing(format!("chdir {:?}", process.cwd()));
    p.openat2(AT_FDCWD, process.cwd(), O_PATH | O_DIRECTORY, RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT)
}

/// The last part of a program: only the process itself changes, then it becomes the workload.
pub(super) fn finish(
    p: &mut Program,
    request: &Request<'_>,
    process: &Process,
    (namespaces, entry): (&Namespaces, Entry),
    begun: &Begun,
    filter: Option<&Filter>,
) -> Result<Finished> {
    let user = UserNamespace::of(namespaces);
    let mut sets = Sets::of(process);
    let warnings = sets.grant(if user == UserNamespace::Own { !0 } else { request.host.capabilities });
    let report = p.report();
    if entry != Entry::Last {
        lead(p, process);
    }
    keyring(p, request.options, user);
    // Beyond the report and the fifo nothing of the launch is needed any more.
    p.close_range(report + 2);
    begun.lower_descriptors(p, process);
    rlimits(p, process);
    p.section("process.user.umask");
    p.umask(process.user().umask().map_or(Number::from(begun.umask), Number::from));
    personality(p, request.spec)?;
    memory_policy::set(p, request.spec)?;
    if user == UserNamespace::Runtimes {
        schedule::scheduler(p, process, entry)?;
    }
    let guard = Guard::of(process, request.host, filter);
    own_stdio(p, process, &request.survey.stdio.foreign);
    become_user(p, process, request.host, guard.before(sets), user);
    Sight::of(request.host, namespaces).end(p);
    no_new_privileges(p, process);
    let command = Command::of(process, environment::of(process, additions(request), request.survey));
    // As for an exec: CAP_SYS_ADMIN, where it is borrowed, is gone before anybody sees the process.
    let early = entry == Entry::Last && guard.has_too_much(sets);
    let mut scheduler = None;
    if entry == Entry::Last {
        // It comes into a pid namespace that others are in, when there is nothing to be seen or taken over.
        if early {
            // A profile may know an older faccessat(2) alone.
            command.check(p);
            guard.load(p, sets);
        }
        undumpable(p);
        become_child(p);
        scheduler = schedule::of_twin(p, process)?;
        lead(p, process);
    }
    if !early {
        command.check(p);
    }
    p.section("");
    if request.ending == Ending::Stop {
        // Its end tells the runtime that the execve succeeded.
        p.fcntl_setfd_cloexec(report);
    }
    if request.ending == Ending::Fifo {
        // Who waits for a start can be ended. What the caller has it ignore (nohup(1)) the workload ignores, as under runc.
        let signals = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGABRT, libc::SIGTERM];
        p.end_by(signals.into_iter().filter(|signal| !request.host.ignored.contains(signal)));
    }
    signals(p);
    // Whoever decides for the workload gets the listener from this runtime, so before it goes.
    if guard.has_listener() && !early {
        guard.load(p, sets);
    }
    p.section("");
    match request.ending {
        Ending::Stop => p.stop(Point::Ready),
        Ending::Fifo => {
            p.announce(Point::Ready);
            // From here on the fifo is the one who hears: `start` reads there what goes wrong. Where a listener is to be
            // handed over, the end of the socket says that only the read and the execve are to come.
            p.dup3(report + 1, report);
            if !guard.has_listener() {
                p.close(report + 1);
            }
            p.doing("wait at the exec fifo");
            p.read(report, 1).mark(Mark::Wait);
        }
    }
    if !guard.has_listener() && !early {
        guard.load(p, sets);
    }
    guard.check(p)?;
    command.execute(p);
    Ok(Finished { scheduler, warnings })
}

/// What [`finish`] leaves to the runtime.
pub(super) struct Finished {
    /// The scheduler of a twin.
    pub(super) scheduler: Option<schedule::Attributes>,
    /// What was found odd and is no error.
    pub(super) warnings: Vec<String>,
}

/// Leads a session, of which its terminal is the controlling one.
fn lead(p: &mut Program, process: &Process) {
    session(p);
    if terminal::wanted(process) {
        terminal::control(p);
    }
}

/// process.noNewPrivileges.
pub(super) fn no_new_privileges(p: &mut Program, process: &Process) {
    if process.no_new_privileges() == Some(true) {
        p.section("process.noNewPrivileges");
        p.prctl_set_no_new_privs();
    }
}

/// What is executed starts with no signal blocked, and with those as the kernel has them that runb ignores itself, or that who
/// embeds the library may ignore.
pub(crate) fn signals(p: &mut Program) {
    p.section("");
    p.reset_signals(&[libc::SIGPIPE, libc::SIGXFSZ, libc::SIGCHLD]);
}

/// Moves the exec fifo to the descriptor after the report's.
pub(super) fn keep_fifo(p: &mut Program, fifo: Slot) {
    let to = p.report() + 1;
    p.dup3(fifo, to).tolerate(&[libc::EINVAL]);
    p.close(fifo).after_success();
}
