//! Tells a span that is sent again from another span of the same id.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::span::Ids;
use crate::trace::{Attributes, Span};

/// The ids of the spans that are kept, and their resources.
#[derive(Default)]
pub(super) struct Repeats {
    /// The place of the first span of an id.
    first: HashMap<Key, u32>,
    /// Its digest, once another span had its id.
    first_digests: HashMap<Key, blake3::Hash>,
    /// Digests of the spans that differ from the first of their id.
    others: HashMap<Key, HashSet<blake3::Hash>>,
    /// Each resource once, by its digest.
    resources: HashMap<blake3::Hash, Arc<Attributes>>,
    /// The resource that was asked for last.
    last: Option<blake3::Hash>,
}

type Key = [u64; 3];

/// How a span compares to the spans that already have its id.
pub(super) enum Met<'a> {
    /// Nothing: no span has it.
    New,
    /// An equal span has it.
    Again,
    /// A span has it that differs, and no equal one.
    Differs(&'a Span),
}

impl Repeats {
    /// The resource with these attributes, shared by all spans that have an equal one.
    pub(super) fn resource(&mut self, attributes: Attributes) -> Arc<Attributes> {
        if let Some(last) = self.last.take() {
            // A resource of no span that is kept would stay for nothing.
            let is_unused = |resource: &Arc<Attributes>| Arc::strong_count(resource) == 1;
            if self.resources.get(&last).is_some_and(is_unused) {
                self.resources.remove(&last);
            }
        }
        // Writing to memory does not fail; if it did, resources would count as one.
        let digest = blake3::hash(&postcard::to_stdvec(&attributes).unwrap_or_default());
        self.last = Some(digest);
        self.resources.entry(digest).or_insert_with(|| Arc::new(attributes)).clone()
    }

    /// Compares a span with those kept under its id. Spans are equal when everything is that can
    /// be judged: what the span says, its resource and its dropped counts. Flags, links and the
    /// trace state cannot be.
    pub(super) fn meet<'a>(&mut self, ids: Ids, span: &Span, kept: &'a [Span]) -> Met<'a> {
        let Some(&first) = self.first.get(&ids.key()) else { return Met::New };
        let first = &kept[first as usize];
        let of_first = *self.first_digests.entry(ids.key()).or_insert_with(|| digest(first));
        let digest = digest(span);
        let others = self.others.get(&ids.key());
        if digest == of_first || others.is_some_and(|others| others.contains(&digest)) {
            Met::Again
        } else {
            Met::Differs(first)
        }
    }

    /// Notes that a span that was not met `Again` is kept at `place`.
    pub(super) fn keep(&mut self, ids: Ids, span: &Span, place: usize) {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        if *self.first.entry(ids.key()).or_insert(place) != place {
            self.others.entry(ids.key()).or_default().insert(digest(span));
        }
    }
}

/// Says of two spans of one id how they differ.
pub(super) fn sentence(first: &Span, second: &Span) -> String {
    let fields = [
        ("name", first.name != second.name),
        ("parent", first.parent_id != second.parent_id),
        ("kind", first.kind != second.kind),
        ("times", (first.start_ns, first.end_ns) != (second.start_ns, second.end_ns)),
        ("status", first.status != second.status),
        ("attributes", first.attributes != second.attributes),
        ("events", first.events != second.events),
        ("resource", first.resource != second.resource),
        ("scope", first.scope != second.scope),
        ("dropped counts", first.dropped != second.dropped),
    ];
    let differing = fields.iter().filter(|(_, differs)| *differs).map(|(field, _)| *field);
    // In an order that does not depend on which came first.
    let (one, other) = if first.name <= second.name { (first, second) } else { (second, first) };
    format!(
        "span id {} of trace {} was sent twice, for `{}` and for `{}`, which differ in {}: \
         both are kept",
        first.span_id,
        first.trace_id,
        one.name,
        other.name,
        differing.collect::<Vec<_>>().join(", "),
    )
}

/// By content, so that a value that is not a number is equal to itself. Equal resources are one, and
/// stay where they are.
fn digest(span: &Span) -> blake3::Hash {
    let resource = Arc::as_ptr(&span.resource).addr();
    // Writing to memory does not fail; if it did, spans would count as equal only by their names.
    let text = postcard::to_stdvec(&(span, resource));
    blake3::hash(&text.unwrap_or_else(|_| span.name.clone().into_bytes()))
}
