//! SARIF 2.1.0, the format of OASIS for what tools find in code.

use std::collections::BTreeSet;

use clnrm_queries::{Diagnostic, Severity};
use serde_json::{Value, json};

use super::{DrySummary, in_repository};

pub(super) fn dry_run(summary: &DrySummary<'_>) -> String {
    let (mut rules, mut results) = (BTreeSet::new(), Vec::new());
    summary.each(|severity, diagnostic| {
        rules.insert(diagnostic.code.to_owned());
        results.push(result(severity, diagnostic));
    });
    let rules: Vec<Value> = rules.into_iter().map(|id| json!({ "id": id })).collect();
    super::json::pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "clnrm",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn result(severity: Severity, diagnostic: &Diagnostic<&str>) -> Value {
    let Diagnostic { code, message, file, line, column, length, notes, hint, .. } = diagnostic;
    let mut location = json!({ "artifactLocation": { "uri": uri(&in_repository(file)) } });
    if *line > 0 {
        location["region"] = json!({ "startLine": line });
        if *column > 0 {
            location["region"]["startColumn"] = json!(column);
            location["region"]["endColumn"] = json!(column + length.max(&1));
        }
    }
    let more = notes.iter().map(|note| format!("\nnote: {note}"));
    let hint = hint.map(|hint| format!("\nhint: {hint}"));
    let text: String = [message.to_string()].into_iter().chain(more).chain(hint).collect();
    json!({
        "ruleId": code,
        "level": match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": { "text": text },
        "locations": [{ "physicalLocation": location }],
    })
}

/// A relative path as the reference it is.
fn uri(path: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/!$&'()*+,;=@".contains(&byte);
    let encode = |byte: u8| match keep(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(encode).collect()
}
