//! An exec: one more process in a container that exists. Pure, as the plan of a launch is.
//!
//! The process enters the container's pid namespace last, when it has no more rights than the workload is to have: see
//! docs/decisions/exec-enters-the-pid-namespace-last.md.

mod cgroups;
mod wanted;

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{Hook, Process, Spec};
use runb_init::Point;

use super::namespaces::Entry;
use super::process::command::Command;
use super::process::credentials::{Sets, UserNamespace};
use super::process::guard::Guard;
use super::process::schedule::{self, Affinity};
use super::process::{self, memory_policy, terminal};
use super::procfs::write_file;
use super::program::{AT_FDCWD, O_DIRECTORY, O_PATH, Program, report_descriptor};
use super::seccomp::{self, Filter};
use super::cgroup::V1_MEMBERS;
use super::{environment, intel_rdt, lsm, namespaces};
use crate::error::Result;
use crate::host::Host;
use crate::options::{ExecOptions, Keyring, Options};
use crate::survey::Survey;

use cgroups::joins;
pub use wanted::{hook_process, process};

/// The container as a later process finds it.
pub struct Inside<'a> {
    /// Its id.
    pub id: &'a str,
    /// `CLONE_NEW*` of the namespaces that are its own.
    pub namespaces: u64,
    /// Its init.
    pub init: i32,
    /// The session keyring of its processes.
    pub keyring: Keyring,
    /// Its version 2 cgroup.
    pub unified: Option<&'a Path>,
    /// Its groups of the resctrl filesystem, in the order in which they are joined.
    pub resctrl: Vec<PathBuf>,
    /// Its version 1 cgroups, each with the controllers of its hierarchy.
    pub v1: Vec<(&'a [String], &'a Path)>,
}

/// What an exec is planned from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration that the container was made by.
    pub spec: &'a Spec,
    /// The process.
    pub process: &'a Process,
    /// The container.
    pub inside: &'a Inside<'a>,
    /// The machine.
    pub host: &'a Host,
    /// What the runtime saw in the container.
    pub survey: &'a Survey,
    /// What the caller wants.
    pub options: &'a ExecOptions,
    /// The startContainer hook that is executed in place of process.args.
    pub hook: Option<&'a Hook>,
    /// Whether the process waits to be moved into its cgroup of version 2, in which it cannot be born.
    pub moved: bool,
}

/// Everything that an exec does.
#[derive(Debug)]
pub struct ExecPlan {
    /// What the process runs before it executes the command.
    pub program: Program,
    /// The cgroup of version 2 that it is born in, or moved into.
    pub unified: Option<PathBuf>,
    /// The seccomp filter.
    pub filter: Option<Filter>,
    /// The scheduler of the twin, set at [`Point::Scheduler`].
    pub scheduler: Option<schedule::Attributes>,
    /// What was found odd and is no error.
    pub warnings: Vec<String>,
}

/// The session keyring of the container's processes.
fn keyring(p: &mut Program, inside: &Inside<'_>, user: UserNamespace) {
    let options = Options { id: inside.id.to_owned(), keyring: inside.keyring, ..Options::default() };
    process::keyring(p, &options, user);
}

