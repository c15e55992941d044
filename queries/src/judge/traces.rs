//! The trace set of a test or scenario, and the lookups judging needs: names, parents, children.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::OnceLock;

use clnrm_backends::{Contact, Source, Span, packed};
use serde::{Deserialize, Serialize};

use super::names::{self, Pattern};
use crate::gaps::Gap;

/// The spans of a test or scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TraceSet {
    /// Sorted by start, end, name, trace id and span id.
    #[serde(with = "packed")]
    pub spans: Vec<Span>,
    /// Whether totals, `all` rules and globs look at lifecycle spans too.
    pub lifecycle_counts: bool,
    /// How often something tried to reach an address outside; `None` when that is not known.
    pub attempts: Option<u64>,
    /// Names and addresses outside that something tried to reach.
    pub outside: Vec<Contact>,
    /// The addresses that services of the test had.
    pub own_addresses: Vec<IpAddr>,
    /// What is known to be missing from the spans.
    pub gaps: Vec<Gap>,
    /// Made when it is first needed: many expectations are judged on one set.
    #[serde(skip)]
    pub lookups: Lazy,
}

/// Lookups of a trace set. They follow from its spans, so they are no part of its value.
#[derive(Debug, Default)]
pub(crate) struct Lazy(OnceLock<Lookups>);

impl Clone for Lazy {
    fn clone(&self) -> Lazy {
        Lazy::default()
    }
}

impl PartialEq for Lazy {
    fn eq(&self, _: &Lazy) -> bool {
        true
    }
}

/// A span goes by its place in the order of start, end and name.
#[derive(Debug)]
struct Lookups {
    /// Where the spans are in the set.
    order: Vec<usize>,
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    by_name: BTreeMap<(String, Source), Vec<usize>>,
    of_code: u64,
}

impl Lookups {
    fn new(traces: &TraceSet) -> Lookups {
        let order = sorted(&traces.spans);
        let spans: Vec<&Span> = order.iter().map(|at| &traces.spans[*at]).collect();
        let parents = parents(&spans);
        let mut children = vec![Vec::new(); spans.len()];
        let mut by_name: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        let mut names: HashMap<(&str, Source), Vec<usize>> = HashMap::new();
        for (place, span) in spans.iter().enumerate() {
            names.entry((span.name.as_str(), span.source)).or_default().push(place);
            if let Some(parent) = parents[place] {
                children[parent].push(place);
            }
        }
        by_name.extend(
            names.into_iter().map(|((name, source), all)| ((name.to_owned(), source), all)),
        );
        let of_code = spans.iter().filter(|span| span.source == Source::Otlp).count() as u64;
        Lookups { order, parents, children, by_name, of_code }
    }
}

/// A trace set with its lookups. A span goes by its place in the order of start, end and name.
///
/// Places of spans that agree in all three may depend on ids; what is told about them must not.
pub(super) struct Index<'a> {
    pub(super) spans: Vec<&'a Span>,
    pub(super) lifecycle_counts: bool,
    pub(super) attempts: Option<u64>,
    pub(super) outside: &'a [Contact],
    pub(super) own_addresses: &'a [IpAddr],
    lookups: &'a Lookups,
}

