//! The profile as written, checked: every rule with its action, its conditions and its place in config.json.

use nix::errno::Errno;
use nix::libc;
use std::fmt;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

use super::numbers::{self, Name};
use crate::{Error, Result};

/// `MAX_ERRNO`, include/linux/err.h: the kernel returns this for anything greater (kernel/seccomp.c).
const MAX_ERRNO: u32 = 4095;

/// The calls by which init tells the runtime of a filter's listener, and awaits that it is handed over. Nobody could answer
/// the first, and only the listener the second. runc refuses `write` for the same reason.
pub(super) const HAND_OVER: [(&str, libc::c_long); 2] = [("write", libc::SYS_write), ("recvfrom", libc::SYS_recvfrom)];

/// A system call has this many arguments.
const ARGUMENTS: usize = 6;

/// What the kernel does with a call: the value that a filter returns (`SECCOMP_RET_*`, seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action(pub u32);

impl Action {
    /// The process dies of SIGSYS.
    pub const KILL_PROCESS: Action = Action(0x8000_0000);
    /// The calling thread dies of SIGSYS. It is what another architecture's call gets: libseccomp's action for those.
    pub const KILL_THREAD: Action = Action(0x0000_0000);
    /// The call runs.
    pub const ALLOW: Action = Action(0x7fff_0000);
    /// The call fails with ENOSYS.
    pub const ENOSYS: Action = Action(ERRNO | Errno::ENOSYS as u32);
    /// A listener decides.
    pub const NOTIFY: Action = Action(0x7fc0_0000);

    /// The action's value without its data: `SECCOMP_RET_ACTION_FULL`.
    pub(super) const fn class(self) -> u32 {
        self.0 & 0xffff_0000
    }

    /// `SECCOMP_RET_DATA`: the errno, or what a tracer reads.
    pub(super) const fn data(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Action {
    /// `ALLOW`, `ERRNO EPERM`, `TRACE 7`, `KILL_THREAD`: the kernel's names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.class(), Errno::from_raw(i32::from(self.data()))) {
            (ERRNO, Errno::UnknownErrno) => write!(f, "ERRNO {}", self.data()),
            (ERRNO, errno) => write!(f, "ERRNO {errno:?}"),
            (TRACE, _) => write!(f, "TRACE {}", self.data()),
            (TRAP, _) => f.write_str("TRAP"),
            (LOG, _) => f.write_str("LOG"),
            _ if *self == Action::ALLOW => f.write_str("ALLOW"),
            _ if *self == Action::NOTIFY => f.write_str("USER_NOTIF"),
            _ if *self == Action::KILL_PROCESS => f.write_str("KILL_PROCESS"),
            _ if *self == Action::KILL_THREAD => f.write_str("KILL_THREAD"),
            _ => write!(f, "{:#010x}", self.0),
        }
    }
}

pub(super) const TRAP: u32 = 0x0003_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;

/// The action `action` with the errno `data` that stands beside it in the configuration.
///
/// An errno beside an action that has none is refused, as the specification demands (config-linux.md, `errnoRet`).
fn action(action: LinuxSeccompAction, data: Option<u32>) -> std::result::Result<Action, String> {
    use LinuxSeccompAction as Spec;
    let with_data = |class: u32, most: u32| match data.unwrap_or(Errno::EPERM as u32) {
        data if data <= most => Ok(Action(class | data)),
        data => Err(format!("{data} is more than {action} can return, {most}")),
    };
    let plain = match action {
        Spec::ScmpActErrno => return with_data(ERRNO, MAX_ERRNO),
        Spec::ScmpActTrace => return with_data(TRACE, u32::from(u16::MAX)),
        Spec::ScmpActKill | Spec::ScmpActKillThread => Action::KILL_THREAD,
        Spec::ScmpActKillProcess => Action::KILL_PROCESS,
        Spec::ScmpActTrap => Action(TRAP),
        Spec::ScmpActLog => Action(LOG),
        Spec::ScmpActAllow => Action::ALLOW,
        Spec::ScmpActNotify => Action::NOTIFY,
    };
    match data {
        None => Ok(plain),
        Some(data) => Err(format!("{action} takes no errno, {data} is given")),
    }
}

