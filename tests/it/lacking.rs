//! Tests that need what is not there: they are told at once, and in one list at the end of
//! `cargo test` (`tests/not_run.rs`).

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::case::tell;
use crate::nobody::Nobody;

/// Tells that `test` did not run because it `needs` something. Where CI has to have everything, that is
/// a failure.
pub(crate) fn not_run(test: &str, needs: &str) {
    let required = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!required, "{test} needs {needs}");
    note(test, needs);
}

/// The same of something that CI need not have.
pub(crate) fn note(test: &str, needs: &str) {
    tell(&format!("NOT RUN: {test} needs {needs}"));
    // One line for each test that is not run, of the cargo that runs them all.
    let line = format!("{}\t{needs}\t{test}\n", std::os::unix::process::parent_id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("not-run.tsv");
    let file = OpenOptions::new().create(true).append(true).open(file);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

/// Whether containers with the machine's own files have a program; else `test` is told not to run.
pub(crate) fn has_program(test: &str, program: &str) -> bool {
    let folders = ["/usr/local/bin", "/usr/bin"];
    let is_there = folders.iter().any(|folder| Path::new(folder).join(program).is_file());
    if !is_there {
        not_run(test, &format!("{program} (`apt install {program}`)"));
    }
    is_there
}

/// Whether the sandbox can have an open network here, as root and as any user; else `test` is told not
/// to run.
pub(crate) fn open_networks(test: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&folders).any(|folder| folder.join("slirp4netns").is_file()) {
        not_run(test, "slirp4netns (`apt install slirp4netns`)");
        return false;
    }
    if !Nobody::may_write(Path::new("/dev/net/tun")) {
        not_run(test, "/dev/net/tun open to users (`chmod 0666 /dev/net/tun`)");
        return false;
    }
    true
}
