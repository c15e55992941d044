//! Spans as they are judged: OTLP's model with its encodings taken away.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::attributes::Attributes;

mod attributes;
pub mod packed;

/// One span of a trace set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Trace id, 32 hex digits.
    pub trace_id: String,
    /// Span id, 16 hex digits.
    pub span_id: String,
    /// Parent span id, 16 hex digits; `None` for a root.
    pub parent_id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SpanKind,
    /// Start, nanoseconds since the run began; negative when before it.
    pub start_ns: i64,
    /// End, nanoseconds since the run began; before the start where the span never ended.
    pub end_ns: i64,
    /// Its status.
    pub status: Status,
    /// Its own attributes.
    pub attributes: Attributes,
    /// Attributes of the resource it came from, shared by the spans of that; written apart, see
    /// [`packed`].
    #[serde(skip)]
    pub resource: Arc<Attributes>,
    /// Name of the instrumentation scope.
    pub scope: String,
    /// What happened during it.
    pub events: Vec<Event>,
    /// What the SDK says it left out of this span.
    pub dropped: Dropped,
    /// Where it came from.
    pub source: Source,
}

/// How much an SDK left out of a span because of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Attributes of the span, its events, its links, its resource and its scope.
    pub attributes: u32,
    /// Events.
    pub events: u32,
    /// Links.
    pub links: u32,
}

/// How a span reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Exported by the code under test over OTLP.
    Otlp,
    /// Made by clnrm about the run itself.
    Lifecycle,
}

/// OpenTelemetry's span kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "OpenTelemetry documents them")]
pub enum SpanKind {
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// A span's status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its code.
    pub code: StatusCode,
    /// Its message, empty when there is none.
    pub message: String,
}

/// OpenTelemetry's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "OpenTelemetry documents them")]
pub enum StatusCode {
    Unset,
    Ok,
    Error,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// When, nanoseconds since the run began.
    pub at_ns: i64,
    /// Its attributes.
    pub attributes: Attributes,
}

/// An attribute value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the variants are OTLP's")]
pub enum Value {
    String(String),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    Map(Attributes),
    /// A value that was sent empty.
    Empty,
}
