//! docs/fields.md has a row for every property of the specification's schema, and the types that config.json is read by know each
//! of them; and what `plan --strict` lists.

use std::collections::BTreeSet;

use runb_tests::*;

const FILES: [(&str, &str); 4] = [
    ("config-schema.json", include_str!("../schema/config-schema.json")),
    ("config-linux.json", include_str!("../schema/config-linux.json")),
    ("defs.json", include_str!("../schema/defs.json")),
    ("defs-linux.json", include_str!("../schema/defs-linux.json")),
];
const TABLE: &str = include_str!("../../../docs/fields.md");

/// A part of a schema, with the file that its references are relative to.
struct Part {
    file: String,
    schema: Value,
}

impl Part {
    /// What a reference leads to; nothing for the schemas of other platforms.
    fn of(&self, reference: &str) -> Option<Part> {
        let (file, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let file = if file.is_empty() { self.file.as_str() } else { file };
        let (_, text) = FILES.iter().find(|(name, _)| *name == file)?;
        let whole: Value = serde_json::from_str(text).expect("a schema is JSON");
        // `definitions/x` beside `/definitions/x`: both forms are there.
        let pointer =
            if pointer.is_empty() || pointer.starts_with('/') { pointer.to_owned() } else { format!("/{pointer}") };
        let schema = whole.pointer(&pointer).unwrap_or_else(|| panic!("{reference} leads nowhere")).clone();
        Some(Part { file: file.to_owned(), schema })
    }

    fn with(&self, schema: &Value) -> Part {
        Part { file: self.file.clone(), schema: schema.clone() }
    }

    /// Its parts: each property or item with what is added to the path.
    fn parts(&self) -> Vec<(String, Part)> {
        let mut parts = Vec::new();
        let object = |key: &str| self.schema[key].as_object().into_iter().flatten();
        parts.extend(object("properties").map(|(name, schema)| (format!(".{name}"), self.with(schema))));
        let patterns = object("patternProperties").filter(|(_, schema)| schema.is_object());
        parts.extend(patterns.map(|(_, schema)| ("[KEY]".to_owned(), self.with(schema))));
        if self.schema["additionalProperties"].is_object() {
            parts.push(("[KEY]".to_owned(), self.with(&self.schema["additionalProperties"])));
        }
        match &self.schema["items"] {
            Value::Array(list) => parts.extend(list.iter().map(|schema| ("[]".to_owned(), self.with(schema)))),
            Value::Object(_) => parts.push(("[]".to_owned(), self.with(&self.schema["items"]))),
            _ => {}
        }
        parts
    }

    /// It, or what it stands for.
    fn meant(&self) -> Vec<Part> {
        if let Some(reference) = self.schema["$ref"].as_str() {
            return self.of(reference).iter().flat_map(Part::meant).collect();
        }
        let choices = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| self.schema[key].as_array()).flatten();
        let mut all: Vec<Part> = choices.flat_map(|schema| self.with(schema).meant()).collect();
        all.insert(0, self.with(&self.schema));
        all
    }

    /// The paths of all properties below.
    fn paths(&self, path: &str, all: &mut BTreeSet<String>) {
        for part in self.meant() {
            for (step, below) in part.parts() {
                let whole = format!("{path}{step}").trim_start_matches('.').to_owned();
                if step.starts_with('.') {
                    all.insert(whole.clone());
                }
                below.paths(&whole, all);
            }
        }
    }

    /// A value that has every property.
    fn sample(&self) -> Value {
        let meant = self.meant();
        if let Some(first) = meant.iter().find_map(|part| part.schema["enum"].get(0)) {
            return first.clone();
        }
        let parts: Vec<(String, Part)> = meant.iter().flat_map(Part::parts).collect();
        if !parts.is_empty() {
            if parts[0].0 == "[]" {
                return json!([parts[0].1.sample()]);
            }
            let fields = parts.iter().map(|(step, part)| match step.strip_prefix('.') {
                Some(name) => (name.to_owned(), part.sample()),
                None => ("key".to_owned(), part.sample()),
            });
            return Value::Object(fields.filter(|(_, value)| !value.is_null()).collect());
        }
        let word = |key: &str| meant.iter().find_map(|part| part.schema[key].as_str().map(str::to_owned));
        match (word("type").as_deref(), word("pattern")) {
            (_, Some(pattern)) if pattern.contains("CAP_") => json!("CAP_KILL"),
            (_, Some(pattern)) if pattern.contains("RLIMIT_") => json!("RLIMIT_CPU"),
            (_, Some(pattern)) if pattern.starts_with("^[") => json!(pattern[2..3]),
            (Some("integer" | "number"), _) => json!(1),
            (Some("boolean"), _) => json!(true),
            (Some("array"), _) => json!([]),
            (Some("object"), _) => json!({}),
            (Some(_), _) => json!("0"),
            (None, _) => Value::Null,
        }
    }
}

