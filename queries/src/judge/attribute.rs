//! What an attribute must be, and whether a value is that. Values compare by value: `"200"` equals
//! the integer 200.

use std::cmp::Ordering;

use clnrm_backends::{Attributes, Span, Value};
use regex::Regex;

use super::number::Number;
use crate::expectation::{Literal, Predicate};

/// What an attribute must be.
pub(super) struct Attribute<'a> {
    pub(super) key: &'a str,
    predicate: &'a Predicate,
    /// `None` where the pattern is no regular expression, which nothing matches.
    regex: Option<Regex>,
}

impl<'a> Attribute<'a> {
    pub(super) fn new((key, predicate): (&'a String, &'a Predicate)) -> Attribute<'a> {
        let regex = predicate.matches.as_deref().and_then(|pattern| Regex::new(pattern).ok());
        Attribute { key, predicate, regex }
    }

    /// Why `span` does not have it so.
    pub(super) fn miss(&self, span: &Span) -> Option<String> {
        self.miss_by(lookup(span, self.key))
    }

    /// Why some attributes do not have it so.
    pub(super) fn miss_of(&self, attributes: &Attributes) -> Option<String> {
        self.miss_by(attributes.get(self.key))
    }

    fn miss_by(&self, found: Option<&Value>) -> Option<String> {
        let unmet = self.unmet(found);
        let is = found.map_or("is missing".to_owned(), |value| format!("is {}", shown(value)));
        let key = self.key;
        (!unmet.is_empty())
            .then(|| format!("attribute `{key}` {is}, expected {}", unmet.join(" and ")))
    }

    /// The parts of the predicate that `found` does not satisfy.
    fn unmet(&self, found: Option<&Value>) -> Vec<String> {
        let Predicate { eq, ne, gte, lte, gt, lt, contains, matches, exists, one_of } =
            self.predicate;
        let is = |literal: &Literal| found.is_some_and(|value| equal(literal, value));
        let compares = |holds: fn(Ordering) -> bool, bound: &Literal| {
            let number = found.and_then(Number::of_value).zip(Number::of_literal(bound));
            number.and_then(|(number, bound)| number.compare(bound)).is_some_and(holds)
        };
        let mut unmet = Vec::new();
        let mut require = |holds: bool, text: String| {
            if !holds {
                unmet.push(text);
            }
        };
        if let Some(literal) = eq {
            require(is(literal), written(literal));
        }
        if let Some(literal) = ne {
            require(found.is_some() && !is(literal), format!("anything but {}", written(literal)));
        }
        if let Some(bound) = gte {
            require(compares(Ordering::is_ge, bound), format!("at least {}", written(bound)));
        }
        if let Some(bound) = lte {
            require(compares(Ordering::is_le, bound), format!("at most {}", written(bound)));
        }
        if let Some(bound) = gt {
            require(compares(Ordering::is_gt, bound), format!("more than {}", written(bound)));
        }
        if let Some(bound) = lt {
            require(compares(Ordering::is_lt, bound), format!("less than {}", written(bound)));
        }
        if let Some(part) = contains {
            let holds = found.is_some_and(|value| contains_part(value, part));
            require(holds, format!("something that contains {}", written(part)));
        }
        if let Some(pattern) = matches {
            let matches = |value| self.regex.as_ref().is_some_and(|it| it.is_match(&text(value)));
            require(found.is_some_and(matches), format!("a match of /{pattern}/"));
        }
        if let Some(literals) = one_of {
            let texts: Vec<_> = literals.iter().map(written).collect();
            require(literals.iter().any(is), format!("one of {}", texts.join(", ")));
        }
        if let Some(exists) = exists {
            let text = if *exists { "any value" } else { "no such attribute" };
            require(found.is_some() == *exists, text.to_owned());
        }
        unmet
    }
}

/// An attribute of the span or, with the prefix `resource.` or where the span has none, of its
/// resource.
fn lookup<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    match key.strip_prefix("resource.") {
        Some(key) => span.resource.get(key),
        None => span.attributes.get(key).or_else(|| span.resource.get(key)),
    }
}

