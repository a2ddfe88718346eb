//! A test's place on the machine.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, mount};

use crate::bundle::Bundle;
use crate::leftovers::Tree;
use crate::report::Skip;
use crate::runtime::{Kind, Outcome, Runtime};
use crate::site::{Mode, Site};
use crate::user;
use crate::wait::Fifo;

/// What a test is given.
pub struct Test {
    site: Site,
    mode: Mode,
    runtime: &'static Runtime,
    tag: String,
    dir: PathBuf,
    serial: Cell<u32>,
    pub(crate) trees: RefCell<Vec<Tree>>,
}

impl Test {
    pub(crate) fn new(site: Site, mode: Mode, tag: &str) -> Self {
        let dir = std::env::temp_dir().join(tag);
        for own in site.own_directories().iter().map(Path::new).chain([dir.as_path()]) {
            mount("tmpfs", own, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, Some(c"mode=755"))
                .unwrap_or_else(|error| panic!("mount a tmpfs on {own:?}: {error}"));
        }
        let (runtime, tag) = (Runtime::under_test(), tag.into());
        let test = Test { site, mode, runtime, tag, dir, serial: Cell::new(0), trees: RefCell::new(Vec::new()) };
        if matches!(site, Site::User(_)) {
            user::make(test.dir());
        }
        test.make_master_files();
        test
    }

    /// The files that every rootfs gets by hard link or copy.
    fn make_master_files(&self) {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.expect("busybox (Debian: busybox-static)");
        fs::copy(busybox, self.dir.join("busybox")).expect("copy busybox");
    }

    /// Where the test runs.
    pub fn site(&self) -> Site {
        self.site
    }

    /// The cgroup mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A part of every name that the test makes on the machine.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// A directory of the test's own, on a tmpfs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The state directory, `--root`.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The file of `--log`.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log.json")
    }

    /// Another name, good as an id, different from all others on the machine.
    pub fn name(&self, prefix: &str) -> String {
        self.serial.set(self.serial.get() + 1);
        format!("{prefix}-{}-{}", self.tag, self.serial.get())
    }

    /// A fifo in a directory that bundles share with the test at `/share`.
    pub fn fifo(&self, bundle: &Bundle<'_>, name: &str) -> Fifo {
        Fifo::new(&bundle.share_dir().join(name))
    }

    /// A bundle with busybox and the default configuration.
    pub fn bundle(&self) -> Bundle<'_> {
        Bundle::new(self)
    }

    /// What is tested.
    pub fn runtime(&self) -> &Runtime {
        self.runtime
    }

    /// A call of the runtime with this test's `--root`, and `--log` as engines ask for it; under systemd with
    /// `--systemd-cgroup`.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = match self.site {
            Site::User(_) => user::calls(self.runtime.path()),
            _ => Command::new(self.runtime.path()),
        };
        self.global_flags(&mut command);
        command.args(args);
        command
    }

    /// As [`Test::command`], with words before it: a shell that opens descriptors, `strace …`.
    pub fn wrapped<S: AsRef<OsStr>>(&self, wrapper: &[&str], args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.runtime.path());
        self.global_flags(&mut command);
        command.args(args);
        command
    }

    /// As [`Test::command`], in a user and mount namespace that is neither the container's nor the first, where the ids are the
    /// same as outside: as Podman without root calls its runtime.
    pub fn in_a_user_namespace<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        const UNSHARED: &str = "mkfifo ready mapped
            unshare --user --mount --propagation unchanged sh -c 'echo >ready; read _ <mapped; exec \"$@\"' sh \"$@\" &
            read _ <ready
            echo 0 0 65536 >/proc/$!/uid_map; echo 0 0 65536 >/proc/$!/gid_map
            echo >mapped; wait $!";
        let dir = self.dir().join(self.name("unshared"));
        fs::create_dir(&dir).expect("make a directory");
        let line = format!("cd {}; {UNSHARED}", dir.display());
        self.wrapped(&["sh", "-c", &line, "sh"], args)
    }

    fn global_flags(&self, command: &mut Command) {
        command.arg("--root").arg(self.root()).arg("--log").arg(self.log()).args(["--log-format", "json"]);
        if self.site == Site::Systemd {
            command.arg("--systemd-cgroup");
        }
    }

    /// Runs [`Test::command`] to its end.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Outcome {
        self.finish(self.command(args))
    }

    /// Runs `command` to its end.
    pub fn finish(&self, command: Command) -> Outcome {
        Outcome::of(command, self)
    }

    /// Ends the test here: this machine cannot do it, or it does not concern this runtime.
    pub fn skip(&self, reason: impl Into<String>) -> ! {
        resume_unwind(Box::new(Skip(reason.into())))
    }

    /// Skips the test on peers: `what` is runb's own.
    pub fn runb_only(&self, what: &str) {
        if self.runtime.kind() != Kind::Runb {
            self.skip(format!("runb only: {what}"));
        }
    }

    /// Whether the runtime under test is one of `kinds`. Where peers must differ, the condition stands in the test.
    pub fn is(&self, kinds: &[Kind]) -> bool {
        kinds.contains(&self.runtime.kind())
    }

    /// Skips the test unless the program `name` is installed.
    pub fn needs_program(&self, name: &str) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join(name).exists()) {
            self.skip(format!("{name} is not installed"));
        }
    }

    /// Skips the test unless `controller` can be used in this mode.
    pub fn needs_controller(&self, controller: &str) {
        let there = match self.mode {
            Mode::V2 => fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
                .expect("the controllers")
                .split_whitespace()
                .any(|name| name == controller),
            _ => self.controller_dir(controller).is_some(),
        };
        if !there {
            self.skip(format!("the {controller} controller cannot be used here"));
        }
    }

    /// The directory of `controller`'s hierarchy (v1), as it stands in this test's mount namespace.
    pub fn controller_dir(&self, controller: &str) -> Option<PathBuf> {
        fs::read_dir("/sys/fs/cgroup").ok()?.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            name.split(',').any(|part| part == controller)
        })
    }

    /// A file of the cgroup at `path` (`cgroupsPath`): `controller` tells the hierarchy of version 1.
    pub fn cgroup_file(&self, controller: &str, path: &str, file: &str) -> String {
        let base = match self.mode {
            Mode::V2 => PathBuf::from("/sys/fs/cgroup"),
            _ => self.controller_dir(controller).expect("the controller's hierarchy"),
        };
        let file = base.join(path.trim_start_matches('/')).join(file);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}")).trim().to_owned()
    }
}
