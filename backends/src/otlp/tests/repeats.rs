//! Spans of one id: those that are sent again, and those that differ.

use super::*;

/// What a receiver makes of two spans: their names and what it says of them.
async fn pair(first: otlp::Span, second: otlp::Span) -> (Vec<String>, Vec<String>) {
    let case = Case::new();
    for span in [&first, &second, &first, &second] {
        let body = export(vec![span.clone()]).encode_to_vec();
        assert_eq!(case.traces(PROTOBUF, &body).await.0, 200);
    }
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!(received.incomplete, Vec::<String>::new());
    (received.spans.into_iter().map(|span| span.name).collect(), received.losses)
}

#[tokio::test]
async fn spans_of_one_id_that_differ_are_both_kept_and_told() {
    let first = || span(1, "first");
    let event = otlp::span::Event { name: "hit".to_owned(), ..Default::default() };
    let status = otlp::Status { code: 2, message: String::new() };
    for (second, differing) in [
        (span(1, "second"), "name"),
        (otlp::Span { parent_span_id: vec![2; 8], ..first() }, "parent"),
        (otlp::Span { kind: 2, ..first() }, "kind"),
        (otlp::Span { end_time_unix_nano: 5000, ..first() }, "times"),
        (otlp::Span { status: Some(status), ..first() }, "status"),
        (otlp::Span { attributes: vec![number("a", 1.0)], ..first() }, "attributes"),
        (otlp::Span { events: vec![event], ..first() }, "events"),
        (otlp::Span { dropped_attributes_count: 1, ..first() }, "dropped counts"),
    ] {
        let (names, losses) = pair(first(), second.clone()).await;
        assert_eq!(names, ["first", &second.name]);
        let (id, trace, other) = ("01".repeat(8), "01".repeat(16), &second.name);
        assert_eq!(
            losses,
            [format!(
                "span id {id} of trace {trace} was sent twice, for `first` and for `{other}`, \
                 which differ in {differing}: both are kept"
            )]
        );
    }
}

#[tokio::test]
async fn spans_that_differ_in_what_cannot_be_judged_are_one() {
    let first =
        || otlp::Span { attributes: vec![number("a", f64::NAN), number("b", 2.0)], ..span(1, "x") };
    let mut reversed = first();
    reversed.attributes.reverse();
    for second in [
        first(),
        reversed,
        otlp::Span { flags: 257, ..first() },
        otlp::Span { trace_state: "a=b".to_owned(), ..first() },
    ] {
        assert_eq!(pair(first(), second).await, (vec!["x".to_owned()], Vec::new()));
    }
}

#[tokio::test]
async fn the_resource_tells_spans_of_one_id_apart() {
    let case = Case::new();
    for service in ["a", "b", "b"] {
        let mut request = export(vec![span(1, "x")]);
        let attributes =
            vec![attribute("service.name", any_value::Value::StringValue(service.to_owned()))];
        request.resource_spans[0].resource = Some(Resource { attributes, ..Resource::default() });
        case.traces(PROTOBUF, &request.encode_to_vec()).await;
    }
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!((received.spans.len(), received.losses.len()), (2, 1));
    assert!(received.losses[0].contains("differ in resource:"), "{:?}", received.losses);
}

#[tokio::test]
async fn equal_resources_of_several_requests_are_one() {
    let case = Case::new();
    for id in [1, 2] {
        let mut request = export(vec![span(id, "x")]);
        let attributes = vec![number("a", f64::NAN)];
        request.resource_spans[0].resource = Some(Resource { attributes, ..Resource::default() });
        case.traces(PROTOBUF, &request.encode_to_vec()).await;
    }
    let spans = case.receiver.finish(SETTLE).await.spans;
    assert!(std::sync::Arc::ptr_eq(&spans[0].resource, &spans[1].resource));
}

#[tokio::test]
async fn many_spans_of_one_id_are_told_in_few_sentences() {
    let case = Case::new();
    let spans = (0..2000).map(|at| otlp::Span { end_time_unix_nano: at, ..span(1, "x") }).collect();
    case.traces(PROTOBUF, &export(spans).encode_to_vec()).await;
    let received = case.receiver.finish(SETTLE).await;
    assert_eq!((received.spans.len(), received.losses.len()), (2000, 1));
}
