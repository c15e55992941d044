//! OTLP over HTTP, in protobuf and in JSON.

use std::io::{self, Read};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use serde_json::json;
use tonic::Code;

use super::Inlet;
use super::decode::{Encoding, MAX_BODY, Refusal};
use super::signal::Signal;
use super::sink::Rejected;

/// `POST /v1/traces`.
pub(super) async fn traces(State(inlet): State<Inlet>, headers: HeaderMap, body: Body) -> Response {
    let export = inlet.sink.export();
    let body = read(&headers, body).await;
    let encoding = encoding(&headers, body.as_deref().unwrap_or_default());
    let taken = body.and_then(|body| inlet.sink.take(&body, encoding));
    export.end(taken.as_ref().err());
    match taken {
        Ok(rejected) => success(encoding, rejected),
        Err(refusal) => failure(encoding, &refusal),
    }
}

/// `POST /v1/metrics`. What cannot be read is nobody's loss, and no SDK complains.
pub(super) async fn metrics(inlet: State<Inlet>, headers: HeaderMap, body: Body) -> Response {
    other(&inlet, Signal::Metrics, &headers, body).await
}

/// `POST /v1/logs`, likewise.
pub(super) async fn logs(inlet: State<Inlet>, headers: HeaderMap, body: Body) -> Response {
    other(&inlet, Signal::Logs, &headers, body).await
}

async fn other(inlet: &Inlet, signal: Signal, headers: &HeaderMap, body: Body) -> Response {
    let body = read(headers, body).await.unwrap_or_default();
    let encoding = encoding(headers, &body);
    inlet.sink.take_other(signal, body.into(), encoding);
    success(encoding, Rejected::default())
}

/// Anything else: spans that were sent there are lost.
pub(super) async fn elsewhere(State(inlet): State<Inlet>, method: Method, uri: Uri) -> StatusCode {
    if method == Method::POST {
        let path = uri.path();
        inlet.sink.tell(&format_args!(
            "something was sent to {path}, where nothing is taken; spans belong to /v1/traces"
        ));
    }
    StatusCode::NOT_FOUND
}

/// What a trace service answers, in protobuf.
pub(super) fn response(rejected: Rejected) -> ExportTraceServiceResponse {
    let partial_success = (rejected.count() > 0).then(|| ExportTracePartialSuccess {
        rejected_spans: i64::try_from(rejected.count()).unwrap_or(i64::MAX),
        error_message: rejected.sentences().join("; "),
    });
    ExportTraceServiceResponse { partial_success }
}

/// The whole body, unpacked.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
    let body = collect(body).await?;
    match header(headers, CONTENT_ENCODING).as_str() {
        "" | "identity" => Ok(body),
        "gzip" | "x-gzip" => unpack("gzip", &body),
        coding @ ("deflate" | "zstd") => unpack(coding, &body),
        coding => Err(Refusal::NotUnpacked { bytes: body.len(), coding: coding.to_owned() }),
    }
}

/// Reads on beyond the limit without keeping anything, because a client that is still writing
/// does not hear why it was refused.
async fn collect(body: Body) -> Result<Vec<u8>, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut kept = Vec::new();
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal::BrokenOff { bytes })?;
        bytes += chunk.len();
        if bytes <= MAX_BODY {
            kept.extend_from_slice(&chunk);
        }
    }
    if bytes > MAX_BODY {
        return Err(Refusal::TooManyBytes { bytes });
    }
    Ok(kept)
}

fn unpack(coding: &str, packed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let bytes = packed.len();
    let unpacked = match coding {
        // Its name is that of zlib's format; some send what that wraps.
        "deflate" if is_zlib(packed) => up_to_limit(ZlibDecoder::new(packed)),
        "deflate" => up_to_limit(DeflateDecoder::new(packed)),
        "zstd" => unpack_zstd(packed),
        _ => up_to_limit(MultiGzDecoder::new(packed)),
    };
    let body = unpacked.map_err(|_| Refusal::NotUnpacked { bytes, coding: coding.to_owned() })?;
    if body.len() > MAX_BODY {
        return Err(Refusal::TooManyBytes { bytes });
    }
    Ok(body)
}

fn is_zlib(packed: &[u8]) -> bool {
    let head = packed.first_chunk().map_or(1, |head| u16::from_be_bytes(*head));
    head >> 8 & 0xf == 8 && head % 31 == 0
}

fn unpack_zstd(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    // It holds no more in memory than a body may have.
    decoder.window_log_max(MAX_BODY.ilog2())?;
    up_to_limit(decoder)
}

/// A byte more than a body may have shows that it is too large.
fn up_to_limit(packed: impl Read) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    packed.take(MAX_BODY as u64 + 1).read_to_end(&mut body)?;
    Ok(body)
}

/// By the content type; where that says nothing, by the first byte, which no protobuf request
/// shares with JSON. (A `wget` of busybox sends `application/x-www-form-urlencoded`.)
fn encoding(headers: &HeaderMap, body: &[u8]) -> Encoding {
    let content_type = header(headers, CONTENT_TYPE);
    match content_type.split(';').next().map(str::trim) {
        Some("application/json") => Encoding::Json,
        Some("application/x-protobuf") => Encoding::Protobuf,
        _ if body.first() == Some(&b'{') => Encoding::Json,
        _ => Encoding::Protobuf,
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim().to_ascii_lowercase()
}

fn success(encoding: Encoding, rejected: Rejected) -> Response {
    let response = response(rejected);
    let json = match &response.partial_success {
        None => json!({}),
        Some(partial) => json!({ "partialSuccess": {
            "rejectedSpans": partial.rejected_spans.to_string(),
            "errorMessage": partial.error_message,
        }}),
    };
    answer(StatusCode::OK, encoding, &response, &json)
}

/// `google.rpc.Status`.
#[derive(prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn failure(encoding: Encoding, refusal: &Refusal) -> Response {
    let status = match refusal.code() {
        Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = RpcStatus { code: refusal.code() as i32, message: refusal.to_string() };
    let json = json!({ "code": body.code, "message": body.message });
    answer(status, encoding, &body, &json)
}

fn answer(
    status: StatusCode,
    encoding: Encoding,
    protobuf: &impl Message,
    json: &serde_json::Value,
) -> Response {
    let (content_type, body) = match encoding {
        Encoding::Protobuf => ("application/x-protobuf", protobuf.encode_to_vec()),
        Encoding::Json => ("application/json", json.to_string().into_bytes()),
    };
    (status, [(CONTENT_TYPE, content_type)], body).into_response()
}
