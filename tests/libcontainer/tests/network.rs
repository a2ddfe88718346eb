//! `network::{link, address}` against the kernel, each test in a network namespace of its own.

use std::os::fd::AsRawFd;
use std::process::Command;

use libcontainer::network::NetworkError;
use libcontainer::network::address::AddressClient;
use libcontainer::network::cidr::CidrAddress;
use libcontainer::network::link::LinkClient;
use libcontainer::network::wrapper::create_network_client;
use nix::sched::{CloneFlags, unshare};

/// `ip ARGS` in the calling thread's network namespace.
fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("ip");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn with_a_device() -> (LinkClient, AddressClient) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    ip("tuntap add dev0 mode tap");
    let link = LinkClient::new(create_network_client()).expect("a client");
    (link, AddressClient::new(create_network_client()).expect("a client"))
}

/// Another network namespace, held open.
fn another() -> std::fs::File {
    let open = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        std::fs::File::open("/proc/thread-self/ns/net").expect("open")
    };
    std::thread::spawn(open).join().expect("a namespace")
}

#[test]
fn a_link_is_found_moved_renamed_and_brought_up() {
    let (mut link, _) = with_a_device();
    let index = link.get_by_name("dev0").expect("a link").header.index;
    link.set_up(index).expect("up");
    assert!(ip("link show dev0").contains(",UP"));
    link.set_down(index).expect("down");
    let namespace = another();
    link.set_ns_fd(index, "inside", namespace.as_raw_fd()).expect("moved");
    assert!(!ip("link").contains("dev0"));
}

#[test]
fn it_fails_an_error_has_its_errno_in_a_text_alone() {
    let (mut link, _) = with_a_device();
    match link.get_by_name("none").expect_err("there is none") {
        NetworkError::IO(error) => {
            assert_eq!((error.raw_os_error(), error.to_string().as_str()), (None, "Netlink error: -19"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn it_fails_an_address_comes_without_its_peer_its_label_its_metric_and_its_flags() {
    let (mut link, mut address) = with_a_device();
    let index = link.get_by_name("dev0").expect("a link").header.index;
    for form in [
        "10.9.0.1 peer 10.9.0.2/32",
        "10.10.0.1/16 label dev0:1",
        "10.11.0.1/24 noprefixroute",
        "10.12.0.1/24 metric 77",
    ] {
        ip(&format!("address add {form} dev dev0"));
    }
    let found = address.get_by_index(index).expect("addresses");
    assert_eq!(found.len(), 4);
    ip("address flush dev dev0");
    for message in &found {
        let CidrAddress { address: ip, prefix_len } = CidrAddress::from(message);
        address.add(index, ip, prefix_len).expect("added");
    }
    let text = ip("address show dev dev0");
    for there in ["10.9.0.1/32", "10.10.0.1/16", "10.11.0.1/24", "10.12.0.1/24"] {
        assert!(text.contains(there), "{text}");
    }
    for lost in ["peer 10.9.0.2", "dev0:1", "noprefixroute", "metric 77"] {
        assert!(!text.contains(lost), "{lost}: libcontainer has learnt it:\n{text}");
    }
    // And has a broadcast address that nobody gave it.
    assert!(text.contains("10.10.0.1/16 brd 10.10.255.255"), "{text}");
}

#[test]
fn it_fails_a_device_whose_new_name_is_refused_is_moved_all_the_same() {
    let (mut link, _) = with_a_device();
    let index = link.get_by_name("dev0").expect("a link").header.index;
    let namespace = another();
    link.set_ns_fd(index, "x%d%d", namespace.as_raw_fd()).expect_err("it is no name");
    // Nothing tells the caller, and nothing moves it back.
    assert!(!ip("link").contains("dev0"));
}
