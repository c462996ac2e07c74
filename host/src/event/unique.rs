//! JSON objects in which a name stands once. RFC 8259, section 4, leaves it open what a repeated
//! name means, and readers differ: one that dropped all but the last would act on something else
//! than what a check before it has seen.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Reads an object, for `deserialize_with`.
///
/// # Errors
/// Also if a name stands twice.
pub fn map<'de, D: Deserializer<'de>, V: Deserialize<'de>>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error> {
    struct Entries<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if entries.contains_key(&name) {
                    return Err(twice(&name));
                }
                entries.insert(name, map.next_value()?);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries(PhantomData))
}

/// Reads any value, for `deserialize_with` of an optional one.
///
/// # Errors
/// Also if a name stands twice in an object, however deep.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Ok(Some(UniqueValue::deserialize(deserializer)?.0).filter(|value| !value.is_null()))
}

/// Any JSON value without repeated names.
#[derive(Debug, Clone, PartialEq)]
pub struct UniqueValue(pub Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(UniqueValue(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if entries.contains_key(&name) {
                return Err(twice(&name));
            }
            let UniqueValue(value) = map.next_value()?;
            entries.insert(name, value);
        }
        Ok(entries.into())
    }
}

fn twice<E: Error>(name: &str) -> E {
    E::custom(format_args!("the name {} stands twice", super::bounds::quote(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str) {
        assert!(serde_json::from_str::<UniqueValue>(text).is_err(), "{text}");
    }

    #[test]
    fn a_value_without_repeats_is_what_it_is() {
        for text in ["null", "true", "-1", "18446744073709551615", "1.5", r#""\u00e9""#, r#"[{"a":[]},{"a":{}}]"#] {
            let UniqueValue(value) = serde_json::from_str(text).unwrap();
            assert_eq!(value, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_readers_would_differ_about_is_refused() {
        refused(r#"{"a":1,"a":1}"#);
        refused(r#"{"a":1,"\u0061":2}"#);
        refused(r#"[[{"b":{"a":1,"b":2,"a":3}}]]"#);
        refused(r#""\ud800""#);
        refused("1e999");
        refused("\u{feff}{}");
        refused("{} {}");
        refused("nan");
        refused("01");
        refused(&format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)));
    }
}
