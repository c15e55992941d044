//! Digests the sources that decide what a run comes to, so that results of another build of them
//! are not taken for its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Relative to the workspace.
const SOURCES: [&str; 6] =
    ["engine/src", "queries/src", "backends/src", "backends/agent", "templates", "Cargo.lock"];

fn main() {
    let root = Path::new("..");
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed=../{source}");
        gather(&root.join(source), &mut files);
    }
    files.sort();
    let mut hasher = blake3::Hasher::new_derive_key("clnrm 2026-11 tool identity v1");
    for file in files {
        let content = fs::read(&file).expect("a source that was listed can be read");
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        for part in [name.as_bytes(), &content] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    println!("cargo::rustc-env=CLNRM_TOOL={}", hasher.finalize().to_hex());
    // Loaded where it was linked for: fifteen thousand addresses need no correction at each start,
    // which takes a third of the time of a program that does nothing else.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}

fn gather(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_file() {
        files.push(path.to_owned());
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        gather(&entry.path(), files);
    }
}
