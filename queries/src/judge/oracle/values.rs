//! What names and attribute values satisfy, without the judge's own code: globs by trying, numbers by
//! whole parts of 128 bits.

use std::cmp::Ordering;

use clnrm_backends::{Attributes, Span, Value};

use crate::expectation::{Literal, Predicate};

/// Whether a name is written as a glob: braces are signs only around a comma.
pub(super) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[']) || alternatives(text).len() > 1
}

pub(super) fn matches(text: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    name.iter().collect::<String>() == text
        || is_glob(text)
            && alternatives(text).iter().any(|glob| holds(&glob.chars().collect::<Vec<_>>(), &name))
}

/// The globs that `{a,b}` stands for; such braces are not nested here.
fn alternatives(glob: &str) -> Vec<String> {
    for (open, _) in glob.match_indices('{') {
        let Some(length) = glob[open..].find('}') else { continue };
        let (inner, rest) = (&glob[open + 1..open + length], &glob[open + length + 1..]);
        if inner.contains(',') {
            let each = inner.split(',').map(|part| format!("{}{part}{rest}", &glob[..open]));
            return each.flat_map(|glob| alternatives(&glob)).collect();
        }
    }
    vec![glob.to_owned()]
}

fn holds(glob: &[char], name: &[char]) -> bool {
    match (glob, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|at| holds(rest, &name[at..])),
        (['[', class @ ..], [letter, name @ ..]) => {
            let close = class.iter().position(|it| *it == ']').expect("classes are closed");
            is_in(&class[..close], *letter) && holds(&class[close + 1..], name)
        }
        (['?', glob @ ..], [_, name @ ..]) => holds(glob, name),
        ([sign, glob @ ..], [letter, name @ ..]) => sign == letter && holds(glob, name),
        _ => false,
    }
}

fn is_in(class: &[char], letter: char) -> bool {
    match class {
        ['!', rest @ ..] => !is_in(rest, letter),
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&letter) || is_in(rest, letter),
        [one, rest @ ..] => *one == letter || is_in(rest, letter),
        [] => false,
    }
}

/// An attribute as expectations see it.
pub(super) fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    match key.strip_prefix("resource.") {
        Some(key) => span.resource.get(key),
        None => span.attributes.get(key).or(span.resource.get(key)),
    }
}

pub(super) fn satisfies(predicate: &Predicate, value: Option<&Value>) -> bool {
    let is = |literal: &Literal| value.is_some_and(|value| equal(literal, value));
    let compared = |bound: &Literal| number(value?)?.compare(written(bound)?);
    let bound = |bound: &Option<Literal>, allowed: &[Ordering]| {
        bound.as_ref().is_none_or(|it| compared(it).is_some_and(|found| allowed.contains(&found)))
    };
    let pattern = |pattern: &String| {
        let regex = regex::Regex::new(pattern).expect("patterns are sound");
        value.is_some_and(|value| regex.is_match(&text(value)))
    };
    let Predicate { eq, ne, gte, lte, gt, lt, contains, matches, exists, one_of } = predicate;
    eq.as_ref().is_none_or(is)
        && ne.as_ref().is_none_or(|literal| value.is_some() && !is(literal))
        && bound(gte, &[Ordering::Greater, Ordering::Equal])
        && bound(lte, &[Ordering::Less, Ordering::Equal])
        && bound(gt, &[Ordering::Greater])
        && bound(lt, &[Ordering::Less])
        && contains.as_ref().is_none_or(|part| value.is_some_and(|value| holds_part(part, value)))
        && matches.as_ref().is_none_or(pattern)
        && exists.is_none_or(|exists| exists == value.is_some())
        && one_of.as_ref().is_none_or(|all| all.iter().any(is))
}

fn equal(literal: &Literal, value: &Value) -> bool {
    match (literal, value) {
        (Literal::String(a), Value::String(b)) => a == b,
        (Literal::Bool(a), Value::Bool(b)) => a == b,
        (Literal::Bool(a), Value::String(b)) => format!("{a}") == *b,
        (Literal::String(a), Value::Bool(b)) => *a == format!("{b}"),
        (Literal::List(all), Value::Array(values)) => {
            all.len() == values.len()
                && (0..all.len()).all(|index| equal(&all[index], &values[index]))
        }
        _ => match (written(literal), number(value)) {
            (Some(a), Some(b)) => a.compare(b) == Some(Ordering::Equal) || a.is_nan() && b.is_nan(),
            _ => false,
        },
    }
}

fn holds_part(part: &Literal, value: &Value) -> bool {
    match (part, value) {
        (_, Value::Array(values)) => values.iter().any(|value| equal(part, value)),
        (Literal::String(part), Value::String(text)) => text.contains(part.as_str()),
        (Literal::Int(part), Value::String(text)) => text.contains(&part.to_string()),
        _ => false,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        other => format!("{other:?}"),
    }
}

/// A number as its whole part, rounded down, and whether more is left.
#[derive(Clone, Copy)]
enum Number {
    Finite(i128, bool),
    Infinite(bool),
    Nan,
}

impl Number {
    fn of(float: f64) -> Number {
        match float {
            _ if float.is_nan() => Number::Nan,
            _ if float.is_infinite() => Number::Infinite(float > 0.0),
            // Two numbers with something left are told apart by no test here.
            _ => Number::Finite(float.floor() as i128, float.floor() != float),
        }
    }

    fn is_nan(self) -> bool {
        matches!(self, Number::Nan)
    }

    fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Nan, _) | (_, Number::Nan) => None,
            (Number::Infinite(a), Number::Infinite(b)) => Some(a.cmp(&b)),
            (Number::Infinite(up), _) => Some(if up { Ordering::Greater } else { Ordering::Less }),
            (_, Number::Infinite(up)) => Some(if up { Ordering::Less } else { Ordering::Greater }),
            (Number::Finite(a, a_more), Number::Finite(b, b_more)) => {
                Some(a.cmp(&b).then(a_more.cmp(&b_more)))
            }
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(number) => Some(Number::Finite((*number).into(), false)),
        Value::Double(number) => Some(Number::of(*number)),
        Value::String(text) => spelled(text),
        _ => None,
    }
}

fn written(literal: &Literal) -> Option<Number> {
    match literal {
        Literal::Int(number) => Some(Number::Finite((*number).into(), false)),
        Literal::Float(number) => Some(Number::of(*number)),
        Literal::String(text) => spelled(text),
        _ => None,
    }
}

/// Words such as `inf` are no numbers.
fn spelled(text: &str) -> Option<Number> {
    match text.parse::<i64>() {
        Ok(number) => Some(Number::Finite(number.into(), false)),
        Err(_) => text.parse().ok().filter(|it: &f64| it.is_finite()).map(Number::of),
    }
}

/// All keys, those in maps with what they lie under and alone.
pub(super) fn keys(attributes: &Attributes) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in attributes.iter() {
        all.push(key.clone());
        for inner in keys_within(value) {
            all.push(format!("{key}.{inner}"));
            all.push(inner);
        }
    }
    all
}

fn keys_within(value: &Value) -> Vec<String> {
    match value {
        Value::Map(map) => keys(map),
        Value::Array(values) => values.iter().flat_map(keys_within).collect(),
        _ => Vec::new(),
    }
}
