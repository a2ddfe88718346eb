//! CRIU, which checkpoint and restore call. `RUNB_TESTS_CRIU` names the program; by default it is the one of the search path.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bundle::{Bundle, Container};
use crate::host::Test;
use crate::runtime::{Kind, Outcome};
use crate::site::can_raise_limits;

/// One test at a time: CRIU saves the trees of cgroups as they are, and would make those of a test beside anew, where they are nobody's.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // One that has failed has its cgroups taken away by the harness.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A CRIU that works here.
pub struct Criu {
    program: PathBuf,
    path: OsString,
}

impl Test {
    /// The CRIU of this machine; skips the test where there is none that works with its kernel, or where the runtime under test has no
    /// use for one.
    pub fn criu(&self) -> Criu {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let named = std::env::var_os("RUNB_TESTS_CRIU").map(PathBuf::from);
        let mut found = std::env::split_paths(&search).map(|dir| dir.join("criu"));
        let Some(program) = named.or_else(|| found.find(|path| path.exists())) else {
            self.skip("there is no CRIU");
        };
        let check = Command::new(&program).arg("check").stdin(Stdio::null()).output().expect("start CRIU");
        if !check.status.success() {
            self.skip("CRIU does not work with this kernel");
        }
        if self.is(&[Kind::Crun]) {
            let output = self.command(["--version"]).output().expect("start crun");
            if !String::from_utf8_lossy(&output.stdout).contains("+CRIU") {
                self.skip("this crun is built without CRIU");
            }
        }
        let own = program.parent().map(PathBuf::from).unwrap_or_default();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&search)));
        Criu { program, path: path.expect("a search path") }
    }
}

impl Criu {
    /// Takes away what a CRIU that was killed leaves in its work folder: the hierarchies of cgroups, mounted in a folder of its own.
    pub fn clear(&self, work: &str) {
        for entry in std::fs::read_dir(work).expect("the folder").flatten() {
            if entry.file_name().to_string_lossy().starts_with(".criu.cgyard.") {
                let _ = nix::mount::umount2(&entry.path(), nix::mount::MntFlags::MNT_DETACH);
                std::fs::remove_dir(entry.path()).expect("removed");
            }
        }
    }

    /// Whether it knows, with this kernel, which memory has changed.
    pub fn tracks_memory(&self) -> bool {
        let check = Command::new(&self.program).args(["check", "--feature", "mem_dirty_track"]).output();
        check.expect("start CRIU").status.success()
    }

    /// Why memory cannot be handed out when it is used, if so.
    pub fn hands_out_pages(&self) -> Result<(), &'static str> {
        // What CRIU's pipes have room for, in bytes.
        const PIPE: u64 = 819 * 4096;
        let check = Command::new(&self.program).args(["check", "--feature", "uffd-noncoop"]).output();
        let largest = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").expect("the size of pipes");
        let largest: u64 = largest.trim().parse().expect("a number");
        match check.expect("start CRIU").status.success() {
            false => Err("the kernel lets CRIU hand out no pages"),
            true if !can_raise_limits() && largest < PIPE => {
                Err("CAP_SYS_RESOURCE is missing, and fs.pipe-max-size is too small for CRIU")
            }
            true => Ok(()),
        }
    }

    /// `criu lazy-pages`, not yet started, which asks for what is not in the folder `images` at `port` of this machine.
    pub fn lazy_pages(&self, images: &str, port: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", port]);
        command.args(["--images-dir", images, "--work-dir", images, "-v4", "-o", "lazy.log"]);
        command
    }

    /// Has `command` find it.
    pub fn found_by(&self, mut command: Command) -> Command {
        command.env("PATH", &self.path);
        command
    }

    /// `checkpoint --image-path DIR FLAGS… ID`, to its end.
    pub fn checkpoint(&self, t: &Test, id: &str, images: &str, flags: &[&str]) -> Outcome {
        let mut command = t.command(["checkpoint", "--image-path", images]);
        command.args(flags).arg(id);
        t.finish(self.found_by(command))
    }

    /// `restore --detach --image-path DIR FLAGS… ID` from a bundle that is written, to its end.
    pub fn restore(&self, t: &Test, bundle: &Bundle<'_>, images: &str, flags: &[&str]) -> Outcome {
        let mut all = vec!["--detach", "--image-path", images];
        all.extend(flags);
        t.finish(self.found_by(bundle.command("restore", &all)))
    }

    /// A checkpoint and a restore, which must succeed; the container has ended in between.
    #[track_caller]
    pub fn round_trip(&self, t: &Test, container: &Container<'_>, flags: &[&str]) {
        let images = t.dir().join(t.name("images"));
        let images = images.to_str().expect("text");
        let pid = container.pid();
        self.checkpoint(t, container.id(), images, flags).ok();
        container.reap(pid);
        t.call(["state", container.id()]).fails_with(&["does not exist"]);
        self.restore(t, container.bundle(), images, flags).ok();
        assert_eq!(container.status(), "running");
    }
}
