//! What became of each test in each site where it was to run: for the reader, and for `RUNB_TESTS_REPORT`.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::site::Site;

/// The payload of the unwinding by which a test ends that cannot run here.
pub(crate) struct Skip(pub String);

/// The test `name` ran to its end.
pub(crate) fn ran(name: &str, site: Site) {
    append(&format!("ran {name} [{}]\n", site.name()));
}

/// The test `name` was skipped: this is printed past libtest's capture, with a running number.
pub(crate) fn skipped(name: &str, site: Site, reason: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    let line = format!("{name} [{}]: {reason}\n", site.name());
    let _ = std::io::stderr().write_all(format!("skipped {count}: {line}").as_bytes());
    append(&format!("skipped {line}"));
}

fn append(line: &str) {
    if let Some(path) = std::env::var_os("RUNB_TESTS_REPORT") {
        let file = File::options().append(true).create(true).open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("write the report");
    }
}
