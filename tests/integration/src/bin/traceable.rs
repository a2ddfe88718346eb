//! `traceable PROGRAM ARGS…`: executes PROGRAM as a tracee of whoever started this (see the module `traced`).

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [program, rest @ ..] = args.as_slice() else { panic!("traceable PROGRAM ARGS…") };
    nix::sys::ptrace::traceme().expect("PTRACE_TRACEME");
    panic!("{program:?}: {}", Command::new(program).args(rest).exec());
}
