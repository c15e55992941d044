//! Spans of a program under test: exported in every protocol, from every engine, and judged.

use expect_test::expect;

use crate::case::{Case, Report};
use crate::engines::{On, on_every_engine};
use crate::programs::app;

on_every_engine!(
    every_protocol_is_understood,
    totals_look_at_the_program_alone,
    a_failure_is_in_status_and_exit_code,
    a_trace_crosses_processes,
    every_run_has_its_own_spans,
);

/// A case with the program under test in it, as `app`.
pub(crate) fn case(on: On, test: &str, fixture: &str) -> Option<Case> {
    let case = on.case(&format!("spans::{test}"), fixture)?;
    std::fs::copy(app(), case.root().join("app")).unwrap();
    Some(case)
}

#[track_caller]
fn green(report: &Report, containers: u64) {
    let seen = report.seen();
    assert_eq!((report.exit, report.containers_started()), (Some(0), containers), "{seen}");
    assert!(report.codes().is_empty(), "{seen}");
}

const PROTOCOLS: &str = r#"
//- /work.clnrm.toml
{% set protocols = ["http/protobuf", "http/json", "grpc"] -%}
[meta]
name = "work"

[services.app]
volumes = ["./app:/app:ro"]

{% for protocol in protocols -%}
[[scenario]]
name = "{{ protocol }}"
service = "app"

[[scenario.steps]]
name = "batch"
command = ["/app", "work", "--spans", "4"]
env = { OTEL_EXPORTER_OTLP_PROTOCOL = "{{ protocol }}" }

[[scenario.expect.span]]
name = "work"
kind = "internal"
parent = "clnrm.step:batch"
service = "app"
status = "ok"
duration_ms = { min = 4 }
events.all = ["checkpoint"]
children.any = ["item"]

[scenario.expect.span.attrs.all]
"work.items" = 4
"work.kind" = "batch"
"work.ratio" = 0.5
"work.ok" = true
"resource.clnrm.service" = "app"

[[scenario.expect.span]]
name = "item"
parent = "work"
count = { eq = 4 }
attrs.all = { "item.index" = { gte = 0, lte = 3 } }

[scenario.expect.graph]
must_include = [["clnrm.step:batch", "work"], ["work", "item"]]
must_not_cross = [["item", "work"]]
acyclic = true

[scenario.expect.order]
must_precede = [["app.start", "work"], ["work", "item"], ["item", "app.stop"]]

[scenario.expect.counts]
by_name = { "work" = { eq = 1 }, "item" = { eq = 4 }, "*e*" = { gte = 4 } }

[scenario.expect.status]
by_name = { "work" = "unset", "item" = "unset" }

{% endfor %}
"#;

fn every_protocol_is_understood(on: On) {
    let Some(case) = case(on, "every_protocol_is_understood", PROTOCOLS) else { return };
    let report = case.run(&[]);
    green(&report, 3);
    let spans = |scenario: usize| report.json["tests"][0]["scenarios"][scenario]["spans"].clone();
    assert_eq!([0, 1, 2].map(spans), [5, 5, 5]);
}

const TOTALS: &str = r#"
//- /totals.clnrm.toml
[meta]
name = "totals"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "batch"
service = "app"
run = "/app work --spans 2"

[expect.counts]
spans_total = { eq = 3 }
events_total = { eq = 1 }
errors_total = { eq = 0 }
by_kind = { internal = { eq = 3 } }
by_service = { app = { eq = 3 } }

[expect.graph]
max_depth = 2
must_be_connected = true
single_root = true

[expect.status]
all = "ok"
"#;

fn totals_look_at_the_program_alone(on: On) {
    let Some(case) = case(on, "totals_look_at_the_program_alone", TOTALS) else { return };
    green(&case.run(&[]), 1);
}

const APART: &str = r#"
//- /apart.clnrm.toml
[meta]
name = "apart"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "leaves something that exports later"
service = "app"
run = "/app work --spans 2; (sleep 0.3; /app work --spans 7) &"

[scenario.expect.counts]
spans_total = { eq = 3 }

[[scenario]]
name = "has a trace and tokens of somebody else"
service = "app"
run = "sleep 1; /app work --spans 2"