/// Equality by value: what is written as text equals the number or truth value it spells, but two
/// texts are equal only letter by letter.
fn equal(literal: &Literal, value: &Value) -> bool {
    match (literal, value) {
        (Literal::List(literals), Value::Array(values)) => {
            literals.len() == values.len()
                && literals.iter().zip(values).all(|(literal, value)| equal(literal, value))
        }
        (Literal::String(a), Value::String(b)) => a == b,
        (Literal::Bool(a), Value::Bool(b)) => a == b,
        (Literal::Bool(a), Value::String(b)) => a.to_string() == *b,
        (Literal::String(a), Value::Bool(b)) => *a == b.to_string(),
        (Literal::Int(a), Value::Int(b)) => a == b,
        (Literal::Int(a), Value::String(b)) if b.parse() == Ok(*a) => true,
        (Literal::String(a), Value::Int(b)) if a.parse() == Ok(*b) => true,
        (Literal::Int(_), Value::String(text)) | (Literal::String(text), Value::Int(_))
            if text.parse::<i64>().is_ok() =>
        {
            false
        }
        _ => Number::of_literal(literal)
            .zip(Number::of_value(value))
            .is_some_and(|(literal, value)| literal.equals(value)),
    }
}

fn contains_part(value: &Value, part: &Literal) -> bool {
    match (value, part) {
        (Value::Array(values), part) => values.iter().any(|value| equal(part, value)),
        (Value::String(text), Literal::String(part)) => text.contains(part),
        (Value::String(text), part) => text.contains(&written(part)),
        _ => false,
    }
}

/// A value as the text that regular expressions see.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        _ => shown(value),
    }
}

/// A value as a message shows it; bytes in hex.
fn shown(value: &Value) -> String {
    let joined = |texts: Vec<String>| texts.join(", ");
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::Array(values) => format!("[{}]", joined(values.iter().map(shown).collect())),
        Value::Map(map) => {
            let pair = |(key, value)| format!("{key:?}: {}", shown(value));
            format!("{{{}}}", joined(map.iter().map(pair).collect()))
        }
        Value::Empty => "empty".to_owned(),
    }
}

/// A literal as a message shows it.
fn written(literal: &Literal) -> String {
    match literal {
        Literal::String(text) => format!("{text:?}"),
        Literal::Bool(truth) => truth.to_string(),
        Literal::Int(number) => number.to_string(),
        Literal::Float(number) => number.to_string(),
        Literal::List(literals) => {
            format!("[{}]", literals.iter().map(written).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Literal {
        Literal::String(text.to_owned())
    }

    #[test]
    fn literals_are_equal_by_value() {
        let (text, list) = (|it: &str| Value::String(it.to_owned()), Literal::List);
        let cases = [
            (string("200"), Value::Int(200), true),
            (string("200"), Value::Double(200.0), true),
            (Literal::Int(200), text("200"), true),
            (Literal::Int(200), text("200.0"), true),
            (Literal::Int(200), Value::Double(200.0), true),
            (Literal::Float(200.0), text("200"), true),
            (string("true"), Value::Bool(true), true),
            (Literal::Bool(true), text("true"), true),
            (Literal::Bool(true), Value::Int(1), false),
            (string("1.10"), text("1.1"), false),
            (Literal::Int(i64::MAX), text("9223372036854775806"), false),
            (Literal::Float(f64::INFINITY), text("inf"), false),
            (Literal::Float(f64::INFINITY), Value::Double(f64::INFINITY), true),
            (Literal::Float(f64::NAN), Value::Double(f64::NAN), true),
            (Literal::Int(9_007_199_254_740_993), Value::Double(9_007_199_254_740_992.0), false),
            (Literal::Float(9_007_199_254_740_992.0), Value::Int(9_007_199_254_740_993), false),
            (string(""), Value::Empty, false),
            (
                list(vec![string("1"), string("a")]),
                Value::Array(vec![Value::Int(1), text("a")]),
                true,
            ),
            (list(vec![string("1")]), Value::Array(vec![Value::Int(1), text("a")]), false),
            (list(vec![string("1")]), Value::Int(1), false),
        ];
        for (literal, value, expected) in cases {
            assert_eq!(equal(&literal, &value), expected, "{literal:?} and {value:?}");
        }
    }

    #[test]
    fn containing_is_of_texts_and_arrays() {
        let array = Value::Array(vec![Value::Int(1), Value::String("ab".to_owned())]);
        assert!(contains_part(&array, &string("1")));
        assert!(!contains_part(&array, &string("a")));
        assert!(contains_part(&Value::String("a1b".to_owned()), &Literal::Int(1)));
        assert!(!contains_part(&Value::Int(11), &Literal::Int(1)));
    }
}
