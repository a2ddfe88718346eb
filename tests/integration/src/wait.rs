//! Waiting for events, each with a deadline: a process's end, a line in a fifo, a file's birth. Nothing sleeps.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long anything may take that is awaited in a test: 30 s, and as many times that as `RUNB_TESTS_PATIENCE` tells, for
/// machines that are emulated.
pub fn patience() -> Duration {
    slowly(Duration::from_secs(30))
}

/// When what is awaited from now on must have come.
pub fn deadline() -> Instant {
    Instant::now() + patience()
}

/// A time that is enough on a common machine, as many times as `RUNB_TESTS_PATIENCE` tells.
pub fn slowly(time: Duration) -> Duration {
    time * factor()
}

/// How often that is tried which a common machine tries `count` times: about as long.
pub fn tries(count: u32) -> u32 {
    count.div_ceil(factor())
}

fn factor() -> u32 {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        std::env::var("RUNB_TESTS_PATIENCE").map_or(1, |text| text.parse().expect("RUNB_TESTS_PATIENCE is a number"))
    })
}

/// Waits until `fd` is readable; whether it became so before `deadline`.
pub fn readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    any_readable([fd], deadline)
}

/// Waits until one of `fds` is readable; whether one became so before `deadline`.
pub fn any_readable<'fd>(fds: impl IntoIterator<Item = BorrowedFd<'fd>>, deadline: Instant) -> bool {
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until the process `pid` has ended (it may still be a zombie); whether it did before `deadline`.
pub fn process_end(pid: i32, deadline: Instant) -> bool {
    let pid = Pid::from_raw(pid).expect("a pid is positive");
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => readable(fd.as_fd(), deadline),
        // The others: the number of a process that is gone is still that of a group or session (Linux before and since 6.16).
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => true,
        Err(error) => panic!("pidfd_open {pid:?}: {error}"),
    }
}

/// A fifo by which a workload tells the test something.
pub struct Fifo {
    path: PathBuf,
    file: File,
    held: Vec<u8>,
}

impl Fifo {
    /// Makes a fifo at `path`, opened for both directions, so that neither side ever waits for the other to open it.
    pub fn new(path: &Path) -> Self {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o622.into(), 0)
            .unwrap_or_else(|error| panic!("mkfifo {path:?}: {error}"));
        rustix::fs::chmod(path, 0o622.into()).expect("chmod of the fifo");
        let file = File::options().read(true).write(true).open(path).expect("open the fifo");
        Fifo { path: path.to_owned(), file, held: Vec::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next line, without its newline.
    pub fn line(&mut self) -> String {
        let deadline = deadline();
        loop {
            if let Some(end) = self.held.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.held.drain(..=end).collect();
                return String::from_utf8_lossy(&line[..end]).into_owned();
            }
            assert!(readable(self.file.as_fd(), deadline), "no line came through the fifo within {:?}", patience());
            let mut chunk = [0; 4096];
            let count = self.file.read(&mut chunk).expect("read the fifo");
            self.held.extend_from_slice(&chunk[..count]);
        }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let deadline = deadline();
        while self.held.len() < count {
            assert!(readable(self.file.as_fd(), deadline), "nothing came through the fifo within {:?}", patience());
            let mut chunk = [0; 4096];
            let read = self.file.read(&mut chunk).expect("read the fifo");
            self.held.extend_from_slice(&chunk[..read]);
        }
        self.held.drain(..count).collect()
    }

    /// Whether nothing has been written that [`Fifo::line`] has not returned.
    pub fn is_silent(&self) -> bool {
        self.held.is_empty() && !readable(self.file.as_fd(), Instant::now())
    }
}

/// The files that are written in a directory.
pub struct Changes(std::os::fd::OwnedFd);

impl Changes {
    /// Those in `dir`, from now on.
    pub fn of(dir: &Path) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).expect("inotify_init");
        inotify::add_watch(&watch, dir, inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE)
            .unwrap_or_else(|error| panic!("inotify_add_watch {dir:?}: {error}"));
        Changes(watch)
    }

    /// The names of the files written under that name so far.
    pub fn written(self) -> Vec<String> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = reader.next() {
            names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        names
    }
}

/// Waits until `ready` holds, asking again after each change in the directory `dir`.
pub fn change_in(dir: &Path, what: &str, ready: impl Fn() -> bool) {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).expect("inotify_init");
    let events = inotify::WatchFlags::CREATE
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::ATTRIB
        | inotify::WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&watch, dir, events).unwrap_or_else(|error| panic!("inotify_add_watch {dir:?}: {error}"));
    let deadline = deadline();
    while !ready() {
        assert!(readable(watch.as_fd(), deadline), "{what}: not within {:?}", patience());
        let mut buffer = [0; 4096];
        rustix::io::read(&watch, &mut buffer).expect("read inotify");
    }
}
