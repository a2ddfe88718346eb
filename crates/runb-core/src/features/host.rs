//! What works on this machine now, and why what does not: `runb features --host`. It asks the kernel by calls that change
//! nothing, reads files, and needs no right; what it could not find out it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::utsname::uname;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::cgroups::{CgroupMounts, Unified};
use crate::host::lsm;
use crate::host::mounts::MountCalls;
use crate::host::standing::{MOST_USER_NAMESPACES, denied_user_namespaces};
use crate::plan;
use crate::plan::seccomp::FilterFlags;
use crate::sys::probe;

use super::criu::criu;

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Works {
    /// It does.
    Yes,
    /// It does not; the reason is told beside it.
    No,
    /// It could not be found out; the reason is told beside it.
    Unknown,
}

/// One ability of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ability {
    /// The kernel's or the specification's name of it.
    pub name: &'static str,
    /// What runb uses it for.
    pub purpose: &'static str,
    /// Whether it works.
    pub works: Works,
    /// Why not; or what else is to be known (a version, a mode).
    pub reason: Option<String>,
}

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hierarchy {
    /// 1 or 2.
    pub version: u8,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its controllers.
    pub controllers: Vec<String>,
}

/// The cgroups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cgroups {
    /// `v1`, `v2`, `hybrid` (version 1 with version 2 beside it, without controllers) or `none`.
    pub mode: &'static str,
    /// What is mounted.
    pub hierarchies: Vec<Hierarchy>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostFeatures {
    /// The kernel's release, as uname(2) has it.
    pub kernel: String,
    /// The machine's architecture, as uname(2) has it.
    pub machine: String,
    /// The cgroups.
    pub cgroup: Cgroups,
    /// The security modules that the kernel runs, in its order; `null` where securityfs does not tell.
    pub lsms: Option<Vec<String>>,
    /// What works.
    pub abilities: Vec<Ability>,
}

impl HostFeatures {
    /// Asks the machine. `search` are the folders in which criu is looked for.
    ///
    /// # Errors
    /// What tells of the machine (procfs, the cgroup hierarchies) cannot be read.
    pub fn probe(search: &[PathBuf]) -> Result<Self> {
        let host = Host::probe()?;
        let names = uname().map_err(|errno| Error::host("uname", errno))?;
        let rights = if host.capabilities >> CAP_SYS_ADMIN & 1 == 1 { Rights::Admin } else { Rights::None };
        let mut abilities = security_modules();
        abilities.extend(calls(rights));
        abilities.extend(mounts(host.mounts, rights));
        abilities.extend(namespaces(&host));
        abilities.extend(seccomp(rights));
        abilities.extend(cgroups(&host.cgroups, rights));
        abilities.push(criu(search));
        Ok(HostFeatures {
            kernel: names.release().to_string_lossy().into_owned(),
            machine: names.machine().to_string_lossy().into_owned(),
            cgroup: cgroup(&host.cgroups),
            lsms: fs::read_to_string("/sys/kernel/security/lsm")
                .ok()
                .map(|text| text.trim().split(',').map(str::to_owned).collect()),
            abilities,
        })
    }
}

const CAP_SYS_ADMIN: u32 = 21;

/// Whether a refusal tells of the machine, or only of the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    Admin,
    None,
}

pub(super) fn ability(
    name: &'static str,
    purpose: &'static str,
    found: std::result::Result<Option<String>, String>,
) -> Ability {
    let (works, reason) = match found {
        Ok(detail) => (Works::Yes, detail),
        Err(reason) => (Works::No, Some(reason)),
    };
    Ability { name, purpose, works, reason }
}

/// What a probing call says that ends in one of `good` where the kernel has what is asked for.
fn asked(
    name: &'static str,
    purpose: &'static str,
    call: &str,
    outcome: std::result::Result<(), Errno>,
    good: &[Errno],
    rights: Rights,
) -> Ability {
    let (works, reason) = match outcome {
        Ok(()) => (Works::Yes, None),
        Err(errno) if good.contains(&errno) => (Works::Yes, None),
        Err(Errno::EPERM) if rights == Rights::None => {
            (Works::Unknown, Some(format!("{call}: EPERM: only a caller with CAP_SYS_ADMIN is told")))
        }
        Err(errno) => (Works::No, Some(format!("{call}: {errno:?}"))),
    };
    Ability { name, purpose, works, reason }
}

