//! What a test says its spans must look like, as data without places: where an expectation stands
//! in its file does not matter for its verdict.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One thing that must hold of a trace set, judged by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Expectation {
    /// `[[expect.span]]`
    Span(SpanExpectation),
    /// `[expect.graph]`
    Graph(GraphExpectation),
    /// `[expect.order]`
    Order(OrderExpectation),
    /// `[expect.counts]`
    Counts(CountsExpectation),
    /// `[expect.status]`
    Status(StatusExpectation),
    /// `[[expect.window]]`
    Window(WindowExpectation),
    /// `[expect.hermeticity]`
    Hermeticity(HermeticityExpectation),
    /// One of `[assertions]`.
    Assertion(Assertion),
}

/// Some span, or so many, satisfies all of this together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SpanExpectation {
    /// Exact name, or a glob when it contains `*`, `?`, `[` or `{`.
    pub name: String,
    /// Kind, lower case: `internal`, `server`, `client`, `producer`, `consumer`.
    pub kind: Option<String>,
    /// Name (or glob) of its direct parent.
    pub parent: Option<String>,
    /// All of these attributes.
    pub attributes_all: BTreeMap<String, Predicate>,
    /// At least one of these attributes, if any are given.
    pub attributes_any: BTreeMap<String, Predicate>,
    /// Names (or globs) of events that must all be there.
    pub events_all: Vec<String>,
    /// Names (or globs) of events one of which must be there, if any are given.
    pub events_any: Vec<String>,
    /// Its status.
    pub status: Option<ExpectedStatus>,
    /// Bounds on its duration in milliseconds, inclusive.
    pub duration_ms: Option<Range>,
    /// How many spans must satisfy it; at least one when `None`.
    pub count: Option<Bounds>,
    /// `Some(false)`: no span may satisfy it.
    pub exists: Option<bool>,
    /// Names (or globs) one of which must be a direct child, if any are given.
    pub children_any: Vec<String>,
    /// Its `service.name`.
    pub service: Option<String>,
    /// Whether it is one of clnrm's own spans, by its plain name too (`source = "clnrm"`).
    pub of_clnrm: bool,
}

/// What an attribute value must be. Values compare by value: `"200"` equals the integer 200.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Predicate {
    /// Equal to this.
    pub eq: Option<Literal>,
    /// There, and not equal to this.
    pub ne: Option<Literal>,
    /// Bounds, which are numbers; a value that is no number satisfies none of them.
    pub gte: Option<Literal>,
    /// At most.
    pub lte: Option<Literal>,
    /// More than.
    pub gt: Option<Literal>,
    /// Less than.
    pub lt: Option<Literal>,
    /// A string that contains this, or an array one of whose elements equals it.
    pub contains: Option<Literal>,
    /// The value as text matches this regular expression.
    pub matches: Option<String>,
    /// Whether the attribute is there at all.
    pub exists: Option<bool>,
    /// Equal to one of these, if given.
    pub one_of: Option<Vec<Literal>>,
}

/// A value written in a test file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "TOML's own types")]
pub(crate) enum Literal {
    String(String),
    Bool(bool),
    Int(i64),
    Float(f64),
    List(Vec<Literal>),
}

/// An inclusive range of a measured quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// Lower bound.
    pub min: Option<f64>,
    /// Upper bound.
    pub max: Option<f64>,
}

/// Bounds on a count; all given ones hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bounds {
    /// At least (`gte`, `min`; the larger when both are given).
    pub at_least: Option<u64>,
    /// At most (`lte`, `max`; the smaller when both are given).
    pub at_most: Option<u64>,
    /// Exactly.
    pub exactly: Option<u64>,
}

/// The shape of the span forest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GraphExpectation {
    /// Some span of the second name lies directly under a span of the first.
    pub must_include: Vec<(String, String)>,
    /// No span of the second name lies anywhere under a span of the first.
    pub must_not_cross: Vec<(String, String)>,
    /// No span is its own ancestor.
    pub acyclic: Option<bool>,
    /// No span has more than this many ancestors plus itself.
    pub max_depth: Option<u64>,
    /// All spans hang together through parent links.
    pub must_be_connected: Option<bool>,
    /// Exactly one span has no parent in the set.
    pub single_root: Option<bool>,
}

