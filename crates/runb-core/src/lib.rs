//! runb-core: an OCI runtime as a library. A launch is a program: see docs/design.md.
//!
//! ```no_run
//! use runb_core::container::{Container, Force};
//! use runb_core::options::Options;
//!
//! let mut options = Options::new("web1", "/run/my-program", "/srv/web1");
//! options.pid_file = Some("/run/my-program/web1.pid".into());
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

pub mod container;
pub mod error;
pub mod features;
pub mod options;
pub mod signal;
pub mod stats;
pub mod template;
pub mod trace;

mod ask;
mod child;
mod criu;
mod hearing;
mod network;
mod notify;
mod resctrl;
mod socket;
mod sys;
mod systemd;

/// Modules that are this crate's own. The feature `internals` shows them to the command and to the tests of this workspace, and
/// to nobody else: they change without notice.
macro_rules! internals {
    ($($name:ident)+) => { $(
        #[cfg(feature = "internals")]
        #[doc(hidden)]
        pub mod $name;
        #[cfg(not(feature = "internals"))]
        mod $name;
    )+ };
}
internals! { cgroup hooks host input launch plan spec state survey terminal undo }

pub use error::{Errno, Error, Kind, Result};
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use sys::{Heap, Stdout, begin_process};
