//! The model test: after any sequence of edits, restarts, crashes and restores, roots are what a
//! naive evaluator without a memory says, and nothing ran that did not have to. And the faults it
//! must catch.
//!
//! The language: a file holds words. `@f3` stands for the words of another file, `$A` for a
//! variable, `*d0` for the names in a folder, `^d0` mounts one, `!` asks for an effect.

mod crash;
mod damage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tempfile::TempDir;

use crate::fault::Fault;
use crate::{
    AnyQuery, Checking, Content, Cx, Digest, Engine, Keep, Leaf, ListedKind, Memory, Options,
    Query, QueryEvent, Stopped, Unit,
};

static TEXT: Query<Option<String>> = Query::new("text", 1, text);
static WORDS: Query<Vec<String>> = Query::new("words", 1, words);
static ANSWER: Query<Answer> = Query::new("answer", 1, answer).kept();
static QUERIES: [&dyn AnyQuery; 3] = [&TEXT, &WORDS, &ANSWER];

/// The words of a file, and what came of asking when it asks: `Err` with the question as long as
/// that is not known.
type Answer = (Vec<String>, Option<Result<String, Question>>);

/// A key, and the mounted folders with their digests.
type Question = (Digest, Vec<(String, Digest)>);

fn text(cx: &Cx<'_>, unit: &Unit) -> Option<String> {
    match cx.file(&unit.path) {
        Content::Bytes(bytes) => Some(without_comments(&String::from_utf8_lossy(&bytes))),
        _ => None,
    }
}

fn words(cx: &Cx<'_>, unit: &Unit) -> Vec<String> {
    let text = cx.get(&TEXT, unit);
    let Some(text) = text.as_ref() else { return vec!["(none)".to_owned()] };
    let expand = |word: &str| match word.split_at(1) {
        ("@", name) => cx.get(&WORDS, &Unit::file(name)).to_vec(),
        ("$", name) => vec![cx.env(name).unwrap_or_else(|| "(unset)".to_owned())],
        ("*", folder) => {
            let entries = cx.list(folder).unwrap().unwrap_or_default();
            let files = entries.into_iter().filter(|entry| entry.kind == ListedKind::File);
            files.map(|entry| entry.name.unwrap()).collect()
        }
        _ => vec![word.to_owned()],
    };
    text.split_whitespace().flat_map(expand).collect()
}

fn answer(cx: &Cx<'_>, unit: &Unit) -> Answer {
    let words = cx.get(&WORDS, unit).to_vec();
    if !words.iter().any(|word| word == "!") {
        return (words, None);
    }
    let folders = words.iter().filter_map(|word| word.strip_prefix('^'));
    let mounted = folders.filter_map(|folder| Some((folder.to_owned(), cx.tree(folder).ok()??)));
    let mounted: Vec<(String, Digest)> = mounted.collect();
    let mut parts: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    parts.extend(mounted.iter().map(|(_, digest)| &digest.0[..]));
    let key = Digest::of_parts("ask", &parts);
    let answer = cx.effect(key).map(|value| String::from_utf8_lossy(&value).into_owned());
    (words, Some(answer.ok_or((key, mounted))))
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Something that happens; after each of them everything is asked for.
#[derive(Clone, Debug)]
enum Step {
    Write(u8, String),
    /// Times change, and nothing else.
    Touch(u8),
    /// The modification time is set back.
    Overwrite(u8, String),
    /// Twice in one moment, with a look in between, and of one size.
    AtOnce(u8),
    /// What it was before its last change.
    Back(u8),
    Comment(u8),
    Remove(u8),
    Rename(u8, u8),
    Env(u8, Option<u8>),
    /// A file changes, and what is asked for then is given up after so many nodes.
    GivenUp(u8, String, u32),
    /// A file changes while an effect runs.
    Meanwhile(u8, String),
    Restart,
    /// What was not written down is lost.
    Crash,
    StoreDeleted,
    /// A copy that was made earlier is put back.
    StoreRestored,
    /// The workspace and its store are copied: every stat is another.
    Moved,
}

const FILES: u8 = 5;

fn path(file: u8) -> String {
    format!("d{}/f{}", file % 2, file % FILES)
}

fn content() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        4 => (0..3u8).prop_map(|word| format!("w{word}")),
        4 => (0..FILES).prop_map(|further| format!("@{further}")),
        2 => (0..2u8).prop_map(|name| format!("$V{name}")),
        2 => (0..3u8).prop_map(|folder| format!("*d{folder}")),
        2 => (0..2u8).prop_map(|folder| format!("^d{folder}")),
        3 => Just("!".to_owned()),
    ];
    prop::collection::vec(word, 0..5).prop_map(|words| words.join(" "))
}

