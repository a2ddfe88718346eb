//! Profiles that nobody wrote.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::profiles;
use crate::random::Random;

const OPERATORS: [&str; 7] =
    ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"];

/// What the rules of one call have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// No conditions.
    Plain,
    /// One rule, one to six arguments, any operators.
    Conjunction,
    /// Several rules of one action, one condition each, any operators.
    Alternatives,
    /// Several rules of one action, several conditions each, any operators.
    Conjunctions,
    /// Several rules of one action, several equalities each.
    Equalities,
    /// Several rules of different actions, one equality each, of one argument.
    Choice,
    /// One rule that names an argument twice.
    Twice,
}

const SHAPES: [Shape; 7] = [
    Shape::Plain,
    Shape::Conjunction,
    Shape::Alternatives,
    Shape::Conjunctions,
    Shape::Equalities,
    Shape::Choice,
    Shape::Twice,
];

/// A profile.
pub fn profile(random: &mut Random) -> LinuxSeccomp {
    let mut rules = Vec::new();
    let mut names = profiles::names();
    let most = random.of(&[3, 20, 100, 350]);
    for _ in 0..1 + random.below(most) {
        let name = names.swap_remove(random.below(names.len()));
        let shape = if random.below(3) == 0 { random.of(&SHAPES) } else { Shape::Plain };
        rules.extend(rules_of(name, shape, random));
    }
    for i in (1..rules.len()).rev() {
        rules.swap(i, random.below(i + 1));
    }
    let mut profile = json!({ "defaultAction": "", "syscalls": rules });
    with_action(&mut profile, "defaultAction", "defaultErrnoRet", random);
    let architectures: Vec<&str> =
        ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"].into_iter().filter(|_| random.below(2) == 0).collect();
    if !architectures.is_empty() {
        profile["architectures"] = json!(architectures);
    }
    profiles::read(profile)
}

fn with_action(value: &mut Value, action: &str, errno: &str, random: &mut Random) {
    let (name, data) = random.of(&[
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", Some(38)),
        // libseccomp takes no 4095, which the kernel does.
        ("SCMP_ACT_ERRNO", Some(4094)),
        ("SCMP_ACT_KILL", None),
        ("SCMP_ACT_KILL_THREAD", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_LOG", None),
        ("SCMP_ACT_TRACE", None),
        ("SCMP_ACT_TRACE", Some(7)),
    ]);
    value[action] = name.into();
    if let Some(data) = data {
        value[errno] = data.into();
    }
}

fn value(random: &mut Random) -> u64 {
    let small = random.below(6) as u64;
    match random.below(6) {
        0 => small << 32,
        1 => small << 32 | random.below(4) as u64,
        2 => random.bits(),
        3 => random.of(&[u64::MAX, 0xffff_ffff, 0x7e02_0000, 1 << 63, 0x8000_0000]),
        _ => small,
    }
}

fn condition(argument: usize, operator: &str, random: &mut Random) -> Value {
    if operator != "SCMP_CMP_MASKED_EQ" {
        return json!({ "index": argument, "value": value(random), "op": operator });
    }
    let mask = random.of(&[0xff, 0xffff_ffff, u64::MAX, 0x7e02_0000, 1 << 32, 0xffff_0000_0000, 3]);
    let wanted = if random.below(2) == 0 { 0 } else { value(random) & mask };
    json!({ "index": argument, "value": mask, "valueTwo": wanted, "op": operator })
}

fn distinct_arguments(count: usize, random: &mut Random) -> Vec<usize> {
    let mut all = vec![0, 1, 2, 3, 4, 5];
    (0..count).map(|_| all.swap_remove(random.below(all.len()))).collect()
}

fn rules_of(name: &str, shape: Shape, random: &mut Random) -> Vec<Value> {
    let mut first = json!({ "names": [name] });
    with_action(&mut first, "action", "errnoRet", random);
    let with = |args: Vec<Value>| {
        let mut rule = first.clone();
        rule["args"] = args.into();
        rule
    };
    match shape {
        Shape::Plain => vec![first],
        Shape::Conjunction => {
            let count = 1 + random.below(6);
            let arguments = distinct_arguments(count, random);
            vec![with(arguments.iter().map(|&one| condition(one, random.of(&OPERATORS), random)).collect())]
        }
        Shape::Alternatives => (0..1 + random.below(6))
            .map(|_| with(vec![condition(random.below(2), random.of(&OPERATORS), random)]))
            .collect(),
        Shape::Conjunctions => (0..1 + random.below(4))
            .map(|_| {
                let count = 1 + random.below(3);
                let arguments = distinct_arguments(count, random);
                with(arguments.iter().map(|&one| condition(one, random.of(&OPERATORS), random)).collect())
            })
            .collect(),
        Shape::Equalities => (0..1 + random.below(5))
            .map(|_| {
                let count = 1 + random.below(3);
                let arguments = distinct_arguments(count, random);
                with(arguments.iter().map(|&one| condition(one, "SCMP_CMP_EQ", random)).collect())
            })
            .collect(),
        Shape::Choice => {
            let argument = random.below(6);
            let mut rules: Vec<Value> = Vec::new();
            for _ in 0..1 + random.below(5) {
                let args = json!([condition(argument, "SCMP_CMP_EQ", random)]);
                // The same condition with another action is a contradiction, which both refuse: a few are enough.
                if rules.iter().any(|rule| rule["args"] == args) && random.below(20) != 0 {
                    continue;
                }
                let mut rule = json!({ "names": [name], "args": args });
                with_action(&mut rule, "action", "errnoRet", random);
                rules.push(rule);
            }
            rules
        }
        Shape::Twice => {
            let mut args =
                vec![condition(1, random.of(&OPERATORS), random), condition(1, random.of(&OPERATORS), random)];
            args.push(condition(3, "SCMP_CMP_EQ", random));
            vec![with(args)]
        }
    }
}
