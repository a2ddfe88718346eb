//! Which version of CRIU has what.

use std::fmt;

use super::wire;
use crate::error::{Error, Kind, Result};

/// A version of CRIU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

/// The oldest that tells its version over the socket.
pub(crate) const OLDEST: Version = Version(3, 0, 0);
/// Lazy pages, by --lazy-pages.
pub(crate) const LAZY_PAGES: Version = Version(3, 5, 0);
/// A configuration file for one request, and network namespaces of others.
pub(crate) const CONFIG_FILE: Version = Version(3, 11, 0);
/// Network namespaces of others.
pub(crate) const EXTERNAL_NETWORK: Version = Version(3, 11, 0);
/// TCP connections that are closed by a restore.
pub(crate) const TCP_CLOSE: Version = Version(3, 12, 0);
/// The freezer of cgroup version 2.
pub(crate) const FREEZER_V2: Version = Version(3, 14, 0);
/// The word that pages can be asked for.
pub(crate) const STATUS_READY: Version = Version(3, 15, 0);
/// Pid namespaces of others.
pub(crate) const EXTERNAL_PID: Version = Version(3, 15, 0);
/// Another profile of a security module, and another context of mounts.
pub(crate) const LSM: Version = Version(3, 16, 0);
/// How the network is locked.
pub(crate) const NETWORK_LOCK: Version = Version(3, 16, 0);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version(major, minor, sublevel) = self;
        match sublevel {
            0 => write!(f, "{major}.{minor}"),
            _ => write!(f, "{major}.{minor}.{sublevel}"),
        }
    }
}

impl From<&wire::Version> for Version {
    fn from(version: &wire::Version) -> Self {
        let number = |number: i32| number.try_into().unwrap_or_default();
        let whole = Version(
            number(version.major_number),
            number(version.minor_number),
            number(version.sublevel.unwrap_or_default()),
        );
        // One that is built from git between two versions has what the next one has.
        match version.gitid {
            Some(_) => Version(whole.0, whole.1 + 1, 0),
            None => whole,
        }
    }
}

/// Something that is asked for, which only a newer CRIU may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What it is: the option (`options.tcp_close`), or the place in config.json.
    pub(crate) of: &'static str,
    /// The first version that has it.
    pub(crate) since: Version,
}

impl Version {
    /// Sees that this version has all of `needs`.
    ///
    /// # Errors
    /// It is too old for one of them, which is told with the version that it wants.
    pub(crate) fn has(self, needs: &[Need]) -> Result<()> {
        let too_old =
            |since| Error::new(Kind::Host, format!("CRIU {since} or newer is needed, and this one is {self}"));
        if self < OLDEST {
            return Err(too_old(OLDEST));
        }
        match needs.iter().find(|need| self < need.since) {
            Some(need) => Err(too_old(need.since).at(need.of)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_criu_is_too_old_for_is_named_with_the_version_that_it_wants() {
        let needs =
            [Need { of: "options.tcp_close", since: TCP_CLOSE }, Need { of: "options.lsm_profile", since: LSM }];
        assert!(Version(4, 2, 0).has(&needs).is_ok());
        assert!(Version(3, 16, 0).has(&needs).is_ok());
        let error = Version(3, 15, 1).has(&needs).expect_err("it is too old").to_string();
        assert_eq!(error, "options.lsm_profile: CRIU 3.16 or newer is needed, and this one is 3.15.1");
        let error = Version(2, 12, 0).has(&[]).expect_err("it is too old").to_string();
        assert_eq!(error, "CRIU 3.0 or newer is needed, and this one is 2.12");
    }

    #[test]
    fn a_version_from_git_counts_as_the_next_one() {
        let mut version = wire::Version { major_number: 3, minor_number: 15, ..wire::Version::default() };
        assert_eq!(Version::from(&version), Version(3, 15, 0));
        version.gitid = Some("v3.15-1-gabc".to_owned());
        assert_eq!(Version::from(&version), Version(3, 16, 0));
    }
}
