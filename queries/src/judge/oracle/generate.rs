//! Random trace sets and expectations, malformed ones among them: parents that go round or never
//! arrived, ids that several spans share, spans without an end, numbers beyond the floats.

use std::collections::BTreeMap;
use std::sync::Arc;

use clnrm_backends::{
    Attributes, Dropped, Event, Source, Span, SpanKind, Status, StatusCode, Value,
};

use crate::expectation::{
    Assertion, Bounds, CountsExpectation, Expectation, ExpectedStatus, GraphExpectation,
    HermeticityExpectation, Literal, OrderExpectation, Predicate, Range, SpanExpectation,
    StatusExpectation, WindowExpectation,
};
use crate::gaps::{Gap, Missing};
use crate::judge::TraceSet;

const NAMES: [&str; 7] = ["a", "b", "é", "ab", "GET /a/{id}", "日本", "db.start"];
const OWN: [&str; 5] = ["clnrm.run", "clnrm.step:a", "clnrm.step:b", "db.start", "db.exec"];
/// Those of one length match different names: which of two such globs wins is not said.
const PATTERNS: [&str; 20] = [
    "a",
    "b",
    "é",
    "ab",
    "GET /a/{id}",
    "日本",
    "zz",
    "*",
    "??*",
    "a*",
    "[a-b]",
    "{a,é}",
    "GET /*",
    "GET /a/{*}",
    "clnrm.run",
    "clnrm.step:*",
    "db.start",
    "container.start",
    "container.*",
    "[!a]?",
];
const KEYS: [&str; 5] = ["k", "n", "user.email", "resource.k", "service.name"];

