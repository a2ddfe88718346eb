//! The configuration that a call had: from the container's folder, the bundle, or what is kept beside the log; by its digest, so that it
//! is never another one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::calls::Call;
use crate::cmd::Context;
use crate::record::{digest, keep};

/// A configuration.
pub struct Config {
    /// Its bytes.
    pub text: Vec<u8>,
    /// Where it was found.
    pub from: PathBuf,
    /// Whether it is as it was; else the values of variables are missing.
    pub whole: bool,
}

/// That of a call, if it is still to be had.
pub fn of(call: &Call, context: &Context<'_>) -> Option<Config> {
    let exit = &call.exit.as_ref()?.1;
    let wanted = exit.config.as_deref()?;
    let mut places = Vec::new();
    if let Some(id) = &exit.container {
        places.push(root(call, context).join(id).join("config.json"));
    }
    places.extend(exit.bundle.iter().map(|bundle| Path::new(bundle).join("config.json")));
    for place in places {
        let text = std::fs::read(&place).ok().filter(|text| digest(text).starts_with(wanted));
        if let Some(text) = text {
            return Some(Config { text, from: place, whole: true });
        }
    }
    let log = context.settings.path.as_deref()?;
    let (text, whole) = keep::kept(log, wanted)?;
    Some(Config { text, from: keep::folder(log), whole })
}

/// The folder of the containers' state that a call was given.
fn root(call: &Call, context: &Context<'_>) -> PathBuf {
    let after = call.argv.iter().skip_while(|word| *word != "--root" && *word != "-root").nth(1).map(String::as_str);
    let joined = call.argv.iter().find_map(|word| word.strip_prefix("--root="));
    after.or(joined).map_or_else(|| context.environment.default_root(), PathBuf::from)
}

/// What a place in the configuration says: `mounts[7] (/data)`, `process.args[0]`. Values of variables are left out.
pub fn field(config: &[u8], place: &str) -> Option<String> {
    let mut value: &Value = &serde_json::from_slice(config).ok()?;
    let place = place.split([' ', ':']).next()?;
    for part in place.split('.') {
        let (name, indices) = part.split_once('[').map_or((part, ""), |(name, rest)| (name, rest));
        value = value.get(name)?;
        for index in indices.split('[').filter(|index| !index.is_empty()) {
            value = value.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    let mut value = value.clone();
    hide(&mut value, place.contains(".env"));
    serde_json::to_string_pretty(&value).ok()
}

fn hide(value: &mut Value, of_environment: bool) {
    match value {
        Value::String(text) if of_environment => {
            if let Some((name, _)) = text.split_once('=') {
                *text = format!("{name}=…");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, of_environment)),
        Value::Object(fields) => fields.iter_mut().for_each(|(key, field)| hide(field, of_environment || key == "env")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_leads_to_its_field_and_never_to_the_value_of_a_variable() {
        let config = br#"{"process":{"args":["/no"],"env":["A=secret"]},"mounts":[{"destination":"/data"}]}"#;
        assert_eq!(field(config, "process.args[0]").as_deref(), Some("\"/no\""));
        assert!(field(config, "mounts[0] (/data)").unwrap().contains("/data"));
        assert_eq!(field(config, "mounts[1]"), None);
        assert_eq!(field(config, "options.pid_file"), None);
        for place in ["process", "process.env", "process.env[0]"] {
            let text = field(config, place).unwrap();
            assert!(!text.contains("secret") && text.contains("A=…"), "{text}");
        }
    }
}
