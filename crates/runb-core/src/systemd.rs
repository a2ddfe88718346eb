//! systemd as the maker of cgroups: units are started, changed and stopped by D-Bus.
//!
//! Source: org.freedesktop.systemd1(5). `create`, `run`, `update` and `delete` come here. The other verbs go by the cgroup's
//! directories; of them only one that adds a process to a user's container comes here, where the kernel has refused.

mod address;
mod connection;
mod start;
mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::error::{Error, Kind, Result};
use crate::options::{Systemd, Whose};
use crate::plan::cgroup::systemd::Property;
pub(crate) use address::folder;
use address::{Address, Peer, addresses};
use connection::{Absence, Connection, Fault, Signal};
use wire::Method;

pub(crate) use start::Start;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A job of the same unit that waits, or is at work, gives way.
const REPLACE: &str = "replace";

/// The systemd that is asked.
#[derive(Debug)]
pub(crate) struct Manager {
    addresses: Vec<Address>,
    patience: Duration,
    whose: Whose,
}

/// The name, and where it comes from, of a property that systemd is told.
type Told<'a> = (&'a str, &'a Variant<'static>);

impl Manager {
    pub(crate) fn of(systemd: &Systemd) -> Self {
        Manager { addresses: addresses(systemd), patience: systemd.patience, whose: systemd.whose }
    }

    /// Changes properties of a unit that is there, until it is stopped.
    ///
    /// # Errors
    /// There is no such unit; systemd refuses a property.
    pub(crate) fn set_properties(&self, unit: &str, properties: &[Property]) -> Result<()> {
        let told: Vec<Told<'_>> = properties.iter().map(|property| (property.name.as_str(), &property.value)).collect();
        let runtime = true;
        self.ask(&format!("change the unit {unit}"), self.deadline(), properties, |connection| {
            connection.call(manager("SetUnitProperties"), &(unit, runtime, &told))
        })
    }

    /// Moves a process into the cgroup `below` that of a unit: `/` is the unit's own.
    ///
    /// # Errors
    /// There is no such unit or cgroup; the process is not the caller's.
    pub(crate) fn attach(&self, unit: &str, below: &str, process: u32) -> Result<()> {
        self.ask(&format!("attach the process {process} to the unit {unit}"), self.deadline(), &[], |connection| {
            connection.call(manager("AttachProcessesToUnit"), &(unit, below, vec![process]))
        })
    }

    /// Stops a unit and waits until it is. One that is not there is stopped.
    ///
    /// # Errors
    /// systemd does not answer, or not in time.
    pub(crate) fn stop(&self, unit: &str) -> Result<()> {
        self.stop_by(unit, self.deadline())
    }

