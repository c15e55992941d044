//! `[otel]`: what the code under test is told of OpenTelemetry.

use std::collections::BTreeMap;

use clnrm_backends::Forward;

use super::Test;
use super::read::Table;
use crate::diagnostic::{At, Problem, nearest};
use crate::document::Tree;

/// What `exporter` may be.
const EXPORTERS: [&str; 7] =
    ["jaeger", "none", "otlp", "otlp-grpc", "otlp-http", "stdout", "zipkin"];

/// Reads `[otel]` and its older forms into the variables that say the same to an SDK.
pub(super) fn read(root: &Table<'_>, test: &mut Test) {
    let mut propagators = Vec::new();
    if let Some(table) = root.table(&["otel_propagators"]) {
        propagators.extend(table.strings(&["use"]).unwrap_or_default());
        table.finish();
    }
    let mut headers = root.environment(&["otel_headers"]);
    if let Some(table) = root.table(&["otel"]) {
        headers.extend(table.environment(&["headers"]));
        otel(&table, test, &mut propagators);
        test.forward = forward(&table, headers);
        table.finish();
    }
    if !propagators.is_empty() {
        test.otel.insert("OTEL_PROPAGATORS".to_owned(), propagators.join(","));
    }
}

fn otel(table: &Table<'_>, test: &mut Test, propagators: &mut Vec<String>) {
    if let Some((value, path)) = table.value(&["exporter"]) {
        match value {
            Tree::String(name) if EXPORTERS.contains(&name.as_str()) => {
                test.spans_on_stdout |= name == "stdout";
                if name == "none" {
                    test.otel.insert("OTEL_TRACES_EXPORTER".to_owned(), name.clone());
                }
            }
            Tree::String(name) => {
                let message = format!("`{name}` is no exporter");
                let problem = Problem::error("shape/exporter", At::Key(path), message);
                let all = EXPORTERS.join(", ");
                table.problem(problem.hint(match nearest(name, EXPORTERS) {
                    Some(meant) => format!("did you mean `{meant}`? the exporters are {all}"),
                    None => format!("the exporters are {all}"),
                }));
            }
            other => table.wrong_type(path, "a string", other),
        }
    }
    if let Some(ratio) = table.number(&["sample_ratio"]) {
        if !(0.0..=1.0).contains(&ratio) {
            let at = At::Key(table.path().key("sample_ratio"));
            table.problem(Problem::error("parse/range", at, "a ratio is from 0 to 1"));
        } else if ratio < 1.0 {
            let sampler = "parentbased_traceidratio".to_owned();
            test.otel.insert("OTEL_TRACES_SAMPLER".to_owned(), sampler);
            test.otel.insert("OTEL_TRACES_SAMPLER_ARG".to_owned(), ratio.to_string());
        }
    }
    let resources = table.environment(&["resources", "resource_attributes"]);
    if let Some(service) = resources.get("service.name") {
        test.otel.insert("OTEL_SERVICE_NAME".to_owned(), service.clone());
    }
    if !resources.is_empty() {
        let pair = |(key, value): (&String, &String)| format!("{key}={}", encoded(value));
        let pairs: Vec<String> = resources.iter().map(pair).collect();
        test.otel.insert("OTEL_RESOURCE_ATTRIBUTES".to_owned(), pairs.join(","));
    }
    if let Some(protocol) = table.string(&["protocol"]) {
        test.otel.insert("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol);
    }
    if let Some(table) = table.table(&["propagators"]) {
        propagators.extend(table.strings(&["use"]).unwrap_or_default());
        table.finish();
    }
    table.skip(&["description", "enabled", "service_name"]);
}

/// The second place for all that is exported.
fn forward(table: &Table<'_>, headers: BTreeMap<String, String>) -> Option<Forward> {
    let endpoint = table.string(&["endpoint"]).filter(|endpoint| !endpoint.is_empty())?;
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("http", &endpoint));
    if !matches!(scheme, "http" | "https") || rest.is_empty() || rest.contains(' ') {
        let at = At::Key(table.path().key("endpoint"));
        let problem = Problem::error("parse/endpoint", at, "this is no URL that takes spans");
        table.problem(problem.hint("like http://localhost:4318"));
        return None;
    }
    let says = |word: &str| {
        let values = ["exporter", "protocol"].map(|key| table.value(&[key]));
        let mut texts = values.into_iter().flatten();
        texts.any(|(value, _)| matches!(value, Tree::String(text) if text.contains(word)))
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let grpc = says("grpc") || (!says("http") && authority.ends_with(":4317"));
    let endpoint = format!("{scheme}://{rest}");
    Some(Forward { endpoint, grpc, headers, scenario: String::new() })
}

/// A value in a list of attributes, where some signs have another meaning.
fn encoded(value: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || "-._~/:@ ".contains(c);
    let encode = |c: char| match keep(c) {
        true => c.to_string(),
        false => {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
        }
    };
    value.chars().map(encode).collect()
}
