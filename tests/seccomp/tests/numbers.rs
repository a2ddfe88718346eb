//! The numbers against the kernel's own headers (linux-libc-dev).
#![cfg(target_arch = "x86_64")]

use runb_core::plan::seccomp::{Abi, Call};

const X32_BIT: u32 = 0x4000_0000;

/// The names and numbers of `asm/unistd_NAME.h`.
fn header(name: &str) -> Vec<(String, u32)> {
    let path = format!("/usr/include/x86_64-linux-gnu/asm/unistd_{name}.h");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let defined = text.lines().filter_map(|line| {
        let (call, value) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        let (x32, digits) = match value.strip_prefix("(__X32_SYSCALL_BIT + ") {
            Some(rest) => (X32_BIT, rest.trim_end_matches(')')),
            None => (0, value),
        };
        Some((call.to_owned(), digits.parse::<u32>().ok()? | x32))
    });
    defined.collect()
}

#[test]
fn every_call_of_the_kernels_headers_has_its_number() {
    for (name, abi) in [("64", Abi::X86_64), ("32", Abi::X86), ("x32", Abi::X32)] {
        let header = header(name);
        assert!(header.len() > 300, "{} calls in unistd_{name}.h", header.len());
        for (call, number) in header {
            let ours = Call::new(abi, &call, [0; 6]).map(|call| call.number);
            assert!(matches!(ours, Ok(ours) if ours == number), "{call} of unistd_{name}.h: {number}, here {ours:?}");
        }
    }
}