fn whole() -> Part {
    Part { file: "config-schema.json".to_owned(), schema: json!({"$ref": "config-schema.json"}) }
}

/// Whether a row's property stands for a path.
fn stands_for(row: &str, path: &str) -> bool {
    let mut rest = path;
    let mut parts = row.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    for part in parts {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        // The longest word first: `*Mappings` ends with what follows.
        let Some(at) = (0..=end).rev().find(|at| rest[*at..].starts_with(part) && (!part.is_empty() || *at == end))
        else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn every_property_of_the_schema_has_a_row_and_every_row_a_property() {
    let mut paths = BTreeSet::new();
    whole().paths("", &mut paths);
    assert!(paths.len() > 200, "{}", paths.len());
    let row = |line: &'static str| line.strip_prefix("| `").and_then(|rest| rest.split_once("` | "));
    let rows: Vec<(&str, &str)> = TABLE.lines().filter_map(row).collect();
    let without_row: Vec<_> = paths.iter().filter(|path| !rows.iter().any(|(row, _)| stands_for(row, path))).collect();
    assert!(without_row.is_empty(), "no row in docs/fields.md: {without_row:?}");
    let without_property: Vec<_> =
        rows.iter().filter(|(row, _)| !paths.iter().any(|path| stands_for(row, path))).collect();
    assert!(without_property.is_empty(), "no such property: {without_property:?}");
}

#[cfg(feature = "internals")]
#[test]
fn the_types_that_a_configuration_is_read_by_know_every_property() {
    let mut sample = whole().sample();
    // The schema has any string there; the types have one of five letters, and names.
    sample["linux"]["resources"]["devices"][0]["type"] = json!("a");
    for (_, set) in sample["process"]["capabilities"].as_object_mut().expect("sets") {
        *set = json!(["CAP_KILL"]);
    }
    assert_eq!(runb_core::spec::unknown(&sample), Vec::<String>::new());
    let file = std::env::temp_dir().join(format!("runb-sample-{}.json", std::process::id()));
    std::fs::write(&file, sample.to_string()).expect("write");
    let read = runb_core::spec::load_spec(&file);
    std::fs::remove_file(&file).expect("unlink");
    read.expect("the sample is of the right types");
    sample["linux"]["fromTheFuture"] = json!(1);
    assert_eq!(runb_core::spec::unknown(&sample), ["linux.fromTheFuture"]);
}

#[test]
fn plan_strict_lists_all_at_once_what_is_for_nobody_here() {
    in_modes(V2, |t| {
        t.runb_only("peers have no such verb");
        let strict = |bundle: &Bundle<'_>| {
            bundle.write();
            t.call(["plan", "--strict", "--bundle", bundle.dir().to_str().expect("a path")])
        };
        // Its ambient set is odd, and warned about.
        let plain = || t.bundle().spec(|spec| spec["process"]["capabilities"]["ambient"] = json!([]));
        let outcome = strict(&plain());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
        let bundle = plain().spec(|spec| {
            spec["fromTheFuture"] = json!({"a": 1});
            spec["process"]["zero"] = json!(0);
            spec["windows"] = json!({"layerFolders": ["c"]});
            spec["process"]["rlimits"] = json!([
                {"type": "RLIMIT_CPU", "soft": 2, "hard": 1},
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
                {"type": "RLIMIT_DATA", "soft": 2, "hard": 1},
            ]);
            spec["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_NONE"]);
            spec["linux"]["sysctl"] = json!({"kernel.hostname": "x", "net.ipv4.ip_forward": "1"});
            spec["linux"]["intelRdt"] = json!({"closID": "a"});
            spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_NONE"});
            spec["linux"]["netDevices"] = json!({"a/b": {}});
        });
        let outcome = strict(&bundle);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        for (place, text) in [
            ("windows: ", "another platform"),
            ("fromTheFuture: ", "does not know it"),
            ("process.zero: ", "does not know it"),
            ("linux.memoryPolicy.mode: ", "MPOL_NONE"),
            ("process.rlimits[0]: ", "above hard limit"),
            ("process.rlimits[2]: ", "above hard limit"),
            ("linux.sysctl[kernel.hostname]: ", "hostname"),
            ("linux.intelRdt: ", "not enabled"),
            ("linux.netDevices[a/b]: ", "invalid network device name"),
            ("process.capabilities.bounding: ", "CAP_NONE"),
        ] {
            let found = lines.iter().any(|line| line.starts_with(place) && line.contains(text));
            assert!(found, "{place}{text}: {lines:#?}");
        }
        assert_eq!(lines.len(), 10, "{lines:#?}");
        let json = t.call(["plan", "--strict", "--json", "--bundle", bundle.dir().to_str().expect("a path")]).json();
        assert_eq!(json.as_array().map(Vec::len), Some(10));
    });
}
