//! Which characters may be shown as they are, and how the others are written. Pure; the one place
//! that decides it, for terminals, log lines and what a plugin said.
//!
//! Text that others wrote can steer a terminal (control characters, ECMA-48), reorder what stands
//! beside it (UAX #9) or hide in it. Such a character is written as the escape that JSON has for it
//! (RFC 8259, section 7), so JSON stays JSON.

use std::{borrow::Cow, fmt::Write};

/// Whether `c` must not reach a terminal as it is: a control character of either range (C0 with
/// DEL, C1), a line or paragraph separator, a mark, override or isolate of the direction of
/// writing, or a character that takes no space and joins nothing.
///
/// The joiners U+200C and U+200D are not among them: words in several scripts, and emoji, are
/// written with them.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

/// `text` as one line: every unsafe character is an escape, line breaks and tabs too.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// `text` with its line breaks and tabs, every other unsafe character an escape.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_unsafe(c) && c != '\n' && c != '\t')
}

/// As [`lines`], and what chooses colours stays: escape sequences `ESC [ … m` of digits and
/// semicolons (ECMA-48, SGR). For text of our own in which everything that others wrote is escaped
/// already.
pub fn coloured(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return lines(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split('\u{1b}');
    out.push_str(&lines(parts.next().unwrap_or_default()));
    for part in parts {
        let end = part.strip_prefix('[').and_then(|rest| rest.find(|c: char| !c.is_ascii_digit() && c != ';'));
        match end {
            Some(end) if part[1 + end..].starts_with('m') => {
                let (sequence, rest) = part.split_at(end + 2);
                out.push('\u{1b}');
                out.push_str(sequence);
                out.push_str(&lines(rest));
            }
            _ => {
                push(&mut out, '\u{1b}');
                out.push_str(&lines(part));
            }
        }
    }
    out.into()
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return text.into() };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for c in text[first..].chars() {
        if is_escaped(c) { push(&mut out, c) } else { out.push(c) }
    }
    out.into()
}

/// Writes `c` as JSON's escape for it.
pub fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Into a string: it cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_that_steers_reorders_or_hides_is_an_escape() {
        let odd = "\0\u{8}\u{1b}\u{7f}\u{80}\u{85}\u{9b}\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{feff}\u{e0041}";
        for c in odd.chars() {
            for write in [line, lines, coloured] {
                let shown = write(&format!("a{c}b")).into_owned();
                assert!(shown.is_ascii() && !shown.contains(char::is_control), "{shown:?}");
                let read: String = serde_json::from_str(&format!("\"{shown}\"")).unwrap();
                assert_eq!(read, format!("a{c}b"), "JSON reads it back");
            }
        }
    }

    #[test]
    fn everything_else_stays_and_is_not_copied() {
        for text in ["", "plain, ü 日本語 \\u0085", "نمی\u{200c}خواهم", "👨\u{200d}👩\u{200d}👧"] {
            for write in [line, lines, coloured] {
                assert!(matches!(write(text), Cow::Borrowed(same) if same == text));
            }
        }
    }

    #[test]
    fn line_breaks_stay_between_lines_only() {
        assert_eq!(line("a\n\tb\r"), "a\\n\\tb\\r");
        assert_eq!(lines("a\n\tb\r"), "a\n\tb\\r");
    }

    #[test]
    fn only_colours_pass_as_colours() {
        let same = |text: &str| assert_eq!(coloured(text), text);
        same("\u{1b}[1m\u{1b}[31mred\u{1b}[0m and\nplain");
        same("\u{1b}[m");
        let check = |text: &str, expected: &str| assert_eq!(coloured(text), expected);
        check("\u{1b}[2J\u{1b}[31mx", "\\u001b[2J\u{1b}[31mx");
        check("a\u{1b}", "a\\u001b");
        check("\u{1b}[31", "\\u001b[31");
        check("\u{1b}[38:5mx\u{1b}]0;t\u{7}", "\\u001b[38:5mx\\u001b]0;t\\u0007");
        check("\u{1b}\u{1b}[0m\u{9b}31m", "\\u001b\u{1b}[0m\\u009b31m");
    }
}
