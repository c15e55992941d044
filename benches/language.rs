//! Reading, rendering and judging, beside the libraries they rest on, in one run:
//! `cargo bench -p clnrm --bench language`.
//!
//! Arguments after `--` are numbers of files, 10, 1000 and 10000 unless others are given. Times of
//! files are of processes that use one core.

mod machine;
#[allow(dead_code, reason = "other benches use the rest")]
mod timing;
#[allow(dead_code, reason = "other benches use the rest")]
mod tree;
mod watch;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clnrm_backends::{Attributes, Dropped, Source, Span, SpanKind, Status, StatusCode, Value};
use clnrm_engine::{Checking, Engine, Memory, Options, Unit};
use clnrm_queries::{QUERIES, RENDERED, judged};
use timing::{Contender, alternate};

const CLNRM: &str = env!("CARGO_BIN_EXE_clnrm");
/// By these words this program starts itself, to be a peer.
const TOML_ALONE: &str = "toml-alone";
const TERA_ALONE: &str = "tera-alone";
const JUDGE: &str = "judge";

fn main() -> ExitCode {
    if let Some(exit) = watch::if_asked() {
        return exit;
    }
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &arguments[..] {
        [word] if word == TOML_ALONE => toml_alone(),
        [word] if word == TERA_ALONE => tera_alone(),
        [word] if word == JUDGE => judge_all(),
        _ => {
            let mut sizes: Vec<usize> =
                arguments.iter().filter_map(|word| word.parse().ok()).collect();
            if sizes.is_empty() {
                sizes = vec![10, 1_000, 10_000];
            }
            bench(&sizes);
        }
    }
    ExitCode::SUCCESS
}

fn bench(sizes: &[usize]) {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    for line in machine::describe(folder.path()) {
        println!("- {line}");
    }
    println!("\n| work | files | CPU µs a file | beside | CPU µs a file | ratio | aim |");
    println!("|-|-|-|-|-|-|-|");
    for files in sizes {
        for (what, templates, peer, aim) in
            [("plain files", false, TOML_ALONE, "60 µs"), ("templates", true, TERA_ALONE, "200 µs")]
        {
            let root = folder.path().join(format!("{files}{templates}"));
            tree::generate_of(&root, *files, |_| templates);
            dry_runs(&root, *files, what, peer, aim);
            fs::remove_dir_all(&root).expect("it was made here");
        }
    }
    rendering();
    judging();
}

fn dry_runs(root: &Path, files: usize, what: &str, peer: &str, aim: &str) {
    let command = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).current_dir(root).env("RAYON_NUM_THREADS", "1");
        command
    };
    let store = root.join(".clnrm");
    let cold = || drop(fs::remove_dir_all(&store));
    let own = std::env::current_exe().expect("this program has a path");
    let rounds = if files > 1_000 { 5 } else { 15 };
    let [ours, theirs] = alternate(
        rounds,
        [
            Contender::new(command(CLNRM, "dry-run")).prepared(cold),
            Contender::new(command(&own.to_string_lossy(), peer)),
        ],
    );
    row(&format!("cold dry-run, {what}"), files, ours.cpu, (peer, theirs.cpu), aim);
    let [warm] = alternate(rounds, [Contender::new(command(CLNRM, "dry-run"))]);
    row(&format!("the same, nothing changed, {what}"), files, warm.cpu, (peer, theirs.cpu), "");
}

fn row(work: &str, files: usize, ours: Duration, peer: (&str, Duration), aim: &str) {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / files as f64;
    let (peer, theirs) = peer;
    println!(
        "| {work} | {files} | {:.1} | {peer} | {:.1} | {:.2} | {aim} |",
        each(ours),
        each(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64(),
    );
}

/// Templates that need no rewriting, by the query and by Tera alone, in turns, in one process.
fn rendering() {
    const FILES: usize = 1_000;
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let paths = tree::generate_of(folder.path(), FILES, |_| true);
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).expect("it is there");
    let texts: Vec<String> = paths.iter().map(|path| read(path)).collect();
    let library = read(tree::LIBRARY);
    let (mut ours, mut teras) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let memory = Memory::default();
        memory.write(tree::LIBRARY, library.as_str());
        paths.iter().zip(&texts).for_each(|(path, text)| memory.write(path, text.as_str()));
        let mut engine = engine(memory);
        let units: Vec<Unit> = paths.iter().map(|path| Unit::file(path.as_str())).collect();
        ours.push(timed(|| {
            let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
            let rendered =
                one.expect("a thread can be started").install(|| engine.demand(&RENDERED, &units));
            assert!(rendered.iter().flatten().all(|text| text.is_ok()));
        }));
        teras.push(timed(|| texts.iter().for_each(|text| render_by_tera(&library, text))));
    }
    row(
        "rendering, through the dialect and the engine",
        FILES,
        median(ours),
        ("tera-alone", median(teras)),
        "1.3",
    );
}

