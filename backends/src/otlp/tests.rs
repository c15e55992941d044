//! Real requests over the receiver's socket.

mod equal;
mod lost_values;
mod onward;
mod repeats;
mod spellings;

use std::io::Write;
use std::path::PathBuf;

use flate2::{Compression, write::GzEncoder};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use proptest::prelude::*;
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};

use super::decode::{self, Encoding, MAX_BODY};
use super::*;
use crate::trace::{SpanKind, Value};

const SETTLE: Duration = Duration::from_secs(5);
const JSON: &str = "Content-Type: application/json\r\n";
const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";
const GZIP: &str = "Content-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n";

const JSON_BODY: &str = r#"{"resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
    "scopeSpans": [{"scope": {"name": "lib"}, "spans": [{
        "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174",
        "parentSpanId": "", "name": "GET /", "kind": 2,
        "startTimeUnixNano": "1700000000000000001", "endTimeUnixNano": 1700000000000000002,
        "attributes": [
            {"key": "text", "value": {"intValue": "-7"}},
            {"key": "number", "value": {"intValue": 7}},
            {"key": "list", "value": {"arrayValue": {"values": [{"doubleValue": 1}, {}]}}},
            {"key": "map", "value": {"kvlistValue": {"values": [
                {"key": "bytes", "value": {"bytesValue": "AQI="}}]}}}
        ],
        "events": [{"timeUnixNano": "1700000000000000001", "name": "hit"}],
        "status": {"code": 2, "message": "no"}
    }]}]
}]}"#;

/// A receiver and the way to it.
struct Case {
    _dir: TempDir,
    path: PathBuf,
    receiver: Receiver,
}

impl Case {
    fn new() -> Case {
        Case::listening(None)
    }

    fn listening(onward: Option<&Onward>) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("otlp.sock");
        let receiver = Receiver::listen(&path, onward).unwrap();
        Case { _dir: dir, path, receiver }
    }

    async fn send(&self, bytes: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// The status line's number and the body of the answer.
    async fn post(&self, target: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = self.send(&request(target, headers, body)).await;
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap();
        (status.parse().unwrap(), answer[end + 4..].to_vec())
    }

    async fn traces(&self, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.post("/v1/traces", headers, body).await
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::try_from(format!("unix:{}", self.path.display())).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn client(&self) -> TraceServiceClient<Channel> {
        TraceServiceClient::new(self.channel().await)
    }

    async fn packing_client(&self) -> TraceServiceClient<Channel> {
        let client = self.client().await;
        client.send_compressed(CompressionEncoding::Gzip)
    }

    async fn names(self) -> Vec<String> {
        let received = self.receiver.finish(SETTLE).await;
        assert_eq!(received.incomplete, Vec::<String>::new());
        received.spans.into_iter().map(|span| span.name).collect()
    }

    /// The notes of a receiver that got no span.
    async fn notes(self) -> Vec<String> {
        let received = self.receiver.finish(SETTLE).await;
        assert_eq!(received.spans, []);
        received.incomplete
    }
}

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn span(id: u8, name: &str) -> otlp::Span {
    otlp::Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1000 - u64::from(id),
        ..otlp::Span::default()
    }
}

