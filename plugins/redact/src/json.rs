//! JSON text rewritten token by token: numbers, white space, the order of members and every string
//! without a secret stay as they were written. A number would not survive being read: `100.00` and
//! 10^26 + 1 have no `f64` that writes the same.
//!
//! Pure, one pass. The text has been checked by the host already, so it is JSON (RFC 8259); what a
//! secret is, stands in `mask`.

use crate::mask::{Mask, REDACTED};
use busway_plugin::serde_json;
use std::{borrow::Cow, collections::BTreeSet};

/// The same JSON with every secret in it masked, however deep, also in the names of an object.
pub(crate) fn masked(mask: &Mask, text: &str) -> String {
    let mut walk = Walk { mask, rest: text, out: String::with_capacity(text.len()) };
    walk.value();
    walk.copy_white_space();
    walk.out
}

struct Walk<'a> {
    mask: &'a Mask,
    rest: &'a str,
    out: String,
}

impl<'a> Walk<'a> {
    fn value(&mut self) {
        self.copy_white_space();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.items('}', Self::member),
            Some(b'[') => self.items(']', |walk, _| walk.value()),
            Some(b'"') => {
                let token = self.string();
                let shown = match read(token) {
                    Some(text) => rewritten(token, &text, self.mask.text(&text)),
                    // Half of a surrogate pair: nobody can read it, so nobody can say that it is no
                    // secret.
                    None => quoted(REDACTED).into(),
                };
                self.out.push_str(&shown);
            }
            // A number, `true`, `false` or `null`.
            _ => self.copy(self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(self.rest.len())),
        }
    }

    /// From the bracket that opens to the one that closes. The host lets nothing through that is
    /// nested deeper than 127.
    fn items(&mut self, close: char, item: fn(&mut Self, &mut Names)) {
        let mut names = Names::default();
        loop {
            // The bracket, or a comma.
            self.copy(1);
            self.copy_white_space();
            if !self.rest.starts_with(close) {
                item(self, &mut names);
                self.copy_white_space();
            }
            if !self.rest.starts_with(',') {
                return self.copy(1);
            }
        }
    }

    fn member(&mut self, names: &mut Names) {
        let token = self.string();
        let name = read(token);
        let shown = names.take(name.as_ref().map_or_else(|| REDACTED.to_owned(), |name| self.mask.text(name)));
        let shown = match &name {
            Some(name) => rewritten(token, name, shown),
            None => quoted(&shown).into(),
        };
        self.out.push_str(&shown);
        self.copy_white_space();
        // The colon.
        self.copy(1);
        self.copy_white_space();
        let begin = self.out.len();
        let is_null = self.rest.starts_with("null");
        self.value();
        if !is_null && name.is_none_or(|name| self.mask.is_secret_name(&name)) {
            self.out.truncate(begin);
            self.out.push_str(&quoted(REDACTED));
        }
    }

    /// Takes a string with its quotes.
    fn string(&mut self) -> &'a str {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let closes = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            closes
        });
        let (token, rest) = self.rest.split_at(end.map_or(self.rest.len(), |end| end + 2));
        self.rest = rest;
        token
    }

    fn copy_white_space(&mut self) {
        self.copy(self.rest.find(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).unwrap_or(self.rest.len()));
    }

    fn copy(&mut self, bytes: usize) {
        let (some, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.out.push_str(some);
        self.rest = rest;
    }
}

/// The names of one object. Two of them may look the same once they are masked; neither entry may
/// get lost.
#[derive(Default)]
struct Names {
    taken: BTreeSet<String>,
    repeats: usize,
}

impl Names {
    fn take(&mut self, name: String) -> String {
        let mut shown = name.clone();
        while !self.taken.insert(shown.clone()) {
            self.repeats += 1;
            shown = format!("{name}#{}", self.repeats + 1);
        }
        shown
    }
}

fn read(token: &str) -> Option<String> {
    serde_json::from_str(token).ok()
}

/// As it was written, if nothing of it was masked.
fn rewritten<'a>(token: &'a str, text: &str, masked: String) -> Cow<'a, str> {
    if masked == text { token.into() } else { quoted(&masked).into() }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(masked(&Mask::with_keys(""), text), expected);
    }

    #[test]
    fn what_holds_no_secret_stays_as_it_was_written() {
        for text in [
            "null",
            " { \"wei\" : 100000000000000000000000001 ,\t\"price\":100.00, \"z\":1,\"a\":[ -0, 1E+2, 0.1234567890123456789, 1e999 ] } ",
            r#"["\u00e9","\/","ü","\\","\"",{},[],""]"#,
            "true",
            "18446744073709551616",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn secrets_are_masked_however_deep() {
        check(
            r#"{"level":"info","request":{"headers":[{"X-Api-Key":"k","Cookie":["a",{"b":1}]}],"accessToken":{"value":"v"}},"usage":{"prompt_tokens":12.0,"token":null,"pwd":12345}}"#,
            r#"{"level":"info","request":{"headers":[{"X-Api-Key":"[redacted]","Cookie":"[redacted]"}],"accessToken":"[redacted]"},"usage":{"prompt_tokens":12.0,"token":null,"pwd":"[redacted]"}}"#,
        );
        check(r#"["mail to ann@example.org, \"now\"",1.0]"#, r#"["mail to [redacted], \"now\"",1.0]"#);
        check(r#"{"pass\u0077ord":"x"}"#, r#"{"pass\u0077ord":"[redacted]"}"#);
    }

    #[test]
    fn names_that_are_secrets_are_masked_and_no_entry_is_lost() {
        check(
            r#"{"ann@example.org":1,"bob@example.org":2,"[redacted]":3}"#,
            r#"{"[redacted]":1,"[redacted]#2":2,"[redacted]#3":3}"#,
        );
        check(r#"{"a":1,"a":2}"#, r#"{"a":1,"a#2":2}"#);
    }

    #[test]
    fn what_cannot_be_read_is_masked() {
        check(r#"["\ud800",{"\udc00":"x","b":1}]"#, r#"["[redacted]",{"[redacted]":"[redacted]","b":1}]"#);
    }

    #[test]
    fn what_is_nested_as_deep_as_the_host_allows_is_walked_through() {
        let text = format!("{}\"ann@example.org\"{}", "[".repeat(127), "]".repeat(127));
        check(&text, &text.replace("ann@example.org", "[redacted]"));
    }
}
