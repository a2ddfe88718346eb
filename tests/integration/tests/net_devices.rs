//! linux.netDevices: what comes into the container's network namespace with a device, and that a launch which fails puts it back
//! as it was.
//!
//! Each test has a network namespace of its own for the host's, where it makes its devices.

use std::process::Command;

use runb_tests::*;

/// Begins a network namespace that stands for the host's; the runtime is called in it.
fn host_of_its_own(t: &Test) {
    t.runb_only("Debian's peers do not know linux.netDevices");
    t.needs_program("ip");
    t.needs_program("nsenter");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
}

/// `ip ARGS`, here.
#[track_caller]
fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A device of a kind that has everything: `dummy`, which not every kernel has, or a tap.
fn make(t: &Test, name: &str) {
    let made = |args: &[&str]| Command::new("ip").args(args).output().expect("ip").status.success();
    if !made(&["link", "add", name, "type", "dummy"]) && !made(&["tuntap", "add", name, "mode", "tap"]) {
        t.skip("a kernel without devices to make");
    }
}

/// What `ip -j -d address` says of the devices in the network namespace of a process, but for what is not the device's own.
#[track_caller]
fn devices(pid: impl std::fmt::Display) -> Vec<Value> {
    let output = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-n", "ip", "-j", "-d", "address"])
        .output()
        .expect("nsenter");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let own = all.into_iter().filter(|device| device["ifname"] != "lo" && device["link_type"] != "sit");
    own.map(|mut device| {
        // Where it lies, and what it is doing. An address of the link alone is the kernel's.
        let fields = device.as_object_mut().expect("an object");
        fields.retain(|key, _| {
            !["ifindex", "operstate", "qdisc", "link_netnsid", "inet6_addr_gen_mode"].contains(&key.as_str())
        });
        let addresses = device["addr_info"].as_array_mut().expect("addresses");
        addresses.retain(|address| address["scope"] != "link");
        for address in addresses {
            let fields = address.as_object_mut().expect("an object");
            fields.remove("tentative");
            if fields.contains_key("dynamic") {
                fields.retain(|key, _| !key.ends_with("_life_time"));
            }
        }
        device
    })
    .collect()
}

#[track_caller]
fn here() -> Vec<Value> {
    devices(nix::unistd::gettid())
}

/// Addresses of every form that `ip` knows.
fn give_addresses(name: &str) {
    for address in [
        "10.7.0.1/24 brd +",
        "10.7.0.2/24",
        "10.8.0.1/32",
        "10.9.0.1 peer 10.9.0.2/32",
        &format!("10.10.0.1/16 label {name}:1"),
        "10.11.0.1/24 noprefixroute",
        "10.12.0.1/24 metric 77",
        "10.13.0.1/24 preferred_lft 0",
        "fd07::1/64 nodad",
        "fd08::1/128 nodad noprefixroute",
    ] {
        ip(&format!("address add {address} dev {name}"));
    }
    // What stays behind: not everywhere valid, not for ever.
    ip(&format!("address add 127.0.0.33/8 dev {name} scope host"));
    ip(&format!("address add 10.14.0.1/24 dev {name} valid_lft 1000 preferred_lft 1000"));
}

/// A device under another name, with the addresses that go with it.
fn renamed(mut device: Value, name: &str) -> Value {
    device["ifname"] = json!(name);
    let addresses = device["addr_info"].as_array_mut().expect("addresses");
    addresses.retain(|address| address["scope"] == "global" && address["dynamic"].is_null());
    for address in addresses {
        if let Some(label) = address["label"].as_str() {
            address["label"] = json!(label.replacen("dev0", name, 1));
        }
    }
    device
}

/// A device with its flags in an order, and without those of a carrier, which nobody sets.
fn sorted(mut device: Value) -> Value {
    let flags = device["flags"].as_array_mut().expect("flags");
    flags.retain(|flag| flag != "LOWER_UP" && flag != "NO-CARRIER");
    flags.sort_by_key(|flag| flag.as_str().map(str::to_owned));
    device
}

fn with_up(mut device: Value) -> Value {
    device["flags"].as_array_mut().expect("flags").push(json!("UP"));
    sorted(device)
}

