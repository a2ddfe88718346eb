//! What becomes of each call of one ABI: the rules of a call in the order in which they count, and the numbers that no rule names.
//!
//! Where several rules hold for a call, libseccomp decides, and profiles were written against it: the first rule without
//! conditions wins over all others; among rules with conditions the one that libseccomp's tree asks first (db.c): higher
//! arguments before lower ones, equalities before upper bounds before lower bounds, then the narrower value.

use std::cmp::Ordering;

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::arch::{ARM_PRIVATE, Abi, Width, X32_BIT};
use super::numbers::{self, Name};
use super::rules::{Action, Condition, Profile, origin};
use crate::{Error, Result};

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The same for all arguments.
    Always(Action),
    /// The first alternative that holds; the default action where none does.
    ByArguments(Vec<Alternative>),
}

/// An action and what must hold for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    /// All of them, at least one, sorted by argument.
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// An alternative on its way into the list, with its place for messages.
struct Candidate {
    alternative: Alternative,
    rule: usize,
}

/// Tells `found` of each call of `abi` that rules name, by ascending number.
///
/// # Errors
/// Rules contradict each other.
pub(super) fn calls(profile: &Profile, uses: &Uses, abi: Abi, mut found: impl FnMut(u32, Decision)) -> Result<()> {
    let mut several = Vec::new();
    for calls in numbers::of(abi).chunk_by(|a, b| a.number == b.number) {
        let number = calls[0].number;
        let mut behind = numbers::multiplexed(abi, number).peekable();
        let decision = if calls.len() == 1 && behind.peek().is_none() {
            decide(profile, abi, uses.of(calls[0].name, None))?
        } else {
            let own = calls.iter().map(|call| (call.name, None));
            let all = behind.map(|(name, call)| (name, Some(call))).chain(own);
            several.clear();
            several.extend(all.flat_map(|(name, call)| uses.of(name, call)));
            several.sort_by_key(|one| one.position);
            decide(profile, abi, several.iter().copied())?
        };
        if let Some(decision) = decision {
            found(number, decision);
        }
    }
    Ok(())
}

/// Which rules name a call, for all ABIs.
pub(super) struct Uses {
    /// By the call's index: the index in `list`, and one, of its first use; 0 where there is none.
    first: [u32; numbers::CAPACITY],
    /// Whether any rule names it, one with the default action too.
    named: [bool; numbers::CAPACITY],
    /// The last use in the profile comes first.
    list: Vec<Listed>,
}

struct Listed {
    /// Index into `profile.rules`.
    rule: u32,
    /// The next use of the same call, as in [`Uses::first`].
    next: u32,
}

/// One rule's mention of one call.
#[derive(Clone, Copy)]
struct Use {
    rule: u32,
    /// The first argument's value, where the number is one of x86's `socketcall` and `ipc`.
    call: Option<u32>,
    /// Ascends with the profile.
    position: u32,
}

impl Uses {
    pub(super) fn of_profile(profile: &Profile) -> Self {
        let count = profile.rules.iter().map(|rule| rule.calls.len()).sum();
        let (first, named) = ([0; numbers::CAPACITY], [false; numbers::CAPACITY]);
        let mut uses = Uses { first, named, list: Vec::with_capacity(count) };
        for (index, rule) in profile.rules.iter().enumerate().rev() {
            for name in rule.calls.iter().rev() {
                uses.named[name.index()] = true;
                // Such a rule changes nothing by itself, and runc leaves it out before libseccomp could weigh it against others.
                if rule.action != profile.default {
                    let first = &mut uses.first[name.index()];
                    uses.list.push(Listed { rule: index as u32, next: *first });
                    *first = uses.list.len() as u32;
                }
            }
        }
        uses
    }

    /// In the order of the profile.
    fn of(&self, name: Name, call: Option<u32>) -> impl Iterator<Item = Use> {
        let mut next = self.first[name.index()];
        std::iter::from_fn(move || {
            let listed = self.list.get((next as usize).checked_sub(1)?)?;
            let one = Use { rule: listed.rule, call, position: self.list.len() as u32 - next };
            next = listed.next;
            Some(one)
        })
    }
}

