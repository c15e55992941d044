//! Everything a run exports is sent on to the endpoint a test names, and the other signals are kept.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use clnrm_backends::{Span, Value, otlp_spans};
use expect_test::expect;

use crate::case::Case;
use crate::engines::{BUSYBOX, On, on_every_engine};
use crate::spans::{self, SERVICES};

on_every_engine!(logs_and_metrics_are_kept);

/// Exports one request of each signal, with what every image has.
const FIXTURE: &str = r#"
//- /a.clnrm.toml
[meta]
name = "a"
version = "1"

[[scenario]]
name = "all signals"

[[scenario.steps]]
name = "export"
command = '''
post() {
  busybox wget -q -O /dev/null --header "Content-Type: application/json" \
    --post-data "$2" "$OTEL_EXPORTER_OTLP_ENDPOINT/v1/$1"
}
post traces '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",
  "spanId":"b7ad6b7169203331","name":"work","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}' &&
post logs '{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
  "scopeLogs":[{"logRecords":[{"severityText":"WARN","body":{"stringValue":"low on stock"}}]}]}]}' &&
post metrics '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"orders"},{"name":"items"}]}]}]}'
'''

[[expect.span]]
name = "work"
"#;

fn logs_and_metrics_are_kept(on: On) {
    let Some(case) = on.case("forward::logs_and_metrics_are_kept", FIXTURE) else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    case.clnrm(&["logs"]).check(expect![[r#"
        exit 0
        -- stdout
        === a.clnrm.toml: all signals
        --- step export, exit code 0
        --- log records
        WARN shop low on stock
        --- metrics
        items
        orders

    "#]]);
}

/// Takes every request, and tells its path and its body.
fn collector() -> (u16, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let send = send.clone();
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                loop {
                    let (mut path, mut length) = (String::new(), 0);
                    for line in reader.by_ref().lines().map_while(Result::ok) {
                        let lower = line.to_ascii_lowercase();
                        if let Some(value) = lower.strip_prefix("content-length: ") {
                            length = value.parse().unwrap();
                        } else if let Some(rest) = line.strip_prefix("POST ") {
                            path = rest.split(' ').next().unwrap().to_owned();
                        } else if line.is_empty() {
                            break;
                        }
                    }
                    let mut body = vec![0; length];
                    if path.is_empty() || reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    let _ = send.send((path, body));
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }
    });
    (port, requests)
}

/// A case whose test is sent on to `endpoint`.
fn sent_on_to(endpoint: &str) -> Case {
    let otel = format!("[otel]\nendpoint = \"{endpoint}\"\nheaders = {{ X-Key = \"k\" }}\n\n");
    Case::new(&FIXTURE.replace("[[scenario]]", &format!("{otel}[[scenario]]")))
}

#[test]
fn all_signals_and_our_own_spans_are_sent_on() {
    let (port, requests) = collector();
    let case = sent_on_to(&format!("http://127.0.0.1:{port}"));
    case.clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]

        1 passed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
    let paths: Vec<String> =
        requests.try_iter().filter(|(_, body)| !body.is_empty()).map(|(path, _)| path).collect();
    assert_eq!(paths, ["/v1/traces", "/v1/logs", "/v1/metrics", "/v1/traces"]);
    // Where it is sent on to changes nothing about the run.
    case.replace("a.clnrm.toml", &port.to_string(), "1");
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        0 started, 1 reused, some queries executed
    "#]]);
    assert_eq!(requests.try_iter().count(), 0);
}

