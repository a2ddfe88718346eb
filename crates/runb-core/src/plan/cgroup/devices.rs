//! The device rules: the configuration's, then the default ones, in order; the last that matches decides.
//!
//! Source: config-linux.md, "Device allow list" and "Default Devices"; Documentation/admin-guide/cgroup-v1/devices.rst.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::{Absent, DeviceProgram, Write, indexed};
use crate::error::{Error, Result};

/// Making a node (BPF_DEVCG_ACC_MKNOD).
pub const MKNOD: u8 = 1;
/// Opening for reading (BPF_DEVCG_ACC_READ).
pub const READ: u8 = 2;
/// Opening for writing (BPF_DEVCG_ACC_WRITE).
pub const WRITE: u8 = 4;
/// Every access.
pub const ALL: u8 = MKNOD | READ | WRITE;

/// The type of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// BPF_DEVCG_DEV_BLOCK.
    Block = 1,
    /// BPF_DEVCG_DEV_CHAR.
    Char = 2,
}

/// Which devices a rule is of; `None` is each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The type.
    pub node: Option<Node>,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
}

impl Match {
    const EVERY: Match = Match { node: None, major: None, minor: None };

    /// This one and the wider ones.
    fn covering(self) -> impl Iterator<Item = Match> {
        (0..8).map(move |wide| Match {
            node: self.node.filter(|_| wide & 1 == 0),
            major: self.major.filter(|_| wide & 2 == 0),
            minor: self.minor.filter(|_| wide & 4 == 0),
        })
    }

    /// The parts that version 1 can name: it takes type `a` for every device and every access, whatever else is written.
    fn typed(&self) -> Vec<Match> {
        let nodes = self.node.map_or(vec![Node::Block, Node::Char], |node| vec![node]);
        nodes.into_iter().map(|node| Match { node: Some(node), ..*self }).collect()
    }

    /// The matches that cover this one and more.
    fn wider(&self) -> impl Iterator<Item = Match> {
        let (node, this) = (self.node, *self);
        [(None, self.minor), (self.major, None), (None, None)]
            .into_iter()
            .map(move |(major, minor)| Match { node, major, minor })
            .filter(move |wider| *wider != this)
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether it allows or denies.
    pub verdict: Verdict,
    /// Of which devices.
    pub devices: Match,
    /// Which access, as bits.
    pub access: u8,
    /// The place in config.json.
    pub origin: String,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The access is allowed.
    Allow,
    /// The access fails with EPERM.
    Deny,
}

/// What every container may use, whatever its configuration says: mknod of any device, the specification's default devices,
/// the terminals, and tun, which users came to rely on (runc took it away in 1.2.0 and gave it back in 1.2.4).
const DEFAULT: [(Node, Option<u32>, Option<u32>, u8); 12] = [
    (Node::Char, None, None, MKNOD),
    (Node::Block, None, None, MKNOD),
    (Node::Char, Some(1), Some(3), ALL),
    (Node::Char, Some(1), Some(5), ALL),
    (Node::Char, Some(1), Some(7), ALL),
    (Node::Char, Some(1), Some(8), ALL),
    (Node::Char, Some(1), Some(9), ALL),
    (Node::Char, Some(5), Some(0), ALL),
    (Node::Char, Some(5), Some(1), ALL),
    (Node::Char, Some(5), Some(2), ALL),
    (Node::Char, Some(136), None, ALL),
    (Node::Char, Some(10), Some(200), ALL),
];

/// All rules, in order.
pub(super) fn rules(resources: &LinuxResources) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (origin, rule) in indexed("devices", resources.devices()) {
        rules.push(rule_of(origin, rule)?);
    }
    rules.extend(DEFAULT.iter().map(|&(node, major, minor, access)| Rule {
        verdict: Verdict::Allow,
        devices: Match { node: Some(node), major, minor },
        access,
        origin: "linux.resources.devices (the default devices)".to_owned(),
    }));
    Ok(rules)
}

