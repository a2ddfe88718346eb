//! Beginning a procfs for a pid namespace, where the kernel has no `pidns` option (before Linux 6.17): the context shows the
//! namespace of the process that opens it.
//!
//! Whoever is in that namespace may look into this process, and with CAP_SYS_PTRACE take it over. So before it enters it has
//! nothing: no descriptor but the report's socket, an empty filesystem for its root, and capabilities only in a user namespace
//! of its own, where nobody is mapped. All that it does inside is fsopen(2).

use nix::libc;
use runb_init::Point;

use super::exec::undumpable;
use super::program::{AT_FDCWD, Program};
use super::rootfs::F_EMPTY_PATH;

/// The program of the process that begins it. The pid namespace is the descriptor after the report's.
pub fn procfs() -> Program {
    let mut p = Program::new(3);
    undumpable(&mut p);
    let namespace = p.report() + 1;
    p.doing("setns of the pid namespace");
    p.call(libc::SYS_setns, &[namespace.into(), libc::CLONE_NEWPID.into()]);
    empty_root(&mut p);
    p.doing("unshare");
    // Where there are to be no user namespaces (user.max_user_namespaces) it keeps its capabilities.
    let own = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    p.call(libc::SYS_unshare, &[own.into()]).tolerate(&[libc::ENOSPC, libc::EPERM, libc::EUSERS]);
    p.call(libc::SYS_close_range, &[0.into(), 2.into(), 0.into()]);
    p.call(libc::SYS_close_range, &[namespace.into(), u64::from(u32::MAX).into(), 0.into()]);
    undumpable(&mut p);
    p.doing("clone into the pid namespace");
    p.twin();
    p.doing("fsopen of procfs");
    let proc = p.text("proc");
    let context = p.call(libc::SYS_fsopen, &[proc.into(), 1.into()]).out();
    p.stop_with(Point::Mount, context);
    p
}

/// A mount namespace with nothing in it.
fn empty_root(p: &mut Program) {
    p.doing("make an empty root");
    p.call(libc::SYS_unshare, &[libc::CLONE_NEWNS.into()]);
    let (slash, dot, empty, tmpfs) = (p.text("/"), p.text("."), p.text(""), p.text("tmpfs"));
    let private = libc::MS_REC | libc::MS_PRIVATE;
    p.call(libc::SYS_mount, &[0.into(), slash.into(), 0.into(), private.into(), 0.into()]);
    let context = p.call(libc::SYS_fsopen, &[tmpfs.into(), 1.into()]).out();
    const CMD_CREATE: i32 = 6;
    p.call(libc::SYS_fsconfig, &[context.into(), CMD_CREATE.into(), 0.into(), 0.into(), 0.into()]);
    let tree = p.call(libc::SYS_fsmount, &[context.into(), 1.into(), 0.into()]).out();
    let onto = [tree.into(), empty.into(), AT_FDCWD.into(), slash.into(), F_EMPTY_PATH.into()];
    p.call(libc::SYS_move_mount, &onto);
    p.call(libc::SYS_fchdir, &[tree.into()]);
    // On a ramdisk there is no pivot; the mount on top of it cannot be taken away in the user namespace that comes next.
    p.call(libc::SYS_pivot_root, &[dot.into(), dot.into()]).tolerate(&[libc::EINVAL]);
    p.call(libc::SYS_umount2, &[dot.into(), libc::MNT_DETACH.into()]).after_success();
    p.call(libc::SYS_chroot, &[dot.into()]).after_failure();
}
