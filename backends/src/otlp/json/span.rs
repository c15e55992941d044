//! Spans, events and links in JSON.

use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use super::{Reader, Result, Token, bytes, number};

/// An id that no span can have, so that a span whose id cannot be read is refused by itself.
const NO_ID: [u8; 1] = [0];

impl Reader<'_> {
    pub(super) fn span(&mut self) -> Result<Span> {
        let mut span = Span::default();
        let known = self.lost.len();
        self.structure(|reader, key| reader.span_field(&mut span, key))?;
        self.lost.name_since(known, &format_args!("span `{}`: ", span.name));
        Ok(span)
    }

    fn span_field(&mut self, span: &mut Span, key: &str) -> Result<()> {
        match key {
            "traceId" | "trace_id" => span.trace_id = self.id("traceId")?,
            "spanId" | "span_id" => span.span_id = self.id("spanId")?,
            "parentSpanId" | "parent_span_id" => span.parent_span_id = self.id("parentSpanId")?,
            "traceState" | "trace_state" => span.trace_state = self.text("traceState")?,
            "flags" => span.flags = self.count("flags")?,
            "name" => span.name = self.text("name")?,
            "kind" => {
                let of_word = |word: &str| SpanKind::from_str_name(word).map(|kind| kind as i32);
                span.kind = self.word("kind", "a kind of span", of_word)?;
            }
            "startTimeUnixNano" | "start_time_unix_nano" => {
                span.start_time_unix_nano = self.time("startTimeUnixNano")?;
            }
            "endTimeUnixNano" | "end_time_unix_nano" => {
                span.end_time_unix_nano = self.time("endTimeUnixNano")?;
            }
            "attributes" => span.attributes = self.attributes()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                span.dropped_attributes_count = self.count("droppedAttributesCount")?;
            }
            "events" => self.list("events", |reader| {
                span.events.extend(reader.event()?);
                Ok(())
            })?,
            "droppedEventsCount" | "dropped_events_count" => {
                span.dropped_events_count = self.count("droppedEventsCount")?;
            }
            "links" => self.list("links", |reader| {
                span.links.extend(reader.link()?);
                Ok(())
            })?,
            "droppedLinksCount" | "dropped_links_count" => {
                span.dropped_links_count = self.count("droppedLinksCount")?;
            }
            "status" => span.status = self.status()?,
            _ => self.pass_over()?,
        }
        Ok(())
    }

    fn event(&mut self) -> Result<Option<Event>> {
        let mut event = Event::default();
        let known = self.lost.len();
        let present = self.object("event", |reader, key| {
            match key {
                "timeUnixNano" | "time_unix_nano" => {
                    event.time_unix_nano = reader.time("timeUnixNano")?;
                }
                "name" => event.name = reader.text("name")?,
                "attributes" => event.attributes = reader.attributes()?,
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    event.dropped_attributes_count = reader.count("droppedAttributesCount")?;
                }
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        self.lost.name_since(known, &format_args!("event `{}`: ", event.name));
        Ok(present.then_some(event))
    }

    fn link(&mut self) -> Result<Option<Link>> {
        let mut link = Link::default();
        let known = self.lost.len();
        let present = self.object("link", |reader, key| {
            match key {
                "traceId" | "trace_id" => link.trace_id = reader.id("traceId")?,
                "spanId" | "span_id" => link.span_id = reader.id("spanId")?,
                "traceState" | "trace_state" => link.trace_state = reader.text("traceState")?,
                "attributes" => link.attributes = reader.attributes()?,
                "droppedAttributesCount" | "dropped_attributes_count" => {
                    link.dropped_attributes_count = reader.count("droppedAttributesCount")?;
                }
                "flags" => link.flags = reader.count("flags")?,
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        self.lost.name_since(known, &"link: ");
        Ok(present.then_some(link))
    }

    fn status(&mut self) -> Result<Option<Status>> {
        let mut status = Status::default();
        let present = self.object("status", |reader, key| {
            match key {
                "message" => status.message = reader.text("message")?,
                "code" => {
                    let of_word =
                        |word: &str| StatusCode::from_str_name(word).map(|code| code as i32);
                    status.code = reader.word("code", "a status code", of_word)?;
                }
                _ => reader.pass_over()?,
            }
            Ok(())
        })?;
        Ok(present.then_some(status))
    }

    /// An id in hex; empty when it is absent.
    fn id(&mut self, what: &str) -> Result<Vec<u8>> {
        let token = self.token()?;
        let id = match &token {
            Token::Null => return Ok(Vec::new()),
            Token::Text(Some(text)) => bytes::hex(text),
            _ => None,
        };
        match id {
            Some(id) => Ok(id),
            None => self.lose(what, &token, "an id in hex").map(|()| NO_ID.to_vec()),
        }
    }

    fn time(&mut self, what: &str) -> Result<u64> {
        Ok(self.integer(what, "a time in nanoseconds")?.unwrap_or_default())
    }

    /// A word of an enum, or its number.
    fn word(
        &mut self,
        what: &str,
        expected: &str,
        of_word: impl Fn(&str) -> Option<i32>,
    ) -> Result<i32> {
        let read =
            |text: &str| of_word(text).or_else(|| i32::try_from(number::integer(text)?).ok());
        Ok(self.scalar(what, expected, read)?.unwrap_or_default())
    }
}
