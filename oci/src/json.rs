//! The two JSON doors: canonical bytes out, strict bytes in. Pure.
//!
//! Go, Python and Rust disagree about JSON with duplicate keys, deep nesting or large integers. A document that two
//! readers understand differently can be signed as one thing and run as another, so we neither write nor read one.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize};
use serde_json::Value;

/// No document of ours or of the specifications is deeper than about ten; a parser's stack is finite.
pub const DEPTH_MAX: usize = 32;
/// RFC 8785 writes numbers as IEEE doubles; beyond 2^53 - 1 they would silently become other numbers.
const INTEGER_MAX: u64 = (1 << 53) - 1;
/// Doubles that RFC 8785 writes as integers with all their digits, and that are beyond [`INTEGER_MAX`]: whoever reads
/// them back reads an integer that has no canonical form.
const WRITTEN_WHOLE: std::ops::Range<f64> = 9_007_199_254_740_992.0..1e21;

/// Why some bytes are not, or cannot become, JSON that everybody reads alike.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// A byte order mark, which some readers skip and others refuse.
    #[error("JSON begins with a byte order mark")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("JSON is not UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    /// Not JSON, duplicate keys, too deep, trailing bytes, or not the expected shape.
    #[error("JSON is malformed: {0}")]
    Malformed(serde_json::Error),
    /// The value has no JSON form (say, a map with keys that are no strings).
    #[error("value has no JSON form: {0}")]
    Unwritable(serde_json::Error),
    /// An integer that RFC 8785 cannot carry.
    #[error("integer {0} has no canonical JSON form: beyond 2^53 - 1")]
    Integer(serde_json::Number),
}

/// The RFC 8785 canonical bytes of `value`: the same value gives the same bytes, always.
pub fn canonical<T: Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    let value = serde_json::to_value(value).map_err(JsonError::Unwritable)?;
    refuse_large_integers(&value)?;
    serde_json_canonicalizer::to_vec(&value).map_err(JsonError::Unwritable)
}

fn refuse_large_integers(value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            let written_whole =
                number.is_f64() && number.as_f64().is_some_and(|float| WRITTEN_WHOLE.contains(&float.abs()));
            if written_whole || magnitude.is_some_and(|magnitude| magnitude > INTEGER_MAX) {
                return Err(JsonError::Integer(number.clone()));
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(refuse_large_integers),
        Value::Object(members) => members.values().try_for_each(refuse_large_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

/// Reads `bytes` as one JSON document: UTF-8, no byte order mark, no key twice in any object, at most
/// [`DEPTH_MAX`] levels, nothing after the end. Unknown members are the business of `T`.
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(JsonError::ByteOrderMark);
    }
    let text = std::str::from_utf8(bytes).map_err(JsonError::Encoding)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    Unambiguous { depth: 0 }.deserialize(&mut reader).and_then(|()| reader.end()).map_err(JsonError::Malformed)?;
    // Only now the shape; serde would have taken the last of two equal keys in a map without a word.
    serde_json::from_str(text).map_err(JsonError::Malformed)
}

/// Walks a document and keeps nothing but the keys of the objects it stands in.
#[derive(Clone, Copy)]
struct Unambiguous {
    depth: usize,
}

impl Unambiguous {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            members.next_value_seed(inner)?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format_args!("key `{twice}` stands twice in one object")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn strict(text: &str) -> Result<Value, String> {
        parse_strict::<Value>(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn canonical_sorts_keys_and_drops_spaces() {
        let value = json!({"b": [1, 2.5, null], "a": "ü\u{1}", "€": true});
        assert_eq!(canonical(&value).unwrap(), r#"{"a":"ü\u0001","b":[1,2.5,null],"€":true}"#.as_bytes());
    }

    #[test]
    fn canonical_refuses_integers_that_would_be_rounded() {
        assert!(canonical(&json!({"size": INTEGER_MAX})).is_ok());
        assert!(matches!(canonical(&json!({"size": [INTEGER_MAX + 1]})), Err(JsonError::Integer(_))));
        assert!(matches!(canonical(&json!(i64::MIN)), Err(JsonError::Integer(_))));
        for float in [1e17, -1e20, 9_007_199_254_740_992.0] {
            assert!(matches!(canonical(&json!([float])), Err(JsonError::Integer(_))), "{float}");
        }
        assert_eq!(canonical(&json!([1e21, 1e300])).unwrap(), b"[1e+21,1e+300]");
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth_and_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"a":3}}]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(strict(text).unwrap_err().contains("key `a` stands twice"), "{text}");
        }
        assert!(strict(r#"{"a":{"a":1},"A":2}"#).is_ok());
    }

    #[test]
    fn bytes_that_some_readers_skip_are_refused() {
        assert!(matches!(parse_strict::<Value>(b"\xef\xbb\xbf{}"), Err(JsonError::ByteOrderMark)));
        assert!(matches!(parse_strict::<Value>(b"{\"a\":\"\xff\"}"), Err(JsonError::Encoding(_))));
        for text in ["", "{}x", "{} {}", "{}\0", "[1,]", "{'a':1}", "NaN", "01", r#""\ud800""#, "{} // c", "1e999"] {
            assert!(strict(text).is_err(), "{text}");
        }
        assert!(strict(" {} \n").is_ok());
    }

    #[test]
    fn depth_ends_at_the_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(strict(&nested(DEPTH_MAX)).is_ok());
        assert!(strict(&nested(DEPTH_MAX + 1)).unwrap_err().contains("nested deeper than 32"));
        assert!(strict(&nested(100_000)).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,8}", inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_bytes_are_read_back_and_written_alike(value in any_json()) {
            let bytes = canonical(&value).unwrap();
            let again: Value = parse_strict(&bytes).unwrap();
            prop_assert_eq!(canonical(&again).unwrap(), bytes);
        }

        #[test]
        fn strict_accepts_no_more_than_the_ordinary_reader(text in "[\\[\\]{}\",:a0-9 \\\\tru.e-]{0,40}") {
            if let Ok(value) = strict(&text) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }

        #[test]
        fn strict_never_panics(bytes: Vec<u8>) {
            let _ = parse_strict::<Value>(&bytes).is_ok();
        }
    }
}
