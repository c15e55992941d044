//! OTLP over gRPC. Messages are handed on as bytes, so that they are counted before they are
//! decoded; metrics and logs are kept as they are.

use std::future::{Ready, ready};
use std::sync::OnceLock;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use prost::Message;
use prost::bytes::{Buf, BufMut};
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};

use super::decode::{Encoding, MAX_BODY, Refusal};
use super::signal::Signal;
use super::sink::Sink;
use super::{Inlet, http};

pub(super) const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
pub(super) const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
pub(super) const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// `TraceService/Export`.
pub(super) async fn traces(State(inlet): State<Inlet>, request: Request) -> Response {
    let export = inlet.sink.export();
    let refusal = OnceLock::new();
    let service = Traces { sink: &inlet.sink, refusal: &refusal };
    let response = unary(service, request).await;
    let refusal = refusal
        .into_inner()
        .or_else(|| Some(Refusal::Grpc { reason: failure(&response)?.message().to_owned() }));
    export.end(refusal.as_ref());
    response
}

/// `MetricsService/Export`.
pub(super) async fn metrics(State(inlet): State<Inlet>, request: Request) -> Response {
    unary(Other { sink: &inlet.sink, signal: Signal::Metrics }, request).await
}

/// `LogsService/Export`.
pub(super) async fn logs(State(inlet): State<Inlet>, request: Request) -> Response {
    unary(Other { sink: &inlet.sink, signal: Signal::Logs }, request).await
}

async fn unary<S>(service: S, request: Request) -> Response
where
    S: UnaryService<Bytes, Response = Bytes>,
{
    let response = Grpc::new(Raw)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(MAX_BODY)
        .unary(service, request)
        .await
        .into_response();
    match failure(&response) {
        // tonic's word for a message over the limit, and OTLP's for "send it again".
        Some(status) if status.code() == Code::OutOfRange => {
            Status::resource_exhausted(status.message()).into_http::<axum::body::Body>()
        }
        _ => response,
    }
}

fn failure(response: &Response) -> Option<Status> {
    Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok)
}

struct Traces<'a> {
    sink: &'a Sink,
    refusal: &'a OnceLock<Refusal>,
}

impl UnaryService<Bytes> for Traces<'_> {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        ready(match self.sink.take(request.get_ref(), Encoding::Protobuf) {
            Ok(rejected) => {
                let response = http::response(rejected).encode_to_vec();
                Ok(tonic::Response::new(response.into()))
            }
            Err(refusal) => {
                let status = Status::new(refusal.code(), refusal.to_string());
                let _ = self.refusal.set(refusal);
                Err(status)
            }
        })
    }
}

struct Other<'a> {
    sink: &'a Sink,
    signal: Signal,
}

impl UnaryService<Bytes> for Other<'_> {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        self.sink.take_other(self.signal, request.into_inner(), Encoding::Protobuf);
        ready(Ok(tonic::Response::new(Bytes::new())))
    }
}

/// Messages left as they are.
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
