//! The clone, and the file that init executes: the interpreter and its program in one sealed memfd.

use std::arch::global_asm;
use std::fs::File;
use std::io::{IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use runb_init::{PROGRAM_ADDRESS, image};

/// What a segment of the file is aligned to: the largest page that the architecture may have.
const ALIGN: usize = if cfg!(target_arch = "aarch64") { 0x10000 } else { 0x1000 };
pub(super) const MFD_EXEC: u32 = 0x10;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const EHDR: usize = 64;
const PHDR: usize = 56;

fn round_up(length: usize) -> usize {
    length.div_ceil(ALIGN) * ALIGN
}

/// The ELF and program headers for the interpreter and a program of `length` bytes.
fn headers(length: usize) -> [u8; EHDR + 3 * PHDR] {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut out = [0u8; EHDR + 3 * PHDR];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    put(&2u16.to_ne_bytes()); // ET_EXEC
    put(&machine.to_ne_bytes());
    put(&1u32.to_ne_bytes());
    put(&(image::ENTRY as u64).to_ne_bytes());
    put(&(EHDR as u64).to_ne_bytes());
    put(&0u64.to_ne_bytes());
    put(&0u32.to_ne_bytes());
    for half in [EHDR as u16, PHDR as u16, 3, 0, 0, 0] {
        put(&half.to_ne_bytes());
    }
    let mut segment = |kind: u32, flags: u32, offset: usize, address: usize, size: usize| {
        put(&kind.to_ne_bytes());
        put(&flags.to_ne_bytes());
        for long in [offset, address, address, size, size, ALIGN] {
            put(&(long as u64).to_ne_bytes());
        }
    };
    const PT_LOAD: u32 = 1;
    const PT_GNU_STACK: u32 = 0x6474_e551;
    segment(PT_LOAD, 5, ALIGN, image::ADDRESS, image::CODE.len());
    segment(PT_LOAD, 6, ALIGN + round_up(image::CODE.len()), PROGRAM_ADDRESS, length);
    segment(PT_GNU_STACK, 6, 0, 0, 0);
    out
}

/// A file that runs `program`, which cannot be changed any more.
///
/// # Errors
/// The errno of memfd_create(2), write(2) or fcntl(2), with the name of the call.
pub fn executable(program: &[u8]) -> Result<OwnedFd, (&'static str, Errno)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = match memfd_create(c"runb-init", flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        // MFD_EXEC came with Linux 6.3 (commit 105ff5339f49).
        Err(Errno::EINVAL) => memfd_create(c"runb-init", flags),
        // vm.memfd_noexec=2 forbids it.
        Err(Errno::EACCES) => return unlinked(program),
        other => other,
    };
    let mut file = File::from(file.map_err(|e| ("memfd_create", e))?);
    write(&mut file, program)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals())).map_err(|e| ("fcntl F_ADD_SEALS", e))?;
    Ok(file.into())
}

/// A file for a whole program, of which a process runs the first calls already.
///
/// # Errors
/// The errno of memfd_create(2), with its name.
pub fn whole() -> Result<OwnedFd, (&'static str, Errno)> {
    const MFD_NOEXEC_SEAL: u32 = 8;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(c"runb-program", flags | MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL)) {
        // It came with Linux 6.3, as MFD_EXEC.
        Err(Errno::EINVAL) => memfd_create(c"runb-program", flags),
        other => other,
    }
    .map_err(|e| ("memfd_create", e))
}

/// Writes a program into the file for it, which cannot be changed any more then.
///
/// # Errors
/// The errno of write(2) or fcntl(2), with the name of the call.
pub fn fill(file: OwnedFd, program: &[u8]) -> Result<(), (&'static str, Errno)> {
    let mut file = File::from(file);
    write_parts(&mut file, &mut [IoSlice::new(program)])?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals())).map_err(|e| ("fcntl F_ADD_SEALS", e)).map(drop)
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

fn write(file: &mut File, program: &[u8]) -> Result<(), (&'static str, Errno)> {
    const ZEROES: [u8; ALIGN] = [0; ALIGN];
    let headers = headers(program.len());
    let gap = round_up(image::CODE.len()) - image::CODE.len();
    let mut parts = [
        IoSlice::new(&headers),
        IoSlice::new(&ZEROES[headers.len()..]),
        IoSlice::new(image::CODE),
        IoSlice::new(&ZEROES[..gap]),
        IoSlice::new(program),
    ];
    write_parts(file, &mut parts)
}

