//! A user's terminal, and the socket that an engine awaits a container's terminal at.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::wait;

/// The master of a pseudoterminal, with what was read from it.
pub struct Screen {
    master: File,
    text: String,
}

impl Screen {
    /// Of a master.
    pub fn of(master: OwnedFd) -> Self {
        Screen { master: master.into(), text: String::new() }
    }

    /// Types.
    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("type");
    }

    /// Waits until `text` is on the screen; all that is there.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> &str {
        let deadline = wait::deadline();
        while !self.text.contains(text) {
            assert!(wait::readable(self.master.as_fd(), deadline), "{text:?} does not come: {:?}", self.text);
            let mut chunk = [0; 4096];
            match self.master.read(&mut chunk) {
                Ok(count) if count > 0 => self.text.push_str(&String::from_utf8_lossy(&chunk[..count])),
                end => panic!("{text:?} does not come, but {end:?}: {:?}", self.text),
            }
        }
        &self.text
    }

    /// Whether the other end is closed, after all that is left to read.
    pub fn ends(&mut self) -> bool {
        let mut chunk = [0; 4096];
        while wait::readable(self.master.as_fd(), wait::deadline()) {
            match self.master.read(&mut chunk) {
                Ok(count) if count > 0 => self.text.push_str(&String::from_utf8_lossy(&chunk[..count])),
                _ => return true,
            }
        }
        false
    }

    /// Its settings.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.master).expect("tcgetattr")
    }

    /// Changes its size, which its foreground is told.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("tcsetwinsize");
    }
}

/// A user at a terminal.
pub struct User {
    /// What the user sees.
    pub screen: Screen,
    slave: File,
}

impl Default for User {
    fn default() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlockpt");
        let path = ptsname(&master, Vec::new()).expect("ptsname");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(Path::new(path.to_str().expect("text")))
            .expect("open the slave");
        User { screen: Screen::of(master), slave }
    }
}

impl User {
    /// Starts `command`, which is to make the terminal its controlling one (`setsid --ctty`).
    pub fn starts(&self, mut command: Command) -> Child {
        let copy = || self.slave.try_clone().expect("dup");
        command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("start the runtime")
    }
}

/// A `--console-socket`.
pub struct ConsoleSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Listens at `path`.
    pub fn at(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("bind the console socket");
        ConsoleSocket { path, listener }
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("text")
    }

    /// The terminal's master, and the data that came with it.
    pub fn receive(&self) -> (Screen, String) {
        assert!(wait::readable(self.listener.as_fd(), wait::deadline()), "nobody connects");
        let (stream, _) = self.listener.accept().expect("accept");
        assert!(wait::readable(stream.as_fd(), wait::deadline()), "nothing is sent");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut data = [0; 4096];
        let message = recvmsg(&stream, &mut [IoSliceMut::new(&mut data)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let length = message.expect("recvmsg").bytes;
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let mut descriptors: Vec<OwnedFd> = rights.flatten().collect();
        assert_eq!(descriptors.len(), 1, "one descriptor");
        (Screen::of(descriptors.remove(0)), String::from_utf8_lossy(&data[..length]).into_owned())
    }
}
