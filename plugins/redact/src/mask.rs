//! What counts as a secret, and how it is masked. Pure; start reading at [`Mask::text`].
//!
//! By name: the value of `password`, `client_secret`, `accessToken`, `X-Api-Key` and the like, also as `name=value` or
//! `name: value` in a text. By shape, anywhere in a text: what follows `Bearer` or `Basic`, AWS key ids, tokens with a known
//! prefix, JSON Web Tokens, e-mail addresses, the user part of a URL. It errs on the side of masking.

pub(crate) const REDACTED: &str = "[redacted]";

// Compared with the end of a name in lower case without its separators, so `prompt_tokens`, a count, is not among them.
const SECRET_NAMES: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "authorization",
    "credential",
    "credentials",
    "cookie",
];

// GitHub, GitLab, Slack, Stripe, model providers, and the header `{"` of a JSON Web Token in Base64.
const TOKEN_PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk_live_",
    "rk_live_",
    "sk-",
    "eyJ",
];

// A shorter word that begins like a token is most likely none.
const TOKEN_MIN: usize = 16;

const AWS_KEY_PREFIXES: [&str; 2] = ["AKIA", "ASIA"];
const AWS_KEY_LEN: usize = 20;

/// The built-in names and those of the operator.
pub(crate) struct Mask {
    more_names: Vec<String>,
}

impl Mask {
    /// Also masks the values of these names, which are compared as a whole; commas between them.
    pub(crate) fn with_keys(keys: &str) -> Self {
        Self { more_names: keys.split(',').map(plain).filter(|name| !name.is_empty()).collect() }
    }

    /// The same text with every secret in it masked. One pass: a text may be a mebibyte of anything.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let (mut rest, mut last, mut secret_next) = (text, "", false);
        while !rest.is_empty() {
            let (word, after) = rest.split_at(rest.find(is_separator).unwrap_or(rest.len()));
            let (gap, after) = after.split_at(after.find(|c| !is_separator(c)).unwrap_or(after.len()));
            let scheme = is_auth_scheme(word);
            // In `Authorization: Bearer abc` the secret is what follows the scheme.
            match secret_next && !scheme && !is_assignment(word) {
                true => masked.push_str(REDACTED),
                false => masked.push_str(&self.word(word)),
            }
            masked.push_str(gap);
            let name = if is_assignment(word) { Some(last) } else { word.strip_suffix([':', '=']) };
            secret_next = scheme || name.is_some_and(|name| self.is_secret_name(name));
            (rest, last) = (after, word);
            if let Some(secret) = quoted(gap, rest).filter(|_| secret_next) {
                masked.push_str(REDACTED);
                (rest, secret_next) = (&rest[secret.len()..], false);
            }
        }
        masked
    }

    fn word(&self, word: &str) -> String {
        let (mut masked, mut rest) = (String::new(), word);
        while let Some(at) = rest.find(['=', ':']) {
            let (name, value) = (&rest[..at], &rest[at + 1..]);
            if value.is_empty() || value.starts_with("//") {
                break;
            }
            masked += &mask_shapes(name);
            masked += &rest[at..=at];
            if self.is_secret_name(name) {
                return masked + REDACTED;
            }
            rest = value;
        }
        masked + &mask_shapes(rest)
    }

    /// Whether the value of that name is a secret.
    pub(crate) fn is_secret_name(&self, name: &str) -> bool {
        let name = plain(name);
        SECRET_NAMES.iter().any(|secret| name.ends_with(secret)) || self.more_names.contains(&name)
    }
}

/// A name without what writers disagree on: case, `_`, `-`, dots and blanks.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_separator(c: char) -> bool {
    c.is_whitespace() || "\"'`\\,;()<>[]{}|&?".contains(c)
}

/// The `=` or `:` that stands between a name and a value when blanks or quotes surround it.
fn is_assignment(word: &str) -> bool {
    matches!(word, "=" | ":" | "=>" | ":=")
}

fn is_auth_scheme(word: &str) -> bool {
    let scheme = word.trim_end_matches(':').rsplit([':', '=']).next().unwrap_or_default();
    scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic")
}

/// What stands between the quote at the end of `gap` and the next one: a secret in quotes may hold blanks.
fn quoted<'a>(gap: &str, rest: &'a str) -> Option<&'a str> {
    let quote = gap.chars().next_back().filter(|c| "\"'`".contains(*c))?;
    Some(rest[..rest.find(quote)?].trim_end_matches('\\')).filter(|secret| !secret.is_empty())
}

