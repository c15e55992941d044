//! The engine on a language of its own: a file holds words; `@name` stands for another file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::{
    AnyQuery, Checking, Content, Counts, Cx, Digest, Engine, Fate, Keep, Memory, Options, Query,
    QueryEvent, Reason, Stopped, System, Trust, Unit, Whose,
};

static TEXT: Query<String> = Query::new("text", 1, text);
static WORDS: Query<Vec<String>> = Query::new("words", 1, words).kept();
static EFFECT: Query<Option<String>> = Query::new("effect", 1, effect).kept();
static IMPURE: Query<u64> = Query::new("impure", 1, impure);
static KEPT_IMPURE: Query<u64> = Query::new("kept-impure", 1, impure).kept();
static ABOVE_IMPURE: Query<u64> = Query::new("above-impure", 1, above_impure);

static TREE: Query<Option<Digest>> = Query::new("tree", 1, |cx, unit| cx.tree(&unit.path).unwrap());

static QUERIES: [&dyn AnyQuery; 7] =
    [&TEXT, &WORDS, &EFFECT, &IMPURE, &KEPT_IMPURE, &ABOVE_IMPURE, &TREE];

/// A file's text without comments, or `(none)`.
fn text(cx: &Cx<'_>, unit: &Unit) -> String {
    match cx.file(&unit.path) {
        Content::Bytes(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains("panic"), "told to panic");
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
        }
        Content::Absent => "(none)".to_owned(),
        Content::Unreadable(reason) => format!("({reason})"),
    }
}

fn words(cx: &Cx<'_>, unit: &Unit) -> Vec<String> {
    let text = cx.get(&TEXT, unit);
    let expand = |word: &str| match (word.strip_prefix('@'), word.strip_prefix('$')) {
        (Some(name), _) => cx.get(&WORDS, &Unit::file(name)).to_vec(),
        (_, Some(name)) => vec![cx.env(name).unwrap_or_default()],
        _ => vec![word.to_owned()],
    };
    text.split_whitespace().flat_map(expand).collect()
}

