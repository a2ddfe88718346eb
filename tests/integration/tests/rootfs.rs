//! What a root filesystem may be, and how mounts pass between it and the host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use runb_tests::squash::Squashed;
use runb_tests::*;

/// The user that the root of a container with a user namespace is on the host.
const OWNER: u32 = 100_000;

fn in_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let map = json!([{"containerID": 0, "hostID": OWNER, "size": 65536}]);
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

#[test]
fn a_root_filesystem_that_root_may_not_look_into_is_opened_as_the_root_of_the_user_namespace() {
    in_modes(ALL, |t| {
        t.runb_only("the peers look as the host's root");
        for hooks in [json!([]), json!([{"path": "/bin/true"}])] {
            let bundle = in_user_namespace(t.bundle().with_id(&t.name("q")));
            let place = t.dir().join(t.name("squashed"));
            fs::create_dir(&place).expect("make a directory");
            let Ok(squashed) = Squashed::mount(bundle.dir(), &place, OWNER) else { t.skip("no FUSE here") };
            let denied = fs::metadata(place.join("rootfs")).expect_err("root may not look");
            assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
            let bundle = bundle.set("/root/path", json!(place.join("rootfs"))).spec(|spec| {
                spec["hooks"] = json!({"createRuntime": hooks});
            });
            let script = "grep ' / [^ ]* .*- fuse ' /proc/self/mountinfo | wc -l; stat -c %u /etc/passwd; id -u";
            let outcome = bundle.sh(script).run().ok();
            assert_eq!(outcome.stdout, "1\n0\n0\n", "{outcome:?}");
            squashed.end();
        }
    });
}

#[test]
fn a_root_filesystem_that_nobody_may_look_into_is_named() {
    in_modes(LIFECYCLE, |t| {
        for bundle in [t.bundle(), in_user_namespace(t.bundle().with_id(&t.name("q")))] {
            let place = t.dir().join(t.name("squashed"));
            fs::create_dir(&place).expect("make a directory");
            let Ok(squashed) = Squashed::mount(bundle.dir(), &place, OWNER + 1) else { t.skip("no FUSE here") };
            let outcome = bundle.set("/root/path", json!(place.join("rootfs"))).try_create();
            assert_ne!(outcome.code, 0, "{outcome:?}");
            if t.is(&[Kind::Runb]) {
                outcome.fails_with(&["root.path", "permission denied", "EACCES"]);
            }
            squashed.end();
        }
    });
}
