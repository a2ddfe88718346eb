//! A connection to systemd, directly or over a bus. Nothing here waits for longer than its deadline.
//!
//! All that is known from the beginning goes out with the first call: the authentication, the greeting of a bus and what is to
//! be heard from it. So a launch waits for systemd twice: for its answer, and for the end of the job.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, connect, recv, send, setsockopt, socket};
use nix::sys::time::TimeVal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::{DynamicType, OwnedObjectPath, Type};

use super::address::{Address, Peer};
use super::wire::{self, Body, FIXED, Message, Method};
use crate::error::{Error, Kind};
use crate::socket::wait_for;

/// The kernel tells who this is: no number is sent, which would be another one in a user namespace.
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

/// More than any answer to it has.
const LONGEST_ANSWER: usize = 4096;

/// What a bus answers in place of one that is not on it, or has gone from it with the call.
const ABSENT: [&str; 3] =
    ["org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner", NO_REPLY];
const NO_REPLY: &str = "org.freedesktop.DBus.Error.NoReply";

const DBUS: &str = "org.freedesktop.DBus";

/// Why a call has not succeeded.
#[derive(Debug)]
pub(super) enum Fault {
    /// The answer is an error.
    Refused { name: String, text: String },
    /// The connection is gone: whether the call was heard is not known.
    Gone(Error),
    /// There is no answer, and the time is over.
    Late,
    /// It is of no use to go on: what came cannot be understood, or says so.
    Failed(Error),
}

impl Fault {
    fn failed(what: &str, error: impl std::fmt::Display) -> Self {
        Fault::Failed(Error::new(Kind::Host, format!("{what}: {error}")))
    }
}

/// What systemd says without being asked.
#[derive(Debug)]
pub(super) enum Signal {
    /// A job is over.
    JobRemoved { job: String, unit: String, result: String },
    /// A unit is not known any more.
    UnitRemoved { unit: String },
    /// systemd has come to the bus.
    Came,
}

/// Whether systemd is waited for where it is not on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// There is none.
    Final,
    /// It is there, and is just being executed anew.
    Passing,
}

/// A connection that can be used.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    name: String,
    deadline: Instant,
    absence: Absence,
    /// What waits to be sent.
    outgoing: Vec<u8>,
    /// What came and was not looked at, from `seen` on.
    incoming: Vec<u8>,
    seen: usize,
    serial: u32,
    /// Calls whose answers nobody waits for, unless they are errors.
    greetings: Vec<u32>,
    signals: VecDeque<Signal>,
}

impl Connection {
    /// Connects.
    ///
    /// Errors: nobody listens there; the authentication is not taken.
    pub(super) fn open(address: &Address, absence: Absence, deadline: Instant) -> Result<Self, Fault> {
        let name = address.to_string();
        let gone = |errno| Fault::Gone(Error::host(format!("connect to {name}"), errno));
        let socket = connected(address, deadline).map_err(gone)?;
        let mut connection = Connection {
            socket,
            name,
            deadline,
            absence,
            outgoing: AUTHENTICATION.to_vec(),
            incoming: Vec::new(),
            seen: 0,
            serial: 0,
            greetings: Vec::new(),
            signals: VecDeque::new(),
        };
        if address.peer == Peer::Bus {
            connection.greet()?;
        }
        connection.flush()?;
        connection.authenticate()?;
        Ok(connection)
    }

    /// A bus wants a greeting, and to be told what is to be heard.
    fn greet(&mut self) -> Result<(), Fault> {
        let of_bus = |name| Method { destination: DBUS, path: "/org/freedesktop/DBus", interface: DBUS, name };
        let hello = self.queue(of_bus("Hello"), &())?;
        self.greetings.push(hello);
        let of_systemd = |member| {
            let (sender, path, interface) = (super::SYSTEMD, super::PATH, super::MANAGER);
            format!("type='signal',sender='{sender}',path='{path}',interface='{interface}',member='{member}'")
        };
        let owner =
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.systemd1'";
        for rule in [of_systemd("JobRemoved"), of_systemd("UnitRemoved"), owner.to_owned()] {
            let matched = self.queue(of_bus("AddMatch"), &(rule,))?;
            self.greetings.push(matched);
        }
        Ok(())
    }

    fn authenticate(&mut self) -> Result<(), Fault> {
        loop {
            let fresh = &self.incoming[self.seen..];
            let Some(end) = fresh.windows(2).position(|pair| pair == b"\r\n") else {
                if fresh.len() > LONGEST_ANSWER {
                    return Err(Fault::failed(&self.name, "what answers is no bus"));
                }
                self.receive()?;
                continue;
            };
            let line = String::from_utf8_lossy(&fresh[..end]).into_owned();
            self.seen += end + 2;
            match line.split(' ').next() {
                Some("OK") => return Ok(()),
                Some("DATA") => {}
                _ => return Err(Fault::failed(&self.name, format!("the authentication is not taken: {line}"))),
            }
        }
    }

