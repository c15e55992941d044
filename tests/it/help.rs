//! What helps to use it: examples that can be typed, and words that are completed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::case::{Case, clnrm, wait_until};
use crate::engines::podman;

/// A workspace in which every example has something to do.
const FIXTURE: &str = r#"
//- /tests/api/orders.clnrm.toml
[meta]
name = "orders"
version = "1"
tags = ["smoke", "api"]

[services.db]
args = ["sh", "-c", "echo up; exec sleep 60"]

[[scenario]]
name = "an order is found"
service = "db"
run = "true"

//- /tests/api.clnrm.toml
[meta]
name = "api"
version = "1"
tags = ["slow"]

[[scenario]]
name = "it answers"
run = "true"

//- /tests/api.clnrm.toml.tera
[meta]
name = "{{ svc }} from a template"
version = "1"

[[scenario]]
name = "it answers, too"
run = "true"
"#;

/// One to be kept.
const KEPT: &str = r#"
[meta]
name = "kept"

[services.db]
args = ["sleep", "60"]

[[scenario]]
name = "an order is kept"
service = "db"
run = "false"
"#;

/// A workspace with the programs of others that examples pipe into, and clnrm by its name.
fn case() -> Case {
    let mut case = Case::new(FIXTURE);
    let programs = case.beside("bin");
    fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(clnrm(), programs.join("clnrm")).unwrap();
    for other in ["dot", "man"] {
        let program = programs.join(other);
        fs::write(&program, "#!/bin/sh\nexec cat\n").unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }
    let home = case.beside("home");
    fs::create_dir_all(&home).unwrap();
    let path = std::env::var("PATH").unwrap();
    case.set_env("PATH", &format!("{}:{path}", programs.display()));
    case.set_env("HOME", &home.display().to_string());
    case
}

/// All commands, as the help names them.
fn commands(case: &Case) -> Vec<String> {
    let help = case.clnrm(&["--help"]).stdout;
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split_whitespace().next()?;
        line.chars().nth(2).is_some_and(|c| c != ' ').then(|| name.to_owned())
    });
    names.filter(|name| name != "help").collect()
}

fn examples(case: &Case, command: &str) -> Vec<String> {
    let help = case.clnrm(&[command, "--help"]).stdout;
    let examples = help.split("\nExample").nth(1).unwrap_or_default().lines().skip(1);
    examples.map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// How an example ends that does not end with 0.
fn ends(example: &str) -> i32 {
    match example {
        // Nothing is known yet.
        "clnrm run --frozen" => 1,
        // Keys are in another order.
        "clnrm fmt --check tests/api" => 1,
        // It has no description.
        "clnrm lint --deny warnings" => 3,
        // Nothing has run, and nothing is up.
        "clnrm logs" | "clnrm logs \"an order is found\" tests/api" | "clnrm services logs db" => 4,
        _ if example.starts_with("clnrm watch") => 130,
        _ => 0,
    }
}

fn try_out(example: &str) {
    let case = case();
    let keeping = example.starts_with("clnrm shell").then(|| {
        case.write("kept.clnrm.toml", KEPT);
        let keeping = case.start(&["run", "--keep", "kept.clnrm.toml"]);
        wait_until("it is kept", Duration::from_secs(30), || {
            case.clnrm(&["shell", "an order is kept", "--", "true"]).exit == Some(0)
        });
        keeping
    });
    if example.contains("ci.redb && ") {
        assert_eq!(case.run(&[]).exit, Some(0));
        assert_eq!(case.clnrm(&["cache", "export", "ci.redb"]).exit, Some(0));
    }
    if example.starts_with("clnrm cache export") {
        assert_eq!(case.run(&[]).exit, Some(0));
    }
    let script = format!("trap : INT; {example}");
    let mut command = case.program("setsid", &["sh", "-c", &script]);
    let output = case.beside("output");
    let file = || Stdio::from(fs::File::options().append(true).create(true).open(&output).unwrap());
    let mut child = command.stdin(Stdio::null()).stdout(file()).stderr(file()).spawn().unwrap();
    let told = || fs::read_to_string(&output).unwrap_or_default();
    if example.starts_with("clnrm watch") {
        wait_until("it watches", Duration::from_secs(30), || told().contains("watching"));
        kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    }
    let exit = child.wait().unwrap().code();
    assert_eq!(exit, Some(ends(example)), "{example}\n{}", told());
    drop(keeping);
}

#[test]
fn every_example_can_be_typed() {
    let case = case();
    let (commands, mut tried) = (commands(&case), 0);
    assert!(commands.len() >= 20, "{commands:?}");
    for command in commands {
        let examples = examples(&case, &command);
        assert!(!examples.is_empty(), "{command} has no examples");
        for example in examples {
            if example.contains("podman") && podman("help::every_example_can_be_typed").is_none() {
                continue;
            }
            eprintln!("{example}");
            try_out(&example);
            tried += 1;
        }
    }
    assert!(tried > 35, "{tried}");
}

#[test]
fn tags_and_scenarios_are_completed() {
    let case = case();
    let complete = |words: &[&str]| {
        let asked = format!("_CLAP_COMPLETE_INDEX={}", words.len() - 1);
        let ask = ["env", "CLNRM_COMPLETE=bash", "_CLAP_IFS=\n", &asked, clnrm(), "--"];
        let mut command = case.program(ask[0], &[&ask[1..], words].concat());
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["clnrm", "run", "--tag", ""]), ["api", "slow", "smoke"]);
    assert_eq!(complete(&["clnrm", "run", "--tag", "s"]), ["slow", "smoke"]);
    assert_eq!(complete(&["clnrm", "run", "--backend", "p"]), ["podman"]);
    assert!(complete(&["clnrm", "wat"]).contains(&"watch".to_owned()));
    let scenarios = complete(&["clnrm", "logs", "it"]);
    assert_eq!(scenarios, ["it answers", "it answers, too"]);
    assert!(!case.root().join(".clnrm").exists(), "it writes nothing");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = case.clnrm(&["completions", shell]);
        assert!(script.stdout.contains("CLNRM_COMPLETE"), "{shell}: {}", script.seen());
    }
}
