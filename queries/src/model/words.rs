//! Words that say what is expected, wherever they stand: an expectation with a misspelt or misplaced
//! key would judge nothing, and so is an error where other unknown keys are warnings.

use crate::diagnostic::nearest;
use crate::document::Tree;

/// Beginnings of words by which people ask for something.
const STEMS: [&str; 12] = [
    "assert",
    "criteri",
    "ensure",
    "exit",
    "expect",
    "forbid",
    "invariant",
    "must",
    "postcondition",
    "should",
    "valid",
    "verif",
];

/// Such words, of which a misspelling is one too.
const ASKING: [&str; 6] = ["assert", "assertion", "expect", "expected", "expects", "should"];

/// Words by which people say what is to be seen.
const WHOLE: [&str; 12] = [
    "check", "checks", "contains", "fails", "matches", "output", "regex", "result", "stderr",
    "stdout", "succeeds", "success",
];

/// Keys of expectations that mean nothing else, and where they belong.
const KEYS: [(&str, &str); 46] = [
    ("acyclic", "[expect.graph]"),
    ("all_steps_should_succeed", "[assertions]"),
    ("allow_incomplete", "[expect]"),
    ("allowed_hosts", "[expect.hermeticity]"),
    ("assertions", "a table [assertions] at the top"),
    ("attrs", "[[expect.span]]"),
    ("by_kind", "[expect.counts]"),
    ("by_name", "[expect.counts] or [expect.status]"),
    ("by_service", "[expect.counts]"),
    ("container_should_have_executed_commands", "[assertions]"),
    ("counts", "[expect.counts]"),
    ("duration_ms", "[[expect.span]]"),
    ("errors_total", "[expect.counts]"),
    ("events_total", "[expect.counts]"),
    ("execution_should_be_hermetic", "[assertions]"),
    ("expect", "[expect] at the top or in a scenario"),
    ("expect_failure", "a [[scenario]]"),
    ("expected_exit_code", "a step, or a scenario with `run`"),
    ("expected_output", "a step, or a scenario with `run`"),
    ("expected_output_contains", "a step, or a scenario with `run`"),
    ("expected_output_regex", "a step, or a scenario with `run`"),
    ("expected_output_regex_not", "a step, or a scenario with `run`"),
    ("forbid_keys", "[expect.hermeticity], as span_attrs.forbid_keys"),
    ("graph", "[expect.graph]"),
    ("hermeticity", "[expect.hermeticity]"),
    ("max_depth", "[expect.graph]"),
    ("max_duration_ms", "[[expect.window]]"),
    ("min_duration_ms", "[[expect.window]]"),
    ("min_span_count", "[[expect.window]]"),
    ("must_be_connected", "[expect.graph]"),
    ("must_follow", "[expect.order]"),
    ("must_include", "[expect.graph]"),
    ("must_match", "[expect.hermeticity], as resource_attrs.must_match"),
    ("must_not_cross", "[expect.graph]"),
    ("must_precede", "[expect.order]"),
    ("no_external_services", "[expect.hermeticity]"),
    ("order", "[expect.order]"),
    ("otel_validation", "a table [otel_validation] at the top"),
    ("service_should_start", "[assertions]"),
    ("should_fail", "a step, or a scenario with `run`"),
    ("single_root", "[expect.graph]"),
    ("span", "[[expect.span]]"),
    ("spans", "[[expect.span]]"),
    ("spans_total", "[expect.counts]"),
    ("window", "[[expect.window]]"),
    ("windows", "[[expect.window]]"),
];

/// Keys of expectations that other tables may well have: a sign of one only where they stand
/// themselves.
const COMMON: [&str; 3] = ["order", "window", "windows"];

/// Shorter words of expectations, which are errors in a table that does not know them, and nothing
/// is taken for a misspelling of them there.
const PARTS: [&str; 30] = [
    "all",
    "any",
    "attributes",
    "children",
    "contains",
    "count",
    "end",
    "end_span",
    "eq",
    "errors",
    "events",
    "exists",
    "gt",
    "gte",
    "kind",
    "lt",
    "lte",
    "matches",
    "max",
    "min",
    "ne",
    "one_of",
    "outer",
    "parent",
    "resource_attrs",
    "service",
    "span_attrs",
    "start",
    "start_span",
    "status",
];

