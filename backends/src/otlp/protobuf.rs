//! Counts what a protobuf request would decode to, without building any of it.

use super::decode::Tally;

/// As deep as prost follows messages.
const MAX_DEPTH: usize = 100;

/// Counts the messages of a request; the error says what is wrong with the body.
pub(super) fn count(body: &[u8]) -> Result<Tally, &'static str> {
    let mut tally = Tally::default();
    walk(body, Message::Request, MAX_DEPTH, &mut tally)?;
    Ok(tally)
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
    /// A message or a string that holds no other.
    Leaf,
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
            (Entity, 3 | 4) | (Span, 15) => Leaf,
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

fn walk(
    mut body: &[u8],
    message: Message,
    depth: usize,
    tally: &mut Tally,
) -> Result<(), &'static str> {
    tally.parts += 1;
    tally.spans += usize::from(message == Message::Span);
    while !body.is_empty() {
        let key = varint(&mut body)?;
        let length = match key & 7 {
            0 => varint(&mut body).map(|_| 0)?,
            1 => 8,
            2 => varint(&mut body)?,
            5 => 4,
            _ => return Err("a field of a type that OTLP does not use"),
        };
        let (value, rest) =
            body.split_at_checked(length).ok_or("a field is longer than its message")?;
        body = rest;
        if let (2, Some(child)) = (key & 7, message.child(key >> 3)) {
            let depth = depth.checked_sub(1).ok_or("messages nested too deeply")?;
            walk(value, child, depth, tally)?;
        }
    }
    Ok(())
}

fn varint(body: &mut &[u8]) -> Result<usize, &'static str> {
    prost::decode_length_delimiter(body).map_err(|_| "a number that does not end")
}
