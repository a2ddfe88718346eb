//! Classic BPF, written from its last instruction to its first: every jump then leads to what is already there, so its
//! distance is known, and one that would be too long for 8 bits gets a stepping stone at once.

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::arch::Width;
use super::decide::{Alternative, Floor};
use super::rules::{Action, Condition};

/// A `struct sock_filter` (include/uapi/linux/filter.h) as the 8 bytes that it has in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Instruction(pub u64);

impl Instruction {
    const fn new(code: u16, yes: u8, no: u8, operand: u32) -> Self {
        // In memory: code, jt, jf, k. Every machine that runb knows has its low byte first.
        Instruction(code as u64 | (yes as u64) << 16 | (no as u64) << 24 | (operand as u64) << 32)
    }

    /// `code`: what to do.
    pub const fn code(self) -> u16 {
        self.0 as u16
    }

    /// `jt`: how many instructions to skip where the comparison holds.
    pub const fn yes(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// `jf`: how many instructions to skip where it does not.
    pub const fn no(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// `k`: the operand.
    pub const fn operand(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl std::fmt::Debug for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{ {:#04x}, {}, {}, {:#x} }}", self.code(), self.yes(), self.no(), self.operand())
    }
}

/// `BPF_LD | BPF_W | BPF_ABS`: a word of `struct seccomp_data` into the accumulator.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(super) const GO: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(super) const GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// `offsetof(struct seccomp_data, nr)`.
pub(super) const NUMBER: u32 = 0;
/// `offsetof(struct seccomp_data, arch)`.
pub(super) const ARCH: u32 = 4;
/// `offsetof(struct seccomp_data, args)`.
pub(super) const ARGUMENTS: u32 = 16;

/// The farthest that a comparison can jump.
const REACH: usize = u8::MAX as usize;

/// Where a jump leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The end, with this action.
    Return(Action),
    /// An instruction: its index from the end of the program.
    At(u32),
}

/// A program on its way, last instruction first.
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The nearest instruction that does the same as a target: a `ret`, or a stepping stone.
    near: Vec<(Target, usize)>,
}

impl Assembler {
    /// With room for the filter of an engine's profile.
    pub(super) fn new() -> Self {
        Assembler { reversed: Vec::with_capacity(384), near: Vec::with_capacity(16) }
    }

    /// How many instructions there are so far: an instruction's own index is this, when it is written.
    pub(super) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program, first instruction first. It begins at `entry`, which is the instruction written last, or a return.
    pub(super) fn finish(mut self, entry: Target) -> Vec<Instruction> {
        if let Target::Return(action) = entry {
            // Nothing is told apart: all calls end the same.
            self.reversed = vec![Instruction::new(RETURN, 0, 0, action.0)];
        }
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> usize {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    fn push_target(&mut self, instruction: Instruction) -> Target {
        Target::At(self.push(instruction) as u32)
    }

    /// The index of an instruction that does what `target` says, in reach of a jump that is written after `spare` more instructions.
    fn reach(&mut self, target: Target, spare: usize) -> usize {
        let next = self.len() + spare;
        let in_reach = |index: usize| next - index - 1 <= REACH;
        let known = self.near.iter().position(|(one, _)| *one == target);
        if let Some(known) = known
            && in_reach(self.near[known].1)
        {
            return self.near[known].1;
        }
        let index = match target {
            Target::At(index) if in_reach(index as usize) => return index as usize,
            Target::At(index) => {
                let distance = self.len() - index as usize - 1;
                self.push(Instruction::new(GO, 0, 0, distance as u32))
            }
            Target::Return(action) => self.push(Instruction::new(RETURN, 0, 0, action.0)),
        };
        match known {
            Some(known) => self.near[known].1 = index,
            None => self.near.push((target, index)),
        }
        index
    }

    /// A comparison of the accumulator with `operand`.
    pub(super) fn compare(&mut self, code: u16, operand: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let here = self.len();
        self.push_target(Instruction::new(code, (here - yes - 1) as u8, (here - no - 1) as u8, operand))
    }

    /// A load before `next`, which must be the instruction written last, or a return.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        match next {
            Target::Return(_) => next,
            Target::At(index) => {
                debug_assert_eq!(index as usize + 1, self.len(), "a load falls through to its comparison");
                self.push_target(Instruction::new(LOAD, 0, 0, offset))
            }
        }
    }

    fn and(&mut self, mask: u32, next: Target) -> Target {
        match (mask, next) {
            (u32::MAX, _) | (_, Target::Return(_)) => next,
            _ => self.push_target(Instruction::new(AND, 0, 0, mask)),
        }
    }
}

/// The code that finds the first of `alternatives` that holds: its entry.
pub(super) fn decision(
    assembler: &mut Assembler,
    alternatives: &[Alternative],
    width: Width,
    default: Action,
) -> Target {
    let list: Vec<Rest<'_>> = alternatives.iter().map(Rest::of).collect();
    first_that_holds(assembler, &list, width, Target::Return(default))
}

/// What is left to test of an alternative.
#[derive(Clone, Copy)]
struct Rest<'a> {
    conditions: &'a [Condition],
    action: Action,
}

impl<'a> Rest<'a> {
    fn of(alternative: &'a Alternative) -> Self {
        Rest { conditions: &alternative.conditions, action: alternative.action }
    }

