//! System call numbers by name, for every ABI that a filter of runb can hold.
//!
//! The numbers are the `syscalls` crate's; what it lacks is in [`SUPPLEMENT`], each line with its witness. The table is
//! built by the compiler of this crate, as a hash table in read-only data, so that a profile of 400 names costs 400 look-ups;
//! beside it each ABI's calls are sorted by their numbers.

use syscalls::{aarch64, arm, x86, x86_64};

use super::arch::{ARM_PRIVATE, Abi, MULTIPLEXED, MULTIPLEXERS, X32_BIT};

/// The ABI has no such call.
const ABSENT: u32 = u32::MAX;

const ABIS: usize = Abi::ALL.len();

/// More than the names of all ABIs together; building the table fails to compile where that is no longer so.
pub(super) const CAPACITY: usize = 640;

/// A power of two, three times the names, so that a probe ends soon.
const SLOTS: usize = 2048;

/// The highest number of the crate's tables is below this; a test counts the entries.
const HIGHEST: usize = 512;

/// x86_64 calls that x32 numbers anew, because their structures hold pointers or longs: `arch/x86/entry/syscalls/syscall_64.tbl`,
/// ABI `x32`, "don't use numbers 548 through 1023".
const X32_OWN: [(&str, u32); 36] = [
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// x86_64 calls that x32 does not have: ABI `64` in syscall_64.tbl, without those of [`X32_OWN`].
const X32_ABSENT: [&str; 14] = [
    "_sysctl",
    "create_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "get_kernel_syms",
    "get_thread_area",
    "map_shadow_stack",
    "nfsservctl",
    "query_module",
    "set_thread_area",
    "uprobe",
    "uretprobe",
    "uselib",
    "vserver",
];

/// What the crate's tables lack.
const SUPPLEMENT: [(Abi, &str, u32); 18] = [
    // Linux 6.19: scripts/syscall.tbl and the architectures' own tables.
    (Abi::X86_64, "listns", 470),
    (Abi::X86, "listns", 470),
    (Abi::Aarch64, "listns", 470),
    (Abi::Arm, "listns", 470),
    // Linux 7.0.
    (Abi::X86_64, "rseq_slice_yield", 471),
    (Abi::X86, "rseq_slice_yield", 471),
    (Abi::Aarch64, "rseq_slice_yield", 471),
    (Abi::Arm, "rseq_slice_yield", 471),
    // A name that Rust keeps for itself; the kernel answers ENOSYS, profiles list it.
    (Abi::X86, "break", 17),
    // Arm's private calls: arch/arm/include/uapi/asm/unistd.h, __ARM_NR_BASE.
    (Abi::Arm, "breakpoint", 0x0f_0001),
    (Abi::Arm, "cacheflush", 0x0f_0002),
    (Abi::Arm, "usr26", 0x0f_0003),
    (Abi::Arm, "usr32", 0x0f_0004),
    (Abi::Arm, "set_tls", 0x0f_0005),
    (Abi::Arm, "get_tls", 0x0f_0006),
    // The crate calls it fstatat; the kernel's header says __NR3264_fstatat and newfstatat on 64 bit.
    (Abi::Aarch64, "newfstatat", 79),
    // x86_64 leaves these to x32's share of the table too.
    (Abi::X32, "listns", 470 | X32_BIT),
    (Abi::X32, "rseq_slice_yield", 471 | X32_BIT),
];

/// A call by its name, for all ABIs: an index below [`CAPACITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(u16);

impl Name {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// The kernel's name, without `__NR_`.
    fn text(self) -> &'static str {
        TABLE.names[self.index()]
    }

    /// The call's number, with bit 30 set for x32.
    #[cfg(feature = "internals")]
    pub(super) const fn number(self, abi: Abi) -> Option<u32> {
        match TABLE.numbers[self.index()][abi as usize] {
            ABSENT => None,
            number => Some(number),
        }
    }
}

/// A call of one ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: u32,
    pub(super) name: Name,
}

