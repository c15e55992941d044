//! Rules of the house that a machine can hold.

use std::fs;
use std::path::{Path, PathBuf};

use crate::case::workspace;

/// The members, and what they may use of each other.
const ARROWS: [(&str, &[&str]); 4] = [
    ("engine", &[]),
    ("backends", &[]),
    ("queries", &["clnrm-backends", "clnrm-engine"]),
    ("cli", &["clnrm-backends", "clnrm-engine", "clnrm-queries"]),
];

#[test]
fn crates_point_one_way() {
    for (member, allowed) in ARROWS {
        let manifest = fs::read_to_string(workspace().join(member).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        let used = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next());
        for name in used.filter(|name| name.starts_with("clnrm-")) {
            assert!(allowed.contains(&name), "{member} must not depend on {name}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not begin with `//!`", file.display());
    }
}

#[test]
fn nothing_unfinished_is_left() {
    // Spelled apart, so that this file may stay.
    let words =
        [["to", "do!"], ["db", "g!"], ["#[ig", "nore"], ["unimple", "mented!"], ["FIX", "ME"]];
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        for word in words.map(|parts| parts.concat()) {
            assert!(!text.contains(&word), "{} has `{word}`", file.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    for file in sources() {
        let text = fs::read_to_string(&file).unwrap();
        let allowed = file.ends_with("backends/agent/sys.rs") || file.ends_with("tests/it/tidy.rs");
        assert!(allowed || !text.contains("unsafe {"), "{} has unsafe code", file.display());
    }
}

/// Every source file of the project.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["engine", "backends", "queries", "cli", "tests/it", "benches"] {
        gather(&workspace().join(folder), &mut files);
    }
    assert!(files.len() > 50, "the sources were not found");
    files
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            gather(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
