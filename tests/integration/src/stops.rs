//! A runtime whose init is stopped before each of its calls, so that a neighbour can act at every one of them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use libseccomp::{
    ScmpAction, ScmpFilterContext, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags, ScmpSyscall, reset_global_state,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::wait;

/// What init calls while it mounts; but for futex(2), by which the threads of the test wait for each other.
const CALLS: [&str; 21] = [
    "chdir",
    "chroot",
    "fchdir",
    "fsconfig",
    "fsmount",
    "fsopen",
    "mkdirat",
    "mknodat",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat",
    "openat2",
    "pivot_root",
    "renameat2",
    "setsid",
    "statx",
    "symlinkat",
    "umount2",
    "unshare",
];

/// The call after which nothing is mounted any more.
const LAST: &str = "setsid";

/// No descriptor.
const NONE: i32 = -1;

/// A thread below a seccomp filter whose listener the test has: what it starts, and all that comes of that, asks the test
/// before each call.
pub struct Stops {
    commands: Sender<Command>,
    children: Receiver<Child>,
    listener: OwnedFd,
}

impl Drop for Stops {
    fn drop(&mut self) {
        // libseccomp keeps a descriptor of its own.
        reset_global_state().expect("it is closed");
    }
}

impl Default for Stops {
    fn default() -> Self {
        Self::new()
    }
}

impl Stops {
    /// Starts the thread.
    pub fn new() -> Self {
        let (commands, to_start) = channel::<Command>();
        let (started, children) = channel();
        let number = Arc::new(AtomicI32::new(NONE));
        let (loaded, test) = (number.clone(), std::thread::current());
        std::thread::spawn(move || {
            let filter = filter();
            filter.load().expect("the kernel takes the filter");
            // From here on this thread may open nothing, not even to allocate memory, until the test answers.
            loaded.store(filter.get_notify_fd().expect("a listener"), Ordering::Release);
            test.unpark();
            for mut command in to_start {
                started.send(command.spawn().expect("start the runtime")).expect("the test listens");
            }
        });
        let number = loop {
            match number.load(Ordering::Acquire) {
                NONE => std::thread::park(),
                number => break number,
            }
        };
        let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("pidfd_open");
        let listener = pidfd_getfd(own, number, PidfdGetfdFlags::empty()).expect("a copy of the listener");
        Stops { commands, children, listener }
    }

    /// Runs `command`, whose standard descriptors are open files, and calls `act` with the name of each call that another process than the runtime is about to make, until
    /// nothing is mounted any more.
    pub fn run(&self, command: Command, mut act: impl FnMut(&str)) -> ExitStatus {
        self.commands.send(command).expect("the thread lives");
        let mut child = self.children.recv().expect("the runtime is started");
        let pid = Pid::from_child(&child);
        let end = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open");
        let patience = Timespec { tv_sec: wait::patience().as_secs() as i64, tv_nsec: 0 };
        let mut mounting = true;
        loop {
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
            match poll(&mut fds, Some(&patience)) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => assert!(polled.expect("poll") > 0, "the runtime neither calls nor ends"),
            }
            let [asked, ended] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
            if asked {
                self.answer(|caller, name| {
                    if mounting && caller != pid.as_raw_nonzero().get() as u32 {
                        mounting = name != LAST;
                        act(name);
                    }
                });
            } else if ended {
                break;
            }
        }
        child.wait().expect("wait for the runtime")
    }

    fn answer(&self, act: impl FnOnce(u32, &str)) {
        let listener = self.listener.as_raw_fd();
        // A caller that was killed in between has nothing to be told.
        let Ok(request) = ScmpNotifReq::receive(listener) else { return };
        act(request.pid, &request.data.syscall.get_name().expect("a call with a name"));
        let _ = ScmpNotifResp::new_continue(request.id, ScmpNotifRespFlags::empty()).respond(listener);
    }
}

fn filter() -> ScmpFilterContext {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow).expect("a filter");
    filter.set_ctl_nnp(false).expect("without no_new_privs");
    for name in CALLS {
        filter.add_rule(ScmpAction::Notify, ScmpSyscall::from_name(name).expect(name)).expect("a rule");
    }
    filter
}