#[test]
fn a_device_comes_with_its_addresses_its_mtu_its_hardware_address_and_its_flags_and_is_up() {
    in_modes(LIFECYCLE, |t| {
        host_of_its_own(t);
        for (name, entry) in [("dev0", json!({})), ("inside", json!({"name": "inside"}))] {
            make(t, "dev0");
            ip("link set dev0 mtu 1789 address 02:11:22:33:44:55 promisc on");
            give_addresses("dev0");
            let [before] = &here()[..] else { panic!("one device") };
            let container = t.bundle().set("/linux/netDevices", json!({"dev0": entry})).idle().create();
            let inside = devices(container.pid());
            assert_eq!(here(), Vec::<Value>::new());
            assert_eq!(inside.len(), 1);
            assert_eq!(sorted(inside[0].clone()), with_up(renamed(before.clone(), name)));
            container.start().ok();
            container.delete_force().ok();
        }
    });
}

#[test]
fn what_is_in_the_container_sees_the_device_and_sysctls_are_set_for_it() {
    in_modes(V2, |t| {
        host_of_its_own(t);
        // An end of a pair: the other one stays.
        ip("link add dev0 type veth peer name peer0");
        ip("address add 10.7.0.1/24 dev dev0");
        let bundle = t
            .bundle()
            .set("/linux/netDevices", json!({"dev0": {"name": "net1"}}))
            .spec(|spec| spec["linux"]["sysctl"] = json!({"net.ipv4.conf.net1.log_martians": "1"}));
        let outcome = bundle.sh("ip address show dev net1; cat /proc/sys/net/ipv4/conf/net1/log_martians").run().ok();
        assert!(outcome.stdout.contains("10.7.0.1/24") && outcome.stdout.ends_with("\n1\n"), "{outcome:?}");
    });
}

