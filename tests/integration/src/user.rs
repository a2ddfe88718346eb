//! The user whom a test makes, in files of its own: nobody on the machine sees it, and nothing is left of it.

use std::fs;
use std::os::unix::fs::{chown, lchown};
use std::path::Path;
use std::process::Command;

use rustix::mount::mount_bind;
use serde_json::{Value, json};

/// Its name.
pub const NAME: &str = "runbtest";
/// Its user and group.
pub const ID: u32 = 61_234;
/// Its first subordinate id, and how many there are.
pub const SUBORDINATE: (u32, u32) = (200_000, 65_536);

/// Makes the user in this mount namespace: an account, subordinate ids, a home, and a folder for sockets. The test's directory is its
/// own.
pub(crate) fn make(dir: &Path) {
    let lines = [
        ("/etc/passwd", format!("{NAME}:x:{ID}:{ID}::{}:/bin/sh\n", home(dir))),
        ("/etc/group", format!("{NAME}:x:{ID}:\n")),
        ("/etc/subuid", format!("{NAME}:{}:{}\n", SUBORDINATE.0, SUBORDINATE.1)),
        ("/etc/subgid", format!("{NAME}:{}:{}\n", SUBORDINATE.0, SUBORDINATE.1)),
    ];
    for (file, line) in lines {
        replace(dir, file, &(fs::read_to_string(file).unwrap_or_default() + &line));
    }
    for folder in [home(dir), runtime_dir(dir)] {
        fs::create_dir(&folder).expect("make a folder of the user's");
        chown(&folder, Some(ID), Some(ID)).expect("chown");
    }
    chown(dir, Some(ID), Some(ID)).expect("chown");
}

/// Gives `file` another text, for this mount namespace.
pub fn replace(dir: &Path, file: &str, text: &str) {
    let own = dir.join(format!("etc-{}", file.replace('/', "-")));
    fs::write(&own, text).expect("write a file in the place of one of /etc");
    mount_bind(&own, file).unwrap_or_else(|error| panic!("bind {own:?} on {file}: {error}"));
}

/// The user's home.
pub fn home(dir: &Path) -> String {
    dir.join("home").display().to_string()
}

/// The user's folder for sockets.
pub fn runtime_dir(dir: &Path) -> String {
    dir.join("runtime").display().to_string()
}

/// A call of `program` by the user, with the environment of this process.
pub fn calls(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &ID.to_string(), "--regid", &ID.to_string(), "--clear-groups", "--inh-caps=-all", "--"]);
    command.arg(program);
    command
}

/// All below `path` becomes the user's.
pub fn own(path: &Path) {
    lchown(path, Some(ID), Some(ID)).expect("chown");
    if path.symlink_metadata().expect("stat").is_dir() {
        for entry in fs::read_dir(path).expect("list") {
            own(&entry.expect("an entry").path());
        }
    }
}

/// Makes of a configuration one for the user, as `spec --rootless` does, with as many ids as the machine can give; the network stays
/// the container's own.
pub(crate) fn map(spec: &mut Value) {
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
    let mut map = json!([{"containerID": 0, "hostID": ID, "size": 1}]);
    if Path::new("/usr/bin/newuidmap").exists() {
        let (first, size) = SUBORDINATE;
        map.as_array_mut().expect("a list").push(json!({"containerID": 1, "hostID": first, "size": size}));
    }
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    for mount in spec["mounts"].as_array_mut().expect("mounts") {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| !option.as_str().expect("text").starts_with("gid="));
        }
    }
}