/// The spans in an order of descent.
pub(super) struct Descent {
    /// Parents before children, without the spans in `cycles`.
    pub(super) order: Vec<usize>,
    /// Groups of spans that are their own ancestors, which only malformed data has.
    pub(super) cycles: Vec<Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(traces: &'a TraceSet) -> Index<'a> {
        let lookups = traces.lookups.0.get_or_init(|| Lookups::new(traces));
        let spans = lookups.order.iter().map(|at| &traces.spans[*at]).collect();
        let TraceSet { lifecycle_counts, attempts, .. } = *traces;
        let (outside, own_addresses) = (&traces.outside, &traces.own_addresses);
        Index { spans, lifecycle_counts, attempts, outside, own_addresses, lookups }
    }

    /// The spans of a name or glob, in order.
    pub(super) fn named(&self, pattern: &Pattern<'_>) -> Vec<usize> {
        let matching = |name: &str, source| self.may_match(pattern, name, source);
        let mut places: Vec<usize> = self
            .lookups
            .by_name
            .iter()
            .filter(|((name, source), _)| matching(name, *source))
            .flat_map(|(_, places)| places.iter().copied())
            .collect();
        places.sort_unstable();
        places
    }

    /// clnrm's own spans of a name or glob, of a scenario by its plain name too, in order.
    pub(super) fn of_clnrm(&self, pattern: &Pattern<'_>) -> Vec<usize> {
        let matches = |name: &str| {
            let plain = name.strip_prefix("clnrm.scenario.");
            pattern.matches_lifecycle(name) || plain.is_some_and(|plain| pattern.matches(plain))
        };
        let own = |place: &usize| {
            let span = self.spans[*place];
            span.source == Source::Lifecycle && matches(&span.name)
        };
        (0..self.spans.len()).filter(own).collect()
    }

    /// Whether the span at `place` is one of those that `pattern` names.
    pub(super) fn is_named(&self, place: usize, pattern: &Pattern<'_>) -> bool {
        let span = self.spans[place];
        self.may_match(pattern, &span.name, span.source)
    }

    /// The spans that totals and rules about all spans look at, in order.
    pub(super) fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.spans.len()).filter(|place| self.is_counted(*place))
    }

    /// What a message about counted spans must add.
    pub(super) fn counted_note(&self) -> &'static str {
        if self.lifecycle_counts { " (clnrm's own spans included)" } else { "" }
    }

    pub(super) fn parent(&self, place: usize) -> Option<usize> {
        self.lookups.parents[place]
    }

    /// Whether the span at `place` names a parent that was not collected.
    pub(super) fn is_orphan(&self, place: usize) -> bool {
        self.lookups.parents[place].is_none() && self.spans[place].parent_id.is_some()
    }

    pub(super) fn children(&self, place: usize) -> &[usize] {
        &self.lookups.children[place]
    }

    /// The parent of each span, where both are counted.
    pub(super) fn counted_parents(&self) -> Vec<Option<usize>> {
        let counted = |place: &usize| self.is_counted(*place);
        let own = self.lookups.parents.iter().enumerate();
        own.map(|(place, parent)| parent.filter(|parent| counted(&place) && counted(parent)))
            .collect()
    }

    /// For each span the earliest of `ancestors` that it lies under.
    pub(super) fn earliest_above(&self, ancestors: &[usize]) -> Vec<Option<usize>> {
        let mut wanted = vec![false; self.spans.len()];
        ancestors.iter().for_each(|place| wanted[*place] = true);
        let mut above = vec![None; self.spans.len()];
        let Descent { order, cycles } = descent(&self.lookups.parents);
        for cycle in cycles {
            let mut found: Vec<_> = cycle.iter().copied().filter(|place| wanted[*place]).collect();
            found.sort_unstable();
            for place in cycle {
                above[place] = found.iter().copied().find(|other| *other != place);
            }
        }
        for place in order {
            let Some(parent) = self.lookups.parents[place] else { continue };
            let direct = wanted[parent].then_some(parent);
            above[place] = above[parent].into_iter().chain(direct).min();
        }
        above
    }

    /// How many spans a verdict about these names rests on.
    pub(super) fn looked_at(&self, patterns: &[Pattern<'_>]) -> u64 {
        let named = |name: &str| {
            patterns.iter().any(|pattern| self.may_match(pattern, name, Source::Lifecycle))
        };
        let lifecycle = self.lookups.by_name.iter().filter(|((name, source), _)| {
            *source == Source::Lifecycle && (self.lifecycle_counts || named(name))
        });
        self.lookups.of_code + lifecycle.map(|(_, places)| places.len() as u64).sum::<u64>()
    }

    pub(super) fn has_code_spans(&self) -> bool {
        self.lookups.of_code > 0
    }

    /// Whether there are lifecycle spans that `pattern` is meant for.
    pub(super) fn looks_at_lifecycle(&self, pattern: &Pattern<'_>) -> bool {
        let mut keys =
            self.lookups.by_name.keys().filter(|(_, source)| *source == Source::Lifecycle);
        pattern.is_reserved() && self.has_lifecycle()
            || keys.any(|(name, source)| self.may_match(pattern, name, *source))
    }

    /// What to say where no span is named `pattern`.
    pub(super) fn instead_of(&self, pattern: &Pattern<'_>) -> Option<String> {
        let sees =
            |source| source == Source::Otlp || self.lifecycle_counts || pattern.is_reserved();
        let seen = self.spans.iter().filter(|span| sees(span.source));
        names::instead_of(pattern.text, &names::tally(seen.map(|span| span.name.as_str())))
    }

    /// The same of clnrm's own spans.
    pub(super) fn instead_of_clnrm(&self, pattern: &Pattern<'_>) -> Option<String> {
        let own = self.spans.iter().filter(|span| span.source == Source::Lifecycle);
        names::instead_of(pattern.text, &names::tally(own.map(|span| span.name.as_str())))
    }

    /// When something happened, in milliseconds since the first span began.
    pub(super) fn ms(&self, at_ns: i64) -> f64 {
        let first = self.spans.first().map_or(0, |span| span.start_ns);
        at_ns.saturating_sub(first) as f64 / 1e6
    }

    fn is_counted(&self, place: usize) -> bool {
        self.lifecycle_counts || self.spans[place].source == Source::Otlp
    }

    fn has_lifecycle(&self) -> bool {
        self.lookups.by_name.keys().any(|(_, source)| *source == Source::Lifecycle)
    }

    /// Lifecycle spans want to be named; a glob that would match anything names none.
    fn may_match(&self, pattern: &Pattern<'_>, name: &str, source: Source) -> bool {
        match source {
            Source::Otlp => pattern.matches(name),
            Source::Lifecycle => {
                (self.lifecycle_counts || !pattern.is_glob() || pattern.is_reserved())
                    && pattern.matches_lifecycle(name)
            }
        }
    }
}

