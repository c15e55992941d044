//! Reads protobuf requests: counts what one would decode to without building any of it, and leaves
//! out text that is not UTF-8, which would cost the whole request.

use std::borrow::Cow;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::{DecodeError, Message as _};

use super::decode::{Read, Tally};
use super::notes::Notes;

/// As deep as prost follows messages.
const MAX_DEPTH: usize = 100;

/// Counts the messages of a request; the error says what is wrong with the body.
pub(super) fn count(body: &[u8]) -> Result<Tally, &'static str> {
    let mut tally = Tally::default();
    walk(body, Message::Request, MAX_DEPTH, &mut tally)?;
    Ok(tally)
}

/// Reads a request that was counted.
pub(super) fn read(body: &[u8]) -> Result<Read, DecodeError> {
    let mut lost = Notes::default();
    let request = ExportTraceServiceRequest::decode(body).or_else(|error| {
        let mut readable = Vec::with_capacity(body.len());
        let whole = copy(body, Message::Request, &mut readable, &mut lost);
        if whole.is_ok() && lost.len() > 0 {
            ExportTraceServiceRequest::decode(readable.as_slice())
        } else {
            Err(error)
        }
    })?;
    Ok(Read { request, lost })
}

/// OTLP's messages, as far as they can be repeated below a request.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Request,
    ResourceSpans,
    Resource,
    Entity,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    KeyValue,
    AnyValue,
    Array,
    KeyValueList,
    Status,
    /// A string.
    Text,
}

impl Message {
    /// What `field` of this message holds, where it can hold many.
    fn child(self, field: usize) -> Option<Message> {
        use Message::*;
        Some(match (self, field) {
            (Request, 1) => ResourceSpans,
            (ResourceSpans, 1) => Resource,
            (ResourceSpans, 2) => ScopeSpans,
            (Resource, 1) | (Scope, 3) | (Span, 9) => KeyValue,
            (Event, 3) | (Link, 4) | (KeyValueList, 1) => KeyValue,
            (Resource, 3) => Entity,
            (Entity, 3 | 4) => Text,
            (Span, 15) => Status,
            (ScopeSpans, 1) => Scope,
            (ScopeSpans, 2) => Span,
            (Span, 11) => Event,
            (Span, 13) => Link,
            (KeyValue, 2) | (Array, 1) => AnyValue,
            (AnyValue, 5) => Array,
            (AnyValue, 6) => KeyValueList,
            _ => return None,
        })
    }
}

impl Message {
    /// The name, for a note, of the string in `field` of this message.
    fn text(self, field: usize) -> Option<&'static str> {
        use Message::*;
        Some(match (self, field) {
            (AnyValue, 1) => "stringValue",
            (KeyValue, 1) => "key",
            (Scope, 1) | (Span, 5) | (Event, 2) => "name",
            (Scope, 2) => "version",
            (Status, 2) => "message",
            (Span | Link, 3) => "traceState",
            (ResourceSpans | ScopeSpans, 3) | (Entity, 1) => "schemaUrl",
            (Entity, 2) => "type",
            (Entity, 3) => "idKeys",
            (Entity, 4) => "descriptionKeys",
            _ => return None,
        })
    }

    /// How notes about a part of `message` begin.
    fn subject(self, message: &[u8]) -> Cow<'static, str> {
        let (kind, name) = match self {
            Message::Resource => return "resource: ".into(),
            Message::Link => return "link: ".into(),
            Message::Scope => ("scope", 1),
            Message::Span => ("span", 5),
            Message::Event => ("event", 2),
            Message::KeyValue => ("attribute", 1),
            _ => return "".into(),
        };
        let mut rest = message;
        let fields = std::iter::from_fn(|| field(&mut rest).ok().flatten());
        let name = fields.filter(|field| field.number == name).last();
        let name = name.and_then(|field| std::str::from_utf8(field.value).ok());
        format!("{kind} `{}`: ", name.unwrap_or_default()).into()
    }
}

/// A field of a message.
struct Field<'a> {
    number: usize,
    wire_type: usize,
    /// The bytes of its value.
    value: &'a [u8],
    /// All of its bytes.
    whole: &'a [u8],
}

/// The next field of a message.
fn field<'a>(body: &mut &'a [u8]) -> Result<Option<Field<'a>>, &'static str> {
    if body.is_empty() {
        return Ok(None);
    }
    let begin = *body;
    let key = varint(body)?;
    let wire_type = key & 7;
    let length = match wire_type {
        0 => varint(body).map(|_| 0)?,
        1 => 8,
        2 => varint(body)?,
        5 => 4,
        _ => return Err("a field of a type that OTLP does not use"),
    };
    let (value, rest) =
        body.split_at_checked(length).ok_or("a field is longer than its message")?;
    *body = rest;
    let whole = &begin[..begin.len() - rest.len()];
    Ok(Some(Field { number: key >> 3, wire_type, value, whole }))
}

/// Copies a message without its texts that are not UTF-8; false when it means nothing without one.
fn copy(
    mut body: &[u8],
    message: Message,
    out: &mut Vec<u8>,
    lost: &mut Notes,
) -> Result<bool, &'static str> {
    while let Some(field) = field(&mut body)? {
        let is_long = field.wire_type == 2;
        let text = message.text(field.number).filter(|_| is_long);
        if let Some(what) = text.filter(|_| std::str::from_utf8(field.value).is_err()) {
            lost.add(&format_args!("`{what}` is lost, because it is not valid UTF-8"));
            if (message, field.number) == (Message::KeyValue, 1) {
                return Ok(false);
            }
            continue;
        }
        let child = message.child(field.number).filter(|child| is_long && *child != Message::Text);
        let Some(child) = child else {
            out.extend_from_slice(field.whole);
            continue;
        };
        let (known, mut copied) = (lost.len(), Vec::with_capacity(field.value.len()));
        let is_whole = copy(field.value, child, &mut copied, lost)?;
        if lost.len() > known {
            lost.name_since(known, &child.subject(field.value));
        }
        if is_whole {
            prost::encoding::encode_varint((field.number << 3 | 2) as u64, out);
            prost::encoding::encode_varint(copied.len() as u64, out);
            out.extend_from_slice(&copied);
        }
    }
    Ok(true)
}

fn walk(
    mut body: &[u8],
    message: Message,
    depth: usize,
    tally: &mut Tally,
) -> Result<(), &'static str> {
    tally.parts += 1;
    tally.spans += usize::from(message == Message::Span);
    while let Some(field) = field(&mut body)? {
        if let (2, Some(child)) = (field.wire_type, message.child(field.number)) {
            let depth = depth.checked_sub(1).ok_or("messages nested too deeply")?;
            walk(field.value, child, depth, tally)?;
        }
    }
    Ok(())
}

fn varint(body: &mut &[u8]) -> Result<usize, &'static str> {
    prost::decode_length_delimiter(body).map_err(|_| "a number that does not end")
}
