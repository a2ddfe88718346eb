//! config.json: reading it, and naming the place where it is wrong.

mod keys;
mod resources;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use oci_spec::runtime::{Capability, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::input;
use crate::socket::PATIENCE;
use crate::trace::{Trace, What};

#[cfg(feature = "internals")]
pub use resources::parse_resources;

/// The largest config.json, and process of an exec, that is read, in bytes. A config of 70,000 mounts has about 10 MB.
pub const MAX_CONFIG: u64 = 64 << 20;

/// A bundle: its folder and its configuration, as written.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The absolute path of the folder.
    pub path: PathBuf,
    /// The configuration.
    pub spec: Spec,
    /// The bytes that it was read from.
    pub text: Arc<Vec<u8>>,
    /// What the specification says to warn about and go on.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads `DIR/config.json`.
    ///
    /// # Errors
    /// The folder or the file cannot be read; the text is no JSON (with line and column); a field has a wrong type (with
    /// its place); a string has a NUL byte in it, which no system call could take.
    #[cfg(any(test, feature = "internals"))]
    pub fn load(dir: &Path) -> Result<Self> {
        Bundle::load_traced(dir, &mut Trace::begin())
    }

    /// As [`Bundle::load`]; what was read is noted before it is understood.
    ///
    /// # Errors
    /// As [`Bundle::load`].
    pub(crate) fn load_traced(dir: &Path, trace: &mut Trace) -> Result<Self> {
        let (path, text) = read_bundle(dir)?;
        let text = Arc::new(text);
        trace.done(What::Read { bundle: path.clone(), config: text.clone() });
        Bundle::parse(path, text)
    }

    /// The bundle `path` with a configuration.
    pub(crate) fn parse(path: PathBuf, text: Arc<Vec<u8>>) -> Result<Self> {
        let (spec, warnings) = parse_spec(&text, "config.json")?;
        Ok(Bundle { path, spec, text, warnings })
    }

    /// The absolute path of the root filesystem, if the configuration has one.
    pub fn rootfs(&self) -> Option<PathBuf> {
        self.spec.root().as_ref().map(|root| self.path.join(root.path()))
    }
}

/// The absolute path of a bundle, and its configuration as it is written.
pub(crate) fn read_bundle(dir: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let path =
        dir.canonicalize().map_err(|e| Error::io(format!("bundle {}", dir.display()), &e).with_kind(Kind::Spec))?;
    let text = read(&path.join("config.json"))?;
    Ok((path, text))
}

/// The places of keys that no type of the specification has, up to the first value that is wrong.
#[cfg(feature = "internals")]
pub fn unknown(value: &Value) -> Vec<String> {
    let mut places = Vec::new();
    let mut value = value.clone();
    value.get_mut("process").map(|process| tolerate(process, ""));
    let text = value.to_string();
    keys::rename::<Spec>(&mut value, text.as_bytes());
    let _ = serde_ignored::deserialize::<_, _, Spec>(&value, |path| places.push(place_of(&path)));
    places
}

#[cfg(feature = "internals")]
fn place_of(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", place_of(parent)),
        Path::Map { parent, key } => match place_of(parent) {
            above if above.is_empty() => key.clone(),
            above => format!("{above}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => place_of(parent),
    }
}

/// Reads a configuration that was checked before.
///
/// # Errors
/// As [`Bundle::load`].
pub fn load_spec(file: &Path) -> Result<Spec> {
    parse_spec(&read(file)?, &file.display().to_string()).map(|(spec, _)| spec)
}

/// Reads the process of an exec: the object `process` of config.json in a file of its own.
///
/// # Errors
/// As [`Bundle::load`].
pub fn load_process(file: &Path) -> Result<(Process, Vec<String>)> {
    let text = input::read_or_pipe(file, MAX_CONFIG, Instant::now() + PATIENCE).map_err(|e| unread(file, &e))?;
    parse(&text, &file.display().to_string(), |process| tolerate(process, ""))
}

fn parse_spec(text: &[u8], name: &str) -> Result<(Spec, Vec<String>)> {
    let of_process = |spec: &mut Value| spec.get_mut("process").map(|process| tolerate(process, "process."));
    let (mut spec, warnings) = parse::<Spec>(text, name, |spec| of_process(spec).unwrap_or_default())?;
    if let Some(resources) = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut()) {
        resources::clear::<resources::Config>(resources, text);
    }
    Ok((spec, warnings))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    input::read(file, MAX_CONFIG).map_err(|e| unread(file, &e))
}

