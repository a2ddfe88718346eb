//! bpf(2) for one purpose: a device program on a cgroup v2.

use std::ffi::c_long;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_ATTACH: c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Other programs may be attached beside this one, here and below: all must allow. Without the flag a manager inside
/// the container (systemd) could not attach its own (bpf(2), kernel commit 324bda9e6c5a).
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// The verifier gives up with EAGAIN when a signal is pending (kernel commit c3494801cd17); it is asked again this often.
const LOAD_ATTEMPTS: u32 = 30;

/// The start of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what follows as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The start of `union bpf_attr` for BPF_PROG_ATTACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a BPF_PROG_TYPE_CGROUP_DEVICE program; each instruction is a `struct bpf_insn` in the machine's byte order.
///
/// Errors are the kernel's: EPERM without CAP_BPF or CAP_SYS_ADMIN, EINVAL or EACCES where the verifier refuses.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    let attributes = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"runb_devices\0\0\0\0",
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        // SAFETY: the attributes and what they point to (instructions, a C string) outlive the call, which only reads them.
        let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &attributes, size_of::<Load>()) };
        match Errno::result(result) {
            // SAFETY: the call's result is a new descriptor (close-on-exec, as all of bpf's) that nobody else owns.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            Err(Errno::EAGAIN) if attempts < LOAD_ATTEMPTS => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Attaches a device program to the cgroup whose directory `cgroup` is; the cgroup keeps it until it is removed.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attributes hold only numbers and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &attributes, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}
