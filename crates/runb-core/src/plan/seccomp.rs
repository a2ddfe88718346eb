//! `linux.seccomp` compiled to the classic BPF that seccomp(2) takes.
//!
//! The verdicts are those that runc gets through libseccomp, its stub for unknown calls included; the tests compare
//! them call by call. See docs/decisions/seccomp-compiler.md for why the compiler is runb's own.

mod arch;
mod decide;
#[cfg(feature = "internals")]
mod explain;
mod numbers;
mod program;
mod rules;
mod run;

use std::path::PathBuf;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator, Spec};

pub use arch::{Abi, Native};
#[cfg(feature = "internals")]
pub use explain::{Verdict, explain, verdict};
pub use program::Instruction;
pub use rules::Action;
pub use run::{Call, run};

use crate::host::Host;
use crate::{Error, Result};
use arch::Kind;
use decide::{Alternative, Decision, Unknown, Uses, X32};
use program::{Assembler, Target};
use rules::Profile;

/// `BPF_MAXINSNS`, include/uapi/linux/bpf_common.h: the kernel takes no longer program.
pub const MOST_INSTRUCTIONS: usize = 4096;

/// The actions that a profile may name.
pub const ACTIONS: [LinuxSeccompAction; 9] = [
    LinuxSeccompAction::ScmpActAllow,
    LinuxSeccompAction::ScmpActErrno,
    LinuxSeccompAction::ScmpActKill,
    LinuxSeccompAction::ScmpActKillProcess,
    LinuxSeccompAction::ScmpActKillThread,
    LinuxSeccompAction::ScmpActLog,
    LinuxSeccompAction::ScmpActNotify,
    LinuxSeccompAction::ScmpActTrace,
    LinuxSeccompAction::ScmpActTrap,
];

/// The comparisons that a profile may name.
pub const OPERATORS: [LinuxSeccompOperator; 7] = [
    LinuxSeccompOperator::ScmpCmpEq,
    LinuxSeccompOperator::ScmpCmpGe,
    LinuxSeccompOperator::ScmpCmpGt,
    LinuxSeccompOperator::ScmpCmpLe,
    LinuxSeccompOperator::ScmpCmpLt,
    LinuxSeccompOperator::ScmpCmpMaskedEq,
    LinuxSeccompOperator::ScmpCmpNe,
];

/// The flags that a profile may name.
pub const FLAGS: [LinuxSeccompFilterFlag; 4] = [
    LinuxSeccompFilterFlag::SeccompFilterFlagLog,
    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow,
    LinuxSeccompFilterFlag::SeccompFilterFlagTsync,
    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv,
];

/// Flags of seccomp(2)'s `SECCOMP_SET_MODE_FILTER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterFlags(pub u32);

impl FilterFlags {
    /// Every thread of the process gets the filter.
    pub const TSYNC: FilterFlags = FilterFlags(1 << 0);
    /// Actions other than ALLOW are logged.
    pub const LOG: FilterFlags = FilterFlags(1 << 1);
    /// The mitigation of Speculative Store Bypass stays off.
    pub const SPEC_ALLOW: FilterFlags = FilterFlags(1 << 2);
    /// The call returns the listener's descriptor.
    pub const NEW_LISTENER: FilterFlags = FilterFlags(1 << 3);
    /// A call that waits for a listener which has received it is interrupted by deadly signals only (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: FilterFlags = FilterFlags(1 << 5);

    /// Whether all of `other` are in here.
    pub const fn has(self, other: FilterFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    pub const fn with(self, other: FilterFlags) -> FilterFlags {
        FilterFlags(self.0 | other.0)
    }
}

/// What the running kernel's seccomp(2) can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The flags that it knows.
    pub flags: FilterFlags,
}

impl Kernel {
    /// The abilities of release `major.minor`, which is 5.10 or newer.
    pub const fn of_release(major: u32, minor: u32) -> Kernel {
        let oldest = FilterFlags(0b1_1111);
        match major > 5 || (major == 5 && minor >= 19) {
            true => Kernel { flags: oldest.with(FilterFlags::WAIT_KILLABLE_RECV) },
            false => Kernel { flags: oldest },
        }
    }
}

/// Who decides over calls with `SCMP_ACT_NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The unix stream socket that receives the descriptor and the container process state.
    pub path: PathBuf,
    /// Passed on as `metadata`.
    pub metadata: Option<String>,
}

/// A compiled profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most [`MOST_INSTRUCTIONS`]: an array of `struct sock_filter`.
    pub instructions: Vec<Instruction>,
    /// What seccomp(2) gets beside it; with NEW_LISTENER exactly if there is a listener.
    pub flags: FilterFlags,
    /// Where the listener's descriptor goes.
    pub listener: Option<Listener>,
    /// The architectures that the filter tells apart; calls of others are killed.
    pub abis: Vec<Abi>,
    parts: Vec<Part>,
}

