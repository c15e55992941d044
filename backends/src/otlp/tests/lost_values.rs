//! A value that cannot be read is lost by itself, and told.

use super::*;

const WHOLE: &str = r#"{"resourceSpans": [{"resource": {"attributes": [{"key": "r", "value": RESOURCE}]},
    "scopeSpans": [{"spans": [{"traceId": "0af7651916cd43dd8448eb211c80319c",
    "spanId": "00000000000000a1", "kind": KIND, "status": {"code": CODE}, "startTimeUnixNano": TIME,
    "attributes": [{"value": VALUE, "key": "k"}, {"key": "after", "value": {"intValue": 1}}],
    "events": [{"name": "e", "timeUnixNano": EVENT}], "name": "op"}]}]}]}"#;

fn received(words: &[(&str, &[u8])]) -> Received {
    let mut body = WHOLE.as_bytes().to_vec();
    let rest = [
        ("RESOURCE", "{}"),
        ("KIND", "1"),
        ("CODE", "0"),
        ("TIME", "1"),
        ("VALUE", "{}"),
        ("EVENT", "1"),
    ];
    let rest = rest.iter().map(|(word, text)| (*word, text.as_bytes()));
    for (word, text) in words.iter().copied().chain(rest) {
        if let Some(at) = body.windows(word.len()).position(|part| part == word.as_bytes()) {
            body.splice(at..at + word.len(), text.iter().copied());
        }
    }
    let sink = Sink::default();
    sink.take(&body, Encoding::Json).unwrap_or_else(|error| panic!("{error}"));
    sink.received()
}

