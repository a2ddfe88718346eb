//! What runs before a hook, and when the order of a launch has to make room for hooks. A startContainer hook is planned as an
//! exec ([`super::exec::exec`]): it is a file of the container, and so has its process's rights.

use std::path::{Path, PathBuf};

use nix::libc;
use oci_spec::runtime::{Hook, Spec};
use runb_init::Point;

use super::check::kinds;
use super::environment;
use super::exec::{close, enter, join_v1};
use super::namespaces::become_root;
use super::process::command::arguments;
use super::process::{self, schedule};
use super::program::Program;
use crate::options::HookEnvironment;

/// Whether a hook wants to see the mounts before the root is changed.
pub(super) fn before_pivot(spec: &Spec) -> bool {
    let early = ["prestart", "createRuntime", "createContainer"];
    let some = |(kind, list): (&str, &Option<Vec<_>>)| {
        early.contains(&kind) && list.as_ref().is_some_and(|list| !list.is_empty())
    };
    spec.hooks().iter().flat_map(kinds).any(some)
}

/// The program of a hook in the runtime's namespaces: a file of the host, as the runtime itself is, in the bundle. Where it
/// names no environment it has `environment`.
pub fn in_runtime(hook: &Hook, bundle: &Path, environment: &HookEnvironment) -> Program {
    let mut p = Program::new(3);
    p.doing("chdir to the bundle");
    p.chdir(bundle);
    close(&mut p);
    execute(&mut p, hook, environment.entries());
    p
}

/// The container as a createContainer hook finds it.
pub struct Unfinished<'a> {
    /// The path of the root filesystem, which is not yet `/`.
    pub rootfs: &'a Path,
    /// `CLONE_NEW*` of the namespaces that the hook enters.
    pub namespaces: u64,
    /// The container's version 1 cgroups.
    pub v1: Vec<PathBuf>,
    /// Whether the hook waits to be moved into that of version 2, in which it cannot be born.
    pub moved: bool,
}

/// The program of a createContainer hook: a file of the host, in the container's cgroups and namespaces, and there root.
pub fn in_container(hook: &Hook, container: &Unfinished<'_>) -> Program {
    let mut p = Program::new(3);
    if container.moved {
        p.stop(Point::Cgroup);
    }
    process::undumpable(&mut p);
    schedule::every_cpu(&mut p);
    join_v1(&mut p, &container.v1);
    enter(&mut p, container.namespaces);
    p.section("root.path");
    p.doing("chdir to the root filesystem");
    // As the runtime's user: the bundle may be closed to the root of a user namespace.
    p.chdir(container.rootfs);
    p.section("");
    if container.namespaces & libc::CLONE_NEWUSER as u64 != 0 {
        become_root(&mut p);
        // A user namespace may deny it (user_namespaces(7), /proc/PID/setgroups).
        p.setgroups(&[]).tolerate(&[libc::EPERM]);
    }
    close(&mut p);
    if container.namespaces & libc::CLONE_NEWPID as u64 != 0 {
        p.doing("clone into the container's pid namespace");
        p.twin();
    }
    // Neither the runtime's environment, which is none of the container's, nor the container's, which is not for host's files.
    execute(&mut p, hook, &[]);
    p
}

fn execute(p: &mut Program, hook: &Hook, environment: &[Vec<u8>]) {
    process::signals(p);
    p.doing("execve");
    let path = p.text(hook.path().as_os_str().as_encoded_bytes());
    let args = p.strings(&arguments(hook));
    let env = match environment::of_hook(hook) {
        Some(env) => p.strings(&env),
        None => p.strings(environment),
    };
    p.execve(path, args, env);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_in_a_user_namespace_becomes_its_root_when_it_is_in_the_root_filesystem_and_enters_the_pid_namespace_last()
    {
        let hook: Hook = serde_json::from_value(serde_json::json!({"path": "/bin/hook"})).expect("a hook");
        let namespaces = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64;
        let container = Unfinished { rootfs: Path::new("/bundle/rootfs"), namespaces, v1: Vec::new(), moved: false };
        let program = in_container(&hook, &container);
        let wanted = [
            libc::SYS_setns,
            libc::SYS_chdir,
            libc::SYS_setresgid,
            libc::SYS_setresuid,
            libc::SYS_setgroups,
            libc::SYS_clone,
            libc::SYS_execve,
        ];
        let calls = program.calls().iter().map(|call| libc::c_long::from(call.nr));
        assert_eq!(calls.filter(|nr| wanted.contains(nr)).collect::<Vec<_>>(), wanted);
    }
}