fn mask_shapes(word: &str) -> String {
    if word.len() >= TOKEN_MIN && TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix)) {
        return REDACTED.into();
    }
    mask_email(&mask_url_user(&mask_aws_keys(word)))
}

fn mask_aws_keys(word: &str) -> String {
    let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let (mut masked, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('A') {
        masked += &rest[..at];
        rest = &rest[at..];
        let begins = AWS_KEY_PREFIXES.iter().any(|prefix| rest.starts_with(prefix));
        let whole = begins && rest.get(..AWS_KEY_LEN).is_some_and(is_key);
        let taken = if whole { AWS_KEY_LEN } else { 1 };
        masked += if whole { REDACTED } else { &rest[..taken] };
        rest = &rest[taken..];
    }
    masked + rest
}

/// `scheme://user:password@host/…`
fn mask_url_user(word: &str) -> String {
    let Some(start) = word.find("://").map(|at| at + 3) else { return word.into() };
    let end = word[start..].find('/').map_or(word.len(), |at| start + at);
    match word[start..end].rfind('@') {
        Some(at) => format!("{}{REDACTED}{}", &word[..start], &word[start + at..]),
        None => word.into(),
    }
}

fn mask_email(word: &str) -> String {
    let is_local = |c: char| c.is_alphanumeric() || "._%+-".contains(c);
    let is_domain = |c: char| c.is_alphanumeric() || ".-".contains(c);
    let (mut masked, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('@') {
        let stem = before.trim_end_matches(is_local);
        let domain = &after[..after.find(|c| !is_domain(c)).unwrap_or(after.len())];
        let domain = domain.trim_end_matches('.');
        let whole = stem.len() < before.len() && domain.contains('.');
        masked += if whole { stem } else { before };
        masked += if whole { REDACTED } else { "@" };
        rest = if whole { &after[domain.len()..] } else { after };
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_text_are_masked_by_shape() {
        let check = |text: &str, expected: &str| assert_eq!(Mask::with_keys("").text(text), expected);
        check("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]");
        check("bearer  abc, then", "bearer  [redacted], then");
        check("key AKIAIOSFODNN7EXAMPLE used", "key [redacted] used");
        check("arn/AKIAIOSFODNN7EXAMPLE/x", "arn/[redacted]/x");
        check("AKIA is a prefix, AKIAß", "AKIA is a prefix, AKIAß");
        check("mail from ann.b+c@example.co.uk.", "mail from [redacted].");
        check("<ann@example.org>,bob@example.org", "<[redacted]>,[redacted]");
        check("to:ann@example.org", "to:[redacted]");
        check("@ann said a@b", "@ann said a@b");
        check("ghp_0123456789abcdefghij in a log", "[redacted] in a log");
        check("postgres://app:hunter2@db/x", "postgres://[redacted]@db/x");
        check("https://example.org/a@b?token=abc&n=1", "https://example.org/a@b?token=[redacted]&n=1");
        check("https://example.org/ at 07:35:00", "https://example.org/ at 07:35:00");
    }

    #[test]
    fn secrets_in_a_text_are_masked_by_name() {
        let check = |text: &str, expected: &str| assert_eq!(Mask::with_keys("session_id").text(text), expected);
        check("user=ann password=hunter2 ok", "user=ann password=[redacted] ok");
        check("password: hunter2", "password: [redacted]");
        check("API_KEY=abc", "API_KEY=[redacted]");
        check(r#"{"sessionId":"abc","n":1}"#, r#"{"sessionId":"[redacted]","n":1}"#);
        check("password = hunter2, n = 1", "password = [redacted], n = 1");
        check("secret='correct horse' n=1", "secret='[redacted]' n=1");
        check(r#"{\"password\": \"a b\", \"n\": \"c d\"}"#, r#"{\"password\": \"[redacted]\", \"n\": \"c d\"}"#);
        check("Authorization:Bearer abc", "Authorization:[redacted] [redacted]");
        check("prompt_tokens=12", "prompt_tokens=12");
        check("", "");
    }

    #[test]
    fn a_long_text_of_anything_takes_one_pass() {
        for piece in ["@", ":", "a@b.c@", "AKIA", "=\"", "token:\"", "://@"] {
            let text = piece.repeat(20_000);
            assert!(Mask::with_keys("").text(&text).len() >= 20_000, "{piece}");
        }
    }
}
