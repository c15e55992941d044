//! Spans of other languages' SDKs, over every protocol: a known tree each.

use std::path::Path;

use crate::case::{Case, workspace};
use crate::programs::{node, python};

const FIXTURE: &str = r#"
//- /sdk.clnrm.toml
{% set mounts = [MOUNTS] -%}
[meta]
name = "sdk"

[services.sdk]
volumes = {{ toml_encode(value=mounts) }}

[[scenario]]
name = "spans"

[[scenario.steps]]
name = "export"
service = "sdk"
command = ["PROGRAM", "/app/SCRIPT"]
env = { OTEL_EXPORTER_OTLP_PROTOCOL = "WANTED" }

[[expect.span]]
name = "LANG.root"
kind = "server"
service = "sdk"
attrs.all = { "LANG.answer" = 42, "telemetry.sdk.language" = "LANGUAGE" }
children.any = ["LANG.child"]

[[expect.span]]
name = "LANG.child"
parent = "LANG.root"
events.all = ["tick"]

[expect.counts]
spans_total = 2
events_total = 1
"#;

/// A program in another language.
struct Sdk<'a> {
    /// How its spans' names begin.
    short: &'a str,
    /// What its SDK calls it.
    language: &'a str,
    /// What runs the script.
    program: &'a str,
    script: &'a str,
    /// Folders its program needs, at places of the container.
    folders: Vec<(&'a Path, &'a str)>,
}

impl Sdk<'_> {
    fn exports(&self, protocol: &str) {
        let mut mounts = vec![format!("\"./{0}:/app/{0}:ro\"", self.script)];
        let folder = |(from, to): &(&Path, &str)| format!("\"{}:{to}:ro\"", from.display());
        mounts.extend(self.folders.iter().map(folder));
        let words = [
            ("MOUNTS", mounts.join(", ").as_str()),
            ("PROGRAM", self.program),
            ("SCRIPT", self.script),
            ("WANTED", protocol),
            ("LANGUAGE", self.language),
            ("LANG", self.short),
        ]
        .map(|(word, value)| (word.to_owned(), value.to_owned()));
        let fixture =
            words.iter().fold(FIXTURE.to_owned(), |text, (word, value)| text.replace(word, value));
        let case = Case::new(&fixture);
        let script = workspace().join("tests/fixtures").join(self.language).join(self.script);
        case.write(self.script, std::fs::read(script).unwrap());
        let report = case.run(&[]);
        assert_eq!((report.exit, report.containers_started()), (Some(0), 1), "{}", report.seen());
        // The packages are no part of the workspace, which is worth a warning.
        let outside = |code: &&str| *code == "shape/volume-outside";
        assert!(report.codes().iter().all(outside), "{}", report.seen());
    }
}

fn python_exports(test: &str, protocol: &str) {
    let Some(python) = python(&format!("sdks::{test}")) else { return };
    let mut folders = vec![(python.venv.as_path(), "/venv")];
    let prefix = python.prefix.as_deref().map(|prefix| (prefix, prefix.to_str().unwrap()));
    folders.extend(prefix);
    let (program, script) = ("/venv/bin/python", "spans.py");
    Sdk { short: "py", language: "python", program, script, folders }.exports(protocol);
}

#[test]
fn python_over_http() {
    python_exports("python_over_http", "http/protobuf");
}

#[test]
fn python_over_grpc() {
    python_exports("python_over_grpc", "grpc");
}

fn node_exports(test: &str, protocol: &str) {
    let Some(modules) = node(&format!("sdks::{test}")) else { return };
    let folders = vec![(modules, "/app/node_modules")];
    let (program, script) = ("node", "spans.mjs");
    Sdk { short: "node", language: "nodejs", program, script, folders }.exports(protocol);
}

#[test]
fn node_over_http() {
    node_exports("node_over_http", "http/protobuf");
}

#[test]
fn node_over_http_in_json() {
    node_exports("node_over_http_in_json", "http/json");
}

#[test]
fn node_over_grpc() {
    node_exports("node_over_grpc", "grpc");
}