struct Table {
    names: [&'static str; CAPACITY],
    numbers: [[u32; ABIS]; CAPACITY],
    len: usize,
    /// 0: free; otherwise the entry's index and one.
    slots: [u16; SLOTS],
}

static TABLE: Table = Table::build();

impl Table {
    const fn build() -> Table {
        let mut table = Table { names: [""; CAPACITY], numbers: [[ABSENT; ABIS]; CAPACITY], len: 0, slots: [0; SLOTS] };
        let mut id = 0;
        while id < HIGHEST {
            let number = id as u32;
            if let Some(call) = x86_64::Sysno::new(id) {
                table.set(call.name(), Abi::X86_64, number);
                table.set(call.name(), Abi::X32, x32_number(call.name(), number));
            }
            if let Some(call) = x86::Sysno::new(id) {
                table.set(call.name(), Abi::X86, number);
            }
            // 403 to 423 are the calls of 32-bit ABIs with 64-bit time; arm64 does not have them, the crate says it does.
            if let Some(call) = aarch64::Sysno::new(id)
                && !(403 <= id && id <= 423)
            {
                table.set(call.name(), Abi::Aarch64, number);
            }
            if let Some(call) = arm::Sysno::new(id) {
                table.set(call.name(), Abi::Arm, number);
            }
            id += 1;
        }
        let mut i = 0;
        while i < SUPPLEMENT.len() {
            let (abi, name, number) = SUPPLEMENT[i];
            table.set(name, abi, number);
            i += 1;
        }
        let mut i = 0;
        while i < MULTIPLEXED.len() {
            table.add(MULTIPLEXED[i].name);
            i += 1;
        }
        table
    }

    const fn set(&mut self, name: &'static str, abi: Abi, number: u32) {
        let index = self.add(name);
        self.numbers[index][abi as usize] = number;
    }

    /// The index of the entry `name`, made where there is none.
    const fn add(&mut self, name: &'static str) -> usize {
        let slot = self.slot(name);
        if self.slots[slot] == 0 {
            self.names[self.len] = name;
            self.len += 1;
            self.slots[slot] = self.len as u16;
        }
        self.slots[slot] as usize - 1
    }

    /// The slot that holds `name`, or the free one where it belongs.
    const fn slot(&self, name: &str) -> usize {
        let mut slot = hash(name) as usize % SLOTS;
        while self.slots[slot] != 0 && !same(self.names[self.slots[slot] as usize - 1], name) {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }
}

const fn x32_number(name: &str, number: u32) -> u32 {
    let mut i = 0;
    while i < X32_ABSENT.len() {
        if same(X32_ABSENT[i], name) {
            return ABSENT;
        }
        i += 1;
    }
    let mut i = 0;
    while i < X32_OWN.len() {
        if same(X32_OWN[i].0, name) {
            return X32_OWN[i].1 | X32_BIT;
        }
        i += 1;
    }
    number | X32_BIT
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// FNV-1a.
const fn hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash ^ (hash >> 15)
}

/// The calls of one ABI by ascending number. Two names may share one.
struct Order {
    calls: [Numbered; CAPACITY],
    len: usize,
}

/// So the compiler sorts nothing, and reads a profile of all ABIs in one pass over each.
static ORDERS: [Order; ABIS] = {
    let mut orders = [const { Order { calls: [Numbered { number: 0, name: Name(0) }; CAPACITY], len: 0 } }; ABIS];
    let mut abi = 0;
    while abi < ABIS {
        orders[abi] = Order::of(abi);
        abi += 1;
    }
    orders
};

/// Where a number goes when they are sorted: dense, and in the same order.
const fn place(number: u32) -> usize {
    const PRIVATE: usize = 1000;
    if number & X32_BIT != 0 {
        (number & !X32_BIT) as usize
    } else if number >= ARM_PRIVATE {
        PRIVATE + (number - ARM_PRIVATE) as usize
    } else {
        number as usize
    }
}

impl Order {
    const fn of(abi: usize) -> Order {
        // The names of a number, each its index and one.
        let mut places = [[0u16; 2]; 1024];
        let mut index = 0;
        while index < TABLE.len {
            let number = TABLE.numbers[index][abi];
            if number != ABSENT {
                let names = &mut places[place(number)];
                assert!(names[1] == 0, "three names for one number");
                let free = if names[0] == 0 { 0 } else { 1 };
                names[free] = index as u16 + 1;
            }
            index += 1;
        }
        let mut order = Order { calls: [Numbered { number: 0, name: Name(0) }; CAPACITY], len: 0 };
        let mut i = 0;
        while i < 2 * places.len() {
            let index = places[i / 2][i % 2];
            if index != 0 {
                let number = TABLE.numbers[index as usize - 1][abi];
                order.calls[order.len] = Numbered { number, name: Name(index - 1) };
                order.len += 1;
            }
            i += 1;
        }
        order
    }
}

/// The calls of `abi`, by ascending number.
pub(super) fn of(abi: Abi) -> &'static [Numbered] {
    let order = &ORDERS[abi as usize];
    &order.calls[..order.len]
}

/// The call `name`; none where no ABI has it.
pub(super) fn find(name: &str) -> Option<Name> {
    match TABLE.slots[TABLE.slot(name)] {
        0 => None,
        index => Some(Name(index - 1)),
    }
}

/// The name of the call with this number.
pub(super) fn name_of(abi: Abi, number: u32) -> Option<&'static str> {
    of(abi).iter().find(|call| call.number == number).map(|call| call.name.text())
}