/// Plans an exec.
///
/// # Errors
/// The process asks for what this version or this machine cannot do; with the place.
pub fn exec(request: &Request<'_>) -> Result<ExecPlan> {
    let Request { spec, process, inside, host, survey, options, hook, moved } = request;
    let user = UserNamespace::of_flags(inside.namespaces);
    let enters_pid = inside.namespaces & libc::CLONE_NEWPID as u64 != 0;
    let entry = if enters_pid { Entry::Last } else { Entry::Born };
    let filter = seccomp::of(spec, host)?;
    let joins = joins(inside, &options.cgroups)?;
    let mut sets = Sets::of(process);
    let mut warnings = sets.grant(if user == UserNamespace::Own { !0 } else { host.capabilities });
    // The container's own were warned about when it was made.
    if spec.process().as_ref().is_some_and(|own| own.capabilities() == process.capabilities()) {
        warnings.clear();
    }
    let mut program = Program::new(report_descriptor(options.preserve_fds)?);
    let p = &mut program;

    // Here the process is the runtime's equal, in the host's namespaces; on version 2 it is in the cgroup already, or moved first.
    if *moved {
        p.stop(Point::Cgroup);
    }
    if host.standing.may_mount() {
        process::undumpable(p);
    }
    warnings.extend(process::oom_score(p, process, host));
    schedule::io_priority(p, process)?;
    schedule::affinity(p, process, Affinity::Initial)?;
    join_v1(p, &joins.v1);
    schedule::affinity(p, process, Affinity::Final)?;
    intel_rdt::join(p, inside.resctrl.iter().map(PathBuf::as_path));
    lsm::labels(p, process, survey.lsm)?;
    if user == UserNamespace::Own {
        process::raise_rlimits(p, process, &survey.rlimits);
        schedule::scheduler(p, process, entry)?;
    }

    // Who is no root has no rights to files of its own in procfs any more.
    if !host.standing.may_mount() {
        process::undumpable(p);
    }

    // From here on its namespaces are the container's, but for the pid namespace.
    enter_root(p, inside);
    enter(p, inside.namespaces);
    if user == UserNamespace::Own {
        p.section("linux.namespaces");
        namespaces::become_root(p);
    }
    terminal::open_joined(p, process)?;
    keyring(p, inside, user);
    process::rlimits(p, process);
    if let Some(umask) = process.user().umask() {
        p.section("process.user.umask");
        p.umask(umask);
    }
    process::personality(p, spec)?;
    memory_policy::set(p, spec)?;
    if user == UserNamespace::Runtimes {
        schedule::scheduler(p, process, entry)?;
    }
    let guard = Guard::of(process, host, filter.as_ref());
    process::own_stdio(p, process, &survey.stdio.foreign);
    process::become_user(p, process, host, guard.before(sets), user);
    process::no_new_privileges(p, process);
    close(p);
    // CAP_SYS_ADMIN, where it is borrowed to load the filter, must be gone before anybody inside sees the process: then the
    // filter has to let the twin be made. Else it comes last.
    let early = guard.has_too_much(sets) && enters_pid;
    if early {
        guard.load(p, sets);
    }
    let scheduler = match enters_pid {
        true => {
            enter_pid(p);
            schedule::of_twin(p, process)?
        }
        false => None,
    };
    process::session(p);
    if terminal::wanted(process) {
        terminal::control(p);
    }
    process::signals(p);
    if !early {
        guard.load(p, sets);
    }
    guard.check(p)?;
    if guard.has_listener() {
        p.section("");
        p.stop(Point::Ready);
    }
    let own = || environment::of(process, Vec::new(), survey);
    let command = match hook {
        None => Command::of(process, own()),
        // As with runc an empty list is none.
        Some(hook) => {
            Command::of_hook(hook, environment::of_hook(hook).filter(|env| !env.is_empty()).unwrap_or_else(own))
        }
    };
    command.attempt(p);
    Ok(ExecPlan { program, unified: joins.unified, filter, scheduler, warnings })
}

pub(super) fn join_v1(p: &mut Program, dirs: &[PathBuf]) {
    p.section("linux.cgroupsPath");
    for dir in dirs {
        let file = dir.join(V1_MEMBERS);
        p.doing(format!("adding pid of the process to cgroups: write \"0\" to {}", file.display()));
        write_file(p, file.as_os_str().as_encoded_bytes(), "0");
    }
}

/// One setns(2) by the pidfd of the container's init, which lies beside the report's descriptor.
pub(super) fn enter(p: &mut Program, namespaces: u64) {
    if namespaces == 0 {
        return;
    }
    p.section("linux.namespaces");
    let init = p.report() + 1;
    p.setns(init, namespaces);
}

/// A mount namespace has a root that setns(2) leads to. Without one of the container's own the root is that of its init.
fn enter_root(p: &mut Program, inside: &Inside<'_>) {
    if inside.namespaces & libc::CLONE_NEWNS as u64 != 0 {
        return;
    }
    p.section("root.path");
    p.doing("enter the root of the container's init");
    let root = p.openat(AT_FDCWD, format!("/proc/{}/root", inside.init), O_PATH | O_DIRECTORY).out();
    // It lives: then it is its root that was opened, and not that of another process with its number.
    let init = p.report() + 1;
    p.pidfd_send_signal(init, 0);
    p.fchdir(root);
    p.chroot(".");
    p.close(root);
}

/// Keeps the report's descriptor up to the execve, and what is the workload's.
pub(super) fn close(p: &mut Program) {
    p.section("");
    let report = p.report();
    p.close_range(report + 1);
    // Its end tells the runtime that the execve succeeded.
    p.fcntl_setfd_cloexec(report);
    process::undumpable(p);
}

