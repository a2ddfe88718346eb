//! A compiled filter for people: its listing, and what it says to a call.

use std::fmt::{self, Write};

use nix::errno::Errno;

use super::arch::{Abi, X32_BIT};
use super::program::{AND, ARCH, ARGUMENTS, AT_LEAST, EQUAL, GO, GREATER, Instruction, LOAD, NUMBER, RETURN};
use super::rules::{Action, ERRNO, LOG, TRACE, TRAP};
use super::run::{Call, run};
use super::{Filter, numbers};
use crate::{Error, Kind, Result};

impl Call {
    /// The call `name`, which may also be a number, with the ABI's `AUDIT_ARCH`.
    pub fn new(abi: Abi, name: &str, arguments: [u64; 6]) -> Result<Call> {
        let number = match numbers::find(name).and_then(|entry| entry.number(abi)) {
            Some(number) => number,
            None => match name.parse() {
                Ok(number) if abi == Abi::X32 && number < X32_BIT => number | X32_BIT,
                Ok(number) => number,
                Err(_) => {
                    return Err(Error::new(Kind::Usage, format!("{} has no system call {name}", abi.name())));
                }
            },
        };
        Ok(Call { arch: abi.audit(), number, arguments })
    }
}

/// What a filter says to a call, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The action.
    pub action: Action,
    /// How many instructions decided it.
    pub instructions: usize,
    call: Call,
    abi: Abi,
}

/// Would this system call pass? `name` is a name or a number of `abi`.
pub fn verdict(filter: &Filter, abi: Abi, name: &str, arguments: [u64; 6]) -> Result<Verdict> {
    let call = Call::new(abi, name, arguments)?;
    let (action, instructions) = run(&filter.instructions, &call)?;
    Ok(Verdict { action, instructions, call, abi })
}

impl fmt::Display for Verdict {
    /// `x86_64 personality(0x20000, 0x0, …): fails with EPERM`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match numbers::name_of(self.abi, self.call.number) {
            Some(name) => write!(f, "{} {name}(", self.abi.name())?,
            None => write!(f, "{} call {}(", self.abi.name(), self.call.number)?,
        }
        for (i, argument) in self.call.arguments.iter().enumerate() {
            write!(f, "{}{argument:#x}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("): ")?;
        match (self.action.class(), Errno::from_raw(i32::from(self.action.data()))) {
            (ERRNO, _) if self.action.data() == 0 => f.write_str("does nothing and returns 0"),
            (ERRNO, Errno::UnknownErrno) => write!(f, "fails with errno {}", self.action.data()),
            (ERRNO, errno) => write!(f, "fails with {errno:?}"),
            (TRACE, _) => write!(f, "a tracer decides (data {}); ENOSYS without one", self.action.data()),
            (TRAP, _) => f.write_str("SIGSYS, which the process may catch"),
            (LOG, _) => f.write_str("passes, and the kernel logs it"),
            _ if self.action == Action::ALLOW => f.write_str("passes"),
            _ if self.action == Action::NOTIFY => f.write_str("the listener decides"),
            _ if self.action == Action::KILL_PROCESS => f.write_str("the process is killed"),
            _ => f.write_str("the thread is killed"),
        }
    }
}

/// The listing of a filter: one line for each instruction, jumps as line numbers, calls by name.
pub fn explain(filter: &Filter) -> String {
    let mut text = String::new();
    let mut abis: &[Abi] = &[];
    let mut loaded = NUMBER;
    for (line, instruction) in filter.instructions.iter().enumerate() {
        if let Some(part) = filter.parts.iter().find(|part| part.start == line) {
            abis = &part.abis;
            let names: Vec<&str> = abis.iter().map(|abi| abi.name()).collect();
            let _ = writeln!(text, "{}:", names.join(" and "));
        }
        if instruction.code() == LOAD {
            loaded = instruction.operand();
        }
        let _ = writeln!(text, "{line:5}  {}", listed(*instruction, line, loaded, abis));
    }
    text
}

fn listed(instruction: Instruction, line: usize, loaded: u32, abis: &[Abi]) -> String {
    let operand = instruction.operand();
    let sign = match instruction.code() {
        RETURN => return format!("return {}", Action(operand)),
        GO => return format!("go {}", line + 1 + operand as usize),
        LOAD => return format!("load {}", field(operand)),
        AND => return format!("and {operand:#x}"),
        EQUAL => "==",
        GREATER => ">",
        AT_LEAST => ">=",
        code => return format!("code {code:#x} operand {operand:#x}"),
    };
    let value = match loaded {
        NUMBER => number(operand, abis),
        ARCH => {
            Abi::ALL.iter().find(|abi| abi.audit() == operand).map_or(format!("{operand:#x}"), |abi| abi.name().into())
        }
        _ => format!("{operand:#x}"),
    };
    let (yes, no) = (line + 1 + usize::from(instruction.yes()), line + 1 + usize::from(instruction.no()));
    format!("{sign} {value} ? {yes} : {no}")
}

fn field(offset: u32) -> String {
    match offset {
        NUMBER => "number".into(),
        ARCH => "arch".into(),
        _ => {
            let (index, rest) = ((offset - ARGUMENTS) / 8, offset % 8);
            format!("argument {index}, {} word", if rest == 0 { "lower" } else { "upper" })
        }
    }
}

fn number(number: u32, abis: &[Abi]) -> String {
    let shown = if number < X32_BIT { number.to_string() } else { format!("{number:#x}") };
    let fits = |abi: &&Abi| (**abi == Abi::X32) == (number & X32_BIT != 0);
    match abis.iter().find(fits).and_then(|abi| numbers::name_of(*abi, number)) {
        Some(name) => format!("{shown} ({name})"),
        None => shown,
    }
}
