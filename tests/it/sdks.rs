//! Spans of other languages' SDKs, over every protocol: a known tree each.

mod matrix;

use std::path::PathBuf;

use crate::case::{Case, workspace};
use crate::programs::{node, python};

const FIXTURE: &str = r#"
//- /sdk.clnrm.toml
[meta]
name = "sdk"

[services.sdk]
volumes = [MOUNTS]

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

/// Programs in another language.
struct Sdk {
    /// How its spans' names begin.
    short: &'static str,
    /// What its SDK calls it.
    language: &'static str,
    /// What runs the scripts.
    program: &'static str,
    /// Exports a few spans and ends.
    script: &'static str,
    /// Serves until it is stopped.
    server: &'static str,
    /// Folders its programs need, at places of the container.
    folders: Vec<(PathBuf, String)>,
}

impl Sdk {
    fn exports(&self, protocol: &str) {
        let case = Case::new(&self.fill(&FIXTURE.replace("WANTED", protocol)));
        self.copy_scripts(&case);
        let report = case.run(&[]);
        assert_eq!((report.exit, report.containers_started()), (Some(0), 1), "{}", report.seen());
        // The packages are no part of the workspace, which is worth a warning.
        let outside = |code: &&str| *code == "shape/volume-outside";
        assert!(report.codes().iter().all(outside), "{}", report.seen());
    }

    /// Puts what is this SDK's in the places of words.
    fn fill(&self, fixture: &str) -> String {
        let scripts = [self.script, self.server].map(|name| format!("\"./{name}:/app/{name}:ro\""));
        let folder = |(from, to): &(PathBuf, String)| format!("\"{}:{to}:ro\"", from.display());
        let mounts: Vec<_> = scripts.into_iter().chain(self.folders.iter().map(folder)).collect();
        [
            ("MOUNTS", mounts.join(", ").as_str()),
            ("PROGRAM", self.program),
            ("SCRIPT", self.script),
            ("SERVER", self.server),
            ("LANGUAGE", self.language),
            ("LANG", self.short),
        ]
        .iter()
        .fold(fixture.to_owned(), |text, (word, value)| text.replace(word, value))
    }

    fn copy_scripts(&self, case: &Case) {
        let folder = workspace().join("tests/fixtures").join(self.language);
        for name in [self.script, self.server] {
            case.write(name, std::fs::read(folder.join(name)).unwrap());
        }
    }
}

fn python_sdk(test: &str) -> Option<Sdk> {
    let python = python(&format!("sdks::{test}"))?;
    let prefix = python.prefix.map(|prefix| (prefix.clone(), prefix.display().to_string()));
    let folders = [(python.venv, "/venv".to_owned())].into_iter().chain(prefix).collect();
    let (short, language, program) = ("py", "python", "/venv/bin/python");
    Some(Sdk { short, language, program, script: "spans.py", server: "server.py", folders })
}

#[test]
fn python_over_http() {
    let Some(sdk) = python_sdk("python_over_http") else { return };
    sdk.exports("http/protobuf");
}

#[test]
fn python_over_grpc() {
    let Some(sdk) = python_sdk("python_over_grpc") else { return };
    sdk.exports("grpc");
}

fn node_sdk(test: &str) -> Option<Sdk> {
    let folders =
        vec![(node(&format!("sdks::{test}"))?.to_owned(), "/app/node_modules".to_owned())];
    let (short, language, program) = ("node", "nodejs", "node");
    Some(Sdk { short, language, program, script: "spans.mjs", server: "server.mjs", folders })
}

#[test]
fn node_over_http() {
    let Some(sdk) = node_sdk("node_over_http") else { return };
    sdk.exports("http/protobuf");
}

#[test]
fn node_over_http_in_json() {
    let Some(sdk) = node_sdk("node_over_http_in_json") else { return };
    sdk.exports("http/json");
}

#[test]
fn node_over_grpc() {
    let Some(sdk) = node_sdk("node_over_grpc") else { return };
    sdk.exports("grpc");
}
