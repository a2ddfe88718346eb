//! A profile read word for word: no tree, no tables of decisions, a loop over the rules for every call.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator as Operator};
use runb_core::plan::seccomp::{Abi, Action, Call};

use crate::reference::audit;

/// The rules of each call, by `AUDIT_ARCH` and number.
pub struct Literal {
    rules: HashMap<(u32, u32), Vec<Rule>>,
}

struct Rule {
    action: Action,
    /// Any of these, each all of its conditions.
    alternatives: Vec<Vec<LinuxSeccompArg>>,
    abi: Abi,
}

/// What x86's socketcall (102) reaches, from 1 on: include/uapi/linux/net.h.
const SOCKETCALL: &str = "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom \
    shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";

/// What x86's ipc (117) reaches: include/uapi/linux/ipc.h.
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The number and the first argument by which x86 reaches `name`, too.
fn multiplexed(name: &str) -> Option<(u32, u64)> {
    if let Some(place) = SOCKETCALL.split(' ').position(|one| one == name) {
        return Some((102, place as u64 + 1));
    }
    IPC.iter().find(|one| one.0 == name).map(|one| (117, one.1))
}

/// `alternatives` of a multiplexed call: the first argument is the call, the others are what they are.
fn behind(alternatives: &[Vec<LinuxSeccompArg>], call: u64) -> Vec<Vec<LinuxSeccompArg>> {
    let is_call = LinuxSeccompArgBuilder::default().index(0_usize).value(call).op(Operator::ScmpCmpEq);
    let is_call = is_call.build().expect("a condition");
    let one = |args: &Vec<LinuxSeccompArg>| {
        std::iter::once(is_call).chain(args.iter().filter(|arg| arg.index() != 0).copied()).collect()
    };
    alternatives.iter().map(one).collect()
}

/// How libseccomp stands to the rules of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libseccomp {
    /// Its tree says what the rules say.
    Exact,
    /// Its tree (db.c, gen_bpf.c of 2.5.4) loses itself: alternatives that test by anything but equality, in two words or
    /// several arguments. A lower word is compared where the upper one was to be loaded, or nodes that two rules share are
    /// changed for one of them.
    Astray,
}

impl Literal {
    /// Reads `profile` for `abis`. A call has rules of one action, or equalities of one argument, as the generator makes
    /// them: which of several rules comes first does not matter.
    pub fn read(profile: &LinuxSeccomp, abis: &[Abi]) -> Literal {
        let mut rules: HashMap<(u32, u32), Vec<Rule>> = HashMap::new();
        for rule in profile.syscalls().iter().flatten() {
            let action = Action(rule.action().as_u32(rule.errno_ret()));
            if action == Action(profile.default_action().as_u32(profile.default_errno_ret())) {
                continue;
            }
            let args: Vec<LinuxSeccompArg> = rule.args().iter().flatten().copied().collect();
            let twice = args.iter().any(|one| args.iter().filter(|other| other.index() == one.index()).count() > 1);
            let alternatives = if twice { args.iter().map(|&one| vec![one]).collect() } else { vec![args] };
            for name in rule.names() {
                if let Some((number, call)) = multiplexed(name).filter(|_| abis.contains(&Abi::X86)) {
                    let rule = Rule { action, alternatives: behind(&alternatives, call), abi: Abi::X86 };
                    rules.entry((audit(Abi::X86), number)).or_default().push(rule);
                }
                for &abi in abis {
                    if let Ok(call) = Call::new(abi, name, [0; 6]) {
                        let rule = Rule { action, alternatives: alternatives.clone(), abi };
                        rules.entry((call.arch, call.number)).or_default().push(rule);
                    }
                }
            }
        }
        Literal { rules }
    }

    /// What the rules that hold say, several things only for x86's multiplexed calls, nothing for the default action; and
    /// libseccomp's part in it. None for a call without rules.
    pub fn verdicts(&self, call: &Call) -> Option<(Vec<Action>, Libseccomp)> {
        let rules = self.rules.get(&(call.arch, call.number))?;
        if let Some(rule) = rules.iter().find(|rule| rule.alternatives.iter().any(|one| one.iter().all(always))) {
            return Some((vec![rule.action], Libseccomp::Exact));
        }
        let holds = |rule: &&Rule| rule.alternatives.iter().any(|one| one.iter().all(|arg| test(arg, rule.abi, call)));
        let actions = rules.iter().filter(holds).map(|rule| rule.action).collect();
        let all: Vec<&Vec<LinuxSeccompArg>> = rules.iter().flat_map(|rule| &rule.alternatives).collect();
        let wide = matches!(rules[0].abi, Abi::X86_64 | Abi::Aarch64);
        let several = all.iter().any(|one| one.len() > 1);
        let bounds = all.iter().any(|one| one.iter().any(|arg| arg.op() != Operator::ScmpCmpEq));
        let astray = all.len() > 1 && bounds && (wide || several);
        Some((actions, if astray { Libseccomp::Astray } else { Libseccomp::Exact }))
    }
}

fn always(arg: &LinuxSeccompArg) -> bool {
    arg.op() == Operator::ScmpCmpMaskedEq && arg.value() == 0
}

fn test(arg: &LinuxSeccompArg, abi: Abi, call: &Call) -> bool {
    let cut = |value: u64| if matches!(abi, Abi::X86_64 | Abi::Aarch64) { value } else { value & 0xffff_ffff };
    let (actual, value) = (cut(call.arguments[arg.index()]), cut(arg.value()));
    match arg.op() {
        Operator::ScmpCmpNe => actual != value,
        Operator::ScmpCmpLt => actual < value,
        Operator::ScmpCmpLe => actual <= value,
        Operator::ScmpCmpEq => actual == value,
        Operator::ScmpCmpGe => actual >= value,
        Operator::ScmpCmpGt => actual > value,
        Operator::ScmpCmpMaskedEq => actual & value == arg.value_two().unwrap_or(0) & value,
    }
}
