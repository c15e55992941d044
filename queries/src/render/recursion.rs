//! Refuses templates that would call themselves without end: in Tera that is no error but the end
//! of the process.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

/// Who calls whom, by name.
pub(super) type Calls = BTreeMap<String, Vec<String>>;

/// A way from a name back to itself, if there is one.
pub(super) fn cycle(calls: &Calls) -> Option<Vec<String>> {
    let mut done = Vec::new();
    calls.keys().find_map(|name| visit(name, calls, &mut Vec::new(), &mut done))
}

fn visit(
    name: &str,
    calls: &Calls,
    way: &mut Vec<String>,
    done: &mut Vec<String>,
) -> Option<Vec<String>> {
    if let Some(start) = way.iter().position(|passed| passed == name) {
        let mut cycle = way[start..].to_vec();
        cycle.push(name.to_owned());
        return Some(cycle);
    }
    if done.iter().any(|passed| passed == name) {
        return None;
    }
    way.push(name.to_owned());
    let callees = calls.get(name).map_or(&[][..], Vec::as_slice);
    let found = callees.iter().find_map(|callee| visit(callee, calls, way, done));
    way.pop();
    done.push(name.to_owned());
    found
}

/// The macros of a file, each with those of the same file that it calls.
pub(super) fn macro_calls(text: &str) -> Calls {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        let tag = Regex::new(r"\{%-?\s*(?:macro\s+(\w+)|(endmacro))|self::(\w+)\s*\(");
        tag.expect("the pattern is a constant")
    });
    let (mut calls, mut within) = (Calls::new(), None);
    if !text.contains("macro") {
        return calls;
    }
    for found in TAG.captures_iter(text) {
        if let Some(name) = found.get(1) {
            within = Some(name.as_str().to_owned());
            calls.entry(name.as_str().to_owned()).or_default();
        } else if found.get(2).is_some() {
            within = None;
        } else if let (Some(name), Some(callee)) = (&within, found.get(3)) {
            calls.entry(name.clone()).or_default().push(callee.as_str().to_owned());
        }
    }
    calls
}