    /// Calls a method and waits for its answer.
    ///
    /// Errors: as [`Fault`].
    pub(super) fn call<B, R>(&mut self, method: Method<'_>, body: &B) -> Result<R, Fault>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + Type,
    {
        let mut serial = self.queue(method, body)?;
        self.flush()?;
        loop {
            match self.next()? {
                Message::Return { to, body } if to == serial => return self.read(method.name, &body),
                Message::Error { to, name, .. }
                    if to == serial && self.absence == Absence::Passing && ABSENT.contains(&name.as_str()) =>
                {
                    while !matches!(self.signal()?, Signal::Came) {}
                    serial = self.queue(method, body)?;
                    self.flush()?;
                }
                Message::Error { to, name, body } if to == serial || self.greetings.contains(&to) => {
                    let text = body.read::<(String,)>().map_or_else(|_| String::new(), |(text,)| text);
                    return Err(match name == NO_REPLY {
                        true => Fault::Gone(Error::new(Kind::Host, format!("{}: {text} ({name})", self.name))),
                        false => Fault::Refused { name, text },
                    });
                }
                Message::Signal { member, body } => self.keep(&member, &body)?,
                _ => {}
            }
        }
    }

    /// The next signal.
    pub(super) fn signal(&mut self) -> Result<Signal, Fault> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            if let Message::Signal { member, body } = self.next()? {
                self.keep(&member, &body)?;
            }
        }
    }

    fn keep(&mut self, member: &str, body: &Body) -> Result<(), Fault> {
        match member {
            "JobRemoved" => {
                let (_, job, unit, result) = self.read::<(u32, OwnedObjectPath, String, String)>(member, body)?;
                self.signals.push_back(Signal::JobRemoved { job: job.to_string(), unit, result });
            }
            "UnitRemoved" => {
                let (unit, _) = self.read::<(String, OwnedObjectPath)>(member, body)?;
                self.signals.push_back(Signal::UnitRemoved { unit });
            }
            "NameOwnerChanged" => {
                let (_, _, owner) = self.read::<(String, String, String)>(member, body)?;
                if !owner.is_empty() {
                    self.signals.push_back(Signal::Came);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read<T: DeserializeOwned + Type>(&self, what: &str, body: &Body) -> Result<T, Fault> {
        body.read().map_err(|error| Fault::failed(&format!("{}: {what}", self.name), error))
    }

    fn queue<B>(&mut self, method: Method<'_>, body: &B) -> Result<u32, Fault>
    where
        B: Serialize + DynamicType,
    {
        self.serial += 1;
        let bytes = wire::call(self.serial, method, body).map_err(|error| Fault::failed(method.name, error))?;
        self.outgoing.extend_from_slice(&bytes);
        Ok(self.serial)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut sent = 0;
        while sent < self.outgoing.len() {
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.socket.as_raw_fd(), &self.outgoing[sent..], flags) {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                // What it said before it went is read first: an answer, or why the authentication is not taken.
                Err(Errno::EPIPE | Errno::ECONNRESET) => break,
                Err(errno) => return Err(self.gone("send to", errno)),
            }
        }
        self.outgoing.clear();
        Ok(())
    }

    /// The next whole message.
    fn next(&mut self) -> Result<Message, Fault> {
        loop {
            let fresh = &self.incoming[self.seen..];
            if let Some(fixed) = fresh.first_chunk::<FIXED>() {
                let length = wire::length(fixed).ok_or_else(|| Fault::failed(&self.name, "what came is no message"))?;
                if let Some(message) = fresh.get(..length) {
                    let message = wire::message(message).map_err(|error| Fault::failed(&self.name, error));
                    self.seen += length;
                    return message;
                }
            }
            self.receive()?;
        }
    }

    /// Waits for more bytes.
    fn receive(&mut self) -> Result<(), Fault> {
        self.incoming.drain(..self.seen);
        self.seen = 0;
        let mut buffer = [0; 16 * 1024];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(self.gone("read from", Errno::ECONNRESET)),
                Ok(count) => {
                    self.incoming.extend_from_slice(&buffer[..count]);
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(errno) => return Err(self.gone("read from", errno)),
            }
        }
    }

    fn wait(&self, event: PollFlags) -> Result<(), Fault> {
        match wait_for(&mut [PollFd::new(self.socket.as_fd(), event)], self.deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::Late),
            Err(errno) => Err(self.gone("poll", errno)),
        }
    }

    fn gone(&self, call: &str, errno: Errno) -> Fault {
        Fault::Gone(Error::host(format!("{call} {}", self.name), errno))
    }
}

/// A connect waits while the queue of the other side is full; an errno of its own tells that the time is over.
fn connected(address: &Address, deadline: Instant) -> Result<OwnedFd, Errno> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let unix = address.unix()?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT);
        }
        let (seconds, micros) = (left.as_secs().cast_signed(), i64::from(left.subsec_micros()));
        // 0 would be no limit.
        setsockopt(&stream, SendTimeout, &TimeVal::new(seconds, if seconds == 0 { micros.max(1) } else { micros }))?;
        match connect(stream.as_raw_fd(), &unix) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            result => return result.map(|()| stream),
        }
    }
}
