//! Names that lead elsewhere: ids, cgroups, and state that is not what the runtime wrote.

use std::fs;
use std::os::unix::fs::symlink;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless};

#[test]
fn an_id_is_a_name_and_no_path() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        for id in ["", ".", "..", "a/b", "../canary/dir", "/tmp", "a b", "a\nb", "é", &"a".repeat(2000)] {
            let outcome = t.bundle().with_id(id).try_create();
            assert_ne!(outcome.code, 0, "{id:?}: {outcome:?}");
            canary.is_unharmed(id);
        }
        t.bundle().args(["true"]).run().ok();
    });
}

#[test]
fn a_link_in_the_place_of_a_containers_state_is_not_followed() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        fs::create_dir_all(t.root()).expect("make a directory");
        let bundle = t.bundle();
        symlink(canary.dir(), t.root().join(bundle.id())).expect("a link");
        let outcome = bundle.try_create();
        assert_ne!(outcome.code, 0, "{outcome:?}");
        canary.is_unharmed("create");
        let _ = t.call(["delete", "--force", bundle.id()]);
        canary.is_unharmed("delete");
        fs::remove_file(t.root().join(bundle.id())).ok();
        bundle.args(["true"]).run().ok();
    });
}

#[test]
fn a_cgroup_path_stays_below_the_hierarchies() {
    in_modes(ALL, |t| {
        let canary = Canary::new(t);
        let up = format!("/../../../../..{}/new", canary.dir().display());
        for path in [up.as_str(), "../../../../../../tmp/x", "/..", "/a\nb"] {
            let bundle = t.bundle().with_id(&t.name("x")).set("/linux/cgroupsPath", json!(path));
            refused_or_harmless(&bundle.args(["true"]).run());
            canary.is_unharmed(path);
        }
        t.bundle().args(["true"]).run().ok();
    });
}
