//! Numbers, compared by their exact value: a 64-bit integer is not rounded to a float.

use std::cmp::Ordering;

use clnrm_backends::Value;

use crate::expectation::Literal;

/// 2 to the 63rd, the first number beyond the integers of 64 bits.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// A number of an attribute or of a test file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// A number, or a text that spells one.
    pub(crate) fn of_value(value: &Value) -> Option<Number> {
        match value {
            Value::Int(number) => Some(Number::Int(*number)),
            Value::Double(number) => Some(Number::Float(*number)),
            Value::String(text) => Number::spelled(text),
            _ => None,
        }
    }

    /// The same of a value in a test file.
    pub(crate) fn of_literal(literal: &Literal) -> Option<Number> {
        match literal {
            Literal::Int(number) => Some(Number::Int(*number)),
            Literal::Float(number) => Some(Number::Float(*number)),
            Literal::String(text) => Number::spelled(text),
            Literal::Bool(_) | Literal::List(_) => None,
        }
    }

    /// The finite number that `text` spells; `inf` and `nan` are words.
    fn spelled(text: &str) -> Option<Number> {
        let float = || text.parse().ok().filter(|number: &f64| number.is_finite());
        text.parse().ok().map(Number::Int).or_else(|| float().map(Number::Float))
    }

    /// How this compares to `other`; `None` where one of them is not a number (NaN).
    pub(crate) fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => Some(a.cmp(&b)),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b),
            (Number::Int(a), Number::Float(b)) => beside(a, b),
            (Number::Float(a), Number::Int(b)) => beside(b, a).map(Ordering::reverse),
        }
    }

    /// Whether both are the same number, or both are NaN.
    pub(crate) fn equals(self, other: Number) -> bool {
        let is_nan = |number| matches!(number, Number::Float(float) if float.is_nan());
        self.compare(other) == Some(Ordering::Equal) || is_nan(self) && is_nan(other)
    }
}

/// How nanoseconds compare to milliseconds, exactly where those are whole; `None` for NaN.
pub(super) fn compare_ms(ns: i128, ms: f64) -> Option<Ordering> {
    if ms.fract() == 0.0 && ms.abs() < BEYOND {
        return Some(ns.cmp(&(ms as i128 * 1_000_000)));
    }
    (ns as f64 / 1e6).partial_cmp(&ms)
}

/// How an integer compares to a float.
fn beside(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    // Both parts are exact: what is left of the point is an integer of 64 bits.
    let whole = int.cmp(&(float.trunc() as i64));
    Some(whole.then(0.0_f64.partial_cmp(&float.fract())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_their_exact_value() {
        use Ordering::{Equal, Greater, Less};
        let (int, float) = (Number::Int, Number::Float);
        for (a, b, expected) in [
            (int(i64::MAX), int(i64::MAX - 1), Some(Greater)),
            (int(i64::MAX), float(BEYOND), Some(Less)),
            (int(i64::MIN), float(-BEYOND), Some(Equal)),
            (int(9_007_199_254_740_993), float(9_007_199_254_740_992.0), Some(Greater)),
            (float(9_007_199_254_740_992.0), int(9_007_199_254_740_993), Some(Less)),
            (int(1), float(1.0), Some(Equal)),
            (int(1), float(1.5), Some(Less)),
            (int(-1), float(-1.5), Some(Greater)),
            (int(0), float(-0.0), Some(Equal)),
            (int(0), float(f64::INFINITY), Some(Less)),
            (int(0), float(f64::NAN), None),
        ] {
            assert_eq!(a.compare(b), expected, "{a:?} and {b:?}");
        }
        for (ns, ms, expected) in [
            (300_000, 0.3, Some(Equal)),
            (300_001, 0.3, Some(Greater)),
            (i128::from(i64::MAX), 9_223_372_036_854.0, Some(Greater)),
            (9_000_000_000_000_000_001, 9e12, Some(Greater)),
            (1, f64::NAN, None),
            (1, f64::INFINITY, Some(Less)),
        ] {
            assert_eq!(compare_ms(ns, ms), expected, "{ns} ns and {ms} ms");
        }
        assert!(float(f64::NAN).equals(float(f64::NAN)));
        assert!(!float(f64::NAN).equals(int(0)));
    }
}
