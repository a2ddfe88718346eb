//! linux.uidMappings and linux.gidMappings, and who may write them. Source: user_namespaces(7), newuidmap(1), subuid(5).

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Error, Kind, Result};
use crate::plan::request::Request;

/// The maps of a new user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// The lines of uid_map.
    pub uids: String,
    /// The lines of gid_map.
    pub gids: String,
}

/// `container host size` lines.
pub(in crate::plan) fn id_map(mappings: &[LinuxIdMapping]) -> String {
    mappings.iter().map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())).collect()
}

/// Who writes a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The runtime, which may map every id.
    Runtime,
    /// The runtime: it is a user's own id, and no other.
    Own,
    /// This program, which has the right to what /etc/subuid or /etc/subgid gives the user.
    Program(PathBuf),
}

/// Who writes the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writers {
    /// uid_map.
    pub uids: Writer,
    /// gid_map.
    pub gids: Writer,
}

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

impl Writers {
    /// By the rights of the runtime.
    pub(super) fn of(maps: &IdMaps, request: &Request<'_>) -> Result<Self> {
        let (host, survey) = (request.host, request.survey);
        let has = |capability: u64| host.capabilities & capability != 0;
        Ok(Writers {
            uids: writer("uid", &maps.uids, host.ids.0, has(CAP_SETUID), survey.map_programs[0].as_deref())?,
            gids: writer("gid", &maps.gids, host.ids.1, has(CAP_SETGID), survey.map_programs[1].as_deref())?,
        })
    }

    /// What is done, in words.
    #[cfg(feature = "internals")]
    pub(in crate::plan) fn describe(&self, maps: &IdMaps) -> String {
        let one = |writer: &Writer, text: &str, file: &str| match writer {
            Writer::Program(program) => format!("{} writes {text:?} to {file}", program.display()),
            Writer::Runtime | Writer::Own => format!("write {text:?} to {file}"),
        };
        let deny = if self.gids == Writer::Own { "deny setgroups, " } else { "" };
        format!("{deny}{}, {}", one(&self.uids, &maps.uids, "uid_map"), one(&self.gids, &maps.gids, "gid_map"))
    }
}

fn writer(kind: &str, map: &str, own: u32, may: bool, program: Option<&Path>) -> Result<Writer> {
    if may {
        return Ok(Writer::Runtime);
    }
    let fields: Vec<&str> = map.split_whitespace().collect();
    if let [_, host, "1"] = fields[..]
        && host.parse() == Ok(own)
    {
        return Ok(Writer::Own);
    }
    program.map(|program| Writer::Program(program.to_owned())).ok_or_else(|| {
        let text = format!(
            "takes new{kind}map, which is not in the search path (Debian: uidmap, Fedora: shadow-utils): without it a user maps \
             no other {kind} than {own}"
        );
        Error::new(Kind::Host, text).at(format!("linux.{kind}Mappings"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_maps_the_own_id_alone_and_a_program_maps_the_others() {
        let program = Path::new("/usr/bin/newuidmap");
        let writer = |map: &str, may, program| writer("uid", map, 1000, may, program);
        assert_eq!(writer("0 0 4294967295\n", true, None).expect("a writer"), Writer::Runtime);
        for own in ["0 1000 1\n", "5 1000 1\n"] {
            assert_eq!(writer(own, false, Some(program)).expect("a writer"), Writer::Own);
        }
        for others in ["0 1001 1\n", "0 1000 2\n", "0 1000 1\n1 100000 65536\n"] {
            let found = writer(others, false, Some(program)).expect("a writer");
            assert_eq!(found, Writer::Program(program.to_owned()));
            let error = writer(others, false, None).expect_err("an error");
            assert!(error.to_string().starts_with("linux.uidMappings: takes newuidmap"), "{error}");
        }
    }
}
