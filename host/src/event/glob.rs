//! Patterns of event types, sources and names: [`Glob`]. Pure.
//!
//! A general pattern is a nondeterministic automaton whose states are the bits of at most four
//! words (Baeza-Yates and Gonnet, "A New Approach to Text Searching", 1992). One character of the
//! text updates each word once, so the cost is linear in the text, whatever the pattern.

use serde::{Deserialize, Serialize};
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// Longest glob, in bytes.
pub const MAX_GLOB_BYTES: usize = 255;

/// A pattern: `*` is any run of characters, also none; `?` is one character; everything else is
/// itself.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob {
    pattern: Box<str>,
    shape: Shape,
}

/// The shapes that most globs have are compared without looking at each character.
#[derive(Clone)]
enum Shape {
    Literal,
    /// A literal and one `*` at its end.
    Prefix,
    /// One `*` and a literal.
    Suffix,
    General(Arc<Automaton>),
}

/// A glob that is empty or longer than [`MAX_GLOB_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a pattern of 1 to {MAX_GLOB_BYTES} bytes, found {0} bytes")]
pub struct GlobError(usize);

impl Glob {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Literal => *self.pattern == *text,
            Shape::Prefix => text.starts_with(&self.pattern[..self.pattern.len() - 1]),
            Shape::Suffix => text.ends_with(&self.pattern[1..]),
            Shape::General(automaton) => automaton.may_match(&self.pattern, text) && automaton.matches(text),
        }
    }

    /// Whether it matches every text that `other` matches, as far as the two patterns show: where
    /// they are written in unlike ways, it may say no though the answer is yes.
    pub fn covers(&self, other: &Self) -> bool {
        let other = &*other.pattern;
        match &self.shape {
            Shape::Literal => *self.pattern == *other,
            Shape::Prefix => other.starts_with(&self.pattern[..self.pattern.len() - 1]),
            Shape::Suffix => other.ends_with(&self.pattern[1..]),
            // A run in `other` may be of any length, so only a run here is sure to take it in.
            Shape::General(automaton) => automaton.matches(other),
        }
    }

    /// Most word updates that one character of a text costs: 0 where characters are not looked at
    /// one by one, else 1 to 4.
    pub fn words(&self) -> usize {
        if let Shape::General(automaton) = &self.shape { automaton.words } else { 0 }
    }

    /// Most units of work that it takes to match `text`. A unit is one comparison or one word
    /// update.
    pub(super) fn work(&self, text: &str) -> usize {
        1 + self.words() * text.len()
    }
}

/// Words of 64 states each: a pattern of 255 characters has 256 states.
const MAX_WORDS: usize = 4;

/// State `i` means that the first `i` characters of the pattern, `*` left out, have been matched.
struct Automaton {
    words: usize,
    /// The characters of the pattern besides `*` and `?`, sorted, and in which states each leads to
    /// the next state.
    characters: Box<[char]>,
    steps: Box<[u64]>,
    /// The states in which any character leads to the next state: those before a `?`.
    any: [u64; MAX_WORDS],
    /// The states that last whatever comes: those before a `*`.
    runs: [u64; MAX_WORDS],
    /// The state in which all of the pattern has been matched.
    last: usize,
    /// Bytes before the first and from behind the last wildcard.
    head: usize,
    tail: usize,
}

impl Automaton {
    fn new(pattern: &str) -> Self {
        let last = pattern.chars().filter(|c| *c != '*').count();
        let words = last / 64 + 1;
        let mut characters: Vec<char> = pattern.chars().filter(|c| !matches!(c, '*' | '?')).collect();
        characters.sort_unstable();
        characters.dedup();
        let mut steps = vec![0; characters.len() * words];
        let (mut any, mut runs, mut state) = ([0; MAX_WORDS], [0; MAX_WORDS], 0);
        for c in pattern.chars() {
            let (word, bit) = (state / 64, 1 << (state % 64));
            match c {
                '*' => {
                    runs[word] |= bit;
                    continue;
                }
                '?' => any[word] |= bit,
                c => {
                    let row = characters.partition_point(|other| *other < c);
                    steps[row * words + word] |= bit;
                }
            }
            state += 1;
        }
        let head = pattern.find(['*', '?']).unwrap_or(pattern.len());
        let tail = pattern.rfind(['*', '?']).map_or(0, |at| at + 1);
        Self { words, characters: characters.into(), steps: steps.into(), any, runs, last, head, tail }
    }

    /// Refuses most texts by their ends.
    fn may_match(&self, pattern: &str, text: &str) -> bool {
        text.len() >= self.last
            && text.as_bytes().starts_with(&pattern.as_bytes()[..self.head])
            && text.as_bytes().ends_with(&pattern.as_bytes()[self.tail..])
    }

