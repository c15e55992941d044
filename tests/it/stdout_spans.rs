//! Spans that come another way than over the network, and services that are waited for by theirs.

mod as_written;

use expect_test::expect;

use crate::engines::{On, on_every_engine};

on_every_engine!(spans_on_standard_output, a_span_is_waited_for, the_collector_has_a_name);

/// A line as file exporters write it, with a trace of one span.
fn line(name: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"{name}","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000"}}]}}]}}]}}"#
    )
}

fn spans_on_standard_output(on: On) {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[otel]
exporter = "stdout"

[[scenario]]
name = "s"

[[scenario.steps]]
name = "tell"
command = '''
echo text
echo 'LINE'
'''

[[expect.span]]
name = "GET /"
kind = "server"
"#;
    let fixture = fixture.replace("LINE", &line("GET /"));
    let Some(case) = on.case("stdout_spans::spans_on_standard_output", &fixture) else { return };
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
    // One that nobody can read is not overlooked.
    case.replace("a.clnrm.toml", "eee19b7ec3c1b174", "none");
    let ran = case.run(&[]);
    assert_eq!(ran.exit, Some(1), "{}", ran.seen());
    assert!(ran.json.to_string().contains("is not an id in hex"), "{:#}", ran.json);
}

fn a_span_is_waited_for(on: On) {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.slow]
args = ["sh", "-c", '''
sleep 0.5
touch /tmp/begun
echo 'LINE'
sleep 60
''']
wait_for = { span = "up", timeout = "20s" }

[[scenario]]
name = "s"
service = "slow"
run = "ls /tmp/begun"
artifacts.collect = ["spans:default"]

[[expect.span]]
name = "up"
"#;
    let fixture = fixture.replace("LINE", &line("up"));
    let Some(case) = on.case("stdout_spans::a_span_is_waited_for", &fixture) else { return };
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
}

fn the_collector_has_a_name(on: On) {
    let fixture = r#"
//- /a.clnrm.toml
[meta]
name = "a"

[services.collector]
plugin = "otel_collector"
image = "otel/opentelemetry-collector:0.90.0"
ports = [4317, 4318]

[services.app]
depends_on = ["collector"]

[[scenario]]
name = "s"
service = "app"
run = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc collector 4318 | head -1"

[[expect.span]]
name = "collector.start"
"#;
    let Some(case) = on.case("stdout_spans::the_collector_has_a_name", fixture) else { return };
    case.run(&[]).check(expect![[r#"
        exit 0
        passed  a.clnrm.toml
        1 started, 0 reused, some queries executed
    "#]]);
}