#[test]
fn in_json() {
    let mut told = Vec::new();
    for (word, written) in [
        ("VALUE", &br#"{"intValue": 9223372036854775808}"#[..]),
        ("VALUE", br#"{"intValue": "42.5"}"#),
        ("VALUE", br#"{"intValue": true}"#),
        ("VALUE", br#"{"doubleValue": 1e400}"#),
        ("VALUE", br#"{"stringValue": "\ud800"}"#),
        ("VALUE", br#"{"stringValue": "\udc00\ud800"}"#),
        ("VALUE", b"{\"stringValue\": \"\xff\"}"),
        ("VALUE", br#"{"stringValue": 5}"#),
        ("VALUE", br#"{"boolValue": "true"}"#),
        ("VALUE", br#"{"bytesValue": "a"}"#),
        ("VALUE", br#"{"arrayValue": [1]}"#),
        ("VALUE", br#"{"arrayValue": {"values": [{"intValue": "x"}]}}"#),
        ("VALUE", br#"{"kvlistValue": {"values": {"a": 1}}}"#),
        ("VALUE", br#"{"kvlistValue": {"values": [{"key": "\ud800", "value": {"intValue": 1}}]}}"#),
        ("VALUE", br#"{"kvlistValue": {"values": [{"key": null, "value": {"intValue": 1}}]}}"#),
        ("VALUE", br#"{"textValue": "a"}"#),
        ("VALUE", br#"{"intValue": 1, "stringValue": "a"}"#),
        ("VALUE", br#""plain""#),
        ("KIND", br#""SERVER""#),
        ("KIND", b"9"),
        ("CODE", br#""STATUS_CODE_BAD""#),
        ("CODE", b"-1"),
        ("TIME", b"-1"),
        ("TIME", b"18446744073709551616"),
        ("EVENT", br#""soon""#),
        ("RESOURCE", br#"{"intValue": {}}"#),
    ] {
        let received = received(&[(word, written)]);
        assert_eq!(received.spans.len(), 1);
        assert_eq!(received.spans[0].attributes["after"], Value::Int(1));
        assert_eq!(received.losses.len(), 1, "{}: {:?}", written.escape_ascii(), received.losses);
        told.extend(received.losses);
    }
    expect_test::expect![[r#"
        [
            "span `op`: attribute `k`: `intValue` is lost, because 9223372036854775808 is not an integer of 64 bits",
            "span `op`: attribute `k`: `intValue` is lost, because \"42.5\" is not an integer of 64 bits",
            "span `op`: attribute `k`: `intValue` is lost, because true is not an integer of 64 bits",
            "span `op`: attribute `k`: `doubleValue` is lost, because 1e400 is not a double",
            "span `op`: attribute `k`: `stringValue` is lost, because it is not valid Unicode",
            "span `op`: attribute `k`: `stringValue` is lost, because it is not valid Unicode",
            "span `op`: attribute `k`: `stringValue` is lost, because it is not valid Unicode",
            "span `op`: attribute `k`: `stringValue` is lost, because 5 is not text",
            "span `op`: attribute `k`: `boolValue` is lost, because \"true\" is not true or false",
            "span `op`: attribute `k`: `bytesValue` is lost, because \"a\" is not base64",
            "span `op`: attribute `k`: `arrayValue` is lost, because a list is not an object",
            "span `op`: attribute `k`: `intValue` is lost, because \"x\" is not an integer of 64 bits",
            "span `op`: attribute `k`: `attributes` is lost, because an object is not a list",
            "span `op`: attribute `k`: `key` is lost, because it is not valid Unicode",
            "span `op`: attribute `k`: an attribute is lost, because it has no key",
            "span `op`: attribute `k`: `textValue` is lost, because OTLP has no such value",
            "span `op`: attribute `k`: it has several values, of which the last counts",
            "span `op`: attribute `k`: `value` is lost, because \"plain\" is not an object",
            "span `op`: `kind` is lost, because \"SERVER\" is not a kind of span",
            "span `op`: `kind` is lost, because 9 is not a kind of span",
            "span `op`: `code` is lost, because \"STATUS_0_BAD\" is not a status code",
            "span `op`: `code` is lost, because -1 is not a status code",
            "span `op`: `startTimeUnixNano` is lost, because -1 is not a time in nanoseconds",
            "span `op`: `startTimeUnixNano` is lost, because 18446744073709551616 is not a time in nanoseconds",
            "span `op`: event `e`: `timeUnixNano` is lost, because \"soon\" is not a time in nanoseconds",
            "resource: attribute `r`: `intValue` is lost, because an object is not an integer of 64 bits",
        ]
    "#]].assert_debug_eq(&told);
}

#[test]
fn an_id_that_cannot_be_read_costs_its_span() {
    for (good, bad) in [
        ("\"00000000000000a1\"", "\"xyz\""),
        ("\"0af7651916cd43dd8448eb211c80319c\"", "5"),
        ("\"spanId\"", "\"parentSpanId\": \"?\", \"spanId\""),
    ] {
        let body = JSON_BODY.replace("\"kind\": 2", "\"kind\": 2}, {\"traceId\": \"0af7651916cd43dd8448eb211c80319c\", \"spanId\": \"00000000000000a1\"");
        let at = body.rfind(good).unwrap();
        let body = format!("{}{bad}{}", &body[..at], &body[at + good.len()..]);
        let sink = Sink::default();
        sink.take(body.as_bytes(), Encoding::Json).unwrap_or_else(|error| panic!("{error}"));
        let received = sink.received();
        assert_eq!(received.spans.len(), 1, "{body}");
        assert_eq!(
            received.incomplete,
            ["1 span rejected for a malformed trace, span or parent id"]
        );
    }
}

/// A request in protobuf in which the text `??` is what is no UTF-8.
fn spoilt(request: &ExportTraceServiceRequest) -> Vec<u8> {
    let mut body = request.encode_to_vec();
    for at in 1..body.len() {
        if body[at - 1..=at] == *b"??" {
            body[at - 1..=at].copy_from_slice(b"\xff\xfe");
        }
    }
    body
}

#[tokio::test]
async fn in_protobuf() {
    let text = |text: &str| any_value::Value::StringValue(text.to_owned());
    let whole = || otlp::Span { attributes: vec![attribute("after", text("a"))], ..span(1, "op") };
    let with = |bad: KeyValue| {
        let mut span = whole();
        span.attributes.insert(0, bad);
        span
    };
    let array = any_value::Value::ArrayValue(ArrayValue {
        values: vec![AnyValue { value: Some(text("??")) }],
    });
    let status = otlp::Status { message: "??".to_owned(), code: 2 };
    let event = otlp::span::Event {
        name: "e".to_owned(),
        attributes: vec![attribute("k", text("??"))],
        ..Default::default()
    };
    let mut told = Vec::new();
    for span in [
        with(attribute("k", text("??"))),
        with(attribute("??", text("k"))),
        with(attribute("k", array)),
        otlp::Span { name: "??".to_owned(), ..whole() },
        otlp::Span { trace_state: "??".to_owned(), ..whole() },
        otlp::Span { status: Some(status), ..whole() },
        otlp::Span { events: vec![event], ..whole() },
    ] {
        let case = Case::new();
        assert_eq!(case.traces(PROTOBUF, &spoilt(&export(vec![span]))).await.0, 200);
        let received = case.receiver.finish(SETTLE).await;
        assert_eq!((received.spans.len(), received.incomplete), (1, Vec::new()));
        assert_eq!(received.spans[0].attributes["after"], Value::String("a".to_owned()));
        assert!(received.spans[0].attributes.get("k").is_none_or(|value| {
            [Value::Empty, Value::Array(vec![Value::Empty])].contains(value)
        }));
        told.extend(received.losses);
    }
    expect_test::expect![[r#"
        [
            "span `op`: attribute `k`: `stringValue` is lost, because it is not valid UTF-8",
            "span `op`: attribute ``: `key` is lost, because it is not valid UTF-8",
            "span `op`: attribute `k`: `stringValue` is lost, because it is not valid UTF-8",
            "span ``: `name` is lost, because it is not valid UTF-8",
            "span `op`: `traceState` is lost, because it is not valid UTF-8",
            "span `op`: `message` is lost, because it is not valid UTF-8",
            "span `op`: event `e`: attribute `k`: `stringValue` is lost, because it is not valid UTF-8",
        ]
    "#]].assert_debug_eq(&told);
}