fn effect(cx: &Cx<'_>, unit: &Unit) -> Option<String> {
    let words = cx.get(&WORDS, unit).join(" ");
    let value = cx.effect(Digest::of("ask", words.as_bytes()))?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

fn impure(_: &Cx<'_>, _: &Unit) -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed)
}

fn above_impure(cx: &Cx<'_>, unit: &Unit) -> u64 {
    // Reads a file, so that it can be made to run again.
    let _ = cx.file(&unit.path);
    *cx.get(&IMPURE, unit)
}

struct Case {
    files: Memory,
    folder: TempDir,
    engine: Engine,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Case {
        let memory = Memory::default();
        files.iter().for_each(|(path, text)| memory.write(path, *text));
        let folder = TempDir::new().unwrap();
        let engine = engine(Arc::new(memory.clone()), folder.path().join("store.redb"));
        Case { files: memory, folder, engine }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store.redb")
    }

    fn restart(&mut self) {
        self.engine = engine(Arc::new(self.files.clone()), self.store());
    }

    /// The words of `a`, as roots are asked for: recalled, else computed; then written down.
    fn words(&mut self) -> String {
        self.engine.sync();
        let unit = [Unit::file("a")];
        let words = self.engine.roots(&WORDS, &unit).pop().unwrap().unwrap();
        self.engine.commit();
        words.join(" ")
    }

    fn executed(&self) -> Vec<String> {
        let events = self.engine.take_events().into_iter();
        let executed = events.filter_map(|event| match event {
            QueryEvent::Executed { node, cut_off, .. } => {
                Some(format!("{node}{}", if cut_off { " =" } else { "" }))
            }
            _ => None,
        });
        executed.collect()
    }
}

/// Of a value that is recalled, no more than that it is.
fn seen(_: &[u8]) -> Option<()> {
    Some(())
}

fn engine(system: Arc<dyn System>, store: PathBuf) -> Engine {
    Engine::new(Options {
        system,
        facts: Arc::new(|_, _| None),
        tool: b"test",
        queries: &QUERIES,
        store: Some(store),
        checking: Checking::Nothing,
        trust: Trust::default(),
    })
}

#[test]
fn a_new_process_recalls() {
    let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
    assert_eq!(case.words(), "one two");
    assert_eq!(case.executed().len(), 4);
    case.restart();
    assert_eq!(case.words(), "one two");
    assert_eq!(case.executed(), [""; 0]);
}

#[test]
fn equal_values_stop_the_wave() {
    let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
    case.words();
    case.executed();
    for restart in [false, true] {
        case.files.write("b", format!("# {restart}\ntwo"));
        if restart {
            case.restart();
        }
        assert_eq!(case.words(), "one two");
        assert_eq!(case.executed(), ["text b ="], "restart: {restart}");
    }
}

#[test]
fn absence_is_a_state() {
    let mut case = Case::new(&[("a", "one @b")]);
    assert_eq!(case.words(), "one (none)");
    case.files.write("b", "two");
    case.restart();
    assert_eq!(case.words(), "one two");
    case.files.remove("b");
    case.restart();
    assert_eq!(case.words(), "one (none)");
}

#[test]
fn a_variable_that_is_unset_is_a_state() {
    let mut case = Case::new(&[("a", "is $NAME")]);
    assert_eq!(case.words(), "is ");
    case.files.set_env("NAME", Some("set"));
    case.files.set_env("OTHER", Some("set"));
    case.restart();
    assert_eq!(case.words(), "is set");
    assert_eq!(case.executed(), ["words a"]);
}

#[test]
fn going_back_runs_nothing_twice() {
    let mut case = Case::new(&[("a", "one")]);
    for (word, executed) in [("one", 2), ("two", 2), ("one", 0)] {
        case.files.write("a", word);
        case.engine.sync();
        assert_eq!(
            case.engine.demand(&WORDS, &[Unit::file("a")])[0].as_ref().unwrap().join(" "),
            word
        );
        assert_eq!(case.executed().len(), executed, "{word}");
        if executed > 0 && word == "one" {
            case.engine.commit();
        }
    }
    // What was staged meanwhile must not be what is written down.
    case.engine.commit();
    case.restart();
    let _ = case.engine.demand(&WORDS, &[Unit::file("a")]);
    assert_eq!(case.executed(), [""; 0]);
}

#[test]
fn what_is_taken_back_unseen_runs_nothing() {
    let mut case = Case::new(&[("a", "one")]);
    let unit = [Unit::file("a")];
    let _ = case.engine.demand(&WORDS, &unit);
    case.executed();
    for word in ["two", "one"] {
        case.files.write("a", word);
        case.engine.sync();
    }
    let _ = case.engine.demand(&WORDS, &unit);
    assert_eq!(case.executed(), [""; 0], "nothing is written down yet");
}

#[test]
fn a_panic_is_told_and_disturbs_nobody() {
    let mut case = Case::new(&[("a", "panic"), ("b", "fine")]);
    let units = [Unit::file("a"), Unit::file("b")];
    let values = case.engine.demand(&WORDS, &units);
    assert_eq!(values[0], Err(Stopped::Bug("told to panic".to_owned())));
    assert_eq!(values[1].as_ref().unwrap().join(" "), "fine");
    case.engine.commit();
    case.files.write("a", "mended");
    assert_eq!(case.words(), "mended");
}

#[test]
fn effects_are_asked_for_once_they_last() {
    let mut case = Case::new(&[("a", "question")]);
    let (unit, key) = ([Unit::file("a")], Digest::of("ask", b"question"));
    let ask = |case: &mut Case| case.engine.demand(&EFFECT, &unit).pop().unwrap().unwrap();
    assert_eq!(*ask(&mut case), None);
    case.engine.commit();
    case.restart();
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_none(), "an open question is no result");
    assert_eq!(*ask(&mut case), None);
    case.engine.set_effect(key, b"passing", Keep::Earlier, &[]);
    assert_eq!(ask(&mut case).as_deref(), Some("passing"));
    case.engine.commit();
    case.restart();
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_none(), "nor is what does not last");
    assert_eq!(*ask(&mut case), None, "what does not last is not kept");
    case.engine.set_effect(key, b"lasting", Keep::Value, &[]);
    assert_eq!(ask(&mut case).as_deref(), Some("lasting"));
    case.engine.commit();
    case.restart();
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_some());
    assert_eq!(case.engine.roots(&EFFECT, &unit)[0].as_ref().unwrap().as_deref(), Some("lasting"));
    case.engine.forget_effect(key);
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_none(), "it is to be seen again");
    case.engine.set_effect(key, b"refuted", Keep::Nothing, &[]);
    case.engine.commit();
    case.restart();
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_none(), "a refuted effect is forgotten");
    case.engine.forget_effect(key);
    assert!(case.engine.recall(&EFFECT, &unit, seen)[0].is_none());
    assert_eq!(*ask(&mut case), None);
}