fn calls(rights: Rights) -> Vec<Ability> {
    const BAD_FLAGS: &[Errno] = &[Errno::EINVAL];
    const BAD_DESCRIPTOR: &[Errno] = &[Errno::EBADF];
    let ask = |name, purpose, outcome, good| asked(name, purpose, name, outcome, good, rights);
    vec![
        asked(
            "CLONE_INTO_CGROUP",
            "a process is born in its cgroup",
            "clone3",
            probe::clone3_into_cgroup(),
            BAD_DESCRIPTOR,
            rights,
        ),
        ask("pidfd_open", "processes are held, not their numbers", probe::pidfd_open(), &[]),
        ask("pidfd_getfd", "descriptors of init are read", probe::pidfd_getfd(), &[]),
        ask("openat2", "paths of a container are resolved below its root", probe::openat2(), &[]),
        ask("close_range", "no descriptor of the runtime reaches the workload", probe::close_range(), BAD_FLAGS),
        ask("open_tree", "bind mounts and the root filesystem", probe::open_tree(), BAD_FLAGS),
        ask("move_mount", "mounts are attached", probe::move_mount(), BAD_FLAGS),
        ask("fsopen", "new filesystems", probe::fsopen(), BAD_FLAGS),
        ask("fspick", "remount", probe::fspick(), BAD_FLAGS),
        asked(
            "MOUNT_ATTR_IDMAP",
            "mounts with uidMappings and gidMappings; each filesystem must allow it, too",
            "mount_setattr",
            probe::idmapped_mounts(),
            BAD_DESCRIPTOR,
            rights,
        ),
        ask("keyctl", "a session keyring for each container", probe::keyctl(), &[Errno::ENOKEY, Errno::EACCES]),
        memfd(),
    ]
}

/// What the planner goes by.
fn mounts(calls: MountCalls, rights: Rights) -> [Ability; 3] {
    let step = |name, purpose, step, reason: &str| {
        let found = if calls >= step { Ok(None) } else { Err(reason.to_owned()) };
        ability(name, purpose, found)
    };
    let instead = "attributes of mounts; mount(2) takes its place";
    let mut all = [
        step("mount_setattr", instead, MountCalls::SetAttributes, "mount_setattr: ENOSYS"),
        step("MOUNT_ATTR_NOSYMFOLLOW", "the option nosymfollow", MountCalls::NoSymFollow, "mount_setattr: EINVAL"),
        step(
            "open_tree of a detached mount",
            "masked directories share one filesystem; each has its own without it",
            MountCalls::CopyDetached,
            "open_tree_attr: ENOSYS (both came with Linux 6.15)",
        ),
    ];
    // EPERM comes before the attributes are looked at, and the planner takes it for a kernel that has them.
    if rights == Rights::None && calls == MountCalls::NoSymFollow {
        all[1].works = Works::Unknown;
        all[1].reason = Some("mount_setattr: EPERM: only a caller with CAP_SYS_ADMIN is told".to_owned());
    }
    all
}

/// Where init's program lies.
fn memfd() -> Ability {
    let purpose = "init is executed from a sealed file in memory";
    let noexec = fs::read_to_string("/proc/sys/vm/memfd_noexec").unwrap_or_default();
    match probe::executable_memfd() {
        Err(errno) => {
            let reason = format!(
                "memfd_create: {errno:?} (vm.memfd_noexec is {:?}); a file without a name on a tmpfs takes its place",
                noexec.trim()
            );
            ability("MFD_EXEC", purpose, Err(reason))
        }
        Ok(()) => ability("MFD_EXEC", purpose, Ok(None)),
    }
}

fn security_modules() -> Vec<Ability> {
    vec![
        ability("AppArmor", "process.apparmorProfile", lsm::apparmor().map(|()| None)),
        ability("SELinux", "process.selinuxLabel, linux.mountLabel", lsm::selinux().map(|mode| Some(mode.to_owned()))),
        ability("procfs", "labels and other attributes are written to /proc/self", lsm::procfs().map(|()| None)),
    ]
}

/// The files of /proc/self/ns, by the specification's names of the namespaces.
fn namespaces(host: &Host) -> Vec<Ability> {
    let mut all: Vec<Ability> = plan::NAMESPACES
        .into_iter()
        .map(|kind| {
            let name = plan::namespace_name(kind);
            let file = match name {
                "mount" => "mnt",
                "network" => "net",
                name => name,
            };
            let path = format!("/proc/self/ns/{file}");
            let found = fs::symlink_metadata(&path).map(|_| None);
            ability(name, "linux.namespaces", found.map_err(|error| missing(&path, &error)))
        })
        .collect();
    if let Some(user) = all.iter_mut().find(|ability| ability.name == "user" && ability.works == Works::Yes) {
        (user.works, user.reason) = user_namespaces(host);
    }
    all
}

