//! Where spans are kept as they arrive, with a note of everything that was not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use tokio::sync::Notify;

use super::Received;
use super::decode::{self, Encoding, Read, Refusal};
use super::notes::Notes;
use super::onward::Next;
use super::repeats::{self, Met, Repeats};
use super::signal::Signal;
use super::span::{self, Ids, Origin};
use crate::outcome::Signals;
use crate::trace::Span;

/// Spans of a receiver.
const MAX_SPANS: usize = 1_000_000;
/// Encoded bytes of a receiver's spans, each with its resource. One resource in a request may
/// stand for 100,000 copies of it here.
const MAX_BYTES: usize = 256 << 20;

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
    repeats: Repeats,
    bytes: usize,
    rejected: Rejected,
    signals: Signals,
    /// About whole requests.
    lost_requests: Notes,
    /// About parts of spans that are kept.
    lost_parts: Notes,
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

    /// Returns true when no export is in flight and the last one ended `moment` ago or earlier.
    pub(super) fn is_quiet(&self, moment: Duration) -> bool {
        let last = *self.last.lock().expect("no holder panics");
        self.under_way.load(Ordering::SeqCst) == 0 && last.is_none_or(|at| at.elapsed() >= moment)
    }

    /// Notes something that may have cost spans.
    pub(super) fn tell(&self, sentence: &dyn fmt::Display) {
        self.held().lost_requests.add(sentence);
    }

    /// Reads a request and keeps its spans.
    pub(super) fn take(&self, body: &[u8], encoding: Encoding) -> Result<Rejected, Refusal> {
        let Read { request, lost } = decode::request(body, encoding)?;
        if let Some(next) = &self.next {
            next.pass(Signal::Traces, request.encode_to_vec().into());
        }
        let rejected = {
            let mut held = self.held();
            held.lost_parts.extend(lost);
            held.keep(request)
        };
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

    /// Resolves when `count` spans of this name have arrived.
    pub(super) async fn heard_of(&self, name: &str, count: u64) {
        let (mut seen, mut found) = (0, 0);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on; what has come before is looked at now.
            changed.as_mut().enable();
            {
                let spans = &self.held().spans;
                let new = spans[seen.min(spans.len())..].iter();
                found += new.filter(|span| span.name == name).count() as u64;
                if found >= count {
                    return;
                }
                seen = spans.len();
            }
            changed.await;
        }
    }

    /// The names of the spans so far, with how many have each.
    pub(super) fn names(&self) -> BTreeMap<String, u64> {
        let mut names = BTreeMap::new();
        for span in &self.held().spans {
            *names.entry(span.name.clone()).or_insert(0) += 1;
        }
        names
    }

    /// Everything so far, sorted; the sink is empty afterwards.
    pub(super) fn received(&self) -> Received {
        let mut held = std::mem::take(&mut *self.held());
        held.spans.sort_unstable_by(|a, b| {
            let a = (a.start_ns, &a.span_id, &a.trace_id, &a.name, a.end_ns);
            a.cmp(&(b.start_ns, &b.span_id, &b.trace_id, &b.name, b.end_ns))
        });
        let mut incomplete = held.lost_requests.into_sentences("OTLP requests");
        incomplete.extend(held.rejected.sentences());
        let losses = held.lost_parts.into_sentences("values of spans");
        Received { spans: held.spans, signals: held.signals, incomplete, losses }
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
            let resource_dropped = resource.dropped_attributes_count;
            let resource = self.repeats.resource(span::attributes(resource.attributes));
            for scope_spans in resource_spans.scope_spans {
                let scope = scope_spans.scope.unwrap_or_default();
                let origin = Origin {
                    resource: &resource,
                    scope: &scope.name,
                    dropped: resource_dropped.saturating_add(scope.dropped_attributes_count),
                };
                for span in scope_spans.spans {
                    let bytes = resource_bytes + scope.name.len() + span.encoded_len();
                    self.keep_span(span, bytes, &origin);
                }
            }
        }
        self.rejected - before
    }

    fn keep_span(&mut self, span: otlp::Span, bytes: usize, origin: &Origin<'_>) {
        let Some(ids) = Ids::of(&span) else {
            self.rejected.malformed += 1;
            return;
        };
        if ids.is_of_probe() {
            return; // a readiness probe of the agent caused this span
        }
        for unknown in span::unknown_words(&span) {
            self.lost_parts.add(&unknown);
        }
        let span = span::span(span, ids, origin);
        let met = self.repeats.meet(ids, &span, &self.spans);
        if matches!(met, Met::Again) {
            return; // an exporter that did not hear our answer sends again
        }
        if self.spans.len() == MAX_SPANS || self.bytes + bytes > MAX_BYTES {
            self.rejected.overflow += 1;
            return;
        }
        if let Met::Differs(first) = met {
            self.lost_parts.add(&repeats::sentence(first, &span));
        }
        self.repeats.keep(ids, &span, self.spans.len());
        self.bytes += bytes;
        self.spans.push(span);
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
            self.sink.held().lost_requests.add(refusal);
        }
    }
}

impl Drop for Export<'_> {
    fn drop(&mut self) {
        self.sink.note_arrival();
        self.sink.under_way.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            let sentence = "an OTLP request was still under way when its connection was closed";
            self.sink.held().lost_requests.add(&sentence);
        }
    }
}