/// What becomes of a call; nothing, where no rule names it.
fn decide(profile: &Profile, abi: Abi, uses: impl Iterator<Item = Use>) -> Result<Option<Decision>> {
    let mut list: Vec<Candidate> = Vec::new();
    for one in uses {
        let rule = &profile.rules[one.rule as usize];
        for conditions in &rule.alternatives {
            let conditions = fit(conditions, one.call, abi.width());
            if conditions.is_empty() {
                return Ok(Some(Decision::Always(rule.action)));
            }
            let alternative = Alternative { conditions, action: rule.action };
            insert(&mut list, Candidate { alternative, rule: rule.index }, abi.width())?;
        }
    }
    // An unconditional rule further on still wins, and has returned above.
    let alternatives: Vec<Alternative> = list.into_iter().map(|one| one.alternative).collect();
    Ok((!alternatives.is_empty()).then_some(Decision::ByArguments(alternatives)))
}

/// The conditions as this ABI can test them: cut to a word where arguments are words, without those that always hold, and
/// for a multiplexed call with the first argument replaced by the call, as libseccomp does.
fn fit(conditions: &[Condition], call: Option<u32>, width: Width) -> Vec<Condition> {
    // Nearly every rule has none: no memory is taken for those.
    let mut fitted = Vec::new();
    if let Some(call) = call {
        fitted.push(Condition { argument: 0, operator: Operator::ScmpCmpEq, mask: u64::MAX, value: u64::from(call) });
    }
    for condition in conditions {
        if call.is_some() && condition.argument == 0 {
            continue;
        }
        let mut condition = *condition;
        if width == Width::Word {
            condition.mask &= u64::from(u32::MAX);
            condition.value &= u64::from(u32::MAX);
        }
        if condition.mask != 0 {
            fitted.push(condition);
        }
    }
    fitted
}

/// Puts `new` where libseccomp would ask it.
fn insert(list: &mut Vec<Candidate>, new: Candidate, width: Width) -> Result<()> {
    let conditions = &new.alternative.conditions;
    if let Some(wider) = list.iter().find(|one| conditions.starts_with(&one.alternative.conditions)) {
        if wider.alternative.conditions.len() == conditions.len() && wider.alternative.action != new.alternative.action
        {
            return Err(conflict(&new, wider));
        }
        return Ok(());
    }
    if let Some(other) = list.iter().find(|one| {
        one.alternative.conditions.starts_with(conditions) && one.alternative.action != new.alternative.action
    }) {
        return Err(conflict(&new, other));
    }
    list.retain(|one| !one.alternative.conditions.starts_with(conditions));
    let place = list
        .iter()
        .position(|one| order(conditions, &one.alternative.conditions, width) == Ordering::Less)
        .unwrap_or(list.len());
    list.insert(place, new);
    Ok(())
}

/// libseccomp answers EEXIST and runc fails; so does runb, with both places.
fn conflict(new: &Candidate, old: &Candidate) -> Error {
    Error::spec(
        origin(new.rule),
        format!("names a call under conditions for which {} demands another action", origin(old.rule)),
    )
}

/// Less: `a` is asked before `b`.
fn order(a: &[Condition], b: &[Condition], width: Width) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = b
            .argument
            .cmp(&a.argument)
            .then_with(|| class(b.operator).cmp(&class(a.operator)))
            .then_with(|| values(a, b, width));
        if order != Ordering::Equal || comparison(a.operator) != comparison(b.operator) {
            return order;
        }
    }
    Ordering::Equal
}

/// The narrower bound first; of equalities the greater value. Equal where the tree keeps the order of the profile.
fn values(a: &Condition, b: &Condition, width: Width) -> Ordering {
    let (high_a, high_b) = (a.value >> 32, b.value >> 32);
    let order = if width == Width::Double && (high_a != high_b || !same_upper_node(a, b)) {
        high_b.cmp(&high_a)
    } else {
        b.value.cmp(&a.value)
    };
    if class(a.operator) == 2 { order.reverse() } else { order }
}

fn class(operator: Operator) -> u8 {
    match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => 3,
        Operator::ScmpCmpLt | Operator::ScmpCmpLe => 2,
        Operator::ScmpCmpGt | Operator::ScmpCmpGe => 1,
    }
}

