//! What a receiver takes goes on to a second one, in either protocol.

use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::logs::v1 as logs;
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;

use super::*;
use crate::action::Forward;
use crate::trace::{Attributes, Dropped, Source, Span, Status, StatusCode};

const LOGS_JSON: &str = r#"{"resourceLogs": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
    "scopeLogs": [{"logRecords": [{
        "timeUnixNano": "1", "severityNumber": 13, "body": {"stringValue": "low on stock"}
    }]}]
}]}"#;

/// A TCP port that leads to a receiver.
async fn port_of(case: &Case) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let path = case.path.clone();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut callee = UnixStream::connect(&path).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut caller, &mut callee).await });
        }
    });
    port
}

fn forward(endpoint: String, grpc: bool) -> Forward {
    let headers = [("X-Team".to_owned(), "shop".to_owned())].into();
    Forward { endpoint, grpc, headers, scenario: "s".to_owned() }
}

fn own(name: &str) -> Span {
    Span {
        trace_id: "2".repeat(32),
        span_id: "3".repeat(16),
        parent_id: None,
        name: name.to_owned(),
        kind: SpanKind::Internal,
        start_ns: 5,
        end_ns: 9,
        status: Status { code: StatusCode::Ok, message: String::new() },
        attributes: Attributes::new(),
        resource: Arc::default(),
        scope: "clnrm".to_owned(),
        events: Vec::new(),
        dropped: Dropped::default(),
        source: Source::Lifecycle,
    }
}

fn logs_request() -> Vec<u8> {
    let record = logs::LogRecord { severity_text: "INFO".to_owned(), ..Default::default() };
    let scope = logs::ScopeLogs { log_records: vec![record], ..Default::default() };
    let resource = logs::ResourceLogs { scope_logs: vec![scope], ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
}

async fn all_goes_on(grpc: bool) {
    let second = Case::new();
    let port = port_of(&second).await;
    let onward = Onward::begin(&forward(format!("http://127.0.0.1:{port}"), grpc));
    let first = Case::listening(Some(&onward));
    assert_eq!(first.traces(JSON, JSON_BODY.as_bytes()).await.0, 200);
    let body = export(vec![span(1, "in protobuf")]).encode_to_vec();
    assert_eq!(first.traces(PROTOBUF, &body).await.0, 200);
    assert_eq!(first.post("/v1/logs", JSON, LOGS_JSON.as_bytes()).await.0, 200);
    assert_eq!(first.post("/v1/logs", GZIP, &gzip(&logs_request())).await.0, 200);
    let received = first.receiver.finish(SETTLE).await;
    assert_eq!((received.spans.len(), received.signals.logs.len()), (2, 2));
    let epoch = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(onward.end(&[own("clnrm.scenario.s")], epoch).await, None);
    let second = second.receiver.finish(SETTLE).await;
    assert_eq!(second.incomplete, Vec::<String>::new());
    let names: Vec<&str> = second.spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["in protobuf", "clnrm.scenario.s", "GET /"]);
    let ours = &second.spans[1];
    assert_eq!((ours.start_ns, ours.end_ns), (1_000_000_005, 1_000_000_009));
    assert_eq!((ours.status.code, ours.span_id.as_str()), (StatusCode::Ok, "3333333333333333"));
    assert_eq!(ours.resource["service.name"], Value::String("clnrm".to_owned()));
    let records = log_records(&second.signals.logs);
    let said: Vec<_> = records.iter().map(|it| (&*it.service, &*it.severity, &*it.body)).collect();
    assert_eq!(said, [("shop", "WARN", "low on stock"), ("", "INFO", "")]);
}

#[tokio::test]
async fn all_goes_on_over_http() {
    all_goes_on(false).await;
}

#[tokio::test]
async fn all_goes_on_over_grpc() {
    all_goes_on(true).await;
}

#[tokio::test]
async fn a_place_that_is_not_there_is_told() {
    for grpc in [false, true] {
        let onward = Onward::begin(&forward("http://127.0.0.1:1".to_owned(), grpc));
        let first = Case::listening(Some(&onward));
        assert_eq!(first.traces(JSON, JSON_BODY.as_bytes()).await.0, 200);
        let received = first.receiver.finish(SETTLE).await;
        assert_eq!((received.spans.len(), received.incomplete), (1, Vec::new()));
        let told = onward.end(&[own("clnrm.scenario.s")], SystemTime::now()).await;
        let told = told.expect("nothing was sent");
        assert!(told.starts_with("not all could be sent on to http://127.0.0.1:1: "), "{told}");
        assert!(told.contains("refused"), "{told}");
    }
}
