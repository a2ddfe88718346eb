//! A filter as the kernel runs it.

use super::program::{AND, ARCH, ARGUMENTS, AT_LEAST, EQUAL, GO, GREATER, Instruction, LOAD, NUMBER, RETURN};
use super::rules::Action;
use crate::{Error, Result};

/// What a filter reads of a call: `struct seccomp_data` (include/uapi/linux/seccomp.h) without the instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The number, with bit 30 for x32.
    pub number: u32,
    /// The arguments.
    pub arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            NUMBER => self.number,
            ARCH => self.arch,
            _ => {
                let index = (offset.saturating_sub(ARGUMENTS) / 8) as usize;
                let argument = self.arguments.get(index).copied().unwrap_or(0);
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
        }
    }
}

/// Runs classic BPF over a call, as the kernel does; the action and how many instructions it took.
///
/// An error of kind internal for a program that the kernel would refuse.
pub fn run(program: &[Instruction], call: &Call) -> Result<(Action, usize)> {
    let mut accumulator = 0;
    let mut at = 0;
    for steps in 1..=program.len() {
        let Some(instruction) = program.get(at) else { break };
        let operand = instruction.operand();
        let holds = match instruction.code() {
            RETURN => return Ok((Action(operand), steps)),
            GO => {
                at += 1 + operand as usize;
                continue;
            }
            LOAD => {
                accumulator = call.word(operand);
                at += 1;
                continue;
            }
            AND => {
                accumulator &= operand;
                at += 1;
                continue;
            }
            EQUAL => accumulator == operand,
            GREATER => accumulator > operand,
            AT_LEAST => accumulator >= operand,
            code => return Err(Error::internal(format!("instruction {at} of a seccomp filter has code {code:#x}"))),
        };
        at += 1 + usize::from(if holds { instruction.yes() } else { instruction.no() });
    }
    Err(Error::internal("a seccomp filter runs past its end"))
}
