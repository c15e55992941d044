//! Secrets do not stand in files.

use std::sync::LazyLock;

use regex::Regex;

use crate::diagnostic::{At, KeyPath, Problem};
use crate::model::Test;

pub(super) fn check(test: &Test, problems: &mut Vec<Problem>) {
    for service in &test.services {
        for (name, value) in &service.env {
            variable(service.path.key("env").key(name), name, value, problems);
        }
    }
    for step in test.scenarios.iter().flat_map(|scenario| &scenario.steps) {
        for (name, value) in &step.env {
            variable(step.path.key("env").key(name), name, value, problems);
        }
        if step.argv.iter().any(|word| is_token(word)) {
            told(step.path.clone(), "a command has what looks like a secret", problems);
        }
    }
}

fn variable(path: KeyPath, name: &str, value: &str, problems: &mut Vec<Problem>) {
    let upper = name.to_uppercase();
    let named = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY"]
        .iter()
        .any(|word| upper.contains(word));
    // `${NAME}` is filled in elsewhere; a test's own password for its own database is short.
    let literal = value.len() >= 16 && !value.contains("${") && !value.contains(' ');
    if is_token(value) || (named && literal) {
        told(path, &format!("`{name}` has what looks like a secret"), problems);
    }
}

fn told(path: KeyPath, message: &str, problems: &mut Vec<Problem>) {
    let problem = Problem::warning("lint/secret", At::Key(path), message);
    problems.push(problem.hint("take it from the environment: `{{ env(name=\"NAME\") }}`"));
}

/// Whether a text has a secret in a form that is known.
fn is_token(text: &str) -> bool {
    static KNOWN: LazyLock<Regex> = LazyLock::new(|| {
        let forms = [
            r"AKIA[0-9A-Z]{16}",
            r"gh[pousr]_[A-Za-z0-9]{36}",
            r"glpat-[A-Za-z0-9_-]{20}",
            r"xox[abprs]-[A-Za-z0-9-]{10,}",
            r"sk-[A-Za-z0-9_-]{32,}",
            r"AIza[0-9A-Za-z_-]{35}",
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
            r"eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
        ];
        Regex::new(&forms.join("|")).expect("the forms are constants")
    });
    text.len() >= 14 && KNOWN.is_match(text)
}
