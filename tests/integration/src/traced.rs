//! A call of the runtime that is taken from one of its system calls to the next (ptrace(2)).
//!
//! Only the runtime is traced: what it starts, the container's init above all, runs as ever.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open, pidfd_send_signal};

use crate::host::Test;
use crate::runtime::{Outcome, Outputs};
use crate::wait;

/// A system call that is about to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number.
    pub nr: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What a tracee has come to.
#[derive(Debug)]
pub enum Stop {
    /// It is about to make a call.
    Call(Call),
    /// It has ended with this exit code; 128+n when it was killed by signal n.
    Ended(i32),
}

/// What became of a tracee that was let run.
#[derive(Debug, PartialEq, Eq)]
pub enum Ran {
    /// It has ended.
    ToItsEnd(i32),
    /// It waits for another verb.
    UntilItWaits,
}

/// A call of the runtime that stands still before one of its system calls.
pub struct Traced {
    pid: Pid,
    outputs: Outputs,
    watch: Watch,
}

impl Traced {
    /// Starts `command`, which stands still before its first call. `traceable` is the program of that name.
    #[expect(clippy::zombie_processes, reason = "waitpid(2) is called here, which tells of its stops as well")]
    pub fn start(t: &Test, traceable: &str, command: &Command) -> Traced {
        let mut traced = Command::new(traceable);
        traced.arg(command.get_program()).args(command.get_args());
        let outputs = Outputs::of(&mut traced, t);
        let child = traced.spawn().unwrap_or_else(|error| panic!("start {traced:?}: {error}"));
        let pid = Pid::from_raw(child.id() as i32);
        let watch = Watch::over(pid, format!("{command:?}"));
        let mut traced = Traced { pid, outputs, watch };
        // PTRACE_TRACEME: the execve stops with SIGTRAP.
        let stopped = traced.wait();
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGTRAP), "{command:?}");
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).expect("PTRACE_SETOPTIONS");
        traced
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Whether it has a child, alive or not.
    pub fn has_children(&self) -> bool {
        !self.children().is_empty()
    }

    /// The process id of its only child.
    pub fn child(&self) -> i32 {
        self.children().trim().parse().expect("one child")
    }

    fn children(&self) -> String {
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).expect("the children of a tracee")
    }

    /// Waits until one of its sockets has something for it to read, while it stands still.
    pub fn until_told(&self) {
        let pidfd = pidfd_of(self.pid);
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("the descriptors of a tracee");
        let sockets = entries.filter_map(Result::ok).filter(|entry| {
            let link = fs::read_link(entry.path());
            link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
        });
        let numbers = sockets.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let copy = |number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).expect("pidfd_getfd");
        let copies: Vec<_> = numbers.map(copy).collect();
        let deadline = wait::deadline();
        assert!(wait::any_readable(copies.iter().map(AsFd::as_fd), deadline), "nobody tells it anything");
    }

    fn wait(&mut self) -> WaitStatus {
        waitpid(self.pid, Some(WaitPidFlag::__WALL)).expect("waitpid of a tracee")
    }

    /// Lets it run to where it enters or leaves a call, or ends: the code.
    fn advance(&mut self) -> Option<i32> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal).expect("PTRACE_SYSCALL");
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => return None,
                WaitStatus::Stopped(_, Signal::SIGTRAP) => signal = None,
                WaitStatus::Stopped(_, other) => signal = Some(other),
                ended => return Some(code(ended)),
            }
        }
    }

    fn is_entering(&self) -> bool {
        let info = ptrace::syscall_info(self.pid).expect("PTRACE_GET_SYSCALL_INFO");
        info.op == libc::PTRACE_SYSCALL_INFO_ENTRY
    }

    /// Lets it run until it is about to make the next call.
    pub fn step(&mut self) -> Stop {
        loop {
            if let Some(code) = self.advance() {
                return Stop::Ended(code);
            }
            if self.is_entering() {
                return Stop::Call(call(self.pid));
            }
        }
    }

    /// Lets it run until it is about to make its call number `index`, counted from 0; its exit code if there are not so many.
    pub fn step_to(&mut self, index: usize) -> Option<i32> {
        for _ in 0..=index {
            if let Stop::Ended(code) = self.step() {
                return Some(code);
            }
        }
        None
    }

    /// Lets it run until it is about to make a call of that name of which `text` is a part, a path say,
    /// or of any; it makes one.
    pub fn step_until(&mut self, name: &str, text: &str) {
        loop {
            match self.step() {
                Stop::Call(call) if call.name() == name && (text.is_empty() || self.names(&call, &[text])) => return,
                Stop::Call(_) => {}
                Stop::Ended(code) => panic!("it has ended with {code} before a {name} of {text:?}"),
            }
        }
    }

    /// Lets it run to its end, or until it waits for a lock, for which it has a thread of its own and no other; or for something
    /// else, by a call that `waits`.
    pub fn run_or_wait(&mut self, waits: impl Fn(&Call) -> bool) -> Ran {
        let tasks = format!("/proc/{}/task", self.pid);
        loop {
            match self.step() {
                Stop::Ended(code) => return Ran::ToItsEnd(code),
                Stop::Call(call) if waits(&call) => return Ran::UntilItWaits,
                Stop::Call(call) if call.is_clone() => {
                    if let Some(code) = self.advance() {
                        return Ran::ToItsEnd(code);
                    }
                    if fs::read_dir(&tasks).expect("the tasks of a tracee").count() > 1 {
                        return Ran::UntilItWaits;
                    }
                }
                Stop::Call(_) => {}
            }
        }
    }

    /// Lets it go on untraced, to its end.
    pub fn finish(self) -> Outcome {
        self.let_go().finish()
    }

    /// Lets it go on untraced.
    pub fn let_go(self) -> LetGo {
        ptrace::detach(self.pid, None).expect("PTRACE_DETACH");
        LetGo(self)
    }

    /// Kills it before it makes the call.
    pub fn kill(mut self) -> Outcome {
        // A tracee that is killed before a call does not make it.
        nix::sys::signal::kill(self.pid, Signal::SIGKILL).expect("kill a tracee");
        let code = code(self.wait());
        self.ended(code)
    }

    /// What it came to, after [`Stop::Ended`] or [`Ran::ToItsEnd`].
    pub fn ended(self, code: i32) -> Outcome {
        self.watch.end();
        self.outputs.outcome(code)
    }

    /// Whether its next call can be seen by others, or sees what others do: whether it has to do with one of `names`, by a
    /// path or a descriptor, or with another process.
    pub fn touches(&self, call: &Call, names: &[&str]) -> bool {
        call.is_between_processes() || self.names(call, names)
    }

    /// Whether its next call has to do with one of `names`, by a text or a descriptor.
    fn names(&self, call: &Call, names: &[&str]) -> bool {
        let has_name =
            |text: &[u8]| names.iter().any(|name| text.windows(name.len()).any(|part| part == name.as_bytes()));
        let memory = File::open(format!("/proc/{}/mem", self.pid)).expect("the memory of a tracee");
        let is_text = |address: &u64| {
            let mut text = [0; 512];
            let length = memory.read_at(&mut text, *address).unwrap_or(0);
            has_name(text[..length].split(|byte| *byte == 0).next().unwrap_or_default())
        };
        let is_descriptor = |number: &u64| {
            let link = fs::read_link(format!("/proc/{}/fd/{number}", self.pid));
            link.is_ok_and(|link| has_name(link.as_os_str().as_encoded_bytes()))
        };
        call.args.iter().any(is_text) || call.args[..2].iter().filter(|number| **number < 1024).any(is_descriptor)
    }
}

