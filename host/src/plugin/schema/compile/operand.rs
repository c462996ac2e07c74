//! The plain values that stand under keywords: numbers, counts, names. What is something else is
//! refused with its place.

use super::Compiler;
use crate::plugin::schema::{Kinds, number};
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

impl<'a> Compiler<'a> {
    pub(super) fn kinds(&self, value: &Value) -> Result<Kinds, String> {
        let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        let kinds = names.iter().map(|name| name.as_str().and_then(Kinds::named)).collect::<Option<Vec<_>>>();
        let kinds = kinds.filter(|kinds| !kinds.is_empty()).map(|kinds| kinds.into_iter().fold(Kinds::NONE, Kinds::or));
        let expected = "null, boolean, integer, number, string, array or object, or a list of these";
        kinds.ok_or_else(|| self.expected(expected, value))
    }

    pub(super) fn number(&self, value: &Value) -> Result<Number, String> {
        value.as_number().cloned().ok_or_else(|| self.expected("a number", value))
    }

    pub(super) fn divisor(&self, value: &Value) -> Result<Number, String> {
        let positive = |number: &Number| number::compare(number, &0.into()) == Ordering::Greater;
        value
            .as_number()
            .filter(|number| positive(number))
            .cloned()
            .ok_or_else(|| self.expected("a number above 0", value))
    }

    pub(super) fn count(&self, value: &Value) -> Result<u64, String> {
        // 2.0 is an integer too.
        let whole = value.as_f64().filter(|count| (0.0..1e15).contains(count) && count.fract() == 0.0);
        let count = value.as_u64().or(whole.map(|count| count as u64));
        count.ok_or_else(|| self.expected("a whole number from 0", value))
    }

    pub(super) fn boolean(&self, value: &Value) -> Result<bool, String> {
        value.as_bool().ok_or_else(|| self.expected("a boolean", value))
    }

    pub(super) fn string(&self, value: &'a Value) -> Result<&'a str, String> {
        value.as_str().ok_or_else(|| self.expected("a string", value))
    }

    pub(super) fn strings(&self, value: &Value) -> Result<Vec<String>, String> {
        let texts = self.array(value)?.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<_>>();
        texts.ok_or_else(|| self.expected("strings", value))
    }

    pub(super) fn array<'v>(&self, value: &'v Value) -> Result<&'v Vec<Value>, String> {
        value.as_array().ok_or_else(|| self.expected("an array", value))
    }

    pub(super) fn object<'v>(&self, value: &'v Value) -> Result<&'v Map<String, Value>, String> {
        value.as_object().ok_or_else(|| self.expected("an object", value))
    }
}
