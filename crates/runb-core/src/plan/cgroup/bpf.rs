//! The device rules as a BPF_PROG_TYPE_CGROUP_DEVICE program.
//!
//! The rules are asked from the last to the first, and each access bit is settled by the first rule that knows it: a denying
//! rule with one of the bits that are still open ends in 0, an allowing one takes its bits away, and none left ends in 1.
//! Source: `struct bpf_cgroup_dev_ctx` in include/uapi/linux/bpf.h; Documentation/bpf/standardization/instruction-set.rst.

use super::devices::{ALL, Match, Rule, Verdict, deciding};

const LOAD_WORD: u8 = 0x61;
const MOV: u8 = 0xb4;
const MOV_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
/// The comparisons are of 32 bits (kernel commit 092ed0968bb6, 5.1), as a device number has 32.
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_ANY_BIT: u8 = 0x46;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// What the program returns.
const RESULT: u8 = 0;
/// The context, `struct bpf_cgroup_dev_ctx`: access and type, major, minor; 32 bits each.
const CONTEXT: u8 = 1;
const NODE: u8 = 2;
/// The bits that no rule has settled yet.
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// A `struct bpf_insn`. The nibbles of the registers lie as on little-endian machines.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    u64::from_ne_bytes([code, destination | source << 4, o0, o1, i0, i1, i2, i3])
}

fn leave(verdict: Verdict) -> [u64; 2] {
    [instruction(MOV, RESULT, 0, 0, i32::from(verdict == Verdict::Allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// The program for `rules`, in their order; what no rule settles is denied.
pub(super) fn program(rules: &[Rule]) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, NODE, CONTEXT, 0, 0),
        instruction(MOV_REGISTER, OPEN, NODE, 0, 0),
        instruction(AND, NODE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    let (deciding, default) = deciding(rules);
    for run in deciding.chunk_by(|one, next| is_whole_allow(one) && is_whole_allow(next)) {
        match run.len() {
            2..=LONGEST_GROUP => group(&mut program, run),
            _ => run.iter().for_each(|rule| block(&mut program, rule)),
        }
    }
    // A rule for everything is never a block: what follows it would be unreachable, which the verifier refuses.
    program.extend(leave(default));
    program
}

/// The most rules of a group. Its jumps reach over it, and a jump has 16 bits for its distance; the verifier remembers 8192
/// places that it has still to look at (BPF_COMPLEXITY_LIMIT_JMP_SEQ), of which each rule of a group is one.
const LONGEST_GROUP: usize = 1024;
const _: () = assert!(3 * LONGEST_GROUP + 3 <= i16::MAX as usize, "three instructions a rule, and the end");

fn is_whole_allow(rule: &Rule) -> bool {
    rule.verdict == Verdict::Allow && rule.access == ALL
}

/// Rules next to each other that allow every access, in whatever order: each type and major number is asked for once.
/// It halves the program of the default rules, and the verifier's time with it.
fn group(program: &mut Vec<u64>, rules: &[&Rule]) {
    let mut accepting = Vec::new();
    let mut devices: Vec<Match> = rules.iter().map(|rule| rule.devices).collect();
    devices.sort();
    for same_node in devices.chunk_by(|one, next| one.node == next.node) {
        let past_node = unless(program, NODE, same_node[0].node.map(|node| node as u32));
        for same_major in same_node.chunk_by(|one, next| one.major == next.major) {
            let past_major = unless(program, MAJOR, same_major[0].major);
            for devices in same_major {
                accepting.push(program.len());
                program.push(match devices.minor {
                    Some(minor) => instruction(JUMP_EQUAL, MINOR, 0, 0, minor.cast_signed()),
                    None => instruction(JUMP, 0, 0, 0, 0),
                });
                if devices.minor.is_none() {
                    // It sorts first and covers the rest, which could not be reached.
                    break;
                }
            }
            past_major.into_iter().for_each(|jump| land_here(program, jump));
            if past_major.is_none() && same_major[0].minor.is_none() {
                break;
            }
        }
        past_node.into_iter().for_each(|jump| land_here(program, jump));
    }
    let accept = leave(Verdict::Allow);
    program.push(instruction(JUMP, 0, 0, accept.len() as i16, 0));
    accepting.into_iter().for_each(|jump| land_here(program, jump));
    program.extend(accept);
}

/// A jump that is taken unless `register` has the value; where it lands is set later.
fn unless(program: &mut Vec<u64>, register: u8, value: Option<u32>) -> Option<usize> {
    let value = value?;
    program.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, value.cast_signed()));
    Some(program.len() - 1)
}

/// Lets the jump at `index` land on the next instruction; it is one of the group that is being written, and within reach.
fn land_here(program: &mut [u64], index: usize) {
    let [o0, o1] = ((program.len() - index - 1) as i16).to_ne_bytes();
    let mut bytes = program[index].to_ne_bytes();
    (bytes[2], bytes[3]) = (o0, o1);
    program[index] = u64::from_ne_bytes(bytes);
}

fn block(program: &mut Vec<u64>, rule: &Rule) {
    let tests =
        [(NODE, rule.devices.node.map(|node| node as u32)), (MAJOR, rule.devices.major), (MINOR, rule.devices.minor)];
    let tests: Vec<_> = tests.iter().filter_map(|(register, value)| value.map(|value| (*register, value))).collect();
    let bits = i32::from(rule.access);
    let mut body = match (rule.verdict, rule.access) {
        (_, ALL) => Vec::new(),
        (Verdict::Allow, _) => {
            vec![instruction(AND, OPEN, 0, 0, !bits), instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0)]
        }
        // Over the jump that would leave the block, which is the unconditional one.
        (Verdict::Deny, _) => vec![instruction(JUMP_ANY_BIT, OPEN, 0, 1, bits), instruction(JUMP, 0, 0, 2, 0)],
    };
    body.extend(leave(rule.verdict));
    for (done, (register, value)) in tests.iter().enumerate() {
        let rest = tests.len() - done - 1 + body.len();
        program.push(instruction(JUMP_NOT_EQUAL, *register, 0, rest as i16, value.cast_signed()));
    }
    program.extend(body);
}

