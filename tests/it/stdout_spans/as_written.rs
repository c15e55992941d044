//! Spans as their senders write them, from the request to the verdict.

use crate::case::Case;

/// Prints REQUEST, which clnrm takes from the standard output.
const FIXTURE: &str = r#"
//- /sent.clnrm.toml
[meta]
name = "sent"

[otel]
exporter = "stdout"

[services.app]

[[scenario]]
name = "print"
service = "app"
run = """cat <<'END'
{"resourceSpans": [{"scopeSpans": [{"spans": [SPANS]}]}]}
END"""

EXPECT
"#;

/// A span of id 1 with more fields.
fn span(fields: &str) -> String {
    let ids = r#""traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "0000000000000001""#;
    format!(r#"{{{ids}, "startTimeUnixNano": "1", "endTimeUnixNano": "2", {fields}}}"#)
}

fn seen(spans: &[String], expect: &str) -> String {
    let fixture = FIXTURE.replace("SPANS", &spans.join(", ")).replace("EXPECT", expect);
    Case::new(&fixture).run(&[]).seen()
}

#[test]
fn an_error_under_a_used_id_is_seen() {
    let (ok, failed) =
        (span(r#""name": "ok""#), span(r#""name": "failed", "status": {"code": 2}"#));
    let expect = "[expect.counts]\nerrors_total = 0";
    expect_test::expect![[r#"
        exit 1
        failed  sent.clnrm.toml
          17: expect.counts.errors_total: expected exactly 0 errors, found 1 (2 spans looked at)
        sent.clnrm.toml:9:1: warning[run/incomplete]: span id 0000000000000001 of trace 0af7651916cd43dd8448eb211c80319c was sent twice, for `failed` and for `ok`, which differ in name, status: both are kept
        1 started, 0 reused, some queries executed
    "#]].assert_eq(&seen(&[ok.clone(), failed], expect));
    expect_test::expect![[r#"
        exit 0
        passed  sent.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]
    .assert_eq(&seen(&[ok.clone(), ok], expect));
}

#[test]
fn nothing_is_absent_where_a_value_is_lost() {
    let attribute = |value: &str| {
        span(&format!(r#""name": "ok", "attributes": [{{"key": "k", "value": {value}}}]"#))
    };
    let (lost, whole) = (r#"{"intValue": 9223372036854775808}"#, r#"{"intValue": 42.0}"#);
    let expect = "[expect.counts]\nerrors_total = 0";
    expect_test::expect![[r#"
        exit 1
        failed  sent.clnrm.toml
          17: expect.counts.errors_total: this cannot be said, because evidence is missing: span `ok`: attribute `k`: `intValue` is lost, because 9223372036854775808 is not an integer of 64 bits (1 span looked at)
        sent.clnrm.toml:9:1: warning[run/incomplete]: span `ok`: attribute `k`: `intValue` is lost, because 9223372036854775808 is not an integer of 64 bits
        1 started, 0 reused, some queries executed
    "#]].assert_eq(&seen(&[attribute(lost)], expect));
    expect_test::expect![[r#"
        exit 0
        passed  sent.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]
    .assert_eq(&seen(&[attribute(whole)], expect));
    let expect = "[[expect.span]]\nname = \"ok\"\nattrs.all = { k = 42 }";
    expect_test::expect![[r#"
        exit 1
        failed  sent.clnrm.toml
          16: expect.span[0]: the span `ok` does not satisfy all of it (1 span looked at)
        sent.clnrm.toml:9:1: warning[run/incomplete]: span `ok`: attribute `k`: `intValue` is lost, because 9223372036854775808 is not an integer of 64 bits
        1 started, 0 reused, some queries executed
    "#]].assert_eq(&seen(&[attribute(lost)], expect));
    expect_test::expect![[r#"
        exit 0
        passed  sent.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]
    .assert_eq(&seen(&[attribute(whole)], expect));
}

#[test]
fn a_number_that_is_none_equals_itself() {
    let double = |value: &str| {
        let value = format!(r#"{{"doubleValue": {value}}}"#);
        span(&format!(r#""name": "ok", "attributes": [{{"key": "k", "value": {value}}}]"#))
    };
    for (value, expected, exit) in [
        (r#""NaN""#, "nan", "exit 0"),
        ("NaN", "nan", "exit 0"),
        ("1", "nan", "exit 1"),
        (r#""Infinity""#, "inf", "exit 0"),
        (r#""Infinity""#, "{ gt = 1e308 }", "exit 0"),
        (r#""-Infinity""#, "{ gt = 1e308 }", "exit 1"),
    ] {
        let expect = format!("[[expect.span]]\nname = \"ok\"\nattrs.all = {{ k = {expected} }}");
        let seen = seen(&[double(value)], &expect);
        assert!(seen.starts_with(exit), "{value} and {expected}: {seen}");
    }
}
