//! Configurations that are kept beside the log, by their digest: those of failed calls, so that what was wrong can be looked at when the
//! engine has removed the bundle. Of an environment the names alone are kept, unless all configurations are to be kept as they were.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;

/// The most that are kept; the oldest go.
const MOST: usize = 256;
/// The longest that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// Which configurations are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of calls that failed, without the values of variables.
    #[default]
    Failed,
    /// Those of all calls, as they were.
    All,
    /// None.
    Never,
}

/// The folder of a log.
pub fn folder(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".configs");
    name.into()
}

/// Keeps a configuration; what goes wrong is dropped, as with all of the log.
pub fn keep(log: &Path, digest: &str, config: &[u8], keep: Keep) {
    let (text, kind) = match keep {
        _ if config.len() > LONGEST => return,
        Keep::Never => return,
        Keep::All => (config.to_vec(), "json"),
        Keep::Failed => match without_values(config) {
            Some(text) => (text, "names.json"),
            None => return,
        },
    };
    let folder = folder(log);
    let _ = DirBuilder::new().mode(0o700).create(&folder);
    let file = folder.join(format!("{digest}.{kind}"));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(&text));
    if written.is_ok() {
        prune(&folder);
    }
}

/// A configuration that is kept, and whether it is as it was; `digest` may be the beginning of one.
pub fn kept(log: &Path, digest: &str) -> Option<(Vec<u8>, bool)> {
    let entries = std::fs::read_dir(folder(log)).ok()?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // `DIGEST.json` comes before `DIGEST.names.json`.
    names.sort();
    let name = names.iter().find(|name| name.starts_with(digest))?;
    let text = std::fs::read(folder(log).join(name)).ok()?;
    Some((text, !name.ends_with(".names.json")))
}

fn prune(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let age =
        |entry: &std::fs::DirEntry| entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut files: Vec<(SystemTime, PathBuf)> = entries.flatten().map(|entry| (age(&entry), entry.path())).collect();
    files.sort();
    for (_, file) in files.iter().take(files.len().saturating_sub(MOST)) {
        let _ = std::fs::remove_file(file);
    }
}

/// The configuration with `NAME=…` for each variable of the process and of the hooks; none, if it is no JSON.
fn without_values(config: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(config).ok()?;
    hide(value.pointer_mut("/process/env"));
    let hooks = value.get_mut("hooks").and_then(Value::as_object_mut);
    for hook in hooks.into_iter().flatten().flat_map(|(_, list)| list.as_array_mut().into_iter().flatten()) {
        hide(hook.get_mut("env"));
    }
    serde_json::to_vec_pretty(&value).ok()
}

fn hide(env: Option<&mut Value>) {
    for entry in env.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((name, _)) = entry.as_str().and_then(|entry| entry.split_once('=')) {
            *entry = format!("{name}=…").into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &[u8] =
        br#"{"process":{"env":["TOKEN=secret"]},"hooks":{"poststop":[{"path":"/x","env":["KEY=secret"]}]}}"#;

    #[test]
    fn of_a_failed_call_no_value_of_a_variable_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("runb.log");
        keep(&log, "feed", CONFIG, Keep::Failed);
        let (text, whole) = kept(&log, "fe").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!whole && !text.contains("secret") && text.contains("TOKEN=…") && text.contains("KEY=…"), "{text}");
        keep(&log, "feed", CONFIG, Keep::All);
        assert_eq!(kept(&log, "feed"), Some((CONFIG.to_vec(), true)));
        keep(&log, "dead", CONFIG, Keep::Never);
        keep(&log, "dead", b"{", Keep::Failed);
        assert_eq!(kept(&log, "dead"), None);
    }

    #[test]
    fn the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("runb.log");
        for i in 0..MOST + 5 {
            keep(&log, &format!("{i:04}"), b"{}", Keep::All);
        }
        assert_eq!(std::fs::read_dir(super::folder(&log)).unwrap().count(), MOST);
        assert!(kept(&log, "0260").is_some() && kept(&log, "0000").is_none());
    }
}
