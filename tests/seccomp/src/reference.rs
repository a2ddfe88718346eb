//! The reference: libseccomp fed as runc feeds it, and runc's rule for calls newer than the profile.

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use runb_core::plan::seccomp::{Abi, Action, Call, Instruction, run};

const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: Action = Action(0x0005_0000 | 38);

/// How libseccomp lays the numbers out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One comparison after another.
    Linear,
    /// Its binary tree, which runc asks for.
    Tree,
}

/// A profile compiled by libseccomp.
pub struct Reference {
    /// Its program, without runc's stub.
    pub instructions: Vec<Instruction>,
    abis: Vec<Abi>,
    /// The greatest number named, by ABI; none where the default action lets calls pass.
    greatest: Vec<(Abi, u32)>,
}

fn arch(abi: Abi) -> ScmpArch {
    match abi {
        Abi::X86_64 => ScmpArch::X8664,
        Abi::X32 => ScmpArch::X32,
        Abi::X86 => ScmpArch::X86,
        Abi::Aarch64 => ScmpArch::Aarch64,
        Abi::Arm => ScmpArch::Arm,
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1);
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(errno as i32),
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(errno as u16),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

fn comparison(arg: &LinuxSeccompArg) -> ScmpArgCompare {
    let (operator, value) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, arg.value()),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(arg.value()), arg.value_two().unwrap_or(0))
        }
    };
    ScmpArgCompare::new(arg.index() as u32, operator, value)
}

/// Whether libseccomp knows the name at all; names newer than the library cannot be compared.
pub fn knows(name: &str) -> bool {
    ScmpSyscall::from_name(name).is_ok()
}

/// The profile without the names that libseccomp does not know.
pub fn known_part(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let mut profile = profile.clone();
    let rules = profile.syscalls().iter().flatten().filter_map(|rule| {
        let mut rule = rule.clone();
        let names: Vec<String> = rule.names().iter().filter(|name| knows(name)).cloned().collect();
        let some = !names.is_empty();
        rule.set_names(names);
        some.then_some(rule)
    });
    profile.set_syscalls(Some(rules.collect()));
    profile
}

impl Reference {
    /// Compiles `profile` for exactly `abis`.
    pub fn compile(profile: &LinuxSeccomp, abis: &[Abi], layout: Layout) -> Result<Reference, SeccompError> {
        let default = action(profile.default_action(), profile.default_errno_ret());
        let mut filter = ScmpFilterContext::new(default)?;
        for &abi in abis {
            filter.add_arch(arch(abi))?;
        }
        if !abis.contains(&Abi::X86_64) {
            filter.remove_arch(ScmpArch::X8664)?;
        }
        if layout == Layout::Tree {
            filter.set_ctl_optimize(2)?;
        }
        let mut names = Vec::new();
        for rule in profile.syscalls().iter().flatten() {
            names.extend(rule.names().iter().map(String::as_str));
            let action = action(rule.action(), rule.errno_ret());
            if action != default {
                add(&mut filter, rule, action)?;
            }
        }
        let greatest = match profile.default_action() {
            LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace => {
                Vec::new()
            }
            _ => abis.iter().filter_map(|&abi| Some((abi, greatest(&names, abi)?))).collect(),
        };
        Ok(Reference { instructions: exported(&filter)?, abis: abis.to_vec(), greatest })
    }

    /// What runc's process would get.
    pub fn verdict(&self, call: &Call) -> Action {
        if self.is_newer(call) {
            return ENOSYS;
        }
        run(&self.instructions, call).expect("libseccomp writes sound programs").0
    }

    /// What libseccomp alone says.
    pub fn bare_verdict(&self, call: &Call) -> Action {
        run(&self.instructions, call).expect("libseccomp writes sound programs").0
    }

    /// runc's stub: the number is above the greatest that the profile names for the ABI. x86_64 and x32 look at bit 30
    /// only, so that a number with bit 31 counts for one of them.
    fn is_newer(&self, call: &Call) -> bool {
        let Some(native) =
            [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm].into_iter().find(|&abi| audit(abi) == call.arch)
        else {
            return false;
        };
        let abi = if native == Abi::X86_64 && call.number & X32_BIT != 0 { Abi::X32 } else { native };
        if !self.abis.contains(&abi) {
            return false;
        }
        self.greatest.iter().any(|&(one, greatest)| one == abi && call.number > greatest)
    }
}

/// The `AUDIT_ARCH` value of `abi`.
pub fn audit(abi: Abi) -> u32 {
    Call::new(abi, "0", [0; 6]).expect("0 is a number").arch
}

fn greatest(names: &[&str], abi: Abi) -> Option<u32> {
    let numbers = names.iter().filter_map(|name| {
        let mut number = i32::from(ScmpSyscall::from_name_by_arch(name, arch(abi)).ok()?);
        // libseccomp has a negative number for what x86 multiplexes, even where there is a call of its own, too. runc then
        // takes that one for newer than the profile that names it; runb does not.
        if (-299..-99).contains(&number)
            && let Ok(call) = Call::new(abi, name, [0; 6])
        {
            number = call.number as i32;
        }
        // Arm's private calls would hide every newer call; runb counts them apart, and so does this.
        (abi != Abi::Arm || number < 0x0f_0000).then_some(number)
    });
    u32::try_from(numbers.max()?).ok().filter(|&number| number != 0)
}

fn add(filter: &mut ScmpFilterContext, rule: &LinuxSyscall, action: ScmpAction) -> Result<(), SeccompError> {
    let args: Vec<&LinuxSeccompArg> = rule.args().iter().flatten().collect();
    let twice = args.iter().any(|one| args.iter().filter(|other| other.index() == one.index()).count() > 1);
    for name in rule.names() {
        let Ok(call) = ScmpSyscall::from_name(name) else { continue };
        if twice {
            for arg in &args {
                filter.add_rule_conditional(action, call, &[comparison(arg)])?;
            }
        } else {
            let all: Vec<ScmpArgCompare> = args.iter().map(|arg| comparison(arg)).collect();
            filter.add_rule_conditional(action, call, &all)?;
        }
    }
    Ok(())
}

fn exported(filter: &ScmpFilterContext) -> Result<Vec<Instruction>, SeccompError> {
    use std::io::{Read, Seek};
    let memory = nix::sys::memfd::memfd_create(c"bpf", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("memfd_create");
    filter.export_bpf(&memory)?;
    let mut file = std::fs::File::from(memory);
    file.rewind().expect("rewind");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("read");
    Ok(bytes.chunks_exact(8).map(|one| Instruction(u64::from_ne_bytes(one.try_into().expect("8 bytes")))).collect())
}
