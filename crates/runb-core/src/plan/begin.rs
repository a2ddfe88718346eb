//! Beginning a procfs for a pid namespace, where the kernel has no `pidns` option (before Linux 6.17): the context shows the
//! namespace of the process that opens it.
//!
//! Whoever is in that namespace may look into this process, and with CAP_SYS_PTRACE take it over. So before it enters it has
//! nothing: no descriptor but the report's socket, an empty filesystem for its root, and capabilities only in a user namespace
//! of its own, where nobody is mapped. All that it does inside is fsopen(2).

use nix::libc;
use runb_init::Point;

use super::process::undumpable;
use super::program::{AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH, NULL, Program};

/// The program of the process that begins it. The pid namespace is the descriptor after the report's.
pub fn procfs() -> Program {
    let mut p = Program::new(3);
    undumpable(&mut p);
    let namespace = p.report() + 1;
    p.doing("setns of the pid namespace");
    p.setns(namespace, libc::CLONE_NEWPID as u64);
    empty_root(&mut p);
    p.doing("unshare");
    // Where there are to be no user namespaces (user.max_user_namespaces) it keeps its capabilities.
    let own = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    p.unshare(own as u64).tolerate(&[libc::ENOSPC, libc::EPERM, libc::EUSERS]);
    p.close_stdio();
    p.close_range(namespace);
    undumpable(&mut p);
    p.doing("clone into the pid namespace");
    p.twin();
    p.doing("fsopen of procfs");
    let context = p.fsopen("proc").out();
    p.stop_with(Point::Mount, context);
    p
}

/// A mount namespace with nothing in it.
fn empty_root(p: &mut Program) {
    p.doing("make an empty root");
    p.unshare(libc::CLONE_NEWNS as u64);
    let (slash, dot, empty, tmpfs) = (p.text("/"), p.text("."), p.text(""), p.text("tmpfs"));
    p.mount(NULL, slash, NULL, libc::MS_REC | libc::MS_PRIVATE, NULL);
    let context = p.fsopen(tmpfs).out();
    p.fsconfig_cmd_create(context);
    let tree = p.fsmount(context, 0).out();
    p.move_mount(tree, empty, AT_FDCWD, slash, MOVE_MOUNT_F_EMPTY_PATH);
    p.fchdir(tree);
    // On a ramdisk there is no pivot; the mount on top of it cannot be taken away in the user namespace that comes next.
    p.pivot_root(dot, dot).tolerate(&[libc::EINVAL]);
    p.umount_detach(dot).after_success();
    p.chroot(dot).after_failure();
}
