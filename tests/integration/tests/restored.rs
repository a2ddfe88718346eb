//! What a container has when it is restored: files, pipes, connections, memory, terminals, namespaces; under the runtime that has saved
//! it, and under another.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use runb_tests::*;

#[path = "restored/null.rs"]
mod null;
#[path = "restored/standing.rs"]
mod standing;

/// Has an open file, a pipe, a TCP connection, a System V segment and 100 MiB of memory, and uses them for each line of /share/in.
const KEEPER: &str = r#"
use IO::Socket::INET;
open STDIN, "<", "/dev/null"; open STDOUT, ">", "/dev/null"; open STDERR, ">", "/dev/null";
my $memory = "x" x (100 << 20);
substr($memory, -3) = "end";
my $segment = shmget(0, 4096, 01600);
shmwrite($segment, "segment", 0, 7);
my $listens = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => 0) or die;
my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $listens->sockport) or die;
my $server = $listens->accept;
pipe(my $out, my $into);
open(my $file, "<", "/share/letters") or die;
open(my $in, "+<", "/share/in") or die;
sub say_to { open(my $said, ">", "/share/said"); print $said "$_[0]\n"; close $said }
say_to("ready");
while (my $line = <$in>) {
    chomp $line;
    syswrite($client, "tcp-$line"); sysread($server, my $tcp, 100);
    syswrite($into, "pipe-$line"); sysread($out, my $pipe, 100);
    sysread($file, my $letter, 1);
    shmread($segment, my $shared, 0, 7);
    say_to("$tcp $pipe $letter $shared " . length($memory) . substr($memory, -3));
}
"#;

/// A container of [`KEEPER`], by the perl of the machine, and where it answers.
fn keeper<'t>(t: &'t Test, bundle: Bundle<'t>) -> (Container<'t>, wait::Fifo, fs::File) {
    t.needs_program("perl");
    t.needs_program("iptables");
    let share = bundle.share_dir();
    fs::write(share.join("keeper.pl"), KEEPER).expect("write the program");
    fs::write(share.join("letters"), "abcdefgh").expect("write a file");
    let mut said = t.fifo(&bundle, "said");
    drop(t.fifo(&bundle, "in"));
    let input = fs::File::options().read(true).write(true).open(share.join("in")).expect("open the fifo");
    let system = |at: &str, source: &str| json!({"destination": at, "type": "bind", "source": source, "options": ["bind", "ro"]});
    let bundle =
        ["/usr", "/lib", "/lib64"].iter().filter(|path| Path::new(path).exists()).fold(bundle, |bundle, path| {
            bundle
                .rootfs_with(|rootfs| fs::create_dir_all(rootfs.join(&path[1..])).expect("a folder"))
                .mount(system(path, path))
        });
    let container = bundle.args(["perl", "/share/keeper.pl"]).run_detached();
    assert_eq!(said.line(), "ready");
    (container, said, input)
}

fn asks(said: &mut wait::Fifo, input: &mut fs::File, text: &str, letter: &str) {
    writeln!(input, "{text}").expect("write to the fifo");
    assert_eq!(said.line(), format!("tcp-{text} pipe-{text} {letter} segment 104857600end"));
}

#[test]
fn open_files_pipes_connections_segments_and_memory_are_there_again() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let (container, mut said, mut input) = keeper(t, t.bundle());
        asks(&mut said, &mut input, "one", "a");
        criu.round_trip(t, &container, &["--tcp-established"]);
        asks(&mut said, &mut input, "two", "b");
        container.delete_force().ok();
    });
}

#[test]
fn a_connection_that_nobody_has_allowed_keeps_a_container_from_being_saved() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        let (container, mut said, mut input) = keeper(t, t.bundle());
        let images = t.dir().join("images");
        let outcome = criu.checkpoint(t, container.id(), images.to_str().expect("text"), &[]);
        assert_eq!(outcome.code, 1);
        if t.is(&[Kind::Runb]) {
            outcome.fails_with(&["tcp-established"]);
        }
        asks(&mut said, &mut input, "one", "a");
        container.delete_force().ok();
    });
}

