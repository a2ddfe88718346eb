//! A prepared call as text, the way strace would print it.

use std::fmt::Write;

use nix::errno::Errno;
use nix::libc;
use runb_init::{After, Call, Kind};

use super::Program;
use super::flags::{
    AT, CLONE, FUTEX, Fsconfig, IOCTL, MOUNT_ATTR, MS, MoveFlags, NS, Names, OpenFlags, PRCTL, RLIMIT, TreeFlags,
    UMOUNT,
};

/// How an argument is printed.
#[derive(Clone, Copy)]
enum Form {
    /// A descriptor or a directory.
    Descriptor,
    /// A pointer to a string.
    Text,
    /// A decimal number.
    Decimal,
    /// A hexadecimal number.
    Hexadecimal,
    /// An octal number.
    Octal,
    /// Flags with names.
    Flags(Names),
    /// A value with a name.
    Named(Names),
    /// Data with the length in the next argument.
    Buffer,
    /// A null-terminated array of strings.
    Strings,
    /// Data of a known kind, not shown.
    Opaque,
}

use Form::{Buffer, Decimal, Descriptor, Flags, Hexadecimal, Named, Octal, Opaque, Strings, Text};

/// The calls that a planner makes: name and arguments.
const TABLE: &[(libc::c_long, &str, &[Form])] = &[
    (libc::SYS_mount, "mount", &[Text, Text, Text, Flags(MS), Text]),
    (libc::SYS_umount2, "umount2", &[Text, Flags(UMOUNT)]),
    (libc::SYS_pivot_root, "pivot_root", &[Text, Text]),
    (libc::SYS_open_tree, "open_tree", &[Descriptor, Text, Flags(TreeFlags::NAMES)]),
    (libc::SYS_move_mount, "move_mount", &[Descriptor, Text, Descriptor, Text, Flags(MoveFlags::NAMES)]),
    (libc::SYS_mount_setattr, "mount_setattr", &[Descriptor, Text, Flags(TreeFlags::NAMES), Opaque, Decimal]),
    (libc::SYS_fsopen, "fsopen", &[Text, Hexadecimal]),
    (libc::SYS_fspick, "fspick", &[Descriptor, Text, Hexadecimal]),
    (libc::SYS_fsconfig, "fsconfig", &[Descriptor, Named(Fsconfig::NAMES), Text, Text, Decimal]),
    (libc::SYS_fsmount, "fsmount", &[Descriptor, Hexadecimal, Flags(MOUNT_ATTR)]),
    (libc::SYS_openat, "openat", &[Descriptor, Text, Flags(OpenFlags::NAMES), Octal]),
    (libc::SYS_openat2, "openat2", &[Descriptor, Text, Opaque, Decimal]),
    (libc::SYS_close, "close", &[Descriptor]),
    (libc::SYS_close_range, "close_range", &[Descriptor, Descriptor, Hexadecimal]),
    (libc::SYS_dup3, "dup3", &[Descriptor, Descriptor, Flags(OpenFlags::NAMES)]),
    (libc::SYS_read, "read", &[Descriptor, Opaque, Decimal]),
    (libc::SYS_write, "write", &[Descriptor, Buffer, Decimal]),
    (libc::SYS_mkdirat, "mkdirat", &[Descriptor, Text, Octal]),
    (libc::SYS_mknodat, "mknodat", &[Descriptor, Text, Octal, Hexadecimal]),
    (libc::SYS_symlinkat, "symlinkat", &[Text, Descriptor, Text]),
    (libc::SYS_unlinkat, "unlinkat", &[Descriptor, Text, Hexadecimal]),
    (libc::SYS_renameat2, "renameat2", &[Descriptor, Text, Descriptor, Text, Hexadecimal]),
    (libc::SYS_statx, "statx", &[Descriptor, Text, Flags(AT), Hexadecimal, Opaque]),
    (libc::SYS_futex, "futex", &[Opaque, Named(FUTEX), Decimal, Decimal, Opaque, Decimal]),
    (libc::SYS_fchown, "fchown", &[Descriptor, Decimal, Decimal]),
    (libc::SYS_fchownat, "fchownat", &[Descriptor, Text, Decimal, Decimal, Flags(AT)]),
    (libc::SYS_fchown, "fchown", &[Descriptor, Decimal, Decimal]),
    (libc::SYS_fchmodat, "fchmodat", &[Descriptor, Text, Octal]),
    (libc::SYS_faccessat, "faccessat", &[Descriptor, Text, Hexadecimal]),
    (libc::SYS_faccessat2, "faccessat2", &[Descriptor, Text, Hexadecimal, Flags(AT)]),
    (libc::SYS_fchdir, "fchdir", &[Descriptor]),
    (libc::SYS_chdir, "chdir", &[Text]),
    (libc::SYS_chroot, "chroot", &[Text]),
    (libc::SYS_setns, "setns", &[Descriptor, Flags(NS)]),
    (libc::SYS_unshare, "unshare", &[Flags(NS)]),
    (libc::SYS_clone, "clone", &[Flags(CLONE)]),
    (libc::SYS_sethostname, "sethostname", &[Buffer, Decimal]),
    (libc::SYS_setdomainname, "setdomainname", &[Buffer, Decimal]),
    (libc::SYS_prctl, "prctl", &[Named(PRCTL), Hexadecimal, Hexadecimal, Decimal, Decimal]),
    (libc::SYS_capset, "capset", &[Opaque, Opaque]),
    (libc::SYS_prlimit64, "prlimit64", &[Decimal, Named(RLIMIT), Opaque, Hexadecimal]),
    (libc::SYS_setgroups, "setgroups", &[Decimal, Opaque]),
    (libc::SYS_setresuid, "setresuid", &[Decimal, Decimal, Decimal]),
    (libc::SYS_setresgid, "setresgid", &[Decimal, Decimal, Decimal]),
    (libc::SYS_umask, "umask", &[Octal]),
    (libc::SYS_setsid, "setsid", &[]),
    (libc::SYS_setxattr, "setxattr", &[Text, Text, Text, Decimal, Decimal]),
    (libc::SYS_keyctl, "keyctl", &[Decimal, Text, Hexadecimal]),
    (libc::SYS_personality, "personality", &[Hexadecimal]),
    (libc::SYS_set_mempolicy, "set_mempolicy", &[Hexadecimal, Opaque, Decimal]),
    (libc::SYS_ioprio_set, "ioprio_set", &[Decimal, Decimal, Hexadecimal]),
    (libc::SYS_sched_setattr, "sched_setattr", &[Decimal, Opaque, Decimal]),
    (libc::SYS_sched_setaffinity, "sched_setaffinity", &[Decimal, Decimal, Opaque]),
    (libc::SYS_seccomp, "seccomp", &[Decimal, Hexadecimal, Opaque]),
    (libc::SYS_socket, "socket", &[Decimal, Hexadecimal, Decimal]),
    (libc::SYS_ioctl, "ioctl", &[Descriptor, Named(IOCTL), Opaque]),
    (libc::SYS_sendmsg, "sendmsg", &[Descriptor, Opaque, Hexadecimal]),
    (libc::SYS_recvmsg, "recvmsg", &[Descriptor, Opaque, Hexadecimal]),
    (libc::SYS_fcntl, "fcntl", &[Descriptor, Decimal, Decimal]),
    (libc::SYS_pidfd_open, "pidfd_open", &[Decimal, Hexadecimal]),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", &[Descriptor, Decimal, Opaque, Hexadecimal]),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", &[Decimal, Opaque, Opaque, Decimal]),
    (libc::SYS_rt_sigaction, "rt_sigaction", &[Decimal, Opaque, Opaque, Decimal]),
    (libc::SYS_execve, "execve", &[Text, Strings, Opaque]),
    (libc::SYS_execveat, "execveat", &[Descriptor, Text, Strings, Opaque, Hexadecimal]),
];

