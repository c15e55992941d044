//! Formatting, beside `taplo`, in one run: `cargo bench -p clnrm --bench fmt`.
//!
//! Plain files only, of which every other one is in need of it; `taplo` is left out where it is not
//! installed. Arguments after `--` are numbers of files, 10,000 unless others are given.

mod machine;
#[allow(dead_code, reason = "other benches use the rest")]
mod table;
#[allow(dead_code, reason = "other benches use the rest")]
mod timing;
mod watch;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use table::{Figures, Row};
use timing::{Contender, alternate_all, output};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    if let Some(exit) = watch::if_asked() {
        return exit;
    }
    let sizes = std::env::args().skip(1).filter_map(|word| word.parse().ok());
    let sizes: Vec<usize> = sizes.collect();
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    for line in machine::describe(folder.path()) {
        println!("- {line}");
    }
    let has_taplo = match output(Command::new("taplo").arg("--version")) {
        Ok(version) => {
            println!("- {}", version.trim());
            true
        }
        Err(_) => {
            println!("- NOT RUN: taplo is not installed");
            false
        }
    };
    let mut rows = Vec::new();
    for files in if sizes.is_empty() { vec![10_000] } else { sizes } {
        let root = folder.path().join(files.to_string());
        rows.extend(formatted(&root, files, has_taplo));
    }
    print!("\n{}", table::markdown(&rows));
    ExitCode::SUCCESS
}

/// A test file; a messy one has keys in no order and spaces where none belong.
fn text(number: usize, is_messy: bool) -> String {
    let steps = if is_messy {
        "name=\"s\"\nrun   =  \"true\"\n\n[[expect.span]]\nname='clnrm.step:s'\nkind = \"internal\""
    } else {
        "name = \"s\"\nrun = \"true\"\n\n[[expect.span]]\nkind = \"internal\"\nname = 'clnrm.step:s'"
    };
    let meta = if is_messy {
        format!("version=\"1\"\nname=\"t{number}\"")
    } else {
        format!("name = \"t{number}\"\nversion = \"1\"")
    };
    format!("# Test {number}.\n[meta]\n{meta}\n\n[[scenario]]\n{steps}\n")
}

/// Writes every file as it was; what was formatted is in need of it again.
fn lay_out(root: &Path, files: usize) {
    for number in 0..files {
        let folder = root.join(format!("f{}", number / 100));
        fs::create_dir_all(&folder).expect("it can be made");
        let path = folder.join(format!("t{number}.clnrm.toml"));
        fs::write(path, text(number, number % 2 == 0)).expect("it can be written");
    }
}

fn formatted(root: &Path, files: usize, has_taplo: bool) -> Vec<Row> {
    lay_out(root, files);
    fs::write(root.join("clnrm.toml"), "").expect("it can be written");
    let store = root.join(".clnrm");
    let command = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(root);
        command
    };
    let cold = || {
        lay_out(root, files);
        let _ = fs::remove_dir_all(&store);
    };
    let taplo = |words: &[&str]| command("taplo", words);
    let compare = |work: &str, ours: Contender<'_>, theirs: Contender<'_>, aim: &'static str| {
        let contenders = if has_taplo { vec![ours, theirs] } else { vec![ours] };
        let samples = alternate_all(ROUNDS, contenders);
        let peer = samples.get(1).map(|sample| ("taplo".to_owned(), Figures::to_exit(sample)));
        Row { work: work.to_owned(), files, ours: Figures::to_exit(&samples[0]), peer, aim }
    };
    let both = "**/*.clnrm.toml";
    let written = compare(
        "fmt, half of the files are written",
        Contender::new(command(CLNRM, &["fmt"])).prepared(cold),
        Contender::new(taplo(&["fmt", both])).prepared(|| lay_out(root, files)),
        "1/3",
    );
    let check = compare(
        "fmt --check, nothing is known",
        Contender::new(command(CLNRM, &["fmt", "--check"])).prepared(cold).ending_with(1),
        Contender::new(taplo(&["fmt", "--check", both]))
            .prepared(|| lay_out(root, files))
            .ending_with(1),
        "500 ms",
    );
    timing::succeed(&mut command(CLNRM, &["fmt"]));
    timing::succeed(&mut command(CLNRM, &["fmt", "--check"]));
    let known = compare(
        "fmt --check, all is known",
        Contender::new(command(CLNRM, &["fmt", "--check"])),
        Contender::new(taplo(&["fmt", "--check", both])),
        "25 ms",
    );
    vec![written, check, known]
}