#[test]
fn an_effect_of_a_changed_input_is_not_known() {
    let mut case = Case::new(&[("a", "question"), ("mounted", "before")]);
    let (unit, key) = ([Unit::file("a")], Digest::of("ask", b"question"));
    let tree = crate::Leaf::Tree("mounted".into());
    let _ = case.engine.demand(&EFFECT, &unit);
    let before = Digest::of("what it was", b"");
    case.engine.set_effect(key, b"answer", Keep::Value, &[(tree, before)]);
    assert_eq!(*case.engine.demand(&EFFECT, &unit)[0].as_ref().unwrap().as_ref(), None);
    case.engine.commit();
    case.restart();
    assert_eq!(*case.engine.demand(&EFFECT, &unit)[0].as_ref().unwrap().as_ref(), None);
}

#[test]
fn what_is_said_to_have_changed_is_looked_at() {
    let mut case = Case::new(&[("d/a", "question"), ("d/b", "one")]);
    let unit = [Unit::file("d/b")];
    let words = |case: &mut Case| case.engine.demand(&WORDS, &unit)[0].as_ref().unwrap().join(" ");
    assert_eq!(words(&mut case), "one");
    case.files.write("d/b", "two");
    assert_eq!(words(&mut case), "one", "nobody has said so");
    case.engine.changed(&["d/a"]);
    assert_eq!(words(&mut case), "one", "another file was named");
    case.engine.changed(&["d/b"]);
    assert_eq!(words(&mut case), "two");
}

#[test]
fn a_mounted_file_may_be_large() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("large");
    std::fs::write(&file, vec![b'x'; 65 << 20]).unwrap();
    let digest = |at_end: &str| {
        use std::io::{Seek, Write};
        let mut open = std::fs::File::options().write(true).open(&file).unwrap();
        open.seek(std::io::SeekFrom::End(-1)).unwrap();
        open.write_all(at_end.as_bytes()).unwrap();
        let system = Arc::new(crate::Os::new(folder.path()));
        let mut engine = engine(system, folder.path().join(".clnrm/store.redb"));
        let tree = engine.demand(&TREE, &[Unit::file("large")]).pop().unwrap().unwrap();
        engine.commit();
        assert!(tree.is_some());
        *tree
    };
    let [one, other, again] = ["1", "2", "1"].map(digest);
    assert!(one != other && one == again, "{one:?} {other:?} {again:?}");
}

#[test]
fn a_query_that_is_not_pure_is_found_out() {
    let mut case = Case::new(&[("a", "one")]);
    let unit = [Unit::file("a")];
    let _ = case.engine.demand(&ABOVE_IMPURE, &unit);
    case.engine.commit();
    assert_eq!(case.engine.take_impure(), []);
    case.files.write("a", "two");
    case.restart();
    let _ = case.engine.demand(&ABOVE_IMPURE, &unit);
    let impure = case.engine.take_impure();
    assert_eq!(impure.len(), 1);
    assert_eq!(impure[0].node, IMPURE.node(&unit[0]));
    assert_ne!(impure[0].remembered, impure[0].computed);
}

#[test]
fn what_is_recalled_is_checked_when_asked_for() {
    let mut case = Case::new(&[("a", "one")]);
    let unit = [Unit::file("a")];
    let _ = case.engine.demand(&KEPT_IMPURE, &unit);
    let _ = case.engine.demand(&WORDS, &unit);
    case.engine.commit();
    for (checking, found) in
        [(Checking::Nothing, 0), (Checking::Sample(1), 1), (Checking::Everything, 1)]
    {
        case.engine = Engine::new(Options {
            system: Arc::new(case.files.clone()),
            facts: Arc::new(|_, _| None),
            tool: b"test",
            queries: &QUERIES,
            store: Some(case.store()),
            checking,
            trust: Trust::default(),
        });
        let _ = case.engine.demand(&KEPT_IMPURE, &unit);
        let _ = case.engine.demand(&WORDS, &unit);
        assert_eq!(case.executed(), [""; 0], "checking executes nothing");
        assert_eq!(case.engine.take_impure().len(), found, "{checking:?}");
    }
}

