//! The harness of the integration tests.
//!
//! A test is a plain `#[test]` function that says in which cgroup modes it runs:
//!
//! ```no_run
//! use runb_tests::*;
//!
//! fn run_returns_the_workloads_exit_code() {
//!     in_modes(LIFECYCLE, |t| assert_eq!(t.bundle().sh("exit 7").run().code, 7));
//! }
//! ```
//!
//! For each mode the test executes itself again as the first process of a private pid and mount namespace, where
//! `/sys/fs/cgroup` is laid out for the mode, and `/run`, `/var/log` and the test's directory are a tmpfs of its own.
//! The first process of a pid namespace adopts every orphan and takes every process with it, so that what a runtime
//! leaves behind is seen, and does not outlive the test. After the test the harness looks for leftovers (see
//! [`leftovers`]); one is a failure even where all assertions held.
//!
//! [`under_systemd`] runs a test on the machine as systemd has laid it out: with its `/run`, where D-Bus can be reached, and in its
//! pid namespace, as systemd takes no process of another. The runtime is called with `--systemd-cgroup`, `cgroupsPath` is
//! `slice:prefix:name`, and units are looked for as leftovers.
//!
//! [`for_anyone`] runs a test as [`in_modes`] does, and once more in a user namespace and as a plain user: what the parameter adds is
//! where the runtime stands, and the test is the same.
//!
//! `RUNB_UNDER_TEST=/usr/sbin/runc` points the tests at another runtime. What a machine or a runtime cannot do is
//! skipped; each skip is printed with a running number. `RUNB_TESTS_REPORT` names a file for a line about each test and site: `ran …` or
//! `skipped …`. `RUNB_TESTS_SITES=v2,systemd` runs the tests in those sites alone. `RUNB_TESTS_PATIENCE=10` waits ten times as
//! long for what has a deadline. `hack/vm-tests` sets them for a virtual machine.
//! `RUNB_TESTS_CRIU` names a CRIU that works with the machine's kernel, where that of the search path does not.
//! What would take long is sampled (see [`sample`]); `RUNB_TESTS_ALL=1` leaves nothing out.

pub mod agent;
pub mod apparmor;
pub mod bundle;
pub mod criu;
pub mod host;
pub mod leftovers;
pub mod modes;
mod report;
pub mod resctrl;
pub mod runtime;
pub mod sample;
pub mod settings;
pub mod site;
pub mod squash;
pub mod standing;
pub mod stops;
pub mod systemd;
pub mod terminal;
pub mod traced;
pub mod user;
pub mod wait;

pub use agent::{Agent, Answer, Heard};
pub use apparmor::Profile;
pub use bundle::{Bundle, Container, default_spec};
pub use criu::Criu;
pub use host::Test;
pub use modes::{ALL, HYBRID, LIFECYCLE, V1, V2, as_user, for_anyone, in_modes, inside, under_systemd};
pub use runtime::{Kind, Outcome};
pub use serde_json::{Value, json};
pub use settings::Settings;
pub use site::{Mode, Site};
pub use standing::{Place, Standing};
pub use terminal::{ConsoleSocket, Screen, User};
pub use traced::Traced;
