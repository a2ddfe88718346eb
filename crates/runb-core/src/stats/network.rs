//! The interfaces of a network namespace.

use super::Interface;
use crate::error::{Error, Kind, Result};

/// Those that the process `pid` sees, by proc_pid_net(5), `dev`.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn interfaces(pid: i32) -> Result<Vec<Interface>> {
    let path = format!("/proc/{pid}/net/dev");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(format!("read {path}"), &e))?;
    let strange = |line: &str| Error::new(Kind::Host, format!("{path} has {line:?}, which is no interface"));
    text.lines().skip(2).map(|line| interface(line).ok_or_else(|| strange(line))).collect()
}

/// `NAME: ` and eight figures of what is received, eight of what is sent. A name may have colons.
fn interface(line: &str) -> Option<Interface> {
    let (name, figures) = line.trim_start().rsplit_once(": ")?;
    let figures: Vec<u64> = figures.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        figures[..]
    else {
        return None;
    };
    let name = name.to_owned();
    Some(Interface { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_a_name_and_sixteen_figures() {
        let found = interface("  eth0:1: 1 2 3 4 5 6 7 8 11 12 13 14 15 16 17 18").expect("a line");
        assert_eq!((found.name.as_str(), found.rx_bytes, found.rx_dropped), ("eth0:1", 1, 4));
        assert_eq!((found.tx_bytes, found.tx_dropped), (11, 14));
        assert_eq!(interface("lo: 1 2 3"), None);
        assert_eq!(interface("lo 1"), None);
    }

    #[test]
    fn this_process_sees_the_loopback_interface() {
        let found = interfaces(std::process::id() as i32).expect("interfaces");
        assert!(found.iter().any(|interface| interface.name == "lo"), "{found:?}");
    }
}
