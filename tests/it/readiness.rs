//! What readiness probes see, and what they say of it.

use crate::engines::{On, on_every_engine};
use crate::lacking::has_program;
use crate::spans::case;

on_every_engine!(
    what_was_written_before_the_end_counts,
    anchors_of_a_log_are_those_of_lines,
    a_health_check_that_cannot_start_is_told,
    an_unready_port_is_told_with_those_that_listen,
    probes_leave_no_spans,
);

/// A service with these lines, and the scenario that needs it.
fn fixture(service: &str) -> String {
    format!(
        "//- /a.clnrm.toml\n[meta]\nname = \"a\"\n[services.a]\nvolumes = [\"./app:/app:ro\"]\n\
         {service}\n[services.b]\nargs = [\"sleep\", \"100\"]\n[[scenario]]\nname = \"s\"\n\
         service = \"b\"\nrun = \"true\"\n"
    )
}

/// The exit code of a run, and all that failed.
fn run(on: On, test: &str, service: &str) -> Option<(Option<i32>, String)> {
    let case = case(on, test, &fixture(service))?;
    let report = case.run(&[]);
    Some((report.exit, report.json["tests"][0]["scenarios"][0]["failures"].to_string()))
}

fn what_was_written_before_the_end_counts(on: On) {
    let service = "args = [\"sh\", \"-c\", \"echo ready; exit 0\"]\nwait_for = { log = \"WORD\", timeout = \"20s\" }";
    for (word, expected) in [("ready", 0), ("never", 1)] {
        let test = "readiness::what_was_written_before_the_end_counts";
        let Some((exit, told)) = run(on, test, &service.replace("WORD", word)) else { return };
        assert_eq!(exit, Some(expected), "{word}: {told}");
    }
}

fn anchors_of_a_log_are_those_of_lines(on: On) {
    let script =
        "printf 'starting\\\\nrea'; sleep 0.05; printf 'dy'; sleep 0.05; echo; exec sleep 100";
    for pattern in ["^ready$", "ready$"] {
        let service = format!(
            "args = [\"sh\", \"-c\", \"{script}\"]\nwait_for = {{ log = \"{pattern}\", timeout = \"20s\" }}"
        );
        let test = "readiness::anchors_of_a_log_are_those_of_lines";
        let Some((exit, told)) = run(on, test, &service) else { return };
        assert_eq!(exit, Some(0), "{pattern}: {told}");
    }
}

fn a_health_check_that_cannot_start_is_told(on: On) {
    let service =
        "args = [\"sleep\", \"100\"]\nhealth_check = { cmd = [\"nope\"], interval = \"10ms\" }";
    let test = "readiness::a_health_check_that_cannot_start_is_told";
    let Some((exit, told)) = run(on, test, service) else { return };
    let expected = "service `a` cannot get ready: its health check cannot start `nope`";
    assert!(exit == Some(1) && told.contains(expected), "{told}");
}

fn an_unready_port_is_told_with_those_that_listen(on: On) {
    let service = "args = [\"/app\", \"serve\", \"--port\", \"8081\"]\n\
                   wait_for = { WHAT, timeout = \"1s\" }";
    for (what, expected) in [
        (
            "port = 8080",
            "port 8080 does not accept a connection: refused; something listens on 8081",
        ),
        ("port = 8081, http = \"/no\"", "does not answer with 200: it answered 404"),
    ] {
        let test = "readiness::an_unready_port_is_told_with_those_that_listen";
        let Some((exit, told)) = run(on, test, &service.replace("WHAT", what)) else { return };
        assert!(exit == Some(1) && told.contains(expected), "{told}");
    }
}

/// The program traces each request, whether its caller does or not.
fn probes_leave_no_spans(on: On) {
    let test = "readiness::probes_leave_no_spans";
    let service = "args = [\"/app\", \"serve\", \"--port\", \"8080\"]\n\
                   env = { OTEL_TRACES_SAMPLER = \"always_on\" }\n\
                   wait_for = { port = 8080, http = \"/orders/1\", timeout = \"20s\" }";
    let asks = fixture(service)
        .replace("run = \"true\"", "run = \"/app get http://localhost:8080/orders/7\"");
    let asks = asks.replace("service = \"b\"", "service = \"a\"");
    let expects = "[expect.counts]\nby_name = { \"GET /orders/{id}\" = 1 }\n";
    let Some(case) = case(on, test, &(asks + expects)) else { return };
    let report = case.run(&[]);
    assert_eq!(report.exit, Some(0), "{}", report.seen());
}

/// `localhost` is two addresses.
#[test]
fn a_server_on_the_loopback_of_ipv6_is_ready() {
    let test = "readiness::a_server_on_the_loopback_of_ipv6_is_ready";
    if !has_program(test, "python3") {
        return;
    }
    let script = "import http.server, socket\\nclass S(http.server.ThreadingHTTPServer):\\n    \
                  address_family = socket.AF_INET6\\nS(('::1', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()";
    for wait in ["port = 8080", "port = 8080, http = \"/\""] {
        let service = format!(
            "args = [\"python3\", \"-c\", \"{script}\"]\nwait_for = {{ {wait}, timeout = \"20s\" }}"
        );
        let Some((exit, told)) = run(On::Sandbox, test, &service) else { return };
        assert_eq!(exit, Some(0), "{wait}: {told}");
    }
}