#[test]
fn memory_that_was_saved_before_is_not_saved_again() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        if !criu.tracks_memory() {
            t.skip("CRIU does not know with this kernel which memory has changed");
        }
        let (container, mut said, mut input) = keeper(t, t.bundle());
        let dir = |name: &str| t.dir().join(name).to_str().expect("text").to_owned();
        let flags: [&[&str]; 3] =
            [&["--pre-dump"], &["--pre-dump", "--parent-path", "../one"], &["--parent-path", "../two"]];
        for (name, flags) in ["one", "two", "three"].into_iter().zip(flags) {
            let flags = [flags, &["--tcp-established"]].concat();
            let pid = container.pid();
            criu.checkpoint(t, container.id(), &dir(name), &flags).ok();
            if name == "three" {
                container.reap(pid);
            } else {
                assert_eq!(container.status(), "running");
                asks(&mut said, &mut input, name, if name == "one" { "a" } else { "b" });
            }
        }
        let pages = |name: &str| -> u64 {
            let all = fs::read_dir(dir(name)).expect("images").flatten();
            let pages = all.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
            pages.map(|file| file.metadata().expect("a file").len()).sum()
        };
        assert!(pages("one") > 100 << 20, "{}", pages("one"));
        assert!(pages("three") < 50 << 20, "{}", pages("three"));
        criu.restore(t, container.bundle(), &dir("three"), &["--tcp-established"]).ok();
        asks(&mut said, &mut input, "three", "c");
        container.delete_force().ok();
    });
}

/// A loop that answers each line of /share/in.
fn answering<'t>(t: &Test, bundle: Bundle<'t>) -> (Container<'t>, wait::Fifo, fs::File) {
    let mut said = t.fifo(&bundle, "said");
    drop(t.fifo(&bundle, "in"));
    let path = bundle.share_dir().join("in");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("chmod");
    let input = fs::File::options().read(true).write(true).open(path).expect("open the fifo");
    let script = "exec 3<>/share/in </dev/null >/dev/null 2>&1; echo ready >/share/said; n=0
        while read line <&3; do n=$((n+1)); echo $line $n $(id -u) $(hostname) >/share/said; done";
    let container = bundle.sh(script).run_detached();
    assert_eq!(said.line(), "ready");
    (container, said, input)
}

fn answers(said: &mut wait::Fifo, input: &mut fs::File, text: &str, answer: &str) {
    writeln!(input, "{text}").expect("write to the fifo");
    assert_eq!(said.line(), answer);
}

#[test]
fn a_container_with_a_user_namespace_is_restored_into_one() {
    let _alone = criu::alone();
    in_modes(V2, |t| {
        let criu = t.criu();
        let bundle = t.bundle().spec(|spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            (spec["linux"]["uidMappings"], spec["linux"]["gidMappings"]) = (map.clone(), map);
        });
        let (container, mut said, mut input) = answering(t, bundle);
        answers(&mut said, &mut input, "a", "a 1 0 runb");
        let images = t.dir().join("images");
        if !t.is(&[Kind::Runb]) {
            // They make it for the host's root alone, and the restore fails.
            fs::create_dir(&images).expect("a folder");
            fs::set_permissions(&images, fs::Permissions::from_mode(0o711)).expect("chmod");
        }
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        criu.restore(t, container.bundle(), images, &[]).ok();
        answers(&mut said, &mut input, "b", "b 2 0 runb");
        let map = fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).expect("a map");
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        container.delete_force().ok();
    });
}

