//! Where spans are kept as they arrive, with a note of everything that was not.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use tokio::sync::Notify;

use super::Received;
use super::decode::{self, Encoding, Refusal};
use super::onward::Next;
use super::signal::Signal;
use super::span::{self, Ids};
use crate::outcome::Signals;
use crate::trace::{Attributes, Span};

/// Spans of a receiver.
const MAX_SPANS: usize = 1_000_000;
/// Encoded bytes of a receiver's spans, each with its resource. One resource in a request may
/// stand for 100,000 copies of it here.
const MAX_BYTES: usize = 256 << 20;
/// Different sentences about refused requests; more are counted only.
const MAX_NOTES: usize = 10;
/// Characters of such a sentence, which may quote what was sent.
const MAX_NOTE: usize = 400;

/// What one receiver has got so far.
#[derive(Default)]
pub(super) struct Sink {
    held: Mutex<Held>,
    next: Option<Next>,
    changed: Notify,
    /// Exports that have begun and not ended.
    under_way: AtomicUsize,
    /// When the last one ended.
    last: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Held {
    spans: Vec<Span>,
    seen: HashSet<(u128, u64)>,
    bytes: usize,
    rejected: Rejected,
    signals: Signals,
    notes: Vec<String>,
    unlisted: usize,
}

/// How many spans were left out of requests that were otherwise taken.
#[derive(Clone, Copy, Default)]
pub(super) struct Rejected {
    malformed: usize,
    overflow: usize,
}

impl Sink {
    /// One that hands everything on to `next`, too.
    pub(super) fn with(next: Option<Next>) -> Sink {
        Sink { next, ..Sink::default() }
    }

    /// Announces an export; it must be ended.
    pub(super) fn export(&self) -> Export<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Export { sink: self, ended: false }
    }

    /// Whether no export is under way, and none has ended within `moment`.
    pub(super) fn is_quiet(&self, moment: Duration) -> bool {
        let last = *self.last.lock().expect("no holder panics");
        self.under_way.load(Ordering::SeqCst) == 0 && last.is_none_or(|at| at.elapsed() >= moment)
    }

    /// Notes something that may have cost spans.
    pub(super) fn tell(&self, sentence: &dyn fmt::Display) {
        self.held().note(sentence);
    }

    /// Reads a request and keeps its spans.
    pub(super) fn take(&self, body: &[u8], encoding: Encoding) -> Result<Rejected, Refusal> {
        let request = decode::request(body, encoding)?;
        if let Some(next) = &self.next {
            next.pass(Signal::Traces, request.encode_to_vec().into());
        }
        let rejected = self.held().keep(request);
        self.note_arrival();
        self.changed.notify_waiters();
        Ok(rejected)
    }

    /// Takes a request for logs or metrics.
    pub(super) fn take_other(&self, signal: Signal, body: Bytes, encoding: Encoding) {
        let Some(body) = signal.in_protobuf(body, encoding) else { return };
        self.held().signals.keep(signal, &body);
        if let Some(next) = &self.next {
            next.pass(signal, body);
        }
    }

    /// Resolves when a span of this name has arrived.
    pub(super) async fn heard_of(&self, name: &str) {
        let mut seen = 0;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on; what has come before is looked at now.
            changed.as_mut().enable();
            {
                let spans = &self.held().spans;
                if spans[seen.min(spans.len())..].iter().any(|span| span.name == name) {
                    return;
                }
                seen = spans.len();
            }
            changed.await;
        }
    }

    /// Everything so far, sorted; the sink is empty afterwards.
    pub(super) fn received(&self) -> Received {
        let mut held = std::mem::take(&mut *self.held());
        held.spans.sort_unstable_by(|a, b| {
            let a = (a.start_ns, &a.span_id, &a.trace_id);
            a.cmp(&(b.start_ns, &b.span_id, &b.trace_id))
        });
        let mut incomplete = held.notes;
        incomplete.sort();
        if held.unlisted > 0 {
            incomplete.push(format!("{} more OTLP requests were lost", held.unlisted));
        }
        incomplete.extend(held.rejected.sentences());
        Received { spans: held.spans, signals: held.signals, incomplete }
    }

    fn note_arrival(&self) {
        *self.last.lock().expect("no holder panics") = Some(Instant::now());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("keeping a span cannot panic")
    }
}

impl Held {
    fn keep(&mut self, request: ExportTraceServiceRequest) -> Rejected {
        let before = self.rejected;
        for resource_spans in request.resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            let resource_bytes = resource.encoded_len();
            let resource = Arc::new(span::attributes(resource.attributes));
            for scope_spans in resource_spans.scope_spans {
                let scope = scope_spans.scope.unwrap_or_default().name;
                for span in scope_spans.spans {
                    let bytes = resource_bytes + scope.len() + span.encoded_len();
                    self.keep_span(span, bytes, &resource, &scope);
                }
            }
        }
        self.rejected - before
    }

    fn keep_span(
        &mut self,
        span: otlp::Span,
        bytes: usize,
        resource: &Arc<Attributes>,
        scope: &str,
    ) {
        let Some(ids) = Ids::of(&span) else {
            self.rejected.malformed += 1;
            return;
        };
        if self.seen.contains(&ids.key()) {
            return; // an exporter that did not hear our answer sends again
        }
        if self.spans.len() == MAX_SPANS || self.bytes + bytes > MAX_BYTES {
            self.rejected.overflow += 1;
            return;
        }
        self.seen.insert(ids.key());
        self.bytes += bytes;
        self.spans.push(span::span(span, ids, resource, scope));
    }

    fn note(&mut self, sentence: &dyn fmt::Display) {
        let sentence: String = sentence.to_string().chars().take(MAX_NOTE).collect();
        if self.notes.contains(&sentence) {
            return;
        }
        if self.notes.len() == MAX_NOTES {
            self.unlisted += 1;
        } else {
            self.notes.push(sentence);
        }
    }
}

impl Rejected {
    pub(super) fn count(self) -> usize {
        self.malformed + self.overflow
    }

    pub(super) fn sentences(self) -> Vec<String> {
        let spans = |count| match count {
            0 => None,
            1 => Some("1 span".to_owned()),
            count => Some(format!("{count} spans")),
        };
        let malformed = spans(self.malformed)
            .map(|spans| format!("{spans} rejected for a malformed trace, span or parent id"));
        let overflow = spans(self.overflow).map(|spans| {
            let limit = MAX_BYTES >> 20;
            format!("{spans} dropped beyond {MAX_SPANS} spans or {limit} MiB")
        });
        malformed.into_iter().chain(overflow).collect()
    }
}

impl std::ops::Sub for Rejected {
    type Output = Rejected;

    fn sub(self, before: Rejected) -> Rejected {
        Rejected {
            malformed: self.malformed - before.malformed,
            overflow: self.overflow - before.overflow,
        }
    }
}

/// An export under way. Dropped before its end, with its connection, it leaves a note.
pub(super) struct Export<'a> {
    sink: &'a Sink,
    ended: bool,
}

impl Export<'_> {
    pub(super) fn end(mut self, refusal: Option<&Refusal>) {
        self.ended = true;
        if let Some(refusal) = refusal {
            self.sink.held().note(refusal);
        }
    }
}

impl Drop for Export<'_> {
    fn drop(&mut self) {
        self.sink.note_arrival();
        self.sink.under_way.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            let sentence = "an OTLP request was still under way when its connection was closed";
            self.sink.held().note(&sentence);
        }
    }
}
