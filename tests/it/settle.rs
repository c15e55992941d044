//! The last spans of services arrive before the services are stopped.

use crate::case::Report;
use crate::engines::{On, on_every_engine};
use crate::spans::case;

on_every_engine!(
    a_server_without_a_signal_handler_exports_its_last_spans,
    a_process_that_a_step_leaves_exports_its_last_spans,
    an_added_expectation_runs_what_has_not_settled,
    late_spans_are_waited_for,
);

/// Order 0 does not exist: its span is an error.
const FIXTURE: &str = r#"
//- /last.clnrm.toml
[meta]
name = "last"

[services.app]
args = ["/app", "serve", "--port", "8000", "--on-term", "die"]
volumes = ["./app:/app:ro"]
ports = [8000]

[[scenario]]
name = "good"
service = "app"
run = "/app get http://localhost:8000/orders/7"

[[scenario]]
name = "bad"
service = "app"
run = "/app get http://localhost:8000/orders/0; true"

[expect.counts]
by_name."GET /orders/{id}" = 2
errors_total = ERRORS
"#;

fn failures(report: &Report) -> Vec<String> {
    let failures = report.json["tests"][0]["failures"].as_array().cloned().unwrap_or_default();
    failures.iter().map(|failure| failure["message"].to_string()).collect()
}

fn a_server_without_a_signal_handler_exports_its_last_spans(on: On) {
    let test = "a_server_without_a_signal_handler_exports_its_last_spans";
    // The request's two spans are errors: the client's and the server's.
    let Some(case) = case(on, test, &FIXTURE.replace("ERRORS", "2")) else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    case.replace("last.clnrm.toml", "errors_total = 2", "errors_total = 0");
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(1), 0), "{}", report.seen());
}

const LEFT: &str = r#"
//- /left.clnrm.toml
[meta]
name = "left"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "left"
service = "app"

[[scenario.steps]]
name = "serve"
command = "/app serve --port 8000 --on-term die >/tmp/log & until grep -q listening /tmp/log; do :; done"

[[scenario.steps]]
name = "ask"
command = ["/app", "get", "http://localhost:8000/orders/7"]

[expect.counts]
by_name."GET /orders/{id}" = 1
"#;

fn a_process_that_a_step_leaves_exports_its_last_spans(on: On) {
    let test = "a_process_that_a_step_leaves_exports_its_last_spans";
    let Some(case) = case(on, test, LEFT) else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
}

fn an_added_expectation_runs_what_has_not_settled(on: On) {
    let test = "an_added_expectation_runs_what_has_not_settled";
    let expects = FIXTURE.find("[expect.counts]").expect("it is there");
    let Some(case) = case(on, test, &FIXTURE[..expects]) else { return };
    let whole = FIXTURE[FIXTURE.find("[meta]").expect("it is there")..].replace("ERRORS", "2");
    let expected = |containers: u64| {
        let report = case.run(&[]);
        let seen = (report.exit, report.containers_started(), failures(&report));
        assert_eq!(seen, (Some(0), containers, Vec::new()), "{}", report.seen());
    };
    // Nothing is judged, so nothing waits; then the services need time; then they have had it.
    expected(2);
    case.write("last.clnrm.toml", &whole);
    expected(2);
    case.write("last.clnrm.toml", &FIXTURE[FIXTURE.find("[meta]").unwrap()..expects]);
    expected(0);
    case.write("last.clnrm.toml", &whole);
    expected(0);
}

/// A process that goes on after its step, and exports later.
const LATE: &str = r#"
//- /late.clnrm.toml
[meta]
name = "late"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "late"
service = "app"
run = "(sleep 0.3; /app work --spans 2) >/dev/null 2>&1 &"
wait_for = { span = "SPAN", count = COUNT, timeout = "LIMIT" }

[[expect.span]]
name = "item"
count = 2
"#;

fn late_spans_are_waited_for(on: On) {
    let late = |span: &str, count: &str, limit: &str| {
        let text = LATE.replace("SPAN", span).replace("COUNT", count).replace("LIMIT", limit);
        case(on, "late_spans_are_waited_for", &text)
    };
    let Some(case) = late("item", "2", "20s") else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
    let Some(case) = late("itme", "1", "2s") else { return };
    let report = case.run(&[]);
    let failures = report.json["tests"][0]["scenarios"][0]["failures"].to_string();
    let told = "1 of `itme` did not come within 2s: there came `item` (2), `work` (1)";
    assert!(report.exit == Some(1) && failures.contains(told), "{}", report.seen());
}
