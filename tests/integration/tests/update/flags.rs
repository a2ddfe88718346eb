//! Every flag of `update`: what the kernel has then, or why not.

use std::fs;
use std::path::{Path, PathBuf};

use runb_tests::*;

use super::of_version_1;

/// A file of a controller and its content.
type Is = (&'static str, &'static str, &'static str);

/// What comes of a flag in a mode: a file has this, or the place by which it is refused.
type Comes = Result<Is, &'static str>;

struct Row {
    flag: [&'static str; 2],
    v1: Comes,
    v2: Comes,
}

const fn row(flag: &'static str, value: &'static str, v1: Comes, v2: Comes) -> Row {
    Row { flag: [flag, value], v1, v2 }
}

/// In this order: quota and period, and memory and swap, are one limit each.
const FLAGS: &[Row] = &[
    row(
        "--memory",
        "64M",
        Ok(("memory", "memory.limit_in_bytes", "67108864")),
        Ok(("memory", "memory.max", "67108864")),
    ),
    row(
        "--memory-swap",
        "128M",
        Ok(("memory", "memory.memsw.limit_in_bytes", "134217728")),
        Ok(("memory", "memory.swap.max", "67108864")),
    ),
    row(
        "--memory-reservation",
        "32M",
        Ok(("memory", "memory.soft_limit_in_bytes", "33554432")),
        Ok(("memory", "memory.low", "33554432")),
    ),
    row("--kernel-memory", "16M", Err("linux.resources.memory.kernel"), Err("linux.resources.memory.kernel")),
    row(
        "--kernel-memory-tcp",
        "1M",
        Ok(("memory", "memory.kmem.tcp.limit_in_bytes", "1048576")),
        Err("linux.resources.memory.kernelTCP"),
    ),
    row("--cpu-period", "50000", Ok(("cpu", "cpu.cfs_period_us", "50000")), Ok(("cpu", "cpu.max", "max 50000"))),
    row("--cpu-quota", "20000", Ok(("cpu", "cpu.cfs_quota_us", "20000")), Ok(("cpu", "cpu.max", "20000 50000"))),
    row("--cpu-burst", "10000", Ok(("cpu", "cpu.cfs_burst_us", "10000")), Ok(("cpu", "cpu.max.burst", "10000"))),
    row("--cpu-share", "2048", Ok(("cpu", "cpu.shares", "2048")), Ok(("cpu", "cpu.weight", "174"))),
    row("--cpu-idle", "1", Ok(("cpu", "cpu.idle", "1")), Ok(("cpu", "cpu.idle", "1"))),
    row("--cpuset-cpus", "0", Ok(("cpuset", "cpuset.cpus", "0")), Ok(("cpuset", "cpuset.cpus", "0"))),
    row("--cpuset-mems", "0", Ok(("cpuset", "cpuset.mems", "0")), Ok(("cpuset", "cpuset.mems", "0"))),
    row("--pids-limit", "33", Ok(("pids", "pids.max", "33")), Ok(("pids", "pids.max", "33"))),
    row("--blkio-weight", "300", Ok(("blkio", "blkio.bfq.weight", "300")), Ok(("io", "io.bfq.weight", "300"))),
];

/// What a kernel with groups of real-time tasks has; others refuse it on version 1 as well.
const REALTIME: &[Row] = &[
    row(
        "--cpu-rt-period",
        "500000",
        Ok(("cpu", "cpu.rt_period_us", "500000")),
        Err("linux.resources.cpu.realtimePeriod"),
    ),
    row(
        "--cpu-rt-runtime",
        "1000",
        Ok(("cpu", "cpu.rt_runtime_us", "1000")),
        Err("linux.resources.cpu.realtimeRuntime"),
    ),
];

/// The directory in which a controller has the container, if it has it at all.
fn directory(t: &Test, controller: &str, id: &str) -> Option<PathBuf> {
    match t.mode() {
        Mode::V2 => {
            let dir = Path::new("/sys/fs/cgroup").join(id);
            let all = fs::read_to_string(dir.join("cgroup.controllers")).expect("the controllers");
            all.split_whitespace().any(|name| name == controller).then_some(dir)
        }
        _ => t.controller_dir(controller).map(|dir| dir.join(id)),
    }
}

#[test]
fn each_flag_is_in_the_kernel_or_refused_by_its_place() {
    in_modes(ALL, |t| {
        t.runb_only("the peers ignore some of them in silence");
        let container = t.bundle().idle().run_detached();
        let id = container.id();
        let has =
            |controller: &str, file: &str| directory(t, controller, id).is_some_and(|dir| dir.join(file).exists());
        for Row { flag, v1, v2 } in FLAGS.iter().chain(REALTIME) {
            let outcome = t.call([&["update"], &flag[..], &[id]].concat());
            match if t.mode() == Mode::V2 { *v2 } else { *v1 } {
                Ok((controller, ..)) if directory(t, controller, id).is_none() => {
                    drop(outcome.fails_with(&["linux.resources."]));
                }
                // Without BFQ another file serves.
                Ok((controller, file @ "io.bfq.weight", _)) if !has(controller, file) => {
                    outcome.ok();
                    assert_eq!(t.cgroup_file(controller, id, "io.weight"), "default 2930", "{flag:?}");
                }
                Ok((controller, file @ ("cpu.rt_period_us" | "cpu.rt_runtime_us"), _)) if !has(controller, file) => {
                    outcome.fails_with(&["linux.resources.cpu.realtime"]);
                }
                Ok((controller, file, value)) => {
                    outcome.ok();
                    let found = t.cgroup_file(controller, id, file);
                    assert!(found == value || found == format!("default {value}"), "{flag:?}: {file} has {found:?}");
                }
                Err(place) => drop(outcome.fails_with(&[place])),
            }
        }
        container.delete_force().ok();
    });
}

#[test]
fn quota_and_period_are_changed_in_the_order_that_a_parents_quota_allows() {
    in_modes(&[Mode::V1, Mode::Hybrid], |t| {
        of_version_1(t);
        t.needs_controller("cpu");
        let parent = t.name("parent");
        let bundle = t.bundle().idle();
        let path = format!("{parent}/{}", bundle.id());
        let container = bundle.set("/linux/cgroupsPath", json!(format!("/{path}"))).run_detached();
        let top = t.controller_dir("cpu").expect("the hierarchy").join(&parent);
        fs::write(top.join("cpu.cfs_quota_us"), "50000").expect("write the parent's quota");
        let update = |period: &str, quota: &str| {
            t.call(["update", "--cpu-period", period, "--cpu-quota", quota, container.id()])
        };
        let has = || ["cpu.cfs_period_us", "cpu.cfs_quota_us"].map(|file| t.cgroup_file("cpu", &path, file));
        // Whichever of both is written first, one of these steps would be refused.
        for (period, quota) in
            [("100000", "50000"), ("10000", "3000"), ("100000", "40000"), ("1000000", "500000"), ("5000", "2000")]
        {
            update(period, quota).ok();
            assert_eq!(has(), [period, quota]);
        }
        update("100000", "60000").fails_with(&["linux.resources.cpu.", "EINVAL"]);
        assert_eq!(has(), ["5000", "2000"]);
        container.delete_force().ok();
    });
}
