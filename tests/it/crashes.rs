//! Processes that are killed, and many at once: whoever comes next is right.

use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Case, Running};

/// How much is tried: what every push bears, or what is run by hand.
fn rounds(push: usize, full: usize) -> usize {
    if std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full") { full } else { push }
}

const FILES: usize = 24;

fn file(number: usize, version: usize) -> (String, String) {
    let text = format!(
        "[meta]\nname = \"t{number}\"\nversion = \"1.{version}\"\n\n\
         [[scenario]]\nname = \"s\"\nrun = \"echo {number} {version}\"\n"
    );
    (format!("t{number}.clnrm.toml"), text)
}

fn workspace() -> Case {
    let case = Case::new("");
    for number in 0..FILES {
        let (path, text) = file(number, 0);
        case.write(&path, text);
    }
    case
}

/// What a dry run that remembers nothing says.
fn naive(case: &Case) -> String {
    said(case.clnrm(&["dry-run", "--no-cache", "--format", "json"]).stdout)
}

/// All of a report but what it took.
fn said(json: String) -> String {
    let mut report: serde_json::Value = serde_json::from_str(&json).expect("it is a report");
    report.as_object_mut().unwrap().retain(|key, _| ["tests", "diagnostics"].contains(&&**key));
    assert!(!report.as_object().unwrap().is_empty());
    report.to_string()
}

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn whoever_comes_after_a_kill_is_right() {
    let case = workspace();
    let began = Instant::now();
    case.clnrm(&["dry-run"]);
    let took = began.elapsed().as_micros() as u64;
    let mut random = Random(1);
    let (rounds, mut killed) = (rounds(100, 2_000), 0);
    for round in 0..rounds {
        let args: &[&str] = match round % 4 {
            // The first creation.
            0 => {
                case.remove(".clnrm");
                &["dry-run"]
            }
            1 => &["cache", "gc"],
            _ => {
                let (path, text) = file(random.below(FILES as u64) as usize, round);
                case.write(&path, text);
                &["dry-run"]
            }
        };
        let mut running = case.start(args);
        // What has less to do is killed earlier.
        let most = if round % 4 == 0 { took } else { took / 3 };
        thread::sleep(Duration::from_micros(random.below(most)));
        killed += usize::from(running.is_running());
        running.kill();
        drop(running);
        let after = case.clnrm(&["dry-run", "--format", "json"]);
        assert_eq!((after.exit, after.stderr.as_str()), (Some(0), ""), "round {round}: {args:?}");
        if round % 10 == 0 {
            assert_eq!(said(after.stdout), naive(&case), "round {round}: {args:?}");
        }
    }
    let again = case.clnrm(&["dry-run"]);
    assert!(again.stdout.contains("0 queries executed"), "{}", again.seen());
    println!("{rounds} processes, {killed} of them killed under way");
    assert!(killed > rounds / 10, "many were still running: {killed}");
}

#[test]
fn many_processes_share_a_store() {
    let rounds = rounds(20, 200);
    let mut random = Random(2);
    for round in 0..rounds {
        let case = workspace();
        let processes = [2, 4, 8][round % 3];
        let (path, text) = file(random.below(FILES as u64) as usize, round + 1);
        case.write(&path, text);
        let start = |number: usize| -> (usize, Running) {
            let args: &[&str] = match number {
                3 => &["cache", "stats"],
                5 => &["cache", "clear"],
                6 => &["cache", "gc"],
                _ => &["dry-run", "--format", "json"],
            };
            (number, case.start(args))
        };
        let running: Vec<_> = (0..processes).map(start).collect();
        let expected = naive(&case);
        for (number, running) in running {
            let ran = running.finish();
            assert_eq!(ran.exit, Some(0), "round {round}, process {number}: {}", ran.seen());
            if ![3, 5, 6].contains(&number) {
                assert_eq!(said(ran.stdout), expected, "round {round}, process {number}");
            }
        }
        let after = case.clnrm(&["dry-run", "--format", "json"]);
        assert_eq!((after.exit, after.stderr.as_str()), (Some(0), ""), "round {round}");
        assert_eq!(said(after.stdout), expected, "round {round}");
    }
    println!("{rounds} rounds of 2, 4 and 8 processes at once");
}
