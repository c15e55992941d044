//! A body in, a request out: counted before it is built, refused when it cannot be read.

use std::fmt;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tonic::Code;

use super::{json, protobuf};

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

/// Why a whole request was not taken, as a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("an OTLP request of {bytes} bytes held more than {} MiB", MAX_BODY >> 20)]
    TooManyBytes { bytes: usize },
    #[error("an OTLP request held {spans} spans, more than {MAX_SPANS}")]
    TooManySpans { spans: usize },
    #[error("an OTLP request held {parts} attributes and other parts, more than {MAX_PARTS}")]
    TooManyParts { parts: usize },
    #[error("an OTLP request of {bytes} bytes is not valid {encoding}: {reason}")]
    Malformed { bytes: usize, encoding: Encoding, reason: String },
    #[error(
        "an OTLP request of {bytes} bytes held no spans that could be read \
         (OTLP's JSON keys are in camelCase, as in `resourceSpans`)"
    )]
    NothingRead { bytes: usize },
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
            Refusal::TooManyBytes { .. }
            | Refusal::TooManySpans { .. }
            | Refusal::TooManyParts { .. } => Code::ResourceExhausted,
            _ => Code::InvalidArgument,
        }
    }
}

/// Reads a request.
pub(super) fn request(
    body: &[u8],
    encoding: Encoding,
) -> Result<ExportTraceServiceRequest, Refusal> {
    if body.is_empty() {
        return Ok(ExportTraceServiceRequest::default());
    }
    let malformed = |reason: String| Refusal::Malformed { bytes: body.len(), encoding, reason };
    let tally = match encoding {
        Encoding::Protobuf => protobuf::count(body).map_err(|error| malformed(error.to_owned())),
        Encoding::Json => json::count(body).map_err(|error| malformed(error.to_string())),
    }?;
    check(tally)?;
    let request = match encoding {
        Encoding::Protobuf => {
            ExportTraceServiceRequest::decode(body).map_err(|error| malformed(error.to_string()))
        }
        Encoding::Json => json::read(body).map_err(|error| malformed(error.to_string())),
    }?;
    let nothing_sent = encoding == Encoding::Json && json::is_empty(body);
    if !holds_spans(&request) && !nothing_sent {
        return Err(Refusal::NothingRead { bytes: body.len() });
    }
    Ok(request)
}

fn check(tally: Tally) -> Result<(), Refusal> {
    let Tally { spans, parts } = tally;
    if spans > MAX_SPANS {
        return Err(Refusal::TooManySpans { spans });
    }
    if parts > MAX_PARTS {
        return Err(Refusal::TooManyParts { parts });
    }
    Ok(())
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