/// Numbers that follow from a seed alone.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x005e_ed0f_c1e4_11e5)
    }

    /// Splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    fn maybe<T>(&mut self, times: u64, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
        self.once_in(times).then(|| make(self))
    }

    fn pattern(&mut self) -> String {
        // Names that occur, more often than not.
        if self.once_in(2) { self.pick(&NAMES[..4]) } else { self.pick(&PATTERNS) }.to_owned()
    }

    fn patterns(&mut self) -> Vec<String> {
        (0..=self.below(2)).map(|_| self.pattern()).collect()
    }

    fn pairs(&mut self) -> Vec<(String, String)> {
        (0..self.below(3)).map(|_| (self.pattern(), self.pattern())).collect()
    }

    pub(super) fn traces(&mut self) -> TraceSet {
        let count = if self.once_in(12) { 0 } else { 1 + self.below(7) };
        let has_code = !self.once_in(15);
        let spans: Vec<Span> = (0..count).map(|at| self.span(at, count, has_code)).collect();
        let gaps = if self.once_in(4) { vec![self.gap()] } else { Vec::new() };
        let attempts = self.pick(&[Some(0), Some(0), Some(2), None]);
        let lifecycle_counts = self.once_in(3);
        TraceSet { spans, lifecycle_counts, attempts, gaps, ..TraceSet::default() }
    }

    fn gap(&mut self) -> Gap {
        use Missing::{Attributes, Events, Nothing, Parents, Spans};
        let missing = self.pick(&[Spans, Parents, Attributes, Events, Nothing]);
        Gap { missing, told: "a sign".to_owned() }
    }

    fn span(&mut self, at: u64, count: u64, has_code: bool) -> Span {
        let own = !has_code || self.once_in(5);
        let id = |at: u64| format!("{:016x}", at + 1);
        let span_id = if self.once_in(12) { id(self.below(count)) } else { id(at) };
        let parent_id = match self.below(10) {
            0 => None,
            1 => Some("f".repeat(16)),
            // Parents of any place: they may go round.
            2 => Some(id(self.below(count))),
            _ => at.checked_sub(1).map(|before| id(before - self.below(before.min(2) + 1))),
        };
        let start_ns = self.below(6) as i64 * 400_000;
        Span {
            trace_id: if self.once_in(10) { "2" } else { "1" }.repeat(32),
            span_id,
            parent_id,
            name: if own { self.pick(&OWN) } else { self.pick(&NAMES) }.to_owned(),
            kind: self.pick(&[SpanKind::Internal, SpanKind::Server, SpanKind::Client]),
            start_ns,
            end_ns: self.end(start_ns),
            status: Status {
                code: self.pick(&[StatusCode::Unset, StatusCode::Ok, StatusCode::Error]),
                message: String::new(),
            },
            attributes: self.attributes(),
            resource: Arc::new(self.resource()),
            scope: String::new(),
            events: (0..self.below(3)).map(|_| self.event()).collect(),
            dropped: Dropped::default(),
            source: if own { Source::Lifecycle } else { Source::Otlp },
        }
    }

    fn end(&mut self, start_ns: i64) -> i64 {
        match self.below(24) {
            0 => i64::MIN,
            1 => start_ns - 1,
            2 => i64::MAX,
            3 => start_ns + 999_999,
            4 => start_ns + 1_000_000,
            _ => start_ns + self.below(8) as i64 * 400_000,
        }
    }

    fn event(&mut self) -> Event {
        let name = self.pick(&["e", "é", "x"]).to_owned();
        Event { name, at_ns: 0, attributes: self.attributes() }
    }

    fn attributes(&mut self) -> Attributes {
        let mut all = Vec::new();
        for key in &KEYS[..3] {
            if self.once_in(3) {
                all.push(((*key).to_owned(), self.value()));
            }
        }
        if self.once_in(8) {
            let map = Attributes::from([("email".to_owned(), self.value())]);
            all.push(("user".to_owned(), Value::Array(vec![Value::Map(map)])));
        }
        all.into_iter().collect()
    }

    fn resource(&mut self) -> Attributes {
        let mut all = vec![];
        if !self.once_in(4) {
            let name = self.pick(&["api", "db"]).to_owned();
            all.push(("service.name".to_owned(), Value::String(name)));
        }
        if self.once_in(2) {
            all.push(("k".to_owned(), self.value()));
        }
        all.into_iter().collect()
    }

    fn value(&mut self) -> Value {
        match self.literal() {
            Literal::String(text) => Value::String(text),
            Literal::Bool(truth) => Value::Bool(truth),
            Literal::Int(number) => Value::Int(number),
            Literal::Float(number) => Value::Double(number),
            Literal::List(_) => Value::Array(vec![Value::Int(200), Value::String("é".to_owned())]),
        }
    }

    fn literal(&mut self) -> Literal {
        const PRECISE: i64 = 9_007_199_254_740_993;
        let text = |text: &str| Literal::String(text.to_owned());
        match self.below(6) {
            0 => Literal::Bool(self.once_in(2)),
            1 => text(self.pick(&["200", "200.0", "é", "true", "9007199254740993", "inf", ""])),
            2 => Literal::List(vec![Literal::Int(200), text("é")]),
            3 => Literal::Float(self.pick(&[
                200.0,
                200.5,
                -0.5,
                9_007_199_254_740_992.0,
                9_223_372_036_854_775_808.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::NAN,
            ])),
            _ => Literal::Int(self.pick(&[200, 0, -1, PRECISE, PRECISE - 1, i64::MAX, i64::MIN])),
        }
    }

    fn number(&mut self) -> Literal {
        loop {
            let literal = self.literal();
            if matches!(literal, Literal::Int(_) | Literal::Float(_)) {
                return literal;
            }
        }
    }

    fn predicate(&mut self) -> Predicate {
        let mut predicate = Predicate::default();
        match self.below(10) {
            0 => predicate.eq = Some(self.literal()),
            1 => predicate.ne = Some(self.literal()),
            2 => predicate.gte = Some(self.number()),
            3 => predicate.lte = Some(self.number()),
            4 => predicate.gt = Some(self.number()),
            5 => predicate.lt = Some(self.number()),
            6 => predicate.contains = Some(self.literal()),
            7 => predicate.matches = Some(self.pick(&["^2", "0$", "é", "."]).to_owned()),
            8 => predicate.one_of = Some(vec![self.literal(), self.literal()]),
            _ => predicate.exists = Some(self.once_in(2)),
        }
        if self.once_in(8) {
            predicate.exists = Some(true);
        }
        predicate
    }

    fn predicates(&mut self) -> BTreeMap<String, Predicate> {
        (0..self.below(2)).map(|_| (self.pick(&KEYS).to_owned(), self.predicate())).collect()
    }

    fn bounds(&mut self) -> Bounds {
        let mut bounds = Bounds::default();
        match self.below(4) {
            0 => bounds.at_least = Some(self.below(3)),
            1 => bounds.at_most = Some(self.below(4)),
            2 => bounds.exactly = Some(self.below(4)),
            _ => (bounds.at_least, bounds.at_most) = (Some(self.below(3)), Some(self.below(5))),
        }
        bounds
    }

    /// In halves, which floats hold exactly.
    fn range(&mut self) -> Range {
        let half = |random: &mut Random| random.below(7) as f64 / 2.0;
        Range { min: self.maybe(2, half), max: self.maybe(2, half) }
    }

    fn status(&mut self) -> ExpectedStatus {
        use ExpectedStatus::{Error, ExplicitOk, Ok, Unset};
        self.pick(&[Ok, Error, Unset, ExplicitOk])
    }

    pub(super) fn expectation(&mut self) -> Expectation {
        match self.below(8) {
            0 => Expectation::Span(self.of_span()),
            1 => Expectation::Graph(GraphExpectation {
                must_include: self.pairs(),
                must_not_cross: self.pairs(),
                acyclic: self.maybe(4, |_| true),
                max_depth: self.maybe(4, |random| random.below(5)),
                must_be_connected: self.maybe(6, |_| true),
                single_root: self.maybe(6, |_| true),
            }),
            2 => Expectation::Order(OrderExpectation { must_precede: self.pairs() }),
            3 => Expectation::Counts(CountsExpectation {
                spans_total: self.maybe(3, Random::bounds),
                events_total: self.maybe(3, Random::bounds),
                errors_total: self.maybe(3, Random::bounds),
                by_name: (0..self.below(2)).map(|_| (self.pattern(), self.bounds())).collect(),
                by_kind: (0..self.below(2)).map(|_| ("server".into(), self.bounds())).collect(),
                by_service: (0..self.below(2)).map(|_| ("api".into(), self.bounds())).collect(),
            }),
            4 => Expectation::Status(StatusExpectation {
                all: self.maybe(2, Random::status),
                by_name: (0..self.below(3)).map(|_| (self.pattern(), self.status())).collect(),
            }),
            5 => Expectation::Window(self.window()),
            6 => Expectation::Hermeticity(HermeticityExpectation {
                no_external_services: self.once_in(3),
                resource_must_match: self.predicates(),
                forbid_keys: self
                    .maybe(2, |random| random.pick(&["user.email", "email", "k", "x?", "zz"]))
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                ..HermeticityExpectation::default()
            }),
            _ => Expectation::Assertion(match self.below(3) {
                0 => Assertion::ExecutedCommands(self.below(2)),
                1 => Assertion::AllStepsSucceed,
                _ => Assertion::ServiceStarts("db".to_owned()),
            }),
        }
    }

    fn of_span(&mut self) -> SpanExpectation {
        let (count, exists) = match self.below(5) {
            0 => (Some(self.bounds()), None),
            1 => (None, Some(false)),
            2 => (None, Some(true)),
            _ => (None, None),
        };
        SpanExpectation {
            name: self.pattern(),
            kind: self.maybe(6, |random| random.pick(&["server", "internal"]).to_owned()),
            parent: self.maybe(5, Random::pattern),
            attributes_all: if self.once_in(3) { self.predicates() } else { BTreeMap::new() },
            attributes_any: if self.once_in(4) { self.predicates() } else { BTreeMap::new() },
            events_all: self
                .maybe(8, |random| vec![random.pick(&["e", "?"]).to_owned()])
                .into_iter()
                .flatten()
                .collect(),
            events_any: self
                .maybe(8, |random| vec!["é".to_owned(), random.pattern()])
                .into_iter()
                .flatten()
                .collect(),
            status: self.maybe(6, Random::status),
            duration_ms: self.maybe(4, Random::range),
            count,
            exists,
            children_any: self.maybe(8, Random::patterns).unwrap_or_default(),
            service: self.maybe(8, |random| random.pick(&["api", "db"]).to_owned()),
            of_clnrm: self.once_in(12),
        }
    }

    fn window(&mut self) -> WindowExpectation {
        let mut window = WindowExpectation::default();
        if self.once_in(2) {
            window.outer = Some(self.pattern());
            window.contains = self.patterns();
        }
        if window.outer.is_none() || self.once_in(3) {
            window.start = self.maybe(2, Random::pattern);
            window.end = self.maybe(2, Random::pattern);
            window.duration_ms = self.range();
            window.min_spans = self.maybe(3, |random| random.below(4));
        }
        window
    }
}
