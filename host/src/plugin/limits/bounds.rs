//! How an operator writes a limit, and what it may be: times and sizes as texts with a unit, counts as whole numbers, the same in a
//! sidecar, over the API and in the journal. Knows nothing of which limits there are.

use super::units;
use serde::de::{Deserialize, Deserializer, Error, Unexpected};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::time::Duration;

/// Most of what was found that an error repeats, in characters.
const MAX_SHOWN: usize = 60;

/// What an operator wrote is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct LimitError {
    /// Its key.
    pub field: String,
    /// What may stand there.
    pub expected: String,
    /// What does.
    pub found: String,
}

impl LimitError {
    pub(super) fn new(field: &str, expected: String, found: &Value) -> Self {
        Self { field: shown(field), expected, found: shown(&found.to_string()) }
    }

    /// `keys`: those that there are.
    pub(super) fn unknown(field: &str, keys: &[&str]) -> Self {
        Self { field: shown(field), expected: format!("one of {}", keys.join(", ")), found: shown(field) }
    }
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    if cut.len() < text.len() { cut + "…" } else { cut }
}

/// A value within bounds.
pub trait Bound: Sized {
    /// What it bounds.
    type Value;

    /// As it is written; none if it is something else or out of bounds.
    fn read(value: &Value) -> Option<Self>;

    /// What [`Bound::read`] takes.
    fn expected() -> String;

    /// The value.
    fn get(&self) -> Self::Value;

    /// As it is written.
    fn write(&self) -> Value;
}

/// `"1ms"`, `"60s"`, `"1m"`; both bounds in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time<const MIN: u64, const MAX: u64>(Duration);

/// `"64B"`, `"64KiB"`, `"1GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes<const MIN: usize, const MAX: usize>(usize);

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<T, const MIN: u64, const MAX: u64>(T);

impl<const MIN: u64, const MAX: u64> Bound for Time<MIN, MAX> {
    type Value = Duration;

    fn read(value: &Value) -> Option<Self> {
        let time = units::duration(value.as_str()?)?;
        let allowed = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        allowed.contains(&time).then_some(Self(time))
    }

    fn expected() -> String {
        let text = |milliseconds| units::duration_text(Duration::from_millis(milliseconds));
        format!("{:?} to {:?}", text(MIN), text(MAX))
    }

    fn get(&self) -> Duration {
        self.0
    }

    fn write(&self) -> Value {
        units::duration_text(self.0).into()
    }
}

impl<const MIN: usize, const MAX: usize> Bound for Bytes<MIN, MAX> {
    type Value = usize;

    fn read(value: &Value) -> Option<Self> {
        let bytes = units::bytes(value.as_str()?)?;
        (MIN..=MAX).contains(&bytes).then_some(Self(bytes))
    }

    fn expected() -> String {
        format!("{:?} to {:?}", units::bytes_text(MIN), units::bytes_text(MAX))
    }

    fn get(&self) -> usize {
        self.0
    }

    fn write(&self) -> Value {
        units::bytes_text(self.0).into()
    }
}

impl<T, const MIN: u64, const MAX: u64> Bound for Count<T, MIN, MAX>
where
    T: TryFrom<u64> + Copy + Into<Value>,
{
    type Value = T;

    fn read(value: &Value) -> Option<Self> {
        let count = value.as_u64().filter(|count| (MIN..=MAX).contains(count))?;
        T::try_from(count).ok().map(Self)
    }

    fn expected() -> String {
        format!("{MIN} to {MAX}")
    }

    fn get(&self) -> T {
        self.0
    }

    fn write(&self) -> Value {
        self.0.into()
    }
}

/// For serde: a field that is there.
pub(super) fn read<'de, B: Bound, D: Deserializer<'de>>(input: D) -> Result<Option<B>, D::Error> {
    let value = Value::deserialize(input)?;
    let found = match &value {
        Value::Null => Unexpected::Unit,
        Value::Bool(flag) => Unexpected::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Unexpected::Signed(number),
            (None, Some(number)) => Unexpected::Float(number),
            (None, None) => Unexpected::Other("a number"),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    B::read(&value).map(Some).ok_or_else(|| D::Error::invalid_value(found, &B::expected().as_str()))
}

/// For serde: see [`Bound::write`].
pub(super) fn write<B: Bound, S: Serializer>(value: &Option<B>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(B::write).serialize(serializer)
}