[scenario.env]
OTEL_EXPORTER_OTLP_HEADERS = "authorization=Bearer another,x-token=another"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

[scenario.expect.counts]
spans_total = { eq = 3 }
"#;

/// Which run a span belongs to is told by where it arrives, and by nothing that it says.
fn every_run_has_its_own_spans(on: On) {
    let Some(case) = case(on, "every_run_has_its_own_spans", APART) else { return };
    green(&case.run(&["--jobs", "1"]), 2);
    green(&case.run(&["--force", "--jobs", "2"]), 2);
}

const FAILING: &str = r#"
//- /fail.clnrm.toml
[meta]
name = "fail"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "batch"
service = "app"
run = "/app work --fail"
expected_exit_code = 3

[[expect.span]]
name = "work"
status = "error"
attrs.all = { "work.ok" = false }

[expect.counts]
errors_total = { eq = 1 }

[expect.status]
all = "ok"
by_name = { "work" = "error" }
"#;

fn a_failure_is_in_status_and_exit_code(on: On) {
    let Some(case) = case(on, "a_failure_is_in_status_and_exit_code", FAILING) else { return };
    green(&case.run(&[]), 1);
    case.replace("fail.clnrm.toml", "expected_exit_code = 3", "expected_exit_code = 4");
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(1), 0), "{}", report.seen());
}

pub(crate) const SERVICES: &str = r#"
//- /orders.clnrm.toml
[meta]
name = "orders"

[services.orders]
args = ["/app", "serve", "--port", "8080", "--upstream", "http://stock:8081"]
volumes = ["./app:/app:ro"]
ports = [8080]
depends_on = ["stock"]

[services.stock]
args = ["/app", "serve", "--port", "8081", "--name", "warehouse"]
volumes = ["./app:/app:ro"]
ports = [8081]

[services.client]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "order"

[[scenario.steps]]
name = "get"
service = "client"
command = ["/app", "get", "http://orders:8080/orders/7"]
expected_output_contains = "order 7: stock 7 reserved"

[[expect.span]]
name = "GET /orders/{id}"
kind = "server"
parent = "fetch"
service = "orders"
attrs.all = { "url.path" = "/orders/7", "http.response.status_code" = "200" }

[[expect.span]]
name = "GET /stock/{id}"
kind = "server"
service = "warehouse"

[[expect.span]]
name = "load_order"
events.any = ["cache.miss"]

[expect.graph]
must_include = [
  ["clnrm.step:get", "fetch"],
  ["fetch", "GET /orders/{id}"],
  ["GET /orders/{id}", "load_order"],
  ["GET /orders/{id}", "GET upstream"],
  ["GET upstream", "GET /stock/{id}"],
  ["GET /stock/{id}", "reserve"],
]
must_not_cross = [["load_order", "reserve"]]

[expect.order]
must_precede = [
  ["stock.start", "orders.start"],
  ["orders.start", "clnrm.step:get"],
  ["load_order", "GET upstream"],
]

[expect.counts]
by_kind = { client = 2, server = 2 }
by_service = { orders = 3, warehouse = 2, client = 1 }
"#;

