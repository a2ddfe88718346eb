//! Mounts, devices and masks: what /proc/self/mountinfo and stat say in the container.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use runb_tests::*;

/// A line of mountinfo.
#[derive(Clone, Debug)]
struct Line {
    place: String,
    options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`, without the numbers.
    propagation: Vec<String>,
    kind: String,
    superblock: Vec<String>,
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn lines(text: &str) -> Vec<Line> {
    let parse = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<_> = left.split(' ').collect();
        let right: Vec<_> = right.split(' ').collect();
        Some(Line {
            place: left[4].into(),
            options: words(left[5]),
            propagation: left[6..].iter().map(|tag| tag.split(':').next().unwrap_or_default().to_owned()).collect(),
            kind: right[0].into(),
            superblock: words(right[2]),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// The mounts in the container of `bundle`.
#[track_caller]
fn mounts_of(bundle: Bundle<'_>) -> Vec<Line> {
    lines(&bundle.args(["cat", "/proc/self/mountinfo"]).run().ok().stdout)
}

/// The last mount at `place`.
#[track_caller]
fn at<'l>(lines: &'l [Line], place: &str) -> &'l Line {
    let found = lines.iter().rfind(|line| line.place == place);
    found.unwrap_or_else(|| panic!("nothing is mounted at {place}: {lines:#?}"))
}

/// Nothing is mounted on /dev or below.
fn without_dev(bundle: Bundle<'_>) -> Bundle<'_> {
    let below = |mount: &Value| mount["destination"].as_str().is_some_and(|place| place.starts_with("/dev"));
    bundle.spec(|spec| spec["mounts"].as_array_mut().expect("mounts").retain(|mount| !below(mount)))
}

/// A bundle with a mount for each of `rows` at `/m/N`, in a rootfs that has `/m`.
fn with_rows<'t>(t: &'t Test, rows: &[&str], mount: impl Fn(&str) -> Value) -> Bundle<'t> {
    let mut bundle = t.bundle().writable();
    for (i, row) in rows.iter().enumerate() {
        let mut mount = mount(row);
        mount["destination"] = json!(format!("/m/{i}"));
        bundle = bundle.mount(mount);
    }
    bundle
}

/// Options, then what the mount has, what it lacks, and what its superblock has, each a list with commas.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[track_caller]
fn check_rows(t: &Test, rows: &[Row], mount: impl Fn(&str) -> Value) {
    let options: Vec<_> = rows.iter().map(|row| row.0).collect();
    let lines = mounts_of(with_rows(t, &options, mount));
    for (i, (options, has, lacks, superblock)) in rows.iter().enumerate() {
        let line = at(&lines, &format!("/m/{i}"));
        let named = |text: &str| words(text).into_iter().filter(|word| !word.is_empty());
        for word in named(has) {
            assert!(line.options.contains(&word), "{options}: no {word}: {line:?}");
        }
        for word in named(lacks) {
            // A filesystem is writable where its mount is not.
            let below = word != "rw" && line.superblock.contains(&word);
            assert!(!line.options.contains(&word) && !below, "{options}: {word}: {line:?}");
        }
        for word in named(superblock) {
            assert!(line.superblock.contains(&word), "{options}: no {word}: {line:?}");
        }
    }
}

/// What an attribute does to a mount, whether it is new or bound.
const ATTRIBUTES: &[Row] = &[
    ("defaults", "rw,relatime", "nosuid,nodev,noexec,nosymfollow", "rw"),
    ("ro", "ro", "rw", ""),
    ("ro,rw", "rw", "ro", ""),
    ("nosuid", "nosuid", "", ""),
    ("nosuid,suid", "", "nosuid", ""),
    ("nodev", "nodev", "", ""),
    ("nodev,dev", "", "nodev", ""),
    ("noexec", "noexec", "", ""),
    ("noexec,exec", "", "noexec", ""),
    ("noatime", "noatime", "relatime", ""),
    ("noatime,atime", "relatime", "noatime", ""),
    ("relatime", "relatime", "", ""),
    ("norelatime", "relatime", "noatime", ""),
    ("strictatime", "", "relatime,noatime", ""),
    ("strictatime,nostrictatime", "relatime", "", ""),
    ("nodiratime", "nodiratime", "", ""),
    ("nodiratime,diratime", "", "nodiratime", ""),
    ("nosymfollow", "nosymfollow", "", ""),
    ("nosymfollow,symfollow", "", "nosymfollow", ""),
    ("rro", "ro", "rw", ""),
    ("ro,rrw", "rw", "ro", ""),
    ("rnosuid", "nosuid", "", ""),
    ("nosuid,rsuid", "", "nosuid", ""),
    ("rnodev", "nodev", "", ""),
    ("nodev,rdev", "", "nodev", ""),
    ("rnoexec", "noexec", "", ""),
    ("noexec,rexec", "", "noexec", ""),
    ("rnoatime", "noatime", "", ""),
    ("noatime,ratime", "relatime", "noatime", ""),
    ("noatime,rrelatime", "relatime", "noatime", ""),
    ("rnorelatime", "relatime", "noatime", ""),
    ("rstrictatime", "", "relatime,noatime", ""),
    ("strictatime,rnostrictatime", "relatime", "", ""),
    ("rnodiratime", "nodiratime", "", ""),
    ("nodiratime,rdiratime", "", "nodiratime", ""),
    ("rnosymfollow", "nosymfollow", "", ""),
    ("nosymfollow,rsymfollow", "", "nosymfollow", ""),
    ("silent", "rw", "", ""),
    ("loud", "rw", "", ""),
];

fn tmpfs(options: &str) -> Value {
    json!({"type": "tmpfs", "source": "tmpfs", "options": words(options)})
}

#[test]
fn each_attribute_holds_on_a_new_filesystem() {
    in_modes(V2, |t| {
        t.runb_only("the peers lack some of them on a new filesystem");
        check_rows(t, ATTRIBUTES, tmpfs);
    });
}

#[test]
fn each_attribute_holds_on_a_bind_mount() {
    in_modes(V2, |t| {
        t.runb_only("the peers lack some of them");
        let source = t.dir().join("source");
        fs::create_dir(&source).expect("make a directory");
        // The source lies on a tmpfs with nosuid and nodev, which a bind mount keeps unless it is told otherwise.
        let told = |row: &&Row| row.0 != "defaults";
        let rows: Vec<Row> = ATTRIBUTES.iter().filter(told).copied().collect();
        check_rows(
            t,
            &rows,
            |options| json!({"type": "bind", "source": source, "options": words(&format!("bind,{options}"))}),
        );
    });
}

/// A source that has these flags, mounted until it is dropped.
struct Flagged(PathBuf);

impl Flagged {
    fn new(t: &Test, flags: &str) -> Self {
        let place = t.dir().join(t.name("flagged"));
        fs::create_dir(&place).expect("make a directory");
        // By mount(2), which changes all flags at once; a newer mount(8) has another call, and changes those that are named.
        let mount = |args: &[&str]| {
            let mut command = Command::new("mount");
            command.env("LIBMOUNT_FORCE_MOUNT2", "always").args(args).arg(&place);
            assert!(command.status().expect("mount").success(), "{flags}");
        };
        mount(&["-t", "tmpfs", "-o", "rw,suid,dev,exec,diratime,strictatime", "tmpfs"]);
        mount(&["--bind", "-o", &format!("remount,{flags}")]);
        Flagged(place)
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().expect("umount");
    }
}

/// What a bind mount with the second has whose source has the first; and in a user namespace, where an error has words.
const BOUND: &[(&str, &str, &str, Result<&str, &str>)] = &[
    (
        "ro,noexec,nosymfollow,nodiratime",
        "rprivate",
        "ro,noexec,nosymfollow,nodiratime,relatime",
        Ok("ro,noexec,nosymfollow,nodiratime,relatime"),
    ),
    ("ro,noexec,nosymfollow,nodiratime", "dev", "rw,nodiratime,relatime", Ok("ro,noexec,nodiratime,relatime")),
    ("ro", "nosuid,nodev", "rw,nosuid,nodev", Ok("ro,nosuid,nodev")),
    ("ro", "rw,nosuid", "rw,nosuid", Err("cannot clear ro")),
    ("nodev,nosuid,noatime", "dev,suid,atime", "rw,noatime", Err("cannot clear nosuid,nodev,noatime")),
    ("nodev,nosuid,noexec,noatime", "ro", "ro,noatime", Ok("ro,nodev,nosuid,noexec,noatime")),
    ("nodev,nosymfollow", "ro,symfollow", "ro", Ok("ro,nodev")),
    ("nodev,nosymfollow", "rw", "rw", Ok("rw,nodev")),
    ("nosuid", "silent", "rw", Ok("rw,nosuid")),
    ("nosuid", "defaults", "rw,nosuid", Ok("rw,nosuid")),
    ("noatime", "norelatime", "rw,noatime", Ok("rw,noatime")),
    ("noatime", "atime", "rw,noatime", Ok("rw,noatime")),
    ("noatime", "relatime", "rw,relatime", Err("cannot change noatime")),
    ("noatime", "nodiratime", "rw,nodiratime,relatime", Err("cannot change noatime")),
    ("nodiratime", "strictatime", "rw", Err("cannot change nodiratime,relatime")),
    ("strictatime", "nostrictatime", "rw", Ok("rw")),
    ("strictatime", "noatime", "rw,noatime", Err("cannot change strictatime")),
    ("nodiratime", "diratime", "rw,nodiratime,relatime", Ok("rw,nodiratime,relatime")),
    ("ro", "rrw", "rw", Err("cannot clear ro")),
    ("relatime", "rnoatime", "rw,noatime", Err("cannot change relatime")),
];

#[test]
fn a_bind_mount_to_which_a_flag_is_given_has_just_those_flags_and_keeps_what_a_user_namespace_locks() {
    in_modes(V2, |t| {
        t.runb_only("the peers of these versions clear other flags");
        for (source, given, has, locked) in BOUND {
            let flagged = Flagged::new(t, source);
            let options = words(&format!("rbind,{given}"));
            let mount = json!({"destination": "/tmp", "type": "bind", "source": flagged.0, "options": options});
            let bundle = || t.bundle().with_id(&t.name("b")).mount(mount.clone());
            let check = |bundle: Bundle<'_>, expected: &str| {
                let (mut own, mut expected) = (at(&mounts_of(bundle), "/tmp").options.clone(), words(expected));
                own.sort();
                expected.sort();
                assert_eq!(own, expected, "{given:?} on {source:?}");
            };
            check(bundle(), has);
            match locked {
                Ok(has) => check(in_user_namespace(bundle()), has),
                Err(words) => {
                    let texts = ["mounts[8] (/tmp).options", words, "locked in a user namespace", "EPERM"];
                    in_user_namespace(bundle()).try_create().fails_with(&texts);
                }
            }
        }
    });
}

/// The source has a mount below it, with nosuid and nodev as the outer one.
fn nested(t: &Test) -> PathBuf {
    let source = t.dir().join("nested");
    fs::create_dir_all(source.join("inner")).expect("make directories");
    let command = ["-t", "tmpfs", "inner"];
    let status = Command::new("mount").args(command).arg(source.join("inner")).status();
    assert!(status.expect("mount").success());
    source
}

fn unnested(source: &Path) {
    assert!(Command::new("umount").arg(source.join("inner")).status().expect("umount").success());
}

#[test]
fn attributes_with_an_r_reach_what_is_mounted_below_and_others_do_not() {
    in_modes(V2, |t| {
        t.runb_only("the peers lack some of them");
        let source = nested(t);
        let rows = ["ro", "rro", "noexec,rro", "rnoexec", "rnoatime", "rnosymfollow", "rnosuid"];
        let bind =
            |options: &str| json!({"type": "bind", "source": source, "options": words(&format!("rbind,{options}"))});
        let lines = mounts_of(with_rows(t, &rows, bind));
        let has = |i: usize, inner: &str, word: &str| {
            at(&lines, &format!("/m/{i}{inner}")).options.contains(&word.to_owned())
        };
        assert!(has(0, "", "ro") && !has(0, "/inner", "ro"));
        assert!(has(1, "", "ro") && has(1, "/inner", "ro"));
        assert!(has(2, "", "noexec") && !has(2, "/inner", "noexec") && has(2, "/inner", "ro"));
        for (i, word) in [(3, "noexec"), (4, "noatime"), (5, "nosymfollow"), (6, "nosuid")] {
            assert!(has(i, "", word) && has(i, "/inner", word), "{word}");
        }
        unnested(&source);
    });
}

#[test]
fn each_superblock_option_holds_on_a_new_filesystem() {
    in_modes(V2, |t| {
        t.runb_only("the peers lack some of them");
        let rows: &[Row] = &[
            ("sync", "", "", "sync"),
            ("sync,async", "", "sync", ""),
            ("dirsync", "", "", "dirsync"),
            ("lazytime", "", "", "lazytime"),
            ("lazytime,nolazytime", "", "lazytime", ""),
            ("mand", "", "", "mand"),
            ("mand,nomand", "", "mand", ""),
            ("iversion", "rw", "", "rw"),
            ("noiversion", "rw", "", "rw"),
            ("size=64k,nr_inodes=10", "", "", "size=64k,nr_inodes=10"),
            ("iversion,nosuid,noatime,size=64k,lazytime", "nosuid,noatime", "", "size=64k,lazytime"),
        ];
        check_rows(t, rows, tmpfs);
    });
}

#[test]
fn iversion_is_set_by_a_remount_with_all_the_other_flags() {
    in_modes(V2, |t| {
        t.runb_only("the plan is runb's");
        let mount = json!({"destination": "/tmp", "type": "tmpfs", "options": ["iversion", "nosuid", "noatime"]});
        let bundle = t.bundle().mount(mount);
        bundle.write();
        let mut command = t.command(["plan", "--calls", "--bundle"]);
        command.arg(bundle.dir()).arg(bundle.id());
        let plan = t.finish(command).ok().stdout;
        let wanted = r#"mount(NULL, ".", NULL, MS_NOSUID|MS_REMOUNT|MS_NOATIME|MS_I_VERSION, NULL)"#;
        assert!(plan.contains(wanted), "{plan}");
        bundle.args(["true"]).run().ok();
    });
}

#[test]
fn each_propagation_holds() {
    in_modes(V2, |t| {
        let source = nested(t);
        let rows = [
            ("private", "", ""),
            ("rprivate", "", ""),
            ("shared", "shared", ""),
            ("rshared", "shared", "shared"),
            ("slave", "", ""),
            ("rslave", "", ""),
            ("unbindable", "unbindable", ""),
            ("runbindable", "unbindable", "unbindable"),
        ];
        let options: Vec<_> = rows.iter().map(|row| row.0).collect();
        let bind = |option: &str| json!({"type": "bind", "source": source, "options": ["rbind", option]});
        let lines = mounts_of(with_rows(t, &options, bind));
        for (i, (option, outer, inner)) in rows.iter().enumerate() {
            let tags = |inner: &str| at(&lines, &format!("/m/{i}{inner}")).propagation.join(",");
            assert_eq!((tags("").as_str(), tags("/inner").as_str()), (*outer, *inner), "{option}");
        }
        unnested(&source);
    });
}

#[test]
fn the_eight_modes_of_rootfs_propagation_hold_under_a_shared_parent() {
    in_modes(V2, |t| {
        t.needs_program("unshare");
        // runc 1.1 leaves the master of a shared root; newer ones do not.
        t.runb_only("the peers' versions differ");
        let rows = [
            ("private", "", ""),
            ("rprivate", "", ""),
            ("shared", "shared", ""),
            ("rshared", "shared", "shared"),
            ("slave", "master", ""),
            ("rslave", "master", ""),
            ("unbindable", "unbindable", ""),
            ("runbindable", "unbindable", "unbindable"),
        ];
        for (mode, root, proc) in rows {
            let id = t.name("p");
            let bundle = t.bundle().with_id(&id).set("/linux/rootfsPropagation", json!(mode));
            let bundle = bundle.args(["cat", "/proc/self/mountinfo"]);
            bundle.write();
            let mut command = t.wrapped(&["unshare", "-m", "--propagation", "shared"], ["run", "--bundle"]);
            command.arg(bundle.dir()).arg(bundle.id());
            let lines = lines(&t.finish(command).ok().stdout);
            let tags = |place: &str| at(&lines, place).propagation.join(",");
            assert_eq!((tags("/").as_str(), tags("/proc").as_str()), (root, proc), "{mode}");
        }
    });
}

#[test]
fn a_tmpfs_takes_over_the_mode_of_the_directory_that_it_covers() {
    in_modes(V2, |t| {
        let source = t.dir().join("source");
        fs::create_dir_all(source.join("sub")).expect("make directories");
        fs::set_permissions(source.join("sub"), fs::Permissions::from_mode(0o701)).expect("chmod");
        let mode = |path: &str, mode: u32| {
            let path = path.to_owned();
            move |root: &Path| {
                fs::create_dir_all(root.join(&path)).expect("make a directory");
                fs::set_permissions(root.join(&path), fs::Permissions::from_mode(mode)).expect("chmod");
            }
        };
        let tmpfs = |place: &str, options: Value| json!({"destination": place, "type": "tmpfs", "options": options});
        let bundle = t
            .bundle()
            .writable()
            .rootfs_with(mode("there", 0o710))
            .rootfs_with(mode("told", 0o711))
            .mount(tmpfs("/there", json!([])))
            .mount(tmpfs("/told", json!(["mode=0750"])))
            .mount(tmpfs("/new", json!([])))
            .mount(json!({"destination": "/bound", "type": "bind", "source": source, "options": ["bind"]}))
            .mount(tmpfs("/bound/sub", json!([])));
        let outcome = bundle.args(["stat", "-c", "%n %a", "/there", "/told", "/new", "/bound/sub"]).run().ok();
        assert_eq!(outcome.stdout, "/there 710\n/told 750\n/new 1777\n/bound/sub 701\n");
    });
}

#[test]
fn a_read_only_tmpfs_may_have_mounts_inside() {
    in_modes(V2, |t| {
        let tmpfs = |place: &str, options: Value| json!({"destination": place, "type": "tmpfs", "options": options});
        let bundle = t.bundle().mount(tmpfs("/tmp", json!(["ro"]))).mount(tmpfs("/tmp/a/b", json!([])));
        let outcome = bundle.sh("mkdir /tmp/c 2>/dev/null || echo ro; mkdir /tmp/a/b/c && echo rw").run().ok();
        assert_eq!(outcome.stdout, "ro\nrw\n");
    });
}

#[test]
fn tmpcopyup_copies_what_the_image_has_with_its_attributes() {
    in_modes(V2, |t| {
        let fill = |root: &Path| {
            let dir = root.join("data");
            fs::create_dir_all(dir.join("sub")).expect("make directories");
            fs::write(dir.join("sub/file"), "content\n").expect("write");
            fs::set_permissions(dir.join("sub/file"), fs::Permissions::from_mode(0o4751)).expect("chmod");
            std::os::unix::fs::chown(dir.join("sub"), Some(5), Some(6)).expect("chown");
            fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o2755)).expect("chmod");
            symlink("/etc/passwd", dir.join("link")).expect("a link");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
            let file = fs::File::options().write(true).open(dir.join("sub/file")).expect("open");
            file.set_modified(time).expect("set a time");
        };
        let mount = json!({"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]});
        let script = "cat /data/sub/file; stat -c '%a %u:%g %Y' /data/sub /data/sub/file | sed 's/ [0-9]*$//;2s/$/ t/'; \
                      stat -c %Y /data/sub/file; readlink /data/link; : >/data/new; stat -fc %T /data";
        let bundle = t.bundle().rootfs_with(fill).mount(mount).sh(script);
        let rootfs = bundle.rootfs();
        let outcome = bundle.run().ok();
        assert_eq!(outcome.stdout, "content\n2755 5:6\n4751 0:0 t\n1000000000\n/etc/passwd\ntmpfs\n");
        assert!(!rootfs.join("data/new").exists());
    });
}

#[test]
fn tmpcopyup_is_for_a_new_tmpfs_alone() {
    in_modes(V2, |t| {
        t.runb_only("crun ignores it");
        let mount = json!({"destination": "/data", "type": "mqueue", "options": ["tmpcopyup"]});
        t.bundle().mount(mount).try_create().fails_with(&["mounts[8].options (/data)", "tmpcopyup"]);
    });
}

#[test]
fn remount_changes_what_was_mounted_before() {
    in_modes(V2, |t| {
        t.runb_only("the peers differ in what they allow");
        let again = |options: Value| json!({"destination": "/tmp", "type": "tmpfs", "options": options});
        let bundle = t.bundle().mount(again(json!(["size=64k", "noexec"]))).mount(again(json!([
            "remount",
            "size=128k",
            "exec",
            "nosuid"
        ])));
        let lines = mounts_of(bundle);
        let line = at(&lines, "/tmp");
        assert!(line.superblock.contains(&"size=128k".into()), "{line:?}");
        assert!(line.options.contains(&"nosuid".into()) && !line.options.contains(&"noexec".into()), "{line:?}");
        let mount = json!({"destination": "/share", "type": "none", "options": ["bind", "remount", "ro"]});
        let lines = mounts_of(t.bundle().with_id(&t.name("r")).mount(mount));
        assert!(at(&lines, "/share").options.contains(&"ro".into()), "{lines:?}");
    });
}

#[test]
fn a_remount_of_a_filesystem_of_the_hosts_is_refused() {
    in_modes(V2, |t| {
        t.runb_only("the peers change the host's filesystem");
        let mount = json!({"destination": "/share", "type": "tmpfs", "options": ["remount", "size=1k"]});
        t.bundle().mount(mount).try_create().fails_with(&["mounts[8] (/share)", "remount"]);
    });
}

#[test]
fn an_unknown_option_is_told_in_the_kernels_words() {
    in_modes(V2, |t| {
        t.runb_only("the peers have an errno alone");
        let mount = json!({"destination": "/data", "type": "tmpfs", "options": ["sizze=5"]});
        let outcome = t.bundle().writable().mount(mount).try_create();
        outcome.fails_with(&[
            "mounts[8] (/data): mount tmpfs with \"sizze=5\": tmpfs: Unknown parameter 'sizze'",
            "EINVAL",
        ]);
    });
}

#[test]
fn a_bind_mount_with_data_is_refused() {
    in_modes(V2, |t| {
        t.runb_only("crun ignores it");
        let mount = json!({"destination": "/data", "source": "/tmp", "options": ["bind", "size=5"]});
        t.bundle().mount(mount).try_create().fails_with(&["mounts[8].options (/data)", "size=5"]);
    });
}

#[test]
fn a_relative_destination_is_taken_from_the_root_with_a_warning() {
    in_modes(V2, |t| {
        let outcome =
            t.bundle().mount(json!({"destination": "tmp", "type": "tmpfs"})).sh("stat -fc %T /tmp").run().ok();
        assert_eq!(outcome.stdout, "tmpfs\n");
        if t.is(&[Kind::Runb]) {
            assert!(outcome.log.contains("mounts[8].destination") && outcome.log.contains("warning"), "{outcome:?}");
        }
    });
}

fn mapped(t: &Test, options: Value, maps: Value) -> Value {
    let source = t.dir().join("mapped");
    fs::create_dir_all(source.join("inner")).expect("make directories");
    fs::write(source.join("file"), "").expect("write");
    std::os::unix::fs::chown(source.join("file"), Some(3), Some(4)).expect("chown");
    let mut mount = json!({"destination": "/tmp", "type": "bind", "source": source, "options": options});
    if !maps.is_null() {
        mount["uidMappings"] = maps[0].clone();
        mount["gidMappings"] = maps[1].clone();
    }
    mount
}

fn id_map(from: u32, to: u32) -> Value {
    json!([{"containerID": from, "hostID": to, "size": 100}])
}

#[test]
fn an_id_mapping_of_its_own_holds_on_a_bind_mount() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        for option in ["idmap", "ridmap"] {
            let maps = json!([id_map(0, 1000), id_map(0, 2000)]);
            let bundle = t.bundle().with_id(&t.name("i")).mount(mapped(t, json!(["rbind", option]), maps));
            let outcome = bundle.args(["stat", "-c", "%u:%g", "/tmp/file"]).run().ok();
            assert_eq!(outcome.stdout, "1003:2004\n", "{option}");
        }
    });
}

fn in_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    let rootfs = bundle.rootfs();
    fs::set_permissions(rootfs.parent().expect("a parent"), fs::Permissions::from_mode(0o755)).expect("chmod");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.writable().spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

#[test]
fn an_id_mapping_is_the_user_namespaces_where_the_mount_has_none() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc has none");
        let bundle = in_user_namespace(t.bundle()).mount(mapped(t, json!(["bind", "idmap"]), Value::Null));
        let outcome = bundle.args(["stat", "-c", "%u:%g", "/tmp/file"]).run().ok();
        assert_eq!(outcome.stdout, "3:4\n");
    });
}

#[test]
fn an_id_mapping_that_cannot_be_is_refused_at_its_place() {
    in_modes(V2, |t| {
        t.runb_only("the peers' messages differ");
        let refused = |mount: Value, texts: &[&str]| {
            t.bundle().with_id(&t.name("i")).mount(mount).try_create().fails_with(texts);
        };
        refused(mapped(t, json!(["bind", "idmap"]), Value::Null), &["mounts[8].options (/tmp)", "user namespace"]);
        refused(mapped(t, json!(["bind"]), json!([id_map(0, 1), []])), &["mounts[8].gidMappings (/tmp)"]);
        refused(mapped(t, json!(["bind"]), json!([[], id_map(0, 1)])), &["mounts[8].uidMappings (/tmp)"]);
        let twice = json!([{"containerID": 0, "hostID": 0, "size": 9}, {"containerID": 0, "hostID": 0, "size": 9}]);
        refused(mapped(t, json!(["bind", "idmap"]), json!([twice, twice])), &["mounts[8]", "uid_map", "EINVAL"]);
    });
}

#[test]
fn files_sockets_and_directories_are_bound_onto_what_is_there_and_what_is_not() {
    in_modes(V2, |t| {
        let file = t.dir().join("file");
        fs::write(&file, "file\n").expect("write");
        let socket = t.dir().join("socket");
        let _listener = UnixListener::bind(&socket).expect("bind a socket");
        let bind = |source: &Path, place: &str| json!({"destination": place, "type": "bind", "source": source, "options": ["bind"]});
        let links = |root: &Path| {
            fs::write(root.join("etc/real"), "").expect("write");
            symlink("/etc/real", root.join("etc/absolute")).expect("a link");
            symlink("../../../../etc/made", root.join("etc/dangling")).expect("a link");
        };
        let bundle = t
            .bundle()
            .writable()
            .rootfs_with(links)
            .mount(bind(&file, "/etc/passwd"))
            .mount(bind(&file, "/new/deep/file"))
            .mount(bind(&file, "/etc/absolute"))
            .mount(bind(&file, "/etc/dangling"))
            .mount(bind(&socket, "/new/socket"))
            .mount(bind(&socket, "/tmp/socket"));
        let script = "cat /etc/passwd /new/deep/file /etc/real /etc/made; test -S /new/socket && test -S /tmp/socket && echo socket";
        assert_eq!(bundle.sh(script).run().ok().stdout, "file\nfile\nfile\nfile\nsocket\n");
    });
}

#[test]
fn a_destination_below_a_link_lands_in_the_mount_that_the_link_leads_to() {
    in_modes(V2, |t| {
        let links = |root: &Path| {
            fs::create_dir_all(root.join("run/secrets")).expect("make directories");
            fs::create_dir_all(root.join("var")).expect("make a directory");
            symlink("/run", root.join("var/run")).expect("a link");
        };
        let source = t.dir().join("secret");
        fs::create_dir(&source).expect("make a directory");
        fs::write(source.join("token"), "secret\n").expect("write");
        let bundle =
            t.bundle().rootfs_with(links).mount(json!({"destination": "/run", "type": "tmpfs"})).mount(
                json!({"destination": "/var/run/secrets", "type": "bind", "source": source, "options": ["bind"]}),
            );
        assert_eq!(bundle.sh("cat /run/secrets/token").run().ok().stdout, "secret\n");
    });
}

#[test]
fn the_last_of_several_mounts_at_one_place_is_seen() {
    in_modes(V2, |t| {
        let tmpfs = |size: &str| json!({"destination": "/tmp", "type": "tmpfs", "options": [size]});
        let bundle = t.bundle().mount(tmpfs("size=64k")).mount(tmpfs("size=128k"));
        let lines = mounts_of(bundle);
        assert_eq!(lines.iter().filter(|line| line.place == "/tmp").count(), 2);
        assert!(at(&lines, "/tmp").superblock.contains(&"size=128k".into()));
    });
}

#[test]
fn with_hooks_the_mounts_land_in_the_root_as_without() {
    in_modes(V2, |t| {
        let place = format!("/{}", t.name("new"));
        let mount = |destination: &str| json!({"destination": destination, "type": "tmpfs", "options": ["size=64k"]});
        let bundle = t
            .bundle()
            .writable()
            .hook("createRuntime", json!({"path": "/bin/true"}))
            .mount(mount(&place))
            .mount(mount(&format!("{place}/inner")))
            .set("/linux/devices", json!([{"path": "/dev/own", "type": "c", "major": 1, "minor": 3}]));
        let outcome =
            bundle.sh(&format!("cat /proc/self/mountinfo; test -c /dev/own && : >{place}/inner/x")).run().ok();
        let lines = lines(&outcome.stdout);
        assert_eq!(
            (at(&lines, &place).kind.as_str(), at(&lines, &format!("{place}/inner")).kind.as_str()),
            ("tmpfs", "tmpfs")
        );
        assert!(!Path::new(&place).exists(), "{place} is on the host");
    });
}

#[test]
fn the_hosts_root_and_an_overlay_serve_as_the_root_filesystem() {
    in_modes(V2, |t| {
        for hooked in [json!([]), json!([{"path": "/bin/true"}])] {
            let bundle = t.bundle().with_id(&t.name("h")).spec(|spec| {
                spec["root"] = json!({"path": "/", "readonly": true});
                spec["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/share");
                spec["hooks"] = json!({"createRuntime": hooked});
            });
            let lines = mounts_of(bundle);
            assert!(at(&lines, "/").options.contains(&"ro".into()) && at(&lines, "/dev").kind == "tmpfs", "{lines:?}");
        }
        let bundle = t.bundle().with_id(&t.name("o"));
        let merged = t.dir().join("merged");
        let [upper, work] = ["upper", "work"].map(|name| t.dir().join(name));
        for dir in [&merged, &upper, &work] {
            fs::create_dir(dir).expect("make a directory");
        }
        let data =
            format!("lowerdir={},upperdir={},workdir={}", bundle.rootfs().display(), upper.display(), work.display());
        let mount = |args: &[&str]| Command::new("mount").args(args).arg(&merged).status().expect("mount").success();
        if !mount(&["-t", "overlay", "overlay", "-o", &data]) {
            t.skip("no overlay here");
        }
        let lines = mounts_of(bundle.set("/root/path", json!(merged)));
        assert_eq!(at(&lines, "/").kind, "overlay");
        assert!(Command::new("umount").arg(&merged).status().expect("umount").success());
    });
}

#[test]
fn an_overlay_with_more_layers_than_fsconfig_takes_is_mounted() {
    in_modes(V2, |t| {
        let layers: Vec<String> =
            (0..12).map(|i| t.dir().join(format!("a-layer-with-a-long-name-{i}")).display().to_string()).collect();
        for (i, layer) in layers.iter().enumerate() {
            fs::create_dir(layer).expect("make a layer");
            fs::write(format!("{layer}/{i}"), "").expect("write");
        }
        let lower = format!("lowerdir={}", layers.join(":"));
        assert!(lower.len() > 256);
        // The layers are the host's: seen at the same path inside.
        let bundle = t
            .bundle()
            .writable()
            .mount(json!({"destination": t.dir(), "type": "bind", "source": t.dir(), "options": ["rbind"]}))
            .mount(
                json!({"destination": "/tmp", "type": "overlay", "source": "o", "options": [lower, "ro", "nosuid"]}),
            );
        let outcome = bundle.sh("ls /tmp | wc -l; grep ' /tmp ' /proc/self/mountinfo").run().ok();
        let line = lines(&outcome.stdout);
        assert!(outcome.stdout.starts_with("12\n"), "{outcome:?}");
        assert!(
            at(&line, "/tmp").options.contains(&"nosuid".into()) && at(&line, "/tmp").options.contains(&"ro".into())
        );
    });
}

#[test]
fn cgroups_are_mounted_as_their_version_demands() {
    in_modes(ALL, |t| {
        for with_namespace in [true, false] {
            let bundle = t.bundle().with_id(&t.name("g"));
            let bundle = if with_namespace { bundle } else { bundle.without_namespace("cgroup") };
            let outcome = bundle.sh("cat /proc/self/mountinfo; cat /proc/self/cgroup; ls -l /sys/fs/cgroup").run().ok();
            let lines = lines(&outcome.stdout);
            let line = at(&lines, "/sys/fs/cgroup");
            let ro = |line: &Line| line.options.contains(&"ro".into());
            assert!(ro(line), "{outcome:?}");
            if t.mode() == Mode::V2 {
                assert_eq!(line.kind, "cgroup2");
                continue;
            }
            assert_eq!(line.kind, "tmpfs");
            let hierarchies: Vec<_> = lines.iter().filter(|line| line.kind == "cgroup").collect();
            assert!(!hierarchies.is_empty() && hierarchies.iter().all(|line| ro(line)), "{outcome:?}");
            if outcome.stdout.contains("cpu,cpuacct:") || outcome.stdout.contains("cpuacct,cpu:") {
                assert!(outcome.stdout.contains("cpu -> cpu"), "{outcome:?}");
            }
        }
    });
}

#[test]
fn devices_have_their_type_number_mode_and_owner_also_outside_of_dev() {
    in_modes(V2, |t| {
        let bundle = t.bundle().writable().set(
            "/linux/devices",
            json!([
                {"path": "/dev/char", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
                {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5},
                {"path": "/dev/block", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600},
                {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 7},
                {"path": "/dev/deep/er/char", "type": "c", "major": 1, "minor": 7, "gid": 8},
                {"path": "/opt/new/char", "type": "c", "major": 1, "minor": 3},
                {"path": "/top", "type": "c", "major": 1, "minor": 3},
            ]),
        );
        let script =
            "cd /dev; stat -c '%n %F %t:%T %a %u:%g' char unbuffered block pipe deep/er/char /opt/new/char /top";
        assert_eq!(
            bundle.sh(script).run().ok().stdout,
            "char character special file 1:3 640 5:6\nunbuffered character special file 1:5 666 0:0\n\
             block block special file 7:c8 600 0:0\npipe fifo 0:0 622 7:0\ndeep/er/char character special file 1:7 666 0:8\n\
             /opt/new/char character special file 1:3 666 0:0\n/top character special file 1:3 666 0:0\n"
        );
    });
}

#[test]
fn the_default_devices_and_their_links_are_there_also_without_a_mount_on_dev() {
    in_modes(V2, |t| {
        let script = "cd /dev; for i in null zero full random urandom tty; do test -c $i || echo no $i; done; \
                      for i in fd stdin stdout stderr ptmx core; do readlink $i; done; true";
        let core = if Path::new("/proc/kcore").exists() { "/proc/kcore\n" } else { "" };
        let expected = format!("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n{core}");
        let own = t.bundle().sh(script).run();
        assert_eq!(own.stdout, expected, "{own:?}");
        let bundle = without_dev(t.bundle().with_id(&t.name("d")).writable());
        // Twice: the second time all is there already.
        let bundle = bundle.sh(script);
        assert_eq!(bundle.run().stdout, expected);
        let outcome = bundle.run();
        assert_eq!(outcome.stdout, expected, "{outcome:?}");
    });
}

#[test]
fn in_a_user_namespace_the_hosts_devices_are_bound() {
    in_modes(V2, |t| {
        t.runb_only("Debian's peers cannot traverse the test's directory");
        let bundle = in_user_namespace(t.bundle()).set(
            "/linux/devices",
            json!([{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}, {"path": "/dev/pipe", "type": "p"}]),
        );
        let script = "echo x >/dev/null && head -c 2 /dev/zero | wc -c; test -p /dev/pipe && echo pipe; grep -c ' /dev/null ' /proc/self/mountinfo";
        assert_eq!(bundle.sh(script).run().ok().stdout, "2\npipe\n1\n");
    });
}

#[test]
fn what_is_in_the_place_of_a_device_and_does_not_match_is_an_error() {
    in_modes(V2, |t| {
        t.runb_only("the peers differ");
        let file = |root: &Path| fs::write(root.join("dev/null"), "").expect("write");
        let bundle = without_dev(t.bundle().rootfs_with(file));
        bundle.try_create().fails_with(&["/dev/null", "something else"]);
    });
}

#[test]
fn masks_cover_files_directories_and_links_and_pass_over_what_is_not_there() {
    in_modes(V2, |t| {
        let fill = |root: &Path| {
            fs::create_dir(root.join("etc/dir")).expect("make a directory");
            fs::write(root.join("etc/dir/secret"), "secret").expect("write");
            fs::write(root.join("etc/file"), "secret").expect("write");
            fs::create_dir(root.join("etc/linked")).expect("make a directory");
            fs::write(root.join("etc/linked/secret"), "secret").expect("write");
            symlink("/etc/linked", root.join("etc/link")).expect("a link");
            symlink("/nowhere", root.join("etc/dangling")).expect("a link");
        };
        let masked =
            json!(["/etc/dir", "/etc/file", "/etc/link", "/etc/dangling", "/etc/none", "/etc/file/none", "/proc/keys"]);
        let script = "cat /etc/file /proc/keys; ls /etc/dir /etc/link; mkdir /etc/dir/new 2>/dev/null || echo ro; \
                      stat -c %t:%T /etc/file; grep -c ' /etc/' /proc/self/mountinfo";
        let bundle = t.bundle().rootfs_with(fill).set("/linux/maskedPaths", masked).sh(script);
        let outcome = bundle.run().ok();
        assert_eq!(outcome.stdout, "/etc/dir:\n\n/etc/link:\nro\n1:3\n3\n", "{outcome:?}");
    });
}

#[test]
fn a_path_that_is_masked_twice_is_masked_once_and_masked_directories_are_one_filesystem_wherever_they_lie() {
    in_modes(V2, |t| {
        t.runb_only("Debian's runc mounts a filesystem for each");
        for hooked in [json!([]), json!([{"path": "/bin/true"}])] {
            let fill = |root: &Path| {
                for name in ["one", "two"] {
                    fs::create_dir(root.join("etc").join(name)).expect("make a directory");
                }
                fs::write(root.join("etc/file"), "secret").expect("write");
            };
            let masked = json!([
                "/etc/one",
                "/etc/two",
                "/etc/one",
                "/etc/./one/",
                "/etc/file",
                "/etc/file",
                "/tmp",
                "/sys/kernel"
            ]);
            let bundle = t
                .bundle()
                .with_id(&t.name("m"))
                .rootfs_with(fill)
                .mount(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}))
                .spec(|spec| spec["hooks"] = json!({"createRuntime": hooked}))
                .set("/linux/maskedPaths", masked);
            let script = "grep -c ' /etc/one ' /proc/self/mountinfo; grep -c ' /etc/file ' /proc/self/mountinfo;
                stat -c %d /etc/one /etc/two /tmp /sys/kernel | sort -u | wc -l; ls -A /etc/one /tmp /sys/kernel; cat /etc/file";
            let expected = "1\n1\n1\n/etc/one:\n\n/sys/kernel:\n\n/tmp:\n";
            assert_eq!(bundle.sh(script).run().ok().stdout, expected);
        }
    });
}

#[test]
fn read_only_paths_are_read_only_with_what_is_mounted_below() {
    in_modes(V2, |t| {
        let source = nested(t);
        let bundle = t
            .bundle()
            .mount(json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["rbind"]}))
            .set("/linux/readonlyPaths", json!(["/tmp", "/none", "/proc/sys"]));
        let script = "for i in /tmp /tmp/inner; do mkdir $i/new 2>/dev/null || echo ro; done; \
                      (: >/proc/sys/kernel/domainname) 2>/dev/null || echo ro";
        assert_eq!(bundle.sh(script).run().stdout, "ro\nro\nro\n");
        unnested(&source);
    });
}

#[test]
fn sysctls_of_the_containers_namespaces_are_set_in_either_spelling() {
    in_modes(V2, |t| {
        let bundle = t.bundle().set(
            "/linux/sysctl",
            json!({"kernel.domainname": "dotted", "net/ipv4/conf/lo/forwarding": "1", "net.ipv4.conf.all/x": "1"}),
        );
        if t.is(&[Kind::Runb]) {
            bundle.try_create().fails_with(&["linux.sysctl[net.ipv4.conf.all/x]", "ENOENT"]);
        }
        let bundle = t.bundle().with_id(&t.name("s")).set(
            "/linux/sysctl",
            json!({"kernel.domainname": "dotted", "net/ipv4/conf/lo/forwarding": "1", "kernel.shmmax": "65536"}),
        );
        let script = "cd /proc/sys; cat kernel/domainname net/ipv4/conf/lo/forwarding kernel/shmmax";
        assert_eq!(bundle.sh(script).run().ok().stdout, "dotted\n1\n65536\n");
    });
}

#[test]
fn sysctls_of_the_host_and_names_that_are_none_are_refused() {
    in_modes(V2, |t| {
        t.runb_only("the peers' messages differ");
        for key in [
            "kernel.core_pattern",
            "vm.overcommit_memory",
            "net/ipv4/../../kernel/core_pattern",
            "kernel..hostname",
            "",
            "/proc/sys/kernel/hostname",
            "kernel.hostname",
            "user.max_user_namespaces",
        ] {
            let bundle = t.bundle().with_id(&t.name("s")).set("/linux/sysctl", json!({key: "1"}));
            bundle.try_create().fails_with(&[&format!("linux.sysctl[{key}]")]);
        }
        let bundle = t.bundle().with_id(&t.name("s")).set("/linux/sysctl", json!({"kernel/hostname": "x"}));
        bundle.try_create().fails_with(&["linux.sysctl[kernel/hostname]", "\"hostname\""]);
        let bundle = in_user_namespace(t.bundle()).set("/linux/sysctl", json!({"user.max_user_namespaces": "77"}));
        assert_eq!(bundle.args(["cat", "/proc/sys/user/max_user_namespaces"]).run().ok().stdout, "77\n");
    });
}

/// The calls that make or change mounts.
const MOUNT_CALLS: &str = "mount,umount2,move_mount,open_tree,fsopen,fspick,fsconfig,fsmount,mount_setattr,pivot_root";

/// How many of [`MOUNT_CALLS`] the plan of `bundle` has, and how many a run with `flags` makes.
fn planned_and_made(t: &Test, bundle: &Bundle<'_>, flags: &[&str]) -> (usize, usize, String) {
    bundle.write();
    let call = |mut command: Command, flags: &[&str]| {
        command.arg("--bundle").arg(bundle.dir()).args(flags).arg(bundle.id());
        t.finish(command).ok()
    };
    let plan = call(t.command(["plan", "--calls"]), flags).stdout;
    let names: Vec<_> = MOUNT_CALLS.split(',').collect();
    let is_mount = |line: &&str| {
        let word = line.split_whitespace().nth(1).unwrap_or_default();
        names.iter().any(|name| word.starts_with(&format!("{name}("))) && !line.contains("resumed>")
    };
    let output = t.dir().join(t.name("strace"));
    let trace = format!("trace={MOUNT_CALLS}");
    let wrapper = ["strace", "-f", "-qq", "-e", &trace, "-e", "signal=none", "-o", output.to_str().expect("a path")];
    call(t.wrapped(&wrapper, ["run"]), flags);
    let text = fs::read_to_string(&output).expect("read");
    let count = |text: &str| text.lines().filter(is_mount).count();
    (count(&plan), count(&text), format!("{text}\n{plan}"))
}

#[test]
fn a_launch_makes_no_more_mount_calls_than_its_plan_has() {
    in_modes(ALL, |t| {
        t.runb_only("the plan is runb's");
        t.needs_program("strace");
        let bundle = || t.bundle().with_id(&t.name("s")).args(["true"]);
        let source = nested(t);
        let bind =
            json!({"destination": "/tmp", "type": "bind", "source": source, "options": ["rbind", "rro", "nosuid"]});
        let rows = [
            ("plain", bundle(), &[][..]),
            ("hooks", bundle().hook("createRuntime", json!({"path": "/bin/true"})), &[]),
            ("no pivot", bundle(), &["--no-pivot"]),
            ("user namespace", in_user_namespace(bundle()), &[]),
            ("user namespace, hooks", in_user_namespace(bundle().hook("prestart", json!({"path": "/bin/true"}))), &[]),
            ("bind", bundle().mount(bind), &[]),
            ("no cgroup namespace", bundle().without_namespace("cgroup"), &[]),
            ("shared", bundle().set("/linux/rootfsPropagation", json!("rshared")), &[]),
        ];
        for (name, bundle, flags) in rows {
            let (planned, made, text) = planned_and_made(t, &bundle, flags);
            assert!(planned > 20 && made > 20 && made <= planned, "{name}: {made} made, {planned} planned:\n{text}");
        }
        unnested(&source);
    });
}

#[test]
fn nothing_appears_in_the_hosts_mount_table_during_create() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    in_modes(LIFECYCLE, |t| {
        t.runb_only("the peers mount on the host for a moment");
        for hooks in [json!([]), json!([{"path": "/bin/true"}])] {
            let table = fs::File::open("/proc/self/mountinfo").expect("open");
            let changed = || {
                let mut fds = [PollFd::new(&table, PollFlags::PRI)];
                poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("poll");
                fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
            };
            // The first look takes back what came before.
            changed();
            assert!(!changed());
            let bundle = t.bundle().with_id(&t.name("n")).spec(|spec| spec["hooks"] = json!({"createRuntime": hooks}));
            let container = bundle
                .mount(json!({"destination": "/tmp", "type": "bind", "source": "/etc", "options": ["rbind", "ro"]}))
                .idle()
                .create();
            container.start().ok();
            assert!(!changed(), "the host's mount table has changed");
            container.delete_force().ok();
            assert!(!changed(), "the host's mount table has changed by the deletion");
            // The twin: the look does see a mount.
            let place = t.dir().join(t.name("seen"));
            fs::create_dir(&place).expect("make a directory");
            assert!(Command::new("mount").args(["-t", "tmpfs", "seen"]).arg(&place).status().expect("mount").success());
            assert!(changed());
            assert!(Command::new("umount").arg(&place).status().expect("umount").success());
        }
    });
}

#[test]
fn the_root_filesystem_of_a_read_only_image_needs_its_mount_points_and_nothing_else() {
    in_modes(V2, |t| {
        let bundle = t.bundle();
        let rootfs = bundle.rootfs();
        let mount = |args: &[&str]| {
            let mut command = Command::new("mount");
            assert!(command.args(args).arg(&rootfs).status().expect("mount").success());
        };
        Command::new("mount").arg("--bind").arg(&rootfs).arg(&rootfs).status().expect("mount");
        mount(&["-o", "remount,bind,ro"]);
        let outcome = bundle.sh("stat -fc %T /dev; (: >/x) 2>/dev/null || echo ro").run().ok();
        assert_eq!(outcome.stdout, "tmpfs\nro\n");
        assert!(Command::new("umount").arg(&rootfs).status().expect("umount").success());
    });
}
