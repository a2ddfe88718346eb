//! What an update makes of the resources that were set before: a field that it gives takes the place of the former one.

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Numbers that are not set where they are 0, and texts where they are empty: Docker sends those for what its user did not
/// give, in an update as in a create.
const UNSET_IF_ZERO: [&str; 14] = [
    "limit",
    "reservation",
    "swap",
    "kernel",
    "kernelTCP",
    "shares",
    "quota",
    "period",
    "realtimeRuntime",
    "realtimePeriod",
    "weight",
    "leafWeight",
    "cpus",
    "mems",
];

/// By which fields the items of a list are told apart.
const KEYS: [&[&str]; 3] = [&["major", "minor"], &["pageSize"], &["name"]];

/// `before` with what `change` gives. Items of lists and maps are merged by their keys; the device rules are replaced.
///
/// # Errors
/// Never, unless the types of the specification are not those of its JSON.
pub(super) fn merge(before: &LinuxResources, change: &LinuxResources) -> Result<LinuxResources> {
    let wrong = |error: serde_json::Error| Error::internal(format!("linux.resources: {error}"));
    let value = |resources| serde_json::to_value(resources).map_err(wrong);
    let mut merged = value(before)?;
    put(&mut merged, value(change)?);
    serde_json::from_value(merged).map_err(wrong)
}

fn put(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => put_fields(into, change),
        (into, change) => *into = change,
    }
}

fn put_fields(into: &mut Map<String, Value>, change: Map<String, Value>) {
    for (key, value) in change {
        match (into.get_mut(&key), value) {
            (_, value) if UNSET_IF_ZERO.contains(&key.as_str()) && is_zero(&value) => {}
            // A limit of 0 is one, unlike one of memory.
            (_, value) if key == "pids" => drop(into.insert(key, value)),
            (Some(Value::Array(into)), Value::Array(items)) if key != "devices" => put_items(into, items),
            (Some(into), value) => put(into, value),
            (None, Value::Object(value)) => {
                let mut new = Map::new();
                put_fields(&mut new, value);
                into.insert(key, Value::Object(new));
            }
            (None, value) => drop(into.insert(key, value)),
        }
    }
}

fn is_zero(value: &Value) -> bool {
    value.as_i64() == Some(0) || value.as_str() == Some("")
}

/// In place of the last item with the same key, which is the one that holds; else behind them all.
fn put_items(into: &mut Vec<Value>, items: Vec<Value>) {
    for item in items {
        let same = |other: &&mut Value| {
            let shared = KEYS.iter().find(|keys| keys.iter().all(|key| item.get(key).is_some()));
            shared.is_some_and(|keys| keys.iter().all(|key| item.get(key) == other.get(key)))
        };
        match into.iter_mut().rev().find(same) {
            Some(Value::Object(into)) => into.extend(item.as_object().cloned().unwrap_or_default()),
            _ => into.push(item),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(before: &str, change: &str) -> Value {
        let [before, change] = [before, change].map(|text| serde_json::from_str(text).expect("resources"));
        serde_json::to_value(merge(&before, &change).expect("merged")).expect("JSON")
    }

    #[test]
    fn what_is_given_takes_the_place_of_what_was_and_the_rest_stays() {
        let found = merged(
            r#"{"memory":{"limit":100,"swap":200},"cpu":{"shares":512},"unified":{"memory.high":"9"}}"#,
            r#"{"memory":{"limit":150},"pids":{"limit":7},"unified":{"memory.low":"3"}}"#,
        );
        let expected = serde_json::json!({"memory": {"limit": 150, "swap": 200}, "cpu": {"shares": 512}, "pids": {"limit": 7},
            "unified": {"memory.high": "9", "memory.low": "3"}});
        assert_eq!(found, expected);
    }

    #[test]
    fn zero_is_not_set_but_where_it_is_a_value() {
        let before = r#"{"memory":{"limit":100},"cpu":{"shares":512,"cpus":"0","idle":1,"burst":5}}"#;
        let change = r#"{"memory":{"limit":0},"cpu":{"shares":0,"cpus":"","idle":0,"burst":0},"blockIO":{"weight":0}}"#;
        let expected = serde_json::json!({"memory": {"limit": 100}, "cpu": {"shares": 512, "cpus": "0", "idle": 0, "burst": 0},
            "blockIO": {}});
        assert_eq!(merged(before, change), expected);
    }

    #[test]
    fn items_are_merged_by_their_device_and_the_last_of_doubles_is_the_one() {
        let device = |major: i32, rate: i32| format!(r#"{{"major":{major},"minor":0,"rate":{rate}}}"#);
        let list = |items: &[String]| format!(r#"{{"blockIO":{{"throttleReadBpsDevice":[{}]}}}}"#, items.join(","));
        let found = merged(&list(&[device(8, 1), device(9, 2), device(8, 3)]), &list(&[device(8, 4), device(7, 5)]));
        let rates: Vec<_> = found["blockIO"]["throttleReadBpsDevice"].as_array().expect("a list").iter().collect();
        let rates: Vec<_> = rates.iter().map(|item| (item["major"].clone(), item["rate"].clone())).collect();
        assert_eq!(rates, [(8, 1), (9, 2), (8, 4), (7, 5)].map(|(major, rate)| (major.into(), rate.into())));
    }

    #[test]
    fn the_device_rules_are_a_whole() {
        let found =
            merged(r#"{"devices":[{"allow":true,"access":"r"}]}"#, r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
        assert_eq!(found["devices"].as_array().map(Vec::len), Some(1));
    }
}
