//! What is asked of CRIU.

use std::path::PathBuf;
use std::str::FromStr;

use super::HookEnvironment;
use crate::error::{Error, Kind};

/// The annotation that names a configuration file of CRIU's.
pub(crate) const CONFIG_ANNOTATION: &str = "org.criu.config";

/// What a checkpoint does to the cgroups' files, and a restore to the cgroups (criu(8), `--manage-cgroups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManageCgroups {
    /// CRIU's own: soft.
    #[default]
    Default,
    /// They are neither saved nor restored; whoever is restored is in the container's new cgroup.
    Ignore,
    /// The files of those that the restore makes are restored.
    Soft,
    /// All files are.
    Full,
    /// As `Full`, and none may be there before.
    Strict,
}

impl FromStr for ManageCgroups {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "ignore" => Ok(ManageCgroups::Ignore),
            "soft" => Ok(ManageCgroups::Soft),
            "full" => Ok(ManageCgroups::Full),
            "strict" => Ok(ManageCgroups::Strict),
            _ => Err(Error::new(Kind::Usage, format!("{text:?} is not soft, full, strict or ignore"))
                .at("options.manage_cgroups_mode")),
        }
    }
}

/// By what nobody hears from an open TCP connection until it is restored (criu(8), `--network-lock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkLock {
    /// iptables(8).
    Iptables,
    /// nftables.
    Nftables,
    /// Nothing: whoever calls sees to it.
    Skip,
}

impl FromStr for NetworkLock {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "iptables" => Ok(NetworkLock::Iptables),
            "nftables" => Ok(NetworkLock::Nftables),
            "skip" => Ok(NetworkLock::Skip),
            _ => Err(Error::new(Kind::Usage, format!("{text:?} is not iptables, nftables or skip"))
                .at("options.network_lock")),
        }
    }
}

/// Who takes the memory of a checkpoint, or hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageServer {
    /// An address, or a name.
    pub address: String,
    /// A port.
    pub port: u16,
}

impl FromStr for PageServer {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            let text = format!("{text:?} is not ADDRESS:PORT, nor [ADDRESS]:PORT");
            Error::new(Kind::Usage, text).at("options.page_server")
        };
        let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address,
            None if address.contains([':', '[', ']']) => return Err(wrong()),
            None => address,
        };
        match port.parse() {
            Ok(port) if port != 0 && !address.is_empty() => Ok(PageServer { address: address.to_owned(), port }),
            _ => Err(wrong()),
        }
    }
}

/// What a checkpoint and a restore have in common: [`Criu::new`], and then its fields.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Criu {
    /// The folder of the images. A checkpoint makes it.
    pub image_path: PathBuf,
    /// The folder of CRIU's own files, such as its log; that of the images, where absent. It is made.
    pub work_path: Option<PathBuf>,
    /// Whether open TCP connections are saved and restored.
    pub tcp_established: bool,
    /// Whether unix sockets may lead out of the container.
    pub ext_unix_sk: bool,
    /// Whether a process may have a terminal, or be of a session, that is not the container's.
    pub shell_job: bool,
    /// Whether file locks are saved and restored.
    pub file_locks: bool,
    /// Whether memory is handed out, or asked for, when it is used.
    pub lazy_pages: bool,
    /// Whether the images lose memory that a later one, or the process, has.
    pub auto_dedup: bool,
    /// What becomes of the cgroups' files.
    pub manage_cgroups_mode: ManageCgroups,
    /// How the network is locked; CRIU's own way, where absent.
    pub network_lock: Option<NetworkLock>,
    /// The folders in which CRIU is looked for.
    pub search: Vec<PathBuf>,
    /// CRIU's environment: by it, it finds the programs that it calls.
    pub environment: HookEnvironment,
}

impl Criu {
    /// With images in `image_path`, and a CRIU that is in one of `search`.
    pub fn new(image_path: impl Into<PathBuf>, search: Vec<PathBuf>) -> Self {
        Criu { image_path: image_path.into(), search, ..Criu::default() }
    }
}

/// What the caller of `checkpoint` asks for: [`CheckpointOptions::default`], and then its fields.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// What it has in common with a restore.
    pub criu: Criu,
    /// The images of an earlier checkpoint or pre-dump, seen from those that are made: what has not changed since is not saved again.
    pub parent_path: Option<PathBuf>,
    /// Whether the container runs on.
    pub leave_running: bool,
    /// Whether memory alone is saved, while the container runs on.
    pub pre_dump: bool,
    /// Whether TCP connections that are being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Whether a file that is open and has no name any more may get one for the time being.
    pub link_remap: bool,
    /// A descriptor of this process that gets a NUL, and is closed, as soon as lazy pages can be asked for.
    pub status_fd: Option<i32>,
    /// Who takes the memory; with lazy pages, where it is handed out.
    pub page_server: Option<PageServer>,
}

/// What the caller of `restore` asks for beside [`Options`](super::Options): [`RestoreOptions::default`], and then its fields.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// What it has in common with a checkpoint.
    pub criu: Criu,
    /// Whether TCP connections are closed.
    pub tcp_close: bool,
    /// `TYPE:NAME` of the profile of a security module, in place of the one that the processes had.
    pub lsm_profile: Option<String>,
    /// The SELinux context of mounts that had one.
    pub lsm_mount_context: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_server_is_an_address_and_a_port() {
        let server = |address: &str, port| PageServer { address: address.to_owned(), port };
        for (text, expected) in [
            ("0.0.0.0:27277", server("0.0.0.0", 27277)),
            ("[::1]:1", server("::1", 1)),
            ("host.example:65535", server("host.example", 65535)),
        ] {
            assert_eq!(text.parse::<PageServer>().expect(text), expected);
        }
        for text in ["", ":1", "a", "a:", "a:0", "a:65536", "a:x", "::1:1", "[::1]", "[::1]1"] {
            let error = text.parse::<PageServer>().expect_err(text);
            assert_eq!((error.kind(), error.origin()), (Kind::Usage, Some("options.page_server")));
        }
    }
}