/// Which spans come before which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderExpectation {
    /// Pairs `(a, b)`: both occur, and every `b` has an `a` that ended no later than it began
    /// (where that `a` is its ancestor: began no later). `must_follow` pairs come in reversed.
    pub must_precede: Vec<(String, String)>,
}

/// How many there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountsExpectation {
    /// Spans.
    pub spans_total: Option<Bounds>,
    /// Span events.
    pub events_total: Option<Bounds>,
    /// Spans whose status is an error.
    pub errors_total: Option<Bounds>,
    /// Spans of a name or glob.
    pub by_name: BTreeMap<String, Bounds>,
    /// Spans of a kind.
    pub by_kind: BTreeMap<String, Bounds>,
    /// Spans of a `service.name`.
    pub by_service: BTreeMap<String, Bounds>,
}

/// How spans ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusExpectation {
    /// All spans, but for those that `by_name` matches.
    pub all: Option<ExpectedStatus>,
    /// Spans of a name or glob. Where several match one span, an exact name wins, then the longest
    /// glob.
    pub by_name: BTreeMap<String, ExpectedStatus>,
}

/// When spans are, and how long they take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WindowExpectation {
    /// Every span that `contains` names lies within some span of this name, both ends included.
    pub outer: Option<String>,
    /// Names or globs; each of them occurs.
    pub contains: Vec<String>,
    /// The window opens when the first span of this name begins; with the first span of all when
    /// `None`.
    pub start: Option<String>,
    /// It closes when the last span of this name ends; with the last span of all when `None`.
    pub end: Option<String>,
    /// Bounds on how long it is open, in milliseconds.
    pub duration_ms: Range,
    /// At least so many spans lie within it.
    pub min_spans: Option<u64>,
}

/// What a test may touch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct HermeticityExpectation {
    /// No span names a peer outside the test, and nothing was sent to an address outside.
    pub no_external_services: bool,
    /// Hosts (or globs) that are no outside.
    pub allowed_hosts: Vec<String>,
    /// The test's own services.
    pub services: Vec<String>,
    /// What the resource of every span must have.
    pub resource_must_match: BTreeMap<String, Predicate>,
    /// Keys (or globs) that no span may have an attribute of.
    pub forbid_keys: Vec<String>,
}

/// Something asserted of the run itself, judged on the spans clnrm makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Assertion {
    /// So many commands were executed.
    ExecutedCommands(u64),
    /// Every step ended as it must.
    AllStepsSucceed,
    /// The service became ready.
    ServiceStarts(String),
    /// An assertion of this name, which clnrm does not know and so never holds.
    Unknown(String),
}

/// What a status must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExpectedStatus {
    /// Not an error: OTLP's OK or UNSET.
    Ok,
    /// OTLP's ERROR.
    Error,
    /// OTLP's UNSET.
    Unset,
    /// OTLP's OK, set by the code.
    ExplicitOk,
}

/// What judging an expectation came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// How many spans were looked at.
    pub looked_at: u64,
    /// Why it does not hold; empty when it does.
    pub failures: Vec<Failure>,
    /// What the user should know although it holds.
    pub warnings: Vec<Warning>,
}

/// Something the user should know of an expectation that may hold all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Warning {
    /// What it is about.
    pub about: About,
    /// What there is to know, in one sentence without a full stop.
    pub told: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum About {
    /// A name that no span has.
    Names,
    /// Clocks that differ a little.
    Clocks,
}

impl About {
    /// The code of such a diagnostic.
    pub(crate) fn code(self) -> &'static str {
        match self {
            About::Names => "judge/matches-nothing",
            About::Clocks => "judge/clocks",
        }
    }
}

/// One way in which an expectation does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The rule, as a key path within the expectation (`must_precede[1]`, `by_kind.server`), empty
    /// for the whole of it.
    pub rule: String,
    /// What was expected and what was found, in one sentence without a full stop.
    pub message: String,
    /// The span that came closest and what was wrong with it, where there is one.
    pub nearest: Option<String>,
}
