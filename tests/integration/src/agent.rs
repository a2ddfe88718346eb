//! A seccomp agent: it listens at a socket for the container process state, and answers the calls of the workload.

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::wait;

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It fails.
    Errno(i32),
    /// It returns this without being made.
    Value(i64),
    /// The kernel makes it.
    Pass,
}

/// What an agent got and did.
#[derive(Debug)]
pub struct Heard {
    /// The container process state.
    pub state: Value,
    /// How many descriptors came with it.
    pub descriptors: usize,
    /// The calls, each by its name, with the process id, in order.
    pub calls: Vec<(String, i64)>,
}

impl Heard {
    /// The names of the calls, each once for consecutive ones.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.calls.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names
    }
}

/// A listener that nobody answers for.
pub struct Kept(OwnedFd);

impl Kept {
    /// Waits until a call waits for the answer.
    #[track_caller]
    pub fn awaits_a_call(&self) {
        assert!(wait::readable(self.0.as_fd(), wait::deadline()), "nobody asks the listener");
    }
}

/// The socket of an agent, one connection for each process whose filter it listens to.
pub struct Agent(UnixListener);

impl Agent {
    /// Listens at `path`.
    pub fn bind(path: &Path) -> Self {
        Agent(UnixListener::bind(path).unwrap_or_else(|error| panic!("bind {path:?}: {error}")))
    }

    /// Takes one state, then answers until nobody is under the filter any more. Calls that `answers` does not name pass.
    pub fn answers(&self, answers: &[(&'static str, Answer)]) -> JoinHandle<Heard> {
        self.serves(answers, |_| {})
    }

    /// The same, and the runtime has to close the connection before anything is answered.
    pub fn answers_after_the_end(&self, answers: &[(&'static str, Answer)]) -> JoinHandle<Heard> {
        self.serves(answers, |stream| {
            let rest = stream.read(&mut [0]).expect("the end of the connection");
            assert_eq!(rest, 0, "there is more than one state");
        })
    }

    fn serves(&self, answers: &[(&'static str, Answer)], first: fn(&mut UnixStream)) -> JoinHandle<Heard> {
        let answers: BTreeMap<&str, Answer> = answers.iter().copied().collect();
        self.takes(move |mut stream| {
            let (state, descriptors) = receive(&stream);
            first(&mut stream);
            let [listener] = &descriptors[..] else { panic!("one descriptor, not {descriptors:?}") };
            let calls = serve(listener, &answers);
            Heard { state, descriptors: descriptors.len(), calls }
        })
    }

    /// Takes one state, and lets go of the listener at once.
    pub fn lets_go(&self) -> JoinHandle<Heard> {
        self.takes(|stream| {
            let (state, descriptors) = receive(&stream);
            Heard { state, descriptors: descriptors.len(), calls: Vec::new() }
        })
    }

    /// Takes one state, and keeps the listener without answering.
    pub fn keeps(&self) -> JoinHandle<Kept> {
        self.takes(|stream| {
            let (_, mut descriptors) = receive(&stream);
            Kept(descriptors.pop().expect("a listener"))
        })
    }

    /// Takes one connection and closes it unread.
    pub fn hangs_up(&self) -> JoinHandle<()> {
        self.takes(drop)
    }

    fn takes<T: Send + 'static>(&self, work: impl FnOnce(UnixStream) -> T + Send + 'static) -> JoinHandle<T> {
        let listener = self.0.try_clone().expect("dup");
        std::thread::spawn(move || {
            let stream = listener.accept().expect("accept").0;
            drop(listener);
            work(stream)
        })
    }
}

/// One state, with the descriptors that came with its first message.
fn receive(stream: &UnixStream) -> (Value, Vec<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut chunk = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut chunk)];
    let message = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("the state");
    let mut descriptors = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            descriptors.extend(rights);
        }
    }
    let text = chunk[..message.bytes].chain(stream);
    let state = serde_json::Deserializer::from_reader(text).into_iter().next();
    (state.expect("a state").expect("the state is JSON"), descriptors)
}

/// Answers until the listener says that nobody is left.
fn serve(listener: &OwnedFd, answers: &BTreeMap<&str, Answer>) -> Vec<(String, i64)> {
    let mut calls = Vec::new();
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled.expect("poll the listener"),
        };
        if !fds[0].revents().contains(PollFlags::IN) {
            return calls;
        }
        // A caller that was killed in between has nothing to be told.
        let Ok(request) = ScmpNotifReq::receive(listener.as_raw_fd()) else { continue };
        let name = request.data.syscall.get_name().expect("a call with a name");
        let none = ScmpNotifRespFlags::empty();
        let answer = match answers.get(name.as_str()).copied().unwrap_or(Answer::Pass) {
            Answer::Errno(errno) => ScmpNotifResp::new_error(request.id, -errno, none),
            Answer::Value(value) => ScmpNotifResp::new_val(request.id, value, none),
            Answer::Pass => ScmpNotifResp::new_continue(request.id, none),
        };
        calls.push((name, request.pid.into()));
        let _ = answer.respond(listener.as_raw_fd());
    }
}