/// Enters the pid namespace, which only a child can.
pub(super) fn enter_pid(p: &mut Program) {
    p.section("linux.namespaces");
    p.doing("clone into the container's pid namespace");
    p.twin();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::host::Host;

    fn spec(more: serde_json::Value) -> Spec {
        let sets = serde_json::json!(["CAP_KILL"]);
        let mut process = serde_json::json!({"user": {"uid": 7, "gid": 8}, "cwd": "/", "args": ["/bin/own"],
            "env": ["PATH=/bin", "A=old"], "capabilities": {"bounding": sets, "effective": sets, "permitted": sets}});
        process.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let seccomp = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"});
        let whole = serde_json::json!({"ociVersion": "1.0.2", "process": process, "linux": {"seccomp": seccomp}});
        serde_json::from_value(whole).expect("a spec")
    }

    fn inside() -> Inside<'static> {
        let (pid, mount) = (libc::CLONE_NEWPID as u64, libc::CLONE_NEWNS as u64);
        Inside { id: "web1", namespaces: pid | mount, init: 7, keyring: Keyring::New, unified: None, resctrl: Vec::new(), v1: Vec::new() }
    }

    /// The numbers of the calls of an exec of `/bin/true`.
    fn calls(spec: &Spec, inside: &Inside<'_>) -> Vec<libc::c_long> {
        let options = ExecOptions { args: vec!["/bin/true".to_owned()], ..ExecOptions::default() };
        let (process, _) = process(spec, &options).expect("a process");
        let (host, survey) = (Host::plain(), Survey::default());
        let request =
            Request { spec, process: &process, inside, host: &host, survey: &survey, options: &options, hook: None, moved: false };
        let plan = exec(&request).expect("a plan");
        plan.program.calls().iter().map(|call| libc::c_long::from(call.nr)).collect()
    }

    #[test]
    fn a_process_that_is_moved_into_its_cgroup_waits_for_that_before_all_else() {
        let (spec, inside) = (spec(serde_json::json!({})), inside());
        let options = ExecOptions { args: vec!["/bin/true".to_owned()], ..ExecOptions::default() };
        let (process, _) = process(&spec, &options).expect("a process");
        let (host, survey) = (Host::plain(), Survey::default());
        let (spec, process, inside, host, survey, options) = (&spec, &process, &inside, &host, &survey, &options);
        let request = Request { spec, process, inside, host, survey, options, hook: None, moved: true };
        let moved = exec(&request).expect("a plan").program;
        let born = exec(&Request { moved: false, ..request }).expect("a plan").program;
        assert_eq!(moved.points().next(), Some(Point::Cgroup));
        // 0 is a stop.
        assert_eq!(moved.calls()[0].nr, 0);
        assert_eq!(moved.calls().len(), born.calls().len() + 1);
    }

    #[track_caller]
    fn in_this_order(calls: &[libc::c_long], expected: &[libc::c_long]) {
        let found: Vec<libc::c_long> = calls.iter().copied().filter(|nr| expected.contains(nr)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_pid_namespace_is_entered_after_the_rights_are_given_up_and_the_filter_is_last() {
        let calls = calls(&spec(serde_json::json!({"noNewPrivileges": true})), &inside());
        let order = [
            libc::SYS_setns,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_clone,
            libc::SYS_setsid,
            libc::SYS_seccomp,
            libc::SYS_faccessat,
        ];
        in_this_order(&calls, &order);
    }

    #[test]
    fn a_capability_that_is_borrowed_for_the_filter_is_given_up_before_the_pid_namespace_is_entered() {
        let calls = calls(&spec(serde_json::json!({})), &inside());
        let order = [
            libc::SYS_setns,
            libc::SYS_setresuid,
            libc::SYS_capset,
            libc::SYS_seccomp,
            libc::SYS_capset,
            libc::SYS_clone,
            libc::SYS_setsid,
        ];
        in_this_order(&calls, &order);
    }

    #[test]
    fn no_copy_of_a_listener_gets_into_the_container_and_it_is_handed_over_right_before_the_execve() {
        let mut with_listener = spec(serde_json::json!({}));
        let linux = with_listener.linux_mut().as_mut().expect("linux");
        let mut profile = linux.seccomp().clone().expect("a profile");
        profile.set_listener_path(Some("/run/listener".into()));
        let rule = serde_json::json!([{"names": ["mount", "close", "clone"], "action": "SCMP_ACT_NOTIFY"}]);
        profile.set_syscalls(serde_json::from_value(rule).expect("rules"));
        linux.set_seccomp(Some(profile));
        let calls = calls(&with_listener, &inside());
        let load = calls.iter().position(|nr| *nr == libc::SYS_seccomp).expect("a load");
        // 0 is a stop.
        in_this_order(
            &calls[load..load + 5],
            &[libc::SYS_seccomp, 0, libc::SYS_close, libc::SYS_capset, libc::SYS_clone],
        );
        let execve = calls.iter().position(|nr| *nr == libc::SYS_execve).expect("an execve");
        assert_eq!(calls[execve - 1], 0);
    }

    #[test]
    fn a_hook_is_planned_as_an_exec_of_its_path_with_the_environment_of_the_process_where_it_names_none() {
        let scheduler = serde_json::json!({"scheduler": {"policy": "SCHED_DEADLINE", "runtime": 9999, "deadline": 99999,
            "period": 99999}, "execCPUAffinity": {"initial": "0"}, "terminal": true});
        let (host, survey, options, inside) = (Host::plain(), Survey::default(), ExecOptions::default(), inside());
        let spec = spec(scheduler);
        let process = hook_process(&spec).expect("a process");
        let plan = |hook: serde_json::Value| {
            let hook: Hook = serde_json::from_value(hook).expect("a hook");
            let (spec, process, inside) = (&spec, &process, &inside);
            let request =
                Request { spec, process, inside, host: &host, survey: &survey, options: &options, hook: Some(&hook), moved: false };
            let plan = exec(&request).expect("a plan");
            let last = plan.program.calls().last().expect("an execve");
            let text = |address| String::from_utf8_lossy(plan.program.string_at(address).expect("text")).into_owned();
            let list = |address: u64| {
                let words = (0..).map(|i| plan.program.bytes_at(address + i * 8, 8).expect("a pointer"));
                let words = words.map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")));
                words.take_while(|word| *word != 0).map(text).collect::<Vec<_>>()
            };
            let numbers = plan.program.calls().iter().map(|call| libc::c_long::from(call.nr)).collect::<Vec<_>>();
            (text(last.args[0]), list(last.args[1]), list(last.args[2]), numbers)
        };
        let (path, args, env, calls) = plan(serde_json::json!({"path": "/bin/hook"}));
        assert_eq!((path.as_str(), args), ("/bin/hook", vec!["/bin/hook".to_owned()]));
        assert_eq!(env, ["PATH=/bin", "A=old", "HOME=/"]);
        assert!(!calls.contains(&libc::SYS_sched_setattr));
        in_this_order(&calls, &[libc::SYS_setns, libc::SYS_setresuid, libc::SYS_seccomp, libc::SYS_clone]);
        let (path, args, env, _) = plan(serde_json::json!({"path": "/bin/hook", "args": ["h", "x"], "env": ["B=1"]}));
        assert_eq!((path.as_str(), args, env), ("/bin/hook", vec!["h".into(), "x".into()], vec!["B=1".to_owned()]));
    }

    #[test]
    fn without_a_pid_namespace_nothing_is_cloned() {
        let calls = calls(&spec(serde_json::json!({})), &Inside { namespaces: libc::CLONE_NEWNS as u64, ..inside() });
        assert!(!calls.contains(&libc::SYS_clone));
    }

    #[test]
    fn a_variable_of_the_same_name_is_replaced() {
        let options = ExecOptions {
            args: vec!["true".to_owned()],
            env: vec!["A=new".to_owned(), "B=x".to_owned(), "B=y".to_owned()],
            ..ExecOptions::default()
        };
        let (process, _) = process(&spec(serde_json::json!({})), &options).expect("a process");
        assert_eq!(process.env().as_deref(), Some(["PATH=/bin", "A=new", "B=y"].map(str::to_owned).as_slice()));
    }

    #[test]
    fn cgroups_are_named_below_the_containers_and_by_controller() {
        let (pids, cpu) = (["pids".to_owned()], ["cpu".to_owned(), "cpuacct".to_owned()]);
        let v1: Vec<(&[String], &Path)> = vec![(&pids, Path::new("/p/web1")), (&cpu, Path::new("/c/web1"))];
        let inside = Inside { v1, ..inside() };
        let of = |named: &[&str]| {
            let named: Vec<String> = named.iter().map(|text| (*text).to_owned()).collect();
            joins(&inside, &named).map(|joins| joins.v1)
        };
        let paths = |p: &str, c: &str| vec![PathBuf::from(p), PathBuf::from(c)];
        assert_eq!(of(&[]).expect("joins"), paths("/p/web1", "/c/web1"));
        assert_eq!(of(&["/a/./b"]).expect("joins"), paths("/p/web1/a/b", "/c/web1/a/b"));
        assert_eq!(of(&["a", "cpuacct:b"]).expect("joins"), paths("/p/web1/a", "/c/web1/b"));
        for wrong in ["../a", "a/../../b", "none:a", "cpu,none:a"] {
            assert_eq!(of(&[wrong]).expect_err(wrong).kind(), Kind::Usage);
        }
    }

    #[test]
    fn a_terminal_of_the_containers_own_process_is_not_that_of_an_exec() {
        let options = ExecOptions { args: vec!["true".to_owned()], ..ExecOptions::default() };
        let (process, _) = process(&spec(serde_json::json!({"terminal": true})), &options).expect("a process");
        assert_eq!(process.terminal(), Some(false));
    }
}
