//! Test files of an earlier release, which keep working as they are.
//!
//! They are no part of this repository: `CLNRM_CORPUS` says where they are.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::case::{Case, tell, workspace};
use crate::lacking::note;

/// How many of the files that must load do so; it only grows.
const LOADING: usize = 94;

/// A file of the corpus, and what must come of it.
struct Entry {
    path: String,
    loads: bool,
}

#[test]
fn files_that_were_good_load() {
    let Some((case, entries)) = corpus("corpus::files_that_were_good_load") else { return };
    let (mut loading, mut refused) = (0, Vec::new());
    let entries: Vec<_> = entries.iter().filter(|entry| entry.loads).collect();
    for entry in &entries {
        let errors = errors(&case, entry);
        let of_reader = errors.iter().find(|error| {
            let code = error["code"].as_str().unwrap();
            code.starts_with("parse/") || code.starts_with("render/")
        });
        match of_reader {
            None => loading += 1,
            Some(error) => refused.push(format!("{}: {error}", entry.path)),
        }
    }
    tell(&format!("corpus: {loading} of {} files load", entries.len()));
    assert!(loading >= LOADING, "{loading} of {LOADING} load:\n{}", refused.join("\n"));
}

#[test]
fn files_that_were_broken_are_diagnosed() {
    let test = "corpus::files_that_were_broken_are_diagnosed";
    let Some((case, entries)) = corpus(test) else { return };
    for entry in entries.iter().filter(|entry| !entry.loads) {
        let errors = errors(&case, entry);
        let placed = errors.iter().any(|error| error["line"].as_u64() > Some(0));
        assert!(placed, "{}: {errors:?}", entry.path);
    }
}

/// A copy of the corpus, and its manifest.
fn corpus(test: &str) -> Option<(Case, Vec<Entry>)> {
    let here = workspace().join("../shared/corpus");
    let folder = std::env::var_os("CLNRM_CORPUS").map_or(here, PathBuf::from);
    let Ok(manifest) = fs::read_to_string(folder.join("MANIFEST.tsv")) else {
        note(test, "the corpus of 0.6.0 at CLNRM_CORPUS");
        return None;
    };
    let case = Case::empty();
    let entry = |line: &str| {
        let mut columns = line.split('\t');
        let (path, expected) = (columns.next()?.to_owned(), columns.next()?);
        Some(Entry { path, loads: expected == "loads" })
    };
    let entries: Vec<_> = manifest.lines().skip(1).filter_map(entry).collect();
    for Entry { path, .. } in &entries {
        case.write(path, fs::read(Path::new(&folder).join("v0.6.0").join(path)).unwrap());
    }
    Some((case, entries))
}

/// What keeps a file from being run.
fn errors(case: &Case, entry: &Entry) -> Vec<Value> {
    let report = case.clnrm(&["dry-run", "--format", "json", &entry.path]).report();
    let diagnostics = report.json["diagnostics"].as_array().unwrap();
    diagnostics.iter().filter(|each| each["severity"] == "error").cloned().collect()
}
