//! Builds the interpreter and turns it into `image.rs`: its code as one read-only segment, its address and its entry.
//!
//! rustc is called directly: a cargo inside of cargo would wait for the same lock, resolve the workspace again and
//! inherit flags that are meant for the runtime.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// How far before the start the handler of signals lies (src/main.rs).
const HANDLER: u64 = 32;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(runb_init_image)");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let elf = build(&out);
    let image = flatten(&fs::read(elf).expect("read the built interpreter"));
    fs::write(out.join("image.bin"), &image.code).expect("write image.bin");
    let text = format!(
        "/// The code of the interpreter, to be mapped readable and executable at [`ADDRESS`].\n\
         pub static CODE: &[u8] = include_bytes!(concat!(env!(\"OUT_DIR\"), \"/image.bin\"));\n\
         /// Where the code lies.\npub const ADDRESS: usize = {:#x};\n\
         /// Where it begins.\npub const ENTRY: usize = {:#x};\n\
         /// The handler of a signal that ends init: its exit code is 128 and the signal's number.\npub const END: usize = {:#x};\n",
        image.address,
        image.entry,
        image.entry - HANDLER
    );
    fs::write(out.join("image.rs"), text).expect("write image.rs");
}

fn rustc(out: &Path) -> Command {
    let mut command = Command::new(env::var_os("RUSTC").expect("cargo sets RUSTC"));
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .arg("--edition=2024")
        .arg("--out-dir")
        .arg(out);
    command.arg("--target").arg(env::var("TARGET").expect("cargo sets TARGET"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("linker=");
        flag.push(linker);
        command.arg("-C").arg(flag);
    }
    for flag in ["opt-level=2", "panic=abort", "relocation-model=static", "target-feature=+crt-static", "debuginfo=0"] {
        command.arg("-C").arg(flag);
    }
    command.arg("--cfg=runb_init_image").arg("--check-cfg=cfg(runb_init_image)");
    command
}

fn run(mut command: Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn build(out: &Path) -> PathBuf {
    let mut library = rustc(out);
    library.args(["--crate-name=runb_init", "--crate-type=rlib", "src/lib.rs"]);
    run(library);
    let mut interpreter = rustc(out);
    interpreter.args(["--crate-name=init", "--crate-type=bin", "src/main.rs", "--extern"]);
    interpreter.arg(format!("runb_init={}", out.join("librunb_init.rlib").display()));
    let link = "link-args=-nostartfiles -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,norelro \
                -Wl,--no-eh-frame-hdr -Wl,--gc-sections -Wl,-N";
    interpreter.arg("-C").arg(link).arg("-C").arg("strip=symbols");
    run(interpreter);
    out.join("init")
}

struct Image {
    address: u64,
    entry: u64,
    code: Vec<u8>,
}

/// Lays the loadable segments of the ELF out as they are in memory. There must be nothing to write to: the interpreter
/// has no static data, and its program lies elsewhere.
fn flatten(elf: &[u8]) -> Image {
    const PT_LOAD: u32 = 1;
    let half = |at: usize| u16::from_ne_bytes(elf[at..at + 2].try_into().expect("two bytes"));
    let word = |at: usize| u32::from_ne_bytes(elf[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_ne_bytes(elf[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!(&elf[..4], b"\x7fELF");
    let (entry, table, size, count) = (long(24), long(32) as usize, half(54) as usize, half(56) as usize);
    let loads: Vec<usize> = (0..count).map(|i| table + i * size).filter(|&at| word(at) == PT_LOAD).collect();
    let start = loads.iter().map(|&at| long(at + 16)).min().expect("a loadable segment");
    let address = start & !0xfff;
    let mut code = Vec::new();
    for at in loads {
        let (offset, vaddr, filesz, memsz) =
            (long(at + 8) as usize, long(at + 16), long(at + 32) as usize, long(at + 40) as usize);
        assert_eq!(filesz, memsz, "the interpreter must have no .bss");
        let begin = (vaddr - address) as usize;
        code.resize(code.len().max(begin + memsz), 0);
        code[begin..begin + filesz].copy_from_slice(&elf[offset..offset + filesz]);
    }
    Image { address, entry, code }
}
