//! The kernel's own word on a filter.
#![allow(unsafe_code)]

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use runb_core::plan::seccomp::Filter;

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

fn load(filter: &Filter) -> libc::c_long {
    let program = libc::sock_fprog {
        len: filter.instructions.len() as libc::c_ushort,
        filter: filter.instructions.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the call reads `len` structures of 8 bytes from `filter`, which outlives it: Instruction is a transparent
    // u64 with the bytes of a sock_filter, and the kernel does not write to them.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter.flags.0, &raw const program) }
}

/// Whether the kernel takes the filter: a child loads it and dies by an instruction that is none, because any system
/// call could be one that the filter forbids.
pub fn takes(filter: &Filter) -> Result<(), String> {
    // SAFETY: the child makes two raw system calls on memory that is its own copy, allocates nothing and takes no lock.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            // SAFETY: prctl with plain numbers.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            if load(filter) < 0 {
                // SAFETY: ends the process, no filter forbids it; reading errno is reading a thread's own variable.
                unsafe { libc::_exit((*libc::__errno_location()) & 0x7f) };
            }
            trap()
        }
        ForkResult::Parent { child } => match waitpid(child, None).expect("waitpid") {
            WaitStatus::Signaled(_, Signal::SIGILL | Signal::SIGTRAP, _) => Ok(()),
            other => Err(format!("the kernel refuses the filter: {other:?} (the exit status is the errno)")),
        },
    }
}

fn trap() -> ! {
    // SAFETY: an undefined instruction: the process gets SIGILL and dies of it.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("udf #0", options(noreturn))
    }
}

/// The results of system calls, each a value or a negative errno, made by a thread under the filter.
pub fn results(filter: &Filter, calls: &[(u64, [u64; 3])]) -> Vec<i64> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut results = Vec::with_capacity(calls.len());
            // SAFETY: prctl with plain numbers; it and the filter concern this thread alone.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            assert_eq!(load(filter), 0, "the kernel takes the filter");
            for (number, [a, b, c]) in calls {
                // SAFETY: the callers pass calls that touch no memory, or that the filter does not let through.
                let result = unsafe { libc::syscall(*number as i64, *a, *b, *c) };
                // SAFETY: reading errno is reading a thread's own variable.
                results.push(if result < 0 { -i64::from(unsafe { *libc::__errno_location() }) } else { result });
            }
            results
        });
        thread.join().expect("the thread")
    })
}
