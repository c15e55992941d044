//! Numbers as they are written in decimal, read without losing a digit.

/// Digits of the largest number with a meaning; more cannot fit into 64 bits.
const MAX_DIGITS: usize = 30;

/// Returns true for a number in JSON's syntax.
pub(super) fn is_number(text: &str) -> bool {
    parts(text).is_some()
}

/// The integer that a number is, as in `42`, `42.0` or `1.76e18`; `None` when it has a fraction or
/// is far larger than 64 bits.
pub(super) fn integer(text: &str) -> Option<i128> {
    let Parts { negative, whole, fraction, exponent } = parts(text)?;
    let mut digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    digits.drain(..zeros);
    if digits.is_empty() {
        return Some(0);
    }
    let scale = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?;
    if scale < 0 {
        let cut = usize::try_from(scale.unsigned_abs()).ok()?;
        let kept = digits.len().checked_sub(cut)?;
        if digits[kept..].bytes().any(|digit| digit != b'0') {
            return None;
        }
        digits.truncate(kept);
    }
    let length = digits.len().checked_add(usize::try_from(scale.max(0)).ok()?)?;
    if length > MAX_DIGITS {
        return None;
    }
    let size: i128 = format!("{digits:0<length$}").parse().ok()?;
    Some(if negative { -size } else { size })
}

/// A number, or one of the words for what is none; `None` beyond the largest double.
pub(super) fn double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if is_number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    /// With its sign.
    exponent: &'a str,
}

fn parts(text: &str) -> Option<Parts<'_>> {
    let (negative, size) = match text.strip_prefix('-') {
        Some(size) => (true, size),
        None => (false, text),
    };
    let (mantissa, exponent) = match size.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (size, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let are_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    let is_number = are_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(are_digits)
        && unsigned.is_none_or(are_digits);
    let (fraction, exponent) = (fraction.unwrap_or_default(), exponent.unwrap_or("0"));
    is_number.then_some(Parts { negative, whole, fraction, exponent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_keep_every_digit() {
        for (text, integer) in [
            ("0", 0),
            ("-0", 0),
            ("0e999999999999999999999", 0),
            ("42.0", 42),
            ("1.76e+18", 1_760_000_000_000_000_000),
            ("1760000000000000000.0", 1_760_000_000_000_000_000),
            ("9007199254740993", 9_007_199_254_740_993),
            ("9.007199254740993e15", 9_007_199_254_740_993),
            ("9007199254740993000e-3", 9_007_199_254_740_993),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615", i128::from(u64::MAX)),
        ] {
            assert_eq!(super::integer(text), Some(integer), "{text}");
        }
    }

    #[test]
    fn what_is_no_integer_is_none() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "0.5",
            "42.1",
            "1e-1",
            "1e",
            "1e+",
            "1e400",
            "NaN",
            " 1",
            "1 ",
            "0x1",
            "1_0",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn doubles_have_words_for_what_is_no_number() {
        for (text, double) in [
            ("1", Some(1.0)),
            ("-2.5e-3", Some(-0.0025)),
            ("Infinity", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("inf", None),
            ("nan", None),
            ("1e400", None),
            ("", None),
        ] {
            assert_eq!(super::double(text), double, "{text}");
        }
        assert!(double("NaN").is_some_and(f64::is_nan));
    }
}
