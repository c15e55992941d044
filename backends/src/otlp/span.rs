//! Turns OTLP's spans and values into ours.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;

use crate::agent::relay::PROBE_TRACE;
use crate::trace::{Attributes, Dropped, Event, Source, Span, SpanKind, Status, StatusCode, Value};

/// A span's identity, well formed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ids {
    trace: u128,
    span: u64,
    parent: Option<u64>,
}

impl Ids {
    /// `None` when an id has the wrong length, or when the trace or span id is missing or zero.
    pub(super) fn of(span: &otlp::Span) -> Option<Ids> {
        let trace = u128::from_be_bytes(span.trace_id.as_slice().try_into().ok()?);
        let id = u64::from_be_bytes(span.span_id.as_slice().try_into().ok()?);
        let parent = match span.parent_span_id.as_slice() {
            [] => 0,
            parent => u64::from_be_bytes(parent.try_into().ok()?),
        };
        (trace != 0 && id != 0).then_some(Ids {
            trace,
            span: id,
            parent: (parent != 0).then_some(parent),
        })
    }

    /// Whether the agent's own probes asked for it.
    pub(super) fn is_of_probe(self) -> bool {
        u128::from_str_radix(PROBE_TRACE, 16) == Ok(self.trace)
    }

    /// The trace's id and the span's own.
    pub(super) fn key(self) -> [u64; 3] {
        [(self.trace >> 64) as u64, self.trace as u64, self.span]
    }
}

/// The resource and the scope that a span came under.
pub(super) struct Origin<'a> {
    pub(super) resource: &'a Arc<Attributes>,
    pub(super) scope: &'a str,
    /// Attributes that the SDK left out of both.
    pub(super) dropped: u32,
}

/// The span as it is judged.
pub(super) fn span(span: otlp::Span, ids: Ids, origin: &Origin<'_>) -> Span {
    let dropped = dropped(&span, origin.dropped);
    Span {
        trace_id: format!("{:032x}", ids.trace),
        span_id: format!("{:016x}", ids.span),
        parent_id: ids.parent.map(|parent| format!("{parent:016x}")),
        kind: kind(span.kind()),
        name: span.name,
        start_ns: nanoseconds(span.start_time_unix_nano),
        end_ns: end(span.end_time_unix_nano),
        status: status(span.status.unwrap_or_default()),
        attributes: attributes(span.attributes),
        resource: origin.resource.clone(),
        scope: origin.scope.to_owned(),
        events: span.events.into_iter().map(event).collect(),
        dropped,
        source: Source::Otlp,
    }
}

/// Says which enums of a span have numbers without a meaning.
pub(super) fn unknown_words(span: &otlp::Span) -> impl Iterator<Item = String> {
    let code = span.status.as_ref().map_or(0, |status| status.code);
    let is_unknown = [
        otlp::span::SpanKind::try_from(span.kind).is_err(),
        otlp::status::StatusCode::try_from(code).is_err(),
    ];
    let words = [("kind", "a kind of span", span.kind), ("code", "a status code", code)];
    let unknown = words.into_iter().zip(is_unknown).filter(|(_, is_unknown)| *is_unknown);
    unknown.map(|((field, expected, number), _)| {
        format!("span `{}`: `{field}` is lost, because {number} is not {expected}", span.name)
    })
}

fn dropped(span: &otlp::Span, of_origin: u32) -> Dropped {
    let of_events = span.events.iter().map(|event| event.dropped_attributes_count);
    let of_links = span.links.iter().map(|link| link.dropped_attributes_count);
    let inner = of_events.chain(of_links).fold(of_origin, u32::saturating_add);
    Dropped {
        attributes: span.dropped_attributes_count.saturating_add(inner),
        events: span.dropped_events_count,
        links: span.dropped_links_count,
    }
}

/// Attributes by key; of a key given twice the last value counts.
pub(super) fn attributes(attributes: Vec<KeyValue>) -> Attributes {
    attributes.into_iter().map(|attribute| (attribute.key, value(attribute.value))).collect()
}

fn value(value: Option<AnyValue>) -> Value {
    use any_value::Value as Otlp;
    match value.and_then(|value| value.value) {
        Some(Otlp::StringValue(text)) => Value::String(text),
        Some(Otlp::BoolValue(bool)) => Value::Bool(bool),
        Some(Otlp::IntValue(int)) => Value::Int(int),
        Some(Otlp::DoubleValue(double)) => Value::Double(double),
        Some(Otlp::BytesValue(bytes)) => Value::Bytes(bytes),
        Some(Otlp::ArrayValue(array)) => {
            let values = array.values.into_iter();
            Value::Array(values.map(|item| self::value(Some(item))).collect())
        }
        Some(Otlp::KvlistValue(list)) => Value::Map(attributes(list.values)),
        // The second belongs to profiles and means nothing in a span.
        None | Some(Otlp::StringValueStrindex(_)) => Value::Empty,
    }
}

fn event(event: otlp::span::Event) -> Event {
    Event {
        name: event.name,
        at_ns: nanoseconds(event.time_unix_nano),
        attributes: attributes(event.attributes),
    }
}

fn kind(kind: otlp::span::SpanKind) -> SpanKind {
    match kind {
        otlp::span::SpanKind::Unspecified => SpanKind::Unspecified,
        otlp::span::SpanKind::Internal => SpanKind::Internal,
        otlp::span::SpanKind::Server => SpanKind::Server,
        otlp::span::SpanKind::Client => SpanKind::Client,
        otlp::span::SpanKind::Producer => SpanKind::Producer,
        otlp::span::SpanKind::Consumer => SpanKind::Consumer,
    }
}

fn status(status: otlp::Status) -> Status {
    let code = match status.code() {
        otlp::status::StatusCode::Unset => StatusCode::Unset,
        otlp::status::StatusCode::Ok => StatusCode::Ok,
        otlp::status::StatusCode::Error => StatusCode::Error,
    };
    Status { code, message: status.message }
}

/// The end of a span; before every start where the span never ended.
fn end(unix: u64) -> i64 {
    if unix == 0 { i64::MIN } else { nanoseconds(unix) }
}

/// The last moment that fits for those beyond it, in the year 2262.
fn nanoseconds(unix: u64) -> i64 {
    i64::try_from(unix).unwrap_or(i64::MAX)
}
