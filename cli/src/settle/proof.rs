//! The model test: after any sequence of edits, restarts and crashes the report is that of a
//! clean build, and nothing ran that did not have to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clnrm_backends::ActionKey;
use clnrm_engine::{Memory, Node, QueryEvent, Why};
use clnrm_queries::{Report, State};

use super::lab::{Lab, Seen};

const STEPS: u64 = 25;

#[test]
fn incremental_equals_clean() {
    // `push` takes seconds, `full` minutes.
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    let sequences = if full { 4_000 } else { 40 };
    let mut totals = Totals::default();
    for seed in 1..=sequences {
        Sequence::new(seed).play(&mut totals);
    }
    println!("{sequences} sequences: {totals:?}");
    assert!(totals.executed * 2 < totals.clean_executed, "most work is done once: {totals:?}");
}

#[derive(Debug, Default)]
#[allow(dead_code, reason = "printed")]
struct Totals {
    steps: u64,
    restarts: u64,
    executed: usize,
    runs: usize,
    clean_executed: usize,
    clean_runs: usize,
}

struct Sequence {
    seed: u64,
    random: Random,
    lab: Lab,
    /// Outcomes that are known, by what was run and written down, with how long their services got to
    /// export spans.
    known: BTreeMap<ActionKey, Duration>,
    /// Nodes that are remembered.
    remembered: BTreeSet<Node>,
    /// Actions of tests that failed when they were last looked at.
    failed: BTreeSet<ActionKey>,
}

