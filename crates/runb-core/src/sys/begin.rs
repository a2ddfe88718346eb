//! The start of a program that has not Rust's own.

use nix::libc;

/// Whether somebody gets what this process prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// The caller has left descriptor 1 open.
    Open,
    /// The caller has closed it: it is /dev/null now.
    Closed,
}

/// What a program without Rust's own start has to do first: descriptors 0, 1 and 2 that the caller has closed become
/// /dev/null, so that nothing opened later takes their numbers; a reader that goes away and a file that may not grow are
/// errors and not the end; and children leave a status, which they do not where the caller ignored SIGCHLD (wait(2); execve(2)
/// hands that down).
pub fn begin_process() -> Stdout {
    let mut stdout = Stdout::Open;
    for descriptor in 0..3 {
        // SAFETY: F_GETFD takes a number and changes nothing.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
            // SAFETY: the path is a constant; the lowest free number is `descriptor`, which nobody owns.
            unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
            if descriptor == libc::STDOUT_FILENO {
                stdout = Stdout::Closed;
            }
        }
    }
    for (signal, disposition) in
        [(libc::SIGPIPE, libc::SIG_IGN), (libc::SIGXFSZ, libc::SIG_IGN), (libc::SIGCHLD, libc::SIG_DFL)]
    {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, disposition) };
    }
    // What malloc(3) asks the kernel for at once, and what it would give back: each is a call, and pages that come back cost a fault.
    for (parameter, bytes) in [(libc::M_TOP_PAD, 1 << 20), (libc::M_TRIM_THRESHOLD, 64 << 20)] {
        // SAFETY: the call takes two numbers, and there is no other thread yet.
        unsafe { libc::mallopt(parameter, bytes) };
    }
    stdout
}