fn rule_of(origin: String, rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let node = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Node::Block),
        LinuxDeviceType::C => Some(Node::Char),
        other => {
            let text = format!("{:?} is not a type of device rules (a, b, c)", other.as_str());
            return Err(Error::spec(format!("{origin}.type"), text));
        }
    };
    let major = number(&format!("{origin}.major"), rule.major())?;
    let minor = number(&format!("{origin}.minor"), rule.minor())?;
    let access = access(&format!("{origin}.access"), rule.access().as_deref().unwrap_or(""))?;
    let verdict = if rule.allow() { Verdict::Allow } else { Verdict::Deny };
    Ok(Rule { verdict, devices: Match { node, major, minor }, access, origin })
}

/// -1 is each, as runc has it: Docker and Podman write it.
fn number(origin: &str, value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Error::spec(origin, format!("{value} is not a device number"))),
        },
    }
}

/// The bits of r, w and m; other letters count for nothing, as in runc ([`odd_access`] tells of them).
fn access(origin: &str, text: &str) -> Result<u8> {
    let bit = |letter| match letter {
        'm' => MKNOD,
        'r' => READ,
        'w' => WRITE,
        _ => 0,
    };
    match text.chars().fold(0, |bits, letter| bits | bit(letter)) {
        0 => Err(Error::spec(origin, format!("{text:?} has none of r, w and m"))),
        bits => Ok(bits),
    }
}

/// The rules with letters of access that mean nothing, as warnings.
pub(in crate::plan) fn odd_access(resources: &LinuxResources) -> impl Iterator<Item = String> {
    indexed("devices", resources.devices()).filter_map(|(origin, rule)| {
        let text = rule.access().as_deref().filter(|text| text.contains(|letter| !"rwm".contains(letter)))?;
        Some(format!("{origin}.access: of {text:?} only r, w and m count"))
    })
}

/// The rules that can decide, the last first, and what holds where none does: a rule of which later ones that cover it settle
/// each access never decides, nor does one at the end that says what holds anyway.
pub(super) fn deciding(rules: &[Rule]) -> (Vec<&Rule>, Verdict) {
    let mut kept: Vec<&Rule> = Vec::new();
    let mut settled: BTreeMap<Match, u8> = BTreeMap::new();
    for rule in rules.iter().rev() {
        let later = rule.devices.covering().fold(0, |bits, wide| bits | settled.get(&wide).copied().unwrap_or(0));
        if later & rule.access != rule.access {
            kept.push(rule);
            *settled.entry(rule.devices).or_default() |= rule.access;
        }
    }
    let every = |rule: &&&Rule| rule.devices == Match::EVERY && rule.access == ALL;
    let default = kept.last().filter(every).map_or(Verdict::Deny, |rule| rule.verdict);
    while kept.last().is_some_and(|rule| rule.verdict == default) {
        kept.pop();
    }
    (kept, default)
}

/// A version 1 list: what holds for every device, and the exceptions, each with its access and the place it comes from.
struct V1List<'a> {
    default: Verdict,
    exceptions: BTreeMap<Match, (u8, &'a str)>,
}

/// The list that `rules` come to.
///
/// An exception that is taken back in part only stays as it is, silently. Such a list is refused, as runc does, rather than
/// taken for what it is not.
fn v1_list(rules: &[Rule]) -> Result<V1List<'_>> {
    let mut default = Verdict::Deny;
    let mut exceptions: BTreeMap<Match, (u8, &str)> = BTreeMap::new();
    for rule in rules {
        if rule.devices == Match::EVERY && rule.access == ALL {
            default = rule.verdict;
            exceptions.clear();
            continue;
        }
        for devices in rule.devices.typed() {
            if rule.verdict != default {
                exceptions.entry(devices).or_insert((0, &rule.origin)).0 |= rule.access;
                continue;
            }
            let overlaps = |wider: &Match| exceptions.get(wider).is_some_and(|(bits, _)| bits & rule.access != 0);
            if let Some(wider) = devices.wider().find(overlaps) {
                let text = format!(
                    "cgroup version 1 cannot take \"{}\" out of the rule \"{}\" before it",
                    line(&devices, rule.access),
                    line(&wider, exceptions[&wider].0)
                );
                return Err(Error::spec(rule.origin.clone(), text));
            }
            if let Some((bits, _)) = exceptions.get_mut(&devices) {
                *bits &= !rule.access;
            }
        }
    }
    exceptions.retain(|_, (bits, _)| *bits != 0);
    Ok(V1List { default, exceptions })
}