/// Whether a span ended, and no earlier than it began: over any other no window, order or duration
/// holds.
pub(super) fn is_timed(span: &Span) -> bool {
    span.end_ns >= span.start_ns
}

/// How long a span took, in nanoseconds.
pub(super) fn took(span: &Span) -> i128 {
    i128::from(span.end_ns) - i128::from(span.start_ns)
}

/// What to say of a span that is not timed.
pub(super) const UNTIMED: &str = "never ended, or ended before it began";

/// Orders spans by descent, where `parents` gives each span's parent.
pub(super) fn descent(parents: &[Option<usize>]) -> Descent {
    let mut seen = vec![false; parents.len()];
    let mut descent = Descent { order: Vec::new(), cycles: Vec::new() };
    for start in 0..parents.len() {
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(place) = next.filter(|place| !seen[*place]) {
            seen[place] = true;
            path.push(place);
            next = parents[place];
        }
        if let Some(first) = path.iter().position(|place| Some(*place) == next) {
            descent.cycles.push(path.split_off(first));
        }
        descent.order.extend(path.into_iter().rev());
    }
    descent
}

fn sorted(spans: &[Span]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..spans.len()).collect();
    sorted.sort_by(|a, b| {
        let (a, b) = (&spans[*a], &spans[*b]);
        let key = |span: &Span| (span.start_ns, span.end_ns);
        key(a)
            .cmp(&key(b))
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| (&a.trace_id, &a.span_id).cmp(&(&b.trace_id, &b.span_id)))
            // Only spans that share their id come this far.
            .then_with(|| format!("{a:?}").cmp(&format!("{b:?}")))
    });
    sorted
}

/// Each span's parent, which is of the same trace. Where two spans share an id, neither is the parent
/// of another: it cannot be told which.
fn parents(spans: &[&Span]) -> Vec<Option<usize>> {
    let mut by_id = HashMap::new();
    for (place, span) in spans.iter().enumerate() {
        let id = (span.trace_id.as_str(), span.span_id.as_str());
        by_id.entry(id).and_modify(|one| *one = None).or_insert(Some(place));
    }
    let parent_of = |span: &&Span| {
        by_id.get(&(span.trace_id.as_str(), span.parent_id.as_deref()?)).copied().flatten()
    };
    spans.iter().map(parent_of).collect()
}

/// Trace sets for tests, as tables.
#[cfg(test)]
pub(crate) mod table {
    use std::sync::Arc;

