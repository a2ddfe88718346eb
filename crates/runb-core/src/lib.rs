//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.
//!
//! ```no_run
//! use runb_core::container::{Container, Force};
//! use runb_core::options::Options;
//!
//! let options = Options {
//!     id: "web1".into(),
//!     root: "/run/my-program".into(),
//!     bundle: "/srv/web1".into(),
//!     ..Options::default()
//! };
//! let container = Container::create(&options)?;
//! container.start()?;
//! println!("{} is {}", container.id(), container.status());
//! container.delete(Force::Yes)?;
//! # Ok::<(), runb_core::Error>(())
//! ```
//!
//! Any thread may call it, beside others: the child of a launch runs nothing of the calling program. The container's init is a
//! child of the calling process, which has to reap it (waitpid(2), or waitid(2) on [`container::Workload::pidfd`]). Nothing is
//! printed or logged, no environment variable is read, no signal handler is set. A program that ignores SIGCHLD, or reaps
//! children that are not its own, makes containers all the same; but hooks fail, and there is no exit status: nobody can tell
//! how a child has ended then.

pub mod cgroup;
mod child;
pub mod container;
pub mod error;
pub mod features;
mod hearing;
pub mod hooks;
pub mod host;
pub mod input;
pub mod launch;
mod notify;
pub mod options;
pub mod plan;
pub mod signal;
mod socket;
pub mod spec;
pub mod state;
pub mod stats;
pub mod survey;
mod sys;
pub mod template;
pub mod terminal;
pub mod trace;
pub mod undo;

pub use error::{Error, Kind, Result};
pub use sys::{Stdout, begin_process};
