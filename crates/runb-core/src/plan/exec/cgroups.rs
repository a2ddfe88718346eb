//! Which cgroups the process of an exec joins.

use std::path::{Component, Path, PathBuf};

use super::Inside;
use crate::error::{Error, Kind, Result};

/// The cgroups of the process.
pub(super) struct Joins {
    pub(super) unified: Option<PathBuf>,
    pub(super) v1: Vec<PathBuf>,
}

/// The container's cgroups, or those below them that the caller names.
pub(super) fn joins(inside: &Inside<'_>, named: &[String]) -> Result<Joins> {
    let own = |below: &Path| Joins {
        unified: inside.unified.map(|dir| dir.join(below)),
        v1: inside.v1.iter().map(|(_, dir)| dir.join(below)).collect(),
    };
    let mut joins = own(Path::new(""));
    for text in named {
        let wrong = |why: &str| Error::new(Kind::Usage, format!("{text:?}: {why}")).at("options.cgroups");
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, text.as_str()),
        };
        let names = Path::new(path).components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        let below: PathBuf = names.clone().collect();
        if names.clone().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(wrong("bad sub cgroup path: it would lead out of the container's cgroup"));
        }
        match controllers {
            None => joins = own(&below),
            Some(_) if inside.v1.is_empty() => return Err(wrong("version 2 has no cgroups of a controller alone")),
            Some(list) => {
                for controller in list.split(',') {
                    let index = inside.v1.iter().position(|(has, _)| has.iter().any(|name| name == controller));
                    let index = index.ok_or_else(|| {
                        wrong(&format!("unknown controller {controller:?}: the container has no cgroup of it"))
                    })?;
                    joins.v1[index] = inside.v1[index].1.join(&below);
                }
            }
        }
    }
    Ok(joins)
}