/// user_namespaces(7) may be forbidden to all, or to those without rights.
fn user_namespaces(host: &Host) -> (Works, Option<String>) {
    if fs::read_to_string(MOST_USER_NAMESPACES).is_ok_and(|text| text.trim() == "0") {
        return (Works::No, Some(format!("{MOST_USER_NAMESPACES} is 0")));
    }
    match denied_user_namespaces() {
        Some(reason) if !host.standing.may_mount() => (Works::No, Some(reason)),
        other => (Works::Yes, other),
    }
}

pub(super) fn missing(path: &str, error: &std::io::Error) -> String {
    format!("{path}: {:?}", Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

fn seccomp(rights: Rights) -> Vec<Ability> {
    /// `SECCOMP_RET_USER_NOTIF` in include/uapi/linux/seccomp.h.
    const USER_NOTIF: u32 = 0x7fc0_0000;
    const KNOWN: &[Errno] = &[Errno::EFAULT];
    let flag = |name, purpose, flags: FilterFlags| {
        asked(name, purpose, "seccomp", probe::seccomp_flags(flags.0), KNOWN, rights)
    };
    let waits = FilterFlags::NEW_LISTENER.with(FilterFlags::WAIT_KILLABLE_RECV);
    vec![
        flag("SECCOMP_SET_MODE_FILTER", "linux.seccomp", FilterFlags::default()),
        flag("SECCOMP_FILTER_FLAG_TSYNC", "linux.seccomp.flags", FilterFlags::TSYNC),
        flag("SECCOMP_FILTER_FLAG_LOG", "linux.seccomp.flags", FilterFlags::LOG),
        flag("SECCOMP_FILTER_FLAG_SPEC_ALLOW", "linux.seccomp.flags", FilterFlags::SPEC_ALLOW),
        flag("SECCOMP_FILTER_FLAG_NEW_LISTENER", "linux.seccomp.listenerPath", FilterFlags::NEW_LISTENER),
        flag("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "linux.seccomp.flags", waits),
        asked("SECCOMP_RET_USER_NOTIF", "SCMP_ACT_NOTIFY", "seccomp", probe::seccomp_action(USER_NOTIF), &[], rights),
    ]
}

fn cgroup(mounts: &CgroupMounts) -> Cgroups {
    let version2 = |unified: &Unified| Hierarchy {
        version: 2,
        mountpoint: unified.mountpoint.clone(),
        controllers: unified.controllers.clone(),
    };
    let (mode, hierarchies) = match mounts {
        CgroupMounts::None => ("none", Vec::new()),
        CgroupMounts::V2(unified) => ("v2", vec![version2(unified)]),
        CgroupMounts::V1 { hierarchies, unified } => {
            let version1 = hierarchies.iter().map(|hierarchy| Hierarchy {
                version: 1,
                mountpoint: hierarchy.mountpoint.clone(),
                controllers: hierarchy.controllers.clone(),
            });
            let mode = if unified.is_some() { "hybrid" } else { "v1" };
            (mode, version1.chain(unified.as_ref().map(version2)).collect())
        }
    };
    Cgroups { mode, hierarchies }
}

/// What the cgroups offer beside their controllers.
fn cgroups(mounts: &CgroupMounts, rights: Rights) -> Vec<Ability> {
    let mut all = Vec::new();
    let unified = match mounts {
        CgroupMounts::None => {
            let purpose = "linux.resources, linux.cgroupsPath";
            return vec![ability("cgroups", purpose, Err("no hierarchy is mounted".to_owned()))];
        }
        CgroupMounts::V1 { unified, .. } => unified.as_ref(),
        CgroupMounts::V2(unified) => Some(unified),
    };
    for (name, purpose) in [
        ("cgroup.kill", "all processes of a container are killed at once; else one by one"),
        ("cgroup.freeze", "the processes of a container are paused"),
    ] {
        all.push(match unified {
            None => ability(name, purpose, Err("no version 2 hierarchy is mounted".to_owned())),
            Some(unified) => cgroup_file(unified, name, purpose),
        });
    }
    if let CgroupMounts::V2(_) = mounts {
        let purpose = "linux.resources.devices on version 2";
        all.push(asked("BPF_PROG_TYPE_CGROUP_DEVICE", purpose, "bpf", probe::device_program(), &[], rights));
    }
    all
}

/// A file that every cgroup but the top one has: so one in the own cgroup, or in any other.
fn cgroup_file(unified: &Unified, name: &'static str, purpose: &'static str) -> Ability {
    let own = unified.mountpoint.join(unified.own.strip_prefix("/").unwrap_or(Path::new("")));
    let below = fs::read_dir(&unified.mountpoint).into_iter().flatten().flatten().map(|entry| entry.path());
    let looked: BTreeSet<PathBuf> =
        std::iter::once(own).chain(below).filter(|dir| dir.join("cgroup.type").exists()).collect();
    let (works, reason) = match looked.iter().next() {
        None => (Works::Unknown, Some(format!("{}: no cgroup below to look at", unified.mountpoint.display()))),
        Some(dir) if dir.join(name).exists() => (Works::Yes, None),
        Some(dir) => (Works::No, Some(format!("{}: ENOENT", dir.join(name).display()))),
    };
    Ability { name, purpose, works, reason }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn host() -> HostFeatures {
        HostFeatures::probe(&[]).unwrap()
    }

    #[test]
    fn what_does_not_work_has_a_reason_and_no_name_is_there_twice() {
        let host = host();
        let mut names = BTreeSet::new();
        for ability in &host.abilities {
            assert!(ability.works == Works::Yes || ability.reason.is_some(), "{ability:?}");
            assert!(names.insert(ability.name), "{ability:?}");
        }
    }

    #[test]
    fn the_probes_leave_no_descriptor_and_no_child() {
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        // In one thread alone the numbers hold still: so in a process of its own.
        let name = "features::host::tests::alone";
        let program = std::env::current_exe().unwrap();
        if std::env::args().any(|argument| argument == "--ignored") {
            let before = descriptors();
            host();
            assert_eq!(descriptors(), before);
            assert_eq!(nix::sys::wait::wait(), Err(Errno::ECHILD));
            return;
        }
        let arguments = ["--ignored", "--exact", "--test-threads=1", name];
        let output = Command::new(program).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    #[ignore = "the_probes_leave_no_descriptor_and_no_child runs it in a process of its own"]
    fn alone() {
        the_probes_leave_no_descriptor_and_no_child();
    }

    #[test]
    fn a_refusal_for_want_of_rights_is_no_answer() {
        let of = |errno, rights| asked("a", "b", "call", Err(errno), &[Errno::EINVAL], rights);
        assert_eq!(of(Errno::EINVAL, Rights::None).works, Works::Yes);
        assert_eq!(of(Errno::EPERM, Rights::None).works, Works::Unknown);
        let refused = of(Errno::EPERM, Rights::Admin);
        assert_eq!((refused.works, refused.reason.as_deref()), (Works::No, Some("call: EPERM")));
        let missing = of(Errno::ENOSYS, Rights::None);
        assert_eq!((missing.works, missing.reason.as_deref()), (Works::No, Some("call: ENOSYS")));
    }

    #[test]
    fn the_planner_and_the_report_ask_the_same_of_the_security_modules() {
        let works = |name: &str| host().abilities.iter().any(|it| it.name == name && it.works == Works::Yes);
        let lsm = lsm::Lsm::probe();
        assert_eq!((lsm.apparmor, lsm.selinux, lsm.procfs), (works("AppArmor"), works("SELinux"), works("procfs")));
    }

    #[test]
    fn a_hybrid_machine_shows_version_2_without_controllers() {
        let shown = cgroup(&CgroupMounts::hybrid_for_tests("/", &["pids", "cpu,cpuacct"]));
        let versions: Vec<_> = shown.hierarchies.iter().map(|it| (it.version, it.controllers.join(","))).collect();
        assert_eq!(shown.mode, "hybrid");
        assert_eq!(versions, [(1, "pids".to_owned()), (1, "cpu,cpuacct".to_owned()), (2, String::new())]);
    }

    #[test]
    fn what_the_planner_does_by_older_calls_is_told_with_the_call_that_is_missing() {
        let works = |calls| mounts(calls, Rights::Admin).map(|ability| ability.works);
        assert_eq!(works(MountCalls::Classic), [Works::No; 3]);
        assert_eq!(works(MountCalls::NoSymFollow), [Works::Yes, Works::Yes, Works::No]);
        assert_eq!(works(MountCalls::CopyDetached), [Works::Yes; 3]);
        assert_eq!(mounts(MountCalls::NoSymFollow, Rights::None)[1].works, Works::Unknown);
    }
}