/// A call of the runtime that is not traced any more, and runs.
pub struct LetGo(Traced);

impl LetGo {
    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        let code = code(self.0.wait());
        self.0.ended(code)
    }
}

impl Call {
    /// Its name.
    pub fn name(&self) -> &'static str {
        syscalls::Sysno::new(self.nr as usize).map_or("?", |call| call.name())
    }

    fn is_clone(&self) -> bool {
        [libc::SYS_clone, libc::SYS_clone3].contains(&(self.nr as i64))
    }

    /// Whether it is one that waits for descriptors.
    pub fn is_poll(&self) -> bool {
        // poll(2) where it exists.
        #[cfg(target_arch = "x86_64")]
        let old = self.nr as i64 == libc::SYS_poll;
        #[cfg(not(target_arch = "x86_64"))]
        let old = false;
        old || self.nr as i64 == libc::SYS_ppoll
    }

    /// Whether it has to do with another process.
    fn is_between_processes(&self) -> bool {
        const CALLS: [libc::c_long; 13] = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_exit_group,
            libc::SYS_kill,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_send_signal,
            libc::SYS_recvmsg,
            libc::SYS_sendmsg,
            libc::SYS_sendto,
            libc::SYS_setns,
            libc::SYS_wait4,
            libc::SYS_waitid,
        ];
        self.is_poll() || CALLS.contains(&(self.nr as i64))
    }
}

/// The call that a tracee is about to make.
#[cfg(target_arch = "x86_64")]
fn call(pid: Pid) -> Call {
    let regs = ptrace::getregs(pid).expect("PTRACE_GETREGS");
    Call { nr: regs.orig_rax, args: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] }
}

/// The call that a tracee is about to make.
#[cfg(target_arch = "aarch64")]
fn call(pid: Pid) -> Call {
    let regs = ptrace::getregs(pid).expect("PTRACE_GETREGSET").regs;
    Call { nr: regs[8], args: [regs[0], regs[1], regs[2], regs[3], regs[4], regs[5]] }
}

fn code(status: WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("a tracee is {other:?}"),
    }
}

fn pidfd_of(pid: Pid) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).expect("a pid");
    pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open of a tracee")
}

/// Kills a tracee that does not come to its next stop: waitpid(2) knows no deadline.
struct Watch {
    over: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn over(pid: Pid, what: String) -> Watch {
        let pidfd = pidfd_of(pid);
        let (over, ends) = channel();
        let thread = std::thread::spawn(move || {
            if ends
                .recv_timeout(wait::patience())
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                println!("{what} did not end within {:?}: killed", wait::patience());
                let _ = pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            }
        });
        Watch { over, thread }
    }

    fn end(self) {
        let _ = self.over.send(());
        self.thread.join().expect("the watch of a tracee");
    }
}
