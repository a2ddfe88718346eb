//! `spec`: a config.json to begin with.

use anyhow::{Context as _, Result, anyhow};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use runb_core::template::{self, CgroupNamespace};

use crate::args::SpecFile;

/// Writes config.json; one that is there is never touched.
pub fn run(args: &SpecFile) -> Result<u8> {
    let mut spec = template::spec(cgroup_namespace())?;
    if args.rootless {
        template::to_rootless(&mut spec, geteuid().as_raw(), getegid().as_raw())?;
    }
    let text = template::to_json(&spec)?;
    let file = args.bundle.as_deref().unwrap_or(Path::new("")).join("config.json");
    write_new(&file, &text)?;
    Ok(0)
}

/// As runc does: where cgroup v2 is all there is, the container gets a cgroup namespace.
fn cgroup_namespace() -> CgroupNamespace {
    // cgroups(7): only a cgroup2 file system has this file in its root.
    match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => CgroupNamespace::New,
        false => CgroupNamespace::Inherit,
    }
}

fn write_new(file: &Path, text: &str) -> Result<()> {
    let result = OpenOptions::new().write(true).create_new(true).open(file);
    match result.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(anyhow!("file {} exists; remove it first", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("write {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_is_there_is_never_touched() {
        let bundle = tempfile::tempdir().unwrap();
        let args = SpecFile { bundle: Some(bundle.path().into()), rootless: false };
        run(&args).unwrap();
        let file = bundle.path().join("config.json");
        let written = std::fs::read_to_string(&file).unwrap();
        serde_json::from_str::<oci_spec::runtime::Spec>(&written).unwrap();
        let error = run(&args).unwrap_err();
        assert!(error.to_string().contains("config.json exists; remove it first"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    }
}
