//! The architectures of a filter: what the kernel calls them, how wide their arguments are, where their numbers lie.

use oci_spec::runtime::Arch;

/// Set in every number of an x32 call: `__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// From here on lie Arm's private calls: `__ARM_NR_BASE`, arch/arm/include/uapi/asm/unistd.h.
pub(super) const ARM_PRIVATE: u32 = 0x0f_0000;

/// The machine that a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// x86_64, with the sub-architectures x86 and x32.
    X86_64,
    /// aarch64, with the sub-architecture arm.
    Aarch64,
}

impl Native {
    /// The machine that this library was built for; none where runb has no system call table for it.
    pub const fn of_build() -> Option<Native> {
        if cfg!(target_arch = "x86_64") {
            Some(Native::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Native::Aarch64)
        } else {
            None
        }
    }

    /// The machine's own ABI: in every filter, named or not, as with libseccomp's `seccomp_init`(3).
    pub const fn abi(self) -> Abi {
        match self {
            Native::X86_64 => Abi::X86_64,
            Native::Aarch64 => Abi::Aarch64,
        }
    }

    /// The ABIs that a process of this machine can use.
    pub fn abis(self) -> impl Iterator<Item = Abi> {
        self.kinds().iter().flat_map(|kind| std::iter::once(kind.abi).chain(kind.shared))
    }

    /// The same by kinds of process, each with its `AUDIT_ARCH` value.
    pub(super) const fn kinds(self) -> &'static [Kind] {
        match self {
            Native::X86_64 => &[
                Kind { audit: 0xc000_003e, abi: Abi::X86_64, shared: Some(Abi::X32) },
                Kind { audit: 0x4000_0003, abi: Abi::X86, shared: None },
            ],
            Native::Aarch64 => &[
                Kind { audit: 0xc000_00b7, abi: Abi::Aarch64, shared: None },
                Kind { audit: 0x4000_0028, abi: Abi::Arm, shared: None },
            ],
        }
    }
}

/// What `seccomp_data.arch` tells apart.
pub(super) struct Kind {
    /// `AUDIT_ARCH_*`, include/uapi/linux/audit.h.
    pub(super) audit: u32,
    pub(super) abi: Abi,
    /// A second ABI under the same value, told apart by bit 30 of the number.
    pub(super) shared: Option<Abi>,
}

/// A way to make system calls: its own numbers, its own width of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// `SCMP_ARCH_X86_64`.
    X86_64,
    /// `SCMP_ARCH_X32`.
    X32,
    /// `SCMP_ARCH_X86`.
    X86,
    /// `SCMP_ARCH_AARCH64`.
    Aarch64,
    /// `SCMP_ARCH_ARM`.
    Arm,
}

/// How much of an argument counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// The low word; the values of the profile are cut to it, as libseccomp does. x32 is one of these.
    Word,
    /// Both words.
    Double,
}

impl Abi {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Abi; 5] = [Abi::X86_64, Abi::X32, Abi::X86, Abi::Aarch64, Abi::Arm];

    /// As people write it: `x86_64`, `x32`, `x86`, `aarch64`, `arm`.
    #[cfg(feature = "internals")]
    pub const fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => "x86_64",
            Abi::X32 => "x32",
            Abi::X86 => "x86",
            Abi::Aarch64 => "aarch64",
            Abi::Arm => "arm",
        }
    }

    /// The ABI that the configuration means; none for one that runb has no table for.
    pub(super) const fn of_spec(arch: Arch) -> Option<Abi> {
        match arch {
            Arch::ScmpArchX86_64 => Some(Abi::X86_64),
            Arch::ScmpArchX32 => Some(Abi::X32),
            Arch::ScmpArchX86 => Some(Abi::X86),
            Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
            Arch::ScmpArchArm => Some(Abi::Arm),
            _ => None,
        }
    }

    /// The name that the configuration has for it.
    pub const fn spec(self) -> Arch {
        match self {
            Abi::X86_64 => Arch::ScmpArchX86_64,
            Abi::X32 => Arch::ScmpArchX32,
            Abi::X86 => Arch::ScmpArchX86,
            Abi::Aarch64 => Arch::ScmpArchAarch64,
            Abi::Arm => Arch::ScmpArchArm,
        }
    }

    /// The ABI that people call `name`, by [`Abi::name`].
    #[cfg(feature = "internals")]
    pub fn named(name: &str) -> Option<Abi> {
        Abi::ALL.into_iter().find(|abi| abi.name() == name)
    }

    pub(super) const fn width(self) -> Width {
        match self {
            Abi::X86_64 | Abi::Aarch64 => Width::Double,
            Abi::X32 | Abi::X86 | Abi::Arm => Width::Word,
        }
    }

    /// The `AUDIT_ARCH` value of the ABI's processes.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }
}

/// The old entrance of x86 to a group of calls: one number, the call in the first argument, its arguments in memory
/// where no filter can see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Multiplexed {
    pub(super) name: &'static str,
    /// `socketcall` or `ipc`.
    pub(super) number: u32,
    /// The value of the first argument.
    pub(super) call: u32,
}

/// x86's `socketcall` and `ipc`.
pub(super) const MULTIPLEXERS: [u32; 2] = [102, 117];

const fn socketcall(name: &'static str, call: u32) -> Multiplexed {
    Multiplexed { name, number: MULTIPLEXERS[0], call }
}

const fn ipc(name: &'static str, call: u32) -> Multiplexed {
    Multiplexed { name, number: MULTIPLEXERS[1], call }
}

/// What x86 multiplexes: include/uapi/linux/net.h (`SYS_SOCKET`…) and ipc.h (`SEMOP`…).
pub(super) const MULTIPLEXED: [Multiplexed; 32] = [
    socketcall("socket", 1),
    socketcall("bind", 2),
    socketcall("connect", 3),
    socketcall("listen", 4),
    socketcall("accept", 5),
    socketcall("getsockname", 6),
    socketcall("getpeername", 7),
    socketcall("socketpair", 8),
    socketcall("send", 9),
    socketcall("recv", 10),
    socketcall("sendto", 11),
    socketcall("recvfrom", 12),
    socketcall("shutdown", 13),
    socketcall("setsockopt", 14),
    socketcall("getsockopt", 15),
    socketcall("sendmsg", 16),
    socketcall("recvmsg", 17),
    socketcall("accept4", 18),
    socketcall("recvmmsg", 19),
    socketcall("sendmmsg", 20),
    ipc("semop", 1),
    ipc("semget", 2),
    ipc("semctl", 3),
    ipc("semtimedop", 4),
    ipc("msgsnd", 11),
    ipc("msgrcv", 12),
    ipc("msgget", 13),
    ipc("msgctl", 14),
    ipc("shmat", 21),
    ipc("shmdt", 22),
    ipc("shmget", 23),
    ipc("shmctl", 24),
];