/// What an unknown key is meant to be, when it looks like an expectation.
#[derive(Debug, PartialEq)]
pub(super) enum Meant {
    /// A key that belongs there.
    Elsewhere(&'static str),
    /// Probably this key.
    Misspelt(String),
    /// Something that is expected, by its words.
    Unclear,
}

/// What `name` is meant to be, if it or what it is set to looks like an expectation; `known` are the
/// keys of its table.
pub(super) fn meant(name: &str, value: &Tree, known: &[&'static str]) -> Option<Meant> {
    let lower = name.to_lowercase().replace('-', "_");
    if known.contains(&lower.as_str()) && is_expectation(&lower) {
        return Some(Meant::Misspelt(lower));
    }
    if let Some((_, place)) = KEYS.iter().find(|(key, _)| *key == lower) {
        return Some(Meant::Elsewhere(place));
    }
    if PARTS.contains(&lower.as_str()) {
        return Some(Meant::Elsewhere("a table of [expect]"));
    }
    if lower.ends_with("_constraints") {
        return Some(Meant::Elsewhere("[[expect.span]] or [[expect.window]], each limit as a key"));
    }
    // A key of this table is meant first.
    let near = nearest(&lower, known.iter().copied());
    let near = near.or_else(|| nearest(&lower, KEYS.iter().map(|(key, _)| *key)));
    if let Some(near) = near.filter(|near| is_expectation(near) && is_close(&lower, near)) {
        return Some(match KEYS.iter().find(|(key, _)| *key == near && !known.contains(key)) {
            Some((key, place)) if !place.contains(key) => {
                Meant::Misspelt(format!("{key}` in `{place}"))
            }
            _ => Meant::Misspelt(near.to_owned()),
        });
    }
    (asks(name) || holds_one(value)).then_some(Meant::Unclear)
}

/// Short words are near to everything.
fn is_close(name: &str, key: &str) -> bool {
    let distance = strsim::damerau_levenshtein(name, key);
    distance <= if key.chars().count() < 6 { 1 } else { 2 }
}

fn is_expectation(key: &str) -> bool {
    asks(key) || PARTS.contains(&key) || KEYS.iter().any(|(name, _)| *name == key)
}

/// Whether a word of `name` begins as words do by which people ask for something.
fn asks(name: &str) -> bool {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            words.push('_');
        }
        words.extend(letter.to_lowercase());
    }
    let mut words = words.split(|c: char| !c.is_alphanumeric());
    words.any(|word| {
        let is_near = |asking: &&str| strsim::damerau_levenshtein(word, asking) <= 1;
        WHOLE.contains(&word)
            || STEMS.iter().any(|stem| word.starts_with(stem))
            || ASKING.iter().any(is_near)
    })
}

/// Whether a key within `value` is one of an expectation.
fn holds_one(value: &Tree) -> bool {
    match value {
        Tree::Table(entries) => entries.iter().any(|(name, value)| {
            let vague = COMMON.contains(&name.as_str()) || PARTS.contains(&name.as_str());
            let own = is_expectation(&name.to_lowercase()) && !vague;
            own || holds_one(value)
        }),
        Tree::Array(items) => items.iter().any(holds_one),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of a step, as far as they matter here.
    const STEP: [&str; 5] =
        ["command", "depends_on", "expected_exit_code", "expected_output_regex", "name"];

    fn of(name: &str) -> Option<Meant> {
        meant(name, &Tree::Boolean(true), &STEP)
    }

    #[test]
    fn what_looks_like_an_expectation_is_one() {
        for name in [
            "expected_ouput_regex",
            "expct",
            "should_not_fail",
            "exitCode",
            "exit-code",
            "assertion",
            "mustPass",
            "validates",
            "errors_totl",
            "stdout_contains",
            "exepcted",
            "asert",
            "temporal_constraints",
            "output",
            "checks",
            "Spans",
            "counts",
        ] {
            assert!(of(name).is_some(), "{name}");
        }
        assert_eq!(of("errors_total"), Some(Meant::Elsewhere("[expect.counts]")));
        let near = Meant::Misspelt("expected_output_regex".to_owned());
        assert_eq!(of("expected_ouput_regex"), Some(near));
    }

    #[test]
    fn other_words_are_not() {
        for name in ["naem", "comand", "depend_on", "owner", "x-team", "descripton", "retires"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_table_with_an_expectation_in_it_is_one() {
        let inner = |key: &str| Tree::Table(vec![(key.to_owned(), Tree::Integer(0))]);
        let outer = |key| Tree::Table(vec![("x".to_owned(), inner(key))]);
        assert_eq!(meant("things", &outer("errors_total"), &STEP), Some(Meant::Unclear));
        assert_eq!(meant("things", &outer("errors"), &STEP), None);
    }
}
