//! Regular expressions of a schema. Each has a bound on its compiled size, and is matched in time
//! linear in the text: at most the bytes of the text times the states of the automaton. There is no
//! backtracking, so look-around and back-references are refused.

use regex_automata::{
    meta::{self, Regex},
    nfa::thompson,
    util::syntax,
};

/// Longest regular expression, in bytes.
const MAX_PATTERN_BYTES: usize = 1_024;
/// Most bytes of a compiled regular expression, and of the cache that it is matched with.
const MAX_COMPILED_BYTES: usize = 64 << 10;
/// Deepest nesting of groups and repetitions.
const MAX_NESTING: u32 = 32;
/// Where every state has to be looked at for every byte, so many states take about as long as one
/// step.
const STATES_PER_STEP: usize = 4;

/// A compiled regular expression.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    steps_per_byte: u64,
}

impl Pattern {
    /// Reads a regular expression of ECMA-262, as JSON Schema has them (Core, 6.4).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!("expected at most {MAX_PATTERN_BYTES} bytes, found {}", text.len()));
        }
        let Ok(translated) = jsonschema_regex::to_rust_regex(text) else {
            return Err("expected a regular expression without look-around and back-references".into());
        };
        let problem = |error: &dyn std::fmt::Display| format!("expected a regular expression: {error}");
        let syntax = syntax::Config::new().nest_limit(MAX_NESTING);
        let parsed = syntax::parse_with(&translated, &syntax).map_err(|error| problem(&error))?;
        let size = thompson::Config::new().nfa_size_limit(Some(MAX_COMPILED_BYTES)).shrink(false);
        let size = size.which_captures(thompson::WhichCaptures::None);
        let too_large = || format!("expected a regular expression of at most {MAX_COMPILED_BYTES} bytes compiled");
        let automaton = thompson::Compiler::new().configure(size).build_from_hir(&parsed);
        let states = automaton.map_err(|_| too_large())?.states().len();
        let config = meta::Config::new()
            .nfa_size_limit(Some(MAX_COMPILED_BYTES))
            .hybrid_cache_capacity(MAX_COMPILED_BYTES)
            .which_captures(thompson::WhichCaptures::None);
        let regex = Regex::builder().configure(config).build_from_hir(&parsed).map_err(|_| too_large())?;
        Ok(Self { regex, steps_per_byte: 1 + (states / STATES_PER_STEP) as u64 })
    }

    /// Most steps that it may take to look for it in a text of so many bytes.
    pub(super) fn steps(&self, bytes: usize) -> u64 {
        self.steps_per_byte.saturating_mul(1 + bytes as u64)
    }

    /// Whether it matches anywhere in `text`.
    pub(super) fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}
