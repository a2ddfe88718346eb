//! The conversation with CRIU: a socket, a message each way, and between a request and its answer what CRIU wants done meanwhile.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use prost::Message;

use super::external::Joined;
use super::version::{Need, OLDEST, Version};
use super::wire::{self, Features, Opts, Req, Resp, Type};
use crate::ask;
use crate::child::{Child, Place};
use crate::error::{Error, Kind, Result};
use crate::hearing::{deadline, ended, pair};
use crate::hooks;
use crate::options::Criu;
use crate::plan::criu::program;
use crate::sys;

/// More than any message of CRIU has: an error's text is the longest part of one.
const LONGEST: usize = 64 << 10;

/// Whose standard descriptors CRIU has, and with it who is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// Nobody's.
    Null,
    /// Those of this process.
    Own,
}

/// What CRIU wants done before it goes on.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Which step of its work it has come to (criu(8), "--action-script").
    pub(crate) script: String,
    /// The first process that is restored.
    pub(crate) pid: Option<i32>,
    /// What came with it.
    pub(crate) descriptor: Option<OwnedFd>,
}

/// A CRIU that waits for requests. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    socket: OwnedFd,
    version: Version,
}

impl Conversation {
    /// Starts CRIU, and asks which one it is. It gets `joined` as descriptors.
    ///
    /// # Errors
    /// There is none, it cannot be executed, or it does not answer as one; a namespace cannot be opened.
    pub(crate) fn begin(criu: &Criu, joined: &[Joined], stdio: Stdio) -> Result<Self> {
        let Some(path) = ask::find("criu", &criu.search) else {
            return Err(Error::new(Kind::Host, "there is no criu in the search path"));
        };
        let failed = |error: Error| error.with_kind(Kind::Host).during(format_args!("start {}", path.display()));
        let (ours, theirs) = pair()?;
        let null = match stdio {
            Stdio::Null => Some(null().map_err(failed)?),
            Stdio::Own => None,
        };
        let stdio = null.as_ref().map(|null| [null.as_fd(); 3]);
        let place = Place { more: Some(theirs.as_fd()), stdio, ..Place::default() };
        let files: Vec<_> = joined.iter().map(|joined| (joined.place.as_str(), joined.path.as_path())).collect();
        let child =
            hooks::start(&program(&path, &files, criu.environment.entries()), place, |_| Ok(())).map_err(failed)?;
        drop(theirs);
        let mut conversation = Conversation { child, socket: ours, version: OLDEST };
        conversation.version = conversation.ask_version(&path)?;
        Ok(conversation)
    }