impl Filter {
    /// Whether the listener is asked about this call of init's.
    pub(crate) fn asks_about(&self, call: &runb_init::Call) -> Result<bool> {
        let Some(native) = Native::of_build() else { return Ok(false) };
        let call = Call { arch: native.abi().audit(), number: call.nr.into(), arguments: call.args };
        Ok(run(&self.instructions, &call)?.0 == Action::NOTIFY)
    }

    /// Checks the calls that init makes under a filter with a listener before it is handed over: each is a number with its
    /// arguments. Two of them nobody can answer but the kernel; and of a call that kills init nobody would hear.
    ///
    /// # Errors
    /// The profile does not let one of them pass.
    pub(super) fn check_init(&self, calls: impl Iterator<Item = (u32, [u64; 6])>) -> Result<()> {
        let Some(native) = Native::of_build() else { return Ok(()) };
        let refuse = |number: u32, action: Action| {
            let name = numbers::name_of(native.abi(), number).unwrap_or("a call");
            let text = format!("answers {name} with {action}: init needs it when the filter's listener is handed over");
            Err(Error::spec("linux.seccomp", text))
        };
        let hand_over = rules::HAND_OVER.map(|(_, number)| number as u32);
        for (number, arguments) in calls.chain(hand_over.map(|number| (number, [0; 6]))) {
            let (action, _) = run(&self.instructions, &Call { arch: native.abi().audit(), number, arguments })?;
            let passes = action == Action::ALLOW || action.class() == rules::LOG;
            let can_tell = action == Action::NOTIFY || [rules::ERRNO, rules::TRACE].contains(&action.class());
            if !passes && (hand_over.contains(&number) || !can_tell) {
                return refuse(number, action);
            }
        }
        Ok(())
    }
}

/// Where the code of an architecture begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    start: usize,
    abis: Vec<Abi>,
}

/// Compiles `seccomp` for processes of `native` under `kernel`.
///
/// Names that no architecture has are skipped, as profiles are written for many kernels. Errors are of kind spec and name
/// the place: an errno beside an action without one, an argument beyond the sixth, rules that contradict each other, a
/// flag that the kernel lacks, a listener that is missing, a filter too long for the kernel.
pub fn compile(seccomp: &LinuxSeccomp, native: Native, kernel: &Kernel) -> Result<Filter> {
    let listed = architectures(seccomp)?;
    let profile = rules::read(seccomp)?;
    let listener = listener(seccomp, &profile)?;
    let flags = flags(seccomp, &listener, kernel)?;
    let has = |abi: Abi| abi == native.abi() || listed.contains(&abi);
    let unknown = unknown(profile.default);
    let uses = Uses::of_profile(&profile);

    let mut assembler = Assembler::new();
    let mut entries = Vec::new();
    // The last one written is next to the program's beginning: the machine's own.
    for kind in native.kinds().iter().rev().filter(|kind| has(kind.abi)) {
        let abis: Vec<Abi> = std::iter::once(kind.abi).chain(kind.shared.filter(|&abi| has(abi))).collect();
        entries.push((kind.audit, architecture(&mut assembler, &profile, &uses, (kind, &abis), unknown)?, abis));
    }
    let mut entry = Target::Return(Action::KILL_THREAD);
    for (audit, target, _) in &entries {
        entry = assembler.compare(program::EQUAL, *audit, *target, entry);
    }
    let entry = assembler.load(program::ARCH, entry);
    let instructions = assembler.finish(entry);
    let length = instructions.len();
    if length > MOST_INSTRUCTIONS {
        return Err(Error::spec(
            "linux.seccomp",
            format!("takes {length} BPF instructions, the kernel allows {MOST_INSTRUCTIONS}"),
        ));
    }
    let mut parts: Vec<Part> = Vec::new();
    for (_, target, abis) in entries.into_iter().rev() {
        if let Target::At(index) = target {
            parts.push(Part { start: length - 1 - index as usize, abis });
        }
    }
    let abis = Abi::ALL.into_iter().filter(|abi| native.abis().any(|one| one == *abi) && has(*abi)).collect();
    Ok(Filter { instructions, flags, listener, abis, parts })
}

