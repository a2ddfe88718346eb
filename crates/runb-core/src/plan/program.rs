//! The program that init runs, while it is being written: calls, the memory that they point into, and where each came from.

mod added;
mod calls;
mod describe;
mod flags;
mod origin;
mod values;

use std::rc::Rc;

use crate::error::{Error, Kind as ErrorKind, Result};
use nix::libc;
use runb_init::{After, Call, Header, Kind, PROGRAM_ADDRESS, Point, Report};

pub(crate) use added::Added;
pub(crate) use calls::{Message, MountAttr, MountIds};
pub(crate) use describe::{capability_name, namespace_flags};
pub(crate) use flags::*;
use origin::Origin;
pub use origin::{Hint, Mark};
use values::Arg;
pub use values::{Data, Slot};

pub(crate) use values::{NULL, Number, Strings, Text};

/// The working directory, or after the change of root simply what a path starts from.
pub(crate) const AT_FDCWD: i32 = libc::AT_FDCWD;

const HEADER: usize = size_of::<Header>();
/// The first page: the header and the slots, the only bytes that init writes to.
const SLOT_PAGE: usize = 4096;

/// The program of an init.
#[derive(Debug)]
pub struct Program {
    calls: Vec<Call>,
    origins: Vec<Origin>,
    place: Rc<str>,
    what: Option<Rc<str>>,
    memory: Vec<u8>,
    next_slot: usize,
    slots_end: usize,
    report: i32,
    /// How many descriptors init gets by messages.
    received: usize,
}

impl Program {
    /// An empty program whose reports go to the descriptor `report`.
    pub(crate) fn new(report: i32) -> Self {
        let mut memory = Vec::with_capacity(24 * 1024);
        memory.resize(SLOT_PAGE, 0);
        Program {
            calls: Vec::with_capacity(256),
            origins: Vec::with_capacity(256),
            place: Rc::from(""),
            what: None,
            memory,
            next_slot: HEADER,
            slots_end: SLOT_PAGE,
            report,
            received: 0,
        }
    }

    /// The descriptor that takes the reports.
    pub(crate) fn report(&self) -> i32 {
        self.report
    }

    /// Names the place in config.json that the following calls come from.
    pub(crate) fn section(&mut self, place: impl Into<Rc<str>>) {
        self.place = place.into();
        self.what = None;
    }

    /// Says what the following calls of this section do, for errors (`mount tmpfs with "size=5"`).
    pub(crate) fn doing(&mut self, what: impl Into<Rc<str>>) {
        self.what = Some(what.into());
    }

    /// A new slot, -1 until a call fills it.
    pub(crate) fn slot(&mut self) -> Slot {
        if self.next_slot == self.slots_end {
            self.align(8);
            self.next_slot = self.memory.len();
            self.memory.resize(self.memory.len() + SLOT_PAGE, 0);
            self.slots_end = self.memory.len();
        }
        let at = self.next_slot;
        self.next_slot += 4;
        self.memory[at..at + 4].copy_from_slice(&(-1i32).to_ne_bytes());
        Slot((PROGRAM_ADDRESS + at) as u32)
    }

    /// A slot inside of other data, for instance in a control message; `offset` is that of four aligned bytes.
    fn slot_in(&self, data: Data, offset: usize) -> Slot {
        Slot(data.0 + offset as u32)
    }

    fn align(&mut self, to: usize) {
        self.memory.resize(self.memory.len().div_ceil(to) * to, 0);
    }

    /// A NUL-terminated copy of `text`, which has no NUL in it (the configuration was checked).
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Data {
        let at = self.memory.len();
        self.memory.extend_from_slice(text.as_ref());
        self.memory.push(0);
        Data((PROGRAM_ADDRESS + at) as u32)
    }