/// Whether the table has it.
pub(super) fn knows(nr: libc::c_long) -> bool {
    nr == 0 || TABLE.iter().any(|row| row.0 == nr)
}

/// The name of a system call that a planner makes.
pub(crate) fn name(nr: u16) -> String {
    TABLE
        .iter()
        .find(|row| row.0 == libc::c_long::from(nr))
        .map_or_else(|| format!("syscall_{nr}"), |row| row.1.to_owned())
}

/// `call` as one line.
pub(super) fn call(program: &Program, call: &Call) -> String {
    let mut line = String::new();
    match call.kind {
        Kind::Stop => {
            let point = program_point(call.args[0]);
            let value = if call.slots & 2 != 0 {
                format!(" with ${}", Program::slot_number(call.args[1]))
            } else {
                String::new()
            };
            return format!("stop {point}{value}");
        }
        Kind::Twin => line.push_str("twin "),
        Kind::Whole => return format!("go on in the whole program, from the descriptor {}", call.args[0]),
        Kind::Call => {}
    }
    line.push_str(&name(call.nr));
    line.push('(');
    if libc::c_long::from(call.nr) == libc::SYS_prctl && call.args[0] == libc::PR_CAPBSET_DROP as u64 {
        let _ = write!(line, "PR_CAPBSET_DROP, {})", capability_name(call.args[1] as u8));
        return line;
    }
    let forms = TABLE.iter().find(|row| row.0 == libc::c_long::from(call.nr)).map_or(&[][..], |row| row.2);
    for (i, form) in forms.iter().enumerate() {
        if i > 0 {
            line.push_str(", ");
        }
        argument(&mut line, program, call, i, *form);
    }
    line.push(')');
    if call.out != 0 {
        let _ = write!(line, " = ${}", Program::slot_number(u64::from(call.out)));
    }
    if call.tolerate[0] != 0 {
        line.push_str(" ok");
        for errno in call.tolerate.iter().filter(|errno| **errno != 0) {
            let _ = write!(line, " {:?}", Errno::from_raw(i32::from(*errno)));
        }
    }
    match call.after {
        After::Anything => {}
        After::Success => line.push_str(" after success"),
        After::Failure => line.push_str(" after failure"),
        After::Errno => {
            let _ = write!(line, " after {:?}", Errno::from_raw(i32::from(call.after_errno)));
        }
    }
    line
}

