//! One span as its senders may write it in JSON.

use super::*;
use crate::trace::{Event, StatusCode};

const SPAN: &str = r#""traceId": "0AF7651916cd43dd8448eb211c80319c", "spanId": "00000000000000a1""#;

/// The one span of a request with these fields, of which nothing may be lost.
fn read(fields: &str) -> Span {
    let body = format!(
        r#"{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{{SPAN}, {fields}}}]}}]}}]}}"#
    );
    let sink = Sink::default();
    sink.take(body.as_bytes(), Encoding::Json).unwrap_or_else(|error| panic!("{error}: {body}"));
    let mut received = sink.received();
    assert_eq!((received.spans.len(), received.losses), (1, Vec::new()), "{body}");
    received.spans.remove(0)
}

fn value(value: &str) -> Value {
    read(&format!(r#""attributes": [{{"key": "k", "value": {value}}}]"#)).attributes["k"].clone()
}

#[test]
fn values() {
    let map = |entries: &[(&str, Value)]| {
        Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    };
    let text = |text: &str| Value::String(text.to_owned());
    for (written, expected) in [
        (r#"null"#, Value::Empty),
        (r#"{}"#, Value::Empty),
        (r#"{"stringValue": null}"#, Value::Empty),
        (r#"{"stringValue": ""}"#, text("")),
        (
            r#"{"stringValue": "a\"\\\/\b\f\n\r\tä\u00e4\ud83d\ude00😀"}"#,
            text("a\"\\/\u{8}\u{c}\n\r\tää😀😀"),
        ),
        (r#"{"string_value": "a"}"#, text("a")),
        (r#"{"stringValue": "a", "intValue": null}"#, text("a")),
        (r#"{"boolValue": false}"#, Value::Bool(false)),
        (r#"{"intValue": 42}"#, Value::Int(42)),
        (r#"{"intValue": "42"}"#, Value::Int(42)),
        (r#"{"intValue": 42.0}"#, Value::Int(42)),
        (r#"{"intValue": "4.2e1"}"#, Value::Int(42)),
        (r#"{"intValue": 9007199254740993}"#, Value::Int(9_007_199_254_740_993)),
        (r#"{"intValue": 9223372036854775807}"#, Value::Int(i64::MAX)),
        (r#"{"intValue": "-9223372036854775808"}"#, Value::Int(i64::MIN)),
        (r#"{"int_value": -0}"#, Value::Int(0)),
        (r#"{"doubleValue": 1}"#, Value::Double(1.0)),
        (r#"{"doubleValue": "1.5"}"#, Value::Double(1.5)),
        (r#"{"doubleValue": 1.5E-3}"#, Value::Double(0.0015)),
        (r#"{"doubleValue": "Infinity"}"#, Value::Double(f64::INFINITY)),
        (r#"{"doubleValue": -Infinity}"#, Value::Double(f64::NEG_INFINITY)),
        (r#"{"bytesValue": "aGVsbG8="}"#, Value::Bytes(b"hello".to_vec())),
        (r#"{"bytesValue": "aGVsbG8"}"#, Value::Bytes(b"hello".to_vec())),
        (r#"{"bytesValue": "-_-_"}"#, Value::Bytes(b"\xfb\xff\xbf".to_vec())),
        (r#"{"bytesValue": "+/+/"}"#, Value::Bytes(b"\xfb\xff\xbf".to_vec())),
        (r#"{"arrayValue": null}"#, Value::Empty),
        (r#"{"arrayValue": {}}"#, Value::Array(vec![])),
        (r#"{"arrayValue": {"values": null}}"#, Value::Array(vec![])),
        (
            r#"{"array_value": {"values": [null, {"intValue": 1}]}}"#,
            Value::Array(vec![Value::Empty, Value::Int(1)]),
        ),
        (
            r#"{"arrayValue": {"values": [{"kvlistValue": {"values": null}}]}}"#,
            Value::Array(vec![map(&[])]),
        ),
        (r#"{"kvlistValue": {"values": null}}"#, map(&[])),
        (
            r#"{"kvlist_value": {"values": [null, {"key": "a", "value": null}]}}"#,
            map(&[("a", Value::Empty)]),
        ),
    ] {
        assert_eq!(value(written), expected, "{written}");
    }
    for written in [r#"{"doubleValue": "NaN"}"#, r#"{"doubleValue": NaN}"#] {
        assert!(matches!(value(written), Value::Double(double) if double.is_nan()), "{written}");
    }
}

#[test]
fn fields_of_spans() {
    assert_eq!(read(r#""name": null"#).trace_id, "0af7651916cd43dd8448eb211c80319c");
    for kind in ["3", r#""3""#, "3.0", r#""SPAN_KIND_CLIENT""#] {
        assert_eq!(read(&format!(r#""kind": {kind}"#)).kind, SpanKind::Client, "{kind}");
    }
    for code in ["2", r#""2""#, "2e0", r#""STATUS_CODE_ERROR""#] {
        let status = read(&format!(r#""status": {{"code": {code}}}"#)).status;
        assert_eq!(status.code, StatusCode::Error, "{code}");
    }
    let long = 1_760_000_000_000_000_000;
    for time in [r#""1760000000000000000""#, "1760000000000000000.0", "1.76e18", r#""1.76E+18""#] {
        for key in ["startTimeUnixNano", "start_time_unix_nano"] {
            assert_eq!(read(&format!(r#""{key}": {time}"#)).start_ns, long, "{time}");
        }
    }
    for parent in [r#""00000000000000B2""#, r#""00000000000000b2""#] {
        let span = read(&format!(r#""parentSpanId": {parent}"#));
        assert_eq!(span.parent_id.as_deref(), Some("00000000000000b2"));
    }
    for parent in ["null", r#""""#, r#""0000000000000000""#] {
        assert_eq!(read(&format!(r#""parent_span_id": {parent}"#)).parent_id, None, "{parent}");
    }
}

#[test]
fn lists_and_counts_of_spans() {
    for list in ["attributes", "events", "links", "status"] {
        let span = read(&format!(r#""{list}": null, "future": {{"a": [1, "b", {{}}]}}"#));
        assert_eq!((span.attributes.iter().count(), span.events), (0, vec![]));
    }
    let span =
        read(r#""events": [null, {"name": "e", "time_unix_nano": "1e3", "attributes": null}]"#);
    let event = Event { name: "e".to_owned(), at_ns: 1000, attributes: Default::default() };
    assert_eq!(span.events, [event]);
    for three in ["3", r#""3""#, "3.0"] {
        let counts = ["droppedAttributesCount", "dropped_events_count", "droppedLinksCount"];
        let counts = counts.map(|count| format!(r#""{count}": {three}"#));
        let dropped = read(&format!(r#"{}, "flags": "257""#, counts.join(", "))).dropped;
        assert_eq!((dropped.attributes, dropped.events, dropped.links), (3, 3, 3));
    }
}

#[test]
fn requests() {
    let span = format!(r#"{{{SPAN}, "name": "a"}}"#);
    let bom = "\u{feff}";
    for body in [
        format!(r#"{{"resource_spans": [{{"scope_spans": [{{"spans": [{span}]}}]}}]}}"#),
        format!(
            r#"{{"resourceSpans": [null, {{"scopeSpans": [null, {{"spans": [null, {span}]}}]}}]}}"#
        ),
        format!(
            r#"{bom}{{"resourceSpans": [{{"resource": null, "scopeSpans": [{{"scope": null, "spans": [{span}]}}]}}]}}"#
        ),
    ] {
        let sink = Sink::default();
        sink.take(body.as_bytes(), Encoding::Json).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(sink.received().spans.len(), 1, "{body}");
    }
    for body in [
        "{}",
        r#"{"resourceSpans": null}"#,
        r#"{"resourceSpans": [{"scopeSpans": [{"spans": []}]}]}"#,
        "null",
    ] {
        let sink = Sink::default();
        assert!(sink.take(body.as_bytes(), Encoding::Json).is_ok(), "{body}");
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    let deep = format!("{{\"a\": {}", "[".repeat(200));
    let seen: Vec<String> = [
        "3",
        "[]",
        "{\"resourceSpans\": 3}",
        "{\"resourceSpans\": [\n  {\"scopeSpans\": {}}]}",
        "{\"resourceSpans\": [],}",
        "{\"resourceSpans\": [null,]}",
        "{\"a\": 01}",
        "{\"a\": tru}",
        "{\"a\": \"\\x\"}",
        "{\"a\": \"\\u12\"}",
        "{\"a\": \"\n\"}",
        "{\"a\": \"b",
        "{\"a\" 1}",
        "{} {}",
        &deep,
    ]
    .iter()
    .map(|body| match decode::request(body.as_bytes(), Encoding::Json) {
        Ok(_) => format!("taken: {body}"),
        Err(refusal) => {
            refusal.to_string().split_once("JSON: ").expect("it is no JSON").1.to_owned()
        }
    })
    .collect();
    expect_test::expect![[r#"
        [
            "expected an object, not 3 at line 1 column 2",
            "expected an object, not a list at line 1 column 2",
            "expected a list, not 3 at line 1 column 20",
            "expected a list, not an object at line 2 column 19",
            "expected a key at line 1 column 22",
            "expected a value at line 1 column 25",
            "expected a number at line 1 column 7",
            "expected a value at line 1 column 7",
            "expected an escape at line 1 column 10",
            "expected four hex digits at line 1 column 10",
            "a control character in a text at line 1 column 8",
            "a text does not end at line 1 column 9",
            "expected `:` at line 1 column 6",
            "expected nothing more at line 1 column 4",
            "objects and lists are nested too deeply at line 1 column 135",
        ]
    "#]]
    .assert_debug_eq(&seen);
}
