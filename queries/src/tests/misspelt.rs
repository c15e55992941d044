//! Random test files with one expectation misspelt, misplaced or emptied: none of them is green.
//!
//! Every expectation of the catalogue is violated by one fixed run. So a file with it is red, and it
//! stays red or becomes an error, whatever happens to the expectation.

use std::sync::Arc;
use std::time::Duration;

use clnrm_backends::{
    Attributes, Dropped, Ended, Outcome, Output, ServiceOutcome, Signals, Source, Span, SpanKind,
    Status, StatusCode, StepOutcome, Value,
};

use crate::diagnostic::Severity;
use crate::judge::{TraceSet, judge};
use crate::report::steps::step_failures;
use crate::steps::steps_succeeded;

const CASES: usize = 10_000;

/// A table of a test file and what is there besides the expectation.
struct Place {
    header: &'static str,
    needs: &'static str,
}

const SPAN: Place = Place { header: "[[expect.span]]", needs: "name = \"x\"" };
const GRAPH: Place = Place { header: "[expect.graph]", needs: "" };
const ORDER: Place = Place { header: "[expect.order]", needs: "" };
const COUNTS: Place = Place { header: "[expect.counts]", needs: "" };
const OUTER: Place = Place { header: "[[expect.window]]", needs: "outer = \"y\"" };
const WINDOW: Place = Place { header: "[[expect.window]]", needs: "" };
const STATUS: Place = Place { header: "[expect.status]", needs: "" };
const HERMETIC: Place = Place { header: "[expect.hermeticity]", needs: "" };
const ASSERTIONS: Place = Place { header: "[assertions]", needs: "" };
const STEP: Place =
    Place { header: "[[scenario.steps]]", needs: "name = \"one\"\ncommand = \"echo abc\"" };
const RUN: Place = Place { header: "[[scenario]]", needs: "name = \"r\"\nrun = \"echo abc\"" };

/// Expectations that the run violates: where each belongs, its key and its value.
const CATALOGUE: [(&Place, &str, &str); 48] = [
    (&SPAN, "kind", "\"server\""),
    (&SPAN, "parent", "\"y\""),
    (&SPAN, "status", "\"ok\""),
    (&SPAN, "duration_ms", "{ max = 5 }"),
    (&SPAN, "count", "{ gte = 5 }"),
    (&SPAN, "count", "3"),
    (&SPAN, "exists", "false"),
    (&SPAN, "attrs.all", "{ k = \"w\" }"),
    (&SPAN, "attrs.any", "{ k = \"w\" }"),
    (&SPAN, "attributes", "{ k = { gt = 5 } }"),
    (&SPAN, "events.all", "[\"e\"]"),
    (&SPAN, "events.any", "[\"e\"]"),
    (&SPAN, "children.any", "[\"q\"]"),
    (&SPAN, "service", "\"other\""),
    (&GRAPH, "must_include", "[[\"y\", \"x\"]]"),
    (&GRAPH, "must_not_cross", "[[\"x\", \"y\"]]"),
    (&GRAPH, "max_depth", "1"),
    (&GRAPH, "must_be_connected", "true"),
    (&GRAPH, "single_root", "true"),
    (&ORDER, "must_precede", "[[\"z\", \"x\"]]"),
    (&ORDER, "must_follow", "[[\"x\", \"z\"]]"),
    (&COUNTS, "spans_total", "99"),
    (&COUNTS, "events_total", "{ gte = 1 }"),
    (&COUNTS, "errors_total", "0"),
    (&COUNTS, "by_name", "{ x = 9 }"),
    (&COUNTS, "by_kind", "{ server = 1 }"),
    (&COUNTS, "by_service", "{ other = 1 }"),
    (&OUTER, "contains", "[\"x\"]"),
    (&WINDOW, "max_duration_ms", "1"),
    (&WINDOW, "min_span_count", "99"),
    (&STATUS, "all", "\"ok\""),
    (&STATUS, "by_name", "{ x = \"ok\" }"),
    (&HERMETIC, "no_external_services", "true"),
    (&HERMETIC, "span_attrs.forbid_keys", "[\"k\"]"),
    (&HERMETIC, "resource_attrs.must_match", "{ env = \"ci\" }"),
    (&ASSERTIONS, "all_steps_should_succeed", "true"),
    (&ASSERTIONS, "execution_should_be_hermetic", "true"),
    (&ASSERTIONS, "service_should_start", "\"nope\""),
    (&ASSERTIONS, "container_should_have_executed_commands", "7"),
    (&STEP, "expected_exit_code", "3"),
    (&STEP, "expected_output_regex", "\"zzz\""),
    (&STEP, "expected_output_contains", "\"zzz\""),
    (&STEP, "should_fail", "true"),
    (&RUN, "expected_exit_code", "3"),
    (&RUN, "expected_output_regex", "\"zzz\""),
    (&RUN, "expected_output_contains", "\"zzz\""),
    (&RUN, "should_fail", "true"),
    (&RUN, "expect_failure", "true"),
];

