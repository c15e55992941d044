//! Compiles the agent as a static program, which is embedded and becomes process 1 of containers.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=agent");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("agent");
    let target = env::var("TARGET").expect("cargo sets it");
    if !target.contains("linux") {
        fs::write(&out, []).expect("the build folder can be written");
        return;
    }
    let status = Command::new(env::var_os("RUSTC").expect("cargo sets it"))
        .args(["agent/main.rs", "--crate-name", "agent", "--edition", "2024", "--target", &target])
        .args(["-C", "opt-level=s", "-C", "panic=abort", "-C", "strip=symbols"])
        .args(["-C", "target-feature=+crt-static", "-A", "warnings", "-o"])
        .arg(&out)
        .status()
        .expect("cargo's own compiler can be started");
    assert!(
        status.success(),
        "the agent did not compile; a static C library is needed (libc6-dev)"
    );
}
