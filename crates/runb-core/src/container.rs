//! The handle of a container: make it, load it, start, signal, delete. What the verbs of the CLI call.
//!
//! The handle has a copy of the state, for [`Container::state`] and the like. What changes a container locks its folder, reads
//! the state anew, and goes by that (`Held`).

mod cgroups;
mod checkpoint;
mod console;
mod create;
mod end;
mod exec;
mod foreground;
mod hooks;
mod joining;
mod pause;
mod pidfd_socket;
mod planned;
mod processes;
mod remains;
mod restore;
mod start;
mod stats;
#[cfg(feature = "internals")]
mod strict;
mod update;
mod watch;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci_spec::runtime::Spec;
use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::options::HookEnvironment;
use crate::plan::program::Program;
use crate::plan::seccomp::Filter;
use crate::state::{self, Opened, Phase, ProcessRef, Saved, StateDir};
use crate::trace::{Step, Trace, What};

pub use crate::state::Status;
pub use end::{Force, Removal, Scope};
pub use exec::Exec;
pub use foreground::{Foreground, Subreaper, Workload};
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use planned::{Planned, planned, probe};
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use strict::strict;
pub use update::{Schemata, Updated};
pub use watch::{Happening, Watch};

/// What `state` prints (runtime.md "State", and runc's fields).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Init's process id; 0 when stopped.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When it was created (RFC 3339).
    pub created: String,
    /// The configuration's annotations.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// The user that created it.
    pub owner: String,
}

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    saved: Saved,
    warnings: Vec<String>,
    hook_environment: HookEnvironment,
    steps: Vec<Step>,
}

/// A container whose workload runs as this process's child.
#[derive(Debug)]
pub struct Running {
    container: Container,
    workload: Workload,
}

/// The containers of a folder.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct List {
    /// Those that can be read, by id.
    pub containers: Vec<Container>,
    /// What is wrong with the others.
    pub damaged: Vec<Error>,
}

impl List {
    /// What `state` prints of each container. The name of an owner is looked up once.
    pub fn states(&self) -> Vec<State> {
        let mut names = HashMap::new();
        let mut name = |uid: u32| names.entry(uid).or_insert_with(|| owner(uid)).clone();
        self.containers.iter().map(|container| container.state_of(name(container.saved.owner))).collect()
    }
}

/// A container whose folder is locked, with its state as it is now.
struct Held {
    dir: StateDir,
    saved: Saved,
}

impl Held {
    /// The container `id` of the folder `root`: waits for its lock.
    fn of(root: &Path, id: &str) -> Result<Self> {
        let mut dir = match StateDir::open(root, id)? {
            Opened::Locked(dir) => dir,
            Opened::Busy(busy) => busy.wait()?,
        };
        let saved = dir.load()?;
        Ok(Held { dir, saved })
    }

    fn status(&self) -> Status {
        self.saved.status(self.dir.path())
    }

    /// The configuration as it was at `create`.
    fn config(&self) -> Result<Spec> {
        crate::spec::load_spec(&state::config(self.dir.path()))
    }
}

impl Container {
    /// The container `id` of the folder `root`.
    ///
    /// # Errors
    /// There is none (kind not found), or its state is damaged (kind state).
    pub fn load(root: &Path, id: &str) -> Result<Container> {
        state::check_id(id)?;
        let dir = root.join(id);
        let began = Instant::now();
        let saved = state::read(&dir)?;
        let took = began.elapsed();
        let steps = vec![Step { what: What::Looked, at: took, took }];
        Ok(Container { dir, saved, warnings: Vec::new(), hook_environment: HookEnvironment::default(), steps })
    }

    /// Gives hooks in the runtime's namespaces that name no environment this one; a container that was loaded has none for
    /// them. One that was created keeps [`Options::hook_environment`](crate::options::Options::hook_environment).
    pub fn with_hook_environment(self, hook_environment: HookEnvironment) -> Self {
        Container { hook_environment, ..self }
    }