/// Files include only those with larger numbers, so that no circle comes about.
fn written_in(file: u8, text: &str) -> String {
    let word = |word: &str| match word.strip_prefix('@').and_then(|further| further.parse().ok()) {
        Some(further) if file + 1 + further < FILES => format!("@{}", path(file + 1 + further)),
        Some::<u8>(_) => "last".to_owned(),
        None => word.to_owned(),
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

fn step() -> impl Strategy<Value = Step> {
    let file = || 0..FILES;
    prop_oneof![
        6 => (file(), content()).prop_map(|(file, text)| Step::Write(file, text)),
        1 => file().prop_map(Step::Touch),
        2 => (file(), content()).prop_map(|(file, text)| Step::Overwrite(file, text)),
        2 => file().prop_map(Step::AtOnce),
        3 => file().prop_map(Step::Back),
        2 => file().prop_map(Step::Comment),
        2 => file().prop_map(Step::Remove),
        1 => (file(), file()).prop_map(|(a, b)| Step::Rename(a.max(b), a.min(b))),
        2 => (0..2u8, prop::option::of(0..3u8)).prop_map(|(name, value)| Step::Env(name, value)),
        2 => (file(), content(), 1..9u32).prop_map(|(file, text, n)| Step::GivenUp(file, text, n)),
        2 => (file(), content()).prop_map(|(file, text)| Step::Meanwhile(file, text)),
        4 => Just(Step::Restart),
        2 => Just(Step::Crash),
        1 => Just(Step::StoreDeleted),
        1 => Just(Step::StoreRestored),
        1 => Just(Step::Moved),
    ]
}

/// What each remembered node has read, as the naive evaluator tells it.
type Remembered = HashMap<(String, &'static str), String>;

/// A folder in memory where there is a file system for that: there are a great many commits.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

struct Model {
    files: Memory,
    folder: TempDir,
    engine: Engine,
    /// What files held before their last change.
    earlier: HashMap<u8, Option<Vec<u8>>>,
    /// What is remembered now, and what of it is written down.
    remembered: Remembered,
    written: Remembered,
    /// An earlier store, and what it has.
    copy: Option<(Vec<u8>, Remembered)>,
    counts: Totals,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    steps: u64,
    executed: u64,
    effects: u64,
}

impl Model {
    fn new() -> Model {
        let files = Memory::default();
        let folder = in_memory();
        let engine = engine(&files, folder.path().join("store"));
        let (earlier, remembered, written, copy, counts) = Default::default();
        Model { files, folder, engine, earlier, remembered, written, copy, counts }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn restart(&mut self) {
        self.engine = engine(&self.files, self.store());
        self.remembered = self.written.clone();
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.run(None)?;
        for step in steps {
            let mut meanwhile = None;
            if let Step::Write(file, _)
            | Step::Overwrite(file, _)
            | Step::GivenUp(file, ..)
            | Step::Meanwhile(file, _)
            | Step::Comment(file)
            | Step::Remove(file) = *step
            {
                self.earlier.insert(file, self.files.content(&path(file)));
            }
            match step.clone() {
                Step::Write(file, text) => self.files.write(&path(file), written_in(file, &text)),
                Step::Touch(file) => self.files.touch(&path(file)),
                Step::Overwrite(file, text) => {
                    self.files.overwrite(&path(file), written_in(file, &text))
                }
                Step::AtOnce(file) => {
                    for word in ["w0", "w1"] {
                        self.files.overwrite_at_once(&path(file), word);
                        self.run(None)?;
                    }
                }
                Step::Back(file) => match self.earlier.remove(&file).flatten() {
                    Some(text) => self.files.write(&path(file), text),
                    None => self.files.remove(&path(file)),
                },
                Step::Comment(file) => {
                    if let Some(mut text) = self.files.content(&path(file)) {
                        text.extend(b"\n# more");
                        self.files.write(&path(file), text);
                    }
                }
                Step::Remove(file) => self.files.remove(&path(file)),
                Step::Rename(from, to) => {
                    if let Some(text) = self.files.content(&path(from)) {
                        self.files.remove(&path(from));
                        self.files.write(&path(to), text);
                    }
                }
                Step::Env(name, value) => {
                    let value = value.map(|value| format!("v{value}"));
                    self.files.set_env(&format!("V{name}"), value.as_deref());
                    // Variables do not change while a process runs.
                    self.engine.commit();
                    self.written = self.remembered.clone();
                    self.restart();
                }
                Step::GivenUp(file, text, nodes) => {
                    self.files.write(&path(file), written_in(file, &text));
                    self.give_up_after(nodes)?;
                }
                Step::Meanwhile(file, text) => {
                    meanwhile = Some((path(file), written_in(file, &text)));
                }
                Step::Restart => {
                    self.engine.commit();
                    self.written = self.remembered.clone();
                    self.restart();
                }
                Step::Crash => self.restart(),
                Step::StoreDeleted => {
                    self.engine.clear_store().unwrap();
                    self.written.clear();
                    self.restart();
                }
                Step::StoreRestored => {
                    if let Some((bytes, remembered)) = self.copy.clone() {
                        std::fs::write(self.store(), bytes).unwrap();
                        self.written = remembered;
                        self.restart();
                    }
                }
                Step::Moved => {
                    self.engine.commit();
                    self.written = self.remembered.clone();
                    self.files = self.files.fork();
                    for file in self.files.paths() {
                        self.files.touch(&file);
                    }
                    let bytes = std::fs::read(self.store()).ok();
                    self.folder = in_memory();
                    match bytes {
                        Some(bytes) => std::fs::write(self.store(), bytes).unwrap(),
                        None => self.written.clear(),
                    }
                    self.restart();
                }
            }
            self.run(meanwhile)?;
            let random = self.counts.steps % 3;
            if random != 0 {
                self.engine.commit();
                self.written = self.remembered.clone();
            }
            if random == 1 {
                self.copy =
                    std::fs::read(self.store()).ok().map(|bytes| (bytes, self.written.clone()));
            }
        }
        Ok(())
    }

    fn units(&self) -> Vec<Unit> {
        (0..FILES).map(|file| Unit::file(path(file))).collect()
    }

    fn ask(&mut self) -> Result<Vec<Answer>, TestCaseError> {
        let answers = self.engine.roots(&ANSWER, &self.units()).into_iter();
        let answer = |answer: Result<Arc<Answer>, Stopped>| match answer {
            Ok(answer) => Ok((*answer).clone()),
            Err(stopped) => Err(TestCaseError::fail(stopped.to_string())),
        };
        answers.map(answer).collect()
    }

    /// Asks for everything, and gives up in the midst of it: what is known by then is right.
    fn give_up_after(&mut self, nodes: u32) -> Result<(), TestCaseError> {
        self.engine.sync();
        self.engine.cancellation().cancel_after(Some(nodes));
        let units = self.units();
        let answers = self.engine.roots(&ANSWER, &units);
        self.engine.cancellation().cancel_after(None);
        for (unit, answer) in units.iter().zip(answers) {
            match answer {
                Ok(answer) => prop_assert_eq!(&answer.0, &self.words(&unit.path, false)),
                Err(stopped) => prop_assert_eq!(stopped, Stopped::Cancelled),
            }
        }
        self.check_minimal()
    }

    /// Settles everything and compares; `meanwhile` is an edit during the first effect.
    fn run(&mut self, mut meanwhile: Option<(String, String)>) -> Result<(), TestCaseError> {
        self.counts.steps += 1;
        self.engine.sync();
        for round in 0.. {
            prop_assert!(round < 20, "it settles");
            let answers = self.ask()?;
            self.check_minimal()?;
            let open = answers.iter().find_map(|(words, answer)| match answer {
                Some(Err(question)) => Some((words.clone(), question.clone())),
                _ => None,
            });
            let Some((words, (key, mounted))) = open else { return self.compare(&answers) };
            if let Some((path, text)) = meanwhile.take() {
                self.files.write(&path, text);
            }
            // What runs sees the world as it is by then.
            self.counts.effects += 1;
            let value = self.outcome(&words);
            let inputs = mounted.into_iter();
            let inputs: Vec<(Leaf, Digest)> = inputs
                .map(|(folder, digest)| (Leaf::Tree(folder.as_str().into()), digest))
                .collect();
            self.engine.set_effect(key, value.as_bytes(), Keep::Value, &inputs);
            self.engine.sync();
        }
        Ok(())
    }

    fn compare(&mut self, answers: &[Answer]) -> Result<(), TestCaseError> {
        for (unit, (words, answer)) in self.units().iter().zip(answers) {
            let expected = self.words(&unit.path, false);
            let asks = expected.iter().any(|word| word == "!");
            let outcome = asks.then(|| Ok(self.outcome(&expected)));
            prop_assert_eq!((words, answer), (&expected, &outcome), "{}", unit.path);
        }
        prop_assert_eq!(self.engine.take_impure(), vec![]);
        prop_assert_eq!(self.engine.take_store_trouble(), Vec::<String>::new());
        Ok(())
    }

    /// No node runs whose reads are those it is remembered with.
    fn check_minimal(&mut self) -> Result<(), TestCaseError> {
        for event in self.engine.take_events() {
            let (node, executed) = match event {
                QueryEvent::Executed { node, .. } => (node, true),
                QueryEvent::Recalled(node) => (node, false),
                QueryEvent::RootsRecalled(..) => continue,
            };
            let reads = match node.query {
                "text" => format!("{:?}", self.files.content(&node.unit.path)),
                "words" => format!("{:?}", self.words(&node.unit.path, true)),
                // It may rest on an effect that is not known, and is not remembered then.
                _ => continue,
            };
            self.counts.executed += u64::from(executed);
            let key = (node.unit.path.to_string(), node.query);
            let before = self.remembered.insert(key, reads.clone());
            let again = executed && before.as_ref() == Some(&reads);
            prop_assert!(!again, "{node} ran again on the same reads: {reads}");
        }
        Ok(())
    }

    /// The words of a file, found without any memory; with `direct`, after its text, and with what
    /// tells its reads apart: which words are whose, and that an empty folder is not an absent one.
    fn words(&self, path: &str, direct: bool) -> Vec<String> {
        let Some(bytes) = self.files.content(path) else { return vec!["(none)".to_owned()] };
        let text = without_comments(&String::from_utf8_lossy(&bytes));
        let mut words = if direct { vec![text.clone()] } else { Vec::new() };
        for word in text.split_whitespace() {
            match word.split_at(1) {
                ("@", name) => {
                    let further = self.words(name, false);
                    if direct {
                        words.push(format!("({} words)", further.len()));
                    }
                    words.extend(further);
                }
                ("$", name) => {
                    let value = crate::System::env(&self.files, name);
                    words.push(value.unwrap_or_else(|| "(unset)".to_owned()));
                }
                ("*", folder) => {
                    if direct && crate::System::stat(&self.files, folder.as_ref()).is_ok() {
                        words.push("(a folder)".to_owned());
                    }
                    let prefix = format!("{folder}/");
                    let names = self.files.paths().into_iter();
                    words.extend(names.filter_map(|p| p.strip_prefix(&prefix).map(str::to_owned)));
                }
                _ => words.push(word.to_owned()),
            }
        }
        words
    }

    /// How a question comes out now: it sees what it mounts.
    fn outcome(&self, words: &[String]) -> String {
        let below = |folder: &str| {
            let prefix = format!("{folder}/");
            let paths = self.files.paths().into_iter().filter(move |p| p.starts_with(&prefix));
            let content =
                |p: &String| String::from_utf8_lossy(&self.files.content(p).unwrap()).into_owned();
            paths.map(|p| format!("{p}={}", content(&p))).collect::<Vec<_>>().join(",")
        };
        let folders = words.iter().filter_map(|word| word.strip_prefix('^'));
        let seen: Vec<String> = folders.map(below).collect();
        format!("{} sees {}", words.join(" "), seen.join(";"))
    }
}

fn engine(files: &Memory, store: PathBuf) -> Engine {
    Engine::new(Options {
        system: Arc::new(files.clone()),
        facts: Arc::new(|_, _| None),
        tool: b"proof",
        queries: &QUERIES,
        store: Some(store),
        checking: Checking::Sample(5),
        trust: Default::default(),
    })
}

/// `push` takes seconds, `full` an hour.
fn sequences() -> u32 {
    match std::env::var("CLNRM_PROOF").as_deref() {
        Ok("full") => 100_000,
        Ok("fault") => 1_000,
        _ => 1_000,
    }
}

#[test]
fn incremental_equals_naive() {
    let config = Config {
        cases: sequences(),
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let counts = std::cell::Cell::new(Totals::default());
    let mut runner = if std::env::var("CLNRM_PROOF").as_deref() == Ok("fault") {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    } else {
        TestRunner::new(config)
    };
    let result = runner.run(&prop::collection::vec(step(), 1..25), |steps| {
        let mut model = Model::new();
        model.play(&steps)?;
        let Totals { steps, executed, effects } = counts.get();
        counts.set(Totals {
            steps: steps + model.counts.steps,
            executed: executed + model.counts.executed,
            effects: effects + model.counts.effects,
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    println!("{} sequences: {:?}", sequences(), counts.get());
}

#[test]
fn equal_words_of_other_files_are_other_reads() {
    let none = || Step::Write(4, String::new());
    let steps = [none(), Step::Write(0, "@3 @1".to_owned()), Step::Rename(4, 2)];
    Model::new().play(&steps).unwrap();
}

#[test]
fn a_folder_without_files_is_not_an_absent_one() {
    let listed = || Step::Write(1, "*d0".to_owned());
    let made_and_emptied = [Step::Write(0, String::new()), Step::Back(0)];
    let steps = [&[listed(), Step::Back(2), Step::Back(0)], &made_and_emptied[..]].concat();
    Model::new().play(&[steps, vec![Step::StoreRestored]].concat()).unwrap();
}

#[test]
fn another_version_of_a_query_is_another_query() {
    static OTHER_TEXT: Query<Option<String>> = Query::new("text", 2, |_, _| Some("w9".to_owned()));
    let model = Model::new();
    model.files.write(&path(0), "w0");
    let ask = |queries: &[&'static dyn AnyQuery]| {
        let mut engine = Engine::new(Options {
            system: Arc::new(model.files.clone()),
            facts: Arc::new(|_, _| None),
            tool: b"proof",
            queries,
            store: Some(model.store()),
            checking: Checking::Nothing,
            trust: Default::default(),
        });
        let answer = engine.roots(&ANSWER, &[Unit::file(path(0))]).pop().unwrap().unwrap();
        engine.commit();
        answer.0.clone()
    };
    assert_eq!(ask(&QUERIES), ["w0"]);
    assert_eq!(ask(&[&OTHER_TEXT, &WORDS, &ANSWER]), ["w9"]);
    assert_eq!(ask(&QUERIES), ["w0"]);
}

/// Each fault, and a test that catches it.
const FAULTS: [(Fault, &str); 31] = [
    (Fault::FileNotRecorded, MODEL),
    (Fault::NodeNotRecorded, MODEL),
    (Fault::AbsenceNotRecorded, MODEL),
    (Fault::EnvNotRecorded, MODEL),
    (Fault::ListingNotRecorded, MODEL),
    (Fault::TreeNotRecorded, MODEL),
    (Fault::EffectNotRecorded, "effects_are_asked_for_once_they_last"),
    (Fault::ToolNotRead, "another_version_of_a_query_is_another_query"),
    (Fault::VersionNotInTool, "another_version_of_a_query_is_another_query"),
    (Fault::RacyStatTrusted, MODEL),
    (Fault::TimesIgnored, MODEL),
    (Fault::OnlyFirstReadVerified, MODEL),
    (Fault::LeavesNotVerified, MODEL),
    (Fault::StagedIgnored, "what_is_taken_back_unseen_runs_nothing"),
    (Fault::StoredHitLeavesStaged, "going_back_runs_nothing_twice"),
    (Fault::PassingEffectStored, "effects_are_asked_for_once_they_last"),
    (Fault::ForgottenEffectRecalled, "effects_are_asked_for_once_they_last"),
    (Fault::ShallowRoots, MODEL),
    (Fault::RootsIgnoreEnv, MODEL),
    (Fault::RootsIgnoreOwnFile, MODEL),
    (Fault::ContradictedRootsKept, "effects_are_asked_for_once_they_last"),
    (Fault::InputsNotRefreshed, MODEL),
    (Fault::StateNotForgotten, MODEL),
    (Fault::EveryMemoEqual, MODEL),
    (Fault::InputsOfEffectsNotChecked, "an_effect_of_a_changed_input_is_not_known"),
    (Fault::OtherContentReturned, "a_file_that_changes_while_it_is_read_is_looked_at_again"),
    (Fault::UnitRowReplaced, MODEL),
    (Fault::DigestsNotFramed, "parts_are_framed"),
    (Fault::ChecksumsNotChecked, "a_row_that_was_changed_is_no_row"),
    (Fault::SignaturesNotChecked, "whose_outcomes_are_reused_is_a_matter_of_trust"),
    (Fault::SecretsNotKeyed, "a_secret_has_another_digest_in_every_store"),
];

const MODEL: &str = "incremental_equals_naive";

#[test]
fn every_fault_is_caught() {
    let mut missed = Vec::new();
    for (fault, test) in FAULTS {
        let name = format!("{fault:?}");
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--test-threads=1"])
            .envs([("CLNRM_FAULT", name.as_str()), ("CLNRM_PROOF", "fault")])
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Some faults make it go round for ever.
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if began.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let caught = status.is_none_or(|status| !status.success());
        println!("{name:30} {} by {test}", if caught { "caught" } else { "MISSED" });
        if !caught {
            missed.push(name);
        }
    }
    assert_eq!(missed, [""; 0], "of {} faults", FAULTS.len());
}