impl Sequence {
    fn new(seed: u64) -> Sequence {
        Sequence {
            seed,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            lab: Lab::new(&Memory::default()),
            known: BTreeMap::new(),
            remembered: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    fn play(&mut self, totals: &mut Totals) {
        for step in 0..STEPS {
            for _ in 0..=self.random.below(3) {
                self.edit();
            }
            self.lab.backend.take_ran();
            let crash = self.random.below(6) == 0;
            let seen = if crash { self.lab.settle() } else { self.lab.run() };
            let mut clean = self.lab.clean();
            let expected = clean.settle();
            let at = format!("seed {} step {step}", self.seed);
            assert_eq!(seen.reports, expected.reports, "incremental is not clean: {at}");
            self.check_minimal(&seen, &at);
            totals.steps += 1;
            totals.executed += executed(&seen).count();
            totals.runs += seen.runs;
            totals.clean_executed += executed(&expected).count();
            totals.clean_runs += expected.runs;
            if crash {
                // What was learned may be lost; what was not written down may have to run again.
                self.known.clear();
                self.remembered.clear();
                self.lab.restart();
                totals.restarts += 1;
            } else if self.random.below(4) == 0 {
                self.lab.restart();
                totals.restarts += 1;
            }
        }
    }

    fn check_minimal(&mut self, seen: &Seen, at: &str) {
        let ran = self.lab.backend.take_ran();
        let once: BTreeMap<ActionKey, Duration> = ran.iter().copied().collect();
        assert_eq!(ran.len(), once.len(), "an action ran twice: {at}");
        let now_failed = keys(&seen.reports, |report| report.state() == State::Failed);
        for (key, settle) in &once {
            let again = self.failed.contains(key) || now_failed.contains(key);
            let known = self.known.get(key).is_some_and(|settled| settled >= settle);
            assert!(again || !known, "a known outcome was run for: {at}");
        }
        self.known.extend(once);
        self.failed = now_failed;
        for (node, why) in executed(seen) {
            // These may rest on an outcome that is not known yet, and are not remembered then.
            if ["exporters", "gaps", "outcome", "traces", "verdict", "report"].contains(&node.query)
            {
                continue;
            }
            let forgotten = *why == Why::New && self.remembered.contains(node);
            assert!(!forgotten, "{node} was remembered and ran as new: {at}");
            self.remembered.insert(node.clone());
        }
    }

    fn edit(&mut self) {
        let files = self.lab.files.clone();
        let test = format!("tests/t{}.clnrm.toml", self.random.below(4));
        let library = format!("tests/_l{}.toml.tera", self.random.below(2));
        match self.random.below(14) {
            0..=3 => files.write(&test, self.test()),
            4 => files.remove(&test),
            5 => files.write(&library, self.library()),
            6 => files.remove(&library),
            7 => files.write("data/note", format!("{}", self.random.below(3))),
            8 => {
                let value = self.random.below(3).to_string();
                files.set_env(
                    "WORD",
                    Some(&value).filter(|value| *value != "0").map(|v| v.as_str()),
                );
            }
            9 => {
                let id = format!("id{}", self.random.below(2));
                let mut images = self.lab.backend.images.lock().expect("no holder panics");
                if self.random.below(3) == 0 {
                    images.clear()
                } else {
                    images.insert("busybox".into(), id);
                }
            }
            10 => files.write(
                "clnrm.toml",
                ["default_image = \"busybox\"\n", "jobs = 2\n", "", "x ="]
                    [self.random.below(4) as usize],
            ),
            11 => {
                // A comment, or the very same text saved again.
                if let Some(mut text) = files.content(&test) {
                    if self.random.below(2) == 0 {
                        text.extend_from_slice(b"\n# a comment\n");
                    }
                    files.write(&test, text);
                }
            }
            12 if self.random.below(6) == 0 => {
                self.lab.forget();
                self.known.clear();
                self.remembered.clear();
            }
            _ => {}
        }
    }

    fn test(&mut self) -> String {
        let library = format!("_l{}.toml.tera", self.random.below(2));
        let mut text = String::new();
        let template = self.random.below(2) == 0;
        if template {
            text += &format!("{{% import \"{library}\" as lib %}}");
        }
        text += &format!("[meta]\nname = \"n{}\"\n", self.random.below(3));
        let mounts = self.random.below(3) == 0;
        if mounts {
            text += "[services.app]\nvolumes = [\"data/note:/note:ro\"]\n";
        }
        for scenario in 0..=self.random.below(2) {
            text += &format!("[[scenario]]\nname = \"s{scenario}\"\n");
            if mounts {
                text += "service = \"app\"\n";
            }
            let run = match self.random.below(6) {
                0 if template => {
                    "{{ lib::run(word=env(name=\"WORD\", default=\"d\")) }}".to_owned()
                }
                1 => "exit 1".to_owned(),
                2 => format!("echo {}", self.random.below(3)),
                _ => format!("span work{}", self.random.below(2)),
            };
            text += &format!("run = \"{run}\"\n");
        }
        match self.random.below(6) {
            0 => text += "[[expect.span]]\nname = \"work1\"\n",
            1 => {
                text += &format!(
                    "[expect.counts]\nspans_total = {{ max = {} }}\n",
                    self.random.below(3)
                )
            }
            2 => text += "[[expect.span]]\nname = \"clnrm.run\"\n",
            3 => text += "bad =\n",
            _ => {}
        }
        text
    }

    fn library(&mut self) -> String {
        let word = ["echo", "span", "exit"][self.random.below(3) as usize];
        let more = if self.random.below(3) == 0 { "{# more #}" } else { "" };
        format!("{more}{{% macro run(word) %}}{word} {{{{ word }}}}{{% endmacro run %}}")
    }
}

fn executed(seen: &Seen) -> impl Iterator<Item = (&Node, &Why)> {
    seen.events.iter().filter_map(|event| match event {
        QueryEvent::Executed { node, why, .. } => Some((node, why)),
        _ => None,
    })
}

fn keys(reports: &[Report], wanted: impl Fn(&Report) -> bool) -> BTreeSet<ActionKey> {
    let reports = reports.iter().filter(|report| wanted(report));
    reports.flat_map(|report| &report.scenarios).filter_map(|scenario| scenario.key).collect()
}

/// Marsaglia's xorshift: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