#[cfg(test)]
mod tests {
    use super::super::devices::Node;
    use super::*;

    /// Runs a program as the kernel would, for the instructions that are used here.
    fn run(program: &[u64], node: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | node, major, minor];
        let mut registers = [0u32; 6];
        let mut next = 0usize;
        loop {
            let bytes = program[next].to_ne_bytes();
            let (destination, source) = (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4));
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let immediate = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let value = registers[destination];
            next += 1;
            match bytes[0] {
                LOAD_WORD => registers[destination] = context[offset as usize / 4],
                MOV => registers[destination] = immediate,
                MOV_REGISTER => registers[destination] = registers[source],
                AND => registers[destination] = value & immediate,
                SHIFT_RIGHT => registers[destination] = value >> immediate,
                EXIT => return registers[0] == 1,
                JUMP | JUMP_EQUAL | JUMP_NOT_EQUAL | JUMP_ANY_BIT => {}
                other => panic!("instruction {other:#x}"),
            }
            let taken = match bytes[0] {
                JUMP => true,
                JUMP_EQUAL => value == immediate,
                JUMP_NOT_EQUAL => value != immediate,
                JUMP_ANY_BIT => value & immediate != 0,
                _ => false,
            };
            if taken {
                next = next.checked_add_signed(offset.into()).unwrap();
            }
        }
    }

    /// The meaning of a list: each bit by itself, in order, the last rule that knows it decides.
    fn allowed(rules: &[Rule], node: Node, access: u8, major: u32, minor: u32) -> bool {
        fn fits<T: PartialEq>(wanted: Option<T>, value: T) -> bool {
            wanted.is_none_or(|wanted| wanted == value)
        }
        let covers = |rule: &Match| fits(rule.node, node) && fits(rule.major, major) && fits(rule.minor, minor);
        (0..3).map(|bit| 1 << bit).filter(|bit| access & bit != 0).all(|bit| {
            let mut verdict = Verdict::Deny;
            for rule in rules {
                if covers(&rule.devices) && rule.access & bit != 0 {
                    verdict = rule.verdict;
                }
            }
            verdict == Verdict::Allow
        })
    }

    /// xorshift64: the lists differ, each run has the same.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }

        fn rule(&mut self) -> Rule {
            let verdict = if self.below(2) == 0 { Verdict::Allow } else { Verdict::Deny };
            let node = [None, Some(Node::Block), Some(Node::Char)][self.below(3) as usize];
            let number = |numbers: &mut Numbers| [None, Some(1), Some(2), Some(u32::MAX)][numbers.below(4) as usize];
            let devices = Match { node, major: number(self), minor: number(self) };
            Rule {
                verdict,
                devices,
                access: if self.below(2) == 0 { ALL } else { 1 + self.below(7) as u8 },
                origin: String::new(),
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_list_does() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for _ in 0..2000 {
            let length = numbers.below(12);
            let rules: Vec<Rule> = (0..length).map(|_| numbers.rule()).collect();
            let program = program(&rules);
            for node in [Node::Block, Node::Char] {
                for (major, minor) in [1, 2, 3, u32::MAX].iter().flat_map(|a| [1, 2, 3, u32::MAX].map(|b| (*a, b))) {
                    for access in 1..=ALL {
                        let found = run(&program, node as u32, access.into(), major, minor);
                        let expected = allowed(&rules, node, access, major, minor);
                        assert_eq!(found, expected, "{rules:?}: {node:?} {major}:{minor} {access:#b}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_of_ten_thousand_rules_is_decided_to_its_end() {
        let rule = |verdict, access, i: u32| Rule {
            verdict,
            devices: Match { node: Some(Node::Char), major: Some(1000 + i / 100), minor: Some(i % 100) },
            access,
            origin: String::new(),
        };
        let allowing = |i| rule(Verdict::Allow, ALL, i);
        let mixed = |i| match i % 3 {
            0 => rule(Verdict::Allow, super::super::devices::READ, i),
            1 => rule(Verdict::Deny, super::super::devices::WRITE, i),
            _ => allowing(i),
        };
        // All in one group, if it may be so long; in blocks; and a short group before and behind very many blocks.
        let early = |i| if !(500..=9500).contains(&i) { allowing(i) } else { mixed(i) };
        for list in [&allowing as &dyn Fn(u32) -> Rule, &mixed, &early] {
            let rules: Vec<Rule> = (0..10_000).map(list).collect();
            let program = program(&rules);
            for i in (0..10_100).step_by(97) {
                let (major, minor) = (1000 + i / 100, i % 100);
                for access in 1..=ALL {
                    let found = run(&program, Node::Char as u32, access.into(), major, minor);
                    assert_eq!(found, allowed(&rules, Node::Char, access, major, minor), "{major}:{minor} {access:#b}");
                }
            }
        }
    }

    #[test]
    fn what_a_later_rule_hides_is_not_in_the_program() {
        let all = |verdict| Rule {
            verdict,
            devices: Match { node: None, major: None, minor: None },
            access: ALL,
            origin: String::new(),
        };
        assert_eq!(program(&[all(Verdict::Allow), all(Verdict::Deny)]), program(&[]));
        assert_eq!(program(&[all(Verdict::Deny), all(Verdict::Allow)]), program(&[all(Verdict::Allow)]));
    }
}