    /// A copy of `bytes`, aligned to eight.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Data {
        self.align(8);
        let at = self.memory.len();
        self.memory.extend_from_slice(bytes);
        Data((PROGRAM_ADDRESS + at) as u32)
    }

    /// Numbers of 64 bits in a row.
    pub(crate) fn longs(&mut self, longs: &[u64]) -> Data {
        self.align(8);
        let at = self.memory.len();
        for long in longs {
            self.memory.extend_from_slice(&long.to_ne_bytes());
        }
        Data((PROGRAM_ADDRESS + at) as u32)
    }

    /// An array of strings.
    pub(crate) fn strings<T: AsRef<[u8]>>(&mut self, strings: &[T]) -> Strings {
        let mut pointers: Vec<u64> = strings.iter().map(|string| self.text(string).address()).collect();
        pointers.push(0);
        Strings(self.longs(&pointers))
    }

    /// Adds a call; for the constructors alone.
    fn call(&mut self, nr: libc::c_long, args: &[Arg]) -> Added<'_> {
        debug_assert!(describe::knows(nr), "the system call {nr} has no name for who reads a plan");
        let mut call = Call {
            nr: nr as u16,
            slots: 0,
            kind: Kind::Call,
            after: After::Anything,
            after_errno: 0,
            tolerate: [0; 6],
            out: 0,
            args: [0; 6],
        };
        for (i, arg) in args.iter().enumerate() {
            call.args[i] = match *arg {
                Arg::Number(number) => number,
                Arg::Data(data) => data.address(),
                Arg::Slot(slot) => {
                    call.slots |= 1 << i;
                    u64::from(slot.0)
                }
            };
        }
        self.calls.push(call);
        let (place, what) = (self.place.clone(), self.what.clone());
        self.origins.push(Origin { place, what, hint: None, mark: None });
        Added { program: self }
    }

    /// Adds a stop: init reports `point` and waits for the runtime.
    pub(crate) fn stop(&mut self, point: Point) {
        self.call(0, &[Arg::Number(point as u64)]).kind(Kind::Stop);
    }

    /// Adds a stop that also says the value of `slot`.
    pub(crate) fn stop_with(&mut self, point: Point, slot: Slot) {
        self.call(0, &[Arg::Number(point as u64), Arg::Slot(slot)]).kind(Kind::Stop);
    }

    /// Adds a report of `point` after which init goes on at once.
    pub(crate) fn announce(&mut self, point: Point) {
        let report = Report::reached(point, self.calls.len() as u16);
        let bytes = self.bytes(&report.to_bytes());
        let descriptor = self.report;
        self.call(libc::SYS_write, &[descriptor.into(), bytes.into(), size_of::<Report>().into()]);
    }

    /// Adds a twin: a sibling goes on with the program, and this process ends.
    pub(crate) fn twin(&mut self) {
        // clone with CLONE_PARENT: the twin is the runtime's child, as this process is.
        self.call(libc::SYS_clone, &[(libc::CLONE_PARENT | libc::SIGCHLD).into()]).kind(Kind::Twin).mark(Mark::Twin);
    }

    /// Adds the seam between the first calls, which init may make while the rest is still being planned, and the rest. Nothing
    /// after it may use a slot of before.
    pub(super) fn seam(&mut self) {
        let descriptor = self.report + 1;
        self.call(0, &[descriptor.into()]).kind(Kind::Whole);
        self.close(descriptor);
    }

    /// How many descriptors init has at most, the standard ones and what it is started with included: as if none was closed
    /// before the end.
    pub(super) fn descriptors(&self) -> u64 {
        let made = self.calls.iter().filter(|call| call.out != 0).count() + self.received;
        // The report, the fifo, the number for mount(2), the file that init was executed from.
        made as u64 + self.report as u64 + 4
    }

    /// Moves the call that was added last to the index `to`. Only while no later call knows its own index.
    pub(super) fn move_last_to(&mut self, to: usize) {
        self.calls[to..].rotate_right(1);
        self.origins[to..].rotate_right(1);
    }

    /// Runs the calls from index `first` on only if the last one before them that tolerates anything succeeded.
    pub(super) fn after_success_from(&mut self, first: usize) {
        self.calls[first..].iter_mut().for_each(|call| call.after = After::Success);
    }

    /// Runs the calls from index `first` on only if the last one before them that tolerates anything ended in `errno`.
    pub(super) fn after_errno_from(&mut self, first: usize, errno: i32) {
        for call in &mut self.calls[first..] {
            (call.after, call.after_errno) = (After::Errno, errno as u8);
        }
    }

    /// The stops, in the order in which init comes to them.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        use Point::{Cgroup, Hooks, IdMap, Mount, NetDevices, Notify, Ready, Scheduler, Terminal};
        const ALL: [Point; 9] = [Cgroup, IdMap, Mount, Terminal, Hooks, Notify, Ready, Scheduler, NetDevices];
        let of = |number: u64| ALL.into_iter().find(|point| *point as u64 == number);
        self.calls.iter().filter(|call| call.kind == Kind::Stop).filter_map(move |call| of(call.args[0]))
    }

    /// The calls so far.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The place in config.json that call `index` comes from; empty for what comes from no field.
    pub fn place(&self, index: usize) -> &str {
        self.origins.get(index).map_or("", |origin| &origin.place)
    }

    /// What a failure of call `index` means, where its errno alone does not say it.
    pub fn hint(&self, index: usize) -> Option<Hint> {
        self.origins.get(index)?.hint
    }

    /// The index of the call that is marked so.
    pub fn marked(&self, mark: Mark) -> Option<usize> {
        self.origins.iter().position(|origin| origin.mark == Some(mark))
    }

    /// What call `index` does, in words or as strace would print it.
    pub fn what(&self, index: usize) -> String {
        match self.origins.get(index).and_then(|origin| origin.what.as_deref()) {
            Some(what) => what.to_owned(),
            None => self.describe(index),
        }
    }

    /// Call `index` as strace would print it, slots as `$1`, then what is special about it.
    pub fn describe(&self, index: usize) -> String {
        self.calls.get(index).map_or_else(String::new, |call| describe::call(self, call))
    }

    /// The NUL-terminated string at an address of the program.
    pub(super) fn string_at(&self, address: u64) -> Option<&[u8]> {
        let rest = self.memory.get((address as usize).checked_sub(PROGRAM_ADDRESS)?..)?;
        rest.split(|byte| *byte == 0).next()
    }

    /// The bytes at an address of the program.
    pub fn bytes_at(&self, address: u64, length: usize) -> Option<&[u8]> {
        let at = (address as usize).checked_sub(PROGRAM_ADDRESS)?;
        self.memory.get(at..at.checked_add(length)?)
    }

    /// The ordinal of the slot at `address`, from 1.
    pub(super) fn slot_number(address: u64) -> u64 {
        (address - PROGRAM_ADDRESS as u64 - HEADER as u64) / 4 + 1
    }

    /// The bytes that lie at [`PROGRAM_ADDRESS`] in init.
    pub fn image(&self) -> Vec<u8> {
        let at = self.memory.len().div_ceil(8) * 8;
        let mut image = Vec::with_capacity(at + self.calls.len() * size_of::<Call>());
        image.extend_from_slice(&self.memory);
        image.resize(at, 0);
        let header = ((PROGRAM_ADDRESS + at) as u64, self.calls.len() as u32, self.report);
        image[0..8].copy_from_slice(&header.0.to_ne_bytes());
        image[8..12].copy_from_slice(&header.1.to_ne_bytes());
        image[12..16].copy_from_slice(&header.2.to_ne_bytes());
        for call in &self.calls {
            image.extend_from_slice(&call.nr.to_ne_bytes());
            image.extend_from_slice(&[call.slots, call.kind as u8, call.after as u8, call.after_errno]);
            image.extend_from_slice(&call.tolerate);
            image.extend_from_slice(&call.out.to_ne_bytes());
            for arg in call.args {
                image.extend_from_slice(&arg.to_ne_bytes());
            }
        }
        image
    }
}

/// The number of the descriptor that takes the reports: the first after those that the workload keeps.
///
/// # Errors
/// They are more than a process can have.
pub(crate) fn report_descriptor(kept: u32) -> Result<i32> {
    // No descriptor has a number from this one on (sysctl_nr_open_max in fs/file.c).
    const NUMBERS: u32 = 0x7fff_ffc0;
    // Two more follow: the fifo or a pidfd, and what init is executed from.
    match kept.checked_add(3).filter(|report| *report < NUMBERS - 2) {
        Some(report) => Ok(report.cast_signed()),
        None => {
            let text = format!("{kept} descriptors are to be preserved: a process cannot have so many");
            Err(Error::new(ErrorKind::Usage, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_come_after_the_preserved_descriptors_or_there_are_too_many_of_them() {
        assert_eq!(report_descriptor(0).expect("a number"), 3);
        assert_eq!(report_descriptor(0x7fff_ff00).expect("a number"), 0x7fff_ff03);
        for kept in [0x7fff_ffc0, 0x7fff_ffff, 0x8000_0000, u32::MAX - 3, u32::MAX] {
            assert_eq!(report_descriptor(kept).expect_err("too many").kind(), ErrorKind::Usage);
        }
    }
}
