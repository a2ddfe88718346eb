//! The interpreter: runs the program that lies at [`PROGRAM_ADDRESS`], entry by entry. It decides nothing.
#![no_std]
#![no_main]
#![allow(unsafe_code)]

use core::arch::global_asm;

use runb_init::{After, Call, Header, Kind, PROGRAM_ADDRESS, REPORT_SIZE, Report, ReportKind};

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const RECVFROM: usize = 45;
    pub const WRITE: usize = 1;
    pub const MMAP: usize = 9;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod nr {
    pub const RECVFROM: usize = 207;
    pub const WRITE: usize = 64;
    pub const MMAP: usize = 222;
    pub const EXIT_GROUP: usize = 94;
}

const EINTR: isize = 4;

// Two entries, at a distance that build.rs knows: a handler of signals, which gets the number as its first argument and ends
// the process with 128 more; and the start.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".balign 32",
    "lea 128(%rdi), %edi",
    "mov ${exit}, %eax",
    "syscall",
    "ud2",
    ".balign 32",
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "and $-16, %rsp",
    "call {entry}",
    "ud2",
    exit = const nr::EXIT_GROUP,
    entry = sym entry,
    options(att_syntax)
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".balign 32",
    "add w0, w0, #128",
    "mov x8, #{exit}",
    "svc #0",
    "brk #1",
    ".balign 32",
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "bl {entry}",
    "brk #1",
    exit = const nr::EXIT_GROUP,
    entry = sym entry
);