fn unread(file: &Path, error: &std::io::Error) -> Error {
    Error::io(format!("open {}", file.display()), error).with_kind(Kind::Spec)
}

/// Parses `text`. The first attempt is the fast one; only where it fails, or comes by a key that nobody asks for, is the text
/// looked at again, to drop what the specification says to warn about, to take keys in any case, and to name the place of what
/// is wrong.
fn parse<T: DeserializeOwned>(
    text: &[u8],
    name: &str,
    tolerate: impl Fn(&mut Value) -> Vec<String>,
) -> Result<(T, Vec<String>)> {
    let escaped_nul = text.contains(&b'\\') && text.windows(6).any(|window| window == b"\\u0000");
    if !escaped_nul && let Some(value) = parse_at_once(text) {
        return Ok((value, Vec::new()));
    }
    parse_in_detail(text, name, tolerate)
}

/// The second attempt. What it takes is kept apart from the first: it would have the stack of both.
#[cold]
#[inline(never)]
fn parse_in_detail<T: DeserializeOwned>(
    text: &[u8],
    name: &str,
    tolerate: impl Fn(&mut Value) -> Vec<String>,
) -> Result<(T, Vec<String>)> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| Error::new(Kind::Spec, format!("{name}: {e}")))?;
    if let Some(place) = nul(&value, String::new()) {
        return Err(Error::spec(place, "a string with a NUL byte in it"));
    }
    let mut warnings = Vec::new();
    // The names of keys are told up to the first fault that is none of those that are tolerated; a new name may bring more.
    loop {
        warnings.extend(tolerate(&mut value));
        let renamed = keys::rename::<T>(&mut value, text);
        if renamed.is_empty() {
            break;
        }
        warnings.extend(renamed);
    }
    let parsed = serde_path_to_error::deserialize(value).map_err(|e| {
        let place = e.path().to_string();
        let text = in_runcs_words(&place, e.into_inner().to_string());
        match place.as_str() {
            "" | "." => Error::new(Kind::Spec, format!("{name}: {text}")),
            _ => Error::spec(place, text),
        }
    })?;
    Ok((parsed, warnings))
}

/// Of what runc takes as a string and looks at later the sentence begins as its own does.
fn in_runcs_words(place: &str, text: String) -> String {
    match place.strip_prefix("linux.memoryPolicy") {
        Some(rest) if rest.starts_with(".flags[") => format!("invalid memory policy flag: {text}"),
        Some(".mode" | "") => format!("invalid memory policy mode: {text}"),
        _ => text,
    }
}

/// The value, if it can be read and there is nothing in `text` that it does not know.
fn parse_at_once<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    // Once for all strings, and not each by itself.
    let mut json = serde_json::Deserializer::from_str(std::str::from_utf8(text).ok()?);
    let mut unknown = false;
    let value = serde_ignored::deserialize(&mut json, |_| unknown = true).ok()?;
    json.end().ok()?;
    (!unknown).then_some(value)
}

/// What runtimes must take, and the strict types do not: names of capabilities that this kernel or version does not know
/// (config.md: "the runtime MUST log a warning"), a user without ids.
fn tolerate(process: &mut Value, prefix: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(object) = process.as_object_mut() {
        let user = object.entry("user").or_insert_with(|| Value::Object(Default::default()));
        if let Some(user) = user.as_object_mut() {
            user.entry("uid").or_insert(0.into());
            user.entry("gid").or_insert(0.into());
        }
    }
    spell(process);
    for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        let Some(list) =
            process.get_mut("capabilities").and_then(|sets| sets.get_mut(set)).and_then(Value::as_array_mut)
        else {
            continue;
        };
        list.retain(|name| {
            let known = !name.is_string() || serde_json::from_value::<Capability>(name.clone()).is_ok();
            if !known {
                warnings.push(format!("{prefix}capabilities.{set}: unknown capability {name} is left out"));
            }
            known
        });
    }
    warnings
}

/// What the specification allows and oci-spec 0.10 does not take: two names of scheduler flags that it spells otherwise,
/// and an empty list of CPUs.
fn spell(process: &mut Value) {
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        affinity.retain(|_, list| list != "");
    }
}

