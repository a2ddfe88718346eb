//! What the runtime and init agree on: a [`Call`], the [`Header`] of a program, a [`Report`], a [`Point`].
//!
//! The binary of this crate is the interpreter: the only code of runb that runs between the clone and the execve of the
//! workload. It has no allocator and no libc, and it decides nothing. The library carries it as [`image`], ready to be
//! put into a memfd together with a program.
#![no_std]

#[cfg(not(runb_init_image))]
pub mod image {
    //! The built interpreter.
    include!(concat!(env!("OUT_DIR"), "/image.rs"));
}

/// Where the program lies in init's memory: far from the interpreter, below 4 GiB, the same on every architecture.
pub const PROGRAM_ADDRESS: usize = 0x1000_0000;

/// What an entry of a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One system call.
    Call = 0,
    /// Report a [`Point`] (the first argument) with a value (the second) and wait until the runtime says go on.
    Stop = 1,
    /// clone(2): the twin goes on with the program, and the process that made it reports the twin's id and ends. This is
    /// how a process enters a pid namespace, which only a child can do.
    Twin = 2,
    /// Wait for the whole program, of which these were the first calls, and go on in it after this entry. It comes in the file
    /// whose descriptor is the first argument; the runtime says how long it is. No slot keeps its value.
    Whole = 3,
}

/// When an entry is run, by the outcome of the last entry that ran and tolerates anything: so a condition reaches over
/// plain calls in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum After {
    /// Always.
    Anything = 0,
    /// Only if it succeeded.
    Success = 1,
    /// Only if it ended in any tolerated errno.
    Failure = 2,
    /// Only if it ended in the errno of [`Call::after_errno`].
    Errno = 3,
}

/// A prepared system call: one entry of a program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Call {
    /// The number of the system call.
    pub nr: u16,
    /// Bit i: argument i is the address of a slot (an `i32`), whose value is to be used.
    pub slots: u8,
    /// What this entry does.
    pub kind: Kind,
    /// When this entry is run.
    pub after: After,
    /// The errno for [`After::Errno`].
    pub after_errno: u8,
    /// Errnos that do not stop the program; 0 is none.
    pub tolerate: [u8; 6],
    /// The address of the slot that takes the result, or 0.
    pub out: u32,
    /// The arguments.
    pub args: [u64; 6],
}

/// The first bytes of a program.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Header {
    /// The address of the first [`Call`].
    pub calls: u64,
    /// How many there are.
    pub count: u32,
    /// The descriptor that takes the reports.
    pub report: i32,
}

/// Where init waits for the runtime. The order is that of a launch, but for [`Point::Scheduler`], which follows the twin, and
/// [`Point::Cgroup`], which is the first, and [`Point::NetDevices`], which follows [`Point::IdMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Point {
    /// The user namespace is new and wants its id mappings.
    IdMap = 1,
    /// A detached mount wants something that only the runtime can do: an id mapping, or contents. Its descriptor is the
    /// report's value.
    Mount = 2,
    /// A terminal of a container that was joined was handed over, and is to be looked at.
    Terminal = 3,
    /// The mounts are there, the root is not yet changed: the time of prestart, createRuntime and createContainer.
    Hooks = 4,
    /// The seccomp filter is loaded, and the report's value is its listener: the runtime takes a copy of it, and answers for
    /// init until [`Point::Ready`].
    Notify = 5,
    /// All is done but the execve; a listener is handed over now.
    Ready = 6,
    /// The twin wants a scheduler that no fork hands on, and that it has no right to set.
    Scheduler = 7,
    /// Init is to be moved into its cgroups by systemd.
    Cgroup = 8,
    /// The network namespace is entered and wants devices of the runtime's.
    NetDevices = 9,
}

/// What a [`Report`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReportKind {
    /// Init has come to a [`Point`].
    Reached = 1,
    /// A call failed with an errno that it does not tolerate.
    Failed = 2,
    /// A twin was made; its process id is the value.
    Twin = 3,
    /// A terminal was opened; its master comes with the message (SCM_RIGHTS).
    Terminal = 4,
}

/// What init says: 16 bytes, in one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Report {
    /// A [`ReportKind`].
    pub kind: u8,
    /// The [`Point`] reached.
    pub point: u8,
    /// The index of the entry.
    pub call: u16,
    /// The errno of the failed call.
    pub errno: i32,
    /// The process id of a twin; the value of a stop; the first argument of a failed call as it was passed (for a
    /// descriptor: its number).
    pub value: u64,
}

/// The size of a report, in bytes.
pub const REPORT_SIZE: usize = size_of::<Report>();

impl Report {
    /// The report that is sent when init reaches `point`.
    pub const fn reached(point: Point, call: u16) -> Self {
        Report { kind: ReportKind::Reached as u8, point: point as u8, call, errno: 0, value: 0 }
    }

    /// The report that carries the master of a terminal.
    pub const fn terminal() -> Self {
        Report { kind: ReportKind::Terminal as u8, point: 0, call: 0, errno: 0, value: 0 }
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> [u8; REPORT_SIZE] {
        let mut bytes = [0; REPORT_SIZE];
        bytes[0] = self.kind;
        bytes[1] = self.point;
        bytes[2..4].copy_from_slice(&self.call.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.value.to_ne_bytes());
        bytes
    }

    /// The report in `bytes`.
    pub fn from_bytes(bytes: [u8; REPORT_SIZE]) -> Self {
        let [kind, point, c0, c1, e0, e1, e2, e3, value @ ..] = bytes;
        Report {
            kind,
            point,
            call: u16::from_ne_bytes([c0, c1]),
            errno: i32::from_ne_bytes([e0, e1, e2, e3]),
            value: u64::from_ne_bytes(value),
        }
    }
}