#[test]
fn a_template_gets_the_next_number_beside_a_device_of_the_same_index() {
    in_modes(V2, |t| {
        host_of_its_own(t);
        let holder = t.bundle().idle().create();
        let within = |args: &str| {
            let pid = holder.pid().to_string();
            let args = ["-t", &pid, "-n", "ip"].into_iter().chain(args.split(' '));
            assert!(Command::new("nsenter").args(args).status().expect("nsenter").success());
        };
        for name in ["dev0", "dev1"] {
            make(t, name);
            ip(&format!("address add 10.7.0.{}/24 dev {name}", &name[3..]));
        }
        // In a new namespace both have the indices 2 and 3.
        within("link add index 2 name eth0 type bridge");
        within("link add index 3 name eth7 type bridge");
        let entries = json!({"dev0": {"name": "eth%d"}, "dev1": {"name": "eth%d"}});
        let path = format!("/proc/{}/ns/net", holder.pid());
        let container = t.bundle().join_namespace("network", &path).set("/linux/netDevices", entries).idle().create();
        let mut inside: Vec<_> = devices(container.pid())
            .into_iter()
            .filter(|device| device["addr_info"] != json!([]))
            .map(|device| format!("{} {}", device["ifname"], device["addr_info"][0]["local"]))
            .collect();
        inside.sort();
        assert_eq!(inside, [r#""eth1" "10.7.0.0""#, r#""eth2" "10.7.0.1""#]);
        container.delete_force().ok();
        holder.delete_force().ok();
    });
}

#[test]
fn a_device_stays_in_a_namespace_that_the_container_has_joined() {
    in_modes(V2, |t| {
        host_of_its_own(t);
        let holder = t.bundle().idle().create();
        make(t, "dev0");
        let path = |name: &str| format!("/proc/{}/ns/{name}", holder.pid());
        let bundle = t.bundle().join_namespace("network", &path("net")).join_namespace("pid", &path("pid"));
        let container = bundle.set("/linux/netDevices", json!({"dev0": {}})).idle().create();
        let pid = container.pid();
        container.start().ok();
        container.delete_force().ok();
        // The first process of a pid namespace does not end before the others are gone.
        container.reap(pid);
        assert_eq!(devices(holder.pid())[0]["ifname"], "dev0");
        assert_eq!(here(), Vec::<Value>::new());
        holder.delete_force().ok();
    });
}

#[test]
fn a_device_comes_into_a_user_namespace() {
    in_modes(V2, |t| {
        host_of_its_own(t);
        make(t, "dev0");
        ip("address add 10.7.0.1/24 dev dev0");
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        let bundle = t.bundle().writable();
        for path in [bundle.dir(), &bundle.rootfs(), &bundle.share_dir()] {
            std::os::unix::fs::chown(path, Some(100_000), Some(100_000)).expect("chown");
        }
        let bundle = bundle.set("/linux/netDevices", json!({"dev0": {}})).spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
            let mounts = spec["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| !["proc", "sysfs", "cgroup"].iter().any(|typ| mount["type"] == *typ));
        });
        let container = bundle.idle().create();
        assert_eq!(devices(container.pid())[0]["addr_info"][0]["local"], "10.7.0.1");
        container.delete_force().ok();
    });
}

#[test]
fn what_cannot_be_moved_is_an_error_with_its_place_and_everything_is_as_it_was() {
    in_modes(LIFECYCLE, |t| {
        host_of_its_own(t);
        let holder = t.bundle().idle().create();
        make(t, "dev0");
        make(t, "dev1");
        ip("link property add dev dev0 altname other");
        ip("link set dev0 up");
        give_addresses("dev0");
        let (before, theirs) = (here(), devices(holder.pid()));
        let refused = |entries: Value, joined: bool, texts: &[&str]| {
            let path = format!("/proc/{}/ns/net", holder.pid());
            let bundle = t.bundle().set("/linux/netDevices", entries);
            let bundle = if joined { bundle.join_namespace("network", &path) } else { bundle };
            bundle.idle().try_create().fails_with(texts);
            assert_eq!(here(), before);
            assert_eq!(devices(holder.pid()), theirs);
        };
        let missing = "linux.netDevices[none]: link not found for interface none on runtime namespace: no such device";
        refused(json!({"dev0": {}, "none": {}}), false, &[missing, "ENODEV"]);
        let twice = "linux.netDevices[other]: other is another name of the device of linux.netDevices[dev0]";
        refused(json!({"dev0": {}, "other": {"name": "x"}}), false, &[twice]);
        let taken = "linux.netDevices[dev1]: there is a network device lo in the container's network namespace already";
        refused(json!({"dev0": {}, "dev1": {"name": "lo"}}), false, &[taken, "EEXIST"]);
        refused(json!({"dev0": {}, "dev1": {"name": "lo"}}), true, &[taken]);
        refused(json!({"lo": {"name": "x"}}), false, &["linux.netDevices[lo]: move the network device lo"]);
        // One that the kernel refuses after another was moved.
        let pattern = "linux.netDevices[dev1]: move the network device dev1, in the container x%d%d";
        refused(json!({"dev0": {}, "dev1": {"name": "x%d%d"}}), true, &[pattern, "EINVAL"]);
        let bundle = t.bundle().without_namespace("network").set("/linux/netDevices", json!({"dev0": {}}));
        bundle.try_create().fails_with(&["unable to move network devices without a NET namespace"]);
        holder.delete_force().ok();
    });
}

#[test]
fn a_device_of_a_launch_that_fails_is_put_back_as_it_was() {
    in_modes(LIFECYCLE, |t| {
        host_of_its_own(t);
        let holder = t.bundle().idle().create();
        for up in [false, true] {
            make(t, "dev0");
            ip("link set dev0 mtu 1400");
            if up {
                ip("link set dev0 up");
            }
            give_addresses("dev0");
            let before = here();
            for joined in [false, true] {
                for verb in ["create", "run"] {
                    let path = format!("/proc/{}/ns/net", holder.pid());
                    let bundle = t.bundle().set("/linux/netDevices", json!({"dev0": {"name": "inside"}}));
                    let bundle = if joined { bundle.join_namespace("network", &path) } else { bundle };
                    let bundle = bundle.args(["/no/such/command"]);
                    t.finish(bundle.write().command(verb, &[])).fails_with(&["no such file"]);
                    assert_eq!(here(), before, "{verb}, joined: {joined}, up: {up}");
                }
            }
            ip("link delete dev0");
        }
        holder.delete_force().ok();
    });
}

#[test]
fn a_device_of_a_create_that_was_killed_is_put_back_by_delete() {
    in_modes(V2, |t| {
        host_of_its_own(t);
        let holder = t.bundle().idle().create();
        make(t, "dev0");
        ip("link set dev0 up");
        give_addresses("dev0");
        let before = here();
        let path = format!("/proc/{}/ns/net", holder.pid());
        let kill = json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID"]});
        for name in ["inside", "eth%d"] {
            let bundle = t.bundle().join_namespace("network", &path).hook("createRuntime", kill.clone());
            let bundle = bundle.set("/linux/netDevices", json!({"dev0": {"name": name}})).idle();
            let outcome = bundle.try_create();
            assert!(outcome.code != 0 && here().is_empty(), "{outcome:?}");
            t.call(["delete", "--force", bundle.id()]).ok();
            assert_eq!(here(), before, "{name}");
        }
        holder.delete_force().ok();
    });
}
