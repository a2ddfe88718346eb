//! A plan for a person: what the container will be.

use std::collections::BTreeMap;
use std::fmt::Write;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec};
use runb_core::container::Planned;

use super::places;
use crate::record::quote::{one_line, quote};

/// The kinds of namespaces, in the order in which they are told.
const NAMESPACES: [(LinuxNamespaceType, &str); 8] = [
    (LinuxNamespaceType::Pid, "pid"),
    (LinuxNamespaceType::Mount, "mount"),
    (LinuxNamespaceType::Network, "network"),
    (LinuxNamespaceType::Ipc, "ipc"),
    (LinuxNamespaceType::Uts, "uts"),
    (LinuxNamespaceType::User, "user"),
    (LinuxNamespaceType::Cgroup, "cgroup"),
    (LinuxNamespaceType::Time, "time"),
];

/// The text.
pub fn text(id: &str, planned: &Planned) -> String {
    let spec = &planned.bundle.spec;
    let mut text = format!("{id}, from {}\n", planned.bundle.path.display());
    if let Some(process) = spec.process() {
        of_process(&mut text, process, planned);
    }
    namespaces(&mut text, spec);
    identity(&mut text, spec, planned);
    mounts(&mut text, spec, planned);
    protected(&mut text, spec);
    limits(&mut text, planned);
    hooks(&mut text, spec);
    idle(&mut text, planned);
    let calls = planned.plan.program.calls().len();
    let _ = writeln!(text, "\n{calls} calls of init do it; --calls lists them.");
    text
}

fn title(text: &mut String, title: &str) {
    let _ = writeln!(text, "\n{title}");
}

fn line(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let _ = writeln!(text, "  {name:<13} {}", one_line(value));
    }
}

fn of_process(text: &mut String, process: &Process, planned: &Planned) {
    title(text, "Process");
    let args: Vec<String> = process.args().iter().flatten().map(|word| quote(word.as_bytes())).collect();
    line(text, "command", &args.join(" "));
    line(text, "in", &process.cwd().display().to_string());
    let user = process.user();
    let groups: Vec<String> = user.additional_gids().iter().flatten().map(u32::to_string).collect();
    let groups = if groups.is_empty() { String::new() } else { format!(", groups {}", groups.join(" ")) };
    line(text, "as", &format!("user {}, group {}{groups}", user.uid(), user.gid()));
    // Values of variables are secrets.
    let names: Vec<&str> = process.env().iter().flatten().filter_map(|entry| entry.split('=').next()).collect();
    line(text, "variables", &names.join(" "));
    let terminal = if process.terminal() == Some(true) { "one of its own" } else { "" };
    line(text, "terminal", terminal);
    let sets = process.capabilities().as_ref();
    let mut names: Vec<String> = sets
        .and_then(|sets| sets.effective().as_ref())
        .map(|set| set.iter().map(|capability| format!("{capability:?}")).collect())
        .unwrap_or_default();
    names.sort();
    let capabilities = match names.as_slice() {
        [] => "none".to_owned(),
        names => format!("{}: {}", names.len(), names.join(" ")),
    };
    line(text, "capabilities", &capabilities);
    let more = if process.no_new_privileges() == Some(true) {
        "none can be gained by an execve"
    } else {
        "an execve may gain rights"
    };
    line(text, "privileges", more);
    let filter = planned.plan.filter.as_ref();
    let filter =
        filter.map_or("none".to_owned(), |filter| format!("a filter of {} instructions", filter.instructions.len()));
    line(text, "seccomp", &filter);
    line(text, "apparmor", process.apparmor_profile().as_deref().unwrap_or_default());
    line(text, "selinux", process.selinux_label().as_deref().unwrap_or_default());
    for limit in process.rlimits().iter().flatten() {
        line(
            text,
            &format!("{:?}", limit.typ()).replace("Posix", ""),
            &format!("{} soft, {} hard", limit.soft(), limit.hard()),
        );
    }
}

fn namespaces(text: &mut String, spec: &Spec) {
    title(text, "Namespaces");
    let list: Vec<&LinuxNamespace> =
        spec.linux().iter().flat_map(|linux| linux.namespaces().iter().flatten()).collect();
    let of = |kind: LinuxNamespaceType| list.iter().find(|namespace| namespace.typ() == kind);
    let (mut new, mut hosts) = (Vec::new(), Vec::new());
    for (kind, name) in NAMESPACES {
        match of(kind).map(|namespace| namespace.path()) {
            None => hosts.push(name),
            Some(None) => new.push(name),
            Some(Some(path)) => line(text, &format!("joined {name}"), &path.display().to_string()),
        }
    }
    line(text, "its own", &new.join(" "));
    line(text, "the caller's", &hosts.join(" "));
}

fn identity(text: &mut String, spec: &Spec, planned: &Planned) {
    title(text, "Identity");
    line(text, "hostname", spec.hostname().as_deref().unwrap_or_default());
    line(text, "domainname", spec.domainname().as_deref().unwrap_or_default());
    if let Some((maps, _)) = &planned.plan.id_maps {
        let rows = |maps: &str| maps.lines().map(str::trim).collect::<Vec<_>>().join(", ");
        line(text, "user ids", &rows(&maps.uids));
        line(text, "group ids", &rows(&maps.gids));
    } else {
        line(text, "ids", "are the host's");
    }
    let sysctl = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref());
    let sorted: BTreeMap<_, _> = sysctl.into_iter().flatten().collect();
    for (name, value) in sorted {
        line(text, name, value);
    }
}