/// The code for the calls of one `AUDIT_ARCH` value: its entry.
fn architecture(
    assembler: &mut Assembler,
    profile: &Profile,
    uses: &Uses,
    (kind, abis): (&Kind, &[Abi]),
    unknown: Unknown,
) -> Result<Target> {
    let mut calls = Vec::with_capacity(abis.iter().map(|abi| numbers::of(*abi).len()).sum());
    // abis are in the order of their numbers: x32's have bit 30.
    for &abi in abis {
        let mut written: Vec<(Vec<Alternative>, Target)> = Vec::new();
        decide::calls(profile, uses, abi, |number, decision| {
            let target = match &decision {
                Decision::Always(action) => Target::Return(*action),
                Decision::ByArguments(alternatives) => match written.iter().find(|(one, _)| one == alternatives) {
                    Some((_, target)) => *target,
                    None => {
                        let target = program::decision(assembler, alternatives, abi.width(), profile.default);
                        written.push((alternatives.clone(), target));
                        target
                    }
                },
            };
            calls.push((number, target));
        })?;
    }
    let floor = match (kind.shared, abis) {
        (Some(_), [_, _]) => decide::floor_x86_64(profile.default, uses, X32::Present, unknown),
        (Some(_), _) => decide::floor_x86_64(profile.default, uses, X32::Absent, unknown),
        (None, _) => decide::floor(profile.default, uses, kind.abi, unknown),
    };
    Ok(program::dispatch(assembler, &floor, &calls))
}

/// Calls newer than the profile get ENOSYS, so that a C library falls back to an older one; runc's rule
/// (libcontainer/seccomp/patchbpf): not where the default action lets them pass or a tracer decides.
fn unknown(default: Action) -> Unknown {
    match default.class() {
        rules::LOG | rules::TRACE => Unknown::Default,
        _ if default == Action::ALLOW => Unknown::Default,
        _ => Unknown::Enosys,
    }
}

/// The ABIs that the profile lists and runb has tables for.
///
/// Other architectures of the specification are accepted and get no code: a process of this machine cannot be of them,
/// and if it were, it would be killed as one of an unlisted architecture.
fn architectures(seccomp: &LinuxSeccomp) -> Result<Vec<Abi>> {
    let mut abis = Vec::new();
    for (i, &arch) in seccomp.architectures().iter().flatten().enumerate() {
        if arch == Arch::ScmpArchNative {
            return Err(Error::spec(
                format!("linux.seccomp.architectures[{i}]"),
                "SCMP_ARCH_NATIVE is not an architecture of the specification; leave the list out for the native one",
            ));
        }
        abis.extend(Abi::of_spec(arch));
    }
    Ok(abis)
}

/// The listener, if a rule has SCMP_ACT_NOTIFY. The path alone means nothing (config-linux.md, `listenerPath`).
fn listener(seccomp: &LinuxSeccomp, profile: &Profile) -> Result<Option<Listener>> {
    let path = seccomp.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
    if metadata.is_some() && path.is_none() {
        return Err(Error::spec("linux.seccomp.listenerMetadata", "must not be set where listenerPath is not"));
    }
    let Some(rule) = profile.rules.iter().find(|rule| rule.action == Action::NOTIFY) else { return Ok(None) };
    match path {
        Some(path) => Ok(Some(Listener { path: path.clone(), metadata })),
        None => Err(Error::spec(
            format!("{}.action", rules::origin(rule.index)),
            "SCMP_ACT_NOTIFY needs linux.seccomp.listenerPath",
        )),
    }
}

/// The flags of the profile; SPEC_ALLOW where it has no such field at all, as with runc and crun.
fn flags(seccomp: &LinuxSeccomp, listener: &Option<Listener>, kernel: &Kernel) -> Result<FilterFlags> {
    let mut flags = FilterFlags::default();
    let Some(written) = seccomp.flags() else {
        flags = FilterFlags::SPEC_ALLOW;
        return Ok(if listener.is_some() { flags.with(FilterFlags::NEW_LISTENER) } else { flags });
    };
    for (i, &flag) in written.iter().enumerate() {
        let flag = match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FilterFlags::LOG,
            // Whoever loads the filter has one thread, which is the one that gets it: there is nobody to bring it to.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => continue,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FilterFlags::SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FilterFlags::WAIT_KILLABLE_RECV,
        };
        if !kernel.flags.has(flag) {
            return Err(Error::spec(format!("linux.seccomp.flags[{i}]"), format!("{} needs Linux 5.19", written[i])));
        }
        // The kernel refuses it where nothing can wait for a listener; without one it says nothing.
        if flag == FilterFlags::WAIT_KILLABLE_RECV && listener.is_none() {
            continue;
        }
        flags = flags.with(flag);
    }
    Ok(if listener.is_some() { flags.with(FilterFlags::NEW_LISTENER) } else { flags })
}

/// linux.seccomp, compiled for this machine; none where the configuration has no profile.
///
/// # Errors
/// As [`compile`].
pub fn of(spec: &Spec, host: &Host) -> Result<Option<Filter>> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let Some(profile) = seccomp else { return Ok(None) };
    let unsupported = || Error::spec("linux.seccomp", "has no table of system calls for this architecture");
    let native = Native::of_build().ok_or_else(unsupported)?;
    compile(profile, native, &Kernel::of_release(host.kernel.0, host.kernel.1)).map(Some)
}
