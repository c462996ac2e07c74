//! Durations on the command line: a number and a unit, `500ms`, `30s`, `2m`, `1h`.

use std::time::Duration;

/// Reads a duration. A bare number is refused: seconds to one reader are milliseconds to the next.
///
/// # Errors
/// What was expected, for clap to show.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a number and a unit (ms, s, m, h) such as 30s, found {text:?}");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let decimal = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let number: f64 = if decimal { number.parse().map_err(|_| expected())? } else { return Err(expected()) };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_make_a_duration() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "30", "s", "-1s", "1 s", "1d", "1m30s", "1e3s", "..s", "99999999999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
