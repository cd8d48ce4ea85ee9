//! JSON of clients that must be an object. Serde also reads a struct from a list of its fields, so an empty list would be an
//! object without members.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that is read from an object, and from nothing else.
#[derive(Debug)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Pair {
        first: i64,
        second: Option<i64>,
    }

    #[test]
    fn only_objects_are_read() {
        let JsonObject(pair) = serde_json::from_str::<JsonObject<Pair>>(r#" {"second": 2} "#).unwrap();
        assert_eq!((pair.first, pair.second), (0, Some(2)));
        for wrong in ["[]", "[1, 2]", "null", "7", "\"x\"", "", r#"{"first": []}"#, "{} {}"] {
            serde_json::from_str::<JsonObject<Pair>>(wrong).expect_err(wrong);
        }
        let error = serde_json::from_str::<JsonObject<Pair>>("[]").unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }
}
