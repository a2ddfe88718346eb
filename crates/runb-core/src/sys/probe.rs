//! Calls that fail in a way that tells whether the kernel has them, and change nothing.
//!
//! The kernel looks at flags before it looks at anything else: a flag that no kernel has makes a call that exists fail with
//! EINVAL, one that is known lets it go on to the next argument, which is wrong on purpose.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::spawn::{CLONE_INTO_CGROUP, CloneArgs, MFD_EXEC};

/// No descriptor has this number: sysctl_nr_open_max in fs/file.c is below it.
const NO_DESCRIPTOR: u64 = i32::MAX as u64;

fn errno(result: libc::c_long) -> Result<(), Errno> {
    Errno::result(result).map(drop)
}

/// clone3(2) with `CLONE_INTO_CGROUP`: EBADF where the kernel has both (cgroup_css_set_fork in kernel/cgroup/cgroup.c).
pub fn clone3_into_cgroup() -> Result<(), Errno> {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: NO_DESCRIPTOR,
        ..CloneArgs::default()
    };
    // SAFETY: the arguments outlive the call, which cannot make a process: there is no such cgroup. If it did nevertheless,
    // the child would end at once, without anything of this program run.
    unsafe {
        let result = libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args));
        if result == 0 {
            libc::_exit(0);
        }
        errno(result)
    }
}

/// open_tree(2): EINVAL where the kernel has it.
pub fn open_tree() -> Result<(), Errno> {
    // SAFETY: the flags are refused before the path, which is a constant, is looked at.
    errno(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), u32::MAX) })
}

/// move_mount(2): EINVAL where the kernel has it.
pub fn move_mount() -> Result<(), Errno> {
    let (nowhere, empty) = (-1, c"".as_ptr());
    // SAFETY: the flags are refused before the paths, which are constants, are looked at.
    errno(unsafe { libc::syscall(libc::SYS_move_mount, nowhere, empty, nowhere, empty, u32::MAX) })
}

/// fsopen(2): EINVAL where the kernel has it.
pub fn fsopen() -> Result<(), Errno> {
    // SAFETY: the flags are refused before the name, which is a constant, is looked at.
    errno(unsafe { libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), u32::MAX) })
}

/// fspick(2): EINVAL where the kernel has it.
pub fn fspick() -> Result<(), Errno> {
    // SAFETY: the flags are refused before the path, which is a constant, is looked at.
    errno(unsafe { libc::syscall(libc::SYS_fspick, libc::AT_FDCWD, c"/".as_ptr(), u32::MAX) })
}

/// `MOUNT_ATTR_IDMAP` of mount_setattr(2): EBADF where the kernel has it, since no such user namespace is open; EINVAL where
/// it does not know it.
pub fn idmapped_mounts() -> Result<(), Errno> {
    let attr: [u64; 4] = [super::MOUNT_ATTR_IDMAP, 0, 0, NO_DESCRIPTOR];
    // SAFETY: `attr` is a struct mount_attr of its first size, read only and alive until the call returns; the path is a
    // constant that leads nowhere, since there is no such descriptor.
    errno(unsafe {
        libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), libc::AT_EMPTY_PATH, attr.as_ptr(), size_of_val(&attr))
    })
}

/// close_range(2): EINVAL where the kernel has it.
pub fn close_range() -> Result<(), Errno> {
    // SAFETY: the range ends before it begins, so nothing is closed.
    errno(unsafe { libc::syscall(libc::SYS_close_range, 2u32, 1u32, 0) })
}

/// seccomp(2) with these flags: EFAULT where the kernel knows them all.
pub fn seccomp_flags(flags: u32) -> Result<(), Errno> {
    const SET_MODE_FILTER: u32 = 1;
    // SAFETY: the program is a null pointer, so no filter is loaded.
    errno(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, std::ptr::null::<libc::sock_fprog>()) })
}

/// seccomp(2), `SECCOMP_GET_ACTION_AVAIL`: EOPNOTSUPP for an action that the kernel lacks.
pub fn seccomp_action(action: u32) -> Result<(), Errno> {
    const GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: the call reads one u32, which lives until it returns.
    errno(unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) })
}

/// keyctl(2): the id of the session keyring, none is made; ENOSYS where the kernel has no keys.
pub fn keyctl() -> Result<(), Errno> {
    const GET_KEYRING_ID: i32 = 0;
    const SESSION: i32 = -3;
    // SAFETY: the call takes numbers only.
    errno(unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) })
}

/// memfd_create(2) of a file that may be executed: EACCES where vm.memfd_noexec forbids it.
pub fn executable_memfd() -> Result<(), Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"runb-probe", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(c"runb-probe", flags).map(drop),
        other => other.map(drop),
    }
}

/// pidfd_open(2) of this process.
pub fn pidfd_open() -> Result<(), Errno> {
    super::pidfd_open(std::process::id() as i32).map(drop)
}

/// pidfd_getfd(2) of a descriptor of this process.
pub fn pidfd_getfd() -> Result<(), Errno> {
    let pidfd = super::pidfd_open(std::process::id() as i32)?;
    super::pidfd_getfd(&pidfd, pidfd.as_raw_fd()).map(drop)
}

/// The option `pidns` of procfs (Linux 6.17): EINVAL where the kernel does not know it.
pub fn procfs_of_another() -> Result<(), Errno> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const SET_FD: u32 = 5;
    let own = File::open("/proc/self/ns/pid").map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    // SAFETY: the name is a constant; a descriptor that is returned is new and nobody else's.
    let context = unsafe { super::owned(libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC)) }?;
    // SAFETY: the key is a constant, and the value is absent, as this command wants it.
    errno(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            SET_FD,
            c"pidns".as_ptr(),
            std::ptr::null::<u8>(),
            own.as_raw_fd(),
        )
    })
}

/// openat2(2) below a root.
pub fn openat2() -> Result<(), Errno> {
    use nix::fcntl::{OFlag, open};
    use std::os::fd::AsFd;
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())?;
    super::openat2(root.as_fd(), c".", libc::O_PATH, super::Resolve::InRoot).map(drop)
}

/// bpf(2): a device program of cgroup v2 that allows everything is verified and let go.
pub fn device_program() -> Result<(), Errno> {
    // r0 = 1; exit.
    super::bpf::load_device_program(&[0x0000_0001_0000_00b7, 0x95]).map(drop)
}