    use std::time::Duration;

    use clnrm_backends::{
        Attributes, Dropped, Ended, Event, Outcome, Output, Signals, SpanKind, Status, StatusCode,
        StepOutcome, Value,
    };
    use expect_test::Expect;

    use super::*;
    use crate::expectation::{Expectation, Failure, Verdict};
    use crate::judge::{NO_SPANS, judge};

    /// Judges `expectation` over a table and compares what is told.
    pub(in crate::judge) fn check(table: &str, expectation: Expectation, told: Expect) {
        check_set(&traces(table), expectation, told);
    }

    /// The same, where lifecycle spans count.
    pub(in crate::judge) fn check_with_lifecycle(
        table: &str,
        expectation: Expectation,
        told: Expect,
    ) {
        check_set(&TraceSet { lifecycle_counts: true, ..traces(table) }, expectation, told);
    }

    /// One span a line, indented under its parent: `name start..end word…`, times in milliseconds.
    ///
    /// A word is a kind, `ok`, `error`, `error:message`, `lifecycle`, `orphan`, `!event`,
    /// `key=value` or `resource.key=value`. `id=1` is the id of the first line, and `dropped=1,2,3`
    /// how many attributes, events and links were dropped.
    pub(crate) fn traces(table: &str) -> TraceSet {
        let mut spans: Vec<Span> = Vec::new();
        let mut open: Vec<(usize, String)> = Vec::new();
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            let indent = line.len() - line.trim_start().len();
            open.retain(|(outer, _)| *outer < indent);
            let id = format!("{:016x}", spans.len() + 1);
            let parent_id = open.last().map(|(_, id)| id.clone());
            open.push((indent, id.clone()));
            spans.push(span(line, id, parent_id));
        }
        TraceSet { spans, attempts: Some(0), ..TraceSet::default() }
    }

    fn span(line: &str, span_id: String, parent_id: Option<String>) -> Span {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a line begins with a name").to_owned();
        let times = words.next().and_then(|word| word.split_once(".."));
        let (start, end) = times.expect("start..end follows the name");
        let mut span = Span {
            trace_id: "1".repeat(32),
            span_id,
            parent_id,
            name,
            kind: SpanKind::Internal,
            start_ns: ns(start),
            end_ns: ns(end),
            status: Status { code: StatusCode::Unset, message: String::new() },
            attributes: Attributes::new(),
            resource: Arc::default(),
            scope: String::new(),
            events: Vec::new(),
            dropped: Dropped::default(),
            source: Source::Otlp,
        };
        words.for_each(|word| set(&mut span, word));
        span
    }

    fn set(span: &mut Span, word: &str) {
        if let Some(number) = word.strip_prefix("id=") {
            span.span_id = format!("{number:0>16}");
        } else if let Some(counts) = word.strip_prefix("dropped=") {
            let counts: Vec<u32> =
                counts.split(',').map(|count| count.parse().expect("a number")).collect();
            let [attributes, events, links] = counts[..] else { panic!("three numbers") };
            span.dropped = Dropped { attributes, events, links };
        } else if let Some((key, value)) = word.split_once('=') {
            match key.strip_prefix("resource.") {
                Some(key) => Arc::make_mut(&mut span.resource).insert(key.to_owned(), parse(value)),
                None => span.attributes.insert(key.to_owned(), parse(value)),
            };
        } else if let Some(name) = word.strip_prefix('!') {
            let (name, at_ns) = (name.to_owned(), span.start_ns);
            span.events.push(Event { name, at_ns, attributes: Attributes::new() });
        } else if let Some(message) = word.strip_prefix("error:") {
            span.status = Status { code: StatusCode::Error, message: message.to_owned() };
        } else {
            match word {
                "server" => span.kind = SpanKind::Server,
                "client" => span.kind = SpanKind::Client,
                "ok" => span.status.code = StatusCode::Ok,
                "error" => span.status.code = StatusCode::Error,
                "lifecycle" => span.source = Source::Lifecycle,
                "orphan" => span.parent_id = Some("f".repeat(16)),
                _ => panic!("the table has an unknown word `{word}`"),
            }
        }
    }

    /// A run of one step that ended well and left these spans.
    pub(crate) fn outcome(spans: Vec<Span>) -> Outcome {
        Outcome {
            steps: vec![StepOutcome {
                ended: Ended::Code(0),
                stdout: Output::default(),
                stderr: Output::default(),
                duration: Duration::ZERO,
            }],
            services: Vec::new(),
            spans,
            losses: Vec::new(),
            outside: Vec::new(),
            addresses: Vec::new(),
            settled: Duration::ZERO,
            signals: Signals::default(),
            asides: Vec::new(),
            incomplete: Vec::new(),
            doubts: Vec::new(),
            attempts: Some(0),
            isolation: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    fn ns(ms: &str) -> i64 {
        (ms.parse::<f64>().expect("times are numbers") * 1e6) as i64
    }

    fn parse(value: &str) -> Value {
        let int = value.parse().ok().map(Value::Int);
        let double = || value.parse().ok().map(Value::Double);
        let truth = || value.parse().ok().map(Value::Bool);
        int.or_else(double).or_else(truth).unwrap_or_else(|| Value::String(value.to_owned()))
    }

    pub(in crate::judge) fn check_set(traces: &TraceSet, expectation: Expectation, told: Expect) {
        let Verdict { looked_at, failures, warnings } = judge(traces, &expectation);
        let holds = if failures.is_empty() { "holds" } else { "fails" };
        let mut text = format!("{holds}, {looked_at} looked at");
        for Failure { rule, message, nearest } in failures {
            match message == NO_SPANS {
                true => text += ", no spans",
                false => text += &format!("\n{rule}: {message}"),
            }
            text += &nearest.map_or(String::new(), |it| format!("\n  nearest: {it}"));
        }
        warnings.iter().for_each(|warning| text += &format!("\nwarning: {}", warning.told));
        if text.contains('\n') {
            text.push('\n');
        }
        told.assert_eq(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_of_the_same_trace() {
        let mut set = table::traces("a 0..9\n  b 1..2");
        assert_eq!(Index::new(&set).parent(1), Some(0));
        assert_eq!(Index::new(&set).children(0), [1]);
        set.spans[1].trace_id = "2".repeat(32);
        set.lookups = Lazy::default();
        assert_eq!(Index::new(&set).parent(1), None);
        assert!(Index::new(&set).is_orphan(1));
    }

    #[test]
    fn descent_ends_where_parents_go_round() {
        // 0 and 1 are each other's parents, 2 hangs below, 3 is its own parent, 4 is a root.
        let parents = [Some(1), Some(0), Some(1), Some(3), None];
        let Descent { order, cycles } = descent(&parents);
        assert_eq!(order, [2, 4]);
        assert_eq!(cycles, [vec![0, 1], vec![3]]);
    }

    #[test]
    fn lifecycle_spans_want_to_be_named() {
        let table =
            "alpine.start 0..1 lifecycle\nclnrm.step:hello 1..2 lifecycle\nhello.start 3..4";
        let mut set = table::traces(table);
        let named = |set: &TraceSet, name| Index::new(set).named(&Pattern::new(name));
        assert_eq!(named(&set, "alpine.start"), [0]);
        assert_eq!(named(&set, "container.start"), [0]);
        assert_eq!(named(&set, "container.*"), [0]);
        assert_eq!(named(&set, "clnrm.step:*"), [1]);
        assert_eq!(named(&set, "*"), [2]);
        assert_eq!(named(&set, "alpine.*"), Vec::<usize>::new());
        set.lifecycle_counts = true;
        assert_eq!(named(&set, "*"), [0, 1, 2]);
        assert_eq!(named(&set, "alpine.*"), [0]);
    }

    #[test]
    fn the_earliest_ancestor_of_a_cycle_is_another_span() {
        let mut set = table::traces("a 0..9\n  b 1..8\n    b 2..3");
        assert_eq!(Index::new(&set).earliest_above(&[1, 2]), [None, None, Some(1)]);
        set.spans[0].parent_id = Some(set.spans[1].span_id.clone());
        set.lookups = Lazy::default();
        assert_eq!(Index::new(&set).earliest_above(&[0]), [None, Some(0), Some(0)]);
    }
}