#[test]
fn garbage_instead_of_a_store_is_set_aside() {
    let mut case = Case::new(&[("a", "one")]);
    case.words();
    std::fs::write(case.store(), vec![b'x'; 100_000]).unwrap();
    case.restart();
    assert_eq!(case.words(), "one");
    let trouble = case.engine.take_store_trouble();
    assert_eq!(trouble.len(), 1, "{trouble:?}");
    assert!(trouble[0].contains("store.redb.bad"), "{trouble:?}");
    case.restart();
    case.executed();
    assert_eq!(case.words(), "one");
    assert_eq!(case.executed(), [""; 0], "the new store works");
}

#[test]
fn two_processes_share_a_store() {
    let mut case = Case::new(&[("a", "one")]);
    let mut other = engine(Arc::new(case.files.clone()), case.store());
    case.words();
    let unit = [Unit::file("a")];
    let _ = other.demand(&WORDS, &unit);
    other.commit();
    assert_eq!(other.take_store_trouble(), [""; 0]);
    case.restart();
    case.executed();
    case.words();
    assert_eq!(case.executed(), [""; 0]);
}

#[test]
fn a_root_rests_on_what_it_was_computed_from() {
    let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
    let unit = [Unit::file("a")];
    assert_eq!(case.engine.demand(&WORDS, &unit)[0].as_ref().unwrap().join(" "), "one two");
    // Another process sees a newer file, and writes its traces down first.
    case.files.write("b", "three");
    let mut other = engine(Arc::new(case.files.clone()), case.store());
    let _ = other.demand(&TEXT, &[Unit::file("b")]);
    other.commit();
    case.engine.commit();
    case.restart();
    assert_eq!(case.words(), "one three");
}

#[test]
fn a_store_that_cannot_be_made_is_told_once() {
    let mut case = Case::new(&[("a", "one")]);
    let file = case.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    case.engine = engine(Arc::new(case.files.clone()), file.join("store.redb"));
    assert_eq!(case.words(), "one");
    assert_eq!(case.engine.take_store_trouble().len(), 1);
}

