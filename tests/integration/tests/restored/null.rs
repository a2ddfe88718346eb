//! Standard descriptors that are /dev/null: they are the container's own, as with runc, so that each runtime restores what the other has
//! saved.

use super::*;

/// Lets the container know when to end, and tells when it has come so far: by a child, as the shell itself has its stdout elsewhere meanwhile.
const WAITS: &str =
    "(echo ready >/share/said); exec 3<>/share/in; while read -u 3 line; do echo $line >/share/said; done";

#[test]
fn a_standard_descriptor_that_is_the_hosts_null_device_becomes_the_containers() {
    in_modes(ALL, |t| {
        let bundle = t.bundle().sh(WAITS);
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        bundle.write();
        let log = fs::File::create(t.dir().join("log")).expect("a file");
        let mut command = bundle.command("run", &["--detach"]);
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        assert!(command.status().expect("start the runtime").success());
        assert_eq!(said.line(), "ready");
        let pid = t.call(["state", bundle.id()]).ok().json()["pid"].as_i64().expect("a pid");
        let of = |path: &str| {
            let meta = fs::metadata(format!("/proc/{pid}/{path}")).expect(path);
            (meta.dev(), meta.ino(), meta.rdev())
        };
        let null = of("root/dev/null");
        assert_ne!(null.0, fs::metadata("/dev/null").expect("the host's").dev());
        assert_eq!([of("fd/0"), of("fd/2")], [null, null]);
        assert_eq!(of("fd/1").1, fs::metadata(t.dir().join("log")).expect("a file").ino());
        for (fd, mode) in [("0", 2), ("2", 2), ("1", 1)] {
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).expect("its flags");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("its flags").trim();
            let flags = i32::from_str_radix(flags, 8).expect("octal");
            // Neither is closed by an execve.
            assert_eq!((flags & 3, flags & 0o2_000_000), (mode, 0), "{fd}");
        }
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn the_rights_of_the_hosts_null_device_are_not_the_containers_to_change() {
    in_modes(LIFECYCLE, |t| {
        let mode = || fs::metadata("/dev/null").expect("the host's").permissions().mode();
        let before = mode();
        let bundle =
            t.bundle().sh("chmod 600 /proc/self/fd/0; stat -Lc %a /proc/self/fd/0 >/share/said; read line </share/in");
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        bundle.write();
        let mut command = bundle.command("run", &["--detach"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("start the runtime").success());
        assert_eq!(said.line(), "600");
        let after = mode();
        fs::set_permissions("/dev/null", fs::Permissions::from_mode(before & 0o7777)).expect("chmod");
        assert_eq!(after, before);
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_container_without_a_null_device_that_it_may_open_keeps_the_hosts() {
    in_modes(V1, |t| {
        t.runb_only("runc does not start it");
        let bundle = t.bundle().sh(WAITS).spec(|spec| {
            let nodev = json!(["nosuid", "nodev", "mode=755"]);
            let dev =
                spec["mounts"].as_array_mut().expect("mounts").iter_mut().find(|mount| mount["destination"] == "/dev");
            dev.expect("a /dev")["options"] = nodev;
        });
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        bundle.write();
        let mut command = bundle.command("run", &["--detach"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().expect("start the runtime").success());
        assert_eq!(said.line(), "ready");
        t.call(["delete", "--force", bundle.id()]).ok();
    });
}

#[test]
fn a_container_that_was_given_nothing_is_saved_by_one_runtime_and_restored_by_the_other() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let runc = the_other(t);
        let bundle = t.bundle().sh(WAITS);
        let (mut said, _held) = (t.fifo(&bundle, "said"), t.fifo(&bundle, "in"));
        let path = bundle.share_dir().join("in");
        let mut input = fs::File::options().read(true).write(true).open(path).expect("open the fifo");
        bundle.write();
        let (id, dir) = (bundle.id(), bundle.dir().to_str().expect("text"));
        let call = |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--root").arg(t.dir().join("both")).args(args);
            let mut command = criu.found_by(command);
            let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(quiet.status().expect("start a runtime").success(), "{program:?} {args:?}");
        };
        let runb = t.runtime().path();
        for (round, [first, second]) in [[runb, &runc], [&runc, runb]].into_iter().enumerate() {
            let images = t.dir().join(format!("images-{round}"));
            let images = ["--image-path", images.to_str().expect("text"), "--manage-cgroups-mode", "ignore"];
            call(first, &["run", "--detach", "--bundle", dir, id]);
            assert_eq!(said.line(), "ready");
            call(first, &[&["checkpoint"], &images[..], &[id]].concat());
            call(second, &[&["restore", "--detach", "--bundle", dir], &images[..], &[id]].concat());
            answers(&mut said, &mut input, "here", "here");
            call(second, &["delete", "--force", id]);
        }
    });
}
