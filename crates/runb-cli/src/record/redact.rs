//! Values of environment variables are secrets: their names are on record, they are not.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// `argv` with `NAME=…` for each variable that a flag of runb's own sets; those are the first `own_length` arguments.
/// It does not ask which verb is called: a line that is refused is on record as well.
pub fn redact(argv: &[OsString], own_length: usize) -> Vec<OsString> {
    let mut value_is_next = false;
    argv.iter()
        .enumerate()
        .map(|(at, word)| {
            let bytes = word.as_bytes();
            if at >= own_length {
                return word.clone();
            }
            if std::mem::take(&mut value_is_next) {
                return hide(bytes, 0);
            }
            match flag_length(bytes) {
                Some(length) if length == bytes.len() => {
                    value_is_next = true;
                    word.clone()
                }
                Some(length) => hide(bytes, length),
                None => word.clone(),
            }
        })
        .collect()
}

/// The length of an environment flag at the beginning of a word, its `=` included. `-eNAME=VALUE` is not runb's
/// syntax, but people write it.
fn flag_length(word: &[u8]) -> Option<usize> {
    for flag in ["--env=", "-env=", "--e=", "-e="] {
        if word.starts_with(flag.as_bytes()) {
            return Some(flag.len());
        }
    }
    match word {
        b"--env" | b"-env" | b"-e" | b"--e" => Some(word.len()),
        [b'-', b'e', ..] if word.contains(&b'=') => Some(2),
        _ => None,
    }
}

/// The word up to the first `=` behind `from`, and a mark for the rest.
fn hide(word: &[u8], from: usize) -> OsString {
    match word[from..].iter().position(|&byte| byte == b'=') {
        Some(at) => OsString::from_vec([&word[..=from + at], "…".as_bytes()].concat()),
        None => OsString::from_vec(word.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(line: &str, own_length: usize) -> String {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let argv = redact(&argv, own_length);
        argv.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_value_of_a_variable_is_left_in_any_way_to_write_the_flag() {
        for (line, expected) in [
            ("exec -e K=secret web1 ls", "exec -e K=… web1 ls"),
            ("exec --env K=secret web1 ls", "exec --env K=… web1 ls"),
            ("exec -env K=secret web1 ls", "exec -env K=… web1 ls"),
            ("exec --env=K=secret=x web1 ls", "exec --env=K=… web1 ls"),
            ("exec -env=K=secret web1 ls", "exec -env=K=… web1 ls"),
            ("exec -e=K=secret web1 ls", "exec -e=K=… web1 ls"),
            ("exec -eK=secret web1 ls", "exec -eK=… web1 ls"),
            ("create -e K=secret web1", "create -e K=… web1"),
            ("exec -e NAME web1 ls", "exec -e NAME web1 ls"),
        ] {
            assert_eq!(redacted(line, line.split(' ').count()), expected);
        }
    }

    #[test]
    fn the_arguments_of_the_command_itself_are_not_runbs() {
        assert_eq!(redacted("exec web1 grep -e a=b f", 2), "exec web1 grep -e a=b f");
    }
}