fn mounts(text: &mut String, spec: &Spec, planned: &Planned) {
    title(text, "Mounts");
    let readonly = spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true));
    let _ = writeln!(text, "  / {}{}", planned.rootfs.display(), if readonly { ", read-only" } else { "" });
    let list: Vec<&Mount> = spec.mounts().iter().flatten().collect();
    let mut tree = Tree::default();
    for mount in list {
        let parts: Vec<String> = mount
            .destination()
            .components()
            .filter_map(|part| match part {
                std::path::Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        tree.add(&parts, describe(mount));
    }
    tree.draw(text, "  ");
}

/// What is mounted.
fn describe(mount: &Mount) -> String {
    let options = mount.options().as_deref().unwrap_or_default();
    let bind = options.iter().any(|option| option == "bind" || option == "rbind");
    let source = mount.source().as_ref().map(|source| source.display().to_string()).unwrap_or_default();
    let what = match mount.typ().as_deref() {
        _ if bind => source,
        Some(kind) => kind.to_owned(),
        None => source,
    };
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    if options.is_empty() { what } else { format!("{what} ({})", options.join(",")) }
}

/// The destinations as a tree; what is mounted over another stands below it, in the order of the list.
#[derive(Default)]
struct Tree {
    mounted: Vec<String>,
    below: Vec<(String, Tree)>,
}

impl Tree {
    fn add(&mut self, parts: &[String], what: String) {
        let Some((first, rest)) = parts.split_first() else {
            self.mounted.push(what);
            return;
        };
        let at = self.below.iter().position(|(name, _)| name == first).unwrap_or_else(|| {
            self.below.push((first.clone(), Tree::default()));
            self.below.len() - 1
        });
        self.below[at].1.add(rest, what);
    }

    fn draw(&self, text: &mut String, before: &str) {
        for (i, (name, tree)) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            // A folder with nothing mounted on it and one thing below is one line with that.
            let (mut name, mut tree) = (name.clone(), tree);
            while tree.mounted.is_empty() && tree.below.len() == 1 {
                name = format!("{name}/{}", tree.below[0].0);
                tree = &tree.below[0].1;
            }
            let branch = if last { "└─ " } else { "├─ " };
            let _ =
                writeln!(text, "{before}{branch}{:<18} {}", one_line(&name), one_line(&tree.mounted.join("; then ")));
            tree.draw(text, &format!("{before}{}", if last { "   " } else { "│  " }));
        }
    }
}

fn protected(text: &mut String, spec: &Spec) {
    let Some(linux) = spec.linux() else { return };
    let list = |paths: &Option<Vec<String>>| paths.iter().flatten().cloned().collect::<Vec<_>>().join(" ");
    let (masked, readonly) = (list(linux.masked_paths()), list(linux.readonly_paths()));
    let devices: Vec<String> =
        linux.devices().iter().flatten().map(|device| device.path().display().to_string()).collect();
    if masked.is_empty() && readonly.is_empty() && devices.is_empty() {
        return;
    }
    title(text, "Files");
    line(text, "hidden", &masked);
    line(text, "read-only", &readonly);
    line(text, "devices", &devices.join(" "));
}

fn limits(text: &mut String, planned: &Planned) {
    let cgroup = &planned.plan.cgroup;
    title(text, "Limits");
    if let Some(unit) = &cgroup.unit {
        line(text, "systemd", &unit.name);
        // The first says that it is made.
        unit.steps().iter().skip(1).for_each(|property| line(text, "", property.trim_start()));
    }
    if let Some(dir) = cgroup.dirs.first() {
        line(text, "cgroup", &dir.path.display().to_string());
    }
    let last = cgroup.last.iter().map(|last| &last.write);
    let writes = cgroup.limits.writes.iter().chain(last).filter(|write| !write.file.starts_with("devices."));
    let mut any = false;
    for write in writes {
        any = true;
        line(text, &write.file, &format!("{}   # {}", write.value, write.origin));
    }
    if !any {
        line(text, "none", "but those of the cgroups above");
    }
}

fn hooks(text: &mut String, spec: &Spec) {
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let of = |kind: &str| runb_core::hooks::of_kind(spec.hooks().as_ref(), kind);
    if kinds.iter().all(|kind| of(kind).is_empty()) {
        return;
    }
    title(text, "Hooks");
    for kind in kinds {
        for hook in of(kind) {
            let timeout = hook.timeout().map(|seconds| format!(", at most {seconds} s")).unwrap_or_default();
            line(text, kind, &format!("{}{timeout}", hook.path().display()));
        }
    }
}

/// What of the configuration changes nothing here: warnings, and parts of its lists that no call and no write comes from.
fn idle(text: &mut String, planned: &Planned) {
    let idle = places::without_effect(planned);
    let warnings = planned.bundle.warnings.iter().chain(&planned.plan.warnings);
    let all: Vec<String> = warnings.cloned().chain(idle).collect();
    if all.is_empty() {
        return;
    }
    title(text, "Without effect here");
    for what in all {
        let _ = writeln!(text, "  {}", one_line(&what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_stand_below_what_they_are_mounted_in_and_empty_folders_are_one_line() {
        let mut tree = Tree::default();
        for (path, what) in [("dev", "tmpfs"), ("dev/pts", "devpts"), ("var/lib/data", "/srv"), ("dev", "again")] {
            tree.add(&path.split('/').map(str::to_owned).collect::<Vec<_>>(), what.to_owned());
        }
        let mut text = String::new();
        tree.draw(&mut text, "");
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["├─ dev tmpfs; then again", "│ └─ pts devpts", "└─ var/lib/data /srv"]);
    }
}
