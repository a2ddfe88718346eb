//! Why the kernel makes no procfs or sysfs in a user namespace: none that is whole is in sight (mount_too_revealing in
//! fs/namespace.c), as masks lie on the one that there is.

use procfs::process::Process;

/// The most names that are told.
const MOST: usize = 3;

/// How each engine is told to leave procfs whole.
const FLAGS: &str = "Docker: --security-opt systempaths=unconfined, Podman: --security-opt unmask=ALL, Kubernetes: procMount: \
                     Unmasked";

/// For these the kernel keeps directories that are always empty: what is mounted there hides nothing.
const KERNELS: [&str; 13] = [
    "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "pstore", "bpf", "fusectl", "configfs", "efivarfs",
    "binfmt_misc", "autofs", "selinuxfs",
];

/// What hides the filesystem that was to be made, by the words for the call.
pub(super) fn what_hides(what: &str) -> Option<String> {
    let kinds = [("sysfs", "/sys"), ("proc", "/proc")];
    let (typ, place) = kinds.into_iter().find(|(typ, _)| what.starts_with(&format!("mount {typ}")))?;
    let mounts = Process::myself().and_then(|this| this.mountinfo()).ok()?;
    let place_and_type = |mount: procfs::process::MountInfo| {
        (mount.mount_point.to_string_lossy().into_owned(), mount.fs_type)
    };
    let mounts: Vec<(String, String)> = mounts.into_iter().map(place_and_type).collect();
    Some(explain(typ, place, &mounts))
}

/// `mounts` are places with their types.
fn explain(typ: &str, place: &str, mounts: &[(String, String)]) -> String {
    if !mounts.iter().any(|(at, found)| at == place && found == typ) {
        return format!("there is no {typ} at {place} that would show as much");
    }
    let below = format!("{place}/");
    let hides = |(at, found): &&(String, String)| at.starts_with(&below) && !KERNELS.contains(&found.as_str());
    let mut hidden: Vec<&str> = mounts.iter().filter(hides).map(|(at, _)| at.as_str()).collect();
    let count = hidden.len();
    if count == 0 {
        return format!("the {typ} at {place} is not whole, or has flags that are locked");
    }
    hidden.truncate(MOST);
    let more = if count > MOST { format!(" and {} more", count - MOST) } else { String::new() };
    let names = hidden.join(", ");
    format!("the {typ} at {place} is not whole, {names}{more} covered: the engine that made this mount can leave it ({FLAGS})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounts(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(at, typ)| ((*at).to_owned(), (*typ).to_owned())).collect()
    }

    #[test]
    fn what_covers_procfs_is_named_and_what_the_kernel_has_places_for_is_not() {
        let masked =
            mounts(&[("/proc", "proc"), ("/proc/kcore", "tmpfs"), ("/proc/sys/fs/binfmt_misc", "binfmt_misc")]);
        let text = explain("proc", "/proc", &masked);
        assert!(text.contains("/proc/kcore covered") && text.contains("unmask=ALL"), "{text}");
        assert!(!text.contains("binfmt_misc"), "{text}");
        let many = ["/proc/a", "/proc/b", "/proc/c", "/proc/d", "/proc/e"].map(|at| (at, "tmpfs"));
        let many = mounts(&[&[("/proc", "proc")], many.as_slice()].concat());
        assert!(explain("proc", "/proc", &many).contains("/proc/a, /proc/b, /proc/c and 2 more covered"));
    }

    #[test]
    fn where_there_is_none_at_all_that_is_said() {
        assert_eq!(explain("sysfs", "/sys", &[]), "there is no sysfs at /sys that would show as much");
    }
}
