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

use std::cell::Cell;
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

/// A test file as people write them; a messy one has keys in no order and spaces where none belong.
fn text(number: usize, is_messy: bool) -> String {
    let mut text = format!("# t{number}: orders through the gateway\n");
    let mut table = |header: &str, lines: &[&str]| {
        text += &format!("\n[{header}]\n");
        for line in lines {
            let (key, value) = line.split_once(" = ").expect("each is an assignment");
            text += &if is_messy { format!("{key}={value}  \n") } else { format!("{line}\n") };
        }
    };
    let name = format!("name = \"t{number}_orders\"");
    let mut meta = [r#"description = "orders through the gateway""#, &name, r#"version = "1.0.0""#];
    if is_messy {
        meta.reverse();
    }
    table("meta", &meta);
    table("otel", &[r#"exporter = "stdout""#, r#"resources = { "service.name" = "orders" }"#]);
    for service in ["gateway", "orders"] {
        let lines = [
            r#"image = "registry.test/orders:1""#,
            "ports = [8080, 9090]",
            r#"type = "generic_container""#,
            r#"wait_for = { log = "ready", timeout_ms = 5000 }"#,
        ];
        table(&format!("services.{service}"), &lines);
    }
    for step in ["create", "list", "cancel"] {
        let (run, name) = (format!("run = \"orders {step}\""), format!("name = \"{step}\""));
        table("[scenario]", &["expected_exit_code = 0", &name, &run, r#"service = "orders""#]);
        let name = format!("name = \"orders.{step}\"");
        let lines = [
            r#"attrs.all = { "component" = "orders", "result" = "pass" }"#,
            "duration_ms = { max = 500, min = 0 }",
            r#"kind = "server""#,
            &name,
        ];
        table("[expect.span]", &lines);
    }
    let edge = r#"must_include = [["orders.create", "orders.list"]]"#;
    table("expect.graph", &["acyclic = true", edge]);
    text
}

/// Writes every file anew.
fn lay_out(root: &Path, files: usize) {
    for number in 0..files {
        let folder = root.join(format!("f{}", number / 100));
        fs::create_dir_all(&folder).expect("it can be made");
        let path = folder.join(format!("t{number}.clnrm.toml"));
        fs::write(path, text(number, number % 2 == 0)).expect("it can be written");
    }
    fs::write(root.join("clnrm.toml"), "").expect("it can be written");
    // Who is timed next is not to pay for it.
    timing::succeed(&mut Command::new("sync"));
}

fn formatted(root: &Path, files: usize, has_taplo: bool) -> Vec<Row> {
    lay_out(root, files);
    let store = root.join(".clnrm");
    let command = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(root);
        command
    };
    let cold = || drop(fs::remove_dir_all(&store));
    // File systems take their time to use again what was just removed, so nothing is.
    let turns = Cell::new(0);
    let fresh = || {
        turns.set(turns.get() + 1);
        fs::rename(root, root.with_extension(turns.get().to_string())).expect("it is ours");
        lay_out(root, files);
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
        Contender::new(command(CLNRM, &["fmt"])).prepared(fresh),
        Contender::new(taplo(&["fmt", both])).prepared(fresh),
        "1/3",
    );
    fresh();
    let check = compare(
        "fmt --check, nothing is known",
        Contender::new(command(CLNRM, &["fmt", "--check"])).prepared(cold).ending_with(1),
        Contender::new(taplo(&["fmt", "--check", both])).ending_with(1),
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
