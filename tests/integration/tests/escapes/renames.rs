//! A neighbour that shares the root filesystem renames the directory under a mount while the container is made, before each
//! of init's calls: a mount goes with its directory, and what hides and protects must go with the mount.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use runb_tests::stops::Stops;
use runb_tests::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// How long the name stays taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// To the end.
    ToTheEnd,
    /// For one call.
    ForOneCall,
}

/// The neighbour: it puts a directory of its own in the place of another one.
struct Neighbour {
    dir: PathBuf,
    evil: PathBuf,
}

impl Neighbour {
    fn of(dir: PathBuf) -> Self {
        let evil = dir.with_extension("evil");
        Neighbour { dir, evil }
    }

    /// What the runtime looks for by name is there.
    fn takes(&self) {
        fs::rename(&self.dir, &self.evil).expect("rename");
        for dir in ["acpi", "bus", "firmware", "fs/cgroup", "irq", "sys", "pts", "shm", "mqueue"] {
            fs::create_dir_all(self.dir.join(dir)).expect("make a directory");
        }
        for file in ["keys", "timer_list", "sysrq-trigger", "null", "file"] {
            fs::write(self.dir.join(file), "").expect("write");
        }
    }

    fn gives_back(&self) {
        fs::remove_dir_all(&self.dir).expect("remove");
        fs::rename(&self.evil, &self.dir).expect("rename");
    }

    fn has_taken(&self) -> bool {
        self.evil.exists()
    }
}

/// What is mounted below each mount of a whole procfs or sysfs: names with filesystem, root, and whether they are read-only.
type Table = BTreeMap<String, Vec<(String, BTreeSet<String>)>>;

fn table(mountinfo: &str) -> Table {
    let fields: Vec<Vec<&str>> = mountinfo.lines().map(|line| line.split(' ').collect()).collect();
    let kind = |line: &[&str]| {
        let dash = line.iter().position(|field| *field == "-").expect("a separator");
        line[dash + 1].to_owned()
    };
    let mut table = Table::new();
    for whole in fields.iter().filter(|line| line[3] == "/" && ["proc", "sysfs"].contains(&kind(line).as_str())) {
        let below = fields.iter().filter_map(|line| {
            let name = Path::new(line[4]).strip_prefix(whole[4]).ok().filter(|name| !name.as_os_str().is_empty())?;
            // What the hierarchies of version 1 are is another matter.
            let option = line[5].split(',').next().expect("options");
            (!name.starts_with("fs/cgroup")).then(|| format!("{} {} {} {option}", name.display(), kind(line), line[3]))
        });
        table.entry(kind(whole)).or_default().push((whole[4].to_owned(), below.collect()));
    }
    table
}

/// What the workload says: its mount table, then what it could reach that it must not.
const SCRIPT: &str = "for i in /proc /proc.evil; do cat $i/self/mountinfo 2>/dev/null && break; done
echo REACHED
for i in / /bin /proc /proc.evil /sys /sys.evil; do
    case $(stat -fc %T $i 2>/dev/null) in
    proc) cat $i/keys $i/timer_list; ls $i/acpi
        (: >>$i/sys/kernel/core_pattern) 2>/dev/null && echo core_pattern
        (: >>$i/sysrq-trigger) 2>/dev/null && echo sysrq-trigger ;;
    sysfs) ls $i/firmware; mkdir $i/fs/cgroup/x 2>/dev/null && echo cgroup ;;
    esac
done
exit 0";

pub fn in_user_namespace(bundle: Bundle<'_>) -> Bundle<'_> {
    fs::set_permissions(bundle.dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.spec(|spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    })
}

struct Attack<'t> {
    t: &'t Test,
    bundle: Bundle<'t>,
    flags: &'t [&'t str],
    stops: Stops,
}

/// What came of a launch.
struct End {
    code: i32,
    stdout: String,
    log: String,
}

impl<'t> Attack<'t> {
    fn on(t: &'t Test, bundle: Bundle<'t>, flags: &'t [&'t str]) -> Self {
        let bundle = bundle.writable();
        bundle.write();
        Attack { t, bundle, flags, stops: Stops::new() }
    }

    /// Runs the container, with `act` before each of init's calls.
    fn run(&self, act: impl FnMut(&str)) -> End {
        let output = self.t.dir().join("output");
        let _ = fs::remove_file(self.t.log());
        let mut command = self.bundle.command("run", self.flags);
        let null = || File::options().read(true).write(true).open("/dev/null").expect("open");
        command.stdin(null()).stdout(File::create(&output).expect("make a file")).stderr(null());
        let code = self.stops.run(command, act).code().expect("an exit code");
        let stdout = fs::read_to_string(&output).expect("read");
        End { code, stdout, log: fs::read_to_string(self.t.log()).unwrap_or_default() }
    }

    /// Lets the neighbour take `name` before each call in turn; `judge` looks at what a workload says, first without the
    /// neighbour. How many launches ended with the error that names the mount.
    fn at_every_call(&self, name: &str, taken: Taken, mut judge: impl FnMut(&str, &str)) -> usize {
        let mut calls = 0;
        let end = self.run(|_| calls += 1);
        assert_eq!(end.code, 0, "{}", end.log);
        judge(&end.stdout, "undisturbed");
        let neighbour = Neighbour::of(self.bundle.rootfs().join(name));
        let mut named = 0;
        for moment in 1..=calls {
            let (mut call, mut before) = (0, String::new());
            let End { code, stdout, log } = self.run(|name| {
                call += 1;
                if call == moment {
                    neighbour.takes();
                    before = name.to_owned();
                } else if call == moment + 1 && taken == Taken::ForOneCall {
                    neighbour.gives_back();
                }
            });
            let what = format!("{name} {taken:?} before call {moment} of {calls}, {before}: {code} {log}{stdout}");
            assert!(code == 0 || code == 1 && !log.contains("internal error"), "{what}");
            match code {
                0 => judge(&stdout, &what),
                _ => named += usize::from(log.contains(&moved(name))),
            }
            if neighbour.has_taken() {
                neighbour.gives_back();
            }
        }
        named
    }
}