/// Tables to which an expectation may be moved; the empty one is the top of the file.
const TABLES: [&str; 16] = [
    "",
    "[meta]",
    "[[scenario]]",
    "[[scenario.steps]]",
    "[services.db]",
    "[determinism]",
    "[limits]",
    "[otel]",
    "[expect]",
    "[[expect.span]]",
    "[expect.graph]",
    "[expect.order]",
    "[expect.counts]",
    "[[expect.window]]",
    "[expect.status]",
    "[expect.hermeticity]",
];

/// A generator of numbers (Marsaglia, *Xorshift RNGs*, 2003), from a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

/// A test file whose tables are made of lines.
struct File(Vec<(&'static str, Vec<String>)>);

impl File {
    /// A file in which everything but the expectation is as it should be.
    fn with(place: &Place, line: String) -> File {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut tables = vec![
            ("", Vec::new()),
            ("[meta]", lines("name = \"t\"")),
            ("[services.db]", lines("args = [\"db\"]")),
        ];
        if place.header != RUN.header {
            tables.push(("[[scenario]]", lines("name = \"s\"")));
        }
        if place.header != RUN.header && place.header != STEP.header {
            tables.push((STEP.header, lines(STEP.needs)));
        }
        tables.push((place.header, [lines(place.needs), vec![line]].concat()));
        File(tables)
    }

    /// Adds a line to a table, which it makes where there is none.
    fn add(&mut self, header: &'static str, line: String) {
        match self.0.iter_mut().find(|(name, _)| *name == header) {
            Some((_, lines)) => lines.push(line),
            None => self.0.push((header, vec![line])),
        }
    }

    fn text(&self) -> String {
        let table =
            |(header, lines): &(&str, Vec<String>)| format!("{header}\n{}\n", lines.join("\n"));
        self.0.iter().map(table).collect()
    }
}

fn span(name: &str, id: u64, parent: Option<u64>, ms: (i64, i64)) -> Span {
    let hex = |id: u64| format!("{id:016x}");
    let address = Value::String("evil.example.com".to_owned());
    let attributes =
        [("k".to_owned(), Value::String("v".to_owned())), ("server.address".to_owned(), address)];
    Span {
        trace_id: "1".repeat(32),
        span_id: hex(id),
        parent_id: parent.map(hex),
        name: name.to_owned(),
        kind: SpanKind::Client,
        start_ns: ms.0 * 1_000_000,
        end_ns: ms.1 * 1_000_000,
        status: Status { code: StatusCode::Error, message: String::new() },
        attributes: Attributes::from(attributes),
        resource: Arc::default(),
        scope: String::new(),
        events: Vec::new(),
        dropped: Dropped::default(),
        source: Source::Otlp,
    }
}

/// `x` with `y` below it, and `z` by itself after both.
fn spans() -> TraceSet {
    let spans = vec![
        span("x", 1, None, (0, 100)),
        span("y", 2, Some(1), (10, 20)),
        span("z", 3, None, (200, 300)),
    ];
    TraceSet { spans, attempts: Some(0), ..TraceSet::default() }
}

fn outcome(steps: usize, services: usize) -> Outcome {
    let step = StepOutcome {
        ended: Ended::Code(0),
        stdout: Output { head: b"abc\n".to_vec(), ..Output::default() },
        stderr: Output::default(),
        duration: Duration::ZERO,
    };
    let service = ServiceOutcome { log: Output::default(), ended: None, failed: None };
    Outcome {
        steps: vec![step; steps],
        services: vec![service; services],
        spans: Vec::new(),
        incomplete: Vec::new(),
        doubts: Vec::new(),
        losses: Vec::new(),
        outside: Vec::new(),
        addresses: Vec::new(),
        settled: Duration::ZERO,
        signals: Signals::default(),
        asides: Vec::new(),
        attempts: Some(0),
        isolation: Vec::new(),
        duration: Duration::ZERO,
    }
}

/// What comes of a file.
#[derive(Debug, PartialEq)]
enum Came {
    Refused,
    Red,
    Green,
}

fn came_of(text: &str) -> Came {
    let Ok(tree) = crate::document::parse(text) else { return Came::Refused };
    let test = crate::model::read(&tree);
    let problems = crate::shape::check(&test).problems;
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Came::Refused;
    }
    let traces = spans();
    let holds = |expectation: &_| judge(&traces, expectation).failures.is_empty();
    let judged = test.expectations.iter().all(|placed| holds(&placed.expectation));
    let ran = test.scenarios.iter().all(|scenario| {
        let outcome = outcome(scenario.steps.len(), test.services.len());
        let mut steps = scenario.steps.iter().zip(&outcome.steps);
        let ends =
            |(key, _): &(&str, String)| scenario.expect_failure && *key == "expected_exit_code";
        steps_succeeded(scenario, &outcome)
            && steps.all(|(step, outcome)| step_failures(step, outcome).iter().all(ends))
    });
    if judged && ran { Came::Green } else { Came::Red }
}

/// One or two edits of a word.
fn misspell(word: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    for _ in 0..=random.below(2) {
        let at = random.below(letters.len());
        let letter = char::from(b'a' + random.below(26) as u8);
        match random.below(4) {
            0 if letters.len() > 2 => drop(letters.remove(at)),
            1 => letters.insert(at, letter),
            2 if at > 0 => letters.swap(at - 1, at),
            _ => letters[at] = letter,
        }
    }
    letters.into_iter().collect()
}

/// A value of the same type that says nothing. That a step must not fail is no empty word.
fn emptied(key: &str, value: &str) -> Option<&'static str> {
    if ["should_fail", "expect_failure"].contains(&key) {
        return None;
    }
    match value.chars().next()? {
        '{' => Some("{}"),
        '[' => Some("[]"),
        '"' => Some("\"\""),
        't' => Some("false"),
        _ => None,
    }
}

