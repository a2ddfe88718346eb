//! `org.systemd.property.NAME` annotations: properties in the text syntax of GVariant.

use std::collections::{BTreeMap, HashMap};

use zbus::Variant;

use super::{Property, gvariant};
use crate::error::{Error, Result};

/// What the names of the annotations begin with.
pub const PREFIX: &str = "org.systemd.property.";

/// What decides where the container's processes are: the runtime relies on it.
const OWN: [&str; 3] = ["PIDs", "PIDFDs", "Slice"];

/// The properties, sorted by name. One in seconds becomes one in microseconds, as systemd's calls have only those: `…Sec`
/// after a small letter, as runc has it.
pub(super) fn properties(annotations: Option<&HashMap<String, String>>) -> Result<Vec<Property>> {
    let sorted: BTreeMap<&str, &str> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
        .collect();
    sorted.into_iter().map(|(name, value)| property(name, value)).collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    let origin = format!("annotations[\"{PREFIX}{name}\"]");
    let wrong = |text: String| Error::spec(origin.clone(), text);
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(wrong(format!("{name:?} is no name of a property: at least three letters, and nothing else")));
    }
    if OWN.contains(&name) {
        return Err(wrong(format!("{name} is set by the runtime")));
    }
    let value = gvariant::parse(text).map_err(|why| wrong(format!("{text:?} is no GVariant text: {why}")))?;
    let seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let Some(stem) = seconds else { return Ok(Property::new(name, value).at(origin)) };
    let micros = microseconds(&value).ok_or_else(|| wrong(format!("{text:?} is no number of seconds")))?;
    Ok(Property::new(&format!("{stem}USec"), micros).at(origin))
}

fn microseconds(value: &Variant<'_>) -> Option<u64> {
    const MILLION: u64 = 1_000_000;
    let whole = match value {
        Variant::U8(seconds) => u64::from(*seconds),
        Variant::I16(seconds) => u64::try_from(*seconds).ok()?,
        Variant::U16(seconds) => u64::from(*seconds),
        Variant::I32(seconds) => u64::try_from(*seconds).ok()?,
        Variant::U32(seconds) => u64::from(*seconds),
        Variant::I64(seconds) => u64::try_from(*seconds).ok()?,
        Variant::U64(seconds) => *seconds,
        // The nearest one: 234.789 has no exact double.
        Variant::F64(seconds) => {
            let micros = (seconds * MILLION as f64).round();
            return (0.0..u64::MAX as f64).contains(&micros).then_some(micros as u64);
        }
        _ => return None,
    };
    whole.checked_mul(MILLION)
}
