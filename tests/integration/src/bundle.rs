//! Bundles, and the containers made from them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};

use crate::host::Test;
use crate::leftovers::Tree;
use crate::runtime::Outcome;
use crate::site::Site;
use crate::{user, wait};

/// What `spec` writes, but for the terminal.
pub fn default_spec() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities, "ambient": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runb",
        "mounts": default_mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ])
}

/// What `cgroupsPath` has before the name of a scope.
const UNIT_PREFIX: &str = "runbtest";

/// A bundle directory with a busybox rootfs, and the configuration that will be written into it.
pub struct Bundle<'t> {
    test: &'t Test,
    dir: PathBuf,
    id: String,
    spec: Value,
}

impl<'t> Bundle<'t> {
    pub(crate) fn new(test: &'t Test) -> Self {
        let dir = test.dir().join(test.name("bundle"));
        make_rootfs(test.dir(), &dir.join("rootfs"));
        fs::create_dir(dir.join("share")).expect("make the shared directory");
        fs::set_permissions(dir.join("share"), fs::Permissions::from_mode(0o777)).expect("chmod");
        let id = test.name("c");
        let mut spec = default_spec();
        spec["linux"]["cgroupsPath"] = json!(match test.site() {
            Site::Private(_) => format!("/{id}"),
            Site::Systemd => format!("system.slice:{UNIT_PREFIX}:{id}"),
            // There are no rights to cgroups.
            Site::Inside(_) | Site::User(_) => String::new(),
        });
        if matches!(test.site(), Site::User(_)) {
            user::own(&dir);
            user::map(&mut spec);
        }
        test.trees.borrow_mut().push(Tree::of(&dir.join("rootfs")));
        let share = dir.join("share");
        Bundle { test, dir, id, spec }.mount(json!({
            "destination": "/share", "type": "bind", "source": share, "options": ["bind"],
        }))
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Another id for the container; the cgroup keeps its name.
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The rootfs on the host.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The directory that the container sees at `/share`.
    pub fn share_dir(&self) -> PathBuf {
        self.dir.join("share")
    }

    /// Changes the rootfs itself; what is there afterwards must be there at the end.
    pub fn rootfs_with(self, change: impl FnOnce(&Path)) -> Self {
        let rootfs = self.rootfs();
        let position = self.test.trees.borrow().iter().position(|tree| tree.is_at(&rootfs));
        change(&rootfs);
        if let Some(position) = position {
            self.test.trees.borrow_mut()[position] = Tree::of(&rootfs);
        }
        self
    }

    /// The workload may write into the rootfs: it is not compared at the end.
    pub fn writable(mut self) -> Self {
        let rootfs = self.rootfs();
        self.test.trees.borrow_mut().retain(|tree| !tree.is_at(&rootfs));
        self.spec["root"]["readonly"] = json!(false);
        self
    }

    /// `process.args`.
    pub fn args<const N: usize>(self, args: [&str; N]) -> Self {
        self.set("/process/args", json!(args.as_slice()))
    }

    /// A workload that is a line of shell.
    pub fn sh(self, script: &str) -> Self {
        self.args(["sh", "-c", script])
    }

    /// A workload that does nothing until it is killed.
    pub fn idle(self) -> Self {
        self.args(["sleep", "86400"])
    }

    /// One more mount.
    pub fn mount(mut self, mount: Value) -> Self {
        self.spec["mounts"].as_array_mut().expect("mounts").push(mount);
        self
    }

    /// One more hook of the kind `kind`.
    pub fn hook(mut self, kind: &str, hook: Value) -> Self {
        let hooks = &mut self.spec["hooks"][kind];
        match hooks.as_array_mut() {
            Some(hooks) => hooks.push(hook),
            None => *hooks = json!([hook]),
        }
        self
    }

    /// Sets the value at a JSON pointer, whose parent must be there.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        let parent = self.spec.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}: no such parent"));
        match parent.as_array_mut() {
            Some(array) => array[key.parse::<usize>().expect("an index")] = value,
            None => parent[key] = value,
        }
        self
    }