fn write_parts(file: &mut File, parts: &mut [IoSlice<'_>]) -> Result<(), (&'static str, Errno)> {
    let mut rest = parts;
    while !rest.is_empty() {
        let written =
            file.write_vectored(rest).map_err(|e| ("write", Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// Where no memfd may be executed: a file without a name on a tmpfs, opened again for reading only. It cannot be sealed,
/// but it belongs to this launch alone.
fn unlinked(program: &[u8]) -> Result<OwnedFd, (&'static str, Errno)> {
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    let mut last = Errno::ENOENT;
    for directory in ["/run", "/dev/shm", "/tmp"] {
        match open(directory, OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::S_IRWXU) {
            Ok(file) => {
                let mut file = File::from(file);
                write(&mut file, program)?;
                let name = format!("/proc/self/fd/{}", file.as_raw_fd());
                let again = open(name.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
                return again.map_err(|e| ("open an unlinked file", e));
            }
            Err(errno) => last = errno,
        }
    }
    Err(("open an unlinked file in /run, /dev/shm, /tmp", last))
}

/// How a process is made.
pub struct Spawn<'a> {
    /// `CLONE_NEW*` flags of the clone itself.
    pub namespaces: u64,
    /// The cgroup v2 directory that the process is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// What it executes.
    pub executable: BorrowedFd<'a>,
    /// Its end of the socket to the runtime; it becomes descriptor `3 + preserve`.
    pub socket: BorrowedFd<'a>,
    /// One more descriptor for it, which becomes `4 + preserve`.
    pub more: Option<BorrowedFd<'a>>,
    /// How many descriptors from 3 on it keeps; so many that the numbers above end before [`i32::MAX`].
    pub preserve: u32,
    /// Its descriptors 0, 1 and 2; those of the runtime where absent.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// A process that was made.
pub struct Spawned {
    /// Its process id.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
}

/// What the child reads, and where it leaves an errno. It lives on the stack of the runtime's thread, which sleeps
/// (CLONE_VFORK) until the child has executed or ended.
#[repr(C)]
struct Child {
    executable: RawFd,
    socket: RawFd,
    more: RawFd,
    preserve: RawFd,
    stdio: [RawFd; 3],
    name: *const libc::c_char,
    errno: i32,
    step: u32,
}

/// The stack of the child until it executes; its end, where the child begins, is aligned as both architectures want it.
#[repr(C, align(16))]
struct Stack([u8; 16 * 1024]);

#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

const STEPS: [&str; 5] = ["clone3", "dup3", "close_range", "execveat", "dup3 of stdio"];

/// clone3(2), then at once execveat(2) of `spawn.executable` in the child.
///
/// # Errors
/// The errno, with the name of the call: clone3 or one of those that the child makes before it executes.
pub fn spawn(spawn: &Spawn<'_>) -> Result<Spawned, (&'static str, Errno)> {
    let mut stack = Box::<Stack>::new_uninit();
    let preserve = RawFd::try_from(spawn.preserve).ok().filter(|preserve| *preserve < RawFd::MAX - 8);
    let mut child = Child {
        executable: spawn.executable.as_raw_fd(),
        socket: spawn.socket.as_raw_fd(),
        more: spawn.more.map_or(-1, |more| more.as_raw_fd()),
        preserve: preserve.ok_or(("dup3", Errno::EBADF))?,
        stdio: spawn.stdio.map_or([-1; 3], |stdio| stdio.map(|descriptor| descriptor.as_raw_fd())),
        name: c"runb-init".as_ptr(),
        errno: 0,
        step: 0,
    };
    let mut pidfd: RawFd = -1;
    let mut flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64 | spawn.namespaces;
    if spawn.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let args = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: size_of::<Stack>() as u64,
        cgroup: spawn.cgroup.map_or(0, |directory| directory.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    let mut before = SigSet::empty();
    // No handler of the embedding program may run in the child, whose memory is the program's own.
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
        .map_err(|e| ("sigprocmask", e))?;
    // SAFETY: the child runs `child` below on a stack of its own and returns from nothing; it shares this memory, but the
    // thread that owns `child`, `stack` and `pidfd` sleeps until it has executed or ended (CLONE_VFORK), so there is no
    // concurrent access; all signals are blocked.
    let result = unsafe { runb_clone3(&args, size_of::<CloneArgs>(), &mut child) };
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let pid = Errno::result(if result < 0 {
        Errno::set_raw(-result as i32);
        -1
    } else {
        result
    })
    .map_err(|e| ("clone3", e))? as i32;
    // SAFETY: clone3 succeeded with CLONE_PIDFD: the descriptor is new and nobody else's.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if child.errno != 0 {
        // It has ended; reap it.
        while nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::EINTR) {}
        return Err((STEPS[child.step as usize], Errno::from_raw(child.errno)));
    }
    Ok(Spawned { pid, pidfd })
}

unsafe extern "C" {
    fn runb_clone3(args: *const CloneArgs, size: usize, child: *mut Child) -> isize;
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl runb_clone3", ".hidden runb_clone3", "runb_clone3:",
    "mov r8, rdx", "mov eax, 435", "syscall", "test rax, rax", "jz 2f", "ret",
    "2:", "xor ebp, ebp", "mov rdi, r8", "call {child}", "ud2",
    child = sym child_main,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl runb_clone3", ".hidden runb_clone3", "runb_clone3:",
    "mov x9, x2", "mov x8, #435", "svc #0", "cbz x0, 2f", "ret",
    "2:", "mov x29, #0", "mov x0, x9", "bl {child}", "brk #1",
    child = sym child_main,
);

#[cfg(target_arch = "x86_64")]
unsafe fn raw(nr: libc::c_long, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers of the x86-64 convention. Not libc's syscall(), which writes the errno of a thread that the
    // child shares with the runtime.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") nr as isize => result, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw(nr: libc::c_long, args: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the registers of the aarch64 convention.
    unsafe {
        std::arch::asm!("svc #0", in("x8") nr as isize, inlateout("x0") args[0] as isize => result, in("x1") args[1],
            in("x2") args[2], in("x3") args[3], in("x4") args[4], options(nostack));
    }
    result
}

/// The child: puts its descriptors in place and executes. It must not allocate, unwind, or touch anything of the
/// runtime's but `child`.
unsafe extern "C" fn child_main(child: *mut Child) -> ! {
    // SAFETY: `child` outlives this function (see `spawn`), and nobody else touches it meanwhile.
    let child = unsafe { &mut *child };
    let (errno, step) = execute(child);
    child.errno = errno;
    child.step = step;
    loop {
        // SAFETY: ends this process.
        unsafe { raw(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    }
}

fn execute(child: &Child) -> (i32, u32) {
    // SAFETY: all calls of this function take numbers and pointers to `child` and constants; they change the
    // descriptors of the child alone, whose table is a copy (no CLONE_FILES).
    let call = |nr, args| unsafe { raw(nr, args) };
    let socket = 3 + child.preserve as usize;
    let more = socket + usize::from(child.more >= 0);
    let last = more + 1;
    let dup =
        |from: RawFd, least: usize| call(libc::SYS_fcntl, [from as usize, libc::F_DUPFD_CLOEXEC as usize, least, 0, 0]);
    // Out of the way first: the numbers that are wanted may be in use by each other.
    let mut stdio = [0usize; 3];
    if child.stdio[0] >= 0 {
        for (i, slot) in stdio.iter_mut().enumerate() {
            let copy = dup(child.stdio[i], last + 1);
            if copy < 0 {
                return (-copy as i32, 4);
            }
            *slot = copy as usize;
        }
        for (i, &copy) in stdio.iter().enumerate() {
            let result = call(libc::SYS_dup3, [copy, i, 0, 0, 0]);
            if result < 0 {
                return (-result as i32, 4);
            }
        }
    }
    let own = dup(child.socket, last + 1);
    let executable = dup(child.executable, last + 1);
    let another = if child.more >= 0 { dup(child.more, last + 1) } else { own };
    for result in [own, executable, another] {
        if result < 0 {
            return (-result as i32, 1);
        }
    }
    // Without another descriptor its place is the socket's, which is put there last.
    for (from, to, flags) in [(another, more, 0), (own, socket, 0), (executable, last, libc::O_CLOEXEC as usize)] {
        let result = call(libc::SYS_dup3, [from as usize, to, flags, 0, 0]);
        if result < 0 {
            return (-result as i32, 1);
        }
    }
    // What else the caller left open never reaches the container.
    let result = call(libc::SYS_close_range, [last + 1, u32::MAX as usize, 0, 0, 0]);
    if result < 0 {
        return (-result as i32, 2);
    }
    let argv = [child.name, std::ptr::null()];
    let envp: [*const libc::c_char; 1] = [std::ptr::null()];
    let result = call(
        libc::SYS_execveat,
        [last, c"".as_ptr() as usize, argv.as_ptr() as usize, envp.as_ptr() as usize, libc::AT_EMPTY_PATH as usize],
    );
    (-result as i32, 3)
}