#[test]
fn an_endpoint_that_is_not_there_fails_no_test() {
    sent_on_to("http://127.0.0.1:1").clnrm(&["run"]).check(expect![[r#"
        exit 0
        -- stdout
        PASS  a.clnrm.toml  a  [TIME]

        1 passed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
        -- stderr
        warning: not all could be sent on to http://127.0.0.1:1: error sending request: client error (Connect): tcp connect error: Connection refused (os error 111)
    "#]]);
}

#[test]
fn an_endpoint_that_is_none() {
    sent_on_to("ftp://example.com").clnrm(&["dry-run"]).check(expect![[r#"
        exit 3
        -- stdout
        ERR  a.clnrm.toml  1 scenario
          a.clnrm.toml:6:1: error[parse/endpoint]: this is no URL that takes spans
            |
          6 | endpoint = "ftp://example.com"
            | ^^^^^^^^
            hint: like http://localhost:4318

        0 ok, 1 with errors in [TIME]  [N] queries executed, [N] recalled
    "#]]);
}

/// Two services and a client with a trace across them.
#[test]
fn the_same_test_has_the_same_trace_everywhere() {
    let test = "the_same_test_has_the_same_trace_everywhere";
    let (port, requests) = collector();
    let endpoint = format!("[otel]\nendpoint = \"http://127.0.0.1:{port}\"\n\n[services.orders]");
    let fixture = SERVICES.replace("[services.orders]", &endpoint);
    let mut traces = BTreeMap::new();
    for (name, on) in
        [("sandbox", On::Sandbox), ("podman", On::Podman(BUSYBOX)), ("docker", On::Docker(BUSYBOX))]
    {
        let Some(case) = spans::case(on, test, &fixture) else { continue };
        let report = case.run(&[]);
        assert_eq!(report.exit, Some(0), "{name}: {}", report.seen());
        let bodies = requests.try_iter().map(|(_, body)| body);
        let all: Vec<Span> =
            bodies.flat_map(|body| otlp_spans(&body, "application/x-protobuf").unwrap()).collect();
        traces.insert(name, normalised(&all));
    }
    let Some(sandbox) = traces.get("sandbox") else { return };
    for (name, trace) in &traces {
        assert_eq!(trace, sandbox, "{name}");
    }
    expect![[r#"
        client: clnrm.step:get > fetch Client Unset http.response.status_code,server.address
        clnrm:  > clnrm.scenario.order Internal Ok 
        clnrm: clnrm.scenario.order > client.exec Internal Ok 
        clnrm: clnrm.scenario.order > client.start Internal Ok 
        clnrm: clnrm.scenario.order > client.stop Internal Ok 
        clnrm: clnrm.scenario.order > clnrm.step:get Internal Ok 
        clnrm: clnrm.scenario.order > orders.start Internal Ok 
        clnrm: clnrm.scenario.order > orders.stop Internal Ok 
        clnrm: clnrm.scenario.order > stock.start Internal Ok 
        clnrm: clnrm.scenario.order > stock.stop Internal Ok 
        orders: GET /orders/{id} > GET upstream Client Unset http.response.status_code,server.address
        orders: GET /orders/{id} > load_order Internal Unset 
        orders: fetch > GET /orders/{id} Server Unset http.request.method,http.response.status_code,url.path
        warehouse: GET /stock/{id} > reserve Internal Unset 
        warehouse: GET upstream > GET /stock/{id} Server Unset http.request.method,http.response.status_code,url.path"#]].assert_eq(&sandbox.join("\n"));
}

/// A line for each span: what does not change from run to run.
fn normalised(spans: &[Span]) -> Vec<String> {
    let name_of = |id: &String| {
        spans.iter().find(|span| span.span_id == *id).map_or("nobody", |span| span.name.as_str())
    };
    let line = |span: &Span| {
        let parent = span.parent_id.as_ref().map_or("", name_of);
        let changes =
            |key: &str| ["port", "time", "thread", "pid"].iter().any(|it| key.contains(it));
        let keys: Vec<&str> =
            span.attributes.keys().map(String::as_str).filter(|key| !changes(key)).collect();
        let Some(Value::String(service)) = span.resource.get("service.name") else { panic!() };
        let (name, kind, status) = (&span.name, span.kind, span.status.code);
        format!("{service}: {parent} > {name} {kind:?} {status:?} {}", keys.join(","))
    };
    let mut lines: Vec<String> = spans.iter().map(line).collect();
    lines.sort();
    lines
}
