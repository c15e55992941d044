//! Spans of another language's SDK.

use crate::case::{Case, workspace};
use crate::programs::python;

const FIXTURE: &str = r#"
//- /python.clnrm.toml
{% set mounts = ["./spans.py:/spans.py:ro", "VENV:/venv:ro"] -%}
[meta]
name = "python"

[services.py]
volumes = {{ toml_encode(value=mounts) }}

[[scenario]]
name = "spans"

[[scenario.steps]]
name = "export"
service = "py"
command = ["/venv/bin/python", "/spans.py"]
env = { OTEL_EXPORTER_OTLP_PROTOCOL = "WANTED" }

[[expect.span]]
name = "py.root"
kind = "server"
service = "py"
attrs.all = { "py.answer" = 42, "telemetry.sdk.language" = "python" }
children.any = ["py.child"]

[[expect.span]]
name = "py.child"
parent = "py.root"
events.all = ["tick"]

[expect.counts]
spans_total = 2
events_total = 1
"#;

#[test]
fn over_http() {
    exports("over_http", "http/protobuf");
}

#[test]
fn over_grpc() {
    exports("over_grpc", "grpc");
}

fn exports(test: &str, protocol: &str) {
    let Some(python) = python(&format!("python::{test}")) else { return };
    let mut fixture =
        FIXTURE.replace("VENV", &python.venv.display().to_string()).replace("WANTED", protocol);
    if let Some(prefix) = python.prefix {
        let prefix = prefix.display();
        fixture = fixture.replace("] -%}", &format!(", \"{prefix}:{prefix}:ro\"] -%}}"));
    }
    let case = Case::new(&fixture);
    let script = std::fs::read(workspace().join("tests/fixtures/python/spans.py")).unwrap();
    case.write("spans.py", script);
    let report = case.run(&[]);
    assert_eq!((report.exit, report.containers_started()), (Some(0), 1), "{}", report.seen());
    // The packages are no part of the workspace, which is worth a warning.
    assert!(report.codes().iter().all(|code| *code == "shape/volume-outside"), "{}", report.seen());
}
