//! bpf(2) for one purpose: a device program on a cgroup v2.

use std::ffi::c_long;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

const BPF_PROG_LOAD: c_long = 5;
const BPF_PROG_ATTACH: c_long = 8;
const BPF_PROG_DETACH: c_long = 9;
const BPF_PROG_GET_FD_BY_ID: c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const BPF_PROG_QUERY: c_long = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// Other programs may be attached beside this one, here and below: all must allow. Without the flag a manager inside
/// the container (systemd) could not attach its own (bpf(2), kernel commit 324bda9e6c5a).
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// In place of the program that is named (kernel commit 7dd68b3279f1, 5.6).
const BPF_F_REPLACE: u32 = 1 << 2;

/// By which a program is known to be of runb.
const NAME: &[u8; 16] = b"runb_devices\0\0\0\0";

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

/// The start of `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The start of `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
}

/// The start of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoByFd {
    program: u32,
    length: u32,
    info: u64,
}

/// The most programs that a cgroup can have attached (BPF_CGROUP_MAX_PROGS).
const MOST_PROGRAMS: usize = 64;

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
        name: *NAME,
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
    attach(BPF_PROG_ATTACH, cgroup, program, BPF_F_ALLOW_MULTI, 0)
}

/// The same in place of the program `replaced`, at once.
///
/// Errors: EINVAL before Linux 5.6.
pub fn replace_device_program(cgroup: impl AsFd, program: impl AsFd, replaced: impl AsFd) -> Result<(), Errno> {
    let replaced = replaced.as_fd().as_raw_fd() as u32;
    attach(BPF_PROG_ATTACH, cgroup, program, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, replaced)
}

/// Detaches a device program.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    attach(BPF_PROG_DETACH, cgroup, program, 0, 0)
}

fn attach(command: c_long, cgroup: impl AsFd, program: impl AsFd, flags: u32, replaced: u32) -> Result<(), Errno> {
    let attributes = Attach {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags,
        replaced,
    };
    // SAFETY: the attributes hold only numbers and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &attributes, size_of::<Attach>()) };
    Errno::result(result).map(drop)
}

/// The device programs that [`load_device_program`] made and that are attached to the cgroup itself.
///
/// Errors are the kernel's: EPERM without CAP_SYS_ADMIN.
pub fn own_device_programs(cgroup: impl AsFd) -> Result<Vec<OwnedFd>, Errno> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let mut query = Query {
        target: cgroup.as_fd().as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        programs: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
    };
    // SAFETY: the attributes, which the call changes, and the array of `count` numbers that they point to outlive it.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, &raw mut query, size_of::<Query>()) })?;
    let mut own = Vec::new();
    for id in &ids[..(query.count as usize).min(MOST_PROGRAMS)] {
        let program = match program_by_id(*id) {
            // Detached meanwhile.
            Err(Errno::ENOENT) => continue,
            program => program?,
        };
        if name_of(&program)? == *NAME {
            own.push(program);
        }
    }
    Ok(own)
}

fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    // The start of `union bpf_attr` for BPF_PROG_GET_FD_BY_ID: the id, where to go on, flags.
    let attributes = [id, 0, 0];
    // SAFETY: the attributes hold only numbers and outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attributes.as_ptr(), size_of_val(&attributes)) };
    // SAFETY: the call's result is a new descriptor (close-on-exec, as all of bpf's) that nobody else owns.
    Errno::result(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The name in `struct bpf_prog_info`: behind type, id, tag (8), lengths (2 × 4), pointers (2 × 8), load time (8), user, count
/// and pointer of maps (4, 4, 8).
fn name_of(program: &OwnedFd) -> Result<[u8; 16], Errno> {
    const NAME_AT: usize = 64;
    let mut info = [0u64; (NAME_AT + 16) / 8];
    let attributes = InfoByFd {
        program: program.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attributes and the buffer of `length` bytes that they point to outlive the call, which fills the buffer; its
    // zeroes ask for no instructions and no maps.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attributes, size_of::<InfoByFd>())
    })?;
    let mut name = [0; 16];
    for (chunk, word) in name.chunks_mut(8).zip(&info[NAME_AT / 8..]) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(name)
}
