//! Starting a unit for a process that is there, and making sure that it is in it.

use std::cell::Cell;

use nix::errno::Errno;
use zbus::{OwnedObjectPath, Variant};

use super::connection::{Absence, Connection, Fault, Signal};
use super::{Manager, REPLACE, Seen, TRIES, Told, job_result, manager, reset_failed};
use crate::error::{Error, Kind, Result};
use crate::plan::cgroup::systemd::{Property, Unit};

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

const ALREADY_SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";

/// Auxiliary units: none.
type Auxiliary<'a> = [(&'a str, Vec<Told<'a>>); 0];

/// A unit that is to be started.
pub(crate) struct Start<'a> {
    pub(crate) unit: &'a Unit,
    /// The description that tells it from every other one.
    pub(crate) description: &'a str,
    /// The process that a scope is for.
    pub(crate) process: Option<u32>,
    /// Where that process is instead; none if it is in the unit.
    pub(crate) astray: &'a dyn Fn() -> Result<Option<String>>,
    /// Set as soon as systemd may have heard of it: what is not an answer leaves open whether there will be a unit.
    pub(crate) sent: &'a Cell<bool>,
}

/// What an attempt came to.
enum Attempt {
    /// systemd says that it has done it.
    Done,
    /// There is a reason to try once more.
    Again(Error),
}

impl Manager {
    /// Starts a unit: one call, and the end of its job. Then it is seen whether the process is in it: systemd may have dropped
    /// the unit again. A call whose connection went away (systemd is executed anew) is made once more; whether systemd has
    /// heard it already, the description tells.
    ///
    /// # Errors
    /// There is such a unit (kind exists); systemd refuses a property, does not do it, or not in time.
    pub(crate) fn start(&self, start: &Start<'_>) -> Result<()> {
        let deadline = self.deadline();
        let during = |error: Error| error.during(format!("start the unit {}", start.unit.name));
        let mut newer = start.unit.properties.iter().any(|property| property.since.is_some());
        let (mut tries, mut absence) = (0, Absence::Final);
        loop {
            tries += 1;
            let attempt = match self.connect(absence, deadline).map_err(during)? {
                None => Err(Fault::Late),
                Some(mut connection) => self.attempt(&mut connection, start, newer),
            };
            let again = match attempt {
                Ok(Attempt::Done) => match (start.astray)()? {
                    None => return Ok(()),
                    Some(place) => {
                        // One without a process is not what was asked for.
                        self.stop_by(&start.unit.name, deadline)?;
                        Error::new(Kind::Host, format!("systemd says that it is done, and the process is in {place}"))
                    }
                },
                Ok(Attempt::Again(error)) => error,
                // An older systemd does without: what it asks for is written as well.
                Err(Fault::Refused { .. }) if newer => {
                    newer = false;
                    tries = 0;
                    continue;
                }
                Err(Fault::Gone(error)) => {
                    absence = Absence::Passing;
                    error
                }
                Err(fault) => return Err(during(self.error(fault, &start.unit.properties))),
            };
            if tries == TRIES {
                return Err(during(again.during(format!("given up after {TRIES} attempts"))));
            }
        }
    }

    fn attempt(
        &self,
        connection: &mut Connection,
        start: &Start<'_>,
        newer: bool,
    ) -> std::result::Result<Attempt, Fault> {
        let name = start.unit.name.as_str();
        let description = Variant::from(start.description);
        let processes = start.process.map(|process| Variant::from(vec![process]));
        let mut told: Vec<(&str, &Variant<'_>)> = vec![("Description", &description)];
        told.extend(processes.as_ref().map(|processes| ("PIDs", processes)));
        let of_plan = |property: &&Property| property.name != "Description" && (newer || property.since.is_none());
        told.extend(
            start.unit.properties.iter().filter(of_plan).map(|property| (property.name.as_str(), &property.value)),
        );
        let nothing: &Auxiliary<'_> = &[];
        let earlier = start.sent.replace(true);
        match connection.call(manager("StartTransientUnit"), &(name, REPLACE, told, &nothing[..])) {
            Ok(job) => {
                let job: OwnedObjectPath = job;
                let result = job_result(connection, name, job.as_str())?;
                over(connection, name, &result)
            }
            Err(Fault::Refused { name: error, .. }) if error == UNIT_EXISTS => {
                exists(connection, name, earlier.then_some(start.description))
            }
            Err(fault) => Err(fault),
        }
    }
}

/// What the end of a job means.
fn over(connection: &mut Connection, unit: &str, result: &str) -> std::result::Result<Attempt, Fault> {
    if result == "done" {
        return Ok(Attempt::Done);
    }
    reset_failed(connection, unit)?;
    let error = Error::new(Kind::Host, format!("systemd's job for it has ended with {result:?}"));
    match result {
        // Somebody else's job came in between, or systemd has thrown all jobs away.
        "canceled" => Ok(Attempt::Again(error)),
        _ => Err(Fault::Failed(error)),
    }
}

/// There is a unit of that name: that of an earlier attempt of this launch, one that is just going, or somebody else's.
fn exists(connection: &mut Connection, unit: &str, ours: Option<&str>) -> std::result::Result<Attempt, Fault> {
    let again = |text: &str| Ok(Attempt::Again(Error::new(Kind::Host, text)));
    // A bus passes on what becomes of a unit only to who has asked for it, or has begun it on the same connection.
    match connection.call(manager("Subscribe"), &()) {
        Err(Fault::Refused { name, .. }) if name == ALREADY_SUBSCRIBED => {}
        result => result?,
    }
    let Some(seen) = Seen::at(connection, unit)? else { return again("a unit of that name has just gone") };
    let is_ours = ours.is_some_and(|ours| ours == seen.description);
    match seen.state.as_str() {
        "active" | "reloading" if is_ours => Ok(Attempt::Done),
        "failed" if seen.transient => {
            reset_failed(connection, unit)?;
            again("a unit of that name had failed")
        }
        // It is just going, or has a job that is to start it.
        "inactive" | "deactivating" | "activating" if seen.transient && (is_ours || seen.state != "activating") => {
            loop {
                match connection.signal()? {
                    Signal::JobRemoved { unit: of, result, .. } if of == unit && is_ours => {
                        return over(connection, unit, &result);
                    }
                    Signal::JobRemoved { unit: of, .. } | Signal::UnitRemoved { unit: of } if of == unit => {
                        return again("a unit of that name was just going");
                    }
                    _ => {}
                }
            }
        }
        state => {
            let what = if seen.transient { "a unit" } else { "a unit with a file" };
            let text = format!("there is {what} of that name, {state}: {:?}", seen.description);
            Err(Fault::Failed(Error::new(Kind::Exists, text).with_errno(Errno::EEXIST).at("linux.cgroupsPath")))
        }
    }
}
