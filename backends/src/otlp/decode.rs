//! A body in, a request out: counted before it is built, refused when it cannot be read.

use std::fmt;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use tonic::Code;

use super::json::{self, Broken};
use super::notes::Notes;
use super::protobuf;

/// Bytes of a body, inflated.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Spans of a request.
const MAX_SPANS: usize = 100_000;
/// Messages of a request: attributes, events and links can be two bytes each, and a hundred once
/// decoded.
const MAX_PARTS: usize = 1_000_000;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// What a request would decode to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) spans: usize,
    /// Messages of any kind, spans among them.
    pub(super) parts: usize,
}

/// A request, and which of its values are lost.
pub(super) struct Read {
    pub(super) request: ExportTraceServiceRequest,
    pub(super) lost: Notes,
}

/// A limit that a request exceeds.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Limit {
    #[error("an OTLP request held more than {MAX_SPANS} spans")]
    Spans,
    #[error("an OTLP request held more than {MAX_PARTS} attributes and other parts")]
    Parts,
}

impl Limit {
    pub(super) fn check(tally: Tally) -> Result<(), Limit> {
        match tally {
            Tally { spans, .. } if spans > MAX_SPANS => Err(Limit::Spans),
            Tally { parts, .. } if parts > MAX_PARTS => Err(Limit::Parts),
            _ => Ok(()),
        }
    }
}

/// Why a whole request was not taken, as a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("an OTLP request of {bytes} bytes held more than {} MiB", MAX_BODY >> 20)]
    TooManyBytes { bytes: usize },
    #[error(transparent)]
    TooMuch(#[from] Limit),
    #[error("an OTLP request of {bytes} bytes is not valid {encoding}: {reason}")]
    Malformed { bytes: usize, encoding: Encoding, reason: String },
    #[error("an OTLP request of {bytes} bytes held no spans")]
    NothingRead { bytes: usize },
    #[error(
        "an OTLP request of {bytes} bytes held no spans, but the unknown key `{key}` \
         (spans are below `resourceSpans`, `scopeSpans` and `spans`)"
    )]
    UnknownKey { bytes: usize, key: String },
    #[error("an OTLP request of {bytes} bytes could not be unpacked as `{coding}`")]
    NotUnpacked { bytes: usize, coding: String },
    #[error("an OTLP request broke off after {bytes} bytes")]
    BrokenOff { bytes: usize },
    #[error("an OTLP/gRPC request was refused: {reason}")]
    Grpc { reason: String },
}

impl Refusal {
    /// What the sender is told; neither makes it send the same again.
    pub(super) fn code(&self) -> Code {
        match self {
            Refusal::TooManyBytes { .. } | Refusal::TooMuch(_) => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }
}

/// Reads a request.
pub(super) fn request(body: &[u8], encoding: Encoding) -> Result<Read, Refusal> {
    if body.is_empty() {
        return Ok(Read { request: ExportTraceServiceRequest::default(), lost: Notes::default() });
    }
    let bytes = body.len();
    let malformed = |reason: String| Refusal::Malformed { bytes, encoding, reason };
    match encoding {
        Encoding::Json => json::read(body).map_err(|broken| match broken {
            Broken::Malformed(reason) => malformed(reason),
            Broken::Limit(limit) => limit.into(),
            Broken::UnknownKey(key) => Refusal::UnknownKey { bytes, key },
        }),
        Encoding::Protobuf => {
            Limit::check(protobuf::count(body).map_err(|error| malformed(error.to_owned()))?)?;
            let read = protobuf::read(body).map_err(|error| malformed(error.to_string()))?;
            if holds_spans(&read.request) { Ok(read) } else { Err(Refusal::NothingRead { bytes }) }
        }
    }
}

fn holds_spans(request: &ExportTraceServiceRequest) -> bool {
    let resources = request.resource_spans.iter();
    let mut scopes = resources.flat_map(|resource| &resource.scope_spans);
    scopes.any(|scope| !scope.spans.is_empty())
}

impl fmt::Display for Encoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Encoding::Protobuf => "protobuf",
            Encoding::Json => "JSON",
        })
    }
}