/// One comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) operator: LinuxSeccompOperator,
    /// All ones for every operator but MASKED_EQ.
    pub(super) mask: u64,
    /// Within the mask.
    pub(super) value: u64,
}

/// An entry of `linux.seccomp.syscalls`.
pub(super) struct Rule {
    /// Its index in the profile.
    pub(super) index: usize,
    pub(super) action: Action,
    /// The calls that some ABI has; others are skipped, since profiles name calls of every architecture.
    pub(super) calls: Vec<Name>,
    /// Any of these lists, each all of its conditions, sorted by argument. One empty list for a rule without conditions.
    pub(super) alternatives: Vec<Vec<Condition>>,
}

/// A checked profile.
pub(super) struct Profile {
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
}

/// The place of a rule in config.json.
pub(super) fn origin(index: usize) -> String {
    format!("linux.seccomp.syscalls[{index}]")
}

/// Reads the actions, names and conditions of `seccomp`.
pub(super) fn read(seccomp: &LinuxSeccomp) -> Result<Profile> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())
        .map_err(|text| Error::spec("linux.seccomp.defaultErrnoRet", text))?;
    if default == Action::NOTIFY {
        // Every call of init would wait for the listener, those that hand over its descriptor too.
        return Err(Error::spec("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY cannot be the default action"));
    }
    let written = seccomp.syscalls().as_deref().unwrap_or_default();
    let rules = written.iter().enumerate().map(|(index, rule)| read_rule(index, rule)).collect::<Result<_>>()?;
    Ok(Profile { default, rules })
}

fn read_rule(index: usize, written: &LinuxSyscall) -> Result<Rule> {
    let action = action(written.action(), written.errno_ret())
        .map_err(|text| Error::spec(format!("{}.errnoRet", origin(index)), text))?;
    if written.names().is_empty() {
        return Err(Error::spec(format!("{}.names", origin(index)), "must hold at least one name"));
    }
    let mut calls = Vec::with_capacity(written.names().len());
    for (i, name) in written.names().iter().enumerate() {
        if name.is_empty() {
            return Err(Error::spec(format!("{}.names[{i}]", origin(index)), "an empty name"));
        }
        if action == Action::NOTIFY && HAND_OVER.iter().any(|call| call.0 == name) {
            return Err(Error::spec(
                format!("{}.action", origin(index)),
                format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall, by which the listener is handed over"),
            ));
        }
        calls.extend(numbers::find(name));
    }
    let mut conditions = Vec::new();
    for (i, arg) in written.args().iter().flatten().enumerate() {
        let condition = read_condition(arg)
            .map_err(|(field, text)| Error::spec(format!("{}.args[{i}].{field}", origin(index)), text))?;
        conditions.push(condition);
    }
    Ok(Rule { index, action, calls, alternatives: alternatives(conditions) })
}

fn read_condition(arg: &LinuxSeccompArg) -> std::result::Result<Condition, (&'static str, String)> {
    let argument = match u8::try_from(arg.index()) {
        Ok(argument) if usize::from(argument) < ARGUMENTS => argument,
        _ => {
            return Err((
                "index",
                format!("a system call has {ARGUMENTS} arguments, this would be argument {}", arg.index()),
            ));
        }
    };
    let operator = arg.op();
    let (mask, value) = match (operator, arg.value_two()) {
        // The mask comes first, as in libseccomp's SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, mask, datum).
        (LinuxSeccompOperator::ScmpCmpMaskedEq, value) => (arg.value(), value.unwrap_or(0) & arg.value()),
        (_, None | Some(0)) => (u64::MAX, arg.value()),
        (_, Some(value)) => {
            return Err(("valueTwo", format!("{operator} has one operand, {value} would be a second one")));
        }
    };
    Ok(Condition { argument, operator, mask, value })
}

/// Conditions of different arguments must all hold. Where an argument occurs twice, any one of all the conditions is enough:
/// what runc has done from the start (libcontainer/seccomp, matchCall), and what profiles in use count on.
fn alternatives(mut conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let mut seen = [0; ARGUMENTS];
    for condition in &conditions {
        seen[usize::from(condition.argument)] += 1;
    }
    if seen.iter().any(|&count| count > 1) {
        return conditions.into_iter().map(|condition| vec![condition]).collect();
    }
    conditions.sort_by_key(|condition| condition.argument);
    vec![conditions]
}
