//! The descriptors 0, 1 and 2 of this process, which the process of a container takes over.

use nix::libc;
use nix::sys::stat::{FileStat, fstat};
use oci_spec::runtime::Process;

/// What has to be done to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stdio {
    /// Those that are not process.user's, and would have to be for it to open /dev/stdout.
    pub foreign: Vec<i32>,
    /// Those that are the host's null device. It is everybody's: who gave it away would give the host's away.
    pub null: Vec<i32>,
}

impl Stdio {
    /// Looks at them.
    pub(super) fn of(process: &Process) -> Self {
        let uid = process.user().uid();
        let mut stdio = Stdio::default();
        let all = [fstat(std::io::stdin()), fstat(std::io::stdout()), fstat(std::io::stderr())];
        for (descriptor, stat) in (0..).zip(all) {
            match stat {
                Ok(stat) if is_null(&stat) => stdio.null.push(descriptor),
                Ok(stat) if stat.st_uid != uid => stdio.foreign.push(descriptor),
                _ => {}
            }
        }
        stdio
    }
}

fn is_null(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3)
}