impl V1List<'_> {
    /// The files for what holds for every device, and for an exception to it.
    fn files(&self) -> (&'static str, &'static str) {
        match self.default {
            Verdict::Deny => ("devices.deny", "devices.allow"),
            Verdict::Allow => ("devices.allow", "devices.deny"),
        }
    }
}

fn v1_write(dir: &Path, file: &str, value: String, origin: &str) -> Write {
    Write { dir: dir.to_owned(), file: file.to_owned(), value, origin: origin.to_owned(), absent: Absent::Fails }
}

/// The writes of version 1 into the cgroup `dir`: `a` to reset the list that was inherited, then the exceptions.
pub(super) fn v1_writes(dir: &Path, rules: &[Rule]) -> Result<Vec<Write>> {
    let list = v1_list(rules)?;
    let (reset, except) = list.files();
    let mut writes = vec![v1_write(dir, reset, "a".to_owned(), "linux.resources.devices")];
    let exceptions = list.exceptions.iter();
    writes.extend(exceptions.map(|(devices, (bits, origin))| v1_write(dir, except, line(devices, *bits), origin)));
    Ok(writes)
}

/// How a list becomes another one while processes go by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Version 1, by exceptions that come and go: no access that both lists have is ever denied. With each write the one
    /// that takes it back.
    Exceptions(Vec<(Write, Write)>),
    /// Version 1, from the beginning: in between nothing is as either list has it, so that nobody may run meanwhile. Beside
    /// the writes those that bring the former list back.
    Whole(Vec<Write>, Vec<Write>),
    /// Version 2: one program takes the place of another.
    Program(DeviceProgram),
}

/// The change of version 1 in the cgroup `dir`.
pub(super) fn v1_change(dir: &Path, before: &[Rule], after: &[Rule]) -> Result<Change> {
    let (old, new) = (v1_list(before)?, v1_list(after)?);
    if old.default != new.default {
        return Ok(Change::Whole(v1_writes(dir, after)?, v1_writes(dir, before)?));
    }
    let (take, give) = old.files();
    let missing = |from: &V1List<'_>, devices: &Match, bits: u8| {
        bits & !from.exceptions.get(devices).map_or(0, |(bits, _)| *bits)
    };
    let mut writes = Vec::new();
    for (devices, (bits, origin)) in &new.exceptions {
        let bits = missing(&old, devices, *bits);
        if bits != 0 {
            let write = |file| v1_write(dir, file, line(devices, bits), origin);
            writes.push((write(give), write(take)));
        }
    }
    for (devices, (bits, _)) in &old.exceptions {
        let bits = missing(&new, devices, *bits);
        if bits != 0 {
            let write = |file| v1_write(dir, file, line(devices, bits), "linux.resources.devices");
            writes.push((write(take), write(give)));
        }
    }
    Ok(Change::Exceptions(writes))
}

/// A line of devices.allow: `c 1:3 rwm`.
fn line(devices: &Match, access: u8) -> String {
    let node = match devices.node {
        None => 'a',
        Some(Node::Block) => 'b',
        Some(Node::Char) => 'c',
    };
    let number = |value: Option<u32>| value.map_or("*".to_owned(), |value| value.to_string());
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    let letters: String = letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect();
    format!("{node} {}:{} {letters}", number(devices.major), number(devices.minor))
}