/// `CLONE_NEW*` flags by name.
pub(crate) fn namespace_flags(value: u64) -> String {
    flags(NS, value)
}

/// `CAP_KILL` for 5.
pub(crate) fn capability_name(bit: u8) -> String {
    let named = caps::all().into_iter().find(|capability| capability.index() == bit);
    named.map_or_else(|| format!("capability {bit}"), |capability| capability.to_string())
}

fn program_point(number: u64) -> &'static str {
    ["", "IdMap", "Mount", "Terminal", "Hooks", "Notify", "Ready", "Scheduler"]
        .get(number as usize)
        .copied()
        .unwrap_or("")
}

fn argument(line: &mut String, program: &Program, call: &Call, index: usize, form: Form) {
    let value = call.args[index];
    if call.slots & (1 << index) != 0 {
        let _ = write!(line, "${}", Program::slot_number(value));
        return;
    }
    let _ = match form {
        Descriptor if value as i32 == libc::AT_FDCWD => write!(line, "AT_FDCWD"),
        Descriptor | Decimal => write!(line, "{}", value as i64),
        Hexadecimal => write!(line, "{value:#x}"),
        Octal => write!(line, "{value:#o}"),
        Text => write!(line, "{}", quoted(program, value)),
        Named(names) => match names.iter().find(|(number, _)| *number == value) {
            Some((_, name)) => write!(line, "{name}"),
            None => write!(line, "{value}"),
        },
        Flags(names) => write!(line, "{}", flags(names, value)),
        Buffer => {
            let bytes = program.bytes_at(value, call.args[index + 1] as usize).unwrap_or_default();
            write!(line, "\"{}\"", bytes.escape_ascii())
        }
        Strings => {
            line.push('[');
            let mut at = value;
            while let Some(bytes) = program.bytes_at(at, 8) {
                let pointer = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
                if pointer == 0 {
                    break;
                }
                if at != value {
                    line.push_str(", ");
                }
                line.push_str(&quoted(program, pointer));
                at += 8;
            }
            write!(line, "]")
        }
        Opaque => write!(line, "{}", if value == 0 { "NULL" } else { "{…}" }),
    };
}

fn quoted(program: &Program, address: u64) -> String {
    match program.string_at(address) {
        Some(text) => format!("\"{}\"", String::from_utf8_lossy(text).escape_debug()),
        None if address == 0 => "NULL".to_owned(),
        None => format!("{address:#x}"),
    }
}

/// `value` as names joined by `|`.
fn flags(names: &[(u64, &str)], value: u64) -> String {
    let mut rest = value;
    let mut out = String::new();
    for (bit, name) in names {
        if *bit != 0 && rest & bit == *bit {
            if !out.is_empty() {
                out.push('|');
            }
            out.push_str(name);
            rest &= !bit;
        }
    }
    if rest != 0 || out.is_empty() {
        if !out.is_empty() {
            out.push('|');
        }
        let _ = write!(out, "{rest:#x}");
    }
    out
}
