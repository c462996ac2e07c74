//! Durations and sizes with units: `"250ms"`, `"16MiB"`. A number without a unit is refused: it means something else
//! to every reader.

use std::time::Duration;

/// `ms`, `s` or `m`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift).and_then(|bytes| usize::try_from(bytes).ok())
}

/// As [`duration()`] reads it, in the largest unit that divides it.
pub(super) fn duration_text(time: Duration) -> String {
    let milliseconds = time.as_millis();
    match milliseconds {
        0 => "0ms".to_owned(),
        _ if milliseconds.is_multiple_of(1_000) => format!("{}s", milliseconds / 1_000),
        _ => format!("{milliseconds}ms"),
    }
}

/// As [`bytes()`] reads it, in the largest unit that divides it.
pub(super) fn bytes_text(bytes: usize) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_needs_its_unit() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("2 s"), Some(Duration::from_secs(2)));
        assert_eq!((bytes("64KiB"), bytes("1 GiB"), bytes("0B")), (Some(65_536), Some(1 << 30), Some(0)));
        for wrong in ["", "5", "ms", "-5ms", "1.5s", "1h", "99999999999999999999ms"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for text in ["0B", "1B", "1023B", "1KiB", "1025B", "1536KiB", "16MiB", "4GiB"] {
            assert_eq!(bytes_text(bytes(text).unwrap()), text);
        }
        for text in ["0ms", "1ms", "250ms", "1s", "1500ms", "60s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
        assert_eq!((bytes("64"), bytes("64kb"), bytes("99999999999GiB")), (None, None, None));
    }
}