    fn tail(self) -> Self {
        Rest { conditions: &self.conditions[1..], action: self.action }
    }
}

/// The alternatives in their order; neighbours that begin with equalities of the same argument and upper word share its loads.
fn first_that_holds(assembler: &mut Assembler, list: &[Rest<'_>], width: Width, none: Target) -> Target {
    let shares = |a: &Rest<'_>, b: &Rest<'_>| match (a.conditions.first(), b.conditions.first()) {
        (Some(a), Some(b)) => a == b || (is_equality(a) && is_equality(b) && place(a) == place(b)),
        _ => false,
    };
    let mut entry = none;
    let groups: Vec<&[Rest<'_>]> = list.chunk_by(shares).collect();
    for group in groups.into_iter().rev() {
        entry = match group[0].conditions.first() {
            // Nothing left to test; what comes after is never asked.
            None => Target::Return(group[0].action),
            Some(condition) if is_equality(condition) => equalities(assembler, group, width, entry),
            Some(condition) => {
                let tails: Vec<Rest<'_>> = group.iter().map(|one| one.tail()).collect();
                let held = first_that_holds(assembler, &tails, width, entry);
                test(assembler, condition, width, held, entry)
            }
        };
    }
    entry
}

fn is_equality(condition: &Condition) -> bool {
    condition.operator == Operator::ScmpCmpEq
}

/// The argument and its upper word.
fn place(condition: &Condition) -> (u8, u64) {
    (condition.argument, condition.value >> 32)
}

/// A group of equalities of one argument that share the upper word.
fn equalities(assembler: &mut Assembler, group: &[Rest<'_>], width: Width, none: Target) -> Target {
    // The order puts equal values side by side; a value tested and found leaves no other to test.
    let same: Vec<&[Rest<'_>]> = group.chunk_by(|a, b| a.conditions[0] == b.conditions[0]).collect();
    let mut held = Vec::with_capacity(same.len());
    for one in same.iter().rev() {
        let tails: Vec<Rest<'_>> = one.iter().map(|one| one.tail()).collect();
        held.push((one[0].conditions[0].value as u32, first_that_holds(assembler, &tails, width, none)));
    }
    let first = group[0].conditions[0];
    let mut entry = none;
    for (value, held) in held {
        entry = assembler.compare(EQUAL, value, held, entry);
    }
    if entry == none {
        return none;
    }
    entry = assembler.load(low(first), entry);
    match width {
        Width::Word => entry,
        Width::Double => word(assembler, high(first), u32::MAX, EQUAL, (first.value >> 32) as u32, entry, none),
    }
}

fn low(condition: Condition) -> u32 {
    ARGUMENTS + 8 * u32::from(condition.argument)
}

fn high(condition: Condition) -> u32 {
    low(condition) + 4
}

/// Loads a word, masks it, compares it.
fn word(a: &mut Assembler, offset: u32, mask: u32, code: u16, operand: u32, yes: Target, no: Target) -> Target {
    let entry = a.compare(code, operand, yes, no);
    if entry == yes {
        return entry;
    }
    let entry = a.and(mask, entry);
    a.load(offset, entry)
}

/// One condition.
fn test(a: &mut Assembler, condition: &Condition, width: Width, yes: Target, no: Target) -> Target {
    let (code, yes, no) = match condition.operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpMaskedEq => (EQUAL, yes, no),
        Operator::ScmpCmpNe => (EQUAL, no, yes),
        Operator::ScmpCmpGt => (GREATER, yes, no),
        Operator::ScmpCmpLe => (GREATER, no, yes),
        Operator::ScmpCmpGe => (AT_LEAST, yes, no),
        Operator::ScmpCmpLt => (AT_LEAST, no, yes),
    };
    let words = |value: u64| ((value >> 32) as u32, value as u32);
    let ((high_mask, low_mask), (high_value, low_value)) = (words(condition.mask), words(condition.value));
    if yes == no {
        return yes;
    }
    let below = match low_mask {
        0 => yes,
        _ => word(a, low(*condition), low_mask, code, low_value, yes, no),
    };
    if width == Width::Word || high_mask == 0 {
        return below;
    }
    if code == EQUAL {
        return word(a, high(*condition), high_mask, EQUAL, high_value, below, no);
    }
    // The upper word decides, unless it is equal.
    let equal = match high_value {
        0 => below,
        _ => a.compare(EQUAL, high_value, below, no),
    };
    let entry = a.compare(GREATER, high_value, yes, equal);
    a.load(high(*condition), entry)
}

/// A step of the dispatch by number.
#[derive(Clone, Copy)]
enum Step {
    /// From this number on, another target.
    From(u32, Target),
    /// This number alone has another target.
    But(u32, Target),
}

/// The dispatch of one `AUDIT_ARCH` value: a balanced binary search over the ranges of numbers that have the same target.
pub(super) fn dispatch(assembler: &mut Assembler, floor: &Floor, calls: &[(u32, Target)]) -> Target {
    let ranges = ranges(floor, calls);
    let (first, steps) = steps(&ranges);
    let entry = search(assembler, first, &steps);
    assembler.load(NUMBER, entry)
}

/// The target from each number on, neighbours with the same target merged. The first range starts at 0.
fn ranges(floor: &Floor, calls: &[(u32, Target)]) -> Vec<(u32, Target)> {
    let mut ranges: Vec<(u32, Target)> = Vec::with_capacity(128);
    let mut set = |from: u32, target: Target| match ranges.last_mut() {
        Some(last) if last.1 == target => {}
        Some(last) if last.0 == from => last.1 = target,
        _ => ranges.push((from, target)),
    };
    let mut calls = calls.iter().peekable();
    for (i, &(from, action)) in floor.iter().enumerate() {
        let end = floor.get(i + 1).map_or(u32::MAX, |next| next.0 - 1);
        set(from, Target::Return(action));
        while let Some(&(number, target)) = calls.next_if(|call| call.0 <= end) {
            set(number, target);
            if number < end {
                set(number + 1, Target::Return(action));
            }
        }
    }
    // A change that was taken back at once leaves two equal neighbours.
    ranges.dedup_by(|next, last| next.1 == last.1);
    ranges
}

/// The ranges as steps: a single number between two ranges of the same target is an exception to it.
fn steps(ranges: &[(u32, Target)]) -> (Target, Vec<Step>) {
    let mut steps = Vec::with_capacity(ranges.len());
    let mut i = 1;
    while i < ranges.len() {
        let (from, target) = ranges[i];
        match ranges.get(i + 1) {
            Some(&(next, after)) if next - from == 1 && after == ranges[i - 1].1 => {
                steps.push(Step::But(from, target));
                i += 2;
            }
            _ => {
                steps.push(Step::From(from, target));
                i += 1;
            }
        }
    }
    (ranges[0].1, steps)
}

/// `base`: the target before the first step.
fn search(assembler: &mut Assembler, base: Target, steps: &[Step]) -> Target {
    match *steps {
        [] => base,
        [Step::From(number, target)] => assembler.compare(AT_LEAST, number, target, base),
        [Step::But(number, target)] => assembler.compare(EQUAL, number, target, base),
        [Step::But(one, one_target), Step::But(two, two_target)] => {
            let entry = assembler.compare(EQUAL, two, two_target, base);
            assembler.compare(EQUAL, one, one_target, entry)
        }
        _ => {
            let middle = steps.len() / 2;
            let at = |step: &Step| match *step {
                Step::From(_, target) => Some(target),
                Step::But(..) => None,
            };
            let before = steps[..middle].iter().rev().find_map(at).unwrap_or(base);
            let (number, upper) = match steps[middle] {
                Step::From(number, target) => (number, search(assembler, target, &steps[middle + 1..])),
                Step::But(number, _) => (number, search(assembler, before, &steps[middle..])),
            };
            let lower = search(assembler, base, &steps[..middle]);
            assembler.compare(AT_LEAST, number, upper, lower)
        }
    }
}
