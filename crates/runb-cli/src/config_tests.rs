//! The sources of the settings, and which of them wins.

use super::*;

fn settings(toml: Option<&str>, environment: &Environment, global: &Global) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runb.toml");
    if let Some(text) = toml {
        std::fs::write(&file, text).unwrap();
    }
    Settings::read(global, environment, &file)
}

#[test]
fn it_is_on_when_nothing_is_configured() {
    let settings = settings(None, &Environment::default(), &Global::default());
    let lost = Some("/run".into());
    assert_eq!(settings, Settings { path: Some("/var/log/runb.log".into()), lost, ..Settings::default() });
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let toml = "[invocation-log]\npath = \"/file\"\nformat = \"json\"\n";
    let mut environment = Environment::default();
    let mut global = Global::default();
    let path = |environment: &_, global: &_| settings(Some(toml), environment, global).path.unwrap();
    assert_eq!(path(&environment, &global), Path::new("/file"));
    environment.runb_log = Some("/environment".into());
    assert_eq!(path(&environment, &global), Path::new("/environment"));
    global.invocation_log = Some("/flag".into());
    assert_eq!(path(&environment, &global), Path::new("/flag"));
    assert_eq!(settings(Some(toml), &environment, &global).format, Format::Json);
    global.invocation_log_format = Some(Format::Text);
    assert_eq!(settings(Some(toml), &environment, &global).format, Format::Text);
}

#[test]
fn each_source_can_turn_it_off() {
    let off = Some("[invocation-log]\nenabled = false\n");
    assert_eq!(settings(off, &Environment::default(), &Global::default()).path, None);
    let environment = Environment { runb_log: Some("off".into()), ..Environment::default() };
    assert_eq!(settings(None, &environment, &Global::default()).path, None);
    let global = Global { no_invocation_log: true, ..Global::default() };
    assert_eq!(settings(None, &Environment::default(), &global).path, None);
}

#[test]
fn what_is_no_file_is_noted_and_not_read() {
    let settings = Settings::read(&Global::default(), &Environment::default(), Path::new("/dev/zero"));
    assert_eq!(settings.notes, ["/dev/zero: it is no regular file"]);
}

#[test]
fn a_wrong_file_is_noted_with_its_line_and_otherwise_skipped() {
    for (toml, line, word) in [
        ("[invocation-log]\npath = 5\n", "line 2", "string"),
        ("[invocation-log]\n\nfromat = \"json\"\n", "line 3", "fromat"),
        ("[invocation-log\n", "line 1", ""),
    ] {
        let settings = settings(Some(toml), &Environment::default(), &Global::default());
        assert_eq!(settings.path, Some("/var/log/runb.log".into()));
        assert!(settings.notes[0].contains(line) && settings.notes[0].contains(word), "{:?}", settings.notes);
    }
}

#[test]
fn drop_ins_are_taken_by_their_names_and_what_they_add_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runb.toml");
    std::fs::write(&file, "[invocation-log]\nformat = \"json\"\nmax-size = \"1M\"\n").unwrap();
    let drop_ins = folder.path().join("runb.toml.d");
    std::fs::create_dir(&drop_ins).unwrap();
    let write = |name: &str, text: &str| std::fs::write(drop_ins.join(name), text).unwrap();
    write("20-b.toml", "[invocation-log]\nmax-size = 5\n[[invocation-log.debug]]\nverb = \"kill\"\n");
    write(
        "10-a.toml",
        "[invocation-log]\nmax-size = 7\nmode = \"0640\"\ngroup = 4\n[[invocation-log.debug]]\nid = \"web\"\n",
    );
    write("30-c.conf", "[invocation-log]\nmax-size = 9\n");
    let settings = Settings::read(&Global::default(), &Environment::default(), &file);
    assert_eq!(settings.notes, Vec::<String>::new());
    assert_eq!((settings.format, settings.max_size, settings.mode), (Format::Json, 5, Some(0o640)));
    assert_eq!((settings.debug.len(), settings.group), (2, Some(Group::Id(4))));
}

#[test]
fn what_makes_no_sense_in_a_file_is_noted() {
    let toml = "[invocation-log]\nmode = \"999\"\nmax-size = \"much\"\ngroup = \"no such group\"\n";
    let settings = settings(Some(toml), &Environment::default(), &Global::default());
    let all = settings.notes.join("\n");
    assert!(all.contains("mode is") && all.contains("max-size is") && all.contains("group is"), "{all}");
}

#[test]
fn debug_is_for_the_calls_of_which_all_that_is_given_holds() {
    let annotations = HashMap::from([("pod".to_owned(), "shop".to_owned())]);
    let wanted = |id: Option<&str>, annotation: Option<&str>, verb: Option<&str>| {
        let text = |text: &str| text.to_owned();
        let wanted = Wanted { id: id.map(text), annotation: annotation.map(text), verb: verb.map(text) };
        wanted.holds(Some("create"), Some("web1"), &annotations)
    };
    assert!(wanted(Some("web"), Some("pod=shop"), Some("create")) && wanted(None, Some("pod"), None));
    assert!(!wanted(Some("db"), None, None) && !wanted(None, None, Some("start")));
    assert!(!wanted(None, Some("pod=other"), None) && !wanted(Some("web"), Some("none"), None));
}