#[test]
fn a_network_namespace_of_others_is_joined_again() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "echo; exec sleep 86400"]).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("start unshare");
        holder.stdout.take().expect("stdout").read_exact(&mut [0]).expect("it is in its namespace");
        let path = format!("/proc/{}/ns/net", holder.id());
        let (container, mut said, mut input) = answering(t, t.bundle().join_namespace("network", &path));
        let inode = |path: &str| fs::metadata(path).expect("a namespace").ino();
        criu.round_trip(t, &container, &["--manage-cgroups-mode", "ignore"]);
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        assert_eq!(inode(&format!("/proc/{}/ns/net", container.pid())), inode(&path));
        container.delete_force().ok();
        holder.kill().expect("kill");
        holder.wait().expect("reap");
    });
}

#[test]
fn a_terminal_goes_to_the_console_socket_of_who_restores() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let bundle = t.bundle().set("/process/terminal", json!(true)).sh("while read line; do echo got $line; done");
        let socket = ConsoleSocket::at(t.dir().join("s1"));
        let outcome = bundle.run_with(&["--detach", "--console-socket", socket.path()]).ok();
        let (mut screen, _) = socket.receive();
        screen.types("one\n");
        screen.shows("got one");
        let container = bundle.container(outcome);
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        criu.restore(t, container.bundle(), images, &[]).fails_with(&["onsole socket"]);
        let socket = ConsoleSocket::at(t.dir().join("s2"));
        criu.restore(t, container.bundle(), images, &["--console-socket", socket.path()]).ok();
        let (mut screen, name) = socket.receive();
        assert!(name.ends_with("ptmx") || name.ends_with("orphan-pts-master"), "{name}");
        screen.types("two\n");
        screen.shows("got two");
        container.delete_force().ok();
    });
}

#[test]
fn nested_mounts_find_their_places_again() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let [outer, inner] = ["outer", "inner"].map(|name| t.dir().join(t.name(name)));
        fs::create_dir(&outer).expect("a folder");
        fs::create_dir(&inner).expect("a folder");
        fs::write(inner.join("file"), "text").expect("a file");
        let bind =
            |source: &Path, at: &str| json!({"destination": at, "type": "bind", "source": source, "options": ["bind"]});
        let bundle = t.bundle().writable().mount(bind(&outer, "/outer")).mount(bind(&inner, "/outer/for/inner"));
        let (container, mut said, mut input) = answering(t, bundle);
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        let flags = ["--manage-cgroups-mode", "ignore"];
        criu.checkpoint(t, container.id(), images, &flags).ok();
        container.reap(pid);
        fs::remove_dir_all(outer.join("for")).expect("removed");
        criu.restore(t, container.bundle(), images, &flags).ok();
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        assert_eq!(container.call("exec", &["cat", "/outer/for/inner/file"]).ok().stdout, "text");
        container.delete_force().ok();
    });
}

#[test]
fn a_container_is_restored_into_another_cgroup() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        let criu = t.criu();
        let (container, mut said, mut input) = answering(t, t.bundle());
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        let flags = ["--manage-cgroups-mode", "ignore"];
        criu.checkpoint(t, container.id(), images, &flags).ok();
        container.reap(pid);
        let other = t.name("other");
        container.bundle().rewrite(|text| text.replace(&format!("\"/{}\"", container.id()), &format!("\"/{other}\"")));
        criu.restore(t, container.bundle(), images, &flags).ok();
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).expect("cgroups");
        assert!(cgroups.contains(&format!("/{other}\n")) && !cgroups.contains(container.id()), "{cgroups}");
        answers(&mut said, &mut input, "b", "b 1 0 runb");
        container.delete_force().ok();
    });
}

#[test]
fn the_foreground_of_a_restore_has_the_workloads_exit_status() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let bundle = t.bundle();
        let mut said = t.fifo(&bundle, "said");
        drop(t.fifo(&bundle, "in"));
        let mut input =
            fs::File::options().read(true).write(true).open(bundle.share_dir().join("in")).expect("the fifo");
        let script = "exec 3<>/share/in </dev/null >/dev/null 2>&1; echo ready >/share/said; read line <&3; exit $line";
        let container = bundle.sh(script).run_detached();
        assert_eq!(said.line(), "ready");
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        writeln!(input, "42").expect("write to the fifo");
        let command = criu.found_by(container.bundle().command("restore", &["--image-path", images]));
        assert_eq!(t.finish(command).code, 42);
        t.call(["state", container.id()]).fails_with(&["does not exist"]);
    });
}