/// What the error says of the mount at `/name`.
fn moved(name: &str) -> String {
    format!("(/{name}): the name /{name} no longer leads to this mount")
}

/// Says that what hides and protects is below every procfs and sysfs, as it was in the first of what it is shown.
fn masks_are_everywhere() -> impl FnMut(&str, &str) {
    let mut expected = Table::new();
    move |stdout, what| {
        let (mountinfo, reached) = stdout.split_once("REACHED\n").expect(what);
        assert_eq!(reached, "", "{what}");
        if expected.is_empty() {
            expected = table(mountinfo);
            assert!(expected["proc"][0].1.len() > 5 && !expected["sysfs"][0].1.is_empty(), "{what}: {stdout}");
        }
        for (kind, mounts) in table(mountinfo) {
            for (place, masks) in mounts {
                assert_eq!(masks, expected[&kind][0].1, "{place}: {what}");
            }
        }
    }
}

#[test]
fn a_directory_that_is_renamed_under_a_mount_takes_the_masks_along_or_ends_the_launch() {
    in_modes(V2, |t| {
        t.runb_only("the peers mask by name");
        let attack = Attack::on(t, t.bundle().sh(SCRIPT), &[]);
        for name in ["proc", "sys", "dev"] {
            assert!(attack.at_every_call(name, Taken::ToTheEnd, masks_are_everywhere()) > 5, "{name}");
        }
        attack.at_every_call("proc", Taken::ForOneCall, masks_are_everywhere());
    });
}

#[test]
fn the_same_holds_with_hooks_without_a_pivot_and_in_a_user_namespace() {
    in_modes(V2, |t| {
        t.runb_only("the peers mask by name");
        let bundle = || t.bundle().with_id(&t.name("r")).sh(SCRIPT);
        let rows = [
            (bundle().hook("createRuntime", json!({"path": "/bin/true"})), &[][..]),
            (bundle(), &["--no-pivot"][..]),
            (in_user_namespace(bundle()), &[]),
        ];
        for (bundle, flags) in rows {
            let attack = Attack::on(t, bundle, flags);
            assert!(attack.at_every_call("proc", Taken::ToTheEnd, masks_are_everywhere()) > 5, "{flags:?}");
        }
    });
}

#[test]
fn what_is_made_and_copied_below_a_bind_mount_goes_with_it() {
    in_modes(V2, |t| {
        t.runb_only("the peers mount by name");
        let volume = t.dir().join("volume");
        fs::create_dir_all(volume.join("acpi")).expect("make directories");
        fs::write(volume.join("acpi/of-the-volume"), "").expect("write");
        let bundle = t
            .bundle()
            .rootfs_with(|root| fs::create_dir(root.join("v")).expect("make a directory"))
            .mount(json!({"destination": "/v", "type": "bind", "source": volume, "options": ["bind"]}))
            .mount(json!({"destination": "/v/acpi", "type": "tmpfs", "options": ["tmpcopyup"]}))
            .mount(json!({"destination": "/v/new/er", "type": "tmpfs"}))
            .set("/process/cwd", json!("/v/newest"))
            .sh("awk '$5 ~ \"^/v\" {print $5}' /proc/self/mountinfo | sort; ls /v*/acpi/of-the-volume");
        let attack = Attack::on(t, bundle, &[]);
        let named = attack.at_every_call("v", Taken::ToTheEnd, |stdout, what| {
            let place = if stdout.starts_with("/v.evil") { "/v.evil" } else { "/v" };
            let expected =
                ["", "/acpi", "/new/er", "/acpi/of-the-volume"].map(|name| format!("{place}{name}\n")).concat();
            assert_eq!(stdout, expected, "{what}");
        });
        assert!(named > 5, "{named}");
        assert!(volume.join("newest").is_dir());
    });
}

#[test]
fn a_file_that_is_exchanged_under_a_mount_ends_the_launch() {
    in_modes(V2, |t| {
        t.runb_only("the peers mount by name");
        let file = |name: &str| {
            let path = t.dir().join(name);
            fs::write(&path, name).expect("write");
            json!({"destination": format!("/etc/{name}"), "type": "bind", "source": path, "options": ["bind"]})
        };
        let bundle = t
            .bundle()
            .rootfs_with(|root| {
                ["one", "other"].iter().for_each(|name| fs::write(root.join("etc").join(name), "").expect("write"));
            })
            .mount(file("one"))
            .mount(file("other"))
            .sh("cat /etc/one /etc/other");
        let attack = Attack::on(t, bundle, &[]);
        let end = attack.run(|_| {});
        assert_eq!((end.code, end.stdout.as_str()), (0, "oneother"), "{}", end.log);
        let [one, other] = ["one", "other"].map(|name| attack.bundle.rootfs().join("etc").join(name));
        let mut exchanged = false;
        let end = attack.run(|call| {
            if call == "statx" && !exchanged {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("exchange");
                exchanged = true;
            }
        });
        assert!(end.code == 1 && end.log.contains(&moved("etc/one")), "{} {}", end.code, end.log);
    });
}
