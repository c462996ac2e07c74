//! JSON numbers, compared and divided exactly: an integer is never rounded to a float, and a float
//! counts as the decimal number that it is written as.

use serde_json::Number;
use std::cmp::Ordering;

/// 2^64 and -2^63: a float outside has no integer beside it.
const ABOVE: f64 = 18_446_744_073_709_551_616.0;
const BELOW: f64 = -9_223_372_036_854_775_808.0;

/// The order of two numbers by value: 1 and 1.0 are equal.
pub(super) fn compare(a: &Number, b: &Number) -> Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => order(a, float(b)),
        (None, Some(b)) => order(b, float(a)).reverse(),
        (None, None) => float(a).total_cmp(&float(b)),
    }
}

/// Whether it has no fraction: 1.0 has none (JSON Schema Core, 4.2.3 "Integer").
pub(super) fn is_integer(number: &Number) -> bool {
    integer(number).is_some() || float(number).fract() == 0.0
}

/// Whether `value` is a whole number of times `divisor`, which is positive: 4.35 is a multiple of
/// 0.01.
pub(super) fn is_multiple(value: &Number, divisor: &Number) -> bool {
    let ((value, power), (divisor, other)) = (decimal(value), decimal(divisor));
    if value == 0 || divisor == 0 {
        return value == 0;
    }
    if power < other {
        // A digit of the value is smaller than the divisor's last one: `value` has no zeros at its
        // end, and is below 10^20.
        let shift = other.abs_diff(power);
        return shift <= 19 && value.is_multiple_of(divisor * 10u128.pow(shift));
    }
    // (value * 10^n) mod divisor, where n is at most some 650. Both factors are below 2^64.
    let rest = (0..power.abs_diff(other)).try_fold(value % divisor, |rest, _| (rest > 0).then(|| rest * 10 % divisor));
    rest.unwrap_or(0) == 0
}

/// A number that hashes the same for equal numbers.
pub(super) fn hashable(number: &Number) -> u64 {
    // 0.0 and -0.0 are equal.
    (float(number) + 0.0).to_bits()
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

fn order(integer: i128, float: f64) -> Ordering {
    if float >= ABOVE {
        return Ordering::Less;
    }
    if float < BELOW {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    integer.cmp(&(whole as i128)).then_with(|| 0.0_f64.total_cmp(&(float - whole + 0.0)))
}

/// The number without its sign, as digits and a power of ten: no zero stands at the end of the
/// digits.
fn decimal(number: &Number) -> (u128, i32) {
    let text = number.to_string();
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let mut value =
        digits.bytes().filter(u8::is_ascii_digit).fold(0u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
    let mut power = exponent.parse::<i32>().unwrap_or_default() - fraction as i32;
    while value > 0 && value.is_multiple_of(10) {
        value /= 10;
        power += 1;
    }
    (value, power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn numbers_are_ordered_by_value_and_nothing_is_rounded() {
        let ascending = [
            "-1e300",
            "-9223372036854775808",
            "-1.5",
            "-1",
            "-0.5",
            "0",
            "1e-300",
            "0.5",
            "1",
            "1.5",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551614",
            "18446744073709551615",
            "1e20",
            "1e300",
        ];
        for (n, a) in ascending.iter().enumerate() {
            for (m, b) in ascending.iter().enumerate() {
                assert_eq!(compare(&number(a), &number(b)), n.cmp(&m), "{a} {b}");
            }
        }
        for (a, b) in [("1", "1.0"), ("0", "-0.0"), ("100", "1e2"), ("9007199254740992", "9007199254740992.0")] {
            assert_eq!(compare(&number(a), &number(b)), Ordering::Equal, "{a} {b}");
            assert_eq!(hashable(&number(a)), hashable(&number(b)), "{a} {b}");
        }
        assert!(is_integer(&number("1.0")) && is_integer(&number("1e300")) && !is_integer(&number("1.5")));
    }

    #[test]
    fn multiples_are_exact_however_large_or_small() {
        for (value, divisor) in [
            ("4.35", "0.01"),
            ("-6", "3"),
            ("0", "7"),
            ("1e300", "0.5"),
            ("1e308", "1e-308"),
            ("18446744073709551615", "5"),
            ("7.5e-300", "2.5e-301"),
            ("1e2", "100"),
            ("300", "100"),
        ] {
            assert!(is_multiple(&number(value), &number(divisor)), "{value} {divisor}");
        }
        for (value, divisor) in [
            ("4.351", "0.01"),
            ("7", "3"),
            ("1e-300", "1"),
            ("1e308", "7e-308"),
            ("18446744073709551615", "2"),
            ("1", "1e300"),
            ("350", "100"),
        ] {
            assert!(!is_multiple(&number(value), &number(divisor)), "{value} {divisor}");
        }
    }
}
