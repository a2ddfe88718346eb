//! The caller's terminal and the container's, in the foreground: what is typed goes in, what is printed comes out, without a
//! wait that could keep a signal or the workload's end from being noticed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::termios::{
    LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, isatty, read, tcgetpgrp, write};

use crate::error::{Error, Result};
use crate::sys;
use crate::terminal::Master;

/// What one write to a descriptor that is ready takes without waiting (PIPE_BUF, pipe(7)).
const PIECE: usize = 4096;
/// More than a pseudoterminal can hold: what is read after the workload's end, at most.
const REST: usize = 1 << 20;

/// What a terminal that is carried in the foreground wants before the workload writes to it: the size of the caller's, and,
/// as in runc, newlines that stay as they are, for what is no terminal in the end.
pub(super) fn prepare(master: &Master) -> Result<()> {
    let failed = |call| move |errno| Error::host(format!("{call} of the terminal's master"), errno);
    let mut settings = tcgetattr(master).map_err(failed("tcgetattr"))?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &settings).map_err(failed("tcsetattr"))?;
    fit(master, [std::io::stdin().as_fd(), std::io::stdout().as_fd()]);
    Ok(())
}

/// Gives the size of the first of `terminals` that is one to the container's.
fn fit(master: &Master, terminals: [BorrowedFd<'_>; 2]) {
    let size = terminals.into_iter().find_map(|terminal| sys::window_size(terminal).ok());
    if let Some(size) = size.filter(|size| size.ws_row > 0 && size.ws_col > 0) {
        let _ = sys::set_window_size(master, &size);
    }
}

/// The terminal of the caller in raw mode; dropped, it is as it was.
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// Nothing, if `terminal` is none, or belongs to somebody else at the moment.
    fn enter(terminal: BorrowedFd<'a>) -> Result<Option<Self>> {
        if !isatty(terminal).unwrap_or(false) || tcgetpgrp(terminal) != Ok(getpgrp()) {
            return Ok(None);
        }
        let failed = |call| move |errno| Error::host(format!("{call} of the caller's terminal"), errno);
        let before = tcgetattr(terminal).map_err(failed("tcgetattr"))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // The container's terminal leaves newlines as they are (see [`prepare`]), so this one has to do its part.
        raw.output_flags |= before.output_flags & OutputFlags::OPOST;
        tcsetattr(terminal, SetArg::TCSANOW, &raw).map_err(failed("tcsetattr"))?;
        Ok(Some(Raw { terminal, before }))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Bytes on their way.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
}

/// What became of a read.
#[derive(PartialEq, Eq)]
enum Source {
    Open,
    Ended,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once from a descriptor that is ready.
    fn fill(&mut self, from: BorrowedFd<'_>) -> Source {
        let mut piece = [0u8; PIECE];
        match read(from, &mut piece) {
            Ok(0) => Source::Ended,
            Ok(count) => {
                self.bytes.extend_from_slice(&piece[..count]);
                Source::Open
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Source::Open,
            // EIO: the other end is closed, or this process is not in the foreground of its terminal.
            Err(_) => Source::Ended,
        }
    }

    /// Writes once to a descriptor that is ready. One that nobody reads any more takes everything.
    fn drain(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.bytes[..self.bytes.len().min(PIECE)]) {
            Ok(count) => drop(self.bytes.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.bytes.clear(),
        }
    }
}

/// The copy between the caller's descriptors and a terminal's master.
pub(super) struct Console<'a> {
    master: &'a Master,
    /// Held open, so that the master has no end before the workload has: it may close its terminal and open it again.
    slave: Option<OwnedFd>,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    /// The output opened once more, without waiting, where it is a terminal: one that is stopped must not stop us.
    unhurried: Option<OwnedFd>,
    /// The input has ended.
    ended: bool,
    /// The master has (vhangup(2)).
    hung_up: bool,
    typed: Held,
    printed: Held,
    _raw: Option<Raw<'a>>,
}

/// Which of the descriptors of [`Console::waits_for`] are ready.
pub(super) type Ready = [PollFlags; 3];

impl<'a> Console<'a> {
    /// Puts the caller's terminal into raw mode.
    pub(super) fn new(master: &'a Master, input: BorrowedFd<'a>, output: BorrowedFd<'a>) -> Result<Self> {
        let failed = |call| move |errno| Error::host(format!("{call} of the terminal's master"), errno);
        fcntl(master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR)).map_err(failed("fcntl"))?;
        let again = |_| {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&output)).as_str(), flags, Mode::empty())
                .ok()
        };
        Ok(Console {
            master,
            slave: Some(master.slave()?),
            input,
            output,
            unhurried: isatty(output).ok().filter(|is| *is).and_then(again),
            ended: false,
            hung_up: false,
            typed: Held::default(),
            printed: Held::default(),
            _raw: Raw::enter(input)?,
        })
    }

    /// Gives the size of the caller's terminal to the container's (SIGWINCH).
    pub(super) fn resize(&self) {
        fit(self.master, [self.input, self.output]);
    }

    fn out(&self) -> BorrowedFd<'_> {
        self.unhurried.as_ref().map_or(self.output, AsFd::as_fd)
    }

    /// What to wait for: input, output, master. A direction whose bytes are still held is not read.
    pub(super) fn waits_for(&self) -> [Option<PollFd<'_>>; 3] {
        let when = |wanted: bool, flags| if wanted { flags } else { PollFlags::empty() };
        let input = (!self.ended && self.typed.is_empty()).then(|| PollFd::new(self.input, PollFlags::POLLIN));
        let output = (!self.printed.is_empty()).then(|| PollFd::new(self.out(), PollFlags::POLLOUT));
        let master = when(self.printed.is_empty() && !self.hung_up, PollFlags::POLLIN)
            | when(!self.typed.is_empty(), PollFlags::POLLOUT);
        let master = (!master.is_empty()).then(|| PollFd::new(self.master.as_fd(), master));
        [input, output, master]
    }

    /// Moves what can be moved.
    pub(super) fn copy(&mut self, [input, output, master]: Ready) {
        if !input.is_empty() && self.typed.fill(self.input) == Source::Ended {
            self.ended = true;
            self.end_input();
        }
        if !output.is_empty() {
            let out = self.unhurried.as_ref().map_or(self.output, AsFd::as_fd);
            self.printed.drain(out);
        }
        if master.contains(PollFlags::POLLOUT) {
            self.typed.drain(self.master.as_fd());
        }
        if master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP) && self.printed.is_empty() {
            self.hung_up = self.printed.fill(self.master.as_fd()) == Source::Ended;
        }
    }

    /// An input that is no terminal has an end, and a terminal has none: its end is typed, as script(1) does.
    fn end_input(&mut self) {
        if isatty(self.input).unwrap_or(false) {
            return;
        }
        if let Ok(settings) = tcgetattr(self.master)
            && settings.local_flags.contains(LocalFlags::ICANON)
        {
            self.typed.bytes.push(settings.control_chars[SpecialCharacterIndices::VEOF as usize]);
        }
    }

    /// Prints what the workload has left in its terminal, unless `interrupted` says, when `signals` is readable, that there
    /// is no time for it.
    pub(super) fn finish(mut self, signals: BorrowedFd<'_>, interrupted: impl Fn() -> bool) -> Result<()> {
        self.slave = None;
        let mut rest = REST;
        loop {
            if self.printed.is_empty() {
                // The kernel delivers all that was written before it answers EAGAIN or EIO (n_tty_read).
                let _ = self.printed.fill(self.master.as_fd());
                rest = rest.saturating_sub(self.printed.bytes.len());
                if self.printed.is_empty() || rest == 0 {
                    return Ok(());
                }
            }
            let mut fds = [PollFd::new(self.out(), PollFlags::POLLOUT), PollFd::new(signals, PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::host("poll", errno)),
                Ok(_) if fds[1].any() == Some(true) && interrupted() => return Ok(()),
                Ok(_) if fds[0].any() != Some(true) => continue,
                Ok(_) => {}
            }
            let out = self.unhurried.as_ref().map_or(self.output, AsFd::as_fd);
            self.printed.drain(out);
        }
    }
}
