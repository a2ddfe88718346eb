//! Signals by name or number, real-time ones included.

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::signal;

use crate::{Error, Kind};

/// A signal that may be sent: 0 (send nothing, only look; kill(2)) to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// signal(7): Linux has the signals 1 to 64; the C library keeps 32 and 33, so that SIGRTMIN is 34.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Names that the kernel's headers give to numbers that have another name already.
const ALIASES: &[(&str, signal::Signal)] = &[
    ("CLD", signal::Signal::SIGCHLD),
    ("IOT", signal::Signal::SIGABRT),
    ("POLL", signal::Signal::SIGIO),
    ("UNUSED", signal::Signal::SIGSYS),
];

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(signal::Signal::SIGTERM as i32);
    /// SIGKILL.
    pub const KILL: Signal = Signal(signal::Signal::SIGKILL as i32);

    /// The number, as kill(2) takes it.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The signal of a number from 0 to 64.
    ///
    /// # Errors
    /// `Usage` for any other number.
    pub fn from_number(number: i32) -> crate::Result<Self> {
        match number {
            0..=RTMAX => Ok(Signal(number)),
            _ => Err(unknown(&number.to_string())),
        }
    }
}

impl FromStr for Signal {
    type Err = Error;

    /// Takes `KILL`, `SIGKILL`, `9`, `SIGRTMIN+1`, `RTMAX-2`, in any case.
    fn from_str(text: &str) -> crate::Result<Self> {
        if let Ok(number) = text.parse() {
            return Signal::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = |base: &str| name.strip_prefix(base).and_then(offset);
        let number = if let Some(offset) = real_time("RTMIN") {
            RTMIN.checked_add(offset)
        } else if let Some(offset) = real_time("RTMAX") {
            RTMAX.checked_add(offset)
        } else {
            return named(name).map(|signal| Signal(signal as i32)).ok_or_else(|| unknown(text));
        };
        match number {
            Some(number @ RTMIN..=RTMAX) => Ok(Signal(number)),
            _ => Err(unknown(text)),
        }
    }
}

/// ``, `+N` or `-N`.
fn offset(text: &str) -> Option<i32> {
    match text.as_bytes() {
        [] => Some(0),
        [b'+' | b'-', b'0'..=b'9', ..] => text.parse().ok(),
        _ => None,
    }
}

fn named(name: &str) -> Option<signal::Signal> {
    let alias = ALIASES.iter().find_map(|&(alias, signal)| (alias == name).then_some(signal));
    let parsed: Result<signal::Signal, Errno> = format!("SIG{name}").parse();
    alias.or(parsed.ok())
}

fn unknown(text: &str) -> Error {
    Error::new(Kind::Usage, format!("unknown signal {text:?}"))
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal::Signal::try_from(self.0) {
            Ok(signal) => f.write_str(signal.as_str()),
            Err(_) if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What ended a process, in words.
pub(crate) fn killed_by(ended: signal::Signal) -> String {
    match ended {
        signal::Signal::SIGSYS => "killed by SIGSYS (bad system call: a seccomp filter forbids it)".to_owned(),
        other => format!("killed by {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_number_and_names_in_any_case() {
        for (text, number) in [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("kill", 9),
            ("SigTerm", 15),
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("USR1", 10),
            ("SIGWINCH", 28),
            ("IOT", 6),
            ("SIGCLD", 17),
            ("poll", 29),
            ("RTMIN", 34),
            ("SIGRTMIN+1", 35),
            ("rtmin+30", 64),
            ("SIGRTMAX", 64),
            ("SIGRTMAX-2", 62),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in
            ["", "SIG", "FOO", "-9", "65", "9x", "SIGSIGKILL", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN1"]
        {
            let error = text.parse::<Signal>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown signal {text:?}"));
            assert_eq!(error.kind(), Kind::Usage);
        }
    }

    #[test]
    fn a_signal_prints_its_name() {
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
        assert_eq!("36".parse::<Signal>().unwrap().to_string(), "SIGRTMIN+2");
        assert_eq!("33".parse::<Signal>().unwrap().to_string(), "33");
    }
}