/// The tree tests the upper words of both by one node, if they are equal.
fn same_upper_node(a: &Condition, b: &Condition) -> bool {
    let masked = |one: &Condition| one.operator == Operator::ScmpCmpMaskedEq;
    masked(a) == masked(b) && a.mask >> 32 == b.mask >> 32
}

/// The comparison that a node makes; the operator says which of its branches is meant.
fn comparison(operator: Operator) -> u8 {
    match operator {
        Operator::ScmpCmpEq | Operator::ScmpCmpNe => 0,
        Operator::ScmpCmpMaskedEq => 1,
        Operator::ScmpCmpGt | Operator::ScmpCmpLe => 2,
        Operator::ScmpCmpGe | Operator::ScmpCmpLt => 3,
    }
}

/// Which numbers beyond those of the profile get ENOSYS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// The default action for all of them.
    Default,
    /// ENOSYS above the greatest number that the profile names.
    Enosys,
}

/// The greatest numbers of `abi` that the profile names, in whichever rule; Arm's private calls are a second series.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Greatest {
    /// 0 where there is none, and where there is only call 0: runc takes that for none.
    pub(super) ordinary: u32,
    pub(super) private: u32,
}

/// Measures [`Greatest`].
pub(super) fn greatest(uses: &Uses, abi: Abi) -> Greatest {
    let is_private = |number: u32| abi == Abi::Arm && number >= ARM_PRIVATE;
    let named = || numbers::of(abi).iter().rev().filter(|call| uses.named[call.name.index()]).map(|call| call.number);
    Greatest {
        ordinary: named().find(|number| !is_private(*number)).unwrap_or(0),
        private: named().next().filter(|number| is_private(*number)).unwrap_or(0),
    }
}

/// The action for numbers without a rule: from each number on, until the next.
pub(super) type Floor = Vec<(u32, Action)>;

/// The floor of an ABI that has its `AUDIT_ARCH` value for itself, x86_64 and x32 excepted.
pub(super) fn floor(default: Action, uses: &Uses, abi: Abi, unknown: Unknown) -> Floor {
    let greatest = greatest(uses, abi);
    match unknown {
        Unknown::Enosys if greatest.ordinary != 0 => {
            let mut floor = vec![(0, default), (greatest.ordinary + 1, Action::ENOSYS)];
            if greatest.private != 0 {
                floor.push((ARM_PRIVATE, default));
                floor.push((greatest.private + 1, Action::ENOSYS));
            }
            floor
        }
        _ => vec![(0, default)],
    }
}

/// Whether a filter takes x32's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum X32 {
    /// They are another architecture's: killed.
    Absent,
    /// They have rules.
    Present,
}

/// The floor of x86_64 with or without x32: one number space, told apart by bit 30.
pub(super) fn floor_x86_64(default: Action, uses: &Uses, x32: X32, unknown: Unknown) -> Floor {
    const UPPER: u32 = 0x8000_0000;
    let (ours, theirs) = match unknown {
        Unknown::Default => (0, 0),
        Unknown::Enosys => (greatest(uses, Abi::X86_64).ordinary, greatest(uses, Abi::X32).ordinary),
    };
    let above = |greatest: u32| if greatest == 0 { default } else { Action::ENOSYS };
    let mut floor = vec![(0, default)];
    if ours != 0 {
        floor.push((ours + 1, Action::ENOSYS));
    }
    match x32 {
        X32::Present => {
            floor.push((X32_BIT, default));
            if theirs != 0 {
                floor.push((theirs + 1, Action::ENOSYS));
            }
            // Of numbers with bit 31, which neither has, bit 30 decides, as in runc's stub.
            floor.push((UPPER, above(ours)));
            floor.push((UPPER | X32_BIT, above(theirs)));
        }
        X32::Absent => {
            floor.push((X32_BIT, Action::KILL_THREAD));
            if ours != 0 {
                floor.push((UPPER, Action::ENOSYS));
                floor.push((UPPER | X32_BIT, Action::KILL_THREAD));
            }
            // -1 is a tracer's way to skip a call (seccomp(2), since Linux 4.8); libseccomp spares it.
            floor.push((u32::MAX, default));
        }
    }
    floor
}