    /// A `*` in `text` stands for a run of any length: only a run of the pattern takes it.
    fn matches(&self, text: &str) -> bool {
        let mut states = [0_u64; MAX_WORDS];
        states[0] = 1;
        for c in text.chars() {
            let row = self.characters.binary_search(&c).ok().map(|row| row * self.words);
            let (mut carry, mut alive) = (0, 0);
            for (word, states) in states[..self.words].iter_mut().enumerate() {
                let any = if c == '*' { 0 } else { self.any[word] };
                let moving = *states & (any | row.map_or(0, |row| self.steps[row + word]));
                *states = (moving << 1) | carry | (*states & self.runs[word]);
                carry = moving >> 63;
                alive |= *states;
            }
            if alive == 0 {
                return false;
            }
        }
        states[self.last / 64] >> (self.last % 64) & 1 == 1
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() || pattern.len() > MAX_GLOB_BYTES {
            return Err(GlobError(pattern.len()));
        }
        let shape = match (pattern.find(['*', '?']), pattern.rfind(['*', '?'])) {
            (None, _) | (_, None) => Shape::Literal,
            (Some(at), _) if at + 1 == pattern.len() && pattern.ends_with('*') => Shape::Prefix,
            (_, Some(0)) if pattern.starts_with('*') => Shape::Suffix,
            _ => Shape::General(Arc::new(Automaton::new(pattern))),
        };
        Ok(Self { pattern: pattern.into(), shape })
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;

    fn try_from(pattern: String) -> Result<Self, GlobError> {
        pattern.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.pattern.into()
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Glob {}

impl Hash for Glob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pattern.hash(state);
    }
}

impl Ord for Glob {
    fn cmp(&self, other: &Self) -> Ordering {
        self.pattern.cmp(&other.pattern)
    }
}

impl PartialOrd for Glob {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pattern, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(pattern: &str) -> Glob {
        pattern.parse().unwrap()
    }

    /// The matcher that backtracks to the last `*`. `one`: what `?` may stand for.
    fn backtracking(pattern: &str, text: &str, one: fn(char) -> bool) -> bool {
        let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        let (mut p, mut t, mut star) = (0, 0, None);
        loop {
            match (pattern.get(p), text.get(t)) {
                (None, None) => return true,
                (Some('*'), _) => {
                    star = Some((p + 1, t));
                    p += 1;
                    continue;
                }
                (Some('?'), Some(found)) if one(*found) => {}
                (Some(expected), Some(found)) if expected == found => {}
                _ => {
                    let Some((after, run)) = &mut star else { return false };
                    if *run == text.len() {
                        return false;
                    }
                    *run += 1;
                    (p, t) = (*after, *run);
                    continue;
                }
            }
            (p, t) = (p + 1, t + 1);
        }
    }

    proptest! {
        #[test]
        fn the_automaton_and_the_backtracking_matcher_agree(
            pattern in "[ab.é]{0,70}[ab.é*?]{1,9}[ab*?]{0,70}", cut in 0usize..70, text in "[ab.é]{0,12}", run in "[ab.é]{0,9}",
        ) {
            let like = pattern.replace('*', &run).replace('?', "a");
            let short: String = pattern.chars().skip(cut).chain(['*']).collect();
            for pattern in [&pattern, &short] {
                for text in [&text, &like] {
                    prop_assert_eq!(glob(pattern).matches(text), backtracking(pattern, text, |_| true));
                }
            }
        }

        #[test]
        fn covering_is_what_the_backtracking_matcher_says(wide in "[ab*?]{1,8}", narrow in "[ab*?]{1,8}") {
            prop_assert_eq!(glob(&wide).covers(&glob(&narrow)), backtracking(&wide, &narrow, |c| c != '*'));
        }
    }

    #[test]
    fn the_work_of_a_match_is_linear_in_the_text() {
        let worst = glob(&format!("*{}1", "?".repeat(253)));
        assert_eq!(worst.work(&"0".repeat(255)), 1 + 4 * 255);
        assert!(["a", "a*", "*a"].map(|pattern| glob(pattern).work(&"0".repeat(255))).iter().all(|work| *work == 1));
    }

    #[test]
    fn a_glob_covers_those_that_match_nothing_else() {
        let covers = |wide: &str, narrow: &str| glob(wide).covers(&glob(narrow));
        for (wide, narrow) in [
            ("*", "a.*"),
            ("a.*", "a.b.*"),
            ("a.*", "a.b"),
            ("a?", "ab"),
            ("a?", "a?"),
            ("a*", "a?b*"),
            ("*.x", "a.*.x"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (narrow, wide) in [("a.*", "*"), ("a.*", "a*"), ("a?", "a*"), ("ab", "a?"), ("a", "b"), ("*.x", "a.*")] {
            assert!(!covers(narrow, wide), "{narrow} {wide}");
        }
    }
}
