//! `plan --strict`: all at once that is wrong with a configuration, and what of it is for nobody here.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::planned::planned_of;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::options::Options;
use crate::plan::Ending;
use crate::spec::{self, Bundle};

/// Objects and fields of other platforms, which runb takes and passes over.
const OTHERS: [&str; 7] =
    ["freebsd", "solaris", "vm", "windows", "zos", "process.commandLine", "process.user.username"];

/// Lists each field of the bundle's configuration that this version does not know, that is for another platform, that is not as
/// the specification has it, or that this host cannot honour: a sentence that begins with its place. What is only odd is
/// told, too. Nothing is done.
///
/// # Errors
/// There is no configuration, or it is no JSON.
pub fn strict(options: &Options, host: &Host) -> Result<Vec<String>> {
    let (path, text) = spec::read_bundle(&options.bundle)?;
    let mut value: Value =
        serde_json::from_slice(&text).map_err(|e| Error::new(Kind::Spec, format!("config.json: {e}")))?;
    let mut found = Vec::new();
    found.extend(
        OTHERS
            .iter()
            .filter(|place| at(&value, place).is_some())
            .map(|place| format!("{place}: is for another platform, and passed over")),
    );
    // What is wrong is taken out, and the rest looked at again: a plan ends at the first fault.
    let mut gone = Removed::default();
    while let Some(error) = fault(&path, &value, options, host, &mut found) {
        let place = error.origin().and_then(steps);
        let (Some(place), Some(origin)) = (place, error.origin()) else {
            found.push(error.to_string());
            break;
        };
        // That something is missed which was taken out is no fault of the configuration.
        if !gone.is_below(&place) {
            found.push(error.to_string().replacen(origin, &written(&gone.original(&place), origin), 1));
        }
        if !gone.take(&mut value, &place) {
            break;
        }
    }
    // Only what can be read to its end tells every key that nobody asks for.
    for place in spec::unknown(&value).iter().filter(|place| !OTHERS.contains(&place.as_str())) {
        let original = steps(place).map_or(place.clone(), |steps| written(&gone.original(&steps), place));
        found.push(format!("{original}: this version does not know it, and passes it over"));
    }
    Ok(found)
}

/// The first fault of a configuration; where there is none, what is only odd is found.
fn fault(path: &Path, value: &Value, options: &Options, host: &Host, found: &mut Vec<String>) -> Option<Error> {
    let planned = Bundle::parse(path.to_owned(), value.to_string().into_bytes().into()).and_then(|bundle| {
        let warnings = bundle.warnings.clone();
        planned_of(bundle, options, host, Ending::Fifo).map(|planned| [warnings, planned.plan.warnings].concat())
    });
    match planned {
        Ok(warnings) => {
            found.extend(warnings);
            None
        }
        Err(error) => Some(error),
    }
}

/// The value at a place without lists.
fn at<'v>(value: &'v Value, place: &str) -> Option<&'v Value> {
    place.split('.').try_fold(value, |value, key| value.get(key))
}

/// `linux.sysctl[net.x]` as its steps; a place may go on with ` (/data)`.
fn steps(place: &str) -> Option<Vec<String>> {
    let place = place.split(" (").next()?;
    let mut steps = Vec::new();
    let mut rest = place;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (step, after) = inner.split_once(']')?;
            steps.push(step.to_owned());
            rest = after;
        } else {
            let rest_of = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest_of.find(['.', '[']).unwrap_or(rest_of.len());
            steps.push(rest_of[..end].to_owned());
            rest = &rest_of[end..];
        }
    }
    (!steps.is_empty()).then_some(steps)
}

/// A place by its steps, in the form of `like`.
fn written(steps: &[String], like: &str) -> String {
    let mut text = String::new();
    for step in steps {
        let bracket = step.parse::<usize>().is_ok() || like.contains(&format!("[{step}]"));
        match bracket {
            true => text += &format!("[{step}]"),
            false if text.is_empty() => text += step,
            false => text += &format!(".{step}"),
        }
    }
    let more = like.find(" (").map_or("", |at| &like[at..]);
    text + more
}

/// What was taken out of a configuration.
#[derive(Default)]
struct Removed {
    /// By its steps as they were in the configuration.
    places: Vec<Vec<String>>,
    /// Of each list that something was taken out of, the numbers that the others had.
    numbers: HashMap<Vec<String>, Vec<usize>>,
}

impl Removed {
    /// The place in the configuration as it was written.
    fn original(&self, place: &[String]) -> Vec<String> {
        let mut original: Vec<String> = Vec::new();
        for (i, step) in place.iter().enumerate() {
            let numbers = self.numbers.get(&place[..i]);
            let number = step.parse::<usize>().ok().and_then(|number| numbers?.get(number).copied());
            original.push(number.map_or(step.clone(), |number| number.to_string()));
        }
        original
    }

    /// Whether something below the place was taken out, or the place itself.
    fn is_below(&self, place: &[String]) -> bool {
        let place = self.original(place);
        self.places.iter().any(|gone| gone.starts_with(&place))
    }

    /// Takes the value at the place out, or what holds it where it is not there by itself; false if that is the whole.
    fn take(&mut self, value: &mut Value, place: &[String]) -> bool {
        for length in (1..=place.len()).rev() {
            let (last, above) = place[..length].split_last().expect("a step");
            let holder = above.iter().try_fold(&mut *value, |value, step| match value {
                Value::Array(list) => step.parse::<usize>().ok().and_then(|i| list.get_mut(i)),
                other => other.get_mut(step),
            });
            let taken = match holder {
                Some(Value::Object(map)) => map.remove(last).is_some(),
                Some(Value::Array(list)) => match last.parse::<usize>() {
                    Ok(number) if number < list.len() => {
                        let original = self.original(&place[..length]);
                        let all = (0..list.len()).collect();
                        self.places.push(original);
                        self.numbers.entry(above.to_vec()).or_insert(all).remove(number);
                        list.remove(number);
                        return true;
                    }
                    _ => false,
                },
                _ => false,
            };
            if taken {
                self.places.push(self.original(&place[..length]));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_is_taken_apart_and_put_together_again() {
        for (place, expected) in [
            ("linux.sysctl[net.x]", vec!["linux", "sysctl", "net.x"]),
            ("mounts[7] (/data)", vec!["mounts", "7"]),
            ("process.rlimits[0].type", vec!["process", "rlimits", "0", "type"]),
        ] {
            let steps = steps(place).expect("steps");
            assert_eq!(steps, expected);
            assert_eq!(written(&steps, place), place);
        }
    }

    #[test]
    fn what_is_taken_out_of_a_list_does_not_change_the_numbers_of_the_others() {
        let mut value = json!({"a": [0, 1, 2, {"b": 1}]});
        let mut gone = Removed::default();
        let place = |text: &str| steps(text).expect("steps");
        assert!(gone.take(&mut value, &place("a[1]")) && gone.take(&mut value, &place("a[1]")));
        assert_eq!(value, json!({"a": [0, {"b": 1}]}));
        assert_eq!(gone.original(&place("a[1].b")), place("a[3].b"));
        assert!(gone.take(&mut value, &place("a[1].b.c")));
        assert_eq!(value, json!({"a": [0, {}]}));
        assert!(gone.is_below(&place("a[1]")) && !gone.is_below(&place("a[0]")));
    }
}
