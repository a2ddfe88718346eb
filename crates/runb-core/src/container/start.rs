//! `start`: the workload of a created container.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runb_init::{REPORT_SIZE, Report};

use super::{Container, Held, hooks, traced};
use crate::error::{Error, Kind, Result};
use crate::launch::failure::{late_failure, out_of_memory};
use crate::notify::{self, Readiness};
use crate::options::{Meanwhile, StartOptions};
use crate::plan::Late;
use crate::state::{Phase, Saved, Status};
use crate::trace::{Step, Trace, What};

impl Container {
    /// Lets the workload run: `start`. Returns what was done.
    ///
    /// # Errors
    /// The status is not `created`; a hook failed; the execve failed. The container is stopped in the last two cases.
    pub fn start(&self) -> Result<Vec<Step>> {
        let options = StartOptions { hook_environment: self.hook_environment.clone(), ..StartOptions::default() };
        self.held_traced(|held, trace| held.start_and_report(&options, trace)).map(|(_, steps)| steps)
    }

    /// As [`Container::load`] and then [`Container::start`]: its state is read once, under the lock. With a
    /// [`notify_socket`](StartOptions::notify_socket) it returns when the workload is ready or has ended, and tells that socket of it. A
    /// container that was created without such a socket is only started: it has nowhere to report to. [`Container::steps`] is what was done.
    ///
    /// # Errors
    /// As theirs; or its readiness cannot be passed on, while it runs.
    pub fn start_in(root: &Path, id: &str, options: &StartOptions) -> Result<Container> {
        let (saved, steps) = traced(|trace| {
            let held = Held::of(root, id)?;
            trace.done(What::Loaded);
            held.start_and_report(options, trace)
        })?;
        let hook_environment = options.hook_environment.clone();
        Ok(Container { dir: root.join(id), saved, warnings: Vec::new(), hook_environment, steps })
    }
}

fn has_stopped() -> Error {
    Error::new(Kind::State, "cannot start a container that has stopped")
}

impl Held {
    fn must_be_created(&self) -> Result<()> {
        let refused = |text: &str| Err(Error::new(Kind::State, text));
        match self.status() {
            Status::Created => Ok(()),
            Status::Stopped => Err(has_stopped()),
            Status::Running => refused("cannot start an already running container"),
            Status::Paused => refused("cannot start a container in the paused state"),
            Status::Creating => refused("cannot start a container in the creating state"),
        }
    }

    /// Starts it, lets it go, and awaits its readiness, if somebody is to be told of that.
    fn start_and_report(mut self, options: &StartOptions, trace: &mut Trace) -> Result<Saved> {
        let reports = options.notify_socket.as_ref().filter(|_| self.dir.path().join(notify::FOLDER).exists());
        let awaited = match reports {
            Some(callers) => {
                self.must_be_created()?;
                let init = self.saved.init_fd()?.ok_or_else(has_stopped)?;
                Some((Readiness::listen(self.dir.path(), callers)?, init))
            }
            None => None,
        };
        self.start(options, trace)?;
        let Held { dir, saved } = self;
        drop(dir);
        match awaited {
            Some((readiness, (pid, pidfd))) => readiness.wait(pid, pidfd).map(|()| saved),
            None => Ok(saved),
        }
    }

    fn start(&mut self, options: &StartOptions, trace: &mut Trace) -> Result<()> {
        self.must_be_created()?;
        let spec = self.saved.hooks.then(|| self.config()).transpose()?;
        let list = spec.as_ref().and_then(|spec| spec.hooks().as_ref());
        let result = spec
            .as_ref()
            .map_or(Ok(()), |spec| hooks::start_container_of(spec, &self.saved, trace))
            .and_then(|()| self.execute(options.meanwhile.as_ref()))
            .inspect(|()| trace.done(What::Executed))
            .and_then(|()| hooks::poststart(list, &self.saved, &options.hook_environment, trace));
        result.map_err(|error| match self.end() {
            Ok(()) => error,
            Err(more) => error.and_cleanup(more),
        })
    }

    fn execute(&mut self, meanwhile: Option<&Meanwhile>) -> Result<()> {
        let before = self.saved.phase;
        self.enter(Phase::Starting)?;
        self.release(before, meanwhile)?;
        self.enter(Phase::Running)?;
        let path = self.dir.fifo();
        fs::remove_file(&path).map_err(|e| Error::io(format!("unlink {}", path.display()), &e))
    }

    fn enter(&mut self, phase: Phase) -> Result<()> {
        self.saved.phase = phase;
        self.dir.enter(phase)
    }

    /// Writes the byte that init waits for, and learns what became of the execve: the end of init's descriptor, with a
    /// report in the fifo if it failed. If a start was killed after its byte ([`Phase::Starting`] is what was `before`), init
    /// may have gone on by that, and this start is only told of it.
    fn release(&self, before: Phase, meanwhile: Option<&Meanwhile>) -> Result<()> {
        let path = self.dir.fifo();
        let open =
            |write: bool| fs::OpenOptions::new().write(write).read(!write).custom_flags(libc::O_NONBLOCK).open(&path);
        let mut fifo = match open(true) {
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {
                let goes_on = before == Phase::Starting && self.saved.init.is_some_and(|init| init.is_alive());
                return if goes_on { Ok(()) } else { Err(has_stopped()) };
            }
            fifo => fifo.map_err(|e| Error::io(format!("open {}", path.display()), &e))?,
        };
        fifo.write_all(&[0]).map_err(|e| Error::io("write to the exec fifo", &e))?;
        meanwhile.iter().for_each(|meanwhile| meanwhile.call());
        loop {
            // POLLERR is always reported: nobody has it open for reading any more.
            let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll the exec fifo", errno)),
                Ok(_) => break,
            }
        }
        let mut left = [0u8; REPORT_SIZE + 1];
        let length = open(false).and_then(|mut fifo| fifo.read(&mut left)).unwrap_or(0);
        // The byte, if init did not take it, may lie before a report or behind it.
        let (byte, report) = match &left[..length] {
            [0, report @ ..] => (true, report),
            report => (false, report),
        };
        match report.first_chunk() {
            Some(report) => Err(self.late(&Report::from_bytes(*report))),
            None if !byte || before == Phase::Starting => Ok(()),
            None => Err(match self.saved.cgroup.oom().filter(|oom| oom.kills > 0) {
                Some(oom) => out_of_memory(&oom),
                None => Error::new(Kind::Init, "init was killed before it started the workload"),
            }),
        }
    }

    fn late(&self, report: &Report) -> Error {
        let late = self.saved.late.iter().find(|late| late.call == report.call);
        let Late { place, what, hint, .. } = late.cloned().unwrap_or_default();
        late_failure(&what, &place, hint, report.errno).with_call(report.call.into(), what)
    }
}