/// One system call.
///
/// # Safety
/// Whatever the kernel does by this call must be sound in this process. The process has no Rust state beside the stack
/// frames below and the program, which the planner wrote.
#[cfg(target_arch = "x86_64")]
unsafe fn syscall(nr: usize, args: [u64; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the x86-64 system call convention; rcx and r11 are clobbered by the instruction.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") nr as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5], out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

/// One system call.
///
/// # Safety
/// As on x86-64.
#[cfg(target_arch = "aarch64")]
unsafe fn syscall(nr: usize, args: [u64; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the aarch64 system call convention.
    unsafe {
        core::arch::asm!("svc #0", in("x8") nr, inlateout("x0") args[0] as isize => result, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    result
}

fn exit(code: u64) -> ! {
    loop {
        // SAFETY: exit_group ends the process.
        unsafe { syscall(nr::EXIT_GROUP, [code, 0, 0, 0, 0, 0]) };
    }
}

fn send(descriptor: i32, report: Report) -> isize {
    let bytes = report.to_bytes();
    // SAFETY: write reads REPORT_SIZE bytes of `bytes`, which lives until it returns.
    unsafe { syscall(nr::WRITE, [descriptor as u64, bytes.as_ptr() as u64, REPORT_SIZE as u64, 0, 0, 0]) }
}

/// Waits for the runtime, and whatever number it sends; nothing if it is gone. recvfrom(2) and not read(2): on the exec fifo, which
/// is open for reading too, that would take back the report of a failed execve.
fn resumed(descriptor: i32) -> Option<u64> {
    let mut bytes = [0u8; REPORT_SIZE];
    loop {
        // SAFETY: recvfrom writes at most REPORT_SIZE bytes into `bytes`.
        let read = unsafe {
            syscall(nr::RECVFROM, [descriptor as u64, bytes.as_mut_ptr() as u64, REPORT_SIZE as u64, 0, 0, 0])
        };
        if read != -EINTR {
            let [n0, n1, n2, n3, n4, n5, n6, n7, ..] = bytes;
            let number = u64::from_ne_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
            return (read == REPORT_SIZE as isize).then_some(number);
        }
    }
}

fn runs(call: &Call, last: u8) -> bool {
    match call.after {
        After::Anything => true,
        After::Success => last == 0,
        After::Failure => last != 0,
        After::Errno => last == call.after_errno,
    }
}

fn arguments(call: &Call) -> [u64; 6] {
    let mut args = call.args;
    for (i, arg) in args.iter_mut().enumerate() {
        if call.slots & (1 << i) != 0 {
            // SAFETY: the bit is set only where the argument is a `Slot` of runb-core, which nothing but plan/program makes: four
            // bytes, aligned, in the writable segment that the kernel mapped from the same file.
            *arg = unsafe { *(*arg as *const i32) } as i64 as u64;
        }
    }
    args
}

fn issue(call: &Call, args: [u64; 6]) -> isize {
    loop {
        // SAFETY: a program gets calls by the constructors of runb-core's plan/program alone, as `Program::call` is private
        // there. Their pointers lie in the program, or lead to the handler above, which ends the process; what the kernel
        // writes goes to data that a constructor has made for it, never to the header or the calls; none maps or unmaps
        // memory (that is `put_whole`'s alone), and the child that one makes has a copy of it all.
        let result = unsafe { syscall(call.nr as usize, args) };
        if result != -EINTR {
            return result;
        }
    }
}

/// Where the program goes on when it is whole.
struct Seam {
    report: i32,
    descriptor: u64,
    index: usize,
}

extern "C" fn entry() -> ! {
    let mut first = 0;
    while let Some(seam) = run(first) {
        put_whole(&seam);
        first = seam.index + 1;
    }
    exit(0)
}

/// Puts the whole program in the place of its first calls.
fn put_whole(seam: &Seam) {
    const PROT_READ_AND_WRITE: u64 = 1 | 2;
    const MAP_PRIVATE_AND_FIXED: u64 = 2 | 0x10;
    let Some(length) = resumed(seam.report) else { exit(1) };
    // SAFETY: nothing refers to the program between two runs. The new one lies where it was, begins with the same calls, and is
    // written by `Program::image` as well; its file is sealed, and the mapping is private. It is the length of the file, and the
    // runtime's word for it, whose child this is.
    let mapped = unsafe {
        let args = [PROGRAM_ADDRESS as u64, length, PROT_READ_AND_WRITE, MAP_PRIVATE_AND_FIXED, seam.descriptor, 0];
        syscall(nr::MMAP, args)
    };
    if mapped < 0 {
        fail(seam.report, seam.index as u16, -mapped as i32, seam.descriptor);
    }
}

/// Reports that the entry `call` has failed, and ends.
fn fail(report: i32, call: u16, errno: i32, value: u64) -> ! {
    send(report, Report { kind: ReportKind::Failed as u8, point: 0, call, errno, value });
    // The runtime may still want to look at a descriptor (the log of a filesystem context).
    resumed(report);
    exit(1)
}

/// Runs the program from the entry `first` on; to its end, or to where it is to be whole.
fn run(first: usize) -> Option<Seam> {
    // SAFETY: the runtime builds the file that is being executed so that a Header lies at PROGRAM_ADDRESS, and so does the file of
    // the whole program.
    let header = unsafe { &*(PROGRAM_ADDRESS as *const Header) };
    // SAFETY: `calls` and `count` describe an array of Call in the same segment, written field by field by `Program::image`;
    // it comes after all slots and all other data, so that nothing is written to it.
    let calls = unsafe { core::slice::from_raw_parts(header.calls as *const Call, header.count as usize) };
    let mut last = 0u8;
    for (index, call) in calls.iter().enumerate().skip(first) {
        if !runs(call, last) {
            continue;
        }
        let args = arguments(call);
        if call.kind == Kind::Whole {
            return Some(Seam { report: header.report, descriptor: args[0], index });
        }
        let index = index as u16;
        if call.kind == Kind::Stop {
            let report =
                Report { kind: ReportKind::Reached as u8, point: args[0] as u8, call: index, errno: 0, value: args[1] };
            if send(header.report, report) < 0 || resumed(header.report).is_none() {
                exit(1);
            }
            continue;
        }
        let result = issue(call, args);
        if result < 0 {
            // An errno may have more than eight bits (524, and whatever a seccomp profile answers); those are never tolerated.
            let errno = -result as i32;
            let short = u8::try_from(errno).unwrap_or(0);
            if short == 0 || !call.tolerate.contains(&short) {
                fail(header.report, index, errno, args[0]);
            }
            last = short;
        } else if call.kind == Kind::Twin && result > 0 {
            let report = Report { kind: ReportKind::Twin as u8, point: 0, call: index, errno: 0, value: result as u64 };
            exit((send(header.report, report) < 0) as u64);
        } else {
            if call.tolerate[0] != 0 {
                last = 0;
            }
            if call.out != 0 {
                // SAFETY: `out` is the address of a slot (see `arguments`), and no reference to it exists.
                unsafe { *(call.out as usize as *mut i32) = result as i32 };
            }
        }
    }
    None
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(134)
}

/// The memory family, which the compiler may call for copies of values.
///
/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    let mut i = 0;
    while i < count {
        // SAFETY: the caller vouches for `count` bytes at both places; volatile keeps this loop from becoming memcpy.
        unsafe { to.add(i).write_volatile(from.add(i).read()) };
        i += 1;
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    let mut i = 0;
    while i < count {
        // SAFETY: the caller vouches for `count` bytes; volatile keeps this loop from becoming memset.
        unsafe { to.add(i).write_volatile(byte as u8) };
        i += 1;
    }
    to
}