#[test]
fn the_graph_is_what_was_read() {
    let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
    case.words();
    let graph = case.engine.graph();
    let expected = "text a\n  clnrm itself\n  file a\nwords a\n  clnrm itself\n  text a\n  words b\n\
                    text b\n  clnrm itself\n  file b\nwords b\n  clnrm itself\n  text b\n";
    let written = |write: fn(&crate::Graph, &mut dyn std::io::Write) -> std::io::Result<()>| {
        let mut bytes = Vec::new();
        write(&graph, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(written(|graph, out| graph.text(|_| true, out)), expected);
    assert_eq!(written(|graph, out| graph.dot(out)).matches(" -> ").count(), 9);
    let json = written(|graph, out| graph.json(out));
    assert_eq!(json.matches("\"id\":").count(), 7, "{json}");
    assert_eq!(json.matches("\"reader\":").count(), 9, "{json}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_looked_at_again() {
    /// Tells of a change only after a file was read once.
    struct Slippery {
        memory: Memory,
        reads: AtomicU64,
    }
    impl System for Slippery {
        fn stat(&self, path: &Path) -> std::io::Result<crate::Stat> {
            self.memory.stat(path)
        }
        fn stat_all(&self, folder: &Path, names: &[&str]) -> Vec<std::io::Result<crate::Stat>> {
            self.memory.stat_all(folder, names)
        }
        fn open(&self, path: &Path) -> std::io::Result<Box<dyn crate::Opened>> {
            if self.reads.fetch_add(1, Ordering::Relaxed) == 0 {
                self.memory.write("a", "after");
            }
            self.memory.open(path)
        }
        fn list(&self, path: &Path) -> std::io::Result<Vec<crate::Entry>> {
            self.memory.list(path)
        }
        fn env(&self, name: &str) -> Option<String> {
            self.memory.env(name)
        }
        fn now_ns(&self) -> i64 {
            self.memory.now_ns()
        }
    }
    let mut case = Case::new(&[("a", "before")]);
    case.words();
    // The digest is known by the file's stat; the bytes are read only now, and are others.
    let slippery = Slippery { memory: case.files.clone(), reads: AtomicU64::new(0) };
    case.engine = engine(Arc::new(slippery), case.store());
    let value = case.engine.demand(&TEXT, &[Unit::file("a")]).pop().unwrap().unwrap();
    assert_eq!(*value, "after");
    assert_eq!(case.engine.take_impure(), []);
    case.engine.commit();
    case.restart();
    assert_eq!(case.words(), "after");
}

#[test]
fn counts_add_up() {
    let mut case = Case::new(&[("a", "one")]);
    case.words();
    let counts = Counts::of(&case.engine.take_events());
    assert_eq!((counts.executed, counts.recalled, counts.cut_off), (2, 0, 0));
    case.restart();
    case.words();
    let counts = Counts::of(&case.engine.take_events());
    assert_eq!((counts.executed, counts.recalled, counts.cut_off), (0, 1, 0));
}

#[test]
fn runs_are_remembered_with_their_reasons() {
    let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
    case.words();
    case.engine.commit_run("first");
    case.files.write("b", "# more\ntwo");
    case.restart();
    case.words();
    case.engine.commit_run("second");
    let runs = case.engine.runs();
    let told: Vec<_> = runs.iter().map(|run| (run.command.as_str(), run.nodes.len())).collect();
    assert_eq!(told, [("second", 4), ("first", 4)]);
    let fates: Vec<String> = runs[0]
        .nodes
        .iter()
        .map(|(unit, query, fate)| match fate {
            Fate::Executed { why: Reason::Changed { what, .. }, cut_off } => {
                format!("{query} {unit}: {what}, {cut_off}")
            }
            other => format!("{query} {unit}: {other:?}"),
        })
        .collect();
    assert!(fates.contains(&"text b: file b, true".to_owned()), "{fates:?}");
    assert!(fates.contains(&"words a: Recalled".to_owned()), "{fates:?}");
    // A run in which nothing was looked at more closely is not worth a line.
    case.restart();
    case.words();
    case.engine.commit_run("third");
    assert_eq!(case.engine.runs().len(), 2);
}

#[test]
fn what_is_exported_is_known_elsewhere() {
    let mut case = Case::new(&[("a", "one")]);
    let key = Digest::of("ask", b"one");
    case.engine.set_effect(key, b"answer", Keep::Value, &[]);
    let _ = case.engine.demand(&EFFECT, &[Unit::file("a")]);
    case.words();
    let exported = case.folder.path().join("exported");
    case.engine.export_store(&exported).unwrap();
    assert!(case.engine.export_store(&exported).is_err(), "nothing is overwritten");
    let mut other = Case::new(&[("a", "one")]);
    other.engine.import_store(&exported).unwrap();
    other.restart();
    assert_eq!(other.words(), "one");
    assert_eq!(
        other.engine.roots(&EFFECT, &[Unit::file("a")])[0].as_ref().unwrap().as_deref(),
        Some("answer")
    );
    assert_eq!(other.executed(), [""; 0]);
    let garbage = case.folder.path().join("garbage");
    std::fs::write(&garbage, "garbage").unwrap();
    assert!(other.engine.import_store(&garbage).is_err());
    assert!(garbage.exists(), "a file that is no store is left alone");
}

#[test]
fn what_rests_on_a_secret_is_not_exported() {
    let mut case = Case::new(&[("a", "one $API_TOKEN"), ("b", "two $NAME")]);
    case.files.set_env("API_TOKEN", Some("hush"));
    case.files.set_env("NAME", Some("open"));
    case.restart();
    let units = [Unit::file("a"), Unit::file("b")];
    for words in ["one hush", "two open"] {
        let key = Digest::of("ask", words.as_bytes());
        case.engine.set_effect(key, words.as_bytes(), Keep::Value, &[]);
    }
    let _ = case.engine.demand(&EFFECT, &units);
    case.engine.commit();
    let exported = case.folder.path().join("exported");
    case.engine.export_store(&exported).unwrap();
    let mut other = engine(Arc::new(case.files.clone()), case.folder.path().join("other"));
    other.import_store(&exported).unwrap();
    let known: Vec<bool> =
        other.recall(&EFFECT, &units, seen).iter().map(|value| value.is_some()).collect();
    assert_eq!(known, [false, true]);
    assert_eq!(other.effect(Digest::of("ask", b"one hush")), None);
    let text = |path| std::fs::read(path).unwrap();
    let holds = |bytes: &[u8]| bytes.windows(4).any(|part| part == b"hush");
    assert!(holds(&text(case.store())) && !holds(&text(exported)), "nor is its outcome");
}

#[test]
fn whose_outcomes_are_reused_is_a_matter_of_trust() {
    let case = Case::new(&[("a", "one")]);
    let trusting = |store: &str, whose, key: &str| {
        Engine::new(Options {
            system: Arc::new(case.files.clone()),
            facts: Arc::new(|_, _| None),
            tool: b"test",
            queries: &QUERIES,
            store: Some(case.folder.path().join(store)),
            checking: Checking::Nothing,
            trust: Trust { whose, key: Some(key.into()) },
        })
    };
    let (unit, key) = ([Unit::file("a")], Digest::of("ask", b"one"));
    let mut first = trusting("first", Whose::Own, "k");
    first.set_effect(key, b"answer", Keep::Value, &[]);
    let _ = first.demand(&EFFECT, &unit);
    first.commit();
    let restored = case.folder.path().join("restored");
    std::fs::copy(case.folder.path().join("first"), restored).unwrap();
    for (store, whose, shared, known) in [
        ("first", Whose::Own, "other", true),
        ("restored", Whose::All, "other", true),
        ("restored", Whose::Signed, "k", true),
        ("restored", Whose::Signed, "other", false),
        ("restored", Whose::Own, "k", false),
    ] {
        let mut engine = trusting(store, whose, shared);
        // A root may say that it rests on nothing.
        let recalled = engine.recall(&EFFECT, &unit, seen)[0].is_some();
        assert_eq!(recalled, whose == Whose::All);
        let value = engine.roots(&EFFECT, &unit).pop().unwrap().unwrap();
        assert_eq!(value.is_some(), known, "{store} {whose:?} {shared}");
        assert_eq!(engine.take_impure(), []);
    }
    // What was computed here is believed from then on.
    let mut here = trusting("restored", Whose::Own, "k");
    here.set_effect(key, b"answer", Keep::Value, &[]);
    here.commit();
    assert_eq!(trusting("restored", Whose::Own, "k").effect(key).as_deref(), Some(&b"answer"[..]));
}

#[test]
fn a_store_may_go_or_be_another_under_way() {
    for replaced in [false, true] {
        let mut case = Case::new(&[("a", "one @b"), ("b", "two")]);
        case.words();
        let older = std::fs::read(case.store()).unwrap();
        case.files.write("b", "three");
        case.restart();
        let unit = [Unit::file("a")];
        let words = case.engine.roots(&WORDS, &unit).pop().unwrap().unwrap();
        assert_eq!(words.join(" "), "one three");
        // It is open, and is by now another file, or none.
        std::fs::remove_file(case.store()).unwrap();
        if replaced {
            std::fs::write(case.store(), &older).unwrap();
        }
        case.files.write("a", "four @b");
        assert_eq!(case.words(), "four three");
        assert_eq!(case.engine.take_store_trouble(), [""; 0]);
        case.restart();
        assert_eq!(case.words(), "four three");
        case.executed();
        case.restart();
        assert_eq!(case.words(), "four three");
        assert_eq!(case.executed(), [""; 0], "replaced: {replaced}");
        assert_eq!(case.engine.verify_store().map(|verified| verified.damaged), Some(0));
    }
}

#[test]
fn files_of_killed_processes_are_removed_in_time() {
    let mut case = Case::new(&[("a", "one")]);
    let [old, new] = ["old", "new"].map(|name| case.folder.path().join(format!(".store-{name}")));
    for file in [&old, &new] {
        std::fs::write(file, "").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    case.words();
    assert!(!old.exists() && new.exists(), "the other may still be in the making");
}

#[test]
fn rubbish_is_collected() {
    let mut case = Case::new(&[("a", "one"), ("b", "two")]);
    for word in ["one", "two"] {
        let key = Digest::of("ask", word.as_bytes());
        case.engine.set_effect(key, word.repeat(1000).as_bytes(), Keep::Value, &[]);
    }
    let units = [Unit::file("a"), Unit::file("b")];
    let _ = case.engine.demand(&EFFECT, &units);
    case.engine.commit();
    case.files.remove("b");
    let collected = case.engine.collect(4_000);
    assert_eq!((collected.files, collected.effects), (1, 1), "{collected:?}");
    case.restart();
    assert!(case.engine.recall(&EFFECT, &units, seen)[0].is_some(), "what is used is kept");
    let collected = case.engine.collect(0);
    assert_eq!(collected.effects, 1);
    case.restart();
    assert!(case.engine.recall(&EFFECT, &units, seen)[0].is_none(), "no root outlives its effect");
    assert_eq!(case.engine.verify_store().map(|verified| verified.damaged), Some(0));
}

#[test]
fn damage_is_found_when_it_is_looked_for() {
    let mut case = Case::new(&[("a", "one")]);
    case.words();
    let verified = case.engine.verify_store().unwrap();
    assert_eq!(verified.damaged, 0);
    assert!(verified.rows > 2);
}