    /// The containers of the folder `root`; what is no container there is passed over.
    ///
    /// # Errors
    /// The folder cannot be read; ENOENT, if it is not there: there never was a container, or another one is meant.
    pub fn list(root: &Path) -> Result<List> {
        let mut list = List::default();
        let entries = fs::read_dir(root).map_err(|e| Error::io(format!("open {}", root.display()), &e))?;
        for id in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            match Container::load(root, &id) {
                Ok(container) => list.containers.push(container),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Usage) => {}
                Err(error) => list.damaged.push(error.during(format!("container {id}"))),
            }
        }
        list.containers.sort_by(|a, b| a.saved.id.cmp(&b.saved.id));
        Ok(list)
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.saved.id
    }

    /// The configuration's annotations.
    pub fn annotations(&self) -> &HashMap<String, String> {
        &self.saved.annotations
    }

    /// What was odd in the configuration, and no error.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What its `create` or `run` did, and how long that took; where it was loaded, that.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Where it is in its life, now.
    pub fn status(&self) -> Status {
        self.status_by(ProcessRef::is_alive)
    }

    /// The same, by what `lives` says of its init.
    fn status_by(&self, lives: impl Fn(&ProcessRef) -> bool) -> Status {
        // From running on nothing changes that the kernel does not tell.
        let now = match self.saved.phase {
            Phase::Running => None,
            _ => state::read(&self.dir).ok().filter(|now| now.created == self.saved.created),
        };
        let saved = now.as_ref().unwrap_or(&self.saved);
        match saved.phase {
            Phase::Creating if StateDir::is_busy(&self.dir) => Status::Creating,
            _ => saved.status_by(&self.dir, lives),
        }
    }

    /// What `state` prints.
    pub fn state(&self) -> State {
        self.state_of(owner(self.saved.owner))
    }

    /// The same; the name of its owner is known.
    fn state_of(&self, owner: String) -> State {
        let saved = &self.saved;
        let status = self.status();
        let pid = saved.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        State {
            oci_version: saved.oci_version.clone(),
            id: saved.id.clone(),
            pid,
            status,
            bundle: saved.bundle.clone(),
            rootfs: saved.rootfs.clone(),
            created: saved.created.clone(),
            annotations: saved.annotations.clone(),
            owner,
        }
    }

    /// The configuration as it was at `create`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn config(&self) -> Result<Spec> {
        crate::spec::load_spec(&state::config(&self.dir))
    }

    /// The folder of all containers, and this one's name in it.
    fn place(&self) -> (&Path, &str) {
        (self.dir.parent().unwrap_or(Path::new("/")), &self.saved.id)
    }

    /// Locks it and reads its state.
    fn hold(&self) -> Result<Held> {
        let (root, id) = self.place();
        self.same(Held::of(root, id)?)
    }

    /// Does `work` with it locked; what was done comes back with the result, or with the error.
    fn held_traced<T>(&self, work: impl FnOnce(Held, &mut Trace) -> Result<T>) -> Result<(T, Vec<Step>)> {
        traced(|trace| {
            let held = self.hold()?;
            trace.done(What::Loaded);
            work(held, trace)
        })
    }

    /// Another container may have this one's id by now.
    fn same(&self, held: Held) -> Result<Held> {
        match held.saved.created == self.saved.created {
            true => Ok(held),
            false => Err(Error::new(Kind::NotFound, "container does not exist: another one has its id")),
        }
    }
}

/// Does `work`; what it did comes back with its result, or with its error.
fn traced<T>(work: impl FnOnce(&mut Trace) -> Result<T>) -> Result<(T, Vec<Step>)> {
    let mut trace = Trace::begin();
    match work(&mut trace) {
        Ok(result) => Ok((result, trace.into_steps())),
        Err(error) => {
            trace.failed();
            Err(error.with_steps(trace.into_steps()))
        }
    }
}

/// The step of planning.
fn planned_step(program: &Program, filter: Option<&Filter>) -> What {
    let filter = filter.map(|filter| (filter.instructions.len(), filter.flags.0));
    What::Plan { calls: program.calls().len(), filter }
}

/// The name of a user of the host, or its number.
fn owner(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_number = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    text.lines().find_map(by_number).unwrap_or_else(|| uid.to_string())
}

impl Running {
    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The workload's process.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Leaves the workload alone: `run --detach`; as soon as it is ready, if somebody awaits that.
    ///
    /// # Errors
    /// Its readiness cannot be passed on; it runs all the same.
    pub fn detach(self) -> Result<Container> {
        let Workload { pid, pidfd, readiness, .. } = self.workload;
        if let Some(readiness) = readiness {
            readiness.wait(pid, pidfd)?;
        }
        Ok(self.container)
    }
}
