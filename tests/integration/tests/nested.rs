//! The runtime in a container, as Docker in Docker and CI's runners call it: in one that may do all, in one with a user namespace,
//! and in one with the rights of any container.

use std::fs;
use std::os::unix::fs::chown;

use runb_tests::*;

/// The capabilities that a privileged container has, of those that this process has.
fn all_capabilities() -> Value {
    const NAMES: [(u32, &str); 17] = [
        (0, "CAP_CHOWN"),
        (1, "CAP_DAC_OVERRIDE"),
        (2, "CAP_DAC_READ_SEARCH"),
        (3, "CAP_FOWNER"),
        (4, "CAP_FSETID"),
        (5, "CAP_KILL"),
        (6, "CAP_SETGID"),
        (7, "CAP_SETUID"),
        (8, "CAP_SETPCAP"),
        (10, "CAP_NET_BIND_SERVICE"),
        (12, "CAP_NET_ADMIN"),
        (18, "CAP_SYS_CHROOT"),
        (19, "CAP_SYS_PTRACE"),
        (21, "CAP_SYS_ADMIN"),
        (24, "CAP_SYS_RESOURCE"),
        (27, "CAP_MKNOD"),
        (31, "CAP_SETFCAP"),
    ];
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let held = u64::from_str_radix(held.trim(), 16).expect("a mask");
    NAMES.iter().filter(|(bit, _)| held >> bit & 1 == 1).map(|(_, name)| *name).collect()
}

/// The container to run `script` in: it finds the runtime as `$r`, and the bundle `inner` at /inner.
fn engines<'t>(t: &'t Test, inner: &Bundle<'_>, script: &str) -> Bundle<'t> {
    inner.write();
    let outer = t.bundle().writable().sh(&format!("r='/share/runtime --root /tmp/state --no-invocation-log'; {script}"));
    fs::copy(t.runtime().path(), outer.share_dir().join("runtime")).expect("copy the runtime");
    outer
        .mount(json!({"destination": "/inner", "type": "bind", "source": inner.dir(), "options": ["bind"]}))
        .spec(|spec| spec["process"]["noNewPrivileges"] = json!(false))
}

/// What `--privileged` adds.
fn privileged(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = all_capabilities();
        }
        spec["process"]["capabilities"]["ambient"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        for mount in spec["mounts"].as_array_mut().expect("mounts") {
            let Some(options) = mount["options"].as_array_mut() else { continue };
            options.retain(|option| option != "ro");
        }
    })
}

/// The user namespace of a remapped engine's containers.
fn remapped(bundle: Bundle<'_>) -> Bundle<'_> {
    for path in [bundle.dir(), &bundle.rootfs(), &bundle.share_dir()] {
        chown(path, Some(100_000), Some(100_000)).expect("chown");
    }
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    })
}

/// What the engine inside runs, without the directory that only the host has.
fn inner(t: &Test) -> Bundle<'_> {
    t.bundle().spec(|spec| drop(spec["mounts"].as_array_mut().expect("mounts").pop()))
}

/// As [`inner`], of an engine that has no right to mount.
fn inner_of_a_user(t: &Test) -> Bundle<'_> {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    inner(t).args(["id", "-u"]).spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["cgroupsPath"] = json!("");
        spec["linux"].as_object_mut().expect("linux").remove("resources");
        for mount in spec["mounts"].as_array_mut().expect("mounts") {
            let Some(options) = mount["options"].as_array_mut() else { continue };
            options.retain(|option| option != "gid=5");
        }
    })
}

/// The whole life of a container, and that nothing of it stays.
const LIFE: &str = "set -e; $r run --detach --bundle /inner ID; $r exec ID sh -c 'echo executed by $(id -u), $(wc -l </proc/self/uid_map) range'
    $r state ID | grep -o '\"status\": *\"[a-z]*\"' | tr -d ' '; echo $(find /sys/fs/cgroup -name ID | head -n 1 | wc -l) cgroup
    $r kill ID KILL; $r delete --force ID; echo $($r list -q | wc -l) left; find /sys/fs/cgroup -name ID";

#[test]
fn in_a_privileged_container_a_container_lives_from_create_to_delete() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers need libraries that the image has not");
        for user_namespace in [false, true] {
            // Nobody but the machine's root is given cgroups of version 1.
            let has_cgroups = !user_namespace || t.mode() == Mode::V2;
            let inner = inner(t).idle();
            let inner = if has_cgroups { inner } else { inner.set("/linux/cgroupsPath", json!("")) };
            let outer = privileged(engines(t, &inner, &LIFE.replace("ID", inner.id()))).with_id(&t.name("o"));
            let outer = if user_namespace { remapped(outer) } else { outer };
            let expected =
                format!("executed by 0, 1 range\n\"status\":\"running\"\n{} cgroup\n0 left\n", u8::from(has_cgroups));
            assert_eq!(outer.run().ok().stdout, expected, "user namespace: {user_namespace}");
        }
    });
}

#[test]
fn in_a_container_with_the_rights_of_any_the_masks_of_proc_are_named_with_the_engines_flag_that_helps() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers say EPERM");
        let inner = inner_of_a_user(t);
        let script = "$r run --bundle /inner inside 2>&1";
        let masked = engines(t, &inner, script).with_id(&t.name("m")).run();
        assert_ne!(masked.code, 0, "{masked:?}");
        for words in ["mounts[0] (/proc)", "/proc/kcore", "--security-opt systempaths=unconfined", "procMount"] {
            assert!(masked.stdout.contains(words), "{words}: {masked:?}");
        }
        // And that flag is the one.
        let unmasked = engines(t, &inner, script).with_id(&t.name("u")).spec(|spec| {
            spec["linux"]["maskedPaths"] = json!([]);
            spec["linux"]["readonlyPaths"] = json!([]);
        });
        let unmasked = unmasked.run().ok();
        assert!(unmasked.stdout.ends_with("0\n"), "{unmasked:?}");
    });
}

#[test]
fn a_privileged_container_whose_proc_has_masks_nests_one_without_a_user_namespace_only() {
    in_modes(V2, |t| {
        t.runb_only("the peers say EPERM");
        let masks = |bundle: Bundle<'_>| -> Bundle<'_> {
            bundle.spec(|spec| spec["linux"]["maskedPaths"] = json!(["/proc/kcore", "/proc/keys"]))
        };
        let plain = inner(t).args(["id", "-u"]);
        let outer = masks(privileged(engines(t, &plain, "$r run --bundle /inner inside"))).with_id(&t.name("p"));
        assert_eq!(outer.run().ok().stdout, "0\n");
        let outer = masks(privileged(engines(t, &plain, "$r run --bundle /inner inside 2>&1"))).with_id(&t.name("q"));
        let refused = remapped(outer).run();
        assert_ne!(refused.code, 0, "{refused:?}");
        assert!(refused.stdout.contains("/proc/kcore, /proc/keys covered"), "{refused:?}");
    });
}