/// A runtime other than the one under test: runb under test is compared with runc, and the other way round.
fn the_other(t: &Test) -> std::path::PathBuf {
    t.runb_only("the test has runb and runc");
    let named = std::env::var_os("RUNB_TESTS_RUNC").map(std::path::PathBuf::from);
    let path = named.unwrap_or_else(|| "/usr/sbin/runc".into());
    let Ok(help) = Command::new(&path).args(["checkpoint", "--help"]).output() else {
        t.skip("there is no runc");
    };
    if !String::from_utf8_lossy(&help.stdout).contains("ignore") {
        t.skip("this runc can ignore no cgroups");
    }
    path
}

#[test]
fn what_one_runtime_has_saved_the_other_restores() {
    let _alone = criu::alone();
    in_modes(LIFECYCLE, |t| {
        let criu = t.criu();
        let runc = the_other(t);
        let (container, mut said, mut input) = answering(t, t.bundle());
        let call = |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            command.arg("--root").arg(t.dir().join("runc")).args(args);
            let mut command = criu.found_by(command);
            let output = command.stdin(Stdio::null()).output().expect("start runc");
            assert!(output.status.success(), "{args:?}: {output:?}");
            output
        };
        let [first, second] = ["first", "second"].map(|name| t.dir().join(name).to_str().expect("text").to_owned());
        let (id, dir) = (container.id(), container.bundle().dir().to_str().expect("text").to_owned());
        let ignore = ["--manage-cgroups-mode", "ignore"];
        answers(&mut said, &mut input, "runb", "runb 1 0 runb");
        let pid = container.pid();
        criu.checkpoint(t, id, &first, &ignore).ok();
        container.reap(pid);
        let flags = ["restore", "--detach", "--bundle", &dir, "--image-path", &first, ignore[0], ignore[1], id];
        // Its streams are those of this call.
        let mut restore = Command::new(&runc);
        restore.arg("--root").arg(t.dir().join("runc")).args(flags);
        let mut restore = criu.found_by(restore);
        restore.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(restore.status().expect("start runc").success());
        answers(&mut said, &mut input, "runc", "runc 2 0 runb");
        call(&runc, &["checkpoint", "--image-path", &second, ignore[0], ignore[1], id]);
        criu.restore(t, container.bundle(), &second, &ignore).ok();
        answers(&mut said, &mut input, "again", "again 3 0 runb");
        container.delete_force().ok();
    });
}

#[test]
fn a_runtime_that_is_killed_in_a_restore_leaves_what_a_removal_by_force_takes() {
    let _alone = criu::alone();
    in_modes(ALL, |t| {
        t.runb_only("runc leaves the root filesystem mounted, and then removes what is in it");
        let criu = t.criu();
        let go = t.dir().join("go");
        let line = format!("cat >/dev/null; test -e {} || kill -KILL $PPID", go.display());
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", line]});
        fs::write(&go, "").expect("a file");
        let (container, _said, _input) = answering(t, t.bundle().hook("createRuntime", hook));
        let images = t.dir().join("images");
        let images = images.to_str().expect("text");
        let pid = container.pid();
        criu.checkpoint(t, container.id(), images, &[]).ok();
        container.reap(pid);
        fs::remove_file(&go).expect("removed");
        let outcome = criu.restore(t, container.bundle(), images, &[]);
        assert_eq!(outcome.code, 128 + 9);
        assert_eq!(container.status(), "stopped");
        container.delete_force().ok();
        criu.clear(images);
        fs::write(&go, "").expect("a file");
        criu.restore(t, container.bundle(), images, &[]).ok();
        container.delete_force().ok();
    });
}
