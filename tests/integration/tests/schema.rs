//! What runb prints by the specification's own schemas.

use jsonschema::{Retrieve, Uri, Validator};
use runb_tests::*;

/// Finds the schemas that others refer to, among the files of the specification.
struct Files;

const FILES: [(&str, &str); 5] = [
    ("features-schema.json", include_str!("../schema/features-schema.json")),
    ("features-linux.json", include_str!("../schema/features-linux.json")),
    ("state-schema.json", include_str!("../schema/state-schema.json")),
    ("defs.json", include_str!("../schema/defs.json")),
    ("defs-linux.json", include_str!("../schema/defs-linux.json")),
];

fn file(name: &str) -> Option<Value> {
    let (_, text) = FILES.iter().find(|file| file.0 == name)?;
    Some(serde_json::from_str(text).expect("a schema is JSON"))
}

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default();
        file(name).ok_or_else(|| format!("the specification has no schema {name}").into())
    }
}

/// To be called before the test counts descriptors: the crate's hash maps take /dev/urandom, and keep it.
fn schema(name: &str) -> Validator {
    let options = jsonschema::options().with_base_uri(format!("oci:///{name}")).with_retriever(Files);
    options.build(&file(name).expect("a schema of the specification")).expect("a schema")
}

/// The places where `output` is not as the schema wants it.
fn faults(schema: &Validator, output: &Value) -> Vec<String> {
    schema.iter_errors(output).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn features_are_as_the_schema_of_the_specification_has_them() {
    let schema = schema("features-schema.json");
    in_modes(V2, |t| {
        let outcome = t.call(["features"]);
        if t.is(&[Kind::Crun]) && outcome.stderr.contains("unknown command") {
            t.skip("this crun has no features");
        }
        let features = outcome.ok().json();
        assert_eq!(faults(&schema, &features), [""; 0]);

        // The schema is followed through its references: what is wrong below them is found.
        for (pointer, wrong) in [
            ("/ociVersionMin", json!(1)),
            ("/hooks", json!("prestart")),
            ("/linux/namespaces", json!(["none"])),
            ("/linux/capabilities", json!(["chown"])),
            ("/linux/cgroup/v2", json!("yes")),
            ("/linux/seccomp/actions", json!(["SCMP_ACT_NOTHING"])),
            ("/linux/seccomp/operators", json!(["SCMP_CMP_NOTHING"])),
            ("/linux/seccomp/archs", json!(["SCMP_ARCH_NOTHING"])),
            ("/linux/seccomp/knownFlags", json!(["SECCOMP_FILTER_FLAG_NOTHING"])),
            ("/linux/seccomp/supportedFlags", json!(["SECCOMP_FILTER_FLAG_NOTHING"])),
            ("/annotations", json!({"a": 1})),
        ] {
            let mut broken = features.clone();
            match broken.pointer_mut(pointer) {
                Some(value) => *value = wrong,
                None if t.is(&[Kind::Runb]) => panic!("{pointer} is not in the features"),
                None => continue,
            }
            let found = faults(&schema, &broken);
            assert!(found.iter().any(|fault| fault.starts_with(pointer)), "{pointer}: {found:?}");
        }
    });
}

#[test]
fn a_state_is_as_the_schema_of_the_specification_has_it() {
    let schema = schema("state-schema.json");
    in_modes(V2, |t| {
        let container = t.bundle().idle().set("/annotations", json!({"of": "the test"})).create();
        let state = container.state();
        assert_eq!(faults(&schema, &state), [""; 0]);
        container.start().ok();
        assert_eq!(faults(&schema, &container.state()), [""; 0]);
        container.delete_force().ok();
        let mut broken = state;
        broken["status"] = json!("asleep");
        assert_eq!(faults(&schema, &broken).len(), 1);
    });
}