    fn stop_by(&self, unit: &str, deadline: Instant) -> Result<()> {
        self.ask(&format!("stop the unit {unit}"), deadline, &[], |connection| {
            let job: OwnedObjectPath = match connection.call(manager("StopUnit"), &(unit, REPLACE)) {
                Err(Fault::Refused { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
                job => job?,
            };
            let result = job_result(connection, unit, job.as_str())?;
            if result != "done" {
                reset_failed(connection, unit)?;
            }
            Ok(())
        })
    }

    /// Lets systemd forget that a unit has failed.
    ///
    /// # Errors
    /// As [`Manager::stop`].
    pub(crate) fn reset_failed(&self, unit: &str) -> Result<()> {
        self.ask(&format!("reset the unit {unit}"), self.deadline(), &[], |connection| reset_failed(connection, unit))
    }

    /// What a unit is described as; none if there is no such unit.
    ///
    /// # Errors
    /// As [`Manager::stop`].
    pub(crate) fn description(&self, unit: &str) -> Result<Option<String>> {
        self.ask(&format!("look at the unit {unit}"), self.deadline(), &[], |connection| {
            Ok(Seen::at(connection, unit)?.map(|seen| seen.description))
        })
    }

    /// The cgroup of systemd itself, below which its slices lie.
    fn control_group(&self) -> Result<String> {
        self.ask("ask for the cgroup of the user's systemd", self.deadline(), &[], |connection| {
            property(connection, PATH, MANAGER, "ControlGroup")
        })
    }

    /// Does `what` on a connection; on another one if the first goes away before it is done.
    fn ask<T>(
        &self,
        what: &str,
        deadline: Instant,
        properties: &[Property],
        mut work: impl FnMut(&mut Connection) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let mut tries = 0;
        let mut absence = Absence::Final;
        loop {
            tries += 1;
            let fault = match self.connect(absence, deadline).map_err(|error| error.during(what))? {
                Some(mut connection) => match work(&mut connection) {
                    Ok(value) => return Ok(value),
                    Err(fault) => fault,
                },
                None => Fault::Late,
            };
            if !matches!(fault, Fault::Gone(_)) || tries == TRIES {
                return Err(self.error(fault, properties).during(what));
            }
            absence = Absence::Passing;
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Connects to the first place that takes it; none if the time is over. A socket of systemd's own where nobody listens is one
    /// that is just being executed anew: on the bus, which stays, it is waited for.
    fn connect(&self, mut absence: Absence, deadline: Instant) -> Result<Option<Connection>> {
        let mut errors: Vec<String> = Vec::new();
        let mut addresses: Vec<&Address> = self.addresses.iter().collect();
        if absence == Absence::Passing {
            addresses.sort_by_key(|address| address.peer == Peer::Manager);
        }
        for address in addresses {
            match Connection::open(address, absence, deadline) {
                Ok(connection) => return Ok(Some(connection)),
                Err(Fault::Late) => return Ok(None),
                Err(Fault::Gone(error) | Fault::Failed(error)) => {
                    let nobody = matches!(error.nix_errno(), Some(Errno::ECONNREFUSED | Errno::ECONNRESET));
                    if address.peer == Peer::Manager && nobody {
                        absence = Absence::Passing;
                    }
                    errors.push(error.to_string());
                }
                Err(Fault::Refused { text, .. }) => errors.push(text),
            }
        }
        let hint = match self.whose {
            Whose::System => "is it this machine's init, and is the caller root?",
            Whose::User => {
                "a user's needs XDG_RUNTIME_DIR or DBUS_SESSION_BUS_ADDRESS, a login session or lingering, and dbus-user-session"
            }
        };
        let tried = if errors.is_empty() { "no address of it is known".to_owned() } else { errors.join("; ") };
        Err(Error::new(Kind::Host, format!("no systemd can be reached ({hint}): {tried}")))
    }

    /// A fault as an error; with the place in config.json of the property that systemd speaks of.
    fn error(&self, fault: Fault, properties: &[Property]) -> Error {
        match fault {
            Fault::Late => {
                let text = format!("systemd does not answer, or is not done, within {}s", self.patience.as_secs_f32());
                Error::host(text, Errno::ETIMEDOUT)
            }
            Fault::Gone(error) | Fault::Failed(error) => error,
            Fault::Refused { name, text } => {
                let words = || text.split(|c: char| !c.is_ascii_alphanumeric());
                let named = properties.iter().find(|property| words().any(|word| word == property.name));
                let origin = named.map(|property| property.origin.clone()).filter(|origin| !origin.is_empty());
                let error = Error::new(Kind::Host, format!("{text} ({name})"));
                origin.into_iter().fold(error, Error::at)
            }
        }
    }
}

/// How often a connection that went away is made anew.
const TRIES: u32 = 3;

fn manager(name: &str) -> Method<'_> {
    Method { destination: SYSTEMD, path: PATH, interface: MANAGER, name }
}

/// Waits for the end of a job.
fn job_result(connection: &mut Connection, unit: &str, job: &str) -> std::result::Result<String, Fault> {
    loop {
        if let Signal::JobRemoved { job: over, unit: of, result } = connection.signal()?
            && over == job
            && of == unit
        {
            return Ok(result);
        }
    }
}

fn reset_failed(connection: &mut Connection, unit: &str) -> std::result::Result<(), Fault> {
    match connection.call(manager("ResetFailedUnit"), &(unit,)) {
        Err(Fault::Refused { name, .. }) if name == NO_SUCH_UNIT => Ok(()),
        result => result,
    }
}

fn property<T>(connection: &mut Connection, path: &str, interface: &str, name: &str) -> std::result::Result<T, Fault>
where
    T: TryFrom<OwnedVariant>,
{
    let get = Method { destination: SYSTEMD, path, interface: PROPERTIES, name: "Get" };
    let (value,): (OwnedVariant,) = connection.call(get, &(interface, name))?;
    T::try_from(value)
        .map_err(|_| Fault::Failed(Error::new(Kind::Host, format!("{interface}.{name} has another type"))))
}

/// A unit as systemd has it.
struct Seen {
    /// `active`, `inactive`, `failed`, …
    state: String,
    description: String,
    transient: bool,
}

impl Seen {
    /// Looks; none if there is no such unit.
    fn at(connection: &mut Connection, unit: &str) -> std::result::Result<Option<Self>, Fault> {
        let gone = |fault: &Fault| matches!(fault, Fault::Refused { name, .. } if name == NO_SUCH_UNIT || name == "org.freedesktop.DBus.Error.UnknownObject");
        let mut look = || {
            let path: OwnedObjectPath = connection.call(manager("GetUnit"), &(unit,))?;
            Ok(Seen {
                state: property(connection, path.as_str(), UNIT, "ActiveState")?,
                description: property(connection, path.as_str(), UNIT, "Description")?,
                transient: property(connection, path.as_str(), UNIT, "Transient")?,
            })
        };
        match look() {
            // It went while it was looked at.
            Err(fault) if gone(&fault) => Ok(None),
            seen => seen.map(Some),
        }
    }
}

/// Where the cgroups lie that `systemd` makes, from the top of each hierarchy.
///
/// # Errors
/// A user's systemd does not say it.
pub fn manager_cgroup(systemd: &Systemd) -> Result<PathBuf> {
    match systemd.whose {
        // Below the top, unless systemd is the init of a container that has no cgroup namespace.
        Whose::System => {
            Ok(std::fs::read_to_string("/proc/1/cgroup").map_or_else(|_| "/".into(), |text| above_init(&text)))
        }
        Whose::User => {
            Manager::of(systemd).control_group().map(|path| Path::new("/").join(path.trim_start_matches('/')))
        }
    }
}

/// The cgroup that has init.scope, where systemd itself is.
fn above_init(proc_cgroup: &str) -> PathBuf {
    let paths = proc_cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .filter_map(|path| path.strip_suffix("/init.scope"))
        .next()
        .map_or_else(|| PathBuf::from("/"), |above| Path::new("/").join(above.trim_start_matches('/')))
}

#[cfg(test)]
mod tests;
