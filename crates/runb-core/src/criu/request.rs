//! What is asked of CRIU, as a value.

use std::path::Path;

use nix::libc;
use oci_spec::runtime::LinuxNamespaceType;

use super::external::{External, Namespaces, key, named, short, text};
use super::version::{
    CONFIG_FILE, EXTERNAL_NETWORK, EXTERNAL_PID, FREEZER_V2, LAZY_PAGES, LSM, NETWORK_LOCK, Need, STATUS_READY,
    TCP_CLOSE, Version,
};
use super::wire::{CgMode, CgroupRoot, Features, NetworkLockMethod, Opts, PageServerInfo, Type};
use super::{Descriptors, Folder};
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::options::{
    CONFIG_ANNOTATION as CONFIG, CheckpointOptions, Criu, ManageCgroups, NetworkLock, RestoreOptions,
};

pub(crate) use super::wire::Type as Task;

/// runc's: information, and what is beyond warnings.
const LOG_LEVEL: i32 = 4;
/// Where an administrator says what CRIU is to do for this runtime, or for each.
const CONFIG_FILES: [&str; 2] = ["/etc/criu/runb.conf", "/etc/criu/runc.conf"];

type Annotations = std::collections::HashMap<String, String>;

/// Which file overrides what is asked: an empty annotation says none.
fn config_file(annotations: &Annotations, is_there: impl Fn(&Path) -> bool) -> Option<String> {
    match annotations.get(CONFIG) {
        Some(file) => Some(file.clone()).filter(|file| !file.is_empty()),
        // One that is not there is passed over.
        None => CONFIG_FILES.into_iter().find(|file| is_there(Path::new(file))).map(str::to_owned),
    }
}

/// What a dump and a restore have in common.
fn common(criu: &Criu, images: &Folder, work: Option<&Folder>, annotations: &Annotations) -> Opts {
    let mode = match criu.manage_cgroups_mode {
        ManageCgroups::Default => CgMode::Default,
        ManageCgroups::Ignore => CgMode::Ignore,
        ManageCgroups::Soft => CgMode::Soft,
        ManageCgroups::Full => CgMode::Full,
        ManageCgroups::Strict => CgMode::Strict,
    };
    let lock = criu.network_lock.map(|lock| match lock {
        NetworkLock::Iptables => NetworkLockMethod::Iptables,
        NetworkLock::Nftables => NetworkLockMethod::Nftables,
        NetworkLock::Skip => NetworkLockMethod::Skip,
    });
    Opts {
        images_dir_fd: images.number(),
        work_dir_fd: work.map(Folder::number),
        log_level: Some(LOG_LEVEL),
        notify_scripts: Some(true),
        manage_cgroups: Some(true),
        manage_cgroups_mode: Some(mode.into()),
        tcp_established: Some(criu.tcp_established),
        ext_unix_sk: Some(criu.ext_unix_sk),
        shell_job: Some(criu.shell_job),
        file_locks: Some(criu.file_locks),
        lazy_pages: Some(criu.lazy_pages),
        auto_dedup: Some(criu.auto_dedup),
        network_lock: lock.map(i32::from),
        // Network devices are the engines' to make, before and after.
        empty_ns: Some(libc::CLONE_NEWNET as u32),
        orphan_pts_master: Some(true),
        config_file: config_file(annotations, Path::exists),
        ..Opts::default()
    }
}