/// Names of spans may hold braces, which are globs elsewhere.
fn a_trace_crosses_processes(on: On) {
    let Some(case) = case(on, "a_trace_crosses_processes", SERVICES) else { return };
    green(&case.run(&[]), 1);
    // Each has a network of its own then, and the file does not care.
    case.replace("orders.clnrm.toml", "ports = [8081]", "ports = [8080]");
    case.replace("orders.clnrm.toml", "stock:8081", "stock:8080");
    case.replace("orders.clnrm.toml", r#""--port", "8081""#, r#""--port", "8080""#);
    green(&case.run(&[]), 1);
    green(&case.run(&[]), 0);
}

#[test]
fn the_nearest_miss_is_shown() {
    let fixture = r#"
//- /work.clnrm.toml
[meta]
name = "work"

[services.app]
volumes = ["./app:/app:ro"]

[[scenario]]
name = "batch"
service = "app"
run = "/app work --spans 2"

[[expect.span]]
name = "work"
attrs.all = { "work.items" = 3, "work.kind" = "batch" }

[[expect.span]]
name = "item"
count = { gte = 3 }

[[expect.span]]
name = "itme"

[[expect.span]]
name = "work"
events.any = ["exception"]

[expect.graph]
must_include = [["item", "work"]]

[expect.order]
must_precede = [["item", "work"]]

[expect.counts]
spans_total = { lte = 2 }

[expect.status]
all = "error"
"#;
    let Some(case) = case(On::Sandbox, "", fixture) else { return };
    case.clnrm(&["run"]).check(expect![[r#"
        exit 1
        -- stdout
        FAIL  work.clnrm.toml  work  [TIME]
          work.clnrm.toml:12:1: expect.span[0]
            the span `work` does not satisfy all of it (3 spans looked at)
            nearest: `work`: attribute `work.items` is 2, expected 3
          work.clnrm.toml:18:1: expect.span[1].count
            expected at least 3 spans, found 2 `item` that satisfy all of it (3 spans looked at)
          work.clnrm.toml:20:1: expect.span[2]
            no span is named `itme` (3 spans looked at)
            nearest: did you mean `item`? there are `item` (2), `work` (1)
          work.clnrm.toml:23:1: expect.span[3]
            the span `work` does not satisfy all of it (3 spans looked at)
            nearest: `work`: events are `checkpoint` (1), expected `exception`
          work.clnrm.toml:28:17: expect.graph.must_include[0]
            no `work` lies directly under `item`: `work` is there, but under `clnrm.step:batch` (1) (3 spans looked at)
          work.clnrm.toml:31:17: expect.order.must_precede[0]
            `work` began at [TIME], but the first `item` ended at [TIME] (3 spans looked at)
          work.clnrm.toml:34:1: expect.counts.spans_total
            expected at most 2 spans, found 3 (3 spans looked at)
          work.clnrm.toml:37:1: expect.status.all
            expected status error, not met by 3 of 3 spans (3 spans looked at)
            nearest: `work` is unset, `item` is unset, `item` is unset

        0 passed, 1 failed in [TIME]
        1 run, 0 outcomes reused, [N] queries executed, [N] recalled; the built-in sandbox
    "#]]);
}

#[test]
fn without_spans_nothing_is_green() {
    let fixture = r#"
//- /count.clnrm.toml
[meta]
name = "count"

[[scenario]]
name = "silent"
run = "true"

[expect.counts]
errors_total = { eq = 0 }

//- /graph.clnrm.toml
[meta]
name = "graph"

[[scenario]]
name = "silent"
run = "true"

[expect.graph]
acyclic = true
must_not_cross = [["a", "b"]]

//- /span.clnrm.toml
[meta]
name = "span"

[[scenario]]
name = "silent"
run = "true"

[[expect.span]]
name = "GET /"
exists = false

//- /status.clnrm.toml
[meta]
name = "status"

[[scenario]]
name = "silent"
run = "true"

[expect.status]
all = "ok"
"#;
    Case::new(fixture).run(&[]).check(expect![[r#"
        exit 1
        failed  count.clnrm.toml
          8: expect.counts: no spans were collected from the code under test; it may not export OTLP, or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT (0 spans looked at)
        failed  graph.clnrm.toml
          8: expect.graph: no spans were collected from the code under test; it may not export OTLP, or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT (0 spans looked at)
        failed  span.clnrm.toml
          8: expect.span[0]: no spans were collected from the code under test; it may not export OTLP, or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT (0 spans looked at)
        failed  status.clnrm.toml
          8: expect.status: no spans were collected from the code under test; it may not export OTLP, or not to the address in OTEL_EXPORTER_OTLP_ENDPOINT (0 spans looked at)
        1 started, 0 reused, some queries executed
    "#]]);
}

#[test]
fn a_rebuilt_program_runs_its_tests_again() {
    let Some(case) = case(On::Sandbox, "", TOTALS) else { return };
    green(&case.run(&[]), 1);
    green(&case.run(&[]), 0);
    let mut program = std::fs::read(case.root().join("app")).unwrap();
    program.extend(b"something at the end, which the kernel does not load");
    // Written in place, so it may be executed still.
    case.write("app", program);
    green(&case.run(&[]), 1);
}
