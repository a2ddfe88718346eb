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
    let outer =
        t.bundle().writable().sh(&format!("r='/share/runtime --root /tmp/state --no-invocation-log'; {script}"));
    fs::copy(t.runtime().path(), outer.share_dir().join("runtime")).expect("copy the runtime");
    outer
        .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}))
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

/// Masks on the procfs of the container.
fn masked(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/timer_list"]))
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
fn a_limit_beside_the_engines_own_processes_is_refused_by_its_reason_and_holds_where_they_have_gone_aside() {
    in_modes(V2, |t| {
        t.runb_only("the peers have other words");
        t.needs_controller("memory");
        let inner = inner(t).args(["cat", "/sys/fs/cgroup/memory.max"]);
        let inner = inner.set("/linux/resources/memory", json!({"limit": 64 << 20}));
        let run = "$r run --bundle /inner inside 2>&1";
        let refused = privileged(engines(t, &inner, run)).with_id(&t.name("b")).run();
        let words = "/sys/fs/cgroup has processes in it, and gives no controllers on";
        assert!(refused.code != 0 && refused.stdout.contains(words), "{refused:?}");
        // What others have spoilt already is told.
        let spoilt = format!("echo +pids >/sys/fs/cgroup/cgroup.subtree_control; {run}");
        let plain = inner.set("/linux/resources", json!({}));
        let refused = privileged(engines(t, &plain, &spoilt)).with_id(&t.name("s")).run();
        assert!(
            refused.code != 0 && refused.stdout.contains("its cgroup takes none, see cgroup.type there"),
            "{refused:?}"
        );
        let inner = plain.set("/linux/resources", json!({"memory": {"limit": 64 << 20}}));
        // As the images of Docker in Docker do.
        let aside = format!("mkdir /sys/fs/cgroup/init; echo 1 >/sys/fs/cgroup/init/cgroup.procs; {run}");
        let outcome = privileged(engines(t, &inner, &aside)).with_id(&t.name("a")).run().ok();
        assert!(outcome.stdout.lines().any(|line| line == "67108864"), "{outcome:?}");
    });
}

/// Of a container that an engine makes without any flag.
fn common(bundle: Bundle<'_>) -> Bundle<'_> {
    let names = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]);
    bundle.spec(|spec| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = names.clone();
        }
        spec["process"]["capabilities"]["ambient"] = json!([]);
    })
}

fn unmasked(bundle: Bundle<'_>) -> Bundle<'_> {
    bundle.spec(|spec| {
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    })
}

#[test]
fn in_a_container_with_the_rights_of_any_the_masks_of_proc_are_named_with_the_engines_flag_that_helps() {
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers say EPERM");
        let inner = inner_of_a_user(t);
        let engine =
            |name: &str| common(engines(t, &inner, "$r run --bundle /inner inside 2>&1")).with_id(&t.name(name));
        let masked = engine("m").run();
        assert_ne!(masked.code, 0, "{masked:?}");
        for words in
            ["mounts[0] (/proc)", "not whole, /proc/", "covered", "--security-opt systempaths=unconfined", "procMount"]
        {
            assert!(masked.stdout.contains(words), "{words}: {masked:?}");
        }
        // And that flag is the one.
        let unmasked = unmasked(engine("u")).run().ok();
        assert!(unmasked.stdout.lines().any(|line| line == "0"), "{unmasked:?}");
    });
}

#[test]
fn in_a_container_without_the_right_to_map_root_or_with_few_ids_the_error_says_so() {
    in_modes(V2, |t| {
        t.runb_only("the peers say EPERM");
        let inner = inner_of_a_user(t);
        // What the runtime's own template gives.
        let outer = unmasked(engines(t, &inner, "$r run --bundle /inner inside 2>&1")).with_id(&t.name("f"));
        let outcome = outer.run();
        let words = "/uid_map (0 is mapped by who has CAP_SETFCAP, since Linux 5.12): operation not permitted (EPERM)";
        assert!(outcome.code != 0 && outcome.stdout.contains(words), "{outcome:?}");

        let inner = inner.set("/linux/uidMappings/0/size", json!(70_000));
        let outer = privileged(engines(t, &inner, "$r run --bundle /inner inside 2>&1")).with_id(&t.name("i"));
        let outcome = remapped(outer).run();
        let words = "the runtime's own user namespace has not all of 0 to 69999 in one range of /proc/self/uid_map";
        assert!(outcome.code != 0 && outcome.stdout.contains(words), "{outcome:?}");
    });
}

#[test]
fn masks_of_a_privileged_container_are_in_the_way_of_user_namespaces_alone() {
    in_modes(V2, |t| {
        t.runb_only("the peers say EPERM");
        let engine = |inner: &Bundle<'_>| masked(privileged(engines(t, inner, "$r run --bundle /inner inside 2>&1")));
        let outcome = engine(&inner(t).args(["id", "-u"])).with_id(&t.name("p")).run().ok();
        assert!(outcome.stdout.lines().any(|line| line == "0"), "{outcome:?}");
        let refused = engine(&inner_of_a_user(t)).with_id(&t.name("q")).run();
        assert!(refused.code != 0 && refused.stdout.contains("/proc/keys, /proc/timer_list covered"), "{refused:?}");
    });
}
