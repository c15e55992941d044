//! Spans as they are written down: each resource once, however many spans it has. For
//! `#[serde(with)]`.

use std::collections::HashMap;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Attributes, Span};

/// Writes spans: the resources, of each span which of them, and the spans.
///
/// # Errors
/// When `serializer` fails.
pub fn serialize<S: Serializer>(spans: &[Span], serializer: S) -> Result<S::Ok, S::Error> {
    let mut resources: Vec<&Attributes> = Vec::new();
    // By where it lies, and then by what it is: every request has its own.
    let mut places: HashMap<*const Attributes, u32> = HashMap::new();
    let mut contents: HashMap<Vec<u8>, u32> = HashMap::new();
    let of_each: Vec<u32> = spans
        .iter()
        .map(|span| {
            *places.entry(Arc::as_ptr(&span.resource)).or_insert_with(|| {
                let content = postcard::to_stdvec(&*span.resource).unwrap_or_default();
                *contents.entry(content).or_insert_with(|| {
                    resources.push(&span.resource);
                    resources.len() as u32 - 1
                })
            })
        })
        .collect();
    (resources, of_each, spans).serialize(serializer)
}

/// Reads spans, which share their resources.
///
/// # Errors
/// When `deserializer` fails, or a span is of no resource.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Span>, D::Error> {
    let (resources, of_each, mut spans) =
        <(Vec<Arc<Attributes>>, Vec<u32>, Vec<Span>)>::deserialize(deserializer)?;
    if of_each.len() != spans.len() {
        return Err(D::Error::custom("not every span has a resource"));
    }
    for (span, of) in spans.iter_mut().zip(of_each) {
        let resource = resources.get(of as usize);
        span.resource = resource.ok_or_else(|| D::Error::custom("no such resource"))?.clone();
    }
    Ok(spans)
}
