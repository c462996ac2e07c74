//! How deep the values of a TOML text nest, found without building any of them. The parser bounds
//! brackets and dotted keys each by itself; together they make thousands of levels, and whatever
//! walks such a value overflows its stack.

/// Deepest nesting: brackets that are open, and dots of the keys before them.
pub(super) const MAX_NESTING: usize = 100;

/// The line, from 1, on which values nest deeper than [`MAX_NESTING`]. Dots in numbers count like
/// those in keys: no text that is meant well comes near.
pub(super) fn too_deep(text: &str) -> Option<usize> {
    let (mut line, mut rest) = (1, text);
    // Of each bracket that is open, the dots since its last comma.
    let mut open = vec![0];
    let mut depth = 0;
    while let Some(first) = rest.bytes().next() {
        let mut length = 1;
        match first {
            b'"' | b'\'' => length = string(rest, first),
            b'#' => length = rest.find('\n').unwrap_or(rest.len()),
            b'[' | b'{' => {
                open.push(0);
                depth += 1;
            }
            b']' | b'}' if open.len() > 1 => depth -= 1 + open.pop().unwrap_or(0),
            b'.' => {
                *open.last_mut()? += 1;
                depth += 1;
            }
            // The next entry. Within brackets, a line may end without one.
            b',' => depth -= std::mem::take(open.last_mut()?),
            b'\n' if open.len() == 1 => depth -= std::mem::take(open.last_mut()?),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Some(line);
        }
        line += rest.as_bytes()[..length].iter().filter(|byte| **byte == b'\n').count();
        // Only ASCII is looked at, and no byte of a longer character is ASCII.
        while !rest.is_char_boundary(length) {
            length += 1;
        }
        rest = &rest[length..];
    }
    None
}

/// Bytes of the string at the beginning of `text`. One that does not end goes on to the end of its
/// line, or of the text.
fn string(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let is_long = bytes.len() >= 3 && bytes[1] == quote && bytes[2] == quote;
    let marks = if is_long { 3 } else { 1 };
    let mut at = marks;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !is_long => return at,
            byte if byte == quote && (!is_long || bytes[at..].starts_with(&bytes[..3])) => return at + marks,
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_dots_count_together_and_strings_and_comments_do_not_count() {
        let nested = |levels: usize| format!("{}1{}", "{ a.b = ".repeat(levels), "}".repeat(levels));
        assert_eq!(too_deep(&format!("x = {}", nested(MAX_NESTING / 2))), None);
        assert_eq!(too_deep(&format!("\nx = {}", nested(MAX_NESTING / 2 + 1))), Some(2));
        assert_eq!(too_deep(&format!("\n\nx{} = 1", ".a".repeat(MAX_NESTING + 1))), Some(3));
        assert_eq!(too_deep(&"a.b = [1.5, { c.d = 2.5 }]\n".repeat(1_000)), None);
        assert_eq!(too_deep(&format!("[{}]\na = 1\n", ["a"; 50].join("."))), None);
        let dots = ".[{".repeat(200);
        for text in ["\"$\"", "'$'", "\"\"\"\n$\"\n\"\"\"", "'''$'\n$'''", "\"\\\"$\"", "1 # $", "\"ä$é\""] {
            assert_eq!(too_deep(&format!("a = {}\nb = 1", text.replace('$', &dots))), None, "{text}");
        }
        for odd in ["]]}}", "\"", "'''", "\"\\", "a = \"\n", "é.ü", ",,..,"] {
            assert_eq!(too_deep(odd), None, "{odd}");
        }
    }
}
