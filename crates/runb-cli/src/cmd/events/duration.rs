//! Durations as Go writes them: `1h30m`, `1.5s`, `100ms`.

use anyhow::{Result, anyhow};
use std::time::Duration;

/// Reads one. One below zero is zero, as nobody waits that long.
pub fn parse(text: &str) -> Result<Duration> {
    let wrong = || anyhow!("invalid duration {text:?}: it is written as 5s, 100ms or 1m30s");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| end + at);
        seconds += number * unit(&rest[end..unit_end]).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
        if rest.is_empty() {
            break;
        }
    }
    if negative { Ok(Duration::ZERO) } else { Duration::try_from_secs_f64(seconds).map_err(|_| wrong()) }
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_writes_is_read() {
        for (text, millis) in [
            ("5s", 5000),
            ("100ms", 100),
            ("1.5s", 1500),
            ("1h1m1s", 3_661_000),
            ("10s", 10_000),
            (".5s", 500),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        assert_eq!(parse("7µs").unwrap(), Duration::from_micros(7));
        assert_eq!(parse("-3s").unwrap(), Duration::ZERO);
        for text in ["", "5", "s", "5 s", "5x", "1.2.3s", "1e3s", "99999999999999999999h"] {
            assert!(parse(text).unwrap_err().to_string().starts_with("invalid duration"), "{text}");
        }
    }
}
