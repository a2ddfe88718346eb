//! An engine: Debian's containerd, with root, state and socket of its own, runs containers through its shim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use runb_tests::*;

const IMAGE: &str = "docker.io/library/runb-test:latest";

/// A containerd that ends with the test.
struct Containerd<'t> {
    test: &'t Test,
    child: Child,
    socket: PathBuf,
    /// containerd's namespace; the name of the cgroup above its containers'.
    namespace: String,
}

impl<'t> Containerd<'t> {
    /// Starts it and imports the image; skips the test where there is none.
    fn start(test: &'t Test) -> Self {
        for program in ["containerd", "ctr", "containerd-shim-runc-v2"] {
            test.needs_program(program);
        }
        // ctr asks for CPU shares.
        test.needs_controller("cpu");
        let dir = test.dir().join("containerd");
        fs::create_dir(&dir).expect("make a directory");
        let socket = dir.join("socket");
        let config = dir.join("config.toml");
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n",
            dir.join("root"),
            dir.join("state"),
        );
        fs::write(&config, text).expect("write the configuration");
        let log = fs::File::create(dir.join("log")).expect("make the log");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("start containerd");
        wait::change_in(&dir, "containerd's socket", || socket.exists());
        let containerd = Containerd { test, child, socket, namespace: test.name("ns") };
        let image = image(test, &dir);
        let import = ["images", "import", "--snapshotter", "native", image.to_str().expect("text")];
        let outcome = containerd.ctr(&import);
        assert_eq!(outcome.code, 0, "{outcome:?}: {}", containerd.log());
        containerd
    }

    fn log(&self) -> String {
        fs::read_to_string(self.test.dir().join("containerd/log")).unwrap_or_default()
    }

    /// A call of its client.
    fn ctr(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", &self.namespace]).args(args);
        self.test.finish(command)
    }

    /// `ctr run` with the runtime under test.
    fn run(&self, flags: &[&str], id: &str, command: &[&str]) -> Outcome {
        let runtime = self.test.runtime().path().to_str().expect("text");
        let mut args = vec!["run", "--snapshotter", "native", "--runtime", "io.containerd.runc.v2"];
        args.extend(["--runc-binary", runtime]);
        args.extend(flags);
        args.extend([IMAGE, id]);
        args.extend(command);
        self.ctr(&args)
    }

    /// Deletes the task whose init, `pid`, has been killed. Its client has no verb that waits until the shim knows.
    fn delete_task(&self, id: &str, pid: i32) -> Outcome {
        let deadline = wait::deadline();
        assert!(wait::process_end(pid, deadline), "the init survives SIGKILL");
        loop {
            let outcome = self.ctr(&["tasks", "delete", id]);
            if !outcome.stderr.contains("must be stopped before deletion") || Instant::now() > deadline {
                return outcome;
            }
        }
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if !wait::process_end(self.child.id() as i32, wait::deadline()) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        // The cgroup of containerd's namespace is containerd's; it leaves it.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().filter_map(Result::ok) {
            let _ = fs::remove_dir(hierarchy.path().join(&self.namespace));
        }
        let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.namespace));
    }
}

/// An image in the form of `docker save`, with the rootfs of a bundle as its one layer.
fn image(t: &Test, dir: &Path) -> PathBuf {
    let bundle = t.bundle();
    let run = |command: &mut Command| {
        let output = command.output().expect("start a program");
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let tree = dir.join("image");
    fs::create_dir(&tree).expect("make a directory");
    let layer = tree.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(bundle.rootfs()).arg("-cf").arg(&layer).arg("."));
    let sum = run(Command::new("sha256sum").arg(&layer));
    let diff = format!("sha256:{}", sum.split(' ').next().expect("a sum"));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(tree.join("config.json"), config.to_string()).expect("write");
    fs::write(tree.join("manifest.json"), manifest.to_string()).expect("write");
    let image = dir.join("image.tar");
    run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&image).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]));
    image
}

#[test]
fn containerd_runs_a_container_and_gets_its_output_and_exit_code() {
    in_modes(ALL, |t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        let outcome = containerd.run(&["--rm"], &id, &["sh", "-c", "echo from inside; exit 4"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (4, "from inside\n"), "{outcome:?} {}", containerd.log());
    });
}

#[test]
fn containerd_runs_kills_and_deletes_a_container() {
    in_modes(ALL, |t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        containerd.run(&["--detach"], &id, &["sleep", "86400"]).ok();
        let tasks = containerd.ctr(&["tasks", "list"]).ok().stdout;
        let task: Vec<_> = tasks.lines().nth(1).expect("a task").split_whitespace().collect();
        assert_eq!((task[0], task[2]), (id.as_str(), "RUNNING"), "{tasks}");
        let pid: i32 = task[1].parse().expect("a pid");
        containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]).ok();
        let deleted = containerd.delete_task(&id, pid);
        assert!(deleted.code == 0 || deleted.code == 137, "{deleted:?} {}", containerd.log());
        containerd.ctr(&["containers", "delete", &id]).ok();
        assert!(!containerd.ctr(&["tasks", "list"]).ok().stdout.contains(&id));
        drop(containerd);
        if t.is(&[Kind::Runb]) {
            let log = fs::read_to_string("/var/log/runb.log").expect("the invocation log");
            for verb in ["create", "start", "kill", "delete"] {
                let word = format!(" {verb} ");
                let call =
                    log.lines().any(|line| line.contains("] call ") && line.contains(&word) && line.contains(&id));
                assert!(call, "{verb}: {log}");
            }
            let ids = |kind: &str| log.lines().filter(|line| line.contains(kind) && line.contains(&id)).count();
            assert_eq!(ids("] call "), ids("] exit "), "{log}");
        }
    });
}

