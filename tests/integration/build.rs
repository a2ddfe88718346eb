//! Tells the tests below which target directory the workspace's binaries lie.

fn main() {
    println!("cargo::rustc-env=RUNB_TARGET={}", std::env::var("TARGET").expect("cargo sets TARGET"));
    println!("cargo::rerun-if-changed=build.rs");
}
