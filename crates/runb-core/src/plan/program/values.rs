//! What calls take: descriptors and other numbers, and what lies in the program's memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Program;

/// The place of a descriptor (or another small number) that an earlier call made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u32);

/// A place in the program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data(pub(super) u32);

/// No data: a null pointer.
pub(crate) const NULL: Data = Data(0);

/// A null-terminated array of pointers to strings, as execve(2) wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strings(pub(super) Data);

impl Data {
    /// The place that lies `offset` bytes further.
    pub(super) fn at(self, offset: usize) -> Data {
        Data(self.0 + offset as u32)
    }

    /// The address in init.
    pub(super) fn address(self) -> u64 {
        u64::from(self.0)
    }
}

/// A descriptor or another small number: known beforehand, or what an earlier call made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    /// Known beforehand.
    Known(i64),
    /// What an earlier call made.
    Slot(Slot),
}

impl From<Slot> for Number {
    fn from(slot: Slot) -> Self {
        Number::Slot(slot)
    }
}

impl From<i32> for Number {
    fn from(number: i32) -> Self {
        Number::Known(number.into())
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Number::Known(number.into())
    }
}

/// An argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// A number.
    Number(u64),
    /// The value of a slot.
    Slot(Slot),
    /// The address of data.
    Data(Data),
}

impl From<Number> for Arg {
    fn from(number: Number) -> Self {
        match number {
            Number::Known(number) => Arg::Number(number as u64),
            Number::Slot(slot) => Arg::Slot(slot),
        }
    }
}

impl From<Slot> for Arg {
    fn from(slot: Slot) -> Self {
        Arg::Slot(slot)
    }
}

impl From<Data> for Arg {
    fn from(data: Data) -> Self {
        Arg::Data(data)
    }
}

impl From<Strings> for Arg {
    fn from(strings: Strings) -> Self {
        Arg::Data(strings.0)
    }
}

macro_rules! number {
    ($($kind:ty),*) => { $(impl From<$kind> for Arg {
        fn from(number: $kind) -> Self {
            Arg::Number(number as i64 as u64)
        }
    })* };
}
number!(i32, u32, i64, u64, usize);

/// A string of a call: one that the program has already, or one that it gets by the call.
pub(crate) trait Text {
    /// Where it lies in the program.
    fn lies(self, p: &mut Program) -> Data;
}

impl Text for Data {
    fn lies(self, _: &mut Program) -> Data {
        self
    }
}

macro_rules! text {
    ($($kind:ty: $text:ident => $bytes:expr),* $(,)?) => { $(impl Text for $kind {
        fn lies(self, p: &mut Program) -> Data {
            let $text = self;
            p.text($bytes)
        }
    })* };
}
text! {
    &str: text => text,
    String: text => text,
    &String: text => text,
    &[u8]: text => text,
    &Vec<u8>: text => text,
    &OsStr: text => text.as_encoded_bytes(),
    &Path: text => text.as_os_str().as_encoded_bytes(),
    &PathBuf: text => text.as_os_str().as_encoded_bytes(),
}