    /// Edits the configuration at will.
    pub fn spec(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.spec);
        self
    }

    /// Takes the namespace `kind` away from the list.
    pub fn without_namespace(self, kind: &str) -> Self {
        self.spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").retain(|ns| ns["type"] != kind)
        })
    }

    /// Joins the namespace `kind` at `path`.
    pub fn join_namespace(self, kind: &str, path: &str) -> Self {
        self.without_namespace(kind).spec(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().expect("namespaces");
            namespaces.push(json!({"type": kind, "path": path}));
        })
    }

    /// Writes config.json.
    pub fn write(&self) -> &Self {
        let text = serde_json::to_vec_pretty(&self.spec).expect("JSON");
        fs::write(self.dir.join("config.json"), text).expect("write config.json");
        self
    }

    /// Changes the text of the config.json that was written.
    pub fn rewrite(&self, change: impl FnOnce(String) -> String) {
        let file = self.dir.join("config.json");
        let text = fs::read_to_string(&file).expect("read config.json");
        fs::write(&file, change(text)).expect("write config.json");
    }

    /// `VERB --bundle DIR FLAGS… ID`, not yet started. config.json must have been written.
    pub fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = self.test.command([verb, "--bundle"]);
        command.arg(&self.dir).args(flags).arg(&self.id);
        command
    }

    /// `run` in the foreground, to its end.
    pub fn run(&self) -> Outcome {
        self.run_with(&[])
    }

    /// `run` with flags.
    pub fn run_with(&self, flags: &[&str]) -> Outcome {
        self.test.finish(self.write().command("run", flags))
    }

    /// `create`, whatever comes of it.
    pub fn try_create(&self) -> Outcome {
        self.test.finish(self.write().command("create", &[]))
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(self) -> Container<'t> {
        self.create_with(&[])
    }

    /// `create` with flags, which must succeed.
    #[track_caller]
    pub fn create_with(self, flags: &[&str]) -> Container<'t> {
        let outcome = self.test.finish(self.write().command("create", flags)).ok();
        self.container(outcome)
    }

    /// `run --detach`, which must succeed.
    #[track_caller]
    pub fn run_detached(self) -> Container<'t> {
        let outcome = self.run_with(&["--detach"]).ok();
        self.container(outcome)
    }

    /// The handle of a container that a test created by a call of its own.
    pub fn container(self, created: Outcome) -> Container<'t> {
        Container { test: self.test, bundle: self, stdout: created.stdout_file }
    }
}

/// Lays out a rootfs; busybox's applets are hard links to `busybox` in `master`.
fn make_rootfs(master: &Path, rootfs: &Path) {
    static APPLETS: OnceLock<Vec<String>> = OnceLock::new();
    for dir in ["bin", "dev", "etc", "proc", "root", "share", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(dir)).expect("make the rootfs");
    }
    let busybox = master.join("busybox");
    let applets = APPLETS.get_or_init(|| {
        let output = Command::new(&busybox).arg("--list").output().expect("busybox --list");
        String::from_utf8(output.stdout).expect("names").lines().map(str::to_owned).collect()
    });
    fs::hard_link(&busybox, rootfs.join("bin/busybox")).expect("link busybox");
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        symlink("busybox", rootfs.join("bin").join(applet)).expect("link an applet");
    }
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
        .expect("write passwd");
    fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("write group");
}

/// A container that a test has created.
pub struct Container<'t> {
    test: &'t Test,
    bundle: Bundle<'t>,
    stdout: PathBuf,
}

impl<'t> Container<'t> {
    /// Its id.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// Its unit, where systemd makes the cgroups and the bundle leaves `cgroupsPath` as it is.
    pub fn unit(&self) -> String {
        format!("{UNIT_PREFIX}-{}.scope", self.id())
    }

    /// Its bundle.
    pub fn bundle(&self) -> &Bundle<'t> {
        &self.bundle
    }

    /// `VERB ID ARGS…`, to its end.
    pub fn call(&self, verb: &str, args: &[&str]) -> Outcome {
        let mut command = self.test.command([verb, self.id()]);
        command.args(args);
        self.test.finish(command)
    }

    /// `start`, whatever comes of it.
    pub fn start(&self) -> Outcome {
        self.call("start", &[])
    }

    /// `state`'s output, parsed.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state", &[]).ok().json()
    }

    /// The status.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The init's pid.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().expect("a pid") as i32
    }

    /// `kill`, with a signal or none.
    pub fn kill(&self, signal: &[&str]) -> Outcome {
        self.call("kill", signal)
    }

    /// `delete`.
    pub fn delete(&self) -> Outcome {
        self.call("delete", &[])
    }

    /// `delete --force`.
    pub fn delete_force(&self) -> Outcome {
        self.test.call(["delete", "--force", self.id()])
    }

    /// Waits for the end of the process `pid` and reaps it, as an engine's shim does. Its exit code, 128+n on signal n.
    #[track_caller]
    pub fn reap(&self, pid: i32) -> i32 {
        assert!(wait::process_end(pid, wait::deadline()), "process {pid} does not end");
        let pid = Pid::from_raw(pid).expect("a pid");
        let (_, status) =
            waitpid(Some(pid), WaitOptions::empty()).expect("the init is the test's child").expect("ended");
        status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().expect("exited or killed"))
    }

    /// What the workload has written to its stdout.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).expect("read the workload's output")
    }

    /// The file that is the workload's stdout.
    pub fn stdout_file(&self) -> &Path {
        &self.stdout
    }
}
