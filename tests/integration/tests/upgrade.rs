//! What an earlier version has created is the later one's to start, to execute in and to delete. `states` has a state as each version
//! wrote it. RUNB_BEFORE names an earlier binary, for the whole of it.

use std::fs;
use std::path::Path;

use runb_tests::*;

/// `live` with just the fields that are in `kept`: those that the earlier version wrote. What is null there is taken as it is: it
/// depends on the machine.
fn as_written_by(kept: &Value, live: &Value) -> Value {
    let (Value::Object(kept), Value::Object(live)) = (kept, live) else { return live.clone() };
    // The phase lies at a known place: the order is that of the kept text.
    kept.iter().filter_map(|(key, kept)| Some((key.clone(), as_written_by(kept, live.get(key)?)))).collect()
}

/// state.json as version `name` would have written it; the phase is its first field, as wide as the longest.
fn rewrite(folder: &Path, name: &str) {
    let kept = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("states").join(name)).expect("a kept state");
    let kept: Value = serde_json::from_slice(&kept).expect("JSON");
    let file = folder.join("state.json");
    let live: Value = serde_json::from_slice(&fs::read(&file).expect("read the state")).expect("JSON");
    let mut written = as_written_by(&kept, &live);
    let phase = written.as_object_mut().expect("an object").remove("phase");
    let rest = written.to_string();
    let text = match phase {
        Some(phase) => format!("{{\"phase\":{:<10},{}\n", phase.to_string(), &rest[1..]),
        None => rest + "\n",
    };
    assert_ne!(kept.as_object().expect("an object").len(), 0);
    fs::write(&file, text).expect("write the state");
}

#[test]
fn a_container_of_each_earlier_state_is_started_executed_in_and_deleted() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("states are each runtime's own");
        let states = Path::new(env!("CARGO_MANIFEST_DIR")).join("states");
        let mut names: Vec<_> =
            fs::read_dir(states).expect("the states").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert!(!names.is_empty());
        for name in names {
            let container = t.bundle().idle().create();
            rewrite(&t.root().join(container.id()), name.to_str().expect("text"));
            assert_eq!(container.status(), "created", "{name:?}");
            container.start().ok();
            let outcome = container.call("exec", &["sh", "-c", "echo inside"]).ok();
            assert_eq!(outcome.stdout, "inside\n");
            let pid = container.pid();
            container.kill(&["KILL"]).ok();
            container.reap(pid);
            container.delete().ok();
        }
    });
}

#[test]
fn a_state_of_a_newer_version_is_refused_by_its_number() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("states are each runtime's own");
        let container = t.bundle().idle().create();
        let file = t.root().join(container.id()).join("state.json");
        let text = fs::read_to_string(&file).expect("read the state");
        assert!(text.contains("\"version\":1,"), "{text}");
        fs::write(&file, text.replace("\"version\":1,", "\"version\":99,")).expect("write the state");
        container.call("state", &[]).fails_with(&["state.json is of version 99, which a newer runb has written"]);
        fs::write(&file, text).expect("write the state");
        container.delete_force().ok();
    });
}

#[test]
fn a_container_of_an_earlier_binary_is_started_executed_in_and_deleted() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("states are each runtime's own");
        let Some(before) = std::env::var_os("RUNB_BEFORE") else { t.skip("RUNB_BEFORE names no earlier binary") };
        let bundle = t.bundle().idle();
        bundle.write();
        let mut create = std::process::Command::new(before);
        create.args(bundle.command("create", &["--bundle", bundle.dir().to_str().expect("text")]).get_args());
        let created = t.finish(create);
        let container = bundle.container(created);
        assert_eq!(container.status(), "created");
        container.start().ok();
        container.call("exec", &["true"]).ok();
        let pid = container.pid();
        container.kill(&["KILL"]).ok();
        container.reap(pid);
        container.delete().ok();
    });
}
