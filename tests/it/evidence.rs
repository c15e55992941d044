//! Verdicts over evidence that is not whole, and over runs laid end to end.

use crate::case::Case;

/// A span by its number and its parent's, and further fields of it.
fn span(name: &str, id: u8, parent: u8, fields: &str) -> String {
    let parent = match parent {
        0 => String::new(),
        parent => format!(r#""parentSpanId": "{parent:016x}", "#),
    };
    let ids = format!(
        r#""traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "{id:016x}", {parent}"name": "{name}""#
    );
    format!(r#"{{"startTimeUnixNano": "1", "endTimeUnixNano": "2", {ids}{fields}}}"#)
}

/// A scenario whose step prints these spans of a service, with a comment.
fn scenario(name: &str, service: &str, spans: &[String], comment: &str) -> String {
    let name_of = format!(r#"{{"key": "service.name", "value": {{"stringValue": "{service}"}}}}"#);
    let (resource, spans) = (format!(r#"{{"attributes": [{name_of}]}}"#), spans.join(", "));
    let of_resource =
        format!(r#"{{"resource": {resource}, "scopeSpans": [{{"spans": [{spans}]}}]}}"#);
    format!(
        "[[scenario]]\nname = \"{name}\"\nrun = \"\"\"cat <<'END' # {comment}\n\
         {{\"resourceSpans\": [{of_resource}]}}\nEND\"\"\"\n"
    )
}

fn seen(scenarios: &[String], expect: &str) -> String {
    let text = format!(
        "//- /e.clnrm.toml\n[meta]\nname = \"e\"\n[otel]\nexporter = \"stdout\"\n{}\n{expect}\n",
        scenarios.concat()
    );
    Case::new(&text).run(&[]).seen()
}

/// Tries each expectation, which passes or not.
fn check(scenarios: &[String], cases: &[(&str, bool)]) {
    for (expect, passes) in cases {
        let seen = seen(scenarios, expect);
        let exit = if *passes { "exit 0" } else { "exit 1" };
        assert!(seen.starts_with(exit), "{expect}: {seen}");
    }
}

#[test]
fn nothing_is_absent_where_a_parent_never_arrived() {
    let lost = [scenario("s", "app", &[span("a", 1, 9, "")], "")];
    check(
        &lost,
        &[
            ("[expect.counts]\nerrors_total = 0", false),
            ("[expect.counts]\nerrors_total = 0\nallow_incomplete = true", true),
            ("[expect]\nallow_incomplete = true\ncounts.errors_total = 0", true),
            ("[scenario.expect]\ncounts.errors_total = 0", false),
            ("[scenario.expect]\nallow_incomplete = true\ncounts.errors_total = 0", true),
            ("[expect.status]\nall = \"ok\"", false),
            ("[[expect.span]]\nname = \"z\"\nexists = false", false),
            ("[[expect.span]]\nname = \"a\"", true),
        ],
    );
    let told = seen(&lost, "[[expect.span]]\nname = \"a\"");
    assert!(told.contains("run/incomplete"), "{told}");
    let whole = [span("a", 1, 9, ""), span("b", 9, 0, "")];
    check(
        &[scenario("s", "app", &whole, "")],
        &[("[expect.counts]\nerrors_total = 0", true), ("[expect.status]\nall = \"ok\"", true)],
    );
    let sent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-0000000000000009-01";
    check(
        &[scenario("s", "app", &[span("a", 1, 9, "")], sent)],
        &[("[expect.counts]\nerrors_total = 0", true)],
    );
}

#[test]
fn what_the_sdk_dropped_concerns_some_rules() {
    let dropped = r#", "droppedAttributesCount": 3, "droppedEventsCount": 1"#;
    check(
        &[scenario("s", "app", &[span("a", 1, 0, dropped)], "")],
        &[
            ("[expect.hermeticity]\nspan_attrs.forbid_keys = [\"x\"]", false),
            ("[expect.counts]\nevents_total = 0", false),
            ("[expect.counts]\nerrors_total = 0\nspans_total = 1", true),
        ],
    );
    check(
        &[scenario("s", "app", &[span("a", 1, 0, "")], "")],
        &[
            ("[expect.hermeticity]\nspan_attrs.forbid_keys = [\"x\"]", true),
            ("[expect.counts]\nevents_total = 0", true),
        ],
    );
}

#[test]
fn a_service_that_falls_silent_is_missed_where_a_step_names_it() {
    let first = scenario("one", "api", &[span("a", 1, 0, "")], "");
    let second = |comment| [first.clone(), scenario("two", "cli", &[span("b", 1, 0, "")], comment)];
    let errors = "[expect.counts]\nerrors_total = 0";
    check(&second("curl http://api/"), &[(errors, false)]);
    check(&second("apiary"), &[(errors, true)]);
    let told = seen(&second(""), errors);
    let sign = "`api` exported spans in an earlier scenario, and none in this one";
    assert!(told.starts_with("exit 0") && told.contains(sign), "{told}");
}

#[test]
fn a_parent_is_of_its_own_run() {
    let one = scenario("one", "app", &[span("cart", 1, 0, ""), span("item", 2, 1, "")], "");
    let two = scenario("two", "app", &[span("pay", 1, 0, ""), span("charge", 2, 1, "")], "");
    check(
        &[one, two],
        &[
            ("[expect.graph]\nmust_include = [[\"cart\", \"item\"], [\"pay\", \"charge\"]]", true),
            ("[expect.graph]\nmust_include = [[\"cart\", \"charge\"]]", false),
            ("[expect.graph]\nmust_not_cross = [[\"cart\", \"charge\"]]", true),
            ("[expect.graph]\nmust_not_cross = [[\"pay\", \"charge\"]]", false),
            ("[[expect.span]]\nname = \"charge\"\nparent = \"pay\"", true),
            ("[expect.graph]\nsingle_root = true", false),
        ],
    );
}

#[test]
fn a_scenario_is_no_span_by_its_plain_name() {
    let silent = ["[[scenario]]\nname = \"checkout\"\nrun = \"true\"\n".to_owned()];
    check(
        &silent,
        &[
            ("[[expect.span]]\nname = \"checkout\"", false),
            ("[[expect.span]]\nname = \"checkout\"\nsource = \"clnrm\"", true),
            ("[[expect.span]]\nname = \"clnrm.scenario.checkout\"", true),
            (
                "[[expect.span]]\nname = \"clnrm.run\"\n[expect.counts]\nspans_total = { gte = 1 }",
                false,
            ),
            ("[[expect.span]]\nname = \"clnrm.run\"\n[expect.status]\nall = \"ok\"", false),
        ],
    );
    let own = "[[expect.span]]\nname = \"clnrm.run\"\nattrs.all = { result = \"pass\" }";
    let told = seen(&silent, own);
    assert!(told.starts_with("exit 0") && told.contains("judge/own-spans"), "{told}");
    let exports = [scenario("checkout", "app", &[span("a", 1, 0, "")], "")];
    let told = seen(&exports, own);
    assert!(told.starts_with("exit 0") && !told.contains("judge/own-spans"), "{told}");
}

#[test]
fn a_span_without_times_is_in_no_window() {
    let timeless = span("a", 1, 0, "").replace(r#"Nano": "1""#, r#"Nano": "0""#);
    let timeless = timeless.replace(r#"Nano": "2""#, r#"Nano": "0""#);
    let expect = "[[expect.window]]\nmax_duration_ms = 5";
    check(&[scenario("s", "app", &[timeless], "")], &[(expect, false)]);
    check(&[scenario("s", "app", &[span("a", 1, 0, "")], "")], &[(expect, true)]);
}
