//! Tells the binary which commit it was built from (`runb --version`; a build outside of git says `unknown`), and the linker which
//! functions belong together.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    strip();
    order();
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
    let commit = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    println!("cargo:rustc-env=RUNB_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// One line of git's output; none if git is not there, fails or says nothing.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

/// A release has no symbols, unless hack/order wants to know them.
fn strip() {
    println!("cargo:rerun-if-env-changed=RUNB_SYMBOLS");
    if env::var("PROFILE").as_deref() == Ok("release") && env::var_os("RUNB_SYMBOLS").is_none() {
        println!("cargo:rustc-link-arg-bin=runb=-Wl,--strip-all");
    }
}

/// Hands the list that `hack/order` has made to the linker of a release. Only lld knows the option: it is this target's, unless
/// another one is set up.
fn order() {
    println!("cargo:rerun-if-changed=order");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let other = env::var_os("RUSTC_LINKER").is_some() || flags.contains("linker") || flags.contains("fuse-ld");
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") && !other {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        for argument in [&format!("--symbol-ordering-file={folder}/order"), "--no-warn-symbol-ordering"] {
            println!("cargo:rustc-link-arg-bin=runb=-Wl,{argument}");
        }
    }
}