fn engine(memory: Memory) -> Engine {
    Engine::new(Options {
        system: Arc::new(memory),
        facts: Arc::new(|_, _| None),
        tool: b"bench",
        queries: &QUERIES,
        store: None,
        checking: Checking::Nothing,
        trust: Default::default(),
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// 100,000 spans against 100 expectations of all kinds, in a process of its own.
fn judging() {
    let own = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(own);
    command.arg(JUDGE);
    let [sample] = alternate(5, [Contender::new(command).read()]);
    let (seconds, megabytes) = (sample.wall.as_secs_f64(), sample.peak_bytes as f64 / 1e6);
    println!(
        "\n100,000 spans against 100 expectations, spans made, started and ended: {seconds:.2} s, {megabytes:.0} MB (aim 0.5 s, 300 MB)"
    );
}

fn judge_all() {
    let spans = (0..100_000).map(span).collect();
    let mut text = "[meta]\nname = \"t\"\n".to_owned();
    for number in 0..70 {
        text += &format!(
            "[[expect.span]]\nname = \"op{number}\"\nkind = \"server\"\nattrs.all = {{ n = {{ gte = 0 }} }}\n"
        );
    }
    for number in 0..26 {
        text += &format!(
            "[[expect.window]]\nouter = \"op{number}\"\ncontains = [\"op{}\"]\n",
            number + 1
        );
    }
    text += "[expect.graph]\nacyclic = true\nsingle_root = true\nmust_not_cross = [[\"op1\", \"op0\"]]\n\
             [expect.order]\nmust_precede = [[\"op1\", \"op2\"]]\n\
             [expect.counts]\nspans_total = 100000\nby_name.\"op*\" = { min = 1 }\n\
             [expect.status]\nall = \"ok\"\n";
    let judged = judged(&text, spans);
    assert_eq!(judged.len(), 100);
    let holding = judged.iter().filter(|(_, holds)| *holds).count();
    println!("{holding} hold");
}

fn span(number: usize) -> Span {
    let id = |number: usize| format!("{:016x}", number + 1);
    let start_ns = number as i64 * 1_000;
    Span {
        trace_id: "1".repeat(32),
        span_id: id(number),
        parent_id: (number > 0).then(|| id((number - 1) / 8)),
        name: format!("op{}", number % 97),
        kind: SpanKind::Server,
        start_ns,
        end_ns: start_ns + 500,
        status: Status { code: StatusCode::Ok, message: String::new() },
        attributes: Attributes::from([("n".to_owned(), Value::Int(number as i64))]),
        resource: Arc::default(),
        scope: String::new(),
        events: Vec::new(),
        dropped: Dropped::default(),
        source: Source::Otlp,
    }
}

fn render_by_tera(library: &str, text: &str) {
    thread_local! {
        static TERA: std::cell::RefCell<Option<tera::Tera>> = const { std::cell::RefCell::new(None) };
    }
    TERA.with_borrow_mut(|tera| {
        let tera = tera.get_or_insert_with(|| {
            let mut tera = tera::Tera::default();
            tera.add_raw_template(tree::LIBRARY, library).expect("it parses");
            tera
        });
        tera.add_raw_template("test", text).expect("it parses");
        let mut context = tera::Context::new();
        context.insert("svc", "api");
        context.insert("vars", &serde_json::json!({ "prefix": "t", "svc": "api" }));
        tera.render("test", &context).expect("it renders");
    });
}

fn each_file(see: impl Fn(&str)) {
    for folder in fs::read_dir("tests").expect("this is a tree of the bench").flatten() {
        for file in fs::read_dir(folder.path()).expect("it is there").flatten() {
            see(&fs::read_to_string(file.path()).expect("it is there"));
        }
    }
}

fn toml_alone() {
    each_file(|text| drop(toml_edit::Document::parse(text).expect("it parses")));
}

fn tera_alone() {
    let library = fs::read_to_string(tree::LIBRARY).expect("this is a tree of the bench");
    each_file(|text| render_by_tera(&library, text));
}
