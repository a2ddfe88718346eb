//! `linux.resources`, of config.json and of an update.

use oci_spec::runtime::LinuxResources;
use serde_json::Value;


/// Reads what an update gives: the object `linux.resources` of config.json, in a text of its own; `name` is where it is from.
/// What is odd and no error is beside it.
///
/// # Errors
/// The text is no JSON (with line and column); a field has a wrong type (with its place).
#[cfg(any(test, feature = "internals"))]
pub fn parse_resources(text: &[u8], name: &str) -> crate::Result<(LinuxResources, Vec<String>)> {
    let (mut resources, warnings) = super::parse(text, name, |_| Vec::new())?;
    clear(&mut resources, text, "");
    Ok((resources, warnings))
}

/// `pids` without a limit is no limit, and not the limit 0, which the types make of it: where they have that, the text, at
/// `place`, is asked.
pub(super) fn clear(resources: &mut LinuxResources, text: &[u8], place: &str) {
    if resources.pids().is_none_or(|pids| pids.limit() != 0) {
        return;
    }
    let whole: Value = serde_json::from_slice(text).unwrap_or_default();
    let pids = whole.pointer(place).and_then(|resources| field(resources, "pids"));
    if pids.and_then(|pids| field(pids, "limit")).is_none_or(Value::is_null) {
        resources.set_pids(None);
    }
}

fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let mut fields = object.as_object()?.iter();
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Value {
        let (resources, _) = parse_resources(text.as_bytes(), "stdin").expect("resources");
        serde_json::to_value(resources).expect("JSON")
    }

    #[test]
    fn names_are_known_whatever_their_case() {
        let text = r#"{"CPU":{"Cpus":"1"},"hugepageLimits":[{"pagesize":"2MB","limit":5}],"unified":{"CPU.Max":"1"}}"#;
        let expected = serde_json::json!({"cpu": {"cpus": "1"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
            "unified": {"CPU.Max": "1"}});
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn no_limit_of_processes_is_not_the_limit_of_none() {
        assert_eq!(parsed(r#"{"pids":{}}"#), serde_json::json!({}));
        assert_eq!(parsed(r#"{"pids":{"Limit":0}}"#), serde_json::json!({"pids": {"limit": 0}}));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |text: &str| parse_resources(text.as_bytes(), "stdin").expect_err(text).to_string();
        assert_eq!(wrong("{"), "stdin: EOF while parsing an object at line 1 column 1");
        assert!(wrong(r#"{"memory":{"limit":"5M"}}"#).starts_with("memory.limit: invalid type"));
    }
}