fn common_needs(criu: &Criu, annotations: &Annotations, namespaces: &Namespaces) -> Vec<Need> {
    let need = |wanted: bool, of, since| wanted.then_some(Need { of, since });
    let has = |typ| namespaces.external.iter().any(|(other, _)| *other == typ);
    let named = annotations.get(CONFIG).is_some_and(|file| !file.is_empty());
    [
        need(criu.lazy_pages, "options.lazy_pages", LAZY_PAGES),
        need(criu.network_lock.is_some(), "options.network_lock", NETWORK_LOCK),
        need(named, "annotations[org.criu.config]", CONFIG_FILE),
        need(has(LinuxNamespaceType::Network), "linux.namespaces (network)", EXTERNAL_NETWORK),
        need(has(LinuxNamespaceType::Pid), "linux.namespaces (pid)", EXTERNAL_PID),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A container that is saved.
pub(crate) struct Dump<'a> {
    /// What the caller wants.
    pub(crate) options: &'a CheckpointOptions,
    /// The configuration's annotations.
    pub(crate) annotations: &'a Annotations,
    /// The root filesystem.
    pub(crate) rootfs: &'a Path,
    /// Its first process.
    pub(crate) pid: i32,
    /// Its cgroup.
    pub(crate) cgroup: &'a Cgroup,
    /// Its mounts that are not its own.
    pub(crate) mounts: Vec<External>,
    /// The kinds and inodes of its namespaces that are not its own.
    pub(crate) namespaces: Vec<(LinuxNamespaceType, u64)>,
    /// Its descriptors that are not its own.
    pub(crate) descriptors: &'a Descriptors,
    /// Where the images go.
    pub(crate) images: &'a Folder,
    /// Where CRIU's own files go.
    pub(crate) work: Option<&'a Folder>,
}

/// What a dump needs of CRIU's version.
pub(crate) fn dump_needs(options: &CheckpointOptions, annotations: &Annotations, namespaces: &Namespaces) -> Vec<Need> {
    let mut needs = common_needs(&options.criu, annotations, namespaces);
    needs.extend(options.status_fd.map(|_| Need { of: "options.status_fd", since: STATUS_READY }));
    needs
}

/// What it needs of CRIU and the kernel beyond that, with the option that asks for it.
pub(crate) fn memory_needs(options: &CheckpointOptions) -> Vec<(&'static str, Features)> {
    let mem_track = Features { mem_track: Some(true), ..Features::default() };
    let lazy_pages = Features { lazy_pages: Some(true), ..Features::default() };
    let need = |wanted: bool, option, features| wanted.then_some((option, features));
    [
        need(options.pre_dump, "options.pre_dump", mem_track.clone()),
        need(options.parent_path.is_some(), "options.parent_path", mem_track),
        need(options.criu.lazy_pages, "options.lazy_pages", lazy_pages),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Which request it is.
pub(crate) fn dump_task(options: &CheckpointOptions) -> Type {
    if options.pre_dump { Type::PreDump } else { Type::Dump }
}

/// The log of a dump.
pub(crate) const DUMP_LOG: &str = "dump.log";
/// The log of a restore.
pub(crate) const RESTORE_LOG: &str = "restore.log";

/// What a dump is.
///
/// # Errors
/// A path is not UTF-8.
pub(crate) fn dump(dump: &Dump<'_>, version: Version) -> Result<Opts> {
    let CheckpointOptions { criu, parent_path, page_server, .. } = dump.options;
    let freezer = match (dump.cgroup.v1("freezer"), dump.cgroup.unified.as_deref()) {
        (Some(path), _) => Some(path),
        // Without one CRIU stops the processes one by one.
        (None, unified) => unified.filter(|_| version >= FREEZER_V2),
    };
    let external = dump.namespaces.iter().map(|(typ, inode)| format!("{}[{inode}]:{}", short(*typ), key(*typ)));
    let server = |server: &crate::options::PageServer| PageServerInfo {
        address: Some(server.address.clone()),
        port: Some(server.port.into()),
    };
    Ok(Opts {
        log_file: Some(DUMP_LOG.to_owned()),
        pid: Some(dump.pid),
        root: Some(text(dump.rootfs)?),
        leave_running: Some(dump.options.leave_running),
        tcp_skip_in_flight: Some(dump.options.tcp_skip_in_flight),
        link_remap: Some(dump.options.link_remap),
        freeze_cgroup: freezer.map(text).transpose()?,
        parent_img: parent_path.as_deref().map(text).transpose()?,
        track_mem: (parent_path.is_some() || dump.options.pre_dump).then_some(true),
        ps: page_server.as_ref().map(server),
        external: external.chain(dump.descriptors.external()).collect(),
        ext_mnt: dump.mounts.iter().map(External::for_dump).collect::<Result<_>>()?,
        ..common(criu, dump.images, dump.work, dump.annotations)
    })
}

/// A container that is restored.
pub(crate) struct Restore<'a> {
    /// What the caller wants.
    pub(crate) options: &'a RestoreOptions,
    /// The configuration's annotations.
    pub(crate) annotations: &'a Annotations,
    /// Where the root filesystem is mounted for CRIU.
    pub(crate) root: &'a Path,
    /// Its cgroup in each hierarchy: the controllers, and the path as /proc/PID/cgroup has it.
    pub(crate) cgroups: &'a [(String, String)],
    /// Its mounts that are not its own.
    pub(crate) mounts: Vec<External>,
    /// Its namespaces that are not its own.
    pub(crate) namespaces: &'a Namespaces,
    /// What its standard descriptors were.
    pub(crate) descriptors: &'a Descriptors,
    /// Where the images are.
    pub(crate) images: &'a Folder,
    /// Where CRIU's own files go.
    pub(crate) work: Option<&'a Folder>,
}

/// What a restore needs of CRIU's version.
pub(crate) fn restore_needs(options: &RestoreOptions, annotations: &Annotations, namespaces: &Namespaces) -> Vec<Need> {
    let mut needs = common_needs(&options.criu, annotations, namespaces);
    let mut need = |wanted: bool, of, since| needs.extend(wanted.then_some(Need { of, since }));
    need(options.tcp_close, "options.tcp_close", TCP_CLOSE);
    need(options.lsm_profile.is_some(), "options.lsm_profile", LSM);
    need(options.lsm_mount_context.is_some(), "options.lsm_mount_context", LSM);
    needs
}

/// What a restore is.
///
/// # Errors
/// A path is not UTF-8.
pub(crate) fn restore(restore: &Restore<'_>) -> Result<Opts> {
    let cgroup =
        |(controllers, path): &(String, String)| CgroupRoot { ctrl: Some(controllers.clone()), path: path.clone() };
    Ok(Opts {
        log_file: Some(RESTORE_LOG.to_owned()),
        root: Some(text(restore.root)?),
        // Who is restored is this process's child.
        rst_sibling: Some(true),
        evasive_devices: Some(true),
        tcp_close: restore.options.tcp_close.then_some(true),
        lsm_profile: restore.options.lsm_profile.clone(),
        lsm_mount_context: restore.options.lsm_mount_context.clone(),
        cg_root: restore.cgroups.iter().map(cgroup).collect(),
        ext_mnt: named(&restore.mounts)?,
        inherit_fd: restore.namespaces.inherited().chain(restore.descriptors.inherited()).collect(),
        join_ns: restore.namespaces.by_path(),
        ..common(&restore.options.criu, restore.images, restore.work, restore.annotations)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_names_the_file_or_says_that_there_is_none_and_runbs_own_comes_before_runcs() {
        let none = Annotations::new();
        let with = |file: &str| Annotations::from([(CONFIG.to_owned(), file.to_owned())]);
        assert_eq!(config_file(&with("/x.conf"), |_| true), Some("/x.conf".to_owned()));
        assert_eq!(config_file(&with(""), |_| true), None);
        assert_eq!(config_file(&none, |_| true).as_deref(), Some("/etc/criu/runb.conf"));
        assert_eq!(config_file(&none, |file| file.ends_with("runc.conf")).as_deref(), Some("/etc/criu/runc.conf"));
        assert_eq!(config_file(&none, |_| false), None);
    }
}
