//! The engine beside its peers, in one run: `cargo bench -p clnrm --bench engine`.
//!
//! Arguments after `--` are numbers of files, 1000, 10000 and 100000 unless others are given, and
//! `--markdown`, which puts the table into README.md. Every figure is the median of processes that
//! were run in turns with those beside it. Needs git and ninja.

mod machine;
mod readme;
mod table;
mod timing;
mod tree;
mod watch;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clnrm_engine::{Checking, Engine, Options, Os};
use clnrm_queries::{CHECK, QUERIES};
use rayon::prelude::*;
use table::{Figures, Row};
use timing::{Contender, alternate, succeed};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
/// By these words this program starts itself, to be a peer.
const STAT_LOOP: &str = "stat-loop";
const TERA_ALONE: &str = "tera-alone";
const GIT_STATUS: &str = "`git status --porcelain -uno`";
const STORE: &str = ".clnrm/store-v1.redb";
/// Of more tests than these, not all are run.
const MOST_RUN: usize = 10_000;

fn main() -> ExitCode {
    if let Some(exit) = watch::if_asked() {
        return exit;
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &arguments[..] {
        [word] if word == STAT_LOOP => stat_loop(),
        [word] if word == TERA_ALONE => tera_alone(),
        _ => {
            let sizes = arguments.iter().filter_map(|word| word.parse().ok());
            let mut sizes: Vec<usize> = sizes.collect();
            if sizes.is_empty() {
                sizes = vec![1_000, 10_000, 100_000];
            }
            bench(&sizes, arguments.iter().any(|word| word == "--markdown"));
        }
    }
    ExitCode::SUCCESS
}

fn bench(sizes: &[usize], markdown: bool) {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let mut rows = vec![empty_workspace(&folder.path().join("empty"))];
    for files in sizes {
        let root = folder.path().join(format!("tree{files}"));
        rows.extend(of_size(&root, *files));
        fs::remove_dir_all(&root).expect("it was made here");
    }
    let mut text = String::new();
    for line in machine::describe(folder.path()) {
        text += &format!("- {line}\n");
    }
    text += &format!("\n{}", table::markdown(&rows));
    println!("{text}");
    if markdown {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        readme::rewrite(&file, &text).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn empty_workspace(root: &Path) -> Row {
    fs::create_dir_all(root).expect("it can be made");
    fs::write(root.join("clnrm.toml"), "").expect("it can be written");
    let ours = Contender::new(clnrm(root, &["dry-run"])).ending_with(4);
    let nothing = Contender::new(Command::new("true"));
    let [ours, nothing] = alternate(30, [ours, nothing]);
    Row {
        work: "an empty workspace".into(),
        files: 0,
        ours: Figures::to_exit(&ours),
        peer: Some(("`true`".into(), Figures::to_exit(&nothing))),
        aim: "3 ms",
    }
}

/// A tree of one size, and what was measured on it.
struct Tree<'a> {
    root: &'a Path,
    files: usize,
    /// Of its tests.
    paths: Vec<String>,
    rows: Vec<Row>,
}

fn of_size(root: &Path, files: usize) -> Vec<Row> {
    let paths = tree::generate(root, files);
    let mut tree = Tree { root, files, paths, rows: Vec::new() };
    tree.cold();
    tree.noop();
    tree.store();
    tree.edits();
    tree.restored();
    let graph = || clnrm(root, &["build", "--graph=json"]);
    let [graph] = alternate(tree.few(), [Contender::new(graph())]);
    tree.row("the whole graph as JSON", Figures::to_exit(&graph), None, "");
    let living = living(root, &tree.paths);
    let aim = if files == 10_000 { "8 ms" } else { "" };
    tree.row("a living process: change to checks", living, None, aim);
    if files <= MOST_RUN {
        tree.runs();
    }
    tree.rows
}

impl Tree<'_> {
    fn row(
        &mut self,
        work: &str,
        ours: Figures,
        peer: Option<(&str, &Figures)>,
        aim: &'static str,
    ) {
        self.rows.push(Row {
            work: work.to_owned(),
            files: self.files,
            ours,
            peer: peer.map(|(name, figures)| (name.to_owned(), *figures)),
            aim,
        });
    }

    /// How often what takes long is done.
    fn few(&self) -> usize {
        if self.files > 50_000 { 2 } else { 5 }
    }

    /// How often what is quick is done.
    fn many(&self) -> usize {
        if self.files > 50_000 { 9 } else { 41 }
    }

    fn dry_run(&self) -> Command {
        clnrm(self.root, &["dry-run"])
    }

    fn cold(&mut self) {
        let cold = || {
            let store = self.root.join(".clnrm");
            move || drop(fs::remove_dir_all(&store))
        };
        let mut on_one_core = self.dry_run();
        on_one_core.env("RAYON_NUM_THREADS", "1");
        let [all_cores, one, tera] = alternate(
            self.few(),
            [
                Contender::new(self.dry_run()).prepared(cold()).read(),
                Contender::new(on_one_core).prepared(cold()).read(),
                Contender::new(own(self.root, TERA_ALONE)),
            ],
        );
        let (ours, one) = (Figures::to_verdicts(&all_cores), Figures::to_verdicts(&one));
        let (work, tera) = ("cold dry-run, to the verdicts", Figures::to_exit(&tera));
        let aim = if self.files == 10_000 { "1.0 s, 250 MB" } else { "" };
        self.row(work, ours, Some(("Tera alone, parse and render", &tera)), aim);
        let aim = if self.files == 10_000 { "0.59 / –" } else { "" };
        self.row(work, ours, Some(("the same on one core", &one)), aim);
    }

    fn noop(&mut self) {
        for_noop(self.root, &self.paths);
        let [ours, git, ninja, stat] = alternate(
            self.many(),
            [
                Contender::new(self.dry_run()),
                Contender::new(git_status(self.root)),
                Contender::new(ninja(self.root)),
                Contender::new(own(self.root, STAT_LOOP)),
            ],
        )
        .map(|sample| Figures::to_exit(&sample));
        let (to_git, to_ninja) = self.aims();
        let work = "no-op dry-run";
        self.row(work, ours, Some((GIT_STATUS, &git)), to_git);
        self.row(work, ours, Some(("`ninja`", &ninja)), to_ninja);
        self.row(work, ours, Some(("a bare stat loop", &stat)), "");
    }

    /// What a no-op is to take beside git, and beside ninja.
    fn aims(&self) -> (&'static str, &'static str) {
        match self.files {
            100_000 => ("1.2 / 1.2, 60 MB", "0.30 / 0.30"),
            10_000 => ("1.1 / 1.1", "0.35 / 0.35"),
            _ => ("", ""),
        }
    }

    /// What it takes on the disk: it has holes.
    fn store(&mut self) {
        let meta = fs::metadata(self.root.join(STORE)).expect("it is there");
        let (wall, cpu) = (Duration::ZERO, Duration::ZERO);
        let ours = Figures { wall, cpu, peak_bytes: meta.blocks() * 512 };
        let aim = if self.files == 10_000 { "12 MB" } else { "" };
        self.row("the store's file after a cold dry-run", ours, None, aim);
    }

    fn edits(&mut self) {
        let edited = self.root.join(&self.paths[self.files / 2]);
        let (text, mut edits) = (fs::read_to_string(&edited).expect("it was just written"), 0);
        let edit = || {
            edits += 1;
            fs::write(&edited, format!("# edit {edits}\n{text}")).expect("it can be written");
        };
        let [changed, ours] = alternate(
            self.many(),
            [
                Contender::new(self.dry_run()).prepared(edit).read(),
                Contender::new(self.dry_run()).read(),
            ],
        )
        .map(|sample| Figures::to_verdicts(&sample));
        let aim = if self.files == 10_000 { "+ 8 ms" } else { "" };
        self.row("one file changed, to the verdicts", changed, Some(("no-op", &ours)), aim);

        let library = self.root.join(tree::LIBRARY);
        let (text, mut edits) = (fs::read_to_string(&library).expect("it was just written"), 0);
        let edit = || {
            edits += 1;
            let comment = format!("{{# edit {edits} #}}{text}");
            fs::write(&library, comment).expect("it can be written");
        };
        let [changed, tera] = alternate(
            self.few(),
            [
                Contender::new(self.dry_run()).prepared(edit).read(),
                Contender::new(own(self.root, TERA_ALONE)),
            ],
        );
        let (changed, tera) = (Figures::to_verdicts(&changed), Figures::to_exit(&tera));
        let aim = if self.files == 10_000 { "500 ms" } else { "" };
        let work = "the library of half of them changed, to the verdicts";
        self.row(work, changed, Some(("Tera alone, parse and render", &tera)), aim);
    }

    fn restored(&mut self) {
        let store = self.root.join(STORE);
        let twin = tree::clone(self.root, self.root.with_extension("twin"), &self.paths);
        let restore = || {
            let _ = fs::remove_dir_all(twin.join(".clnrm"));
            fs::create_dir_all(twin.join(".clnrm")).expect("it can be made");
            fs::copy(&store, twin.join(STORE)).expect("it is there");
        };
        let restored = Contender::new(clnrm(&twin, &["dry-run"])).prepared(restore);
        let [restored] = alternate(self.few(), [restored]);
        let aim = if self.files == 10_000 { "100 CPU ms" } else { "" };
        self.row("a new clone with a restored store", Figures::to_exit(&restored), None, aim);
        fs::remove_dir_all(&twin).expect("it was made here");
    }

    /// As many tests that run, each once.
    fn runs(&mut self) {
        let root = self.root.with_extension("runs");
        tree::generate_runs(&root, self.files);
        let run = || clnrm(&root, &["run"]);
        succeed(&mut run());
        succeed(&mut run());
        let [ours, git] =
            alternate(self.many(), [Contender::new(run()), Contender::new(git_status(&root))])
                .map(|sample| Figures::to_exit(&sample));
        let to_git = self.aims().0;
        self.row(
            "no-op run, with the machine as the image",
            ours,
            Some((GIT_STATUS, &git)),
            to_git,
        );
        fs::remove_dir_all(&root).expect("it was made here");
    }
}

/// Everything is as its peers want it, and no file too young for its times to be trusted.
fn for_noop(root: &Path, paths: &[String]) {
    tree::for_peers(root, paths);
    succeed(&mut ninja(root));
    std::thread::sleep(Duration::from_millis(50));
    let _ = fs::remove_dir_all(root.join(".clnrm"));
    succeed(&mut clnrm(root, &["dry-run"]));
    succeed(&mut clnrm(root, &["dry-run"]));
}

/// In a process that has looked at everything: a file changes, and its check is asked for again.
fn living(root: &Path, paths: &[String]) -> Figures {
    let mut engine = Engine::new(Options {
        system: Arc::new(Os::new(root)),
        facts: Arc::new(|_, _| None),
        tool: b"bench",
        queries: &QUERIES,
        store: Some(root.join(".clnrm/living.redb")),
        checking: Checking::Nothing,
        trust: Default::default(),
    });
    let units: Vec<_> = paths.iter().map(|path| clnrm_engine::Unit::file(path.as_str())).collect();
    let ask = |engine: &mut Engine| {
        let known = engine.recall(&CHECK, &units, |_| Some(()));
        let open = units.iter().zip(known).filter(|(_, known)| known.is_none());
        let open: Vec<_> = open.map(|(unit, _)| unit.clone()).collect();
        engine.demand(&CHECK, &open).len()
    };
    assert_eq!(ask(&mut engine), units.len());
    engine.commit();
    let edited = root.join(&paths[0]);
    let text = fs::read_to_string(&edited).expect("it was just written");
    let mut walls: Vec<Duration> = (0..20)
        .map(|edit| {
            fs::write(&edited, format!("# living {edit}\n{text}")).expect("it can be written");
            let began = Instant::now();
            engine.changed(&[paths[0].as_str()]);
            let asked = ask(&mut engine);
            let took = began.elapsed();
            assert_eq!(asked, 1, "the others are as they were");
            engine.commit();
            took
        })
        .collect();
    walls.sort();
    fs::write(&edited, text).expect("it can be written");
    Figures { wall: walls[walls.len() / 2], cpu: Duration::ZERO, peak_bytes: 0 }
}

/// One statx for every test there is, by its path: nobody can do with less.
fn stat_loop() {
    let paths = fs::read_to_string("build.ninja").expect("this is a tree of the bench");
    let tests =
        paths.lines().filter_map(|line| line.strip_prefix("build out/")?.split_once(".out: "));
    let tests: Vec<&str> = tests.map(|(path, _)| path).collect();
    let folders: Vec<&[&str]> = tests.chunk_by(|a, b| folder(a) == folder(b)).collect();
    folders.par_iter().for_each(|paths| {
        use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
        let open = openat(CWD, folder(paths[0]), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let open = open.expect("it is there");
        for path in *paths {
            let name = &path[folder(path).len() + 1..];
            statx(&open, name, AtFlags::empty(), StatxFlags::BASIC_STATS).expect("it is there");
        }
    });
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// What Tera takes for the templates of a tree, its library parsed once for each thread.
fn tera_alone() {
    let library = fs::read_to_string(tree::LIBRARY).expect("this is a tree of the bench");
    let folders: Vec<_> = fs::read_dir("tests").expect("it is there").flatten().collect();
    folders.par_iter().for_each_init(
        || {
            let mut tera = tera::Tera::default();
            tera.add_raw_template(tree::LIBRARY, &library).expect("it parses");
            tera
        },
        |tera, folder| {
            for file in fs::read_dir(folder.path()).expect("it is there").flatten() {
                let path = file.path();
                if path.extension().is_some_and(|end| end == "tera") {
                    let text = fs::read_to_string(&path).expect("it is there");
                    tera.add_raw_template("test", &text).expect("it parses");
                    let mut context = tera::Context::new();
                    context.insert("svc", "api");
                    context.insert("vars", &serde_json::json!({ "prefix": "t", "svc": "api" }));
                    tera.render("test", &context).expect("it renders");
                }
            }
        },
    );
}

fn clnrm(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(CLNRM);
    command.args(arguments).current_dir(root);
    command
}

fn git_status(root: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["status", "--porcelain", "-uno"]).current_dir(root);
    command
}

fn ninja(root: &Path) -> Command {
    let mut command = Command::new("ninja");
    command.arg("--quiet").current_dir(root);
    command
}

fn own(root: &Path, word: &str) -> Command {
    let own = std::env::current_exe().expect("a bench has a file");
    let mut command = Command::new(own);
    command.arg(word).current_dir(root);
    command
}
