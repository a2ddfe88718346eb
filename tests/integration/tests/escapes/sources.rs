//! Where sources lie that are named by the path of the root filesystem on the host: in the container, whatever links it has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runb_tests::*;

use super::canary::{Canary, refused_or_harmless};

/// Shows what is mounted at /tmp, and changes it, if anything can be.
const HARM: &str = "ls /tmp; rm -rf /tmp/* /tmp/.[a-z]*; touch /tmp/new; chmod 777 /tmp; echo harm >/tmp";

fn bind(destination: &str, source: &Path) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]})
}

#[test]
fn a_source_in_the_root_filesystem_follows_no_link_of_the_image_or_a_volume_to_the_host() {
    in_modes(V2, |t| {
        t.runb_only("the peers look for it on the host");
        let canary = Canary::new(t);
        let volume = t.dir().join("volume");
        fs::create_dir(&volume).expect("make a directory");
        let links = [
            ("absolute", canary.dir()),
            ("up", Canary::upwards(&canary.dir()).into()),
            ("file", canary.file()),
            ("magic", "/proc/self/root".into()),
            ("cwd", "/proc/1/cwd".into()),
            ("loop", "loop".into()),
        ];
        let link = |dir: &Path| links.iter().for_each(|(name, to)| symlink(to, dir.join(name)).expect("a link"));
        link(&volume);
        for (name, _) in &links {
            for (place, hooks) in [("", json!([])), ("volume", json!([])), ("volume", json!([{"path": "/bin/true"}]))] {
                for kind in ["bind", "overlay"] {
                    let bundle = t.bundle().with_id(&t.name("x")).writable().rootfs_with(link);
                    let source = bundle.rootfs().join(place).join(name);
                    let mut mount = bind("/tmp", &source);
                    if kind == "overlay" {
                        mount["type"] = json!(kind);
                        mount["options"] = json!([format!("lowerdir={}", source.display())]);
                    }
                    let bundle = bundle.set("/hooks", json!({"createRuntime": hooks})).mount(bind("/volume", &volume));
                    let outcome = bundle.mount(mount).sh(HARM).run();
                    refused_or_harmless(&outcome);
                    assert!(!outcome.stdout.contains("ptmx"), "{place}/{name}, {kind}: {outcome:?}");
                    canary.is_unharmed(&format!("{place}/{name}, {kind}"));
                }
            }
        }
        for (place, shown) in [("etc", "passwd"), ("volume", "absolute")] {
            let bundle = t.bundle().with_id(&t.name("y")).writable().mount(bind("/volume", &volume));
            let source = bundle.rootfs().join(place);
            assert!(bundle.mount(bind("/tmp", &source)).args(["ls", "/tmp"]).run().ok().stdout.contains(shown));
        }
    });
}