/// Every name.
#[cfg(test)]
fn names() -> impl Iterator<Item = Name> {
    (0..TABLE.len as u16).map(Name)
}

/// The calls behind the number `number` of x86, each with the value of the first argument.
pub(super) fn multiplexed(abi: Abi, number: u32) -> impl Iterator<Item = (Name, u32)> {
    let list = if abi == Abi::X86 && MULTIPLEXERS.contains(&number) { &MULTIPLEXED[..] } else { &[] };
    let behind = list.iter().zip(BEHIND).filter(move |(one, _)| one.number == number);
    behind.map(|(one, name)| (name, one.call))
}

/// The names of [`MULTIPLEXED`].
static BEHIND: [Name; MULTIPLEXED.len()] = {
    let mut names = [Name(0); MULTIPLEXED.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = Name(TABLE.slots[TABLE.slot(MULTIPLEXED[i].name)] - 1);
        i += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;

    fn number(abi: Abi, name: &str) -> Option<u32> {
        find(name).and_then(|name| name.number(abi))
    }

    #[test]
    fn the_table_holds_every_call_of_the_crate() {
        let count = names_of;
        let added = |abi: Abi| SUPPLEMENT.iter().filter(|one| one.0 == abi).count();
        assert_eq!(count(Abi::X86_64), x86_64::Sysno::count() + added(Abi::X86_64));
        assert_eq!(count(Abi::X86), x86::Sysno::count() + added(Abi::X86));
        assert_eq!(count(Abi::Arm), arm::Sysno::count() + added(Abi::Arm));
        let of_other_abis = aarch64::Sysno::iter().filter(|call| (403..=423).contains(&call.id())).count();
        assert_eq!(count(Abi::Aarch64), aarch64::Sysno::count() - of_other_abis + added(Abi::Aarch64));
        assert_eq!(count(Abi::X32), x86_64::Sysno::count() - X32_ABSENT.len() + added(Abi::X32));
    }

    #[test]
    fn the_order_holds_every_call_once_by_ascending_number() {
        for abi in Abi::ALL {
            let calls = of(abi);
            assert!(calls.is_sorted_by_key(|call| call.number), "{abi:?}");
            assert!(calls.iter().all(|call| call.name.number(abi) == Some(call.number)), "{abi:?}");
            let mut names: Vec<u16> = calls.iter().map(|call| call.name.0).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), names_of(abi), "{abi:?}");
            assert_eq!(calls.len(), names.len(), "{abi:?}");
        }
    }

    fn names_of(abi: Abi) -> usize {
        names().filter(|name| name.number(abi).is_some()).count()
    }

    #[test]
    fn the_newest_calls_have_their_numbers() {
        for (name, expected) in [
            ("statmount", 457),
            ("listmount", 458),
            ("lsm_get_self_attr", 459),
            ("mseal", 462),
            ("setxattrat", 463),
            ("getxattrat", 464),
            ("listxattrat", 465),
            ("removexattrat", 466),
            ("open_tree_attr", 467),
            ("file_getattr", 468),
            ("file_setattr", 469),
            ("listns", 470),
            ("rseq_slice_yield", 471),
        ] {
            for abi in [Abi::X86_64, Abi::X86, Abi::Aarch64, Abi::Arm] {
                assert_eq!(number(abi, name), Some(expected), "{name} {abi:?}");
            }
            assert_eq!(number(Abi::X32, name), Some(expected | X32_BIT), "{name}");
        }
    }

    #[test]
    fn x86_64s_own_calls_are_not_x32s() {
        for (name, expected) in [("uretprobe", 335), ("uprobe", 336), ("map_shadow_stack", 453), ("epoll_ctl_old", 214)]
        {
            assert_eq!(number(Abi::X86_64, name), Some(expected), "{name}");
            assert_eq!(number(Abi::X32, name), None, "{name}");
        }
        assert_eq!(number(Abi::X32, "execve"), Some(520 | X32_BIT));
        assert_eq!(number(Abi::X32, "read"), Some(X32_BIT));
    }

    #[test]
    fn a_name_that_no_architecture_has_is_not_found() {
        assert!(find("no_such_call").is_none());
        assert!(find("").is_none());
    }
}