    fn ask_version(&mut self, path: &Path) -> Result<Version> {
        let request = Req { r#type: Type::Version.into(), keep_open: Some(true), ..Req::default() };
        let answer = self.say(&request).and_then(|()| self.hear());
        match answer.map_err(|error| error.during(format_args!("ask {} for its version", path.display())))? {
            (Resp { success: true, version: Some(version), .. }, _) => Ok(Version::from(&version)),
            _ => Err(too_old(path)),
        }
    }

    /// Its version.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }

    /// Sees that it is new enough.
    ///
    /// # Errors
    /// It is not, for one of `needs`.
    pub(crate) fn has(&self, needs: &[Need]) -> Result<()> {
        self.version.has(needs)
    }

    /// Sees that it and the kernel have all of `wanted`, each with the option that asks for it.
    ///
    /// # Errors
    /// They do not.
    pub(crate) fn has_features(&mut self, wanted: &[(&'static str, Features)]) -> Result<()> {
        for (option, features) in wanted {
            let request = Req {
                r#type: Type::FeatureCheck.into(),
                keep_open: Some(true),
                features: Some(features.clone()),
                ..Req::default()
            };
            self.say(&request)?;
            let (answer, _) = self.hear()?;
            let has = answer.features.unwrap_or_default();
            let lacks = |wanted: Option<bool>, has: Option<bool>| wanted == Some(true) && has != Some(true);
            if !answer.success || lacks(features.mem_track, has.mem_track) || lacks(features.lazy_pages, has.lazy_pages)
            {
                let text = format!("CRIU {} cannot do that with this kernel", self.version);
                return Err(Error::new(Kind::Host, text).at(*option));
            }
        }
        Ok(())
    }

    /// Has it do `task`, and `work` what it wants done meanwhile. An error of `work` ends the task, and is what is told; of CRIU's
    /// own failure what `log` finds in its log.
    ///
    /// # Errors
    /// It fails, and says why; it ends without an answer.
    pub(crate) fn ask(
        &mut self,
        task: Type,
        opts: Opts,
        work: &mut dyn FnMut(Heard) -> Result<()>,
        log: impl FnOnce() -> Option<String>,
    ) -> Result<Resp> {
        self.say(&Req { r#type: task.into(), opts: Some(opts), ..Req::default() })?;
        let mut cause = None;
        loop {
            let (answer, descriptor) = match self.hear() {
                Ok(heard) => heard,
                Err(error) => return Err(cause.unwrap_or_else(|| log().into_iter().fold(error, Error::with_hint))),
            };
            if answer.r#type != i32::from(Type::Notify) {
                return match (cause, answer.success) {
                    (Some(error), _) => Err(error),
                    (None, true) => Ok(answer),
                    (None, false) => Err(refusal(&answer, log())),
                };
            }
            let notify = answer.notify.unwrap_or_default();
            let heard = Heard { script: notify.script.unwrap_or_default(), pid: notify.pid, descriptor };
            let done = if cause.is_none() { work(heard) } else { Ok(()) };
            let reply = Req {
                r#type: Type::Notify.into(),
                notify_success: Some(done.is_ok() && cause.is_none()),
                ..Req::default()
            };
            cause = cause.or(done.err());
            self.say(&reply).or_else(|error| cause.take().map_or(Err(error), Err))?;
        }
    }

    fn say(&self, request: &Req) -> Result<()> {
        let bytes = request.encode_to_vec();
        loop {
            match send(self.socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                // Its end is noticed by who hears it.
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(()),
                Err(errno) => return Err(Error::host("send to CRIU", errno)),
            }
        }
    }

    /// The next message, or an error at the end of CRIU: who it has made may have its socket.
    fn hear(&self) -> Result<(Resp, Option<OwnedFd>)> {
        let gone = || Error::new(Kind::Host, "CRIU has ended without an answer");
        let Some(pidfd) = self.child.pidfd() else { return Err(gone()) };
        loop {
            let mut fds =
                [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll", errno)),
                Ok(_) if fds[0].any() != Some(true) => return Err(gone()),
                Ok(_) => break,
            }
        }
        let mut buffer = vec![0; LONGEST];
        let message = loop {
            match sys::receive(&self.socket, &mut buffer) {
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => return Err(gone()),
                Err(errno) => return Err(Error::host("recvmsg from CRIU", errno)),
                Ok(message) => break message,
            }
        };
        match &buffer[..message.length] {
            [] => Err(gone()),
            bytes => match Resp::decode(bytes) {
                Ok(answer) => Ok((answer, message.descriptor)),
                Err(error) => Err(Error::new(Kind::Host, format!("CRIU sent what is no message of its: {error}"))),
            },
        }
    }

    /// Waits for its end, which comes when nobody asks anything more.
    pub(crate) fn end(self) {
        let Conversation { child, socket, .. } = self;
        drop(socket);
        if let Some(pidfd) = child.pidfd() {
            let _ = ended(pidfd, deadline());
        }
        // Reaped, and killed before that if it has not ended.
        drop(child);
    }
}

fn too_old(path: &Path) -> Error {
    let text = format!("{} does not tell its version: CRIU {OLDEST} or newer is needed", path.display());
    Error::new(Kind::Host, text)
}

/// Why it has not done what it was asked for. Its log ends with that; what it says itself is the first thing that went wrong, which
/// may be nothing.
fn refusal(answer: &wire::Resp, log: Option<String>) -> Error {
    let said = || answer.cr_errmsg.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let said = log.or_else(said).map(|text| format!(": {text}")).unwrap_or_default();
    let error = Error::new(Kind::Host, format!("CRIU failed{said}"));
    match answer.cr_errno {
        Some(errno) if errno > 0 => error.with_errno(Errno::from_raw(errno)),
        _ => error,
    }
}

fn null() -> Result<File> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened.map_err(|e| Error::io("open /dev/null", &e))
}
