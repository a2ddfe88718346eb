//! Writing limits, in an order that the kernel takes.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::files::{read_path, write_path};
use super::make::busy;
use crate::error::{Error, Result};
use crate::plan::cgroup::{Absent, Write};

/// Writes `writes` by `put`, the files of one controller in whatever order they are taken: which of two limits has to come first
/// (memory, and memory with swap; quota and period below a parent's quota; quota and burst) depends on what the cgroup has, and
/// EINVAL tells that it is the other one.
pub(super) fn in_order(writes: &[Write], mut put: impl FnMut(&Write) -> Result<()>) -> Result<()> {
    for related in writes.chunk_by(|one, next| one.dir == next.dir && controller(one) == controller(next)) {
        let mut left: Vec<&Write> = related.iter().collect();
        while !left.is_empty() {
            let mut refused = Vec::new();
            let mut first = None;
            for write in &left {
                match put(write) {
                    Err(error) if error.nix_errno() == Some(Errno::EINVAL) && related.len() > 1 => {
                        refused.push(*write);
                        first.get_or_insert(error);
                    }
                    result => result?,
                }
            }
            match first {
                Some(error) if refused.len() == left.len() => return Err(error),
                _ => left = refused,
            }
        }
    }
    Ok(())
}

fn controller(write: &Write) -> &str {
    write.file.split('.').next().unwrap_or_default()
}

/// Writes one value by `call`; another file serves, or none is needed, where the planner knows so.
pub(super) fn put(write: &Write, call: &impl Fn(&Write) -> std::result::Result<(), Errno>) -> Result<()> {
    match (call(write), &write.absent) {
        (Ok(()), _) => held(write),
        // Cgroup file systems answer an O_WRONLY of what is not there with ENOENT, and of a missing controller too.
        (Err(Errno::ENOENT), Absent::Skips) => Ok(()),
        (Err(Errno::ENOENT), Absent::Instead(other)) => put(other, call),
        (Err(errno), _) => Err(failed(write, errno)),
    }
}

/// By the directory's path.
pub(super) fn by_path(write: &Write) -> std::result::Result<(), Errno> {
    write_path(&write.dir, &write.file, &write.value)
}

/// Since Linux 5.16 a limit of kernel memory is taken and forgotten (commit 58056f77502f).
fn held(write: &Write) -> Result<()> {
    const FILE: &str = "memory.kmem.limit_in_bytes";
    if write.file != FILE || write.value.starts_with('-') {
        return Ok(());
    }
    let has = read_path(&write.dir, FILE).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match has.zip(write.value.parse().ok()) {
        Some((has, wanted)) if has > wanted => Err(Error::spec(
            write.origin.clone(),
            "this kernel does not limit kernel memory by itself (none does since 5.16)",
        )),
        _ => Ok(()),
    }
}

/// A write that the kernel refused, with what may explain it.
fn failed(write: &Write, errno: Errno) -> Error {
    let call = format!("write {:?} to {}/{}", write.value, write.dir.display(), write.file);
    let error = Error::host(call, errno).at(write.origin.clone());
    match errno {
        Errno::EBUSY if write.file.starts_with("memory.") => match usage(&write.dir) {
            Some((usage, peak)) => error.during(format!("{usage} bytes are in use, and {peak} were at most")),
            None => error,
        },
        // cgroup-v2.rst, "No Internal Process Constraint"; a controller that was not given on has no files.
        Errno::ENOENT if !write.dir.join(&write.file).exists() && fs::exists(&write.dir).unwrap_or(false) => {
            let above = write.dir.ancestors().skip(1).find(|above| busy(above));
            error.during(match above {
                Some(above) => format!("{} has processes in it, and gives no controllers on", above.display()),
                None => "this kernel, or this cgroup, has no such file".to_owned(),
            })
        }
        _ => error,
    }
}

fn usage(dir: &Path) -> Option<(String, String)> {
    let text = |file| read_path(dir, file).ok().map(|text| text.trim().to_owned());
    text("memory.usage_in_bytes").zip(text("memory.max_usage_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &str, value: &str) -> Write {
        let text = |text: &str| text.to_owned();
        Write { dir: "/c".into(), file: text(file), value: text(value), origin: text("place"), absent: Absent::Fails }
    }

    /// A kernel that has one rule: the limit of memory and swap is never below that of memory.
    fn memory(state: (u64, u64), wanted: (u64, u64)) -> (Result<()>, (u64, u64)) {
        let (mut limit, mut both) = state;
        let writes = [write("memory.limit", &wanted.0.to_string()), write("memory.memsw", &wanted.1.to_string())];
        let result = in_order(&writes, |write| {
            let value = write.value.parse().expect("a number");
            let after = if write.file == "memory.limit" { (value, both) } else { (limit, value) };
            if after.0 > after.1 {
                return Err(failed(write, Errno::EINVAL));
            }
            (limit, both) = after;
            Ok(())
        });
        (result, (limit, both))
    }

    #[test]
    fn two_limits_are_written_in_the_order_that_the_kernel_takes_up_and_down() {
        for (state, wanted) in [((10, 20), (30, 40)), ((30, 40), (10, 20)), ((10, 20), (15, 15)), ((15, 15), (5, 6))] {
            let (result, found) = memory(state, wanted);
            assert!(result.is_ok() && found == wanted, "{state:?} to {wanted:?}: {found:?}");
        }
    }

    #[test]
    fn what_no_order_helps_is_the_first_error() {
        let (result, found) = memory((10, 20), (30, 25));
        let error = result.expect_err("it is wrong");
        // The one that could be taken was.
        assert_eq!((error.nix_errno(), found), (Some(Errno::EINVAL), (10, 25)));
        assert!(error.to_string().starts_with("place: write \"30\" to /c/memory.limit: "), "{error}");
    }

    #[test]
    fn a_value_that_is_wrong_by_itself_is_not_tried_again() {
        let mut tried = 0;
        let result = in_order(&[write("pids.max", "x")], |write| {
            tried += 1;
            Err(failed(write, Errno::EINVAL))
        });
        assert!(result.is_err() && tried == 1);
    }
}
