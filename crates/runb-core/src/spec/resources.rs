//! `linux.resources`, of config.json and of an update.

use oci_spec::runtime::LinuxResources;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Of a configuration, whether it has a limit of processes: the types of oci-spec make 0 of one that is not there.
#[derive(Deserialize)]
pub(super) struct Config {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    resources: Option<Resources>,
}

/// The same of its resources alone.
#[derive(Deserialize)]
struct Resources {
    pids: Option<Pids>,
}

#[derive(Deserialize)]
struct Pids {
    limit: Option<i64>,
}

/// Where the limit of processes may be.
pub(super) trait HasPids: DeserializeOwned {
    fn limit(&self) -> Option<i64>;
}

impl HasPids for Resources {
    fn limit(&self) -> Option<i64> {
        self.pids.as_ref()?.limit
    }
}

impl HasPids for Config {
    fn limit(&self) -> Option<i64> {
        self.linux.as_ref()?.resources.as_ref()?.limit()
    }
}

/// Reads what an update gives: the object `linux.resources` of config.json, in a text of its own; `name` is where it is from.
/// What is odd and no error is beside it.
///
/// # Errors
/// The text is no JSON (with line and column); a field has a wrong type (with its place).
#[cfg(any(test, feature = "internals"))]
pub fn parse_resources(text: &[u8], name: &str) -> crate::Result<(LinuxResources, Vec<String>)> {
    let (mut resources, warnings) = super::parse(text, name, |_| Vec::new())?;
    clear::<Resources>(&mut resources, text);
    Ok((resources, warnings))
}

/// `pids` without a limit is no limit, and not the limit 0: where the types have that, the text is asked.
pub(super) fn clear<T: HasPids>(resources: &mut LinuxResources, text: &[u8]) {
    if resources.pids().is_some_and(|pids| pids.limit() == 0) {
        let given = super::parse::<T>(text, "", |_| Vec::new());
        if given.is_ok_and(|(given, _)| given.limit().is_none()) {
            resources.set_pids(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