/// The place of the first string with a NUL byte.
fn nul(value: &Value, place: String) -> Option<String> {
    match value {
        Value::String(text) if text.contains('\0') => Some(place),
        Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| nul(item, format!("{place}[{i}]"))),
        Value::Object(fields) => fields.iter().find_map(|(key, field)| {
            let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            if key.contains('\0') { Some(inner) } else { nul(field, inner) }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse_spec(text.as_bytes(), "config.json").map(drop).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let text = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":"sh"}}"#;
        assert_eq!(wrong(text), r#"process.args: invalid type: string "sh", expected a sequence"#);
    }

    #[test]
    fn a_truncated_text_names_line_and_column() {
        assert_eq!(wrong("{\"ociVersion\":\n\"1.0"), "config.json: EOF while parsing a string at line 2 column 4");
    }

    #[test]
    fn a_nul_byte_in_a_string_names_the_field() {
        let text = r#"{"ociVersion":"1.0.2","mounts":[{"destination":"/a\u0000b"}]}"#;
        assert_eq!(wrong(text), "mounts[0].destination: a string with a NUL byte in it");
    }

    #[test]
    fn the_specifications_names_of_scheduler_flags_and_an_empty_list_of_cpus_are_taken() {
        let text = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":0,"gid":0},"execCPUAffinity":{"initial":"","final":"0"},
            "scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN","SCHED_FLAG_UTIL_CLAMP_MAX"]}}}"#;
        let (spec, _) = parse_spec(text.as_bytes(), "config.json").expect("it is taken");
        let process = spec.process().as_ref().expect("a process");
        let flags = process.scheduler().as_ref().and_then(|scheduler| scheduler.flags().as_ref()).expect("flags");
        assert_eq!(flags.len(), 7);
        let affinity = process.exec_cpu_affinity().as_ref().expect("an affinity");
        assert_eq!((affinity.initial().as_deref(), affinity.cpu_affinity_final().as_deref()), (None, Some("0")));
    }

    #[test]
    fn an_unknown_capability_is_warned_about_and_left_out() {
        let text =
            r#"{"ociVersion":"1.0.2","process":{"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_NONE"]}}}"#;
        let (spec, warnings) = parse_spec(text.as_bytes(), "config.json").expect("it is taken");
        assert_eq!(warnings, [r#"process.capabilities.bounding: unknown capability "CAP_NONE" is left out"#]);
        let process = spec.process().as_ref().expect("a process");
        let bounding = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref()).expect("a set");
        assert!(bounding.contains(&Capability::Kill) && bounding.len() == 1);
    }

    #[test]
    fn a_key_in_another_case_is_read_and_told_with_its_place() {
        let text = r#"{"ociVersion":"1.0.2","Process":{"Cwd":"/","capabilities":{"Bounding":["CAP_KILL","CAP_NONE"]}},
            "linux":{"resources":{"hugepageLimits":[{"pagesize":"2MB","limit":2097152}]}}}"#;
        let (spec, warnings) = parse_spec(text.as_bytes(), "config.json").expect("it is taken");
        let expected = [
            "Process is read as process",
            "process.Cwd is read as cwd",
            "process.capabilities.Bounding is read as bounding",
            r#"process.capabilities.bounding: unknown capability "CAP_NONE" is left out"#,
            "linux.resources.hugepageLimits[0].pagesize is read as pageSize",
        ];
        let mut said: Vec<&str> = warnings.iter().map(String::as_str).collect();
        said.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(said, expected);
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).expect("resources");
        let limits = resources.hugepage_limits().as_ref().expect("limits");
        assert_eq!(limits[0].page_size(), "2MB");
    }

    #[test]
    fn a_user_in_another_case_is_that_user() {
        let text = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","User":{"Uid":7,"gid":8}}}"#;
        let (spec, _) = parse_spec(text.as_bytes(), "config.json").expect("it is taken");
        let user = spec.process().as_ref().expect("a process").user();
        assert_eq!((user.uid(), user.gid()), (7, 8));
    }

    #[test]
    fn a_key_that_nobody_knows_is_passed_over_without_a_word() {
        let text = r#"{"ociVersion":"1.0.2","fromTheFuture":{"process":1}}"#;
        let (_, warnings) = parse_spec(text.as_bytes(), "config.json").expect("it is taken");
        assert_eq!(warnings, Vec::<String>::new());
    }
}
