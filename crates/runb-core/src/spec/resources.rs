//! `linux.resources`, of config.json and of an update.

use oci_spec::runtime::Spec;
use serde_json::{Map, Value};

use super::typed;
use crate::error::{Error, Result};

/// The names of all fields.
const NAMES: [&str; 47] = [
    "devices",
    "allow",
    "type",
    "major",
    "minor",
    "access",
    "memory",
    "limit",
    "reservation",
    "swap",
    "kernel",
    "kernelTCP",
    "swappiness",
    "disableOOMKiller",
    "useHierarchy",
    "checkBeforeUpdate",
    "cpu",
    "shares",
    "quota",
    "burst",
    "period",
    "realtimeRuntime",
    "realtimePeriod",
    "cpus",
    "mems",
    "idle",
    "pids",
    "blockIO",
    "weight",
    "leafWeight",
    "weightDevice",
    "throttleReadBpsDevice",
    "throttleWriteBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteIOPSDevice",
    "rate",
    "hugepageLimits",
    "pageSize",
    "network",
    "classID",
    "priorities",
    "name",
    "priority",
    "rdma",
    "hcaHandles",
    "hcaObjects",
    "unified",
];

/// Reads what an update gives: the object `linux.resources` of config.json, in a text of its own; `name` is where it is from.
///
/// # Errors
/// The text is no JSON (with line and column); a field has a wrong type (with its place).
#[cfg(any(test, feature = "internals"))]
pub fn parse_resources(text: &[u8], name: &str) -> Result<oci_spec::runtime::LinuxResources> {
    let value = serde_json::from_slice(text).map_err(|e| Error::new(crate::Kind::Spec, format!("{name}: {e}")))?;
    typed(as_written(value), name)
}

/// Reads the resources once more if the types, which fill in what a text leaves out, have something that nobody means: huge
/// pages of no size, no processes.
pub(super) fn reread(spec: &mut Spec, text: &[u8]) -> Result<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let Some(resources) = linux.resources() else { return Ok(()) };
    let no_size = resources.hugepage_limits().iter().flatten().any(|limit| limit.page_size().is_empty());
    let no_processes = resources.pids().is_some_and(|pids| pids.limit() == 0);
    if no_size || no_processes {
        let mut whole: Value =
            serde_json::from_slice(text).map_err(|e| Error::internal(format!("config.json: {e}")))?;
        let value = whole.pointer_mut("/linux/resources").map(Value::take).unwrap_or_default();
        linux.set_resources(Some(typed(as_written(value), "linux.resources")?));
    }
    Ok(())
}

/// Names of fields whatever the case of their letters, as callers in Go may write them; and `pids` without a limit is not one
/// with the limit 0.
fn as_written(mut resources: Value) -> Value {
    spell(&mut resources);
    if let Some(fields) = resources.as_object_mut()
        && fields.get("pids").is_some_and(|pids| pids.get("limit").is_none_or(Value::is_null))
    {
        fields.remove("pids");
    }
    resources
}

fn spell(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(spell),
        Value::Object(fields) => {
            let spelled = std::mem::take(fields).into_iter().map(|(key, mut value)| {
                let known = NAMES.iter().find(|name| name.eq_ignore_ascii_case(&key));
                let key = known.map_or(key, |name| (*name).to_owned());
                match (key.as_str(), &mut value) {
                    // Their keys are names of files and devices.
                    ("unified", _) => {}
                    ("rdma", Value::Object(devices)) => devices.values_mut().for_each(spell),
                    (_, value) => spell(value),
                }
                (key, value)
            });
            *fields = spelled.collect::<Map<_, _>>();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::to_value(parse_resources(text.as_bytes(), "stdin").expect("resources")).expect("JSON")
    }

    #[test]
    fn names_are_known_whatever_their_case_but_those_of_files_and_devices_are_kept() {
        let text = r#"{"CPU":{"Cpus":"1"},"hugepageLimits":[{"pagesize":"2MB","limit":5}],"unified":{"CPU.Max":"1"},
            "rdma":{"Name":{"hcahandles":3}}}"#;
        let expected = serde_json::json!({"cpu": {"cpus": "1"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
            "unified": {"CPU.Max": "1"}, "rdma": {"Name": {"hcaHandles": 3}}});
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn no_limit_of_processes_is_not_the_limit_of_none() {
        assert_eq!(parsed(r#"{"pids":{}}"#), serde_json::json!({}));
        assert_eq!(parsed(r#"{"pids":{"limit":0}}"#), serde_json::json!({"pids": {"limit": 0}}));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |text: &str| parse_resources(text.as_bytes(), "stdin").expect_err(text).to_string();
        assert_eq!(wrong("{"), "stdin: EOF while parsing an object at line 1 column 1");
        assert!(wrong(r#"{"memory":{"limit":"5M"}}"#).starts_with("memory.limit: invalid type"));
    }
}
