//! A workload that looks at every other process of its pid namespace until the file `/share/stop` is there, and then
//! prints what it could see, each thing once: links of /proc, and the effective capabilities.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn main() {
    let own = std::process::id().to_string();
    let mut seen = BTreeSet::new();
    println!("watching");
    while !Path::new("/share/stop").exists() {
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if name != own && name.bytes().all(|byte| byte.is_ascii_digit()) {
                look(&entry.path(), &mut seen);
            }
        }
    }
    seen.iter().for_each(|line| println!("{line}"));
}

fn look(process: &Path, seen: &mut BTreeSet<String>) {
    // Rights in another user namespace are none here. It is asked first: of what has ended meanwhile there is no status either.
    let user_namespace = |process: &Path| fs::read_link(process.join("ns/user"));
    let theirs = user_namespace(process);
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let rights = status.lines().filter(|line| line.starts_with("CapEff:"));
    match theirs.is_ok_and(|theirs| theirs != user_namespace(Path::new("/proc/self")).expect("ns/user")) {
        true => seen.extend(rights.map(|line| format!("elsewhere {line}"))),
        false => seen.extend(rights.map(str::to_owned)),
    }
    let mut link = |name: &str, path: &Path| {
        if let Ok(target) = fs::read_link(path) {
            let target = target.display().to_string();
            seen.insert(format!("{name} {}", target.split('[').next().unwrap_or_default()));
        }
    };
    for name in ["exe", "cwd", "root"] {
        link(name, &process.join(name));
    }
    for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        link("fd", &descriptor.path());
    }
}
