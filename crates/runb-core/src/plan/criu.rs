//! The program by which CRIU is executed: with the socket of its requests, and with what the container has of the host's.

use std::path::Path;

use super::process;
use super::program::{AT_FDCWD, O_RDONLY, O_RDWR, OpenFlags, Program};

/// The descriptor of the socket: the one after the report's.
const SOCKET: i32 = 4;
/// The first of the files, beyond what a program has open meanwhile.
pub(crate) const FIRST_FILE: i32 = 64;
/// The descriptor of the host's null device.
pub(crate) const NULL_FILE: i32 = FIRST_FILE - 1;

/// Opens `files`, each named by its place in config.json, as descriptors from [`FIRST_FILE`] on, and the null device; and executes
/// CRIU.
pub(crate) fn program(criu: &Path, files: &[(&str, &Path)], environment: &[Vec<u8>]) -> Program {
    let mut p = Program::new(3);
    open(&mut p, ("", Path::new("/dev/null")), O_RDWR, NULL_FILE);
    for (file, number) in files.iter().zip(FIRST_FILE..) {
        open(&mut p, *file, O_RDONLY, number);
    }
    p.section("");
    // Its end tells the runtime that the execve succeeded.
    let report = p.report();
    p.fcntl_setfd_cloexec(report);
    process::signals(&mut p);
    p.doing("execve");
    let path = p.text(criu.as_os_str().as_encoded_bytes());
    let socket = SOCKET.to_string();
    let args = p.strings(&["criu", "swrk", &socket]);
    let env = p.strings(environment);
    p.execve(path, args, env);
    p
}

fn open(p: &mut Program, (place, path): (&str, &Path), flags: OpenFlags, number: i32) {
    p.section(place);
    p.doing(format!("open {}", path.display()));
    let file = p.openat(AT_FDCWD, path, flags).out();
    p.dup2(file, number);
    p.close(file);
}
