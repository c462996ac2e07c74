//! Checks JSON text that is passed on as it is: depth and size, and no line breaks between tokens.
//!
//! Line breaks would split a JSON-lines or server-sent-events record; inside strings JSON forbids them already.

use super::{EventError, MAX_DATA_BYTES, MAX_DATA_DEPTH};
use serde_json::value::RawValue;

/// Lets `value` through if it keeps the bounds; takes the white space out of it where it has line breaks.
pub(super) fn check(code: &'static str, field: &str, value: Box<RawValue>) -> Result<Box<RawValue>, EventError> {
    let text = value.get();
    if text.len() > MAX_DATA_BYTES {
        return Err(EventError::new(
            code,
            field,
            format!("at most {MAX_DATA_BYTES} bytes"),
            format!("{} bytes", text.len()),
        ));
    }
    if is_plain(text) {
        return Ok(value);
    }
    let shape = Shape::of(text);
    if shape.depth > MAX_DATA_DEPTH {
        let expected = format!("nesting of at most {MAX_DATA_DEPTH}");
        return Err(EventError::new(code, field, expected, format!("{} deep", shape.depth)));
    }
    if !shape.broken {
        return Ok(value);
    }
    RawValue::from_string(without_white_space(text))
        .map_err(|error| EventError::new(code, field, "JSON (RFC 8259)", error.to_string()))
}

/// Neither broken nor too deep, as far as that shows without telling strings from tokens: true of nearly all data, and seen many
/// bytes at a time.
fn is_plain(text: &str) -> bool {
    // Written so that the compiler makes a few instructions of it for sixteen bytes at once: ten times as fast as `matches!`. A
    // chunk is so small that a byte is enough to count in.
    let count = |some: &[u8], is_one: fn(u8) -> bool| some.iter().map(|&byte| u8::from(is_one(byte))).sum::<u8>();
    let mut opens = 0;
    for some in text.as_bytes().chunks(128) {
        if count(some, |byte| (byte == b'\n') | (byte == b'\r')) > 0 {
            return false;
        }
        opens += usize::from(count(some, |byte| (byte == b'[') | (byte == b'{')));
    }
    opens <= MAX_DATA_DEPTH
}

/// What one pass over valid JSON text shows.
struct Shape {
    depth: usize,
    /// Has line breaks between its tokens.
    broken: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let mut shape = Shape { depth: 0, broken: false };
        let mut depth = 0usize;
        let mut tokens = Tokens::default();
        for byte in text.bytes() {
            if tokens.in_string(byte) {
                continue;
            }
            match byte {
                b'[' | b'{' => {
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b'\n' | b'\r' => shape.broken = true,
                _ => {}
            }
        }
        shape
    }
}

/// Tells bytes inside strings from bytes between them.
#[derive(Default)]
struct Tokens {
    inside: bool,
    escaped: bool,
}

impl Tokens {
    fn in_string(&mut self, byte: u8) -> bool {
        if !self.inside {
            self.inside = byte == b'"';
            return self.inside;
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.inside = false,
            _ => {}
        }
        true
    }
}

fn without_white_space(text: &str) -> String {
    let mut tokens = Tokens::default();
    // White space is ASCII, so taking it out char by char leaves every other character whole.
    text.chars()
        .filter(|&c| {
            // Any byte of a longer character does: none of them is a quote or a backslash.
            let byte = u8::try_from(c).unwrap_or(b'x');
            tokens.in_string(byte) || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<String, EventError> {
        let raw = RawValue::from_string(text.into()).unwrap();
        check("code", "field", raw).map(|raw| raw.get().to_owned())
    }

    #[test]
    fn text_without_line_breaks_is_left_alone() {
        assert_eq!(checked(r#"{ "a" : [1.10, "x y"] }"#).unwrap(), r#"{ "a" : [1.10, "x y"] }"#);
    }

    #[test]
    fn line_breaks_go_and_strings_stay() {
        assert_eq!(
            checked("{\n \"a b\": \"\\\" \\\\ é \\n\",\r\n\t\"c\": [1, 2]}").unwrap(),
            "{\"a b\":\"\\\" \\\\ é \\n\",\"c\":[1,2]}"
        );
    }

    #[test]
    fn brackets_in_strings_are_not_depth() {
        assert!(checked(&format!("\"{}\"", "[".repeat(500))).is_ok());
        assert!(checked(&format!("{}{}", "[".repeat(127), "]".repeat(127))).is_ok());
        assert!(checked(&format!("{}{}", "[".repeat(128), "]".repeat(128))).is_err());
    }
}