#[test]
fn containerd_shows_the_reason_of_a_failing_create() {
    in_modes(LIFECYCLE, |t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        let outcome = containerd.run(&["--rm"], &id, &["/no/such/command"]);
        assert_ne!(outcome.code, 0);
        let text = if t.is(&[Kind::Crun]) { "not found" } else { "no such file or directory" };
        assert!(outcome.stderr.contains("/no/such/command") && outcome.stderr.contains(text), "{outcome:?}");
    });
}

#[test]
fn containerd_gives_a_container_a_terminal() {
    in_modes(LIFECYCLE, |t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        let runtime = t.runtime().path().to_str().expect("text");
        let mut user = User::default();
        user.screen.resize(30, 90);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "ctr", "--address"]).arg(&containerd.socket);
        command.args(["--namespace", &containerd.namespace, "run", "--tty", "--rm", "--snapshotter", "native"]);
        command.args(["--runtime", "io.containerd.runc.v2", "--runc-binary", runtime, IMAGE, &id]);
        command.args(["sh", "-c", "tty; read line; echo got $line; exit 5"]);
        let mut child = user.starts(command);
        user.screen.shows("/dev/pts/0");
        user.screen.types("words\r");
        user.screen.shows("got words");
        assert_eq!(child.wait().expect("wait").code(), Some(5), "{}", containerd.log());
    });
}

#[test]
fn containerd_pauses_resumes_lists_and_measures_a_container() {
    in_modes(ALL, |t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        containerd.run(&["--detach"], &id, &["sleep", "86400"]).ok();
        let status = || {
            let tasks = containerd.ctr(&["tasks", "list"]).ok().stdout;
            let task: Vec<_> = tasks.lines().nth(1).expect("a task").split_whitespace().map(str::to_owned).collect();
            (task[1].parse::<i32>().expect("a pid"), task[2].clone())
        };
        let (pid, running) = status();
        assert_eq!(running, "RUNNING");
        containerd.ctr(&["tasks", "pause", &id]).ok();
        assert_eq!(status().1, "PAUSED");
        containerd.ctr(&["tasks", "resume", &id]).ok();
        assert_eq!(status().1, "RUNNING");
        let processes = containerd.ctr(&["tasks", "ps", &id]).ok().stdout;
        assert!(processes.lines().any(|line| line.split_whitespace().next() == Some(&pid.to_string())), "{processes}");
        let metrics = containerd.ctr(&["tasks", "metrics", &id]).ok().stdout;
        assert!(metrics.contains(&id), "{metrics}");
        containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]).ok();
        let deleted = containerd.delete_task(&id, pid);
        assert!(deleted.code == 0 || deleted.code == 137, "{deleted:?} {}", containerd.log());
        containerd.ctr(&["containers", "delete", &id]).ok();
    });
}

#[test]
fn containerd_has_systemd_make_the_cgroups() {
    under_systemd(|t| {
        let containerd = Containerd::start(t);
        let id = t.name("c");
        let place = format!(":ctr:{id}");
        let flags = ["--detach", "--runc-systemd-cgroup", "--cgroup", &place, "--memory-limit", "67108864"];
        containerd.run(&flags, &id, &["sleep", "86400"]).ok();
        let unit = format!("ctr-{id}.scope");
        let limit = if t.mode() == Mode::V2 { "MemoryMax" } else { "MemoryLimit" };
        for (name, value) in [("ActiveState", "active"), ("Delegate", "yes"), (limit, "67108864")] {
            assert_eq!(systemd::property(&unit, name), value, "{name}");
        }
        let outcome = containerd.ctr(&["tasks", "exec", "--exec-id", "e", &id, "echo", "here"]).ok();
        assert_eq!(outcome.stdout, "here\n");
        let metrics = containerd.ctr(&["tasks", "metrics", &id]).ok().stdout;
        assert!(metrics.contains("67108864"), "{metrics}");
        let tasks = containerd.ctr(&["tasks", "list"]).ok().stdout;
        let pid = tasks.lines().nth(1).and_then(|task| task.split_whitespace().nth(1)?.parse().ok()).expect("a pid");
        containerd.ctr(&["tasks", "kill", "--signal", "SIGKILL", &id]).ok();
        let deleted = containerd.delete_task(&id, pid);
        assert!(deleted.code == 0 || deleted.code == 137, "{deleted:?} {}", containerd.log());
        containerd.ctr(&["containers", "delete", &id]).ok();
        assert_eq!(systemd::units(&unit), [""; 0]);
    });
}