/// Every key that means something somewhere, so that an edit may end in it.
fn is_a_word(part: &str) -> bool {
    let others =
        ["name", "tags", "env", "args", "eq", "ne", "gt", "lt", "gte", "lte", "min", "max"];
    let parts = CATALOGUE.iter().flat_map(|(_, key, _)| key.split('.'));
    parts.chain(others).any(|word| word == part)
}

#[test]
fn the_catalogue_is_red() {
    for (place, key, value) in CATALOGUE {
        let text = File::with(place, format!("{key} = {value}")).text();
        assert_eq!(came_of(&text), Came::Red, "{text}");
    }
}

#[test]
fn without_its_expectation_each_file_is_green() {
    for place in [&STEP, &RUN, &SPAN] {
        let text = File::with(place, String::new()).text();
        assert_eq!(came_of(&text), Came::Green, "{text}");
    }
}

#[test]
fn no_mistake_in_an_expectation_is_green() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut refused, mut red) = ([0; 3], [0; 3]);
    let mut tried = 0;
    while tried < CASES {
        let (place, key, value) = CATALOGUE[random.below(CATALOGUE.len())];
        let kind = random.below(3);
        let text = match kind {
            0 => {
                let mut parts: Vec<String> = key.split('.').map(str::to_owned).collect();
                let at = random.below(parts.len());
                parts[at] = misspell(&parts[at], &mut random);
                if is_a_word(&parts[at]) {
                    continue;
                }
                File::with(place, format!("{} = {value}", parts.join("."))).text()
            }
            1 => {
                let to = TABLES[random.below(TABLES.len())];
                if to == place.header {
                    continue;
                }
                let mut file = File::with(place, String::new());
                file.add(to, format!("{key} = {value}"));
                file.text()
            }
            _ => {
                let Some(empty) = emptied(key, value) else { continue };
                File::with(place, format!("{key} = {empty}")).text()
            }
        };
        match came_of(&text) {
            Came::Refused => refused[kind] += 1,
            Came::Red => red[kind] += 1,
            Came::Green => panic!("green, case {tried}:\n{text}"),
        }
        tried += 1;
    }
    let [misspelt, misplaced, emptied] = [0, 1, 2].map(|kind| (refused[kind], red[kind]));
    println!(
        "{CASES} files: misspelt {misspelt:?}, misplaced {misplaced:?}, emptied {emptied:?} \
         (refused, red), none green"
    );
}