fn export(spans: Vec<otlp::Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![otlp::ResourceSpans {
            scope_spans: vec![otlp::ScopeSpans { spans, ..otlp::ScopeSpans::default() }],
            ..otlp::ResourceSpans::default()
        }],
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn json_decodes_with_all_kinds_of_values() {
    let case = Case::new();
    let (status, body) = case.traces(JSON, JSON_BODY.as_bytes()).await;
    assert_eq!((status, body.as_slice()), (200, &b"{}"[..]));
    let received = case.receiver.finish(SETTLE).await;
    expect_test::expect![[r#"
        Received {
            spans: [
                Span {
                    trace_id: "5b8efff798038103d269b633813fc60c",
                    span_id: "eee19b7ec3c1b174",
                    parent_id: None,
                    name: "GET /",
                    kind: Server,
                    start_ns: 1700000000000000001,
                    end_ns: 1700000000000000002,
                    status: Status {
                        code: Error,
                        message: "no",
                    },
                    attributes: {
                        "list": Array(
                            [
                                Double(
                                    1.0,
                                ),
                                Empty,
                            ],
                        ),
                        "map": Map(
                            {
                                "bytes": Bytes(
                                    [
                                        1,
                                        2,
                                    ],
                                ),
                            },
                        ),
                        "number": Int(
                            7,
                        ),
                        "text": Int(
                            -7,
                        ),
                    },
                    resource: {
                        "service.name": String(
                            "shop",
                        ),
                    },
                    scope: "lib",
                    events: [
                        Event {
                            name: "hit",
                            at_ns: 1700000000000000001,
                            attributes: {},
                        },
                    ],
                    dropped: Dropped {
                        attributes: 0,
                        events: 0,
                        links: 0,
                    },
                    source: Otlp,
                },
            ],
            signals: Signals {
                logs: [],
                metrics: [],
                left_out: 0,
            },
            incomplete: [],
            losses: [],
        }
    "#]]
    .assert_debug_eq(&received);
}

#[tokio::test]
async fn json_may_name_its_enums_write_null_and_leave_out_lists() {
    let case = Case::new();
    let body = JSON_BODY
        .replace("\"kind\": 2", "\"kind\": \"SPAN_KIND_SERVER\"")
        .replace("\"code\": 2", "\"code\": \"STATUS_CODE_ERROR\"")
        .replace("\"parentSpanId\": \"\"", "\"parentSpanId\": null")
        .replace("{\"intValue\": \"-7\"}", "{\"arrayValue\": {}}");
    assert_eq!(case.traces("", body.as_bytes()).await.0, 200);
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!(received.spans[0].kind, SpanKind::Server);
    assert_eq!(received.spans[0].attributes["text"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn protobuf_arrives_plain_packed_and_under_any_content_type() {
    let case = Case::new();
    let body = |id, name| export(vec![span(id, name)]).encode_to_vec();
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let plain = case.traces(PROTOBUF, &body(1, "plain")).await;
    let packed = case.traces(GZIP, &gzip(&body(2, "packed"))).await;
    let sniffed = case.traces(form, &body(3, "sniffed")).await;
    assert_eq!([plain, packed, sniffed], [(200, vec![]), (200, vec![]), (200, vec![])]);
    assert_eq!(case.names().await, ["sniffed", "packed", "plain"]);
}

#[tokio::test]
async fn bodies_are_unpacked_whatever_packed_them() {
    let case = Case::new();
    let body = |id, name| export(vec![span(id, name)]).encode_to_vec();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&body(1, "zlib")).unwrap();
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
    deflate.write_all(&body(2, "deflate")).unwrap();
    for (coding, packed) in [
        ("deflate", zlib.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        ("zstd", zstd::encode_all(&*body(3, "zstd"), 1).unwrap()),
        ("x-gzip", gzip(&body(4, "gzip"))),
        ("identity", body(5, "identity")),
    ] {
        let headers = format!("{PROTOBUF}Content-Encoding: {coding}\r\n");
        assert_eq!(case.traces(&headers, &packed).await, (200, vec![]), "{coding}");
    }
    assert_eq!(case.names().await, ["identity", "gzip", "zstd", "deflate", "zlib"]);
}

#[tokio::test]
async fn grpc_arrives_plain_and_packed() {
    let case = Case::new();
    let mut plain = case.client().await;
    let mut packed = case.packing_client().await;
    let response = plain.export(export(vec![span(2, "plain")])).await.unwrap();
    assert_eq!(response.into_inner(), ExportTraceServiceResponse::default());
    packed.export(export(vec![span(1, "packed")])).await.unwrap();
    drop((plain, packed));
    assert_eq!(case.names().await, ["plain", "packed"]);
}

#[tokio::test]
async fn metrics_logs_and_empty_requests_are_fine_and_other_paths_are_told() {
    let case = Case::new();
    assert_eq!(case.post("/v1/metrics", JSON, b"{\"a\": 1}").await, (200, b"{}".to_vec()));
    assert_eq!(case.post("/v1/logs", PROTOBUF, b"\xff").await, (200, vec![]));
    assert_eq!(case.traces(JSON, b"{}").await.0, 200);
    assert_eq!(case.traces(JSON, b"{\"resourceSpans\": []}").await.0, 200);
    assert_eq!(case.traces(PROTOBUF, b"").await, (200, vec![]));
    assert_eq!(case.post("/v1/trace", JSON, JSON_BODY.as_bytes()).await.0, 404);
    assert_eq!(
        case.notes().await,
        ["something was sent to /v1/trace, where nothing is taken; spans belong to /v1/traces"]
    );
}

#[tokio::test]
async fn json_without_spans_but_with_unknown_keys_is_refused_and_told() {
    let case = Case::new();
    let body = JSON_BODY.replace("resourceSpans", "ResourceSpans");
    let (status, answer) = case.traces(JSON, body.as_bytes()).await;
    assert_eq!(status, 400);
    let notes = case.notes().await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer, serde_json::json!({"code": 3, "message": notes[0]}));
    expect_test::expect![[r#"
        [
            "an OTLP request of 917 bytes held no spans, but the unknown key `ResourceSpans` (spans are below `resourceSpans`, `scopeSpans` and `spans`)",
        ]
    "#]].assert_debug_eq(&notes);
}

#[tokio::test]
async fn bodies_that_are_too_large_or_broken_are_refused_and_told_once() {
    let case = Case::new();
    let bomb = gzip(&vec![b' '; MAX_BODY + 1]);
    let plain = vec![b' '; MAX_BODY + 10];
    let crowd = export(vec![otlp::Span::default(); 100_001]).encode_to_vec();
    let event = otlp::span::Event::default();
    let mut eventful = span(1, "eventful");
    eventful.events = vec![event; 1_000_000];
    let eventful = export(vec![eventful]).encode_to_vec();
    for (headers, body, status) in [
        (GZIP, &bomb[..], 413),
        (GZIP, &bomb[..], 413),
        (JSON, &plain[..], 413),
        (PROTOBUF, &crowd[..], 413),
        (PROTOBUF, &eventful[..], 413),
        (GZIP, b"{}", 400),
        (JSON, b"{\"resourceSpans\": 3}", 400),
        (PROTOBUF, b"\x0a\x05\x01", 400),
        ("Content-Encoding: br\r\n", b"{}", 400),
    ] {
        assert_eq!(case.traces(headers, body).await.0, status);
    }
    expect_test::expect![[r#"
        [
            "an OTLP request held more than 100000 spans",
            "an OTLP request held more than 1000000 attributes and other parts",
            "an OTLP request of 16777226 bytes held more than 16 MiB",
            "an OTLP request of 2 bytes could not be unpacked as `br`",
            "an OTLP request of 2 bytes could not be unpacked as `gzip`",
            "an OTLP request of 20 bytes is not valid JSON: expected a list, not 3 at line 1 column 20",
            "an OTLP request of 3 bytes is not valid protobuf: a field is longer than its message",
            "an OTLP request of 76532 bytes held more than 16 MiB",
        ]
    "#]].assert_debug_eq(&case.notes().await);
}

#[tokio::test]
async fn grpc_messages_that_are_too_large_or_broken_are_refused_and_told() {
    let case = Case::new();
    let mut packed = case.packing_client().await;
    let mut plain = case.client().await;
    let large = export(vec![span(1, &"x".repeat(MAX_BODY))]);
    let crowd = export(vec![otlp::Span::default(); 100_001]);
    for status in [
        packed.export(large.clone()).await.unwrap_err(),
        plain.export(large).await.unwrap_err(),
        plain.export(crowd).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    }
    drop((packed, plain));
    expect_test::expect![[r#"
        [
            "an OTLP request held more than 100000 spans",
            "an OTLP/gRPC request was refused: Error decompressing: size limit, of 16777216 bytes, exceeded while decompressing message",
            "an OTLP/gRPC request was refused: Error, decoded message length too large: found 16777273 bytes, the limit is: 16777216 bytes",
        ]
    "#]].assert_debug_eq(&case.notes().await);
}

#[tokio::test]
async fn a_span_without_proper_ids_is_rejected_alone() {
    let case = Case::new();
    let zero = otlp::Span { span_id: vec![0; 8], ..span(1, "zero") };
    let short = otlp::Span { trace_id: vec![1; 8], ..span(1, "short") };
    let body = export(vec![zero, short, span(1, "good")]).encode_to_vec();
    let (status, answer) = case.traces(PROTOBUF, &body).await;
    let answer = ExportTraceServiceResponse::decode(answer.as_slice()).unwrap();
    let received = case.receiver.finish(SETTLE).await;
    let partial = answer.partial_success.unwrap();
    assert_eq!((status, partial.rejected_spans), (200, 2));
    assert_eq!(received.incomplete, [partial.error_message]);
    assert_eq!(received.spans.len(), 1);
}

#[tokio::test]
async fn a_span_sent_twice_is_kept_once() {
    let case = Case::new();
    let body = export(vec![span(1, "once"), span(1, "once")]).encode_to_vec();
    case.traces(PROTOBUF, &body).await;
    case.traces(PROTOBUF, &body).await;
    assert_eq!(case.names().await, ["once"]);
}

#[tokio::test]
async fn what_an_sdk_dropped_of_resource_and_scope_counts_for_every_span() {
    let case = Case::new();
    let mut request = export(vec![otlp::Span { dropped_attributes_count: 1, ..span(1, "x") }]);
    let of_request = &mut request.resource_spans[0];
    of_request.resource = Some(Resource { dropped_attributes_count: 2, ..Resource::default() });
    let scope = InstrumentationScope { dropped_attributes_count: 4, ..Default::default() };
    of_request.scope_spans[0].scope = Some(scope);
    case.traces(PROTOBUF, &request.encode_to_vec()).await;
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!(received.spans[0].dropped.attributes, 7);
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn number(key: &str, number: f64) -> KeyValue {
    attribute(key, any_value::Value::DoubleValue(number))
}

#[tokio::test]
async fn one_large_resource_cannot_be_multiplied_without_limit() {
    let case = Case::new();
    let attribute = attribute("large", any_value::Value::StringValue("x".repeat(MAX_BODY / 2)));
    let spans = (1..=200).map(|id| span(id, "")).collect();
    let mut request = export(spans);
    request.resource_spans[0].resource =
        Some(Resource { attributes: vec![attribute], ..Resource::default() });
    assert_eq!(case.traces(PROTOBUF, &request.encode_to_vec()).await.0, 200);
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!(received.spans.len(), 31);
    assert_eq!(received.incomplete, ["169 spans dropped beyond 1000000 spans or 256 MiB"]);
}

#[tokio::test]
async fn rubbish_ends_only_its_own_connection() {
    let case = Case::new();
    let mut rubbish = case.send(b"\x16\x03\x01 not http\r\n\r\n").await;
    let preface = case.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrubbish after that").await;
    let _ = rubbish.read_to_end(&mut Vec::new()).await;
    drop((rubbish, preface));
    let body = export(vec![span(1, "after")]).encode_to_vec();
    assert_eq!(case.traces(PROTOBUF, &body).await.0, 200);
    assert_eq!(case.names().await, ["after"]);
}

#[tokio::test]
async fn finish_takes_queued_connections_and_waits_for_open_ones() {
    let case = Case::new();
    let whole =
        |id, name| request("/v1/traces", PROTOBUF, &export(vec![span(id, name)]).encode_to_vec());
    let slow = whole(2, "slow");
    let (first, rest) = slow.split_at(slow.len() - 5);
    let mut open = case.send(first).await;
    // This connection is made and closed without the receiver having run in between.
    let mut queued = std::os::unix::net::UnixStream::connect(&case.path).unwrap();
    queued.write_all(&whole(1, "queued")).unwrap();
    drop(queued);
    let path = case.path.clone();
    let send_rest = async {
        while UnixStream::connect(&path).await.is_ok() {
            tokio::task::yield_now().await; // until the receiver has stopped listening
        }
        open.write_all(rest).await.unwrap();
        drop(open);
    };
    let (names, ()) = tokio::join!(case.names(), send_rest);
    assert_eq!(names, ["slow", "queued"]);
}

fn first_words(notes: Vec<String>) -> Vec<String> {
    notes.iter().filter_map(|note| note.split(": ").next()).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_export_that_does_not_end_is_told() {
    let whole = request("/v1/traces", JSON, JSON_BODY.as_bytes());
    let half = &whole[..whole.len() / 2];
    let (broken, hanging, streaming) = (Case::new(), Case::new(), Case::new());
    drop(broken.send(half).await);
    let _open = hanging.send(half).await;
    let channel = streaming.channel().await;
    let call = tokio::spawn(endless_call(channel));
    let brief = Duration::from_millis(200);
    let notes = [
        broken.notes().await,
        hanging.receiver.finish(brief).await.incomplete,
        // What follows is the words of the HTTP/2 library.
        first_words(streaming.receiver.finish(brief).await.incomplete),
    ];
    assert_ne!(call.await.unwrap().code(), tonic::Code::Ok);
    expect_test::expect![[r#"
        [
            [
                "an OTLP request broke off after 413 bytes",
            ],
            [
                "an OTLP request was still under way when its connection was closed",
            ],
            [
                "an OTLP/gRPC request was refused",
            ],
        ]
    "#]]
    .assert_debug_eq(&notes);
}

/// Begins an export and never sends its message.
async fn endless_call(channel: Channel) -> tonic::Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let request = tonic::Request::new(futures_util::stream::pending());
    let path = grpc::TRACES.parse().unwrap();
    let call = client.client_streaming(request, path, grpc::Raw);
    call.await.unwrap_err()
}

#[tokio::test]
async fn dropping_the_receiver_closes_its_connections() {
    let case = Case::new();
    let mut idle = case.send(b"POST /v1/traces HTTP/1.1\r\n").await;
    drop(case);
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
}

proptest! {
    #[test]
    fn no_body_panics(body: Vec<u8>, at in 0..4096_usize, byte: u8) {
        let mut protobuf = decode::request(JSON_BODY.as_bytes(), Encoding::Json).unwrap_or_else(|error| panic!("{error}")).request.encode_to_vec();
        let mut json = JSON_BODY.as_bytes().to_vec();
        for bytes in [&mut protobuf, &mut json] {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let sink = Sink::default();
        for body in [&body, &protobuf, &json] {
            let _ = sink.take(body, Encoding::Protobuf);
            let _ = sink.take(body, Encoding::Json);
        }
        sink.received();
    }
}
