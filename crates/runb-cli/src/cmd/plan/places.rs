//! The places of a configuration, and which of them nothing comes from.

use std::collections::BTreeMap;

use runb_core::container::Planned;
use serde_json::Value;

/// The parts of a configuration of which each should have an effect: by the place, and whether it is a list of objects or an object
/// of settings.
const PARTS: [&str; 8] = [
    "mounts",
    "linux.maskedPaths",
    "linux.readonlyPaths",
    "linux.devices",
    "linux.sysctl",
    "linux.resources",
    "linux.netDevices",
    "process.rlimits",
];
/// A part that is written together with another one, which stands for both.
const TOGETHER: [(&str, &str); 1] = [("linux.resources.cpu.period", "linux.resources.cpu.quota")];
/// What is for other platforms.
const OTHERS: [&str; 5] = ["windows", "solaris", "vm", "zos", "freebsd"];

/// The parts that change nothing here.
pub fn without_effect(planned: &Planned) -> Vec<String> {
    let Ok(config) = serde_json::from_slice::<Value>(&planned.bundle.text) else { return Vec::new() };
    let leaves = flatten(&config);
    let origins = origins(planned);
    let mut idle: Vec<String> = Vec::new();
    for (place, value) in &leaves {
        let of_other = OTHERS.iter().any(|other| place.starts_with(&format!("{other}.")));
        let part =
            PARTS.iter().find(|part| place.starts_with(&format!("{part}.")) || place.starts_with(&format!("{part}[")));
        let Some(part) = part else {
            if of_other {
                idle.push(format!("{place}: of another platform"));
            }
            continue;
        };
        let unit = unit(part, place);
        let stands_for = |origin: &String| TOGETHER.contains(&(unit.as_str(), origin.as_str()));
        let used = origins.iter().any(|origin| covers(origin, &unit) || stands_for(origin));
        let said = format!("{unit}: nothing is done for it");
        let off = matches!(value.as_str(), "null" | "[]" | "{}");
        if !used && !off && !idle.contains(&said) {
            idle.push(said);
        }
    }
    idle
}

/// Where what is planned comes from.
fn origins(planned: &Planned) -> Vec<String> {
    let plan = &planned.plan;
    let calls = (0..plan.program.calls().len()).map(|index| plan.program.place(index).to_owned());
    let writes = plan.cgroup.limits.writes.iter().map(|write| write.origin.to_string());
    let devices = plan.cgroup.limits.devices.iter().map(|_| "linux.resources.devices".to_owned());
    // A unit's properties name no place; systemd takes the limits that it knows.
    let steps = plan.steps().into_iter().filter_map(|step| step.split("# ").nth(1).map(str::to_owned));
    let mut all: Vec<String> =
        calls.chain(writes).chain(devices).chain(steps).filter(|place| !place.is_empty()).collect();
    all.sort();
    all.dedup();
    all
}

/// The part of a place that has an effect as a whole: an item of a list, or a setting.
fn unit(part: &str, place: &str) -> String {
    let rest = &place[part.len()..];
    let is_list = rest.starts_with('[');
    match part {
        "linux.resources" if rest.starts_with(".devices") => "linux.resources.devices".to_owned(),
        "linux.resources" => place.split('[').next().unwrap_or(place).to_owned(),
        _ if is_list => format!("{part}{}", &rest[..=rest.find(']').unwrap_or(0)]),
        // Names of sysctls have dots in them.
        _ => place.to_owned(),
    }
}

/// Whether what comes from `origin` is for `unit`: it is that, lies in it, or it lies in that.
fn covers(origin: &str, unit: &str) -> bool {
    let origin = origin.split(" (").next().unwrap_or(origin);
    let inside = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ' ']))
    };
    inside(unit, origin) || (inside(origin, unit) && origin != "linux" && origin != "linux.resources")
}

/// Each leaf with its place; values of variables are left out.
pub fn flatten(value: &Value) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    walk(value, String::new(), &mut leaves);
    leaves
}

fn walk(value: &Value, place: String, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, field) in fields {
                let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
                walk(field, inner, leaves);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                walk(item, format!("{place}[{i}]"), leaves);
            }
        }
        leaf => {
            leaves.insert(place, leaf.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_covers_what_lies_in_it_and_what_it_lies_in() {
        assert!(covers("mounts[1] (/proc)", "mounts[1]") && !covers("mounts[10] (/proc)", "mounts[1]"));
        assert!(covers("linux.resources.cpu.quota", "linux.resources.cpu.quota"));
        assert!(covers("linux.resources.cpu", "linux.resources.cpu.quota"));
        assert!(!covers("linux.resources.cpu.quota", "linux.resources.cpu.period"));
    }

    #[test]
    fn a_unit_is_an_item_of_a_list_or_a_setting() {
        assert_eq!(unit("mounts", "mounts[3].options[2]"), "mounts[3]");
        assert_eq!(unit("linux.sysctl", "linux.sysctl.net.core.x"), "linux.sysctl.net.core.x");
        assert_eq!(unit("linux.resources", "linux.resources.devices[0].allow"), "linux.resources.devices");
        assert_eq!(unit("linux.resources", "linux.resources.memory.limit"), "linux.resources.memory.limit");
    }
}
